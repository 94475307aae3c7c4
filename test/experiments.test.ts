import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openDevice } from '../node/device.js';
import { driftOf, driftRatios, hopCounts, startTimes, summarizeDrift } from '../src/experiments/drift.js';
import { renoisingChain, rounds, roundTripChain } from '../src/experiments/editing.js';
import { boundaryOf, maskNames, namedMask } from '../src/experiments/masks.js';
import { coupledJump, ddim, endpointJump, inHops, jump, type Operator } from '../src/experiments/operators.js';
import { hiddenErrors, lockKnown, mixed, testImagesOf, type TestImages } from '../src/experiments/test-images.js';
import { budgets, edgeDifference, inpaint, stepsOf, summarizeSteps } from '../src/experiments/steps.js';
import { violationMap } from '../src/experiments/violation.js';
import { createClassifier } from '../src/features/classifier-file.js';
import { Extractor } from '../src/features/extractor.js';
import { parseDescription } from '../src/flow/description.js';
import { createNetwork, studentOf } from '../src/flow/network.js';
import { Runner } from '../src/flow/runner.js';
import type { Device } from '../src/gpu/device.js';
import { bootstrap, slopeOf } from '../src/metrics/bootstrap.js';
import { momentsOf } from '../src/metrics/moments.js';
import { classifierSchema } from '../src/models/classifier.js';
import { boxPlot } from '../src/report/box-plot.js';
import { heatMap } from '../src/report/heat-map.js';
import { labelledGrid } from '../src/report/labelled-grid.js';
import { random } from '../src/tensor/philox.js';
import { changed } from './support/weights.js';

const seed = Number(process.env.SEED ?? Math.floor(Math.random() * 1e6));
const draw = random(seed);
const shape = [1, 6, 10] as const;
const size = 60;
const description = parseDescription(
  {
    architecture: { kind: 'unet', imageSize: 8, inChannels: 1, modelChannels: 32, numResBlocks: 1, channelMult: [1] },
    prediction: 'velocity',
  },
  'test',
);
const teacher = {
  ...createNetwork(description, 1),
  model: { ...createNetwork(description, 1).model, sampleShape: shape },
};

function imagesWith(count: number, mask = namedMask('centre', 6, 10, seed)): TestImages {
  const values = Float32Array.from({ length: count * size }, () => draw.normal());
  const labels = Uint32Array.from({ length: count }, () => draw.below(3));
  return { ...testImagesOf(teacher, { count, values }, [-1, 1], count, seed, mask), labels };
}

/** The exact flow of point data at a: x_s = a + (s / t) (x - a) lies on the line from a to x. */
const exactFlow = (a: number): Operator => ({
  name: 'exact',
  go: async (x, t, s) =>
    x.map((value, i) => {
      const row = Math.floor(i / size);
      return a + (s[row] / t[row]) * (value - a);
    }),
});

describe(`masks (SEED=${seed})`, () => {
  it('cover what they say', () => {
    const area = (name: (typeof maskNames)[number]) =>
      namedMask(name, 28, 28, seed).hidden.reduce((sum, value) => sum + value, 0);
    expect(area('centre')).toBe(14 * 14);
    expect(area('half')).toBe(28 * 14);
    expect(area('strokes')).toBeGreaterThan(8);
    expect(area('strokes')).toBeLessThan(28 * 28 * 0.7);
    expect(namedMask('strokes', 28, 28, 1).hidden).not.toEqual(namedMask('strokes', 28, 28, 2).hidden);
  });

  it('refuse to hide nothing or everything, whatever the size', () => {
    for (const height of [1, 2, 3, 7])
      for (const width of [1, 2, 5])
        for (const name of maskNames) {
          let mask;
          try {
            mask = namedMask(name, height, width, seed);
          } catch (error) {
            expect((error as Error).message).toMatch(/hides (nothing|everything)/);
            continue;
          }
          const area = mask.hidden.reduce((sum, value) => sum + value, 0);
          expect(area > 0 && area < height * width).toBe(true);
        }
  });

  it('have edges in every channel: coherence is the mean over all of them', () => {
    const mask = namedMask('half', 4, 6, 0);
    for (const channels of [1, 2, 3, 5]) {
      const [count, plane] = [3, 24];
      const x = Float32Array.from({ length: count * channels * plane }, () => draw.normal());
      let sum = 0;
      for (let i = 0; i < count * channels; i++)
        for (let row = 0; row < 4; row++) sum += Math.abs(x[i * plane + 6 * row + 2] - x[i * plane + 6 * row + 3]);
      expect(edgeDifference({ size: channels * plane, count }, mask, x)).toBeCloseTo(sum / (4 * count * channels), 6);
    }
  });

  it('have the edges that a box has', () => {
    const mask = namedMask('centre', 28, 28, 0);
    const pairs = boundaryOf(mask);
    expect(pairs).toHaveLength(4 * 14);
    for (const [a, b] of pairs) expect(mask.hidden[a]).not.toBe(mask.hidden[b]);
  });
});

