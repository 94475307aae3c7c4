import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, open, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Float16Array } from '@petamoriken/float16';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { bytesSource } from '../src/files/source.js';
import { fileSource, readSafetensors, writeFileAtomic, writeSafetensors } from '../node/files.js';
import { halfToNumber } from '../src/checkpoint/dtypes.js';
import { encodeSafetensors, openSafetensors, type TensorData } from '../src/checkpoint/safetensors.js';
import { UserError } from '../src/errors.js';

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'semiflow-safetensors-'));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

/** A file put together by hand, independent of the encoder. */
function rawFile(header: unknown, data: number | Uint8Array, claimed?: bigint): Uint8Array {
  const json = typeof header === 'string' ? header : JSON.stringify(header).replace(`"${deep}"`, deepText);
  const text = new TextEncoder().encode(json);
  const body = typeof data === 'number' ? new Uint8Array(data) : data;
  const file = new Uint8Array(8 + text.length + body.length);
  new DataView(file.buffer).setBigUint64(0, claimed ?? BigInt(text.length), true);
  file.set(text, 8);
  file.set(body, 8 + text.length);
  return file;
}

/** Stands for a list in a list in a list …, deeper than recursion goes. */
const deep = 'DEEP';
const deepText = '['.repeat(200_000) + ']'.repeat(200_000);

const f32 = (shape: number[], begin: number, end: number) => ({ dtype: 'F32', shape, data_offsets: [begin, end] });
const openBytes = (bytes: Uint8Array, name = 'bad.safetensors') => openSafetensors(bytesSource(bytes, name));

