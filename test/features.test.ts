import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { evaluate } from '../src/autodiff/eager.js';
import { openDevice } from '../node/device.js';
import { gradients } from '../src/autodiff/gradients.js';
import { readSafetensors } from '../node/files.js';
import { decode } from '../src/data/dataset.js';
import { loadDataset } from '../node/data.js';
import { createClassifier, exportClassifier } from '../src/features/classifier-file.js';
import { Extractor } from '../src/features/extractor.js';
import type { Device } from '../src/gpu/device.js';
import { frechetDistance } from '../src/metrics/frechet.js';
import { momentsOf } from '../src/metrics/moments.js';
import { kernelDistance } from '../src/metrics/kernel-distance.js';
import { precisionRecall } from '../src/metrics/precision-recall.js';
import { classifierSchema } from '../src/models/classifier.js';
import { random } from '../src/tensor/philox.js';
import { tensor } from '../src/tensor/tensor.js';
import { crossEntropy } from '../src/ops/losses.js';
import { classificationDefaults } from '../trainers/config.js';
import { trainClassifier } from '../trainers/runs.js';
import { relativeError } from './support/compare.js';
import { interpret } from './support/interpreter.js';
import { arenaOf } from './support/weights.js';

const seed = Number(process.env.SEED ?? Math.floor(Math.random() * 1e6));
const draw = random(seed);
const normals = (count: number) => Float64Array.from({ length: count }, () => draw.normal());

const python = '/usr/bin/python3';
const numpy = spawnSync(python, ['-c', 'import numpy']).status === 0;
if (!numpy) console.log(`skipped: ${python} has no numpy to compare with (apt-get install python3-numpy)`);

/** tr sqrt(A B) by the eigenvalues of the product, which is another way than semiflow's. */
const oracle = `
import sys, json, numpy as np
for line in sys.stdin:
    x, y = (np.array(v, dtype=np.float64) for v in json.loads(line))
    A, B = np.cov(x.T), np.cov(y.T)
    e = np.linalg.eigvals(A @ B)
    print(float(((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(A) + np.trace(B) - 2 * np.sqrt(np.maximum(e.real, 0)).sum()))
`;

/** Points [n, dim] that fill `rank` directions only, off the origin. */
function points(n: number, dim: number, rank: number): Float64Array {
  const [mix, z, shift] = [normals(rank * dim), normals(n * rank), normals(dim)];
  return Float64Array.from({ length: n * dim }, (_, i) => {
    const [row, column] = [Math.floor(i / dim), i % dim];
    let sum = shift[column];
    for (let k = 0; k < rank; k++) sum += z[row * rank + k] * mix[k * dim + column];
    return sum;
  });
}

describe(`Fréchet distance (SEED=${seed})`, () => {
  const cases = [
    [50, 3, 3],
    [400, 17, 17],
    [400, 17, 5],
    [9, 13, 9],
    [100, 1, 1],
  ] as const;
  it.runIf(numpy)('agrees with numpy on random points, rank-deficient ones too', () => {
    const pairs = cases.map(([n, dim, rank]) => ({ dim, a: points(n, dim, rank), b: points(n + 7, dim, rank) }));
    const rows = (x: Float64Array, dim: number) =>
      Array.from({ length: x.length / dim }, (_, i) => [...x.subarray(i * dim, (i + 1) * dim)]);
    const input = pairs.map(({ dim, a, b }) => JSON.stringify([rows(a, dim), rows(b, dim)])).join('\n');
    // np.cov of one column is a number, which has no trace.
    const script = oracle
      .replaceAll('np.cov(x.T)', 'np.atleast_2d(np.cov(x.T))')
      .replaceAll('np.cov(y.T)', 'np.atleast_2d(np.cov(y.T))');
    const { stdout, stderr } = spawnSync(python, ['-c', script], { input, encoding: 'utf8' });
    expect(stderr).toBe('');
    const expected = stdout.trim().split('\n').map(Number);
    expect(expected).toHaveLength(cases.length);
    pairs.forEach(({ dim, a, b }, i) => {
      const got = frechetDistance(momentsOf(a, dim), momentsOf(b, dim));
      expect(Math.abs(got - expected[i]) / expected[i]).toBeLessThan(1e-7);
    });
  });

  it('is zero between equals, and the closed form between Gaussians with commuting covariances', () => {
    for (const [count, dim, rank] of [
      [60, 11, 4],
      [3, 17, 2],
      [500, 5, 5],
      [2, 1, 1],
      [40, 64, 64],
    ]) {
      for (const [scale, offset] of [
        [1, 0],
        [1e-6, 0],
        [1e5, 0],
        [1, 1e4],
        [0, 3],
        [0, 0],
      ]) {
        const x = points(count, dim, rank).map((value) => scale * value + offset);
        // The same rows in another order are summed to other roundings.
        const y = x.map((_, i) => x[(count - 1 - Math.floor(i / dim)) * dim + (i % dim)]);
        const [a, b] = [momentsOf(x, dim), momentsOf(y, dim)];
        expect(frechetDistance(a, a)).toBe(0);
        expect(frechetDistance(a, b)).toBe(0);
        const other = momentsOf(points(count + 1, dim, rank), dim);
        const [forth, back] = [frechetDistance(a, other), frechetDistance(other, a)];
        expect(forth).toBeGreaterThan(0);
        expect(Math.abs(forth / back - 1)).toBeLessThan(1e-9);
      }
    }
    const diagonal = (mean: number, values: number[]) => ({
      mean: new Float64Array(values.length).fill(mean),
      covariance: Float64Array.from({ length: values.length ** 2 }, (_, i) =>
        i % (values.length + 1) ? 0 : values[i / (values.length + 1)],
      ),
    });
    // Σ (1-3)² + Σ (√a - √b)²
    expect(frechetDistance(diagonal(1, [4, 9, 0]), diagonal(3, [1, 9, 25]))).toBeCloseTo(12 + 1 + 0 + 25, 9);
  });

  it('says what is wrong with what it cannot compare', () => {
    expect(() => momentsOf([1, 2], 2)).toThrow('at least two samples');
    expect(() => frechetDistance(momentsOf(normals(8), 2), momentsOf(normals(9), 3))).toThrow('use one classifier');
  });
});

