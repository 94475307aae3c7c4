import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { execFileSync } from 'node:child_process';
import { Float16Array } from '@petamoriken/float16';
import { deflateSync, gunzipSync, gzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { type Dataset, decode, splitHeldOut } from '../src/data/dataset.js';
import { distributions, samplePoints } from '../src/data/distributions.js';
import { parseIdx } from '../src/data/idx.js';
import { readDataset } from '../src/data/read.js';
import { droppedFiles } from '../src/files/dropped.js';
import { bytesSource } from '../src/files/source.js';
import type { Files } from '../src/files/store.js';
import { loadDataset } from '../node/data.js';
import { readSafetensors, readTextFile } from '../node/files.js';
import { datasetNames } from '../src/data/named.js';
import { random } from '../src/tensor/philox.js';
import { sampleShapes, shapeNames } from '../src/data/shapes.js';
import { UserError } from '../src/errors.js';
import { decodePng } from '../src/data/png.js';
import { encode } from 'fast-png';
import sharp from 'sharp';
import { resample } from '../src/data/resample.js';
import { zipSync } from 'fflate';
import { op, pickle } from './pickle-maker.js';
import { chunk, makePng, pngKinds, pngSignature } from './png-maker.js';

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'semiflow-data-'));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

async function messageOf(action: Promise<unknown>): Promise<string> {
  const error = await action.then(
    () => new Error('nothing was thrown'),
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(UserError);
  expect((error as UserError).message).not.toContain('\n');
  return (error as UserError).message;
}

/** A file that stands alone, as one that is dropped on a page. */
const oneFile = (name: string, bytes: Uint8Array): Files => ({
  name,
  list: async () => [name],
  open: async (path) => (path === name ? bytesSource(bytes, name) : null),
});

/** An IDX file put together by hand. */
function idx(magic: number, extents: number[], data: ArrayLike<number>): Buffer {
  const header = Buffer.alloc(4 + 4 * extents.length);
  header.writeUInt32BE(magic);
  extents.forEach((extent, i) => header.writeUInt32BE(extent, 4 + 4 * i));
  return Buffer.concat([header, Buffer.from(Uint8Array.from(data))]);
}

const pixels = (count: number, height = 3, width = 2) =>
  Array.from({ length: count * height * width }, (_, i) => (i * 7) % 256);

describe('named sets in the plane', () => {
  it.each(Object.entries(distributions))(
    '%s is bounded, repeatable and about as wide as the noise',
    (_, distribution) => {
      const n = 20_000;
      const points = samplePoints(distribution, n, random(1));
      expect(points.length).toBe(2 * n);
      expect(samplePoints(distribution, n, random(1))).toEqual(points);
      expect(samplePoints(distribution, n, random(2))).not.toEqual(points);
      let [outside, sumX, sumY, square] = [0, 0, 0, 0];
      for (let i = 0; i < 2 * n; i += 2) {
        if (Math.max(Math.abs(points[i]), Math.abs(points[i + 1])) > distribution.extent) outside++;
        sumX += points[i] / n;
        sumY += points[i + 1] / n;
        square += (points[i] ** 2 + points[i + 1] ** 2) / (2 * n);
      }
      expect(outside / n).toBeLessThan(1e-3);
      expect(Math.max(Math.abs(sumX), Math.abs(sumY))).toBeLessThan(0.06);
      expect(Math.sqrt(square)).toBeGreaterThan(0.7);
      expect(Math.sqrt(square)).toBeLessThan(2.2);
    },
  );

  it('the checkerboard fills its 8 cells of 16 evenly, and within each evenly', () => {
    const n = 80_000;
    const points = samplePoints(distributions.checkerboard, n, random(3));
    const cells = new Map<string, { count: number; x: number; y: number }>();
    for (let i = 0; i < 2 * n; i += 2) {
      const [column, row] = [Math.floor(points[i]), Math.floor(points[i + 1])];
      const cell = cells.get(`${column},${row}`) ?? { count: 0, x: 0, y: 0 };
      cells.set(`${column},${row}`, {
        count: cell.count + 1,
        x: cell.x + points[i] - column,
        y: cell.y + points[i + 1] - row,
      });
    }
    expect([...cells.keys()].sort()).toEqual(['-1,-1', '-1,1', '-2,-2', '-2,0', '0,-2', '0,0', '1,-1', '1,1'].sort());
    for (const { count, x, y } of cells.values()) {
      expect(Math.abs(count - n / 8)).toBeLessThan(400);
      expect(Math.abs(x / count - 0.5)).toBeLessThan(0.012);
      expect(Math.abs(y / count - 0.5)).toBeLessThan(0.012);
    }
  });

  it('the eight Gaussians sit on radius 2 with deviation 0.2, the rings on theirs', () => {
    const n = 40_000;
    const gaussians = samplePoints(distributions['8gaussians'], n, random(4));
    const counts = Array.from({ length: 8 }, () => 0);
    let square = 0;
    for (let i = 0; i < 2 * n; i += 2) {
      const nearest = (Math.round((Math.atan2(gaussians[i + 1], gaussians[i]) * 4) / Math.PI) + 8) % 8;
      const angle = (nearest * Math.PI) / 4;
      counts[nearest]++;
      square += (gaussians[i] - 2 * Math.cos(angle)) ** 2 + (gaussians[i + 1] - 2 * Math.sin(angle)) ** 2;
    }
    expect(Math.sqrt(square / (2 * n))).toBeCloseTo(0.2, 2);
    for (const count of counts) expect(Math.abs(count - n / 8)).toBeLessThan(300);
    const rings = samplePoints(distributions.rings, n, random(5));
    const onRing = [0, 0, 0];
    for (let i = 0; i < 2 * n; i += 2) onRing[Math.round(Math.hypot(rings[i], rings[i + 1]) / 0.7) - 1]++;
    onRing.forEach((count, ring) => expect(Math.abs(count / n - (ring + 1) / 6)).toBeLessThan(0.01));
  });

  it('load as data sets with other points held out', async () => {
    const set = await loadDataset('moons', { count: 1000, heldOut: 500, seed: 3 });
    expect(set).toMatchObject({
      name: 'moons',
      kind: 'points',
      shape: [2],
      count: 1000,
      classes: 0,
      range: [-2.5, 2.5],
    });
    expect([set.values.length, set.heldOut.count, set.heldOut.values.length]).toEqual([2000, 500, 1000]);
    expect(set.heldOut.values.slice(0, 100)).not.toEqual(set.values.slice(0, 100));
    expect((await loadDataset('moons', { count: 10, seed: 3 })).values).toEqual(set.values.slice(0, 20));
    expect((await loadDataset('checkerboard')).count).toBe(131072);
  });
});

describe('shapes', () => {
  it('are labelled in turn, repeatable, and image i does not depend on the count', async () => {
    for (const [name, shape] of [
      ['shapes28', [1, 28, 28]],
      ['shapes32', [3, 32, 32]],
    ] as const) {
      const set = await loadDataset(name, { count: 60, heldOut: 20, seed: 1, range: [0, 1] });
      expect(set).toMatchObject({ name, kind: 'images', shape, count: 60, classes: 10, range: [0, 1] });
      expect(set.values).toBeInstanceOf(Uint8Array);
      expect(Array.from(set.labels!.subarray(0, 12))).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1]);
      const fewer = await loadDataset(name, { count: 7, heldOut: 1, seed: 1 });
      expect(fewer.values).toEqual(set.values.slice(0, fewer.values.length));
      expect(set.heldOut.values.slice(0, 784)).not.toEqual(set.values.slice(0, 784));
      expect((await loadDataset(name, { count: 7, heldOut: 1, seed: 2 })).values).not.toEqual(fewer.values);
    }
  });

  it('cover the area that their geometry says, with smooth edges', () => {
    const arm = 0.3;
    const lens = (() => {
      // Area of the overlap of circles of radius 1 and 0.75 at distance 0.55.
      const [r, q, d] = [1, 0.75, 0.55];
      const first = r * r * Math.acos((d * d + r * r - q * q) / (2 * d * r));
      const second = q * q * Math.acos((d * d + q * q - r * r) / (2 * d * q));
      return first + second - Math.sqrt((r + q - d) * (d + q - r) * (d + r - q) * (d + r + q)) / 2;
    })();
    const regular = (corners: number) => (corners / 2) * Math.sin((2 * Math.PI) / corners);
    const areas: Record<string, number> = {
      circle: Math.PI,
      ring: Math.PI * (1 - 0.36),
      square: regular(4),
      triangle: regular(3),
      pentagon: regular(5),
      star: 5 * 0.4 * Math.sin(Math.PI / 5),
      cross: 8 * arm * Math.sqrt(1 - arm * arm) - 4 * arm * arm,
      bar: 4 * 0.96 * 0.28,
      crescent: Math.PI - lens,
      'half disc': Math.PI / 2,
    };
    expect(Object.keys(areas)).toEqual(shapeNames);
    const count = 300;
    const side = 64;
    const { values, labels } = sampleShapes([1, side, side], count, 5, 0);
    const found = shapeNames.map(() => 0);
    for (let i = 0; i < count; i++) {
      const image = (values as Uint8Array).subarray(i * side * side, (i + 1) * side * side);
      const ink = image.reduce((a, b) => Math.max(a, b), 0);
      expect(ink).toBeGreaterThanOrEqual(Math.round(0.6 * 255) - 1);
      expect(image.some((value) => value > 0.1 * ink && value < 0.9 * ink)).toBe(true);
      found[labels![i]] += image.reduce((a, b) => a + b, 0) / ink / side ** 2 / (count / 10);
    }
    // E[radius²] for a radius uniform in [0.22, 0.42]; 40 draws a class know it to a few percent.
    const square = (0.42 ** 3 - 0.22 ** 3) / 3 / 0.2;
    shapeNames.forEach((name, i) => expect(Math.abs(found[i] / (areas[name] * square) - 1)).toBeLessThan(0.2));
  });

  it('differ by class more than noise: nearest neighbour beats chance by far', () => {
    const train = sampleShapes([1, 28, 28], 2000, 6, 0);
    const test = sampleShapes([1, 28, 28], 60, 6, 1);
    let right = 0;
    for (let i = 0; i < test.count; i++) {
      let [best, label] = [Infinity, -1];
      for (let j = 0; j < train.count; j++) {
        let distance = 0;
        for (let k = 0; k < 784; k++) distance += (test.values[i * 784 + k] - train.values[j * 784 + k]) ** 2;
        if (distance < best) [best, label] = [distance, train.labels![j]];
      }
      if (label === test.labels![i]) right++;
    }
    expect(right / test.count).toBeGreaterThan(0.3);
  });
});

