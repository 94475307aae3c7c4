import { UserError } from '../errors.js';
import type { DataFormat, RawDataset, RawSamples } from './format.js';

const pixels = 3 * 32 * 32;

/** CIFAR-10 has a label byte before the pixels, CIFAR-100 a coarse and a fine one. */
interface Layout {
  name: string;
  labelBytes: number;
  classes: number;
}

/** Images, their labels, and how many classes there are of them. */
export type Batch = Required<Omit<RawSamples, 'conditions'>> & { classes: number };
const layouts: readonly Layout[] = [
  { name: 'CIFAR-10', labelBytes: 1, classes: 10 },
  { name: 'CIFAR-100', labelBytes: 2, classes: 100 },
];

/**
 * CIFAR's binary format: records of one or two label bytes and 3 x 32 x 32 bytes, planes red, green, blue.
 * @returns images [n, 3, 32, 32] and their labels, the fine ones for CIFAR-100
 * @throws UserError where the file is no whole number of such records
 */
export function parseCifar(bytes: Uint8Array, name: string): Batch {
  if (!bytes.length) throw new UserError(`${name} is an empty file; fetch it again or remove it`);
  const layout = layouts.find(({ labelBytes }) => bytes.length % (labelBytes + pixels) === 0);
  if (!layout)
    throw new UserError(
      `${name}: ${bytes.length} bytes are no whole number of CIFAR-10 records of ${pixels + 1} or CIFAR-100 records of ${pixels + 2}`,
    );
  const size = layout.labelBytes + pixels;
  const count = bytes.length / size;
  const [values, labels] = [new Uint8Array(count * pixels), new Uint32Array(count)];
  for (let i = 0; i < count; i++) {
    const start = i * size + layout.labelBytes;
    labels[i] = bytes[start - 1];
    if (labels[i] >= layout.classes)
      throw new UserError(`${name}: record ${i} has label ${labels[i]}: this is not ${layout.name}'s format`);
    values.set(bytes.subarray(start, start + pixels), i * pixels);
  }
  const samples = { shape: [count, 3, 32, 32], values };
  return { samples, labels: { shape: [count], values: labels }, classes: layout.classes };
}

const binName = /\.bin(\.gz)?$/i;
const batchName = /(^|\/)(data_batch|test_batch|train|test)[^/]*\.bin(\.gz)?$/i;
const textName = /\.(txt|md|html)$/i;
export const isTest = (path: string) => /(^|\/)test[^/]*$/i.test(path);

export const cifar: DataFormat = {
  name: 'CIFAR',
  looks: "CIFAR's data_batch_1.bin",
  recognizes: ({ paths }) =>
    paths.some((path) => batchName.test(path)) ||
    (paths.some((path) => binName.test(path)) && paths.every((path) => binName.test(path) || textName.test(path))),
  async read(files) {
    const batches = files.paths.filter((path) => binName.test(path));
    const [train, test] =
      batches.length === 1 ? [batches, []] : [batches.filter((path) => !isTest(path)), batches.filter(isTest)];
    if (!train.length) throw new UserError(`${files.name} holds CIFAR's test batch alone: add the training batches`);
    const read = async (paths: readonly string[]) => {
      const found = [];
      for (const path of paths) found.push(parseCifar(await files.bytes(path), files.where(path)));
      return found;
    };
    return { ...joinParts(await read(train), await read(test)), used: batches };
  },
};

/** What batches hold, one after another. */
export function joinParts(train: readonly Batch[], test: readonly Batch[]): Omit<RawDataset, 'used'> {
  return {
    train: joinBatches(train),
    heldOut: test.length ? joinBatches(test) : undefined,
    pixels: [0, 255],
    classes: Math.max(...train.map(({ classes }) => classes)),
  };
}

function joinBatches(parts: readonly Batch[]): RawSamples {
  const count = parts.reduce((sum, { labels }) => sum + labels.values.length, 0);
  const [values, labels] = [new Uint8Array(count * pixels), new Uint32Array(count)];
  let at = 0;
  for (const part of parts) {
    values.set(part.samples.values, at * pixels);
    labels.set(part.labels.values, at);
    at += part.labels.values.length;
  }
  return { samples: { shape: [count, 3, 32, 32], values }, labels: { shape: [count], values: labels } };
}