describe('other distances of features', () => {
  it('kernel distance: known by hand, and without bias', () => {
    // k(1,1) = 8, k(1,-1) = 0, k(-1,-1) = 8 in one dimension.
    expect(kernelDistance([1, 1], [-1, -1], 1)).toBeCloseTo(16, 12);
    const trials = Array.from({ length: 200 }, () => kernelDistance(normals(40), normals(60), 2));
    const mean = trials.reduce((sum, x) => sum + x, 0) / trials.length;
    const deviation = Math.sqrt(trials.reduce((sum, x) => sum + (x - mean) ** 2, 0) / trials.length);
    expect(Math.abs(mean)).toBeLessThan((4 * deviation) / Math.sqrt(trials.length));
  });

  it('precision and recall: counted by hand on a line', () => {
    const data = [0, 1, 2, 3, 100, 101];
    const samples = [0.5, 1.5, 2.5, 50, 200];
    // Balls to the first neighbour: data cover 0.5, 1.5, 2.5; samples cover 0 … 3 (50 reaches 2.5), 100 and 101 (200 reaches 50).
    expect(precisionRecall(samples, data, 1, 1)).toEqual({ precision: 3 / 5, recall: 1 });
    expect(precisionRecall([0.5, 1.5, 2.5], data, 1, 1)).toEqual({ precision: 1, recall: 4 / 6 });
    expect(() => precisionRecall([1], [1], 1)).toThrow('more than 3');
  });
});