describe('IDX files', () => {
  const images = idx(2051, [5, 3, 2], pixels(5));
  const labels = idx(2049, [5], [3, 1, 4, 1, 5]);

  const read = (bytes: Uint8Array, name = 'file-images-idx3-ubyte') =>
    readDataset(oneFile(name, bytes), { heldOut: 1 });

  it('are read plain and gzipped, of every type', async () => {
    expect({ ...parseIdx(images, 'x'), values: [...parseIdx(images, 'x').values] }).toEqual({
      shape: [5, 3, 2],
      values: pixels(5),
    });
    for (const bytes of [images, gzipSync(images)]) {
      const set = await read(bytes);
      expect([...set.values, ...set.heldOut.values].sort((a, b) => a - b)).toEqual(pixels(5).sort((a, b) => a - b));
    }
    expect([...parseIdx(labels, 'y').values]).toEqual([3, 1, 4, 1, 5]);
    const floats = Buffer.concat([
      idx(0xd02, [2, 2], []),
      Buffer.from([0x3f, 0x80, 0, 0, 0xc0, 0, 0, 0].concat(Array(8).fill(0))),
    ]);
    expect(parseIdx(floats, 'x')).toEqual({ shape: [2, 2], values: Float32Array.of(1, -2, 0, 0) });
    expect([...parseIdx(idx(0xb01, [2], [255, 254, 1, 2]), 'x').values]).toEqual([-2, 258]);
  });

  it.each<[string, Buffer, RegExp]>([
    ['empty', Buffer.alloc(0), /0 bytes are too few|not an IDX/],
    ['three bytes', images.subarray(0, 3), /3 bytes are too few/],
    ['header cut', images.subarray(0, 11), /11 bytes are too few/],
    ['labels for images', labels, /it holds labels/],
    [
      'a PNG',
      Buffer.from([0x89, 0x50, 0x4e, 0x47, 13, 10, 26, 10, 0, 0, 0, 13, 73, 72, 68, 82, 0]),
      /magic number is 2303741511/,
    ],
    ['an unknown type', idx(0xf03, [1, 1, 1], [0, 0, 0, 0]), /magic number is 3843/],
    ['one byte short', images.subarray(0, -1), /5x3x2 take 46 bytes, the file has only 45/],
    ['one byte more', Buffer.concat([images, Buffer.from([0])]), /has more/],
    ['no images', idx(2051, [0, 28, 28], []), /holds 0 images/],
    ['no pixels', idx(2051, [5, 0, 28], []), /holds 5 images of 0x28/],
    ['huge extents', idx(2051, [0xffffffff, 0xffffffff, 0xffffffff], [1]), /the file has only 17/],
    ['gzip cut', gzipSync(images).subarray(0, -6), /damaged or cut off/],
    ['gzip of junk', Buffer.concat([Buffer.from([0x1f, 0x8b, 8]), Buffer.alloc(30, 7)]), /damaged or cut off/],
    ['gzip of labels', gzipSync(labels), /it holds labels/],
    ['gzip of nothing', gzipSync(Buffer.alloc(0)), /too few/],
    ['gzip that swells', gzipSync(Buffer.concat([images, Buffer.alloc(50_000_000)])), /has more/],
    [
      'gzip with a flipped bit',
      Buffer.from(gzipSync(images).map((byte, i, all) => (i === all.length - 5 ? byte ^ 1 : byte))),
      /damaged/,
    ],
  ])('%s is refused', async (_, bytes, expected) => {
    const message = await messageOf(read(bytes));
    expect(message).toMatch(/^file-images-idx3-ubyte: /);
    expect(message).toMatch(expected);
  });

  it('a file alone splits by the seed, labels following their images', async () => {
    const own = join(folder, 'alone');
    await mkdir(own);
    const values = Array.from({ length: 50 * 6 }, (_, i) => Math.floor(i / 6));
    const path = join(own, 'my-images-idx3-ubyte.gz');
    await writeFile(path, gzipSync(idx(2051, [50, 3, 2], values)));
    const bare = await loadDataset(path);
    expect(bare).toMatchObject({ kind: 'images', shape: [1, 3, 2], count: 45, classes: 0, range: [-1, 1] });
    expect('labels' in bare).toBe(false);
    await writeFile(
      join(own, 'my-labels-idx1-ubyte'),
      idx(
        2049,
        [50],
        Array.from({ length: 50 }, (_, i) => i),
      ),
    );
    const set = await loadDataset(path, { heldOut: 8, seed: 4 });
    expect([set.count, set.heldOut.count, set.classes]).toEqual([42, 8, 50]);
    for (const part of [set, set.heldOut]) {
      expect([...part.labels!]).toEqual(Array.from({ length: part.count }, (_, i) => part.values[6 * i]));
    }
    expect([...set.labels!, ...set.heldOut.labels!].sort((a, b) => a - b)).toEqual(
      Array.from({ length: 50 }, (_, i) => i),
    );
    expect(await loadDataset(path, { heldOut: 8, seed: 4 })).toEqual(set);
    expect((await loadDataset(path, { heldOut: 8, seed: 5 })).heldOut.labels).not.toEqual(set.heldOut.labels);
    for (const heldOut of [0, 50, -1, 2.5])
      expect(await messageOf(loadDataset(path, { heldOut }))).toMatch(/cannot be held out/);
    await writeFile(join(own, 'my-labels-idx1-ubyte'), idx(2049, [49], pixels(49, 1, 1)));
    expect(await messageOf(loadDataset(path))).toMatch(/49 labels for 50 samples/);
  });

  it('a folder uses its test files, and says what does not fit', async () => {
    const own = join(folder, 'folder');
    await mkdir(own);
    expect(await messageOf(loadDataset(own))).toMatch(/holds no files; give another/);
    await writeFile(join(own, 'train-images-idx3-ubyte'), images);
    await writeFile(join(own, 't10k-images-idx3-ubyte.gz'), gzipSync(idx(2051, [4, 3, 2], pixels(4))));
    expect(await loadDataset(own)).toMatchObject({ name: 'folder', count: 5, classes: 0, heldOut: { count: 4 } });
    await writeFile(join(own, 'train-labels-idx1-ubyte'), labels);
    expect(await messageOf(loadDataset(own))).toMatch(/only the training images have labels/);
    await writeFile(join(own, 't10k-labels-idx1-ubyte'), idx(2049, [4], [0, 9, 2, 3]));
    const set = await loadDataset(own);
    expect([set.classes, [...set.labels!], [...set.heldOut.labels!]]).toEqual([10, [3, 1, 4, 1, 5], [0, 9, 2, 3]]);
    await writeFile(join(own, 't10k-images-idx3-ubyte.gz'), gzipSync(idx(2051, [4, 2, 3], pixels(4))));
    expect(await messageOf(loadDataset(own))).toMatch(/2x3 do not fit the training images of 3x2/);
    await writeFile(join(own, 't10k-images-idx3-ubyte.gz'), gzipSync(labels));
    expect(await messageOf(loadDataset(own))).toMatch(/t10k-images-idx3-ubyte\.gz: it holds labels/);
  });

  it('an unknown name lists the names; odd numbers are refused', async () => {
    const message = await messageOf(loadDataset('checkerbord'));
    for (const name of datasetNames) expect(message).toContain(name);
    expect(await messageOf(loadDataset('moons', { count: 0 }))).toMatch(/count/);
    expect(await messageOf(loadDataset('toString'))).toMatch(/no data set/);
  });

  const shared = '../shared/data';
  const found = existsSync(shared);
  if (!found) console.log(`${shared} is missing: the public image sets are not read`);
  it.skipIf(!found)('the public sets are whole', async () => {
    let labels = new Uint32Array(0);
    for (const name of ['mnist', 'fashion-mnist']) {
      const path = join(shared, name);
      const set = await loadDataset(path);
      expect(set).toMatchObject({ name, shape: [1, 28, 28], count: 60000, classes: 10, heldOut: { count: 10000 } });
      const test = gunzipSync(await readFile(join(path, 't10k-images-idx3-ubyte.gz')));
      expect(
        Buffer.from(set.heldOut.values.buffer, set.heldOut.values.byteOffset, 7_840_000).equals(test.subarray(16)),
      ).toBe(true);
      labels = Uint32Array.from(set.labels!);
    }
    // Fashion-MNIST's classes are of equal size.
    const counts = Array.from({ length: 10 }, () => 0);
    for (const label of labels) counts[label]++;
    expect(counts).toEqual(Array.from({ length: 10 }, () => 6000));
  });
});

