import { type AsyncZippable, zipSync, type Zippable } from 'fflate';

/** Writes files as `torch.save` does, and as nobody should, from the descriptions of the formats alone. */

const bytes = (...codes: number[]) => Buffer.from(codes);
const uint32 = (value: number) => {
  const buffer = Buffer.alloc(4);
  buffer.writeUInt32LE(value >>> 0);
  return buffer;
};

export const op = {
  mark: Buffer.from('('),
  none: Buffer.from('N'),
  stop: Buffer.from('.'),
  reduce: Buffer.from('R'),
  build: Buffer.from('b'),
  persistent: Buffer.from('Q'),
  newObject: bytes(0x81),
  text: (value: string) => Buffer.concat([Buffer.from('X'), uint32(Buffer.byteLength(value)), Buffer.from(value)]),
  int: (value: number) => Buffer.concat([Buffer.from('J'), uint32(value)]),
  global: (module: string, name: string) => Buffer.from(`c${module}\n${name}\n`),
  tuple: (...items: Buffer[]) => Buffer.concat([op.mark, ...items, Buffer.from('t')]),
  dict: (entries: Record<string, Buffer>) =>
    Buffer.concat([
      Buffer.from('}('),
      ...Object.entries(entries).flatMap(([key, value]) => [op.text(key), value]),
      Buffer.from('u'),
    ]),
  call: (module: string, name: string, ...args: Buffer[]) =>
    Buffer.concat([op.global(module, name), op.tuple(...args), op.reduce]),
};

export const pickle = (value: Buffer): Buffer => Buffer.concat([bytes(0x80, 2), value, op.stop]);

export const ordered = (entries: Record<string, Buffer>): Buffer =>
  Buffer.concat([
    op.global('collections', 'OrderedDict'),
    op.tuple(),
    op.reduce,
    op.mark,
    ...Object.entries(entries).flatMap(([key, value]) => [op.text(key), value]),
    Buffer.from('u'),
  ]);

export interface TensorSpec {
  key: string;
  type?: string;
  /** Elements of the storage. */
  length: number;
  offset?: number;
  shape: number[];
  strides?: number[];
}

export function rowMajor(shape: readonly number[]): number[] {
  return shape.map((_, axis) => shape.slice(axis + 1).reduce((product, extent) => product * extent, 1));
}

export function tensor({
  key,
  type = 'FloatStorage',
  length,
  offset = 0,
  shape,
  strides = rowMajor(shape),
}: TensorSpec): Buffer {
  const id = op.tuple(op.text('storage'), op.global('torch', type), op.text(key), op.text('cpu'), op.int(length));
  const ints = (values: readonly number[]) => op.tuple(...values.map(op.int));
  return op.call(
    'torch._utils',
    '_rebuild_tensor_v2',
    Buffer.concat([id, op.persistent]),
    op.int(offset),
    ints(shape),
    ints(strides),
    bytes(0x89),
    ordered({}),
  );
}

export const parameter = (value: Buffer): Buffer =>
  op.call('torch._utils', '_rebuild_parameter', value, bytes(0x88), ordered({}));

/** An object of a class, with a state. */
export const object = (module: string, name: string, state: Buffer): Buffer =>
  Buffer.concat([op.global(module, name), op.tuple(), op.newObject, state, op.build]);

/** The archive of `torch.save`. */
export function archive(
  content: Buffer,
  storages: Record<string, Uint8Array>,
  { order = 'little', level = 0 as 0 | 6 } = {},
): Uint8Array {
  const files: Zippable & AsyncZippable = { 'model/data.pkl': pickle(content), 'model/byteorder': Buffer.from(order) };
  for (const [key, data] of Object.entries(storages)) files[`model/data/${key}`] = data;
  return zipSync(files, { level });
}

/** The format before PyTorch 1.6. */
export function legacy(content: Buffer, storages: Record<string, { length: number; data: Uint8Array }>): Buffer {
  const magic = bytes(0x8a, 10, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19);
  const system = op.dict({ little_endian: bytes(0x88) });
  const keys = Buffer.concat([Buffer.from(']('), ...Object.keys(storages).map(op.text), Buffer.from('e')]);
  const data = Object.values(storages).flatMap((storage) => {
    const length = Buffer.alloc(8);
    length.writeBigUInt64LE(BigInt(storage.length));
    return [length, storage.data];
  });
  return Buffer.concat([
    pickle(magic),
    pickle(Buffer.from([0x4d, 0xe9, 3])),
    pickle(system),
    pickle(content),
    pickle(keys),
    ...data,
  ]);
}
