import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gunzipSync, gzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { decode, splitHeldOut } from '../src/data/dataset.js';
import { distributions, samplePoints } from '../src/data/distributions.js';
import { parseIdxImages, parseIdxLabels } from '../src/data/idx.js';
import { datasetNames, loadDataset } from '../src/data/load.js';
import { random } from '../src/tensor/philox.js';
import { sampleShapes, shapeNames } from '../src/data/shapes.js';
import { UserError } from '../src/errors.js';
import { encodeNpy } from '../src/checkpoint/npy.js';
import { decodePng } from '../src/data/png.js';
import { encode } from 'fast-png';
import { zipSync } from 'fflate';
import { spawnSync } from 'node:child_process';

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

  it('are read plain and gzipped', async () => {
    for (const bytes of [images, gzipSync(images)]) {
      const parsed = await parseIdxImages(bytes, 'x');
      expect(parsed).toMatchObject({ count: 5, height: 3, width: 2 });
      expect([...parsed.values]).toEqual(pixels(5));
    }
    expect([...(await parseIdxLabels(gzipSync(labels), 'y'))]).toEqual([3, 1, 4, 1, 5]);
  });

  it.each<[string, Buffer, RegExp]>([
    ['empty', Buffer.alloc(0), /0 bytes are too few|not an IDX/],
    ['three bytes', images.subarray(0, 3), /3 bytes are too few/],
    ['header cut', images.subarray(0, 11), /11 bytes are too few/],
    ['labels for images', labels, /it holds labels.*2051/],
    [
      'a PNG',
      Buffer.from([0x89, 0x50, 0x4e, 0x47, 13, 10, 26, 10, 0, 0, 0, 13, 73, 72, 68, 82, 0]),
      /magic number is 2303741511/,
    ],
    ['floats', idx(0xd03, [1, 1, 1], [0, 0, 0, 0]), /magic number is 3331/],
    ['one byte short', images.subarray(0, -1), /5x3x2 take 46 bytes, the file has only 45/],
    ['one byte more', Buffer.concat([images, Buffer.from([0])]), /has more/],
    ['no images', idx(2051, [0, 28, 28], []), /holds 0 images/],
    ['no pixels', idx(2051, [5, 0, 28], []), /holds 5 images of 0x28/],
    ['huge extents', idx(2051, [0xffffffff, 0xffffffff, 0xffffffff], [1]), /the file has only 17/],
    ['gzip cut', gzipSync(images).subarray(0, -6), /broken or cut off/],
    ['gzip of junk', Buffer.concat([Buffer.from([0x1f, 0x8b]), Buffer.alloc(30, 7)]), /broken or cut off/],
    ['gzip of labels', gzipSync(labels), /it holds labels/],
    ['gzip of nothing', gzipSync(Buffer.alloc(0)), /too few/],
    ['gzip that swells', gzipSync(Buffer.concat([images, Buffer.alloc(50_000_000)])), /has more/],
    [
      'gzip with a flipped bit',
      Buffer.from(gzipSync(images).map((byte, i, all) => (i === all.length - 5 ? byte ^ 1 : byte))),
      /broken/,
    ],
  ])('%s is refused', async (_, bytes, expected) => {
    const message = await messageOf(parseIdxImages(bytes, 'file.idx'));
    expect(message).toMatch(/^file\.idx: /);
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
    expect(await messageOf(loadDataset(path))).toMatch(/49 labels for the 50 images/);
  });

  it('a folder uses its test files, and says what does not fit', async () => {
    const own = join(folder, 'folder');
    await mkdir(own);
    expect(await messageOf(loadDataset(own))).toMatch(/holds no images that semiflow knows/);
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
    expect(await messageOf(loadDataset(own))).toMatch(/t10k-images-idx3-ubyte\.gz: not an IDX file of images/);
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
    for (const name of ['mnist', 'fashion-mnist']) {
      const path = join(shared, name);
      const set = await loadDataset(path);
      expect(set).toMatchObject({ name, shape: [1, 28, 28], count: 60000, classes: 10, heldOut: { count: 10000 } });
      const test = gunzipSync(await readFile(join(path, 't10k-images-idx3-ubyte.gz')));
      expect(
        Buffer.from(set.heldOut.values.buffer, set.heldOut.values.byteOffset, 7_840_000).equals(test.subarray(16)),
      ).toBe(true);
    }
    const labels = (await loadDataset(join(shared, 'fashion-mnist'))).labels!;
    const counts = Array.from({ length: 10 }, () => 0);
    for (const label of labels) counts[label]++;
    expect(counts).toEqual(Array.from({ length: 10 }, () => 6000));
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

  it('grey, RGB, transparent over white, 16 bits and palettes', async () => {
    const path = join(folder, 'one.png');
    await writeFile(path, png([0, 51, 255, 7, 8, 9], 3, 2, 1));
    expect(await decodePng(path)).toEqual({
      width: 3,
      height: 2,
      channels: 1,
      pixels: Uint8Array.of(0, 51, 255, 7, 8, 9),
    });
    await writeFile(path, png([10, 20, 30, 255, 100, 0, 200, 51], 2, 1, 4));
    // 51 of 255 is a fifth: 100 / 5 + 255 * 4 / 5.
    expect([...(await decodePng(path)).pixels]).toEqual([10, 20, 30, 224, 204, 244]);
    await writeFile(
      path,
      encode({ width: 2, height: 1, data: Uint16Array.of(65535, 257 * 3), channels: 1, depth: 16 }),
    );
    expect([...(await decodePng(path)).pixels]).toEqual([255, 3]);
    const script = `
import struct, zlib, sys
def chunk(kind, data): return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))
rows = b'\\x00' + bytes([0b01100000]) + b'\\x00' + bytes([0b10000000])
out = b'\\x89PNG\\r\\n\\x1a\\n' + chunk(b'IHDR', struct.pack('>IIBBBBB', 3, 2, 1, 3, 0, 0, 0))
out += chunk(b'PLTE', bytes([1, 2, 3, 200, 100, 50])) + chunk(b'IDAT', zlib.compress(rows)) + chunk(b'IEND', b'')
sys.stdout.buffer.write(out)`;
    const { stdout, status } = spawnSync('/usr/bin/python3', ['-c', script.replaceAll('\\\\', '\\')]);
    if (status === 0) {
      await writeFile(path, stdout);
      const [dark, light] = [
        [1, 2, 3],
        [200, 100, 50],
      ];
      expect([...(await decodePng(path)).pixels]).toEqual([dark, light, light, light, dark, dark].flat());
    } else console.log('skipped: no python3 to write a PNG with a palette');
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
    expect(await messageOf(loadDataset(own))).toMatch(/2\.png cannot be read as PNG/);
  });
});