describe('files that lie column by column', () => {
  it("EMNIST's pictures are turned upright, by their names, labels beside them", async () => {
    const own = join(folder, 'emnist');
    await mkdir(own);
    // 2 pictures of 3 columns of 2 pixels, from top to bottom.
    const images = idx(2051, [2, 3, 2], [0, 3, 1, 4, 2, 5, 10, 13, 11, 14, 12, 15]);
    const upright = [0, 1, 2, 3, 4, 5, 10, 11, 12, 13, 14, 15];
    for (const [file, test] of [
      ['emnist-letters-train-images-idx3-ubyte', 'emnist-letters-test-images-idx3-ubyte.gz'],
      ['emnist-mnist-train.images.idx3-ubyte', 'emnist-mnist-test.images.idx3-ubyte.gz'],
    ]) {
      const set = join(own, file.slice(0, 10));
      await mkdir(set);
      await writeFile(join(set, file), images);
      await writeFile(join(set, test), gzipSync(images));
      await writeFile(join(set, file.replace('images', 'labels').replace('idx3', 'idx1')), idx(2049, [2], [1, 2]));
      await writeFile(
        join(set, test.replace('images', 'labels').replace('idx3', 'idx1')),
        gzipSync(idx(2049, [2], [2, 1])),
      );
      const found = await loadDataset(set);
      expect([found.shape, [...found.values], [...found.heldOut.values]]).toEqual([[1, 2, 3], upright, upright]);
      expect([found.classes, [...found.labels!]]).toEqual([2, [0, 1]]);
      expect(found.summary).toMatch(/EMNIST's pictures lie column by column and are turned upright/);
      const alone = await loadDataset(join(set, file), { heldOut: 1 });
      expect([alone.shape, [...alone.values, ...alone.heldOut.values].sort((a, b) => a - b)]).toEqual([
        [1, 2, 3],
        upright,
      ]);
    }
  });

  it("STL-10's are too, with classes from 1", async () => {
    const own = join(folder, 'stl10_binary');
    await mkdir(own);
    const area = 96 * 96;
    const pixel = (image: number, plane: number, row: number, column: number) =>
      (image * 50 + plane * 20 + 3 * row + column) & 255;
    const stored = new Uint8Array(2 * 3 * area);
    const want = new Uint8Array(2 * 3 * area);
    for (let i = 0; i < stored.length; i++) {
      const [image, plane, slow, fast] = [3 * area, area, 96, 1].map(
        (step, k) => Math.floor(i / step) % [2, 3, 96, 96][k],
      );
      stored[i] = pixel(image, plane, fast, slow);
      want[i] = pixel(image, plane, slow, fast);
    }
    await writeFile(join(own, 'train_X.bin'), stored);
    await writeFile(join(own, 'train_y.bin'), Uint8Array.of(3, 10));
    await writeFile(join(own, 'test_X.bin'), stored);
    await writeFile(join(own, 'test_y.bin'), Uint8Array.of(1, 1));
    const set = await loadDataset(own);
    expect(set).toMatchObject({ shape: [3, 96, 96], classes: 10, count: 2, heldOut: { count: 2 } });
    expect([Buffer.from(set.values as Uint8Array).equals(want), [...set.labels!]]).toEqual([true, [2, 9]]);
    await writeFile(join(own, 'train_y.bin'), Uint8Array.of(0, 10));
    expect(await messageOf(loadDataset(own))).toMatch(/train_y\.bin: label 0 is 0/);
    await writeFile(join(own, 'train_X.bin'), stored.subarray(1));
    expect(await messageOf(loadDataset(own))).toMatch(/no whole number of STL-10's images/);
  });
});

describe('helpers', () => {
  it('bytes decode to their range', () => {
    expect([...decode(Uint8Array.of(0, 51, 255), [0, 1])]).toEqual([0, Math.fround(0.2), 1]);
    expect([...decode(Uint8Array.of(0, 255), [-1, 1])]).toEqual([-1, 1]);
    const floats = Float32Array.of(3, 4);
    expect(decode(floats, [-1, 1])).toBe(floats);
  });

  it('a split loses and repeats nothing', () => {
    const values = Float32Array.from({ length: 30 }, (_, i) => i);
    const { train, heldOut } = splitHeldOut({ count: 10, values }, 3, 3, 0, 'x');
    expect([...train.values, ...heldOut.values].sort((a, b) => a - b)).toEqual([...values]);
    expect([train.count, heldOut.count]).toEqual([7, 3]);
  });
});

describe('CIFAR-10 batches', () => {
  const record = (label: number, of: number) => [label, ...Array.from({ length: 3072 }, (_, i) => (i * of) % 251)];
  it('a file, a gzipped file, and a folder whose test batch is held out', async () => {
    const own = join(folder, 'cifar');
    await mkdir(own);
    const train = Uint8Array.from([record(3, 5), record(9, 7), record(0, 11)].flat());
    await writeFile(join(own, 'data_batch_1.bin'), train);
    await writeFile(join(own, 'data_batch_2.bin.gz'), gzipSync(train));
    await writeFile(join(own, 'test_batch.bin'), Uint8Array.from(record(6, 13)));
    const set = await loadDataset(own);
    expect(set).toMatchObject({ name: 'cifar', shape: [3, 32, 32], count: 6, classes: 10, heldOut: { count: 1 } });
    expect([...set.labels!]).toEqual([3, 9, 0, 3, 9, 0]);
    expect([...set.values.subarray(3072, 2 * 3072)]).toEqual(record(9, 7).slice(1));
    expect([...set.heldOut.values]).toEqual(record(6, 13).slice(1));
    // What torchvision downloaded lies beside what it unpacked.
    const root = join(folder, 'torchvision-cifar');
    await mkdir(join(root, 'cifar-10-batches-bin'), { recursive: true });
    await writeFile(join(root, 'cifar-10-binary.tar.gz'), gzipSync(train));
    await writeFile(
      join(root, 'cifar-10-batches-bin', 'data_batch_1.bin'),
      Uint8Array.from([record(3, 5), record(1, 7)].flat()),
    );
    expect(await loadDataset(root, { heldOut: 1 })).toMatchObject({ count: 1, classes: 10 });
    const file = await loadDataset(join(own, 'data_batch_2.bin.gz'), { heldOut: 1 });
    expect(file.count + file.heldOut.count).toBe(3);
  });

  it('says what is no such file', async () => {
    const path = join(folder, 'short.bin');
    await writeFile(path, new Uint8Array(3072));
    expect(await messageOf(loadDataset(path))).toMatch(/no whole number of CIFAR-10 records/);
    await writeFile(path, Uint8Array.from(record(10, 3)));
    expect(await messageOf(loadDataset(path))).toMatch(/label 10/);
    await writeFile(path, gzipSync(Uint8Array.from(record(1, 3))).subarray(0, 100));
    expect(await messageOf(loadDataset(path))).toMatch(/damaged/);
  });

  it('pickles for Python 2 and 3, and records of CIFAR-100', async () => {
    const pixels = Uint8Array.from(record(0, 5).slice(1));
    const ints = (values: number[]) => Buffer.concat([Buffer.from(']('), ...values.map(op.int), Buffer.from('e')]);
    const binary = (code: string) => {
      const length = Buffer.alloc(4);
      length.writeUInt32LE(2 * pixels.length);
      return Buffer.concat([Buffer.from(code), length, pixels, pixels]);
    };
    const arrayOf = (content: Buffer) => {
      const made = op.call(
        'numpy.core.multiarray',
        '_reconstruct',
        op.global('numpy', 'ndarray'),
        op.tuple(op.int(0)),
        op.text('b'),
      );
      const dtype = op.call('numpy', 'dtype', op.text('u1'), op.int(0), op.int(1));
      const state = op.tuple(op.int(1), op.tuple(op.int(2), op.int(3072)), dtype, Buffer.from([0x89]), content);
      return Buffer.concat([made, state, op.build]);
    };
    for (const [i, content] of [binary('T'), binary('B')].entries()) {
      const own = join(folder, `cifar-python-${i}`);
      await mkdir(own);
      const batch = (labels: string) => pickle(op.dict({ data: arrayOf(content), [labels]: ints([4, 0]) }));
      await writeFile(join(own, 'data_batch_1'), batch('labels'));
      await writeFile(join(own, 'data_batch_2'), batch('fine_labels'));
      await writeFile(join(own, 'test_batch'), batch('labels'));
      const set = await loadDataset(own);
      expect([set.shape, set.count, [...set.labels!], set.heldOut.count]).toEqual([[3, 32, 32], 4, [4, 0, 4, 0], 2]);
      expect(Buffer.from(set.values.subarray(3072, 6144)).equals(Buffer.from(pixels))).toBe(true);
      await writeFile(join(own, 'data_batch_2'), pickle(op.dict({ data: op.call('os', 'system', op.text('ls')) })));
      expect(await messageOf(loadDataset(own))).toMatch(
        /data_batch_2 is a pickle, but no batch of CIFAR: it holds data/,
      );
    }
    const hundred = join(folder, 'cifar-100');
    await mkdir(hundred);
    await writeFile(join(hundred, 'train.bin'), Uint8Array.from([[3], record(99, 5), [1], record(7, 7)].flat()));
    await writeFile(join(hundred, 'test.bin'), Uint8Array.from([[3], record(42, 5)].flat()));
    const set = await loadDataset(hundred);
    expect([set.classes, [...set.labels!], [...set.heldOut.labels!]]).toEqual([100, [99, 7], [42]]);
  });

  const real = '../shared/data/cifar10/data_batch_1_first4000.bin.gz';
  it.runIf(existsSync(real))('the real images have their own labels in order', async () => {
    const { labels, count, heldOut } = await loadDataset(real, { heldOut: 1 });
    expect(count + heldOut.count).toBe(4000);
    expect([...labels!.subarray(0, 10)]).toEqual([6, 9, 9, 4, 1, 1, 2, 7, 8, 3]);
  });
});

describe('PNG images', () => {
  const png = (data: number[], width: number, height: number, channels: 1 | 2 | 3 | 4) =>
    encode({ width, height, data: Uint8Array.from(data), channels, depth: 8 });

  it('written by another library: grey, RGBA over white, 16 bits', () => {
    const grey = decodePng(png([0, 51, 255, 7, 8, 9], 3, 2, 1), 'x');
    expect(grey).toEqual({ width: 3, height: 2, channels: 1, pixels: Uint8Array.of(0, 51, 255, 7, 8, 9) });
    // 51 of 255 is a fifth: 100 / 5 + 255 * 4 / 5.
    const rgba = decodePng(png([10, 20, 30, 255, 100, 0, 200, 51], 2, 1, 4), 'x');
    expect([...rgba.pixels]).toEqual([10, 20, 30, 224, 204, 244]);
    const words = encode({ width: 2, height: 1, data: Uint16Array.of(65535, 257 * 3), channels: 1, depth: 16 });
    expect([...decodePng(words, 'x').pixels]).toEqual([255, 3]);
  });

  it('every colour type, depth, filter, interlacing and transparent colour', () => {
    let seen = 0;
    for (const kind of pngKinds()) {
      const { bytes, picture, name } = makePng(kind, random(seen));
      const read = decodePng(bytes, name);
      expect([name, read.width, read.height, read.channels]).toEqual([
        name,
        picture.width,
        picture.height,
        picture.channels,
      ]);
      const worst = read.pixels.reduce((most, value, i) => Math.max(most, Math.abs(value - picture.pixels[i])), 0);
      expect(`${name} is off by ${worst}`).toBe(`${name} is off by 0`);
      seen++;
    }
    expect(seen).toBeGreaterThan(100);
  });

  it('no flipped bit, cut or lie about its size goes unnoticed', () => {
    const { bytes, picture } = makePng(
      { type: 2, depth: 8, interlaced: true, clear: true, width: 9, height: 7 },
      random(1),
    );
    for (let bit = 0; bit < 8 * bytes.length; bit++) {
      const damaged = Uint8Array.from(bytes);
      damaged[bit >> 3] ^= 1 << (bit & 7);
      expect(() => decodePng(damaged, 'x.png')).toThrow(/^x\.png cannot be read as PNG: /);
    }
    for (let length = 0; length < bytes.length; length++)
      expect(() => decodePng(bytes.subarray(0, length), 'x.png')).toThrow(UserError);
    expect(decodePng(Buffer.concat([bytes, Buffer.from('behind the end')]), 'x.png').pixels).toEqual(picture.pixels);
    const header = Buffer.alloc(13);
    header.writeUInt32BE(100_000, 0);
    header.writeUInt32BE(100_000, 4);
    header.set([8, 6, 0, 0, 0], 8);
    const huge = [pngSignature, chunk('IHDR', header), chunk('IDAT', deflateSync(Buffer.alloc(100))), chunk('IEND')];
    expect(() => decodePng(Buffer.concat(huge), 'x.png')).toThrow(/do not fill it/);
    expect(() => decodePng(Uint8Array.of(0xff, 0xd8, 0xff, 0xe0), 'x.png')).toThrow(/it is a JPEG/);
  });

  it('a folder of one size, its folders as classes; anything else is named', async () => {
    const own = join(folder, 'pngs');
    for (const name of ['', 'b', 'a']) await mkdir(join(own, name), { recursive: true });
    await writeFile(join(own, 'a', '1.png'), png([1, 2], 2, 1, 1));
    await writeFile(join(own, 'a', '2.png'), png([1, 2, 3, 4, 5, 6], 2, 1, 3));
    await writeFile(join(own, 'b', '1.PNG'), png([9, 8], 2, 1, 1));
    const set = await loadDataset(own, { heldOut: 1 });
    expect(set).toMatchObject({ shape: [3, 1, 2], classes: 2, count: 2 });
    const all = new Map<string, number>();
    for (const { values, labels, count } of [set, set.heldOut])
      for (let i = 0; i < count; i++) all.set([...values.subarray(6 * i, 6 * i + 6)].join(), labels![i]);
    // Planes one after another, grey in all three.
    expect(all).toEqual(
      new Map([
        ['1,2,1,2,1,2', 0],
        ['1,4,2,5,3,6', 0],
        ['9,8,9,8,9,8', 1],
      ]),
    );
    await writeFile(join(own, 'b', '2.png'), png([9, 8, 7], 3, 1, 1));
    expect(await messageOf(loadDataset(own))).toMatch(/2\.png is 1x3.*images of one size/);
    await writeFile(join(own, 'b', '2.png'), 'no PNG');
    expect(await messageOf(loadDataset(own))).toMatch(/2\.png is no picture: it is plain text/);
  });
});

/** A NumPy file put together by hand, format 1.0. */
function npy(descr: string, shape: readonly number[], data: Uint8Array, fortran = false): Buffer {
  const tuple = `(${shape.join(', ')}${shape.length === 1 ? ',' : ''})`;
  const header = `{'descr': '${descr}', 'fortran_order': ${fortran ? 'True' : 'False'}, 'shape': ${tuple}, }`;
  const padded = header.padEnd(Math.ceil((header.length + 11) / 64) * 64 - 11) + '\n';
  const length = Buffer.alloc(2);
  length.writeUInt16LE(padded.length);
  return Buffer.concat([Buffer.from('\x93NUMPY\x01\0', 'latin1'), length, Buffer.from(padded), data]);
}

/** Elements as bytes of a kind, the high byte first or last. */
function elements(kind: string, values: readonly number[], big = false): Uint8Array {
  const size = Number(kind[1]);
  const bytes = new Uint8Array(size * values.length);
  const view = new DataView(bytes.buffer);
  const write: Record<string, (at: number, value: number) => void> = {
    b1: (at, value) => view.setUint8(at, value),
    u1: (at, value) => view.setUint8(at, value),
    i1: (at, value) => view.setInt8(at, value),
    u2: (at, value) => view.setUint16(at, value, !big),
    i2: (at, value) => view.setInt16(at, value, !big),
    u4: (at, value) => view.setUint32(at, value, !big),
    i4: (at, value) => view.setInt32(at, value, !big),
    u8: (at, value) => view.setBigUint64(at, BigInt(value), !big),
    i8: (at, value) => view.setBigInt64(at, BigInt(value), !big),
    f2: (at, value) => view.setUint16(at, new Uint16Array(Float16Array.of(value).buffer)[0], !big),
    f4: (at, value) => view.setFloat32(at, value, !big),
    f8: (at, value) => view.setFloat64(at, value, !big),
  };
  values.forEach((value, i) => write[kind](i * size, value));
  return bytes;
}

const whole = ['u1', 'u2', 'i2', 'u4', 'i4', 'u8', 'i8'];
const real = ['f2', 'f4', 'f8'];
const bothOrders = (kinds: readonly string[]) =>
  kinds.flatMap((kind) => (kind[1] === '1' ? [`|${kind}`] : [`<${kind}`, `>${kind}`]));

describe('NumPy files', () => {
  const levels = [0, 1, 3, 128, 200, 255, 17, 90, 41, 250, 2, 66];
  const read = async (bytes: Uint8Array, options = {}, name = 'x.npy') => {
    const set = await readDataset(oneFile(name, bytes), { heldOut: 1, ...options });
    const { values, heldOut, range } = set;
    return { set, values: [...decode(values, range), ...decode(heldOut.values, range)].sort((a, b) => a - b) };
  };
  const expected = (range: readonly [number, number]) =>
    levels.map((level) => range[0] + (level / 255) * (range[1] - range[0])).sort((a, b) => a - b);

  it('the same pixels in every type, byte order and range are the same data', async () => {
    const forms: [string, number[], number][] = [
      ...bothOrders([...whole, 'f2', 'f4', 'f8']).map((descr): [string, number[], number] => [descr, levels, 255]),
      ...bothOrders(real).map((descr): [string, number[], number] => [descr, levels.map((v) => v / 255), 1]),
      ...bothOrders(real).map((descr): [string, number[], number] => [descr, levels.map((v) => v / 127.5 - 1), -1]),
      ...bothOrders(['u2']).map((descr): [string, number[], number] => [descr, levels.map((v) => v * 257), 65535]),
    ];
    for (const [descr, pixels, top] of forms)
      for (const range of [
        [-1, 1],
        [0, 1],
      ] as const) {
        const bytes = npy(descr, [3, 2, 2], elements(descr.slice(1), pixels, descr[0] === '>'));
        const { values, set } = await read(bytes, { range });
        const want = expected(range);
        const tolerance = descr.endsWith('f2') ? 1e-3 : 1e-6;
        values.forEach((value, i) => expect(Math.abs(value - want[i]), `${descr}, top ${top}`).toBeLessThan(tolerance));
        expect(set).toMatchObject({ kind: 'images', shape: [1, 2, 2], range });
        expect(set.summary).toContain(top === 255 ? 'of 0 … 255' : top < 0 ? 'of -1 … 1' : `of 0 … ${top}`);
      }
    const masks = npy(
      '|b1',
      [3, 2, 2],
      elements(
        'b1',
        levels.map((v) => Number(v > 100)),
      ),
    );
    expect(new Set((await read(masks)).values)).toEqual(new Set([-1, 1]));
    expect(
      (
        await read(
          npy(
            '<i8',
            [3, 2, 2],
            elements(
              'i8',
              levels.map((v) => v & 1),
            ),
          ),
        )
      ).values.at(-1),
    ).toBe(1);
  });

  it('pixels that fit no range are refused, unless one is declared', async () => {
    const cases: [string, number[]][] = [
      ['<f4', [-2.1, 2.6, 0, 1]],
      ['<f4', [0, 300, 1, 2]],
      ['<f4', [0, 1.7, 0.5, 1]],
      ['<f8', [0, 16, 3, 4]],
      ['<i4', [-3, 250, 1, 2]],
      ['<i8', [0, 100_000, 1, 2]],
      ['<u2', [0, 4095, 1, 2]],
      ['|i1', [-128, 127, 1, 2]],
    ];
    for (const [descr, pixels] of cases) {
      const bytes = npy(descr, [2, 1, 2], elements(descr.slice(1), pixels));
      expect(await messageOf(read(bytes))).toMatch(/x\.npy: pixels run from .* to .*declare/);
      const [low, high] = [Math.min(...pixels), Math.max(...pixels)];
      const { values } = await read(bytes, { pixels: [low, high] });
      expect(values[0]).toBeCloseTo(-1, 6);
      expect(values.at(-1)).toBeCloseTo(1, 6);
      expect(await messageOf(read(bytes, { pixels: [low, high - 0.4] }))).toMatch(/outside of/);
      const inside = zipSync({
        'x.npy': bytes,
        'range.npy': npy('<f8', [2], elements('f8', [low, high])),
      });
      expect((await read(inside, {}, 'x.npz')).values).toEqual(values);
    }
    for (const bad of [NaN, Infinity, -Infinity])
      for (const shape of [
        [2, 1, 3],
        [2, 3],
      ])
        expect(await messageOf(read(npy('<f4', shape, elements('f4', [0, 0.5, 1, 0, bad, 1]))))).toMatch(
          /sample 1 holds/,
        );
  });

  it('images with channels first, last or none, in both orders, and points', async () => {
    const value = (n: number, c: number, y: number, x: number) => (((n * 7 + c) * 5 + y) * 3 + x) & 255;
    const cases = [
      { axes: 'nchw', extents: { n: 3, c: 3, h: 4, w: 5 } },
      { axes: 'nhwc', extents: { n: 3, c: 3, h: 4, w: 5 } },
      { axes: 'nhw', extents: { n: 2, c: 1, h: 4, w: 5 } },
      { axes: 'nchw', extents: { n: 2, c: 1, h: 5, w: 4 } },
      { axes: 'nhwc', extents: { n: 2, c: 1, h: 5, w: 4 } },
      { axes: 'nchw', extents: { n: 2, c: 2, h: 4, w: 5 } },
    ];
    for (const { axes, extents } of cases)
      for (const fortran of [false, true]) {
        const shape = [...axes].map((axis) => extents[axis as 'n']);
        const data: number[] = [];
        const walk = (order: string, index: Record<string, number>) => {
          if (!order) data.push(value(index.n, index.c ?? 0, index.h, index.w));
          else for (let i = 0; i < extents[order[0] as 'n']; i++) walk(order.slice(1), { ...index, [order[0]]: i });
        };
        walk(fortran ? [...axes].reverse().join('') : axes, {});
        const { set } = await read(npy('|u1', shape, Uint8Array.from(data), fortran));
        const { c, h, w, n } = extents;
        expect(set.shape).toEqual([c, h, w]);
        const all = [...set.values, ...set.heldOut.values];
        const images = Array.from({ length: n }, (_, i) => all.slice(i * c * h * w, (i + 1) * c * h * w).join());
        const want = Array.from({ length: n }, (_, i) =>
          Array.from({ length: c * h * w }, (_, k) =>
            value(i, Math.floor(k / (h * w)), Math.floor(k / w) % h, k % w),
          ).join(),
        );
        expect([axes, fortran, ...images.sort()]).toEqual([axes, fortran, ...want.sort()]);
      }
    const points = await read(
      npy(
        '<f8',
        [7, 2],
        elements(
          'f8',
          Array.from({ length: 14 }, (_, i) => i / 2),
        ),
      ),
    );
    expect(points.set).toMatchObject({ kind: 'points', shape: [2], range: [0, 6.5], count: 6 });
    const alike = await read(npy('<f4', [7, 2], elements('f4', Array(14).fill(3))));
    expect(alike.set.range[0]).toBeLessThan(alike.set.range[1]);
    const latents = await read(
      npy(
        '<f4',
        [3, 4, 5, 5],
        elements(
          'f4',
          Array.from({ length: 300 }, (_, i) => Math.sin(i) * 4),
        ),
      ),
    );
    expect(latents.set.shape).toEqual([4, 5, 5]);
    expect(latents.set.summary).toMatch(/4 channels are no colours: values as they are/);
    const rgba = await read(
      npy('|u1', [2, 2, 1, 4], Uint8Array.of(100, 0, 200, 51, 10, 20, 30, 255, 0, 0, 0, 0, 1, 2, 3, 255)),
    );
    expect(rgba.set.shape).toEqual([3, 2, 1]);
    const bytes = [...rgba.set.values, ...rgba.set.heldOut.values].sort((a, b) => a - b);
    expect(bytes).toEqual([1, 2, 3, 10, 20, 30, 204, 224, 244, 255, 255, 255]);
  });

  it('archives under the names of other libraries, folders of arrays', async () => {
    const x = npy(
      '|u1',
      [4, 2, 2],
      Uint8Array.from({ length: 16 }, (_, i) => 16 * i),
    );
    const y = npy('<i8', [4], elements('i8', [0, 2, 1, 2]));
    const column = npy('<i8', [4, 1], elements('i8', [0, 2, 1, 2]));
    for (const [a, b, c, d] of [
      ['x', 'y'],
      ['images', 'labels'],
      ['arr_0', 'arr_1'],
      ['x_train', 'y_train', 'x_test', 'y_test'],
      ['train_images', 'train_labels', 'test_images', 'test_labels'],
    ]) {
      const held = c ? { [`${c}.npy`]: x, [`${d}.npy`]: column } : {};
      const { set } = await read(zipSync({ [`${a}.npy`]: x, [`${b}.npy`]: y, ...held }), {}, 'a.npz');
      expect([set.classes, set.count, set.heldOut.count]).toEqual(c ? [3, 4, 4] : [3, 3, 1]);
    }
    const own = join(folder, 'arrays');
    await mkdir(own);
    await writeFile(join(own, 'x.npy'), x);
    await writeFile(join(own, 'y.npy'), column);
    await writeFile(join(own, 'notes.txt'), 'mine');
    const set = await loadDataset(own, { heldOut: 1 });
    expect([set.classes, set.count]).toEqual([3, 3]);
    expect(set.summary).toMatch(/passed over: notes\.txt/);
  });

  it('under any capitals, alone under any name, of Python 2, and latents of three channels', async () => {
    const values = [0, 51, 102, 255, 9, 8, 7, 6];
    const x = npy('|u1', [2, 2, 2], Uint8Array.from(values));
    const want = [...(await read(x)).values];
    for (const files of <Record<string, Uint8Array>[]>[
      { 'X_Train.npy': x, 'Y_train.npy': npy('<i8', [2], elements('i8', [1, 0])) },
      { 'train-images.npy': x, 'notes.npy': npy('|u1', [1], Uint8Array.of(1)) },
      { 'digits.npy': x },
    ])
      expect((await read(zipSync(files), {}, 'a.npz')).values).toEqual(want);
    const old = Buffer.from(Buffer.from(x).toString('latin1').replace('(2, 2, 2), }   ', '(2L, 2L, 2L), }'), 'latin1');
    expect(old).not.toEqual(x);
    expect((await read(old)).values).toEqual(want);
    const latents = npy('<f4', [2, 3, 1, 2], elements('f4', [-7, 2, 3, 4, 5, 6, 1, 2, 3, 4, 5, 8]));
    expect(await messageOf(read(latents))).toMatch(/or that they are no pixels/);
    const taken = await read(latents, { pixels: 'none' });
    expect([taken.set.shape, taken.set.range, taken.values]).toEqual([
      [3, 1, 2],
      [-7, 8],
      [-7, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 8],
    ]);
  });

  it('what is wrong with others', async () => {
    const x = npy('|u1', [3, 2, 2], new Uint8Array(12));
    const labels = npy('<f4', [4], elements('f4', [0, 1, 2, 3]));
    const archive = (files: Record<string, Uint8Array>) => zipSync(files);
    const cases: [string, Uint8Array, RegExp][] = [
      ['a.npz', archive({ 'images.npy': x, 'labels.npy': labels }), /4 labels for 3/],
      ['b.npz', archive({ 'other.npy': x, 'more.npy': x }), /holds other, more: samples are looked for/],
      ['c.npz', archive({ 'mu.npy': x, 'sigma.npy': x }), /statistics of a Fréchet distance/],
      ['d.npz', Buffer.alloc(50), /d\.npz is not a \.npz/],
      ['e.npy', x.subarray(0, -1), /are announced/],
      ['f.npy', Buffer.concat([x, Buffer.alloc(1)]), /1 bytes lie behind/],
      ['g.npy', new Uint8Array(200), /not a \.np/],
      ['h.npy', npy('|O', [3], new Uint8Array(24)), /Python objects, which are not opened/],
      ['i.npy', npy('<c8', [3], new Uint8Array(24)), /holds '<c8'/],
      ['j.npy', npy('|u1', [200], new Uint8Array(200)), /images are \[n, h, w\]/],
      ['k.npy', npy('|u1', [0, 2, 2], new Uint8Array(0)), /no samples/],
      ['l.npy', npy('|u1', [1, 2, 2], new Uint8Array(4)), /holds 1 sample; two are needed/],
      ['m.npy', npy('<f4', [2 ** 31, 2 ** 31], new Uint8Array(4)), /are announced/],
      ['n.npy', npy('<u8', [2, 1], elements('u8', [2 ** 60, 0])), /beyond 2\^53/],
    ];
    for (const [name, bytes, message] of cases) expect(await messageOf(read(bytes, {}, name))).toMatch(message);
  });
});

describe('labels', () => {
  const load = (values: readonly number[], shape = [values.length], kind = 'f8') => {
    const count = shape[0];
    const x = npy(
      '|u1',
      [count, 1, 1],
      Uint8Array.from({ length: count }, (_, i) => 200 + i),
    );
    const bytes = zipSync({ 'x.npy': x, 'y.npy': npy(`<${kind}`, shape, elements(kind, values)) });
    return readDataset(oneFile('l.npz', bytes), { heldOut: 1 });
  };
  /** Labels in the order of their samples. */
  const labelsOf = (set: Dataset) => {
    const pairs = [set, set.heldOut].flatMap(({ values, labels }) => Array.from(values, (v, i) => [v, labels![i]]));
    return pairs.sort(([a], [b]) => a - b).map(([, label]) => label);
  };

  it('from 0 stay as they are, from 1 and far apart are numbered anew, and it is said', async () => {
    const plain = await load([0, 1, 2, 1]);
    expect([plain.classes, labelsOf(plain)]).toEqual([3, [0, 1, 2, 1]]);
    const gap = await load([0, 1, 3, 1]);
    expect([gap.classes, labelsOf(gap)]).toEqual([4, [0, 1, 3, 1]]);
    expect(gap.summary).toMatch(/1 of 4 classes have no samples \(2\)/);
    const fromOne = await load([1, 3, 2, 3], [4], 'i4');
    expect([fromOne.classes, labelsOf(fromOne)]).toEqual([3, [0, 2, 1, 2]]);
    expect(fromOne.summary).toMatch(/labels 1 … 3 are taken as classes 0 … 2/);
    for (const far of [1e9, 2 ** 40]) {
      const set = await load([far, 5, 7, 5], [4], 'i8');
      expect([set.classes, labelsOf(set)]).toEqual([3, [2, 0, 1, 0]]);
      expect(set.summary).toMatch(/3 different labels from 5 to \d+ are taken as classes 0 … 2/);
    }
    const rows = await load([0, 1, 0, 0, 0, 1, 1, 0, 0], [3, 3]);
    expect([rows.classes, labelsOf(rows)]).toEqual([3, [1, 2, 0]]);
  });

  it('that are no classes are refused', async () => {
    for (const bad of [-1, 0.5, NaN, Infinity, 1e300])
      expect(await messageOf(load([0, bad, 1]))).toMatch(/label 1 is .*classes are whole numbers from 0/);
    expect(await messageOf(load([1, 1, 0, 0, 0, 1], [2, 3]))).toMatch(/no single class to sample 0/);
    expect(await messageOf(load([0.2, 0.8, 0, 0, 0, 1], [2, 3]))).toMatch(/no single class to sample 0/);
  });
});

describe('folders of pictures', () => {
  const grey = (value: number) =>
    encode({ width: 2, height: 2, data: new Uint8Array(4).fill(value), channels: 1, depth: 8 });
  let made = 0;
  const folderOf = async (files: Record<string, Uint8Array | string>) => {
    const own = join(folder, `pictures${made++}`);
    for (const [path, content] of Object.entries(files)) {
      await mkdir(dirname(join(own, path)), { recursive: true });
      await writeFile(join(own, path), content);
    }
    return own;
  };
  /** Which label each grey value has, for held-out and other pictures alike. */
  const labelled = (set: Dataset) =>
    Object.fromEntries(
      [set, set.heldOut].flatMap(({ values, labels, count }) =>
        Array.from({ length: count }, (_, i) => [values[4 * i], labels?.[i]]),
      ),
    );
  const load = (own: string) => loadDataset(own, { heldOut: 1 });

  it('say what they pass over', async () => {
    const set = await load(
      await folderOf({
        'a.png': grey(1),
        'b.png': grey(2),
        'c.doc': 'x',
        'd.DOCX': 'x',
        'e.doc': 'x',
        '.DS_Store': 'x',
        'readme.txt': '',
      }),
    );
    expect(set.summary).toMatch(/passed over: 2 \.doc, d\.DOCX, readme\.txt/);
    const beside = await load(await folderOf({ 'cat/1.png': grey(1), 'dog/1.png': grey(2), 'preview.png': grey(3) }));
    expect([beside.classes, labelled(beside)]).toEqual([2, { 1: 0, 2: 1 }]);
    expect(beside.summary).toMatch(
      /passed over: 1 pictures beside the folders of classes, such as preview\.png.*classes: cat, dog/,
    );
    expect(await messageOf(load(await folderOf({ 'a.jpg': 'x', 'b.jpg': 'x' })))).toMatch(/a\.jpg is no picture: /);
  });

  it('take labels from dataset.json and metadata.jsonl rather than from folders', async () => {
    const shards = { '00000/a.png': grey(1), '00000/b.png': grey(2), '00001/c.png': grey(3) };
    const list = (labels: unknown) => JSON.stringify({ labels });
    const style = await load(
      await folderOf({
        ...shards,
        'dataset.json': list([
          ['00000/a.png', 2],
          ['00000/b.png', 0],
          ['00001/c.png', 1],
        ]),
      }),
    );
    expect([style.classes, labelled(style)]).toEqual([3, { 1: 2, 2: 0, 3: 1 }]);
    expect(style.summary).toMatch(/labels from dataset\.json/);
    const none = await load(await folderOf({ ...shards, 'dataset.json': list(null) }));
    expect([none.classes, none.labels]).toEqual([0, undefined]);
    const some = await load(
      await folderOf({ ...shards, 'dataset.json': list({ '00000/a.png': 1, '00001/c.png': 0 }) }),
    );
    expect(labelled(some)).toEqual({ 1: 1, 3: 0 });
    expect(some.summary).toMatch(/1 pictures that dataset\.json has no label for/);
    const lines = ['a', 'b']
      .map((name, i) => JSON.stringify({ file_name: `${name}.png`, label: ['dog', 'cat'][i] }))
      .join('\n');
    const face = await load(await folderOf({ 'a.png': grey(1), 'b.png': grey(2), 'metadata.jsonl': lines }));
    expect(labelled(face)).toEqual({ 1: 1, 2: 0 });
    for (const bad of ['{', '[]x', list([['00000/a.png', {}]]), list(3), list([['other.png', 0]])])
      await messageOf(
        load(await folderOf({ ...shards, 'dataset.json': bad }))
          .then((set) => expect(set.labels).toBeUndefined())
          .then(() => {
            throw new UserError('no labels');
          }),
      );
  });

  it('hold out what lies in val or test, and follow links once', async () => {
    const own = await folderOf({
      'train/cat/1.png': grey(1),
      'train/dog/deeper/2.png': grey(2),
      'val/dog/3.png': grey(3),
      'test/cat/4.png': grey(4),
    });
    await symlink(own, join(own, 'train', 'cat', 'loop'));
    await symlink(join(own, 'val', 'dog', '3.png'), join(own, 'train', 'dog', '5.png'));
    const set = await loadDataset(own);
    expect([set.count, [...set.labels!], set.heldOut.count, [...set.heldOut.labels!]]).toEqual([3, [0, 1, 1], 1, [1]]);
    expect(set.summary).toMatch(/held out are the pictures of val, not those of test.*passed over: test\/cat\/4\.png/);
  });
});

describe('pictures of other kinds and sizes', () => {
  const [height, width] = [20, 30];
  /** Smooth colours, which lossy formats hardly change. */
  const colours = (channels: number) =>
    Uint8Array.from({ length: height * width * channels }, (_, i) => {
      const [at, k] = [Math.floor(i / channels), i % channels];
      return Math.round(40 + k * 60 + 3 * (at % width) + 2 * Math.floor(at / width)) & 255;
    });
  const raw = (channels: 1 | 3 | 4) => sharp(colours(channels), { raw: { width, height, channels } });
  const all = ({ values, heldOut }: Dataset) => [...values, ...heldOut.values] as number[];
  let made = 0;
  const folderOf = async (files: Record<string, Uint8Array | string>) => {
    const own = join(folder, `kinds${made++}`);
    for (const [path, content] of Object.entries(files)) {
      await mkdir(dirname(join(own, path)), { recursive: true });
      await writeFile(join(own, path), content);
    }
    return own;
  };

  it('JPEG, WebP, GIF, TIFF and AVIF are read by what they are, not by their names', async () => {
    const want = [...colours(3)];
    for (const [name, bytes, slack] of [
      ['jpg', await raw(3).jpeg({ quality: 100, chromaSubsampling: '4:4:4' }).toBuffer(), 4],
      ['webp', await raw(3).webp({ lossless: true }).toBuffer(), 0],
      ['tiff', await raw(3).tiff({ compression: 'lzw' }).toBuffer(), 0],
      ['gif', await raw(3).gif().toBuffer(), 40],
      ['avif', await raw(3).avif({ lossless: true }).toBuffer(), 4],
      // What a server or a person called something else.
      ['png', await raw(3).webp({ lossless: true }).toBuffer(), 0],
    ] as const) {
      const set = await loadDataset(await folderOf({ [`a.${name}`]: bytes, [`b.${name}`]: bytes }), { heldOut: 1 });
      expect(set).toMatchObject({ shape: [3, height, width], count: 1, classes: 0 });
      const planes = all(set).slice(0, want.length);
      const worst = planes.reduce((most, value, i) => {
        const [k, at] = [Math.floor(i / (height * width)), i % (height * width)];
        return Math.max(most, Math.abs(value - want[3 * at + k]));
      }, 0);
      expect(`${name} off by ${Math.max(worst, slack)}`).toBe(`${name} off by ${slack}`);
    }
    const grey = await raw(1).toColourspace('b-w').jpeg({ quality: 100 }).toBuffer();
    expect((await loadDataset(await folderOf({ 'a.jpg': grey, 'b.jpeg': grey }), { heldOut: 1 })).shape[0]).toBe(1);
    const clear = await sharp({
      create: { width: 2, height: 2, channels: 4, background: { r: 9, g: 9, b: 9, alpha: 0 } },
    })
      .webp({ lossless: true })
      .toBuffer();
    expect(all(await loadDataset(await folderOf({ 'a.webp': clear, 'b.webp': clear })))).toEqual(
      new Array(24).fill(255),
    );
    // A camera that was held upright says so beside the pixels.
    const turned = await raw(3).withMetadata({ orientation: 6 }).jpeg().toBuffer();
    expect((await loadDataset(await folderOf({ 'a.jpg': turned, 'b.jpg': turned }))).shape).toEqual([3, width, height]);
    const cut = await folderOf({ 'a.jpg': grey, 'b.jpg': grey.subarray(0, grey.length / 2) });
    expect(await messageOf(loadDataset(cut))).toMatch(/b\.jpg cannot be read: .*fetch it again or convert it to PNG$/);
    const page = { ...oneFile('a.jpg', grey) };
    expect(await messageOf(readDataset(page))).toMatch(/a\.jpg is a JPEG picture, and PNG alone is read here/);
  });

  it('without sharp the refusal says how to get it', async () => {
    vi.resetModules();
    vi.doMock('sharp', () => {
      throw new Error('not there');
    });
    const { decodePicture } = await import('../node/pictures.js');
    await expect(decodePicture(Uint8Array.of(255, 216, 255), 'x.jpg')).rejects.toThrow(
      'x.jpg is no PNG, and what reads others is not installed: npm install sharp',
    );
    vi.doUnmock('sharp');
  });

  it('of mixed size are refused, or resized and cropped to one that is said', async () => {
    const flat = (h: number, w: number, value: number) =>
      encode({ width: w, height: h, data: new Uint8Array(h * w).fill(value), channels: 1, depth: 8 });
    const own = await folderOf({ 'x/1.png': flat(5, 7, 20), 'x/2.png': flat(9, 4, 30), 'y/3.png': flat(6, 6, 40) });
    expect(await messageOf(loadDataset(own))).toMatch(/differ\): images of one size are wanted: say which/);
    const set = await loadDataset(`${own}#size=6x4`, { heldOut: 1 });
    expect(set.shape).toEqual([1, 6, 4]);
    expect(set.summary).toMatch(
      /resized from 3 sizes to 6x4: the middle .* antialiased bicubic .*; 1 of 3 pictures were smaller/,
    );
    // What is of one value stays so, whatever the filter.
    expect(all(set).sort((a, b) => a - b)).toEqual([20, 30, 40].flatMap((value) => new Array(24).fill(value)));
    expect((await loadDataset(own, { size: [3, 3] })).shape).toEqual([1, 3, 3]);
    for (const [reading, told] of [
      ['size=0', /"0" is no size/],
      ['size=3x', /"3x" is no size/],
      ['sise=3', /not with sise/],
      ['range=1,0', /"1,0" is no range/],
      ['range=1', /"1" is no range/],
    ] as const)
      expect(await messageOf(loadDataset(`${own}#${reading}`))).toMatch(told);
    // Arrays of pictures too; points have no size.
    const images = join(own, 'train-images-idx3-ubyte');
    await writeFile(images, idx(2051, [4, 8, 6], new Array(4 * 48).fill(77)));
    const small = await loadDataset(`${images}#size=4`, { heldOut: 1 });
    expect([small.shape, new Set(all(small))]).toEqual([[1, 4, 4], new Set([77])]);
    const points = join(own, 'points.npy');
    await writeFile(points, npy('<f4', [4, 2], new Uint8Array(32)));
    expect(await messageOf(loadDataset(`${points}#size=4`))).toMatch(/holds points: only pictures are resized/);
    const reals = join(own, 'reals.npy');
    await writeFile(reals, npy('<f4', [2, 1, 2], elements('f4', [0, 10, 5, 2])));
    expect(all(await loadDataset(`${reals}#range=0,10`, { heldOut: 1 })).sort()).toEqual(
      [-1, 1, 0, Math.fround(-0.6)].sort(),
    );
    expect(await messageOf(loadDataset('moons#size=4'))).toMatch(/moons is generated/);
  });

  it('are told on the command line, before anything is opened', async () => {
    // Modules were loaded anew above: whoever throws and whoever catches must be of one kind.
    const { runHere } = await import('./support/command-line.js');
    const own = await folderOf({ 'a.png': 'x' });
    const told = async (...args: string[]) => (await runHere(['teacher', '--data', own, ...args])).line;
    expect(await told('--size', '4by4')).toMatch(/^--size: "4by4" is no size/);
    expect(await told('--range', '3')).toMatch(/^--range: "3" is no range/);
    expect(await told('--range', '-1,1', '--size', '4')).toMatch(/a\.png is no picture/);
    expect((await runHere(['teacher', '--resume', own, '--size', '4'])).line).toMatch(/^--size: .* give --data too/);
  });

  it('are resampled as Pillow does, from the middle', () => {
    const image = Uint8Array.from({ length: 6 * 10 * 2 }, (_, i) => (i * 37) % 256);
    // sharp reduces by a box where it can; the filter is held against plain sums in float64 instead.
    const kernel = (x: number) => {
      const d = Math.abs(x);
      return d < 1 ? 1.5 * d ** 3 - 2.5 * d ** 2 + 1 : d < 2 ? -0.5 * d ** 3 + 2.5 * d ** 2 - 4 * d + 2 : 0;
    };
    for (const [h, w] of [
      [3, 3],
      [6, 10],
      [4, 7],
      [12, 20],
      [1, 1],
      [9, 2],
    ]) {
      const step = Math.min(6 / h, 10 / w);
      const spread = Math.max(step, 1);
      const found = resample(image, 1, [6, 10], 2, [h, w]);
      for (let y = 0; y < h; y++)
        for (let x = 0; x < w; x++)
          for (let k = 0; k < 2; k++) {
            const cy = (6 - h * step) / 2 + (y + 0.5) * step;
            const cx = (10 - w * step) / 2 + (x + 0.5) * step;
            let [sum, total] = [0, 0];
            for (let i = 0; i < 6; i++)
              for (let j = 0; j < 10; j++) {
                const weight = kernel((i + 0.5 - cy) / spread) * kernel((j + 0.5 - cx) / spread);
                total += weight;
                sum += weight * image[(i * 10 + j) * 2 + k];
              }
            expect(Math.abs(found[(y * w + x) * 2 + k] - sum / total)).toBeLessThan(2e-4);
          }
    }
  });

  it('lie in folders as people have them', async () => {
    const grey = (value: number) =>
      encode({ width: 2, height: 2, data: new Uint8Array(4).fill(value), channels: 1, depth: 8 });
    const labelled = (part: { values: ArrayLike<number>; labels?: Uint32Array; count: number }) =>
      Object.fromEntries(Array.from({ length: part.count }, (_, i) => [part.values[4 * i], part.labels?.[i]]));
    const line = (name: string, label: number | string) => JSON.stringify({ file_name: name, label });
    const cases: [string, Record<string, Uint8Array | string>, object, object][] = [
      [
        'parts below a folder of their own, as archives have them, and a stray one',
        {
          'imagenette/train/cat/1.png': grey(1),
          'imagenette/train/dog/2.png': grey(2),
          'imagenette/val/dog/3.png': grey(3),
          'imagenette/previews/4.png': grey(4),
        },
        { 1: 0, 2: 1 },
        { 3: 1 },
      ],
      [
        'a test part without classes',
        { 'train/a/1.png': grey(1), 'train/b/2.png': grey(2), 'train/b/3.png': grey(3), 'test/4.png': grey(4) },
        {},
        {},
      ],
      [
        'lists within the parts',
        {
          'train/1.png': grey(1),
          'train/2.png': grey(2),
          'train/metadata.jsonl': `${line('1.png', 'b')}\n${line('./2.png', 'a')}\n`,
          'test/3.png': grey(3),
          'test/metadata.jsonl': line('3.png', 'b'),
        },
        { 1: 1, 2: 0 },
        { 3: 1 },
      ],
      ['train as a class of vehicles', { 'train/1.png': grey(1), 'car/2.png': grey(2), 'car/3.png': grey(3) }, {}, {}],
      [
        'a whole data set in one folder',
        { 'set/a/1.png': grey(1), 'set/b/2.png': grey(2), 'set/b/3.png': grey(3), 'set/.x/4.png': grey(4) },
        {},
        {},
      ],
    ];
    for (const [name, files, train, heldOut] of cases) {
      const set = await loadDataset(await folderOf(files), { heldOut: 1 });
      if (Object.keys(train).length)
        expect([name, labelled(set), labelled(set.heldOut)]).toEqual([name, train, heldOut]);
      else expect([name, set.count + set.heldOut.count, set.classes]).toEqual([name, 3, 2]);
    }
    // A class whose pictures are links, and one that is a link itself.
    const own = await folderOf({ 'store/1.png': grey(1), 'store/2.png': grey(2), 'root/a/3.png': grey(3) });
    await symlink(join(own, 'store'), join(own, 'root', 'b'));
    await symlink(join(own, 'store', '1.png'), join(own, 'root', 'a', '1.png'));
    const linked = await loadDataset(join(own, 'root'), { heldOut: 1 });
    expect([linked.count + linked.heldOut.count, linked.classes]).toEqual([4, 2]);
  });
});

describe('archives and folders within folders', () => {
  const record = (label: number) => [label, ...new Array<number>(3072).fill(20 * label)];
  const batch = Uint8Array.from([record(3), record(9)].flat());

  it('tar, gzipped tar and zip are opened; damage in them is told', async () => {
    const tar = tarOf({
      'cifar-10-batches-bin/data_batch_1.bin': batch,
      'cifar-10-batches-bin/readme.html': Buffer.from('x'),
    });
    for (const [name, bytes] of [
      ['c.tar', tar],
      ['c.tar.gz', gzipSync(tar)],
      ['c.zip', zipSync({ 'cifar/data_batch_1.bin': batch, 'cifar/readme.html': Buffer.from('x') })],
    ] as const) {
      const set = await readDataset(oneFile(name, bytes), { heldOut: 1 });
      expect([set.shape, set.count, set.classes]).toEqual([[3, 32, 32], 1, 10]);
      const middle = Uint8Array.from(bytes);
      middle[60] ^= 4;
      const told = await messageOf(readDataset(oneFile(name, middle), { heldOut: 1 }));
      expect(told).toMatch(name === 'c.tar' ? /holds no data that semiflow knows/ : /damaged/);
    }
  });

  it('sets below a folder are found, several are not guessed between', async () => {
    const images = idx(2051, [5, 3, 2], pixels(5));
    const own = join(folder, 'root');
    await mkdir(join(own, 'MNIST', 'raw'), { recursive: true });
    await writeFile(join(own, 'MNIST', 'raw', 'train-images-idx3-ubyte'), images);
    await writeFile(join(own, 'MNIST', 'raw', 'train-labels-idx1-ubyte.gz'), gzipSync(idx(2049, [5], [1, 0, 2, 0, 1])));
    expect(await loadDataset(own)).toMatchObject({ count: 4, classes: 3 });
    await mkdir(join(own, 'Fashion'));
    await writeFile(join(own, 'Fashion', 'emnist-letters-train.images.idx3-ubyte'), images);
    expect(await messageOf(loadDataset(own))).toMatch(/holds 2 files of training images .*give the path of one/);
    const dotted = await loadDataset(join(own, 'Fashion'), { heldOut: 1 });
    expect(dotted).toMatchObject({ count: 4, classes: 0 });
  });

  it('files that are dropped on a page are the same data as those of a folder', async () => {
    const images = idx(2051, [5, 3, 2], pixels(5));
    const labels = idx(2049, [5], [3, 1, 4, 1, 0]);
    const own = join(folder, 'dropped');
    await mkdir(join(own, 'raw'), { recursive: true });
    const files = { 'raw/train-images-idx3-ubyte': images, 'raw/train-labels-idx1-ubyte': labels };
    for (const [path, content] of Object.entries(files)) await writeFile(join(own, path), content);
    const chosen = Object.entries(files).map(([path, content]) => {
      const file = new File([Uint8Array.from(content)], path.slice(4));
      return Object.defineProperty(file, 'webkitRelativePath', { value: `dropped/${path}` });
    });
    expect(await readDataset(droppedFiles(chosen), { seed: 4 })).toEqual(await loadDataset(own, { seed: 4 }));
    const alone = new File([Uint8Array.from(images)], 'mine.bin');
    expect(await readDataset(droppedFiles([alone]))).toMatchObject({ name: 'mine.bin', count: 4, classes: 0 });
  });

  it('what is no file or no data is refused at once', async () => {
    const pipe = join(folder, 'pipe');
    execFileSync('mkfifo', [pipe]);
    for (const path of [pipe, '/dev/zero', '/dev/null']) {
      expect(await messageOf(loadDataset(path))).toMatch(/neither a file nor a folder/);
      expect(await messageOf(readSafetensors(path))).toMatch(/not a file/);
      expect(await messageOf(readTextFile(path))).toMatch(/not a file/);
    }
    for (const [content, expected] of [
      ['version https://git-lfs.github.com/spec/v1\noid sha256:0\n', /Git LFS pointer/],
      ['<!DOCTYPE html><html></html>', /a web page/],
      ['', /an empty file/],
      ['PAR1', /a Parquet file/],
    ] as const) {
      const path = join(folder, 'unknown.data');
      await writeFile(path, content);
      expect(await messageOf(loadDataset(path))).toMatch(expected);
    }
  });
});

/** A tar archive of files, as ustar has it. */
function tarOf(files: Record<string, Uint8Array>): Buffer {
  const blocks = Object.entries(files).flatMap(([path, content]) => {
    const header = Buffer.alloc(512);
    header.write(path, 0);
    header.write('0000644\0', 100);
    header.write(`${content.length.toString(8).padStart(11, '0')}\0`, 124);
    header.write('        ', 148);
    header.write('0', 156);
    header.write('ustar\x0000', 257);
    const sum = header.reduce((total, byte) => total + byte, 0);
    header.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148);
    return [header, content, Buffer.alloc((512 - (content.length % 512)) % 512)];
  });
  return Buffer.concat([...blocks, Buffer.alloc(1024)]);
}