async function messageOf(action: Promise<unknown>): Promise<string> {
  const error = await action.then(
    () => new Error('nothing was thrown'),
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(UserError);
  const { message } = error as UserError;
  expect(message).not.toContain('\n');
  return message;
}

describe('damaged files are refused', () => {
  const good = rawFile({ a: f32([2], 0, 8), b: f32([1], 8, 12) }, 12);
  const metadataOf = (value: unknown) => rawFile({ __metadata__: value, a: f32([1], 0, 4) }, 4);
  const entryOf = (entry: unknown, data = 4) => rawFile({ a: entry }, data);
  const cases: [string, Uint8Array, RegExp][] = [
    ['empty', new Uint8Array(0), /but an empty file/],
    ['shorter than the length', Uint8Array.of(1, 0, 0, 0, 0, 0, 0), /too few/],
    ['zeros', rawFile('', 16), /but zeros, as an interrupted download/],
    ['header length 1', rawFile('{', 16, 1n), /header of 1 bytes/],
    ['header past the end', rawFile('{}', 0, 3n), /passes the end/],
    ['header beyond 100 MB', rawFile('{}', 0, 100_000_001n), /a header of 100000001 bytes/],
    ['header length with the top bit', rawFile('{}', 0, 2n ** 63n), /a header of 9223372036854775808 bytes/],
    [
      'a zip archive (PyTorch)',
      new TextEncoder().encode('PK\x03\x04 archive/data.pkl'),
      /but a zip archive \(.npz and PyTorch/,
    ],
    ['header cut in the middle', good.slice(0, 40), /passes the end/],
    ['not JSON', rawFile('{"a": nope}', 0), /not valid JSON/],
    ['invalid UTF-8', rawFile('{"\u00e9":1}', 0).map((byte) => (byte === 0xc3 ? 0xff : byte)), /not valid JSON/],
    ['byte order mark', rawFile('\ufeff{}', 0), /header is not a JSON object/],
    ['leading space', rawFile(' {}', 0), /not a JSON object/],
    ['array header', rawFile('[1]', 0), /not a JSON object/],
    ['null header', rawFile('null', 0), /not a JSON object/],
    ['duplicate tensor', rawFile(`{"a":${JSON.stringify(f32([1], 0, 4))},"\\u0061":{}}`, 4), /names "a" twice/],
    [
      'duplicate field',
      rawFile('{"a":{"dtype":"F32","shape":[1],"dtype":"I32","data_offsets":[0,4]}}', 4),
      /"dtype" twice/,
    ],
    ['duplicate metadata', rawFile('{"__metadata__":{"k":"1","x":"[{}]","k":"2"}}', 0), /"k" twice/],
    ['metadata a list', metadataOf(['a']), /__metadata__ is not an object/],
    ['metadata false', metadataOf(false), /__metadata__ is not an object/],
    ['metadata number', metadataOf({ epoch: 3 }), /"epoch" is not a string/],
    ['metadata nested', metadataOf({ config: { dim: 2 } }), /"config" is not a string/],
    ['entry a number', entryOf(4), /tensor "a": its entry is not an object/],
    ['entry null', entryOf(null), /its entry is not an object/],
    ['unknown key', entryOf({ ...f32([1], 0, 4), strides: [1] }), /unknown key "strides"/],
    ['dtype of another kind', entryOf({ ...f32([1], 0, 4), dtype: { toString: 1 } }), /dtype is no name of a type/],
    ['dtype a deep tree', entryOf({ ...f32([1], 0, 4), dtype: deep }), /dtype is no name of a type/],
    ['extents without end', entryOf(f32(new Array<number>(100_000).fill(1), 0, 4)), /its shape has 100000 extents/],
    ['shape a deep tree', entryOf({ ...f32([1], 0, 4), shape: deep }), /shape is not a list/],
    ['entry a deep tree', entryOf(deep), /its entry is not an object/],
    ['dtype from the prototype', entryOf({ ...f32([1], 0, 4), dtype: 'toString' }), /dtype is no name of a type/],
    ['dtype missing', entryOf({ shape: [1], data_offsets: [0, 4] }), /dtype is no name of a type/],
    ['shape missing', entryOf({ dtype: 'F32', data_offsets: [0, 4] }), /shape is not a list/],
    ['negative extent', entryOf(f32([-1, -1], 0, 4)), /shape is not a list of non-negative integers/],
    ['fractional extent', entryOf(f32([0.5, 2], 0, 4)), /shape is not a list of non-negative integers/],
    ['extent a string', entryOf({ ...f32([], 0, 4), shape: ['1'] }), /shape is not a list/],
    ['extent beyond 2^53', entryOf(f32([2 ** 60], 0, 4)), /shape is not a list/],
    ['overflowing shape', entryOf(f32([2 ** 40, 2 ** 40], 0, 4)), /overflows/],
    ['overflow hidden by a zero', entryOf(f32([2 ** 40, 2 ** 40, 0], 0, 0), 0), /overflows/],
    ['overflow wrapping to 4 bytes', entryOf(f32([2 ** 31, 2 ** 31, 2 ** 2], 0, 4)), /overflows/],
    ['offsets missing', entryOf({ dtype: 'F32', shape: [1] }), /data_offsets are not two/],
    ['three offsets', entryOf({ ...f32([1], 0, 4), data_offsets: [0, 4, 4] }), /data_offsets are not two/],
    ['negative offset', entryOf(f32([1], -4, 0)), /data_offsets are not two/],
    ['fractional offset', entryOf(f32([1], 0.5, 4.5), 5), /data_offsets are not two/],
    ['backward offsets', entryOf(f32([1], 4, 0)), /run backwards/],
    ['offsets past the end', entryOf(f32([2], 0, 8)), /pass the 4 bytes of data/],
    ['too few bytes', entryOf(f32([2], 0, 4)), /takes 8 bytes, but its data_offsets \[0,4\] span 4/],
    ['too many bytes', entryOf(f32([1], 0, 8), 8), /takes 4 bytes/],
    ['scalar of zero bytes', entryOf(f32([], 0, 0), 0), /takes 4 bytes/],
    ['overlap', rawFile({ a: f32([2], 0, 8), b: f32([2], 4, 12) }, 12), /"b" overlaps "a"/],
    ['two tensors on one place', rawFile({ a: f32([1], 0, 4), b: f32([1], 0, 4) }, 4), /overlaps/],
    ['empty tensor inside another', rawFile({ a: f32([2], 0, 8), b: f32([0], 4, 4) }, 8), /"b" overlaps "a"/],
    ['hole', rawFile({ a: f32([1], 0, 4), b: f32([1], 8, 12) }, 12), /4 bytes before tensor "b"/],
    ['hole at the start', entryOf(f32([1], 4, 8), 8), /4 bytes before tensor "a"/],
    ['trailing bytes', entryOf(f32([1], 0, 4), 5), /1 bytes behind the last tensor/],
    ['data cut', good.slice(0, -1), /tensor "b".*pass the 11 bytes/],
    ['data without a tensor', rawFile({}, 8), /8 bytes behind/],
  ];
  it.each(cases)('%s', async (_, bytes, expected) => {
    const message = await messageOf(openBytes(bytes));
    expect(message).toMatch(/^bad\.safetensors(: | is no safetensors file)/);
    expect(message).toMatch(expected);
    expect(message.length).toBeLessThan(500);
  });

  it.each<[string, string | Uint8Array, RegExp]>([
    ['a pointer', `version https://git-lfs.github.com/spec/v1\noid sha256:${'0'.repeat(64)}\n`, /Git LFS pointer/],
    ['a page', '<!DOCTYPE html>\n<html><head><title>Sign in</title></head></html>', /a web page/],
    ['an error', '<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', /an XML document/],
    ['a JSON answer', '{"error":"Repository not found","status":404}', /JSON text/],
    ['gzip', Uint8Array.of(0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 0), /gzip data/],
    ['a pickle', Uint8Array.of(0x80, 2, 0x8a, 10, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a), /a Python pickle/],
    ['a picture', '\x89PNG\r\n\x1a\n\0\0\0\rIHDR', /a PNG picture/],
    ['HDF5', '\x89HDF\r\n\x1a\n\0\0\0', /an HDF5 file/],
    ['text', 'seed: 3\nsteps: 4\n', /plain text/],
  ])('%s says what it is', async (_, content, expected) => {
    const bytes = typeof content === 'string' ? Uint8Array.from(content, (c) => c.charCodeAt(0)) : content;
    expect(await messageOf(openBytes(bytes))).toMatch(expected);
  });

  it('half a download says so', async () => {
    for (const length of [40, good.length - 1])
      expect(await messageOf(openBytes(good.slice(0, length)))).toMatch(/cut off, as an interrupted download/);
  });

  it('reads what the reference reader reads: no metadata, and newer types beside those that are asked for', async () => {
    const bytes = rawFile(
      { __metadata__: null, a: f32([1], 0, 4), b: { dtype: 'F6_E2M3', shape: [4], data_offsets: [4, 7] } },
      7,
    );
    const file = await openBytes(bytes);
    expect([file.metadata, [...file.tensors.keys()]]).toEqual([{}, ['a', 'b']]);
    expect([...(await file.readF32('a'))]).toEqual([0]);
    expect(await messageOf(file.read('b'))).toMatch(/tensor "b": unknown dtype F6_E2M3; export it as one of .*BF16/);
    expect(await messageOf(file.readF32('b'))).toMatch(/unknown dtype/);
  });

  it('keeps messages in one line whatever a tensor is called', async () => {
    const message = await messageOf(openBytes(rawFile({ ['x\ny'.repeat(500)]: 1 }, 0)));
    expect(message.length).toBeLessThan(400);
  });

  it('never gives NaN, a crash or a foreign error for any single changed byte', async () => {
    const bytes = encodeSafetensors({ a: { dtype: 'F32', shape: [2], data: new Float32Array(2) } }, { k: 'v' });
    for (let i = 0; i < bytes.length - 8; i++) {
      for (const value of [0, 0x22, 0x39, 0x7d, 0xff]) {
        const changed = bytes.slice();
        changed[i] = value;
        const result = await openBytes(changed).catch((error: unknown) => error);
        if (result instanceof Error) expect(result).toBeInstanceOf(UserError);
      }
    }
  });

  it('every truncation is refused', async () => {
    for (let length = 0; length < good.length; length++) await messageOf(openBytes(good.slice(0, length)));
    await openBytes(good);
  });

  it('a source that ends early is refused', async () => {
    const source = { name: 'web', size: good.length, read: async () => new Uint8Array(3) };
    expect(await messageOf(openSafetensors(source))).toMatch(/^web: 128 bytes at 0 gave only 3/);
  });
});

describe('round trip', () => {
  const contents: Record<string, TensorData> = {
    'layer.weight': { dtype: 'F32', shape: [2, 3], data: Float32Array.of(1, -2, 3.5, 1e-45, 3e38, -0) },
    half: { dtype: 'F16', shape: [5], data: Float16Array.of(1, -0.1, 65504, 6e-8, -Infinity) },
    brain: { dtype: 'BF16', shape: [3], data: Uint16Array.of(0x3f80, 0xc049, 0x7f80) },
    wide: { dtype: 'F64', shape: [1], data: Float64Array.of(Math.PI) },
    long: { dtype: 'I64', shape: [2], data: BigInt64Array.of(-1n, 16777216n) },
    int: { dtype: 'I32', shape: [2], data: Int32Array.of(-7, 7) },
    short: { dtype: 'I16', shape: [1], data: Int16Array.of(-300) },
    signed: { dtype: 'I8', shape: [1], data: Int8Array.of(-3) },
    bytes: { dtype: 'U8', shape: [3], data: Uint8Array.of(0, 128, 255) },
    flags: { dtype: 'BOOL', shape: [2], data: Uint8Array.of(0, 1) },
    scalar: { dtype: 'F32', shape: [], data: Float32Array.of(42) },
    empty: { dtype: 'F32', shape: [3, 0, 2], data: new Float32Array(0) },
    __proto: { dtype: 'U8', shape: [1], data: Uint8Array.of(9) },
  };
  const metadata = { format: 'pt', 'naïve "key"': 'line\nbreak ✓', empty: '' };

  it('gives back every dtype, shape and string', async () => {
    const path = join(folder, 'all.safetensors');
    await writeSafetensors(path, contents, metadata);
    const file = await readSafetensors(path);
    expect(file.metadata).toEqual(metadata);
    expect([...file.tensors.keys()].sort()).toEqual(Object.keys(contents).sort());
    for (const [name, { dtype, shape, data }] of Object.entries(contents)) {
      expect(file.tensors.get(name)).toMatchObject({ dtype, shape, bytes: data.byteLength });
      const raw = await file.read(name);
      expect(Buffer.from(raw.buffer, raw.byteOffset, raw.byteLength)).toEqual(
        Buffer.from(data.buffer, data.byteOffset, data.byteLength),
      );
    }
    const values = async (name: string) => [...(await file.readF32(name))];
    expect(await values('half')).toEqual([...(contents.half.data as unknown as Iterable<number>)]);
    expect(await values('brain')).toEqual([1, -3.140625, Infinity]);
    expect(await values('wide')).toEqual([Math.fround(Math.PI)]);
    expect(await values('long')).toEqual([-1, 16777216]);
    expect(await values('short')).toEqual([-300]);
    expect(await values('flags')).toEqual([0, 1]);
    expect(await values('scalar')).toEqual([42]);
    expect(await values('empty')).toEqual([]);
  });

  it('aligns every tensor and gives equal bytes for equal content in any order', () => {
    const forward = encodeSafetensors(contents, metadata);
    const backward = encodeSafetensors(
      new Map(Object.entries(contents).reverse()),
      Object.fromEntries(Object.entries(metadata).reverse()),
    );
    expect(backward).toEqual(forward);
    expect(Number(new DataView(forward.buffer).getBigUint64(0, true)) % 8).toBe(0);
  });

  it('keeps names and keys that mean something to JavaScript', async () => {
    const tensors = new Map([
      ['__proto__', { dtype: 'U8', shape: [1], data: Uint8Array.of(1) } as TensorData],
      ['constructor', { dtype: 'U8', shape: [1], data: Uint8Array.of(2) } as TensorData],
    ]);
    const file = await openBytes(encodeSafetensors(tensors, JSON.parse('{"__proto__":"x"}') as Record<string, string>));
    expect(Object.entries(file.metadata)).toEqual([['__proto__', 'x']]);
    expect([...(await file.read('__proto__')), ...(await file.read('constructor'))]).toEqual([1, 2]);
  });

  it('an empty file has no tensors', async () => {
    const file = await openBytes(encodeSafetensors({}));
    expect([file.tensors.size, file.metadata]).toEqual([0, {}]);
    expect(await messageOf(file.read('w'))).toMatch(/no tensor "w"; the file holds none/);
  });

  it('decodes all 65536 half floats as @petamoriken/float16 does', () => {
    const bits = Uint16Array.from({ length: 65536 }, (_, i) => i);
    const expected = new Float16Array(bits.buffer);
    for (let i = 0; i < 65536; i++)
      if (!Object.is(halfToNumber(i), expected[i])) expect(halfToNumber(i)).toBe(expected[i]);
  });

  it('says which value f32 cannot hold', async () => {
    const file = await openBytes(
      encodeSafetensors({
        id: { dtype: 'I64', shape: [2], data: BigInt64Array.of(0n, 16777217n) },
        key: { dtype: 'U32', shape: [1], data: Uint32Array.of(0xffffffff) },
        huge: { dtype: 'F64', shape: [3], data: Float64Array.of(Infinity, 1, 1e300) },
        f8: { dtype: 'F8_E4M3', shape: [1], data: Uint8Array.of(1) },
      }),
    );
    expect(await messageOf(file.readF32('id'))).toMatch(/tensor "id": element 1 is 16777217.*export it as F32/);
    expect(await messageOf(file.readF32('key'))).toMatch(/element 0 is 4294967295/);
    expect(await messageOf(file.readF32('huge'))).toMatch(/element 2 is 1e\+300, beyond the range/);
    expect(await messageOf(file.readF32('f8'))).toMatch(/F8_E4M3 values are not converted/);
    expect(await messageOf(file.read('none'))).toMatch(/no tensor "none"; the file holds "huge", "id", "key", "f8"/);
  });

  it('what is read is a copy', async () => {
    const bytes = Buffer.from(encodeSafetensors({ w: { dtype: 'F32', shape: [1], data: Float32Array.of(3) } }));
    const file = await openSafetensors(bytesSource(bytes, 'buffer'));
    (await file.readF32('w'))[0] = 9;
    expect([...(await file.readF32('w'))]).toEqual([3]);
  });

  it('reads where tensors are not aligned', async () => {
    const data = new Uint8Array(5);
    new DataView(data.buffer).setFloat32(1, 2.5, true);
    const header = { b: { dtype: 'U8', shape: [1], data_offsets: [0, 1] }, a: f32([1], 1, 5) };
    const bytes = rawFile(header, data);
    const unaligned = { name: 'u', size: bytes.length, read: async (o: number, n: number) => bytes.subarray(o, o + n) };
    expect([...(await (await openSafetensors(unaligned)).readF32('a'))]).toEqual([2.5]);
  });

  it.each<[string, TensorData, RegExp]>([
    ['w', { dtype: 'F32', shape: [3], data: new Float32Array(2) }, /takes 12 bytes, but the data have 8/],
    ['w', { dtype: 'F32', shape: [2], data: new Int32Array(2) }, /written from Float32Array, not from Int32Array/],
    ['w', { dtype: 'F16', shape: [2], data: new Int16Array(2) }, /Uint16Array or Float16Array/],
    ['w', { dtype: 'F32', shape: [-1, -2], data: new Float32Array(2) }, /non-negative/],
    ['w', { dtype: 'F31' as 'F32', shape: [1], data: new Float32Array(1) }, /unknown dtype "F31"/],
    ['__metadata__', { dtype: 'F32', shape: [1], data: new Float32Array(1) }, /keeps this name/],
  ])('does not write %s %o', (name, tensor, expected) => {
    expect(() => encodeSafetensors({ [name]: tensor })).toThrow(expected);
  });
});

describe('files', () => {
  it('names the file, the cause and the mend', async () => {
    expect(await messageOf(readSafetensors(join(folder, 'none')))).toMatch(
      /none: there is no such file; check the path/,
    );
    expect(await messageOf(readSafetensors(folder))).toMatch(/not a file/);
    const path = join(folder, 'w.bin');
    expect(await messageOf(writeFileAtomic(join(folder, 'no', 'w.bin'), 'x'))).toMatch(/no folder .*create it/);
    await writeFile(path, 'old');
    expect(await messageOf(writeFileAtomic(join(path, 'w.bin'), 'x'))).toMatch(/is not a folder/);
    await mkdir(join(folder, 'taken'));
    expect(await messageOf(writeFileAtomic(join(folder, 'taken'), 'x'))).toMatch(/it is a folder/);
  });

  it('replaces a file whole and keeps the old one when the disk is full', async () => {
    const own = await mkdtemp(join(folder, 'atomic-'));
    const path = join(own, 'w.bin');
    await writeFileAtomic(path, 'old');
    const handle = await open(path);
    const prototype = Object.getPrototypeOf(handle) as typeof handle;
    await handle.close();
    for (const [method, code, expected] of [
      ['writeFile', 'ENOSPC', /disk is full; free space/],
      ['sync', 'ENOSPC', /disk is full/],
      ['writeFile', 'EROFS', /is not writable; choose another path/],
      ['writeFile', 'EIO', /cannot be written \(EIO bad luck\)/],
    ] as const) {
      const failure = vi
        .spyOn(prototype, method)
        .mockRejectedValueOnce(Object.assign(new Error(`${code}\nbad luck`), { code }));
      expect(await messageOf(writeFileAtomic(path, 'new'))).toMatch(expected);
      failure.mockRestore();
      expect(await readFile(path, 'utf8')).toBe('old');
      expect(await readdir(own)).toEqual(['w.bin']);
    }
    await writeFileAtomic(path, 'new');
    expect(await readFile(path, 'utf8')).toBe('new');
    expect(await readdir(own)).toEqual(['w.bin']);
  });

  it('writes nothing where encoding fails', async () => {
    const path = join(folder, 'never.safetensors');
    await messageOf(writeSafetensors(path, { w: { dtype: 'F32', shape: [3], data: new Float32Array(1) } }));
    expect(existsSync(path)).toBe(false);
  });

  it('does not mix two versions of a file', async () => {
    const path = join(folder, 'changing.safetensors');
    const tensors = (value: number) => ({
      w: { dtype: 'F32', shape: [1], data: Float32Array.of(value) } as TensorData,
    });
    await writeSafetensors(path, tensors(1));
    const file = await readSafetensors(path);
    await writeSafetensors(path, tensors(2));
    expect(await messageOf(file.readF32('w'))).toMatch(/changed while it was being read/);
  });

  it('reads through a link', async () => {
    await writeFile(join(folder, 'target'), 'hello');
    await symlink(join(folder, 'target'), join(folder, 'link'));
    const source = await fileSource(join(folder, 'link'));
    expect(Buffer.from(await source.read(1, 3)).toString()).toBe('ell');
  });

  it('reads one tensor behind 3 GiB', async () => {
    const path = join(folder, 'sparse.safetensors');
    const big = 3 * 2 ** 30;
    const head = rawFile(
      { big: { dtype: 'U8', shape: [3, 2 ** 30], data_offsets: [0, big] }, w: f32([2], big, big + 8) },
      0,
    );
    const handle = await open(path, 'w');
    await handle.write(head, 0, head.length, 0);
    await handle.write(new Uint8Array(Float32Array.of(1.5, -2).buffer), 0, 8, head.length + big);
    await handle.close();
    const file = await readSafetensors(path);
    expect([...(await file.readF32('w'))]).toEqual([1.5, -2]);
    await rm(path);
  });
});

describe('the npm package safetensors', () => {
  it('reads what we write without metadata, and we read it alike', async () => {
    // @ts-expect-error: the package ships no types
    const { SafeTensor } = (await import('safetensors')) as {
      SafeTensor: new (bytes: Uint8Array) => {
        metadata: Map<string, { dtype: string; shape: number[] }>;
        getTensor(name: string): Uint8Array;
      };
    };
    const bytes = encodeSafetensors({
      weight: { dtype: 'F32', shape: [2, 2], data: Float32Array.of(1, 2, 3, -4) },
      half: { dtype: 'F16', shape: [3], data: Uint16Array.of(0x3c00, 0xc000, 0x7bff) },
      scalar: { dtype: 'I64', shape: [], data: BigInt64Array.of(-5n) },
    });
    const theirs = new SafeTensor(bytes);
    const ours = await openBytes(bytes);
    expect([...theirs.metadata.keys()].sort()).toEqual([...ours.tensors.keys()].sort());
    for (const [name, { dtype, shape }] of ours.tensors) {
      expect(theirs.metadata.get(name)).toMatchObject({ dtype, shape });
      const raw = await ours.read(name);
      expect([...theirs.getTensor(name)]).toEqual([...new Uint8Array(raw.buffer, raw.byteOffset, raw.byteLength)]);
    }
  });
});

describe('public teachers', () => {
  const teachers = '../shared/data/teachers';
  const found = existsSync(teachers);
  if (!found) console.log(`${teachers} is missing: the public teachers are not read`);

  it.skipIf(!found)('every file opens and converts', async () => {
    let files = 0;
    for (const set of ['mnist-flow-vit', 'toy2d']) {
      for (const name of await readdir(join(teachers, set))) {
        if (!name.endsWith('.safetensors')) continue;
        const file = await readSafetensors(join(teachers, set, name));
        for (const key of file.tensors.keys()) expect((await file.readF32(key)).every(Number.isFinite)).toBe(true);
        files++;
      }
    }
    expect(files).toBe(10);
  });

  it.skipIf(!found)('the transformer has its 54 tensors and 208705 parameters', async () => {
    const file = await readSafetensors(join(teachers, 'mnist-flow-vit/model.safetensors'));
    const sizes = [...file.tensors.values()].map(({ bytes }) => bytes / 4);
    expect([sizes.length, sizes.reduce((a, b) => a + b)]).toEqual([54, 208705]);
    expect(file.metadata.prediction).toBe('x1');
    expect(file.tensors.get('patch_embed.weight')?.shape).toEqual([64, 1, 7, 7]);
  });

  it.skipIf(!found)('a small MLP computes its recorded velocities from what is read', async () => {
    const model = await readSafetensors(join(teachers, 'toy2d/gaussian-moons-cfm.safetensors'));
    const reference = await readSafetensors(join(teachers, 'toy2d/gaussian-moons-cfm.ref.safetensors'));
    const [x, t, velocity] = await Promise.all(['x', 't', 'velocity'].map((name) => reference.readF32(name)));
    const names = [...model.tensors.keys()];
    const weights = names.filter((name) => name.endsWith('weight')).sort();
    const selu = (v: number) => 1.0507009873554805 * (v > 0 ? v : 1.6732632423543772 * Math.expm1(v));
    for (let row = 0; row < t.length; row++) {
      let h = [x[2 * row], x[2 * row + 1], t[row]];
      for (const [layer, name] of weights.entries()) {
        const [w, b] = await Promise.all([model.readF32(name), model.readF32(name.replace('weight', 'bias'))]);
        h = [...b].map((bias, i) => h.reduce((sum, value, j) => sum + w[i * h.length + j] * value, bias));
        if (layer < weights.length - 1) h = h.map(selu);
      }
      for (const i of [0, 1]) expect(Math.abs(h[i] - velocity[2 * row + i])).toBeLessThan(1e-5);
    }
  });
});
