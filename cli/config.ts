import { dirname } from 'node:path';
import type { Command } from 'commander';
import { isMap, isPair, isScalar, LineCounter, parseDocument, type Node } from 'yaml';
import * as z from 'zod';
import { UserError } from '../src/errors.js';
import { issueText } from '../src/issue.js';
import { containsItself, excessOf } from '../src/files/yaml-bounds.js';
import { override } from '../trainers/config.js';
import { parseNumber } from './arguments.js';
import { ofData, readFrom, type Place } from './places.js';

/** A knob of a recipe as a command-line flag: the flag's name, the path in the configuration, what it is for. */
export interface Knob {
  flag: string;
  path: string;
  help: string;
  /** A number, or two as `1..4`, for the keys `from` and `to`. */
  range?: true;
}

/** Knobs under a heading of the help. */
export interface KnobGroup {
  heading: string;
  knobs: readonly Knob[];
}

type Tree = { [key: string]: unknown };

/**
 * Adds a flag for each knob under its group's heading.
 * @param defaults for points in the plane and for images, which the help shows
 */
export function addKnobs(
  command: Command,
  groups: readonly KnobGroup[],
  defaults: { points: object; images: object },
): Command {
  for (const { heading, knobs } of groups) {
    command.optionsGroup(heading);
    for (const { flag, path, help, range } of knobs) {
      const [points, images] = [defaults.points, defaults.images].map((tree) => {
        const value = valueAt(tree, path.split('.'));
        return range ? (value as { from: unknown }).from : value;
      });
      const shown = points === images ? points : `${points}, images ${images}`;
      const value = typeof points === 'boolean' ? '[value]' : '<value>';
      command.option(`--${flag} ${value}`, `${help} (default ${shown})`);
    }
  }
  return command;
}

const valueAt = (tree: object, path: readonly string[]) => path.reduce((at: unknown, key) => (at as Tree)[key], tree);

/**
 * The configuration of a run: defaults, overridden by a YAML file, overridden by flags; every key checked.
 * @param file the YAML text and its name, if there is one
 * @param flags values by flag name as commander gives them
 * @throws UserError naming file, line and column, or the flag, of what is wrong
 */
export function resolveConfig<S extends z.ZodType>(
  schema: S,
  defaults: z.infer<S>,
  groups: readonly KnobGroup[],
  flags: Record<string, unknown>,
  file?: RecipeFile,
): z.infer<S> {
  let config = defaults as Tree;
  if (file) {
    const { recipe, locate } = parseRecipe(file);
    config = override(config, recipe);
    check(schema, config, (path, ofName) => `${file.name}${locate(path, ofName)}`);
  }
  const knobs = groups.flatMap((group) => group.knobs);
  for (const { flag, path, range } of knobs) {
    const given = flags[camel(flag)];
    if (given === undefined) continue;
    const keys = path.split('.');
    const value = range ? bounds(flag, String(given)) : valueOf(flag, leafOf(schema, keys), String(given));
    config = override(config, keys.reduceRight<unknown>((below, key) => ({ [key]: below }), value) as Tree);
  }
  return check(schema, config, (path) => {
    const place = path.join('.');
    const knob = knobs.find((candidate) => `${place}.`.startsWith(`${candidate.path}.`));
    return knob ? `--${knob.flag}` : 'the configuration';
  });
}

/**
 * Checks a tree against a schema.
 * @param origin where a path of the tree was written, for messages; or, with a second argument, the name that stands there
 * @throws UserError naming the first key that is wrong
 */
export function check<S extends z.ZodType>(
  schema: S,
  value: unknown,
  origin: (path: PropertyKey[], unknownKey?: boolean) => string,
): z.infer<S> {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const [issue] = result.error.issues;
  const unknown = issue.code === 'unrecognized_keys';
  const path = unknown ? [...issue.path, issue.keys[0]] : issue.path;
  const place = origin(path, unknown);
  // A flag says which value it is, a file has many.
  const parts = place.startsWith('--') ? [place] : [place, path.join('.')];
  throw new UserError([...parts, issueText(issue)].join(': '));
}

/** What a run was made with, as its config.yaml has it beside the recipe. */
const madeWith = z.looseObject({
  teacher: z.string().optional(),
  lora: z.array(z.string()).optional(),
  init: z.string().optional(),
  student: z.string().optional(),
  arch: z.string().optional(),
  data: z.string().optional(),
  out: z.string().optional(),
  objectives: z.array(z.string()).optional(),
  description: z.unknown().optional(),
  architecture: z.unknown().optional(),
});

/** What a run was made with, found from here. */
function placed(made: z.infer<typeof madeWith>, found: Place): z.infer<typeof madeWith> {
  const { teacher, init, student, arch, data, out, lora, objectives } = made;
  const each = (paths: string[]) => paths.map(found);
  return {
    ...made,
    ...(teacher && { teacher: found(teacher) }),
    ...(init && { init: found(init) }),
    ...(student && { student: found(student) }),
    ...(arch && { arch: found(arch) }),
    ...(data && { data: ofData(found)(data) }),
    ...(out && { out: found(out) }),
    ...(lora && { lora: each(lora) }),
    ...(objectives && { objectives: each(objectives) }),
  };
}

