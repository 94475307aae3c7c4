import type { Command } from 'commander';
import { LineCounter, parseDocument } from 'yaml';
import type { z } from 'zod';
import { UserError } from '../src/errors.js';
import { parseNumber } from './arguments.js';

/** A knob of a recipe as a command-line flag: the flag's name, the path in the configuration, what it is for. */
export interface Knob {
  flag: string;
  path: string;
  help: string;
  /** Given without a value it means true. */
  boolean?: true;
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
    for (const { flag, path, help, boolean, range } of knobs) {
      const [points, images] = [defaults.points, defaults.images].map((tree) => {
        const value = path.split('.').reduce((at, key) => at[key] as Tree, tree as Tree) as unknown;
        return range ? String((value as { from: unknown }).from) : String(value);
      });
      const shown = points === images ? points : `${points}, images ${images}`;
      command.option(boolean ? `--${flag} [value]` : `--${flag} <value>`, `${help} (default ${shown})`);
    }
  }
  return command;
}

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
  file?: { name: string; text: string },
): z.infer<S> {
  let config = structuredClone(defaults) as Tree;
  if (file) {
    const { tree, locate } = parseYaml(file.text, file.name);
    config = merge(config, tree);
    check(schema, config, (path) => `${file.name}${locate(path)}`);
  }
  const knobs = groups.flatMap((group) => group.knobs);
  for (const { flag, path, boolean, range } of knobs) {
    const value = flags[camel(flag)];
    if (value === undefined) continue;
    if (range) set(config, path.split('.'), bounds(String(value)));
    else set(config, path.split('.'), boolean ? truth(String(value)) : parseValue(String(value)));
  }
  return check(schema, config, (path) => {
    const place = `${path.join('.')}.`;
    const knob = knobs.find((candidate) => place.startsWith(`${candidate.path}.`));
    return knob ? `--${knob.flag}` : 'the configuration';
  });
}

/**
 * Checks a tree against a schema.
 * @param origin where a path of the tree was written, for messages
 * @throws UserError naming the first key that is wrong
 */
export function check<S extends z.ZodType>(
  schema: S,
  value: unknown,
  origin: (path: PropertyKey[]) => string,
): z.infer<S> {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const [issue] = result.error.issues;
  const unknown = issue.code === 'unrecognized_keys' ? [...issue.path, issue.keys[0]] : issue.path;
  throw new UserError(`${origin(unknown)}: ${unknown.join('.')}: ${issue.message.replace(/^Invalid input: /, '')}`);
}

/** YAML as a tree, with a function that finds the line and column of a path in it. */
export function parseYaml(text: string, name: string): { tree: Tree; locate: (path: PropertyKey[]) => string } {
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines });
  const [error] = document.errors;
  if (error) throw new UserError(`${name}:${at(lines, error.pos[0])}: ${error.message.split('\n')[0]}`);
  const tree = document.toJS() as unknown;
  if (tree !== null && (typeof tree !== 'object' || Array.isArray(tree)))
    throw new UserError(`${name}: a mapping of names to values is expected`);
  return {
    tree: (tree ?? {}) as Tree,
    locate: (path) => {
      for (let depth = path.length; depth > 0; depth--) {
        const node = document.getIn(path.slice(0, depth), true) as { range?: [number, number, number] } | undefined;
        if (node?.range) return `:${at(lines, node.range[0])}`;
      }
      return '';
    },
  };
}

function at(lines: LineCounter, offset: number): string {
  const { line, col } = lines.linePos(offset);
  return `${line}:${col}`;
}

function merge(base: Tree, over: Tree): Tree {
  const merged = { ...base };
  for (const [key, value] of Object.entries(over)) {
    const below = merged[key];
    merged[key] = isTree(value) && isTree(below) ? merge(below, value) : value;
  }
  return merged;
}

const isTree = (value: unknown): value is Tree => typeof value === 'object' && value !== null && !Array.isArray(value);

function set(tree: Tree, [key, ...rest]: string[], value: unknown): void {
  if (!rest.length) tree[key] = value;
  else set((tree[key] ??= {}) as Tree, rest, value);
}

const parseValue = (text: string): unknown => parseNumber(text) ?? text;
/** "2" → from 2 to 2, "1..4" → from 1 to 4. */
function bounds(text: string): { from: unknown; to: unknown } {
  const [from, to = from] = text.split('..');
  return { from: parseValue(from), to: parseValue(to) };
}
const truth = (text: string): unknown => ({ true: true, false: false })[text] ?? text;
const camel = (flag: string) => flag.replace(/-([a-z0-9])/g, (_, letter: string) => letter.toUpperCase());