describe('scenes and composition', () => {
  it('locks the known region to the reference, and counts errors in the hidden one alone', () => {
    const images = imagesWith(3);
    const t = Float32Array.of(0.2, 0.9, 0);
    const x = images.images.map(() => 7);
    const locked = lockKnown(images, x, t);
    const reference = mixed(images, t);
    locked.forEach((value, i) => expect(value).toBe(images.hidden[i % size] ? 7 : reference[i]));
    expect(reference.subarray(2 * size)).toEqual(images.images.subarray(2 * size));
    const errors = hiddenErrors(
      images,
      x,
      x.map((value, i) => (images.hidden[i % size] ? value + 2 : value + 100)),
    );
    errors.forEach((error) => expect(error).toBeCloseTo(4, 6));
  });

  it('an exact flow has no drift; Δ_k of a known error is what it must be', async () => {
    const images = imagesWith(6);
    const exact = await driftOf(images, exactFlow(0.3), seed, 1, () => {});
    for (const { values } of exact.drift) for (const value of values) expect(value).toBeLessThan(1e-11);
    // Each hop adds c: k hops are (k - 1) c away from one.
    const c = 0.125;
    const biased: Operator = {
      name: 'biased',
      go: async (x, t, s) => (await exactFlow(0).go(x, t, s, 0)).map((v) => v + c),
    };
    const times = startTimes(images, seed);
    const { drift } = await driftOf(images, biased, seed, 1, () => {});
    drift.forEach(({ hops, values }) =>
      values.forEach((value) => {
        // What hop j adds is carried on by s_end / s_j = 0 but for the last hop.
        expect(value).toBeLessThan(1e-10);
        expect(hops).toBeGreaterThan(1);
      }),
    );
    times.forEach((time) => expect(time >= 0.5 && time < 1).toBe(true));
    const shifted: Operator = { name: 'shifted', go: async (x) => x.map((value) => value + c) };
    const added = await driftOf(images, shifted, seed, 1, () => {});
    added.drift.forEach(({ hops, values }) => values.forEach((v) => expect(v).toBeCloseTo(((hops - 1) * c) ** 2, 4)));
    const summary = summarizeDrift(added, seed);
    expect(summary.growth.value).toBeCloseTo(
      slopeOf(
        hopCounts.map(Math.log),
        hopCounts.map((k) => 2 * Math.log(k - 1)),
      ),
      3,
    );
    const doubled = {
      ...added,
      drift: added.drift.map(({ hops, values }) => ({ hops, values: values.map((v) => 4 * v) })),
    };
    for (const { value, low, high } of driftRatios(doubled, added, seed))
      for (const ratio of [value, low, high]) expect(ratio).toBeCloseTo(4, 6);
  });

  it('inpainting by an exact flow ends in the data, whatever the budget', async () => {
    const images = imagesWith(2);
    for (const hops of [1, 3, 7]) {
      const x = await inpaint(images, exactFlow(0.4), hops);
      x.forEach((value, i) => expect(value).toBeCloseTo(images.hidden[i % size] ? 0.4 : images.images[i], 5));
    }
  });

  it('violation: none of an exact flow; that of two shifted jumps in units of the variance', async () => {
    const images = imagesWith(400);
    const go = exactFlow(0).go;
    const exact = await violationMap(
      images,
      (x, t, s) => go(x, t, s, 0),
      () => {},
    );
    expect(exact.worst.violation).toBeLessThan(1e-10);
    expect(exact.cells).toHaveLength(36);
    const told: unknown[] = [];
    const shifted = await violationMap(
      images,
      async (x) => x.map((value) => value + 0.1),
      (done, total, last) => {
        expect([done, total]).toEqual([told.length + Number(Boolean(last)), 36]);
        if (last) told.push(last);
      },
    );
    expect(told).toEqual(shifted.cells);
    const alike = { ...images, images: images.images.fill(0.3) };
    await expect(
      violationMap(
        alike,
        async (x) => x,
        () => {},
      ),
    ).rejects.toThrow(/all samples are alike/);
    // Variance 1, one shift of 0.1 more.
    for (const { violation } of shifted.cells) expect(violation).toBeCloseTo(0.01, 2);
  });
});

