import { readdir, readFile, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { UserError } from '../errors.js';
import { type Dataset, type Samples, splitHeldOut } from './dataset.js';
import { type DistributionName, distributions, samplePoints } from './distributions.js';
import { parseIdxImages, parseIdxLabels } from './idx.js';
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
 * A named set; or an IDX image file, gzipped or not, with its labels file beside it where there is one; or a folder with
 * train-images-idx3-ubyte and perhaps train-labels-idx1-ubyte, t10k-images-idx3-ubyte, t10k-labels-idx1-ubyte, each
 * perhaps with .gz, where the t10k files are the held-out samples.
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
  return found.isDirectory() ? idxFolder(spec, seed, range, options) : idxFile(spec, seed, range, options);
}

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
  height: number;
  width: number;
}

async function idxFolder(
  folder: string,
  seed: number,
  range: [number, number],
  options: LoadOptions,
): Promise<Dataset> {
  const names = await readdir(folder);
  const fileOf = (name: string): string | undefined => {
    const held = [name, `${name}.gz`].find((candidate) => names.includes(candidate));
    return held && join(folder, held);
  };
  const images = fileOf('train-images-idx3-ubyte');
  if (!images) {
    throw new UserError(
      `${folder}: holds no train-images-idx3-ubyte(.gz); give a folder with it or the path of an image file`,
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
  const images = await parseIdxImages(await readBytes(path), path);
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
  const { height, width } = images;
  const parts = test
    ? { train: samplesOf(images), heldOut: samplesOf(test) }
    : splitHeldOut(images, height * width, heldOut, seed, name);
  let classes = 0;
  for (const { labels = [] } of [parts.train, parts.heldOut]) {
    for (const label of labels) classes = Math.max(classes, label + 1);
  }
  return { name, kind: 'images', shape: [1, height, width], range, classes, ...parts.train, heldOut: parts.heldOut };
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
