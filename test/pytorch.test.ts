import { existsSync } from 'node:fs';
import { beforeAll, describe, expect, it } from 'vitest';
import { fileSource, readSafetensors } from '../node/files.js';
import type { Wanted } from '../src/checkpoint/pytorch/file.js';
import { openWeights } from '../src/checkpoint/weights.js';
import { UserError } from '../src/errors.js';
import { bytesSource } from '../src/files/source.js';
import { parseDescription } from '../src/flow/description.js';
import { createNetwork, exportNetwork, loadNetwork, fitFor } from '../src/flow/network.js';
import { random } from '../src/tensor/philox.js';
import { mutateBytes } from './mutate.js';
import { archive, legacy, object, op, ordered, parameter, pickle, tensor } from './pickle-maker.js';
import { arenaOf } from './support/weights.js';
import { sizeOf } from '../src/tensor/shape.js';

const open = (bytes: Uint8Array, wanted: Wanted = {}) => openWeights(bytesSource(bytes, 'w.pt'), wanted);

async function messageOf(action: Promise<unknown>): Promise<string> {
  const error = await action.then(
    () => new Error('nothing was thrown'),
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(UserError);
  expect((error as UserError).message).not.toContain('\n');
  return (error as UserError).message;
}

const floats = (...values: number[]) => new Uint8Array(Float32Array.from(values).buffer);
const counted = (count: number) => floats(...Array.from({ length: count }, (_, i) => i));

describe('PyTorch files', () => {
  it('state dicts, stored and deflated, of both formats, with shared and strided storages', async () => {
    const content = ordered({
      plain: tensor({ key: '0', length: 12, shape: [3, 4] }),
      turned: tensor({ key: '0', length: 12, shape: [4, 3], strides: [1, 4] }),
      part: tensor({ key: '0', length: 12, offset: 5, shape: [2], strides: [3] }),
      spread: tensor({ key: '0', length: 12, offset: 2, shape: [2, 2], strides: [0, 1] }),
      scalar: parameter(tensor({ key: '0', length: 12, offset: 11, shape: [] })),
      empty: tensor({ key: '0', length: 12, shape: [0, 3] }),
    });
    const data = counted(12);
    for (const bytes of [
      archive(content, { 0: data }),
      archive(content, { 0: data }, { level: 6 }),
      legacy(content, { 0: { length: 12, data } }),
      archive(op.dict({ state_dict: content, epoch: op.int(3) }), { 0: data }),
      archive(content, { 0: Uint8Array.from(data, (_, i) => data[(i & ~3) + 3 - (i & 3)]) }, { order: 'big' }),
    ]) {
      const file = await open(bytes);
      expect(file.tensors.get('turned')).toMatchObject({ dtype: 'F32', shape: [4, 3], bytes: 48 });
      const read = async (name: string) => [...(await file.readF32(name))];
      expect(await read('plain')).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]);
      expect(await read('turned')).toEqual([0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11]);
      expect(await read('part')).toEqual([5, 8]);
      expect(await read('spread')).toEqual([2, 3, 2, 3]);
      expect(await read('scalar')).toEqual([11]);
      expect(await read('empty')).toEqual([]);
    }
  });

  it('storages of every type', async () => {
    const kinds: [string, Uint8Array, number[]][] = [
      ['DoubleStorage', new Uint8Array(Float64Array.of(1.5, -2).buffer), [1.5, -2]],
      ['HalfStorage', new Uint8Array(Uint16Array.of(0x3e00, 0xc000).buffer), [1.5, -2]],
      ['BFloat16Storage', new Uint8Array(Uint16Array.of(0x3fc0, 0xc000).buffer), [1.5, -2]],
      ['LongStorage', new Uint8Array(BigInt64Array.of(7n, -2n).buffer), [7, -2]],
      ['IntStorage', new Uint8Array(Int32Array.of(7, -2).buffer), [7, -2]],
      ['ShortStorage', new Uint8Array(Int16Array.of(7, -2).buffer), [7, -2]],
      ['CharStorage', new Uint8Array(Int8Array.of(7, -2).buffer), [7, -2]],
      ['ByteStorage', Uint8Array.of(7, 254), [7, 254]],
      ['BoolStorage', Uint8Array.of(1, 0), [1, 0]],
    ];
    const entries = kinds.map(([type], i) => [type, tensor({ key: String(i), type, length: 2, shape: [2] })] as const);
    const storages = Object.fromEntries(kinds.map(([, data], i) => [i, data]));
    const file = await open(archive(ordered(Object.fromEntries(entries)), storages));
    for (const [type, , values] of kinds) expect([type, ...(await file.readF32(type))]).toEqual([type, ...values]);
  });

  const description = parseDescription(
    {
      architecture: { kind: 'mlp', dim: 2, width: 8, depth: 2, activation: 'silu', time: 'features' },
      prediction: 'velocity',
    },
    'd',
  );
  const network = createNetwork(description, 3);
  const { tensors } = exportNetwork(network);
  const names = Object.keys(tensors);
  let storages: Record<string, Uint8Array>;
  let arena: Float32Array;
  beforeAll(async () => {
    const values = await Promise.all(names.map((name) => network.weights.read(name)));
    storages = Object.fromEntries(values.map(({ buffer }, i) => [i, new Uint8Array(buffer)]));
    arena = await arenaOf(network);
  });
  const dictOf = (prefix = '', keep = names) =>
    Object.fromEntries(
      keep.map((name) => [
        prefix + name,
        tensor({
          key: String(names.indexOf(name)),
          length: sizeOf(tensors[name].shape),
          shape: [...tensors[name].shape],
        }),
      ]),
    );

  it('whole modules, wrappers in front of names, and the one set that fits', async () => {
    // mlp names are `a.b`: a module of modules.
    const children: Record<string, Record<string, Buffer>> = {};
    for (const [name, value] of Object.entries(dictOf())) {
      const [leaf, ...path] = name.split('.').reverse();
      (children[path.reverse().join('.')] ??= {})[leaf] = parameter(value);
    }
    const moduleOf = (parts: Record<string, Buffer>, modules: Record<string, Buffer>) =>
      object(
        'mine',
        'Net',
        op.dict({ _parameters: ordered(parts), _buffers: ordered({}), _modules: ordered(modules) }),
      );
    const nest = (prefix: string): Buffer => {
      const below = new Set(
        Object.keys(children)
          .filter((path) => path.startsWith(prefix) && path !== prefix.slice(0, -1))
          .map((path) => path.slice(prefix.length).split('.')[0]),
      );
      return moduleOf(
        children[prefix.slice(0, -1)] ?? {},
        Object.fromEntries([...below].map((key) => [key, nest(`${prefix}${key}.`)])),
      );
    };
    const fit = fitFor(description);
    const files: [string, Uint8Array, RegExp][] = [
      ['a module', archive(nest(''), storages), /not opened: mine\.Net/],
      ['a wrapper', archive(ordered(dictOf('module.')), storages), /the names without module\. in front/],
      [
        'wrappers',
        archive(ordered(dictOf('_orig_mod.ema_model.')), storages),
        /without _orig_mod\.ema_model\. in front/,
      ],
      [
        'one set of two that fits',
        archive(op.dict({ model: ordered(dictOf()), head: ordered(dictOf('', names.slice(1))) }), storages),
        /the weights at model, the only ones of 2 sets that fit/,
      ],
    ];
    for (const [kind, bytes, note] of files) {
      const file = await open(bytes, { fit });
      expect(`${kind}: ${file.notes?.join('; ')}`).toMatch(note);
      expect(await arenaOf(await loadNetwork(file, description))).toEqual(arena);
    }
    const both = archive(op.dict({ model: ordered(dictOf()), ema: op.dict({ model: ordered(dictOf()) }) }), storages);
    expect(await messageOf(open(both, { fit }))).toMatch(
      /several sets .*model with .*ema\.model with .* of which model, ema\.model fit/,
    );
    const chosen = await open(both, { chosen: 'ema.model' });
    expect(await arenaOf(await loadNetwork(chosen, description))).toEqual(arena);
    expect(await messageOf(open(both, { chosen: 'other' }))).toMatch(/no weights at "other": it holds model with/);
  });

  it('nothing in a pickle is executed: what would be is named, or refused', async () => {
    const evil = op.call('posix', 'system', op.text('touch /tmp/semiflow-was-here'));
    const weight = { w: tensor({ key: '0', length: 2, shape: [2] }) };
    const file = await open(archive(ordered({ ...weight, hook: evil }), { 0: counted(2) }));
    expect(file.notes).toEqual(['not opened: posix.system']);
    expect([...(await file.readF32('w'))]).toEqual([0, 1]);
    expect(existsSync('/tmp/semiflow-was-here')).toBe(false);
  });

  const storage = counted(4);
  const one = (spec: Partial<Parameters<typeof tensor>[0]>) =>
    archive(ordered({ w: tensor({ key: '0', length: 4, shape: [4], ...spec }) }), { 0: storage });
  const raw = (...parts: (Buffer | string)[]) =>
    archive(Buffer.concat(parts.map((part) => (typeof part === 'string' ? Buffer.from(part, 'latin1') : part))), {
      0: storage,
    });
  const hostile: [string, () => Uint8Array][] = [
    ['eval', () => raw(op.call('builtins', 'eval', op.text('1/0')))],
    ['exec under an old name', () => raw(op.call('__builtin__', 'execfile', op.text('x')))],
    ['system by INST', () => raw('(Vls\nios\nsystem\n')],
    ['system by OBJ', () => raw('(', op.global('os', 'system'), op.text('ls'), 'o')],
    ['system by NEWOBJ', () => raw(op.global('os', 'system'), op.tuple(op.text('ls')), '\x81')],
    ['system by STACK_GLOBAL', () => raw(op.text('os'), op.text('system'), '\x93', op.tuple(op.text('ls')), 'R')],
    ['a name from a list', () => raw(']', ']', '\x93')],
    [
      'an import by getattr',
      () => raw(op.call('builtins', 'getattr', op.call('builtins', '__import__', op.text('os')), op.text('system'))),
    ],
    ['a state set in a text', () => raw(op.text('x'), op.dict({}), 'b')],
    ['a state that replaces the prototype', () => raw(op.dict({ __proto__: op.text('x'), constructor: op.none }))],
    ['an extension', () => raw('\x82\x01')],
    ['an outside buffer', () => raw('\x97')],
    ['a protocol of the future', () => raw('\x80\x09N')],
    ['no operation', () => raw('\xff')],
    ['nothing on the stack', () => raw('0')],
    ['a reduce without arguments', () => raw(op.global('os', 'system'), 'R')],
    ['a mark that is missing', () => raw('t')],
    ['many marks', () => raw('('.repeat(200_000))],
    ['an odd dictionary', () => raw('}(', op.text('a'), 'u')],
    ['a memo that was not made', () => raw('h\x09')],
    ['a memo of itself', () => raw(']q\x00h\x00a')],
    ['a dictionary in itself', () => raw('}q\x00', op.text('a'), 'h\x00s')],
    ['lists in lists', () => raw(']'.repeat(100_000), 'a'.repeat(99_999))],
    ['tuples in tuples', () => raw(')', '\x85'.repeat(500_000))],
    [
      'a thousand million by memo',
      () =>
        raw(
          ']q\x00',
          ...Array.from({ length: 30 }, (_, i) =>
            Buffer.from(
              `](h${String.fromCharCode(i)}h${String.fromCharCode(i)}eq${String.fromCharCode(i + 1)}`,
              'latin1',
            ),
          ),
        ),
    ],
    ['a text longer than the file', () => raw('X\xff\xff\xff\xff')],
    ['a text of 2^63 bytes', () => raw('\x8d\xff\xff\xff\xff\xff\xff\xff\x7f')],
    ['a number of 2^31 bytes', () => raw('\x8b\xff\xff\xff\x7f')],
    ['a number in words', () => raw('Iten\n')],
    ['a storage that is missing', () => one({ key: '7' })],
    ['a storage from the prototype', () => one({ key: '__proto__' })],
    ['a storage that is longer than it is', () => one({ length: 1000 })],
    ['a storage of no known type', () => one({ type: 'constructor' })],
    ['a tensor beyond its storage', () => one({ shape: [5] })],
    ['an offset beyond its storage', () => one({ offset: 3, shape: [2] })],
    ['strides beyond the storage', () => one({ shape: [2, 2], strides: [4, 1] })],
    ['a negative extent', () => one({ shape: [-4] })],
    ['a negative stride', () => one({ shape: [4], strides: [-1] })],
    ['fewer strides than extents', () => one({ shape: [2, 2], strides: [1] })],
    ['a tensor of 10^12 elements in 4', () => one({ shape: [1_000_000, 1_000_000], strides: [0, 0] })],
    ['extents that overflow', () => one({ shape: [2 ** 31 - 1, 2 ** 31 - 1, 2 ** 31 - 1], strides: [0, 0, 0] })],
    ['a tensor around itself', () => raw(op.global('torch._utils', '_rebuild_parameter'), ']q\x00h\x00aR')],
    ['no tensors', () => raw(op.dict({ epoch: op.int(3) }))],
    ['a pickle that is cut', () => archive(Buffer.alloc(0), {})],
    ['an archive without a pickle', () => archive(op.none, {}).slice(0, -30)],
    ['a pickle that is no model', () => pickle(op.dict({ a: op.int(1) }))],
    [
      'a legacy file that is cut',
      () =>
        legacy(ordered({ w: tensor({ key: '0', length: 4, shape: [4] }) }), {
          0: { length: 4, data: storage },
        }).subarray(0, -1),
    ],
    [
      'a legacy storage that lies',
      () =>
        legacy(ordered({ w: tensor({ key: '0', length: 4, shape: [4] }) }), { 0: { length: 2 ** 40, data: storage } }),
    ],
  ];
  it.each(hostile)('refused in one line: %s', async (_, make) => {
    const bytes = make();
    const start = performance.now();
    await messageOf(open(bytes));
    expect(performance.now() - start).toBeLessThan(5000);
  });

  it('damage is refused or does not change what is read', async () => {
    const content = op.dict({ model: ordered({ w: tensor({ key: '0', length: 4, shape: [2, 2] }) }), lr: op.int(1) });
    const zipped = archive(content, { 0: storage });
    const old = legacy(content, { 0: { length: 4, data: storage } });
    const read = async (bytes: Uint8Array) => {
      const file = await open(bytes);
      return Promise.all([...file.tensors.keys()].map(async (name) => [name, [...(await file.readF32(name))]]));
    };
    const count = process.env.FUZZ === 'full' ? 5000 : 150;
    for (let i = 0; i < count; i++) {
      const draw = random(Number(process.env.SEED ?? 0), i, 79);
      const got = await read(mutateBytes(zipped, draw)).catch((error: unknown) => error);
      if (got instanceof Error) expect(got, `zip ${i}: ${got.stack}`).toBeInstanceOf(UserError);
      else expect(got).toEqual([['w', [0, 1, 2, 3]]]);
      const other = await read(mutateBytes(old, draw)).catch((error: unknown) => error);
      if (other instanceof Error) expect(other, `legacy ${i}: ${other.stack}`).toBeInstanceOf(UserError);
    }
  });

  const shared = '../shared/data/teachers';
  const found = existsSync(`${shared}/pt`);
  if (!found) console.log(`${shared}/pt is missing: the public PyTorch files are not read`);
  it.skipIf(!found)('the authors’ own files hold what was taken from them', async () => {
    const ours = await openWeights(await fileSource(`${shared}/pt/mnist-flow-vit.pth`));
    const theirs = await readSafetensors(`${shared}/mnist-flow-vit/model.safetensors`);
    expect([...ours.tensors.keys()].sort()).toEqual([...theirs.tensors.keys()].sort());
    for (const name of theirs.tensors.keys()) {
      expect(ours.tensors.get(name)!.shape).toEqual(theirs.tensors.get(name)!.shape);
      expect(await ours.readF32(name)).toEqual(await theirs.readF32(name));
    }
    const module = await openWeights(await fileSource(`${shared}/pt/8gaussian-moons-cfm.pt`));
    expect([...module.tensors.keys()].sort()).toEqual(
      [0, 2, 4, 6].flatMap((i) => [`net.${i}.bias`, `net.${i}.weight`]),
    );
    expect(module.notes?.[0]).toMatch(/not opened: __main__\.MLP, /);
  });
});