describe('bootstrap', () => {
  it('covers the mean of normals about 95 times in 100', () => {
    let covered = 0;
    for (let trial = 0; trial < 200; trial++) {
      const values = Array.from({ length: 60 }, () => draw.normal());
      const { low, high, value } = bootstrap(
        60,
        (indices) => indices.reduce((sum, i) => sum + values[i], 0) / 60,
        trial,
        200,
      );
      expect(low <= value && value <= high).toBe(true);
      covered += Number(low <= 0 && high >= 0);
    }
    expect(covered).toBeGreaterThan(170);
    expect(covered).toBeLessThan(200);
  });

  it('slope of a line', () => expect(slopeOf([1, 2, 5], [3, 5, 11])).toBeCloseTo(2, 12));
});

describe('operators of networks', () => {
  let device: Device;
  beforeAll(async () => void (device = await openDevice()));
  afterAll(() => device.dispose());
  const fresh = createNetwork(
    parseDescription(
      {
        architecture: {
          kind: 'sit',
          inputSize: 4,
          patchSize: 2,
          inChannels: 1,
          hiddenSize: 16,
          depth: 1,
          numHeads: 2,
          mlpRatio: 2,
          numClasses: 3,
          learnSigma: false,
        },
        prediction: 'velocity',
        dataRange: [-1, 1],
      },
      'test',
    ),
    7,
  );
  const real = changed(fresh, (value) => value + 0.1 * draw.normal());
  const map = changed(studentOf(real), (value) => value + 0.05 * draw.normal());
  const count = 5;
  const values = Float32Array.from({ length: count * 16 }, () => draw.normal());
  const labels = Uint32Array.from({ length: count }, () => draw.below(3));
  const images = () => testImagesOf(real, { count, values, labels }, [-1, 1], count, seed, namedMask('half', 4, 4, 0));

  it('are what their formulas say', async () => {
    const runner = new Runner(device, map, 3);
    const [x, t, s] = [values, new Float32Array(count).fill(0.8), new Float32Array(count).fill(0.3)];
    const clean = await runner.jump({ x, t, s: new Float32Array(count), labels });
    const noise = values.map(() => draw.normal());
    const endpoint = await endpointJump('', runner, labels, () => noise).go(x, t, s, 0);
    const coupled = await coupledJump('', runner, labels).go(x, t, s, 0);
    clean.forEach((x0, i) => {
      expect(endpoint[i]).toBeCloseTo(0.7 * x0 + 0.3 * noise[i], 4);
      const held = (x[i] - 0.2 * x0) / 0.8;
      expect(coupled[i]).toBeCloseTo(0.7 * x0 + 0.3 * held, 4);
    });
    const v = await runner.velocity({ x, t, labels });
    const euler = await ddim('', runner, labels).go(x, t, s, 0);
    euler.forEach((value, i) => expect(value).toBeCloseTo(x[i] - 0.5 * v[i], 4));
    const hops = await inHops(jump('', runner, labels), 3, '').go(x, t, s, 0);
    const equal = await runner.jump({ x, t, s, labels }, 3);
    hops.forEach((value, i) => expect(value).toBeCloseTo(equal[i], 4));
    runner.dispose();
  });

  it('make whole results, the same twice', async () => {
    const classifier = createClassifier(
      classifierSchema.parse({ kind: 'cnn', imageShape: [1, 4, 4], channels: [4], features: 5, classes: 3 }),
      3,
    );
    const extractor = await Extractor.create(device, classifier, [1, 4, 4], [-1, 1]);
    const runner = new Runner(device, map, 5);
    const operator = jump('flow map', runner, labels);
    const mask = namedMask('half', 4, 4, 0);
    const fine = await inpaint(images(), operator, 50);
    const result = await stepsOf(images(), mask, operator, fine, extractor, 2, () => {});
    expect(await stepsOf(images(), mask, operator, fine, extractor, 2, () => {})).toEqual(result);
    expect(result.budgets.map(({ budget }) => budget)).toEqual([...budgets]);
    const summary = summarizeSteps(result, momentsOf((await extractor.see(values)).values, 5), seed);
    expect(summary.rows.at(-1)!.toOwn).toBe(0);
    expect(summary.rows[0].toOwn).toBeGreaterThan(0);
    const whole = testImagesOf(real, { count, values, labels }, [-1, 1], count, seed);
    const edits = await renoisingChain(whole, real, operator, extractor, seed, 2);
    expect(edits.error).toHaveLength(rounds);
    const identity: Operator = { name: 'identity', go: async (x) => x };
    const trips = await roundTripChain(whole, identity, extractor, 0, 2);
    expect(trips.error.every((error) => error === 0)).toBe(true);
    expect(trips.retention.every((kept) => kept === 1)).toBe(true);
    extractor.dispose();
    runner.dispose();
  });
});

