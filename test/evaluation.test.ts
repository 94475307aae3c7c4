import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openDevice } from '../node/device.js';
import type { Dataset } from '../src/data/dataset.js';
import { disjoint, firstOf, shuffledHeldOut } from '../src/data/held-out.js';
import { experimentNames } from '../src/experiments/index.js';
import { Parts } from '../src/experiments/parts.js';
import { memoryStore, readText } from '../src/files/store.js';
import { parseDescription } from '../src/flow/description.js';
import { createNetwork, studentOf, type Network } from '../src/flow/network.js';
import type { Device } from '../src/gpu/device.js';
import { sampleMetrics } from '../src/metrics/index.js';
import { pairsOn } from '../src/metrics/pairs.js';
import { squaredDistance } from '../src/metrics/points.js';
import { slicedWasserstein } from '../src/metrics/sliced-wasserstein.js';
import { random } from '../src/tensor/philox.js';
import { evaluateStudent, type Evaluation } from '../trainers/evaluation/evaluation.js';
import { lossPlot, reportRun } from '../trainers/evaluation/run-report.js';
import { sampleQuality } from '../trainers/evaluation/sample-quality.js';
import { affordable } from '../trainers/evaluation/truth.js';
import { SharedFigures } from '../trainers/evaluation/shared.js';
import { verdict } from '../trainers/evaluation/verdict.js';

/** Held-out samples in two classes around -1 and 1, the first class before the second, as files have them. */
function sorted(count: number, dim = 2, spread = 0.1): Dataset {
  const { normal } = random(count);
  const labels = Uint32Array.from({ length: count }, (_, i) => Number(i >= count / 2));
  const values = Float32Array.from(
    { length: count * dim },
    (_, i) => 2 * labels[Math.floor(i / dim)] - 1 + spread * normal(),
  );
  const samples = { count, values, labels };
  return {
    name: 'two classes',
    kind: 'points',
    shape: [dim],
    range: [-2, 2],
    classes: 2,
    notes: [],
    summary: '',
    ...samples,
    heldOut: samples,
  };
}

describe('held-out samples', () => {
  it('come in an order by chance, the same every time, each with its own label', () => {
    for (const count of [1, 2, 3, 7, 100, 1001]) {
      const data = sorted(count, 3);
      const held = shuffledHeldOut(data);
      expect(shuffledHeldOut(data)).toEqual(held);
      expect([...held.x].sort()).toEqual([...data.heldOut.values].sort());
      for (let i = 0; i < count; i++) expect(held.labels![i]).toBe(Number(held.x[3 * i] > 0));
    }
  });

  it('are parted into halves that share none and have the classes of the whole', () => {
    for (const count of [0, 1, 2, 3, 10, 101, 1000]) {
      for (const most of [1, 4, 50, 5000]) {
        const data = sorted(count, 1, 1);
        const [first, rest] = disjoint(shuffledHeldOut(data), most);
        expect(first.count).toBe(Math.min(most, Math.floor(count / 2)));
        expect(first.count + rest.count).toBe(count);
        expect(rest.count).toBeGreaterThanOrEqual(first.count);
        expect(first.x).toHaveLength(first.count);
        const all = new Set([...first.x, ...rest.x]);
        expect(all.size).toBe(count);
      }
    }
    const [first, rest] = disjoint(shuffledHeldOut(sorted(1000)), 5000);
    for (const { labels, count } of [first, rest, firstOf(rest, 100)])
      expect(Math.abs(labels!.reduce((sum, label) => sum + label, 0) / count - 0.5)).toBeLessThan(0.15);
    // In file order the halves are one class each, 2 apart in either coordinate.
    expect(slicedWasserstein(first.x, rest.x, 2)).toBeLessThan(0.5);
  });
});

describe('parts of an experiment', () => {
  it('are computed once, keep what is no finite number, and are computed anew where a file is damaged', async () => {
    const store = memoryStore('a place');
    const parts = await Parts.open(store, { seed: 1 });
    const value = { a: [NaN, Infinity, -Infinity, 0, 1 / 3], text: 'NaN', none: null };
    let computed = 0;
    const compute = async () => {
      computed++;
      return value;
    };
    expect(await parts.part('a b', compute)).toEqual(value);
    expect(await (await Parts.open(store, { seed: 1 })).part('a b', compute)).toEqual(value);
    expect(computed).toBe(1);
    await store.write('parts/a-b.json', '{"a": [1,');
    expect(await parts.part('a b', compute)).toEqual(value);
    expect(computed).toBe(2);
    await expect(Parts.open(store, { seed: 2 })).rejects.toThrow(/a place holds results of other settings/);
    expect(experimentNames).toEqual(['steps', 'drift', 'editing', 'violation']);
  });
});

