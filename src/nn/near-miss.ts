import { sameShape, type Shape } from '../tensor/shape.js';

/** What a file and a description have in common: names with shapes. */
export type Shapes = ReadonlyMap<string, { readonly shape: Shape }>;
interface Wanted {
  readonly name: string;
  readonly shape: Shape;
}

/** What names begin with before one that is wanted, as wrappers leave it: `module.`, empty where nothing does. */
export function prefixesOf(wanted: readonly Wanted[], names: Iterable<string>): string[] {
  const first = wanted[0]?.name ?? '';
  const found = [...names].filter((name) => name === first || name.endsWith(`.${first}`));
  return found.map((name) => name.slice(0, name.length - first.length));
}

/** The tensors whose names begin with a prefix, by the rest of their names. */
export const below = <T>(tensors: ReadonlyMap<string, T>, prefix: string): Map<string, T> =>
  new Map(
    [...tensors].flatMap(([name, entry]): [string, T][] =>
      name.startsWith(prefix) ? [[name.slice(prefix.length), entry]] : [],
    ),
  );

const top = (name: string) => name.split('.')[0];
/** A name with its numbers left open: what is repeated in depth has one. */
const pattern = (name: string) => name.replace(/\d+/g, '#');

/**
 * Whether a tensor that is not wanted speaks of another network than the one described, rather than of something beside it
 * such as a projector or a counter: it lies among those that are wanted, or embeds a further input.
 */
export function isKin(name: string, wanted: readonly Wanted[]): boolean {
  return /emb|_encoder$/i.test(top(name)) || wanted.some((parameter) => top(parameter.name) === top(name));
}

/**
 * Why tensors are not those of a description, with the likely cause; null where all that is wanted is there and nothing
 * else.
 * @param optional names that may be missing
 */
export function nearMiss(
  wanted: readonly Wanted[],
  tensors: Shapes,
  optional: ReadonlySet<string> = new Set(),
): string | null {
  const prefix = prefixesOf(wanted, tensors.keys())[0] ?? '';
  const inside = below(tensors, prefix);
  const missing = wanted.filter(({ name }) => !inside.has(name) && !optional.has(name));
  for (const { name, shape } of wanted) {
    const found = inside.get(name)?.shape;
    if (found && !sameShape(found, shape))
      return `: "${prefix}${name}" has shape [${found}], the described architecture needs [${shape}]: ${otherShape(name, found, shape)}`;
    if (!found && missing[0]?.name === name)
      return ` has no tensor "${name}": ${absence(name, shape, wanted, inside, missing.length)}`;
  }
  const known = new Set(wanted.map(({ name }) => name));
  for (const name of inside.keys())
    if (!known.has(name))
      return ` holds "${prefix}${name}", which the described architecture does not have: ${surplus(name, wanted)}`;
  return prefix
    ? `: the names begin with "${prefix}", which the described architecture's do not, and other tensors lie beside them`
    : null;
}

/** Why a tensor has another shape. */
function otherShape(name: string, found: Shape, wanted: Shape): string {
  const axes = wanted.flatMap((extent, axis) => (found[axis] === extent ? [] : [axis]));
  const sorted = (shape: Shape) => [...shape].sort((a, b) => a - b);
  if (found.length !== wanted.length)
    return found.reduce((a, b) => a * b, 1) === wanted.reduce((a, b) => a * b, 1)
      ? 'the same weights in another form: reshape them'
      : 'a layer of another kind';
  if (sameShape(sorted(found), sorted(wanted)))
    return 'it is transposed, as TensorFlow and JAX write weights: permute its axes';
  if (wanted.length === 4 && axes.every((axis) => axis > 1)) return 'another patch or kernel is described';
  if (/pos/i.test(name) && axes.join() === '1')
    return `${found[1]} places, not ${wanted[1]}: another size of picture or patch is described, or tokens of a class`;
  if (axes.join() === '0' && found[0] === wanted[0] - 1 && /emb|enc|class|label/i.test(name))
    return 'the table has no row for no class: say nullClass: false, or one class fewer';
  if (axes.join() === '0' && /emb|enc|class|label/i.test(name)) return 'another number of classes is described';
  const ratios = new Set(axes.map((axis) => found[axis] / wanted[axis]));
  const [axis] = axes;
  return ratios.size === 1
    ? `another width is described, ${wanted[axis]} where the file has ${found[axis]}`
    : 'other sizes are described';
}

/** Why a tensor is missing. */
function absence(name: string, shape: Shape, wanted: readonly Wanted[], inside: Shapes, count: number): string {
  const names = [...inside.keys()];
  if (count === wanted.length)
    return `none of its ${names.length} tensors (${names.slice(0, 3).join(', ')}${names.length > 3 ? ', …' : ''}) is of the described architecture`;
  const repeated = names.filter((other) => pattern(other) === pattern(name));
  if (repeated.length) return `there are ${repeated.length} such, more are described: is its depth less?`;
  const known = new Set(wanted.map((parameter) => parameter.name));
  const others = names.filter((other) => !known.has(other) && sameShape(inside.get(other)!.shape, shape));
  const near = others.length === 1 ? others : others.filter((other) => top(other) === top(name));
  if (/pos_embed/.test(name))
    return 'a table of positions that is not saved: say savedPositions: false where it is the fixed one';
  if (name.endsWith('.bias')) return 'is that layer without a bias?';
  return near.length
    ? `"${near[0]}" has its shape: is it called like that there?`
    : `${wanted.length - count} of ${wanted.length} tensors are there: is the described architecture the file's?`;
}

/** Why there is a tensor that nobody asked for. */
function surplus(name: string, wanted: readonly Wanted[]): string {
  if (wanted.some((parameter) => pattern(parameter.name) === pattern(name))) return 'is it deeper than described?';
  if (/emb|_encoder$/i.test(top(name))) return 'does it know classes, or another input that is not described?';
  return 'is the described architecture the file’s?';
}
