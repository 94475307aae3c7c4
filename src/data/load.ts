import { readdir, readFile, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { UserError } from '../errors.js';
import { parseCifar } from './cifar.js';
import { type Dataset, type Samples, splitHeldOut } from './dataset.js';
import { type DistributionName, distributions, samplePoints } from './distributions.js';
import { parseIdxImages, parseIdxLabels } from './idx.js';
import { parseNpy, parseNpz, type NpyArray } from './npy.js';
import { decodePng } from './png.js';
import { random } from '../tensor/philox.js';
import { sampleShapes, shapeNames, shapeSets } from './shapes.js';

export interface LoadOptions {
  /** Of generated samples and of the split. */
  seed?: number;
  /** Training samples of a generated set. */
  count?: number;
  /** Held-out samples of a generated set or of a file without test files. */
  heldOut?: number;
  /** What pixel bytes 0 and 255 stand for. */
  range?: [number, number];
}

/** Names that `loadDataset` generates; everything else is a path. */
export const datasetNames = [...Object.keys(distributions), ...Object.keys(shapeSets)];

/** Streams of generated training and held-out samples. */
const trainStream = 0;
const heldOutStream = 1;

/**
 * A named set, or a path:
 * - an IDX image file, gzipped or not, with its labels file beside it where there is one;
 * - a folder with train-images-idx3-ubyte and perhaps train-labels-idx1-ubyte, t10k-images-idx3-ubyte,
 *   t10k-labels-idx1-ubyte, each perhaps with .gz, where the t10k files are the held-out samples;
 * - CIFAR-10's binary batches, .bin or .bin.gz, or a folder of them, where test_batch is held out;
 * - a folder of PNG images of one size, whose folders are classes where it has any;
 * - .npy or .npz with images [n, h, w], [n, h, w, c] or [n, c, h, w], or points [n, d]; labels are y or labels of a .npz.
 * @throws UserError in one line: no such set or file, or a file that is not what its name or header claims
 */
export async function loadDataset(spec: string, options: LoadOptions = {}): Promise<Dataset> {
  const { seed = 0, range = [-1, 1] } = options;
  if (Object.hasOwn(distributions, spec)) return pointSet(spec as DistributionName, seed, options);
  if (Object.hasOwn(shapeSets, spec)) return shapeSet(spec as keyof typeof shapeSets, seed, range, options);
  const found = await stat(spec).catch(() => undefined);
  if (!found) {
    throw new UserError(
      `${spec}: no data set has this name and there is no such file; names are ${datasetNames.join(', ')}`,
    );
  }
  if (found.isDirectory()) return folderSet(spec, seed, range, options);
  if (/\.np[yz]$/.test(spec)) return numpyFile(spec, seed, range, options);
  if (cifarFile.test(spec)) return imageSet(basename(spec), await readCifar([spec]), undefined, seed, range, options);
  return idxFile(spec, seed, range, options);
}

const cifarFile = /\.bin(\.gz)?$/;

function pointSet(name: DistributionName, seed: number, { count = 131072, heldOut = 32768 }: LoadOptions): Dataset {
  const distribution = distributions[name];
  const samples = (n: number, stream: number): Samples => ({
    count: n,
    values: samplePoints(distribution, n, random(seed, 0, stream)),
  });
  const { extent } = distribution;
  return {
    name,
    kind: 'points',
    shape: [2],
    range: [-extent, extent],
    classes: 0,
    ...samples(positive(count, 'count'), trainStream),
    heldOut: samples(positive(heldOut, 'held-out'), heldOutStream),
  };
}

function shapeSet(
  name: keyof typeof shapeSets,
  seed: number,
  range: [number, number],
  { count = 10000, heldOut = 1000 }: LoadOptions,
): Dataset {
  const shape = [...shapeSets[name].shape];
  return {
    name,
    kind: 'images',
    shape,
    range,
    classes: shapeNames.length,
    ...sampleShapes(shape, positive(count, 'count'), seed, trainStream),
    heldOut: sampleShapes(shape, positive(heldOut, 'held-out'), seed, heldOutStream),
  };
}

function positive(count: number, what: string): number {
  if (!Number.isInteger(count) || count < 1)
    throw new UserError(`the ${what} number of samples is ${count}; give a whole number from 1`);
  return count;
}

interface ImageFile extends Samples {
  channels: number;
  height: number;
  width: number;
}

/** What kind of set a folder holds is told by its files' names. */
async function folderSet(
  folder: string,
  seed: number,
  range: [number, number],
  options: LoadOptions,
): Promise<Dataset> {
  const names = await readdir(folder);
  const batches = names.filter((name) => cifarFile.test(name)).sort();
  if (batches.length) {
    const paths = (test: boolean) =>
      batches.filter((name) => name.startsWith('test') === test).map((name) => join(folder, name));
    if (!paths(false).length) throw new UserError(`${folder} holds CIFAR-10's test batch alone: add data_batch files`);
    const test = paths(true).length ? await readCifar(paths(true)) : undefined;
    return imageSet(basename(folder), await readCifar(paths(false)), test, seed, range, options);
  }
  const images = await pngFiles(folder);
  if (images.length) return imageSet(basename(folder), await readPngs(images), undefined, seed, range, options);
  return idxFolder(folder, names, seed, range, options);
}

async function readCifar(paths: readonly string[]): Promise<ImageFile> {
  const parts = [];
  for (const path of paths) parts.push(parseCifar(await readBytes(path), path));
  const count = parts.reduce((sum, part) => sum + part.count, 0);
  const size = parts[0].values.length / parts[0].count;
  const [values, labels] = [new Uint8Array(count * size), new Uint32Array(count)];
  let at = 0;
  for (const part of parts) {
    values.set(part.values, at * size);
    labels.set(part.labels, at);
    at += part.count;
  }
  return { count, values, labels, channels: 3, height: 32, width: 32 };
}

/** The PNG files of a folder, or of the folders in it, each a class in the order of names. */
async function pngFiles(folder: string): Promise<{ path: string; label?: number }[]> {
  const pngs = (names: string[]) => names.filter((name) => /\.png$/i.test(name)).sort();
  const entries = await readdir(folder, { withFileTypes: true });
  const own = pngs(entries.filter((entry) => !entry.isDirectory()).map(({ name }) => name));
  if (own.length) return own.map((name) => ({ path: join(folder, name) }));
  const classes = [];
  for (const { name } of entries.filter((entry) => entry.isDirectory()).sort((a, b) => (a.name < b.name ? -1 : 1))) {
    const files = pngs(await readdir(join(folder, name)));
    if (files.length) classes.push(files.map((file) => join(folder, name, file)));
  }
  return classes.flatMap((paths, label) => paths.map((path) => ({ path, label })));
}

async function readPngs(files: readonly { path: string; label?: number }[]): Promise<ImageFile> {
  const pictures = [];
  for (const { path } of files) pictures.push(await decodePng(path));
  const [{ width, height }] = pictures;
  const odd = pictures.findIndex((picture) => picture.width !== width || picture.height !== height);
  if (odd > 0)
    throw new UserError(
      `${files[odd].path} is ${pictures[odd].height}x${pictures[odd].width}, ${files[0].path} is ${height}x${width}: images of one size are wanted`,
    );
  const channels = pictures.some((picture) => picture.channels === 3) ? 3 : 1;
  const area = width * height;
  const values = new Uint8Array(files.length * channels * area);
  pictures.forEach((picture, i) => {
    for (let channel = 0; channel < channels; channel++)
      for (let at = 0; at < area; at++)
        values[(i * channels + channel) * area + at] =
          picture.pixels[at * picture.channels + (picture.channels === 3 ? channel : 0)];
  });
  const labelled = files[0].label !== undefined;
  return {
    count: files.length,
    values,
    ...(labelled && { labels: Uint32Array.from(files, ({ label }) => label!) }),
    channels,
    height,
    width,
  };
}

async function numpyFile(path: string, seed: number, range: [number, number], options: LoadOptions): Promise<Dataset> {
  const bytes = await readBytes(path);
  const arrays = path.endsWith('.npz') ? parseNpz(bytes, path) : new Map([['x', parseNpy(bytes, path)]]);
  const named = (names: readonly string[]) => names.map((name) => arrays.get(name)).find(Boolean);
  const x = named(['x', 'images', 'data', 'arr_0']);
  if (!x)
    throw new UserError(`${path} holds ${[...arrays.keys()].join(', ')}: samples are looked for under x or images`);
  const y = named(['y', 'labels', 'arr_1']);
  if (y && y.values.length !== x.shape[0])
    throw new UserError(`${path}: ${y.values.length} labels for ${x.shape[0]} samples`);
  const wrong = y?.values.findIndex((value) => !Number.isInteger(value) || value < 0) ?? -1;
  if (wrong >= 0) throw new UserError(`${path}: label ${wrong} is ${y!.values[wrong]}, classes count from 0`);
  const labels = y && { labels: Uint32Array.from(y.values) };
  if (x.shape.length === 2)
    return pointFile(
      path,
      { count: x.shape[0], values: Float32Array.from(x.values), ...labels },
      x.shape[1],
      seed,
      options,
    );
  return imageSet(basename(path), { ...imagesOf(x, path), ...labels }, undefined, seed, range, options);
}

/** Images with channels first, whichever way an array holds them. */
function imagesOf({ shape, values }: NpyArray, path: string): ImageFile {
  const isColour = (extent: number) => extent === 1 || extent === 3;
  const [count, ...rest] = shape;
  if (rest.length === 2) return { count, values, channels: 1, height: rest[0], width: rest[1] };
  if (rest.length === 3 && isColour(rest[0]))
    return { count, values, channels: rest[0], height: rest[1], width: rest[2] };
  if (rest.length !== 3 || !isColour(rest[2]))
    throw new UserError(
      `${path} holds an array [${shape}]: images are [n, h, w], [n, h, w, c] or [n, c, h, w] with 1 or 3 channels, points [n, d]`,
    );
  const [height, width, channels] = rest;
  const area = height * width;
  const first = values.map((_, i) => {
    const [image, channel, at] = [Math.floor(i / (channels * area)), Math.floor(i / area) % channels, i % area];
    return values[(image * area + at) * channels + channel];
  });
  return { count, values: first, channels, height, width };
}

function pointFile(path: string, samples: Samples, dim: number, seed: number, { heldOut }: LoadOptions): Dataset {
  const values = samples.values as Float32Array;
  const [low, high] = values.reduce(([a, b], value) => [Math.min(a, value), Math.max(b, value)], [Infinity, -Infinity]);
  const parts = splitHeldOut(samples, dim, heldOut ?? Math.ceil(samples.count / 10), seed, path);
  const classes = samples.labels?.reduce((most, label) => Math.max(most, label + 1), 0) ?? 0;
  return {
    name: basename(path),
    kind: 'points',
    shape: [dim],
    range: [low, high],
    classes,
    ...parts.train,
    heldOut: parts.heldOut,
  };
}

async function idxFolder(
  folder: string,
  names: readonly string[],
  seed: number,
  range: [number, number],
  options: LoadOptions,
): Promise<Dataset> {
  const fileOf = (name: string): string | undefined => {
    const held = [name, `${name}.gz`].find((candidate) => names.includes(candidate));
    return held && join(folder, held);
  };
  const images = fileOf('train-images-idx3-ubyte');
  if (!images) {
    throw new UserError(
      `${folder}: holds no images that semiflow knows (IDX, CIFAR-10's .bin, .png); give another folder or the path of a file`,
    );
  }
  const train = await readImages(images, fileOf('train-labels-idx1-ubyte'));
  const testImages = fileOf('t10k-images-idx3-ubyte');
  if (!testImages) return imageSet(basename(folder), train, undefined, seed, range, options);
  const test = await readImages(testImages, fileOf('t10k-labels-idx1-ubyte'));
  if (test.height !== train.height || test.width !== train.width) {
    throw new UserError(
      `${testImages}: images of ${test.height}x${test.width} do not fit the training images of ${train.height}x${train.width}; give files of one set`,
    );
  }
  if (!test.labels !== !train.labels) {
    throw new UserError(
      `${folder}: only the ${train.labels ? 'training' : 'test'} images have labels; add the other labels file or remove this one`,
    );
  }
  return imageSet(basename(folder), train, test, seed, range, options);
}

async function idxFile(path: string, seed: number, range: [number, number], options: LoadOptions): Promise<Dataset> {
  const name = basename(path);
  const labels = name.replace(/\.gz$/, '').replace('images-idx3', 'labels-idx1');
  const candidates = labels === name.replace(/\.gz$/, '') ? [] : [labels, `${labels}.gz`];
  const names = await readdir(dirname(path));
  const held = candidates.find((candidate) => names.includes(candidate));
  const images = await readImages(path, held && join(dirname(path), held));
  return imageSet(name, images, undefined, seed, range, options);
}

async function readImages(path: string, labelsPath: string | undefined): Promise<ImageFile> {
  const images = { channels: 1, ...(await parseIdxImages(await readBytes(path), path)) };
  if (labelsPath === undefined) return images;
  const labels = await parseIdxLabels(await readBytes(labelsPath), labelsPath);
  if (labels.length !== images.count) {
    throw new UserError(
      `${labelsPath}: ${labels.length} labels for the ${images.count} images of ${path}; give files of one set`,
    );
  }
  return { ...images, labels };
}

function imageSet(
  name: string,
  images: ImageFile,
  test: ImageFile | undefined,
  seed: number,
  range: [number, number],
  { heldOut = Math.ceil(images.count / 10) }: LoadOptions,
): Dataset {
  const { channels, height, width } = images;
  const parts = test
    ? { train: samplesOf(images), heldOut: samplesOf(test) }
    : splitHeldOut(images, channels * height * width, heldOut, seed, name);
  let classes = 0;
  for (const { labels = [] } of [parts.train, parts.heldOut]) {
    for (const label of labels) classes = Math.max(classes, label + 1);
  }
  return {
    name,
    kind: 'images',
    shape: [channels, height, width],
    range,
    classes,
    ...parts.train,
    heldOut: parts.heldOut,
  };
}

function samplesOf({ count, values, labels }: ImageFile): Samples {
  return { count, values, ...(labels && { labels }) };
}

async function readBytes(path: string): Promise<Uint8Array> {
  try {
    return await readFile(path);
  } catch (error) {
    throw new UserError(
      `${path}: cannot be read (${(error as NodeJS.ErrnoException).code}); check the path and its permissions`,
    );
  }
}