describe('the metrics of samples', () => {
  it('have names, headings and explanations of their own, and are 0 or 1 between equals', () => {
    for (const key of ['name', 'heading', 'explanation'] as const)
      expect(new Set(sampleMetrics.map((metric) => metric[key])).size).toBe(sampleMetrics.length);
    const x = Float32Array.from({ length: 60 }, random(1).normal);
    const classes = Uint32Array.from({ length: 20 }, (_, i) => i % 3);
    const features = { values: x, dim: 3, classes };
    const reference = { x, features, allFeatures: features };
    const values = Object.fromEntries(
      sampleMetrics.map((metric) => [metric.name, metric.compute({ dim: 3, x, labels: classes, features, reference })]),
    );
    expect(values).toMatchObject({ slicedW2: 0, frechet: 0, precision: 1, recall: 1, agreement: 1 });
    // Without bias means: below 0 where the same points stand on both sides.
    for (const name of ['mmd2', 'kernel']) expect(values[name]).toBeLessThan(0);
  });
});

describe('the evaluation of a student', () => {
  let device: Device;
  beforeAll(async () => void (device = await openDevice()));
  afterAll(() => device.dispose());
  const teacher = createNetwork(
    parseDescription(
      {
        architecture: { kind: 'mlp', dim: 2, width: 8, depth: 1, activation: 'silu', time: 'concat' },
        time: 'noise-at-1',
        prediction: 'velocity',
      },
      'a test',
    ),
    1,
  );
  const student = studentOf(teacher);

  it('compares with data that is sorted by class as with any other: the floor is low', async () => {
    const { rows, notes } = await sampleQuality({ device, teacher, student, data: sorted(2000) });
    expect(rows[0].by).toBe('data');
    expect(rows[0].slicedW2).toBeLessThan(0.5);
    expect(Math.abs(rows[0].mmd2!)).toBeLessThan(0.02);
    expect(rows.map(({ steps }) => steps)).toEqual([0, 1, 2, 4, 8, 1, 4, 50]);
    expect(notes).toEqual([]);
  });

  it('has distances between points of many values from the device, to the same MMD²', async () => {
    const metric = sampleMetrics.find(({ name }) => name === 'mmd2')!;
    for (const [n, m, dim] of [
      [2, 2, 1],
      [13, 7, 5],
      [41, 64, 131],
    ]) {
      const { normal } = random(dim);
      const x = Float32Array.from({ length: n * dim }, normal);
      const y = Float32Array.from({ length: m * dim }, () => 0.5 + normal());
      const squared = await pairsOn(device)(x, y, dim);
      expect(squared).toHaveLength(n * m);
      squared.forEach((value, i) => expect(value).toBeCloseTo(squaredDistance(x, Math.floor(i / m), y, i % m, dim), 3));
      const onHost = metric.compute({ dim, x, reference: { x: y } });
      expect(await metric.compute({ dim, x, reference: { x: y }, pairs: pairsOn(device) })).toBeCloseTo(
        Number(onHost),
        6,
      );
    }
  });

  it('says where there is too little data to judge by', async () => {
    for (const [count, said] of [
      [1, [/1 held-out samples: two and more/]],
      [2, [/MMD²: needs 2 samples on either side, there are 1/]],
      [3, [/MMD²: needs 2/]],
      [4, []],
    ] as const) {
      const { rows, notes } = await sampleQuality({ device, teacher, student, data: sorted(count) });
      expect(rows).toHaveLength(count < 2 ? 0 : 8);
      expect(notes).toHaveLength(said.length);
      said.forEach((pattern, i) => expect(notes[i]).toMatch(pattern));
      for (const { slicedW2 } of rows) expect(Number.isFinite(slicedW2)).toBe(true);
    }
  });

  it('is written whole of data that are all alike, a single one, and none', async () => {
    const alike = sorted(64, 2, 0);
    alike.heldOut.values.fill(0);
    for (const data of [alike, null]) {
      const store = memoryStore('a run');
      const metrics = [{ step: 1, loss: NaN }] as unknown as Parameters<typeof lossPlot>[0];
      const evaluation = await reportRun({ device, teacher, student, data }, store, { metrics, config: 'seed: 0' });
      const files = ['README.md', 'evaluation.json', 'flow-map.png', 'report.html', 'teacher.png'];
      expect((await store.list()).sort()).toEqual(files);
      const html = (await readText(store, 'report.html'))!;
      expect(html).toContain('not drawn: ');
      expect(html).not.toMatch(/undefined|\bNaN\b/);
      const saved = JSON.parse((await readText(store, 'evaluation.json'))!) as typeof evaluation;
      expect(saved!.quality).toHaveLength(data && data.heldOut.count > 1 ? 8 : 0);
      expect(saved!.report).not.toHaveProperty('identityRmse');
    }
  });

  it('computes what students of one teacher share once, to the same figures, and tells of all that it does', async () => {
    const data = sorted(64);
    const other = createNetwork({ ...student.description }, 3);
    const shared = new SharedFigures();
    const alone: string[] = [];
    const after: string[] = [];
    const of = (subject: typeof student, options: object) =>
      evaluateStudent({ device, teacher, student: subject, data }, { samples: 32, ...options });
    await of(student, { shared });
    const apart = await of(other, { onProgress: (what: string) => alone.push(what) });
    const beside = await of(other, { shared, onProgress: (what: string) => after.push(what) });
    expect(beside).toEqual(apart);
    const ofTeacher = (what: string) => /teacher|true flow|real samples|floor/.test(what);
    expect(alone.filter(ofTeacher).length).toBeGreaterThan(10);
    expect(after.filter(ofTeacher)).toEqual(["the teacher's fit"]);
    expect(after.filter((what) => !ofTeacher(what))).toEqual(alone.filter((what) => !ofTeacher(what)));
    // What failed is tried again.
    await expect(shared.once('a', () => Promise.reject(new Error('no')))).rejects.toThrow('no');
    expect(await shared.once('a', async () => 1)).toBe(1);
  });

  it('says first what came of it, in sentences that hold for every kind of student', async () => {
    const report = (over: object): string => {
      const flow = {
        worthEulerSteps: { steps: 20, relation: '=' },
        drift: [{ hops: 8, drift: 0.0004 }],
        jumps: [1, 4, 16].map((jumps) => ({ jumps, rmse: 0.1 })),
        solvers: [1, 4, 16].map((steps) => ({ solver: 'euler', steps, evaluations: steps, rmse: 0.5 })),
        ...over,
      } as Evaluation['report'];
      const quality = [
        { samples: '', by: 'data' as const, steps: 0, slicedW2: 0.01, mmd2: null },
        { samples: '', by: 'flow map' as const, steps: 1, slicedW2: 0.02, mmd2: null },
        { samples: '', by: 'teacher' as const, steps: 50, slicedW2: 0.015, mmd2: null },
      ];
      return verdict(student, { report: flow, quality }, { method: 'fmap', steps: 300, teacher: 'rf-moons' });
    };
    expect(report({})).toBe(
      'A flow map was distilled from the teacher rf-moons by fmap in 300 steps. One jump, a single call of the network, comes as near to the true flow as 20.0 Euler steps of the teacher. That is good: sampling costs a small part of what it did, at the same quality. Its samples in one step are 0.020 from held-out data (sliced W2), where other data read 0.010 and 50 steps of the teacher 0.015. Jumping in 8 hops ends 0.020 a coordinate away from one jump, in the mean.',
    );
    const jumps = [0.6, 0.1, 0.501].map((rmse, i) => ({ jumps: [1, 4, 16][i], rmse }));
    expect(report({ jumps })).toContain('At 1 and 16 calls Euler steps of the teacher are nearer');
    expect(report({ worthEulerSteps: { steps: 96, relation: '>' } })).toContain('more than 96.0 Euler steps');
    expect(report({ worthEulerSteps: { steps: 5, relation: '=' } })).toContain('That is fair');
    expect(report({ worthEulerSteps: { steps: 1, relation: '<' } })).toMatch(/fewer than 1.0 Euler.*That is poor/);
    const consistency = studentOf(teacher, { ...student.description, sampler: 'consistency' });
    const store = memoryStore();
    await reportRun({ device, teacher, student: consistency }, store, { evaluate: false });
    const html = (await readText(store, 'report.html'))!;
    expect(html).toContain('A consistency model');
    expect(html).not.toContain('flow map');
    expect(html).toMatch(/semiflow<\/dt><dd>\d+\.\d+/);
    expect((await readText(store, 'README.md'))!).toContain('library_name: semiflow');
  });

  it('takes fewer images for a large network, so that judging it takes minutes on any machine', () => {
    const sized = (weights: number) => ({ layout: { count: weights } }) as unknown as Network;
    const [small, large, huge] = [3e5, 9e6, 8.6e8].map((weights) => affordable(sized(weights), 512, 64));
    expect([small, huge]).toEqual([512, 64]);
    expect(affordable(sized(2e6), 512, 64)).toBe(256);
    expect(large).toBeLessThanOrEqual(64);
  });

  it('draws its own samples of another seed than those it judges', async () => {
    const of = (seed: number) => evaluateStudent({ device, teacher, student, data: null }, { samples: 32, seed });
    const [a, b] = [await of(4), await of(5)];
    expect(a.report.operatorRmse).not.toBe(b.report.operatorRmse);
    expect(a.fit).toBeNull();
  });
});