describe('classifier', () => {
  let device: Device;
  beforeAll(async () => void (device = await openDevice()));
  afterAll(() => device.dispose());

  it('cross-entropy and its gradient are softmax - one-hot, for large logits too', async () => {
    const [rows, classes] = [7, 5];
    const logits = Float32Array.from({ length: rows * classes }, () => 40 * draw.normal());
    const labels = Uint32Array.from({ length: rows }, () => draw.below(classes));
    const x = tensor(logits, [rows, classes]);
    const loss = crossEntropy(x, tensor(labels));
    const got = await evaluate(device, { loss, slope: gradients(loss, [x])[0] });
    let total = 0;
    const slope = Float64Array.from(logits, (_, i) => {
      const row = Math.floor(i / classes);
      const values = logits.subarray(row * classes, (row + 1) * classes);
      const most = Math.max(...values);
      const sum = values.reduce((acc, value) => acc + Math.exp(value - most), 0);
      const hit = i % classes === labels[row];
      if (hit) total += (most + Math.log(sum) - logits[i]) / rows;
      return (Math.exp(logits[i] - most) / sum - Number(hit)) / rows;
    });
    expect(relativeError(got.loss, [total])).toBeLessThan(1e-5);
    expect(relativeError(got.slope, slope)).toBeLessThan(1e-5);
  });

  it('gives features and logits as float64 does, padded and pooled or with norms', async () => {
    for (const options of [
      { channels: [3, 5], pooled: 1, norms: false, imageShape: [2, 6, 10] as [number, number, number] },
      { channels: [4, 3], padding: 0 as const, norms: true, imageShape: [1, 7, 9] as [number, number, number] },
    ]) {
      const config = classifierSchema.parse({ kind: 'cnn', features: 11, classes: 3, mean: 0.4, std: 0.7, ...options });
      const network = createClassifier(config, seed);
      const count = 131;
      const size = config.imageShape.reduce((a, b) => a * b);
      const images = Float32Array.from({ length: count * size }, () => draw.uniform() * 6 - 2);
      const extractor = await Extractor.create(device, network, config.imageShape, [-1, 3]);
      const seen = await extractor.see(images);
      // Calls at once are queued, never mixed.
      const parts = [0, 1, 2].map((part) => images.subarray(part * size, (130 - part) * size));
      const together = await Promise.all(parts.map((part) => extractor.see(part)));
      for (const [i, part] of parts.entries()) expect(together[i]).toEqual(await extractor.see(part));
      extractor.dispose();
      const pixels = tensor(
        images.map((value) => Math.min(1, Math.max(0, (value + 1) / 4))),
        [count, ...config.imageShape],
      );
      const { TensorStorage } = await import('../src/gpu/storage.js');
      const weights = new TensorStorage('weights', 'f32', network.layout.length, await arenaOf(network));
      const { features, logits } = network.model.apply(network.layout.bind(weights), pixels);
      const [expected, scores] = interpret([features, logits]);
      expect(relativeError(seen.values, expected)).toBeLessThan(1e-5);
      for (let i = 0; i < count; i++) {
        const row = scores.subarray(i * 3, i * 3 + 3);
        expect(row[seen.classes[i]]).toBeGreaterThan(Math.max(...row) - 1e-4);
      }
    }
  });

  it('learns, and its file says what it is', async () => {
    const data = await loadDataset('shapes28', { range: [0, 1], count: 2000, heldOut: 200 });
    const config = classifierSchema.parse({
      kind: 'cnn',
      imageShape: data.shape,
      channels: [8, 16],
      pooled: 2,
      features: 16,
      classes: data.classes,
    });
    const recipe = {
      ...classificationDefaults,
      optimizer: { ...classificationDefaults.optimizer, warmup: 5, rate: 5e-3 },
      steps: 257,
      batch: 64,
    };
    const training = await trainClassifier({ device, classifier: createClassifier(config, 1), data }, recipe);
    const losses: number[] = [];
    for await (const { loss } of training) losses.push(loss);
    expect(losses).toHaveLength(257);
    expect(losses[0]).toBeCloseTo(Math.log(data.classes), 0);
    expect(losses[256]).toBeLessThan(0.7 * losses[0]);
    const { metadata } = exportClassifier(await training.now());
    expect(JSON.parse(metadata['semiflow-classifier'])).toEqual(config);
  });

  const folder = '../shared/data';
  const here = existsSync(`${folder}/metrics/mnist-cnn.safetensors`);
  if (!here) console.log('skipped: no public MNIST classifier in ../shared/data/metrics');
  it.runIf(here)('is the public MNIST classifier: features, logits, accuracy and known Fréchet distances', async () => {
    const { readClassifier } = await import('../cli/classifier.js');
    const network = await readClassifier(`${folder}/metrics/mnist-cnn.safetensors`, 'docs/classifiers/mnist-cnn.yaml');
    const reference = await readSafetensors(`${folder}/metrics/mnist-cnn.ref.safetensors`);
    const data = await loadDataset(`${folder}/mnist`, { range: [0, 1] });
    const extractor = await Extractor.create(device, network, data.shape, data.range);
    const held = await extractor.see(decode(data.heldOut.values, data.range));
    const right = held.classes.reduce((sum, found, i) => sum + Number(found === data.heldOut.labels![i]), 0);
    expect(right / data.heldOut.count).toBeCloseTo(0.9917, 3);
    expect(relativeError(held.values.subarray(0, 8 * 32), await reference.readF32('features'))).toBeLessThan(2e-5);
    const moments = momentsOf(held.values, 32);
    expect(relativeError(moments.mean, await reference.readF32('test10k_mean'))).toBeLessThan(1e-5);
    expect(relativeError(moments.covariance, await reference.readF32('test10k_cov'))).toBeLessThan(1e-5);
    const train = (n: number) => decode(data.values.subarray(0, n * 784) as Uint8Array, data.range);
    const distance = async (n: number) =>
      frechetDistance(momentsOf((await extractor.see(train(n))).values, 32), moments);
    expect(await distance(2000)).toBeCloseTo(2.82, 1);
    extractor.dispose();
  });
});
