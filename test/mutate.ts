import type { Random } from '../src/tensor/philox.js';

/** Damage as it happens and as malice makes it: of bytes, of trees such as JSON and YAML hold, of text. */

const pick = <T>(draw: Random, items: readonly T[]): T => items[draw.below(items.length)];

const joined = (...parts: Uint8Array[]): Uint8Array => new Uint8Array(Buffer.concat(parts));

/** Numbers that readers forget: ends of types, signs, sizes that no memory holds. */
const oddNumbers = [
  -1,
  0,
  1,
  0.5,
  7,
  255,
  256,
  65535,
  65536,
  1e6,
  2 ** 31,
  2 ** 32 - 1,
  2 ** 32,
  2 ** 40,
  2 ** 53,
  2 ** 63,
  1e300,
  -1e300,
  5e-324,
];

/** One to three flips, cuts, copies, insertions or numbers written over, anywhere in the bytes. */
export function mutateBytes(bytes: Uint8Array, draw: Random): Uint8Array {
  let mutated = new Uint8Array(bytes);
  for (let times = 1 + draw.below(3); times > 0; times--) mutated = mutateOnce(mutated, draw);
  return mutated;
}

function mutateOnce(bytes: Uint8Array, draw: Random): Uint8Array<ArrayBuffer> {
  const mutated = new Uint8Array(bytes);
  if (!mutated.length) return new Uint8Array([draw.below(256)]);
  // Headers lie in front: half of the damage goes there.
  const at = draw.below(draw.below(2) ? Math.min(mutated.length, 160) : mutated.length);
  const length = 1 + draw.below(Math.min(64, mutated.length));
  const view = new DataView(mutated.buffer);
  switch (draw.below(9)) {
    case 0:
      mutated[at] ^= 1 << draw.below(8);
      return mutated;
    case 1:
      mutated[at] = draw.below(256);
      return mutated;
    case 2:
      return mutated.slice(0, at);
    case 3:
      return new Uint8Array(joined(mutated.subarray(0, at), mutated.subarray(at + length)));
    case 4:
      return new Uint8Array(joined(mutated.subarray(0, at), mutated.subarray(at, at + length), mutated.subarray(at)));
    case 5:
      mutated.copyWithin(at, draw.below(mutated.length), draw.below(mutated.length));
      return mutated;
    case 6:
      return new Uint8Array(joined(mutated, new Uint8Array(length).fill(draw.below(256))));
    case 7: {
      const little = draw.below(2) === 1;
      const value = pick(draw, oddNumbers);
      if (at + 8 > mutated.length) return mutated.slice(0, at);
      if (draw.below(2)) view.setUint32(at, value, little);
      else view.setBigUint64(at, BigInt.asUintN(64, BigInt(Math.trunc(value))), little);
      return mutated;
    }
    default:
      if (at + 4 > mutated.length) return mutated.slice(0, at);
      view.setInt32(at, view.getInt32(at, true) + (draw.below(2) ? 1 : -1), true);
      return mutated;
  }
}

type Tree = Record<string, unknown> | unknown[];
const isTree = (value: unknown): value is Tree => typeof value === 'object' && value !== null;

/** Every place of a tree, as what holds it and the key there. */
function placesOf(tree: Tree, found: [Tree, string][] = []): [Tree, string][] {
  for (const [key, value] of Object.entries(tree)) {
    found.push([tree, key]);
    if (isTree(value)) placesOf(value, found);
  }
  return found;
}

/** A tree with one to three values replaced, removed, moved, renamed or added. */
export function mutateTree(tree: object, draw: Random): Tree {
  const mutated = structuredClone(tree) as Tree;
  for (let times = 1 + draw.below(3); times > 0; times--) {
    const places = placesOf(mutated);
    if (!places.length) return mutated;
    const [holder, key] = pick(draw, places);
    const at = holder as Record<string, unknown>;
    const [other, otherKey] = pick(draw, places);
    switch (draw.below(7)) {
      case 0:
        delete at[key];
        break;
      case 1:
        at[key] = structuredClone((other as Record<string, unknown>)[otherKey]);
        break;
      case 2: {
        const renamed = pick(draw, [
          '__proto__',
          'constructor',
          'toString',
          '',
          otherKey,
          'x'.repeat(5000),
          key.toUpperCase(),
        ]);
        Object.defineProperty(at, renamed, { value: at[key], enumerable: true, configurable: true, writable: true });
        if (renamed !== key) delete at[key];
        break;
      }
      default:
        at[key] = oddValue(at[key], draw);
    }
  }
  return mutated;
}

function oddValue(value: unknown, draw: Random): unknown {
  const near =
    typeof value === 'number' ? [value + 1, value - 1, -value, value * 2, value / 2, value * 1e6, String(value)] : [];
  return pick<unknown>(draw, [
    ...near,
    ...near,
    ...oddNumbers,
    null,
    true,
    false,
    '',
    'toString',
    '__proto__',
    'NaN',
    'é\n\u0000"\\',
    'long'.repeat(2500),
    [],
    {},
    [[]],
    { toString: 1, valueOf: 1 },
    [value],
    { value },
    new Array(2000).fill(value),
    nested(400),
  ]);
}

function nested(levels: number): unknown {
  let tree: unknown = [];
  for (let i = 0; i < levels; i++) tree = i % 2 ? { a: tree } : [tree];
  return tree;
}

/** Text with something that parsers of JSON and YAML stumble over put in, or a part of it damaged. */
export function mutateText(text: string, draw: Random): string {
  const at = draw.below(text.length + 1);
  const bomb = Array.from(
    { length: 12 },
    (_, i) =>
      `a${i}: &a${i} [${Array(10)
        .fill(i ? `*a${i - 1}` : 'x')
        .join(', ')}]`,
  ).join('\n');
  const put = pick(draw, [
    '[',
    '{',
    '[['.repeat(3000),
    '{"a":'.repeat(3000),
    '- '.repeat(3000),
    '- '.repeat(30_000),
    '? '.repeat(3000),
    '- ? '.repeat(3000),
    'a: &a '.repeat(3000),
    '&a '.repeat(3000),
    '!!x '.repeat(3000),
    '&a ',
    '*a',
    '&a [*a]',
    `\n${bomb}\n`,
    '!!js/function "x"',
    '!!binary "====="',
    '!<tag:x> ',
    '<<: *a\n',
    '\t',
    '\n---\n',
    '\n%YAML 9.9\n',
    '\u0000',
    '\ufeff',
    '\ud800',
    '\r',
    ': ',
    '#',
    '|\n',
    '>-\n',
    '? ',
    "'",
    '"',
    '9'.repeat(400),
    'x'.repeat(100_000),
    '.inf',
    '0x10',
    '1_000',
    '~',
  ]);
  switch (draw.below(4)) {
    case 0:
      return text.slice(0, at) + put + text.slice(at);
    case 1:
      return text.slice(0, at);
    case 2:
      return text.slice(0, at) + text.slice(at + 1 + draw.below(10));
    default: {
      const lines = text.split('\n');
      const line = draw.below(lines.length);
      lines.splice(line, draw.below(2), `${pick(draw, ['  ', '\t', '- ', ''])}${lines[draw.below(lines.length)]}`);
      return lines.join('\n');
    }
  }
}