describe('NumPy files', () => {
  const saved = async (name: string, bytes: Uint8Array) => {
    const path = join(folder, name);
    await writeFile(path, bytes);
    return path;
  };
  const floats = (...shape: number[]) => {
    const count = shape.reduce((a, b) => a * b);
    return encodeNpy(
      Float32Array.from({ length: count }, (_, i) => i / 2),
      shape,
    );
  };

  it('images with channels first, last or none, and points', async () => {
    const load = async (...shape: number[]) => loadDataset(await saved('x.npy', floats(...shape)), { heldOut: 1 });
    expect((await load(4, 5, 6)).shape).toEqual([1, 5, 6]);
    expect((await load(4, 3, 5, 6)).shape).toEqual([3, 5, 6]);
    const last = await load(2, 2, 2, 3);
    expect(last.shape).toEqual([3, 2, 2]);
    const image = [...last.values, ...last.heldOut.values].map((value) => value * 2);
    // Pixel by pixel 0 1 2 | 3 4 5 …: the first channel is 0 3 6 9.
    expect(image.slice(0, 12).map((value) => value % 12)).toEqual([0, 3, 6, 9, 1, 4, 7, 10, 2, 5, 8, 11]);
    expect(await load(7, 2)).toMatchObject({ kind: 'points', shape: [2], range: [0, 6.5], count: 6 });
  });

  it('archives with labels, and what is wrong with others', async () => {
    const labels = encodeNpy(Float32Array.of(0, 2, 1, 2), [4]);
    const path = await saved('set.npz', zipSync({ 'images.npy': floats(4, 2, 2), 'labels.npy': labels }));
    const set = await loadDataset(path, { heldOut: 1 });
    expect([set.classes, set.count, set.heldOut.count]).toEqual([3, 3, 1]);
    const fail = async (name: string, bytes: Uint8Array) => messageOf(loadDataset(await saved(name, bytes)));
    expect(await fail('a.npz', zipSync({ 'images.npy': floats(3, 2, 2), 'labels.npy': labels }))).toMatch(
      /4 labels for 3/,
    );
    expect(await fail('b.npz', zipSync({ 'other.npy': floats(3, 2, 2) }))).toMatch(/holds other/);
    expect(await fail('c.npz', floats(2, 2))).toMatch(/not a \.npz/);
    expect(await fail('d.npy', floats(3, 2, 5, 4))).toMatch(/images are/);
    expect(await fail('e.npy', floats(3, 2, 2).subarray(0, 140))).toMatch(/are announced/);
    expect(await fail('f.npy', new Uint8Array(200))).toMatch(/not a \.npy/);
    const fortran = Buffer.from(
      Buffer.from(floats(3, 2, 2))
        .toString('latin1')
        .replace('False', 'True '),
      'latin1',
    );
    expect(await fail('g.npy', fortran)).toMatch(/C order/);
  });
});