/** Line and column of a path in a text, as `:3:5`: of its value, or of the name that stands there. */
export type Locate = (path: PropertyKey[], ofName?: boolean) => string;

/** A recipe as text. */
export interface RecipeFile {
  name: string;
  text: string;
  /** Where its keys stand, if not in this text. */
  locate?: Locate;
}

/**
 * A recipe from a file: one alone, or that of a run's config.yaml with what the run was made with.
 * @param file nothing is stated where there is none
 * @returns also where keys of the recipe stand, and those of the whole file
 * @throws UserError where the text is neither
 */
export function parseRecipe(file: RecipeFile | undefined): {
  recipe: Tree;
  made: z.infer<typeof madeWith>;
  locate: Locate;
  locateMade: Locate;
} {
  const { name, text } = file ?? { name: '', text: '' };
  const parsed = parseYaml(text, name);
  const { tree } = parsed;
  const locate = file?.locate ?? parsed.locate;
  if (!Object.hasOwn(tree, 'recipe'))
    return { recipe: tree, made: check(madeWith, {}, () => name), locate, locateMade: locate };
  const { recipe, ...rest } = tree;
  if (typeof recipe !== 'object' || recipe === null || Array.isArray(recipe))
    throw new UserError(`${name}${locate(['recipe'])}: recipe: a mapping of names to values is expected`);
  return {
    recipe: recipe as Tree,
    made: placed(
      check(madeWith, rest, (path, ofName) => `${name}${locate(path, ofName)}`),
      readFrom(dirname(name)),
    ),
    locate: (path, ofName) => locate(['recipe', ...path], ofName),
    locateMade: locate,
  };
}

/**
 * YAML as a tree, with a function that finds the line and column of a path in it: of its value, or of its name.
 * @throws UserError where the text is no YAML, or no mapping
 */
export function parseYaml(text: string, name: string): { tree: Tree; locate: Locate } {
  const excess = excessOf(text);
  if (excess) throw new UserError(`${name}: ${excess}; mend it`);
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, logLevel: 'error' });
  const [error] = document.errors;
  if (error) throw new UserError(`${name}:${at(lines, error.pos[0])}: ${error.message.split('\n')[0]}`);
  let tree: unknown;
  try {
    tree = document.toJS();
  } catch (cause) {
    // Aliases of what is not there, or of too much.
    throw new UserError(`${name}: ${(cause as Error).message.split('\n')[0]}`);
  }
  if (containsItself(tree)) throw new UserError(`${name}: an alias stands inside of what it stands for; mend it`);
  if (tree !== null && (typeof tree !== 'object' || Array.isArray(tree)))
    throw new UserError(`${name}: a mapping of names to values is expected`);
  return {
    tree: (tree ?? {}) as Tree,
    locate: (path, ofName = false) => {
      for (let depth = path.length; depth > 0; depth--) {
        const node = ofName
          ? nameNode(document.getIn(path.slice(0, depth - 1), true), path[depth - 1])
          : (document.getIn(path.slice(0, depth), true) as Node | undefined);
        if (node?.range) return `:${at(lines, node.range[0])}`;
      }
      return '';
    },
  };
}

/** The node of a key's own name in a mapping. */
function nameNode(map: unknown, name: PropertyKey): Node | undefined {
  if (!isMap(map)) return undefined;
  const pair = map.items.find(({ key }) => isScalar(key) && String(key.value) === String(name));
  return isPair(pair) && isScalar(pair.key) ? pair.key : undefined;
}

function at(lines: LineCounter, offset: number): string {
  const { line, col } = lines.linePos(offset);
  return `${line}:${col}`;
}

/** What a schema expects at a path. */
function leafOf(schema: z.ZodType, path: readonly string[]): z.ZodType {
  return path.reduce<z.ZodType>((at, key) => bare((at as z.ZodObject).shape[key] as z.ZodType), schema);
}
const bare = (schema: z.ZodType): z.ZodType =>
  schema instanceof z.ZodDefault ? (schema.unwrap() as z.ZodType) : schema;

/** A flag's text as what the schema expects there. @throws UserError where it is none */
function valueOf(flag: string, expected: z.ZodType, text: string): unknown {
  if (expected instanceof z.ZodBoolean) {
    if (text !== 'true' && text !== 'false') throw new UserError(`--${flag} is true or false, not "${text}"`);
    return text === 'true';
  }
  return expected instanceof z.ZodNumber ? numberOf(flag, text, text) : text;
}

/** "2" → from 2 to 2, "1..4" → from 1 to 4. */
function bounds(flag: string, text: string): { from: number; to: number } {
  const parts = text.split('..');
  if (parts.length > 2) throw new UserError(`--${flag} takes a number, or two as 1..4, not "${text}"`);
  const [from, to = from] = parts.map((part) => numberOf(flag, part, text));
  return { from, to };
}

function numberOf(flag: string, text: string, whole: string): number {
  const value = parseNumber(text);
  if (value === undefined) throw new UserError(`--${flag} takes a number, not "${whole}"`);
  return value;
}

const camel = (flag: string) => flag.replace(/-([a-z0-9])/g, (_, letter: string) => letter.toUpperCase());