describe('plots of experiments', () => {
  it('boxes stand where their values are, a panel a method', async () => {
    const values = (scale: number) => Array.from({ length: 101 }, (_, i) => scale * 10 ** (i / 100));
    const svg = await boxPlot({
      xLabel: 'hops k',
      yLabel: 'Δ_k',
      panels: [
        { name: 'first', boxes: [2, 4].map((at) => ({ at, values: values(0.01 * at) })) },
        { name: 'second', boxes: [2, 4].map((at) => ({ at, values: values(1) })) },
      ],
    });
    for (const word of ['first', 'second', 'hops k', 'Δ_k']) expect(svg).toContain(word);
    expect(svg.match(/aria-roledescription="bar"/g)).toHaveLength(4);
    // Every box's edges lie on one line of pixels over the logarithm of its quartiles, and these are the values' own.
    const bar =
      /aria-label="[^"]*Δ_k: ([\d.]+); threeQuarters: ([\d.]+)[^"]*" [^>]*"bar" d="M[\d.]+,([\d.]+)h[\d.]+v([\d.]+)/g;
    const boxes = [...svg.matchAll(bar)].map((match) => match.slice(1).map(Number));
    expect(boxes).toHaveLength(4);
    const scales = [0.02, 0.04, 1, 1];
    const places = boxes.flatMap(([quarter, threeQuarters, top, height], i) => {
      expect(quarter / (scales[i] * 10 ** 0.25)).toBeCloseTo(1, 6);
      expect(threeQuarters / (scales[i] * 10 ** 0.75)).toBeCloseTo(1, 6);
      return [
        [Math.log(quarter), top + height],
        [Math.log(threeQuarters), top],
      ];
    });
    const slope = slopeOf(
      places.map(([x]) => x),
      places.map(([, y]) => y),
    );
    const [[x0, y0]] = places;
    for (const [x, y] of places) expect(y).toBeCloseTo(y0 + slope * (x - x0), 3);
    expect(slope).toBeLessThan(-10);
    expect(svg.match(/aria-roledescription="tick"/g)).toHaveLength(4);
    await expect(
      boxPlot({ xLabel: '', yLabel: '', panels: [{ name: 'none', boxes: [{ at: 2, values: [0] }] }] }),
    ).rejects.toThrow('no positive value');
  });

  it('a heat map has a cell and a number for each pair', async () => {
    const cells = [0.5, 1].flatMap((x) => [0, 0.25].map((y) => ({ x, y, value: 0.01 * x + y })));
    const svg = await heatMap({ title: 'violation', xLabel: 't', yLabel: 's', cells });
    expect(svg.match(/aria-roledescription="rect mark"/g)).toHaveLength(4);
    for (const text of ['0.0050', '0.010', '0.26', 'violation']) expect(svg).toContain(text);
  });

  it('a grid of images has a picture in each cell', () => {
    const image = (level: number) => new Float32Array(4).fill(level);
    const canvas = labelledGrid({
      columns: ['a', 'b'],
      rows: [
        { name: 'one', images: [image(-1), image(1)] },
        { name: 'two', images: [image(0)] },
      ],
      shape: [1, 2, 2],
      range: [-1, 1],
      zoom: 10,
    });
    const count = (level: number) =>
      canvas.data.reduce((sum, value, i) => sum + Number(i % 3 === 0 && value === level), 0);
    // Ink is dark but not black.
    expect(count(0)).toBe(400);
    expect(count(128)).toBe(400);
  });
});
