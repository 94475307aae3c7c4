import { UserError } from '../errors.js';
import type { DataFiles } from './data-files.js';
import type { DataFormat, NumberArray, RawSamples } from './format.js';
import { swapSides } from './layout.js';
import { bytesOf, type NumberKind, readNumbers } from './numbers.js';

/**
 * The IDX format of MNIST and its kin (Y. LeCun): 0, 0, a code for the elements, the rank, big-endian extents, elements
 * with the high byte first.
 */
const kinds: Record<number, NumberKind> = { 8: 'u1', 9: 'i1', 11: 'i2', 12: 'i4', 13: 'f4', 14: 'f8' };
const mostExtents = 5;
const mend = 'it is damaged or no such file, fetch it again';

/** @throws UserError if the bytes are not an IDX file, whole and without rest */
export function parseIdx(bytes: Uint8Array, name: string): NumberArray {
  const { kind, shape, start } = readHeader(bytes, name);
  const expected = announcedBytes(bytes, name);
  if (bytes.length !== expected) {
    const found = bytes.length > expected ? 'more' : `only ${bytes.length}`;
    throw new UserError(
      `${name}: ${shape.length === 1 ? 'labels' : 'images'} of ${shape.join('x')} take ${expected} bytes, the file has ${found}; ${mend}`,
    );
  }
  const count = shape.reduce((product, extent) => product * extent, 1);
  return { shape, values: readNumbers(bytes.subarray(start), kind, count, false) };
}

/** Bytes of the whole file, by its header. */
function announcedBytes(head: Uint8Array, name: string): number {
  const { kind, shape, start } = readHeader(head, name);
  return shape.reduce((product, extent) => product * extent, bytesOf(kind)) + start;
}

function readHeader(bytes: Uint8Array, name: string): { kind: NumberKind; shape: number[]; start: number } {
  const need = (length: number) => {
    if (bytes.length < length)
      throw new UserError(`${name}: ${bytes.length} bytes are too few for an IDX file; ${mend}`);
  };
  need(4);
  const [kind, rank] = [kinds[bytes[2]], bytes[3]];
  if (bytes[0] || bytes[1] || !kind || rank < 1 || rank > mostExtents) {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    throw new UserError(
      `${name}: not an IDX file (its magic number is ${view.getUint32(0)}); give a file with magic number 2051 for images, 2049 for labels`,
    );
  }
  const start = 4 + 4 * rank;
  need(start);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return { kind, shape: Array.from({ length: rank }, (_, i) => view.getUint32(4 + 4 * i)), start };
}

/** `train-images-idx3-ubyte`, and what unpackers and other sets make of it: `….images.idx3-ubyte.gz`, `emnist-…`. */
const imagesName = /images?[-._]idx\d[-._]ubyte(\.gz)?$/i;
const testName = /(^|[-._])(t10k|test)(?=[-._])/i;
const nameOf = (path: string) => path.slice(path.lastIndexOf('/') + 1);
const isIdx = (head: Uint8Array) =>
  head.length >= 4 && !head[0] && !head[1] && head[2] in kinds && head[3] >= 1 && head[3] <= mostExtents;

export const idx: DataFormat = {
  name: 'IDX',
  looks: 'train-images-idx3-ubyte, .gz',
  recognizes: ({ paths, head }) =>
    paths.length === 1 ? isIdx(head) || imagesName.test(paths[0]) : paths.some((path) => imagesName.test(path)),
  async read(files) {
    if (files.paths.length === 1) {
      const { raw, used, notes } = await readPart(files, files.paths[0]);
      return { train: raw, used, notes };
    }
    const images = files.paths.filter((path) => imagesName.test(path));
    const train = one(
      files,
      images.filter((path) => !testName.test(nameOf(path))),
      'training',
    );
    const test = one(
      files,
      images.filter((path) => testName.test(nameOf(path))),
      'test',
    );
    if (!train) throw new UserError(`${files.name}: ${test} are test images alone; give them by their own path`);
    const parts = [await readPart(files, train), ...(test ? [await readPart(files, test)] : [])];
    const [first, second] = parts.map(({ raw }) => raw);
    if (second && !second.labels !== !first.labels)
      throw new UserError(
        `${files.name}: only the ${first.labels ? 'training' : 'test'} images have labels; add the other labels file or remove this one`,
      );
    const used = parts.flatMap((part) => part.used);
    // A file beside its gzipped copy is the same file.
    const copies = images.filter((path) => used.includes(path.replace(/\.gz$/i, '')));
    return { train: first, heldOut: second, used: [...used, ...copies], notes: parts[0].notes };
  },
};

interface Part {
  raw: RawSamples;
  used: string[];
  notes: string[];
}

/** The one images file of a part; a file is preferred to its gzipped copy. */
function one(files: DataFiles, paths: string[], part: string): string | undefined {
  const distinct = paths.filter((path) => !/\.gz$/i.test(path) || !paths.includes(path.slice(0, -3)));
  if (distinct.length > 1)
    throw new UserError(
      `${files.name} holds ${distinct.length} files of ${part} images (${distinct.slice(0, 4).join(', ')}${distinct.length > 4 ? ', …' : ''}): give the path of one, or a folder with one set`,
    );
  return distinct[0];
}

/** EMNIST was written column by column (Cohen et al., 2017), and its files say so by their names alone. */
const emnistName = /(^|\/)emnist[-._][^/]*$/i;

/** Images, with the labels file that is called like them where there is one. */
async function readPart(files: DataFiles, path: string): Promise<Part> {
  const parse = async (file: string) =>
    parseIdx(await files.bytes(file, (head) => announcedBytes(head, files.where(file))), files.where(file));
  const stored = await parse(path);
  const turned = emnistName.test(path) && stored.shape.length === 3;
  const [, width, height] = stored.shape;
  const samples = turned
    ? { shape: [stored.shape[0], height, width], values: swapSides(stored.values, height, width) }
    : stored;
  const notes = turned ? ["EMNIST's pictures lie column by column and are turned upright"] : [];
  if (samples.shape.length === 1)
    throw new UserError(`${files.where(path)}: it holds labels [${samples.shape}], not images; give the images' file`);
  if (!samples.values.length)
    throw new UserError(
      `${files.where(path)}: holds ${samples.shape[0]} images of ${samples.shape.slice(1).join('x')}; give a file with images`,
    );
  const stem = path.replace(/\.gz$/i, '').replace(/image(s?)([-._])idx\d(?=[-._]ubyte$)/i, 'label$1$2idx1');
  for (const candidate of [stem, `${stem}.gz`]) {
    if (stem === path.replace(/\.gz$/i, '') || !(await files.holds(candidate))) continue;
    const labels = await parse(candidate);
    if (labels.shape.length !== 1)
      throw new UserError(`${files.where(candidate)}: labels of shape [${labels.shape}] are not one a sample`);
    return { raw: { samples, labels }, used: [path, candidate, `${stem}.gz`], notes };
  }
  return { raw: { samples }, used: [path], notes };
}
