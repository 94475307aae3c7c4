import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import * as z from 'zod';
import { readNetwork } from '../cli/networks.js';
import { openDevice } from '../node/device.js';
import { loadDataset } from '../node/data.js';
import { parseDescription } from '../src/flow/description.js';
import { createNetwork, type Network } from '../src/flow/network.js';
import type { Device } from '../src/gpu/device.js';
import { defineBackbone } from '../src/models/backbone.js';
import { registerBackbone } from '../src/models/index.js';
import { normal } from '../src/nn/initializers.js';
import { embedJump, jumpParameters, linearParameters, quickHarmonics } from '../src/nn/layers.js';
import { linear } from '../src/ops/matmul.js';
import { concat, gather, reshape } from '../src/ops/movement.js';
import { add, mul } from '../src/ops/pointwise.js';
import { Tensor } from '../src/tensor/tensor.js';
import { checkFit, type SampleSet } from '../trainers/batches.js';
import { distillationDefaults, lambdaOf, override, type DistillationConfig } from '../trainers/config.js';
import { checkRecipe, methodRecipe } from '../trainers/methods.js';
import { registerObjective } from '../trainers/objectives/index.js';
import { distil } from '../trainers/runs.js';

let device: Device;
beforeAll(async () => {
  device = await openDevice({ toggles: 'checked' });
});
afterAll(() => device.dispose());

describe('losses of a seed', () => {
  // As they were when these lines were written, on software Vulkan; adapters differ in their last digits.
  it.each([
    ['fmap', [0.092536, 0.1143, 0.10634]],
    ['meanflow', [0.43019, 0.44166, 0.3904]],
    ['shortcut', [0.048862, 0.049198, 0.02578]],
  ])('%s', async (method, losses) => {
    const teacher = await readNetwork('checkpoints/rf-checkerboard.safetensors');
    const data = await loadDataset('checkerboard');
    const recipe = { ...methodRecipe(method, distillationDefaults([2], 'velocity'), true), batch: 64 };
    const run = await distil({ device, teacher, data }, recipe);
    const metrics = await run.trainer.advance(3);
    run.dispose();
    metrics.forEach(({ loss }, i) => expect(Math.abs(loss / losses[i] - 1)).toBeLessThan(2e-3));
  });
});

/** x, t and a row of a table by class: the smallest network that knows classes and none. */
const tiny = defineBackbone({
  name: 'tiny',
  schema: z.object({ classes: z.number().int(), none: z.boolean() }),
  build: ({ classes, none }, { twoTime }) => ({
    sampleShape: [2],
    classes,
    nullClass: none,
    parameters: [
      ...linearParameters('layer', 3, 2),
      { name: 'table', shape: [classes + (none ? 1 : 0), 2], initializer: normal(0.02) },
      ...(twoTime ? jumpParameters(2) : []),
    ],
    apply: (p, { x, time, jump, labels }) => {
      const { size } = time;
      const rows = labels ?? new Tensor('constant', [], { value: classes }, [size], 'u32');
      const h = linear(concat([x, reshape(time, [size, 1])], 1), p('layer.weight'), p('layer.bias'));
      const conditioned = add(h, gather(p('table'), rows));
      return twoTime && jump ? add(conditioned, embedJump(p, jump, quickHarmonics)) : conditioned;
    },
  }),
});
registerBackbone(tiny);
const network = (none: boolean) =>
  createNetwork(parseDescription({ architecture: { kind: 'tiny', classes: 3, none }, prediction: 'velocity' }, 't'), 1);
const set = (labels: number[] | null, count = 60): SampleSet => ({
  name: 'data',
  shape: [2],
  count,
  values: Float32Array.from({ length: 2 * count }, (_, i) => Math.sin(7 * i)),
  range: [0, 1],
  ...(labels && { labels: Uint32Array.from({ length: count }, (_, i) => labels[i % labels.length]) }),
});

describe('rates of a student', () => {
  /** How far weights move in a first step, by where they come from. */
  async function moved(student: Partial<DistillationConfig['student']>) {
    const defaults = methodRecipe('fmap', distillationDefaults([2], 'velocity'), true);
    const optimizer = { rate: 1e-2, warmup: 0 };
    const ema = { export: { law: 'decay', decay: 0 } };
    const recipe = override(defaults, { batch: 8, optimizer, ema, student });
    const teacher = network(true);
    const run = await distil({ device, teacher, data: set([0, 1, 2]) }, recipe);
    const start = await (await run.now()).weights.read('layer.weight');
    await run.trainer.advance(1);
    const { weights } = await run.now();
    const farthest = (values: Float32Array, from: Float32Array = new Float32Array(values.length)) =>
      Math.max(...values.map((value, i) => Math.abs(value - from[i])));
    const inherited = farthest(await weights.read('layer.weight'), start);
    const own = farthest(await weights.read('jump_embedder.2.bias'));
    run.dispose();
    return { inherited, own };
  }

  // A first step of Adam is as long as its rate, whatever the gradient.
  it.each([
    [{}, 1e-2, 1e-2],
    [{ rates: { inherited: 0.25, own: 2 } }, 2.5e-3, 2e-2],
    [{ rates: { inherited: 0, own: 0.5 } }, 0, 5e-3],
    [{ init: 'scratch' as const, rates: { inherited: 0.25, own: 2 } }, 1e-2, 1e-2],
  ])('%o', async (student, inherited, own) => {
    const steps = await moved(student);
    expect(steps.inherited).toBeCloseTo(inherited, 5);
    expect(steps.own).toBeCloseTo(own, 5);
  });
});

describe('the diagonal of the data', () => {
  it('is that of a student which the data leads, whoever the teacher is', async () => {
    const defaults = distillationDefaults([2], 'velocity', true);
    const after = async (changes: Partial<DistillationConfig>) => {
      const run = await distil(
        { device, teacher: network(true), data: set([0, 1, 2]) },
        { ...defaults, batch: 8, ...changes },
      );
      await run.trainer.advance(4);
      const { weights, layout } = await run.now();
      run.dispose();
      return layout.collect(weights);
    };
    const [own, led, taught] = [
      await after({ lambda: lambdaOf({ dataDiagonal: 1 }) }),
      await after({ velocity: 'data', lambda: lambdaOf({ diagonal: 1 }) }),
      await after({ lambda: lambdaOf({ diagonal: 1 }) }),
    ];
    expect(own).toEqual(led);
    expect(own).not.toEqual(taught);
  });
  it('is that of no guidance', () => {
    const recipe = distillationDefaults([1, 4, 4], 'velocity', true, false);
    const changes = { lambda: lambdaOf({ emd: 1, dataDiagonal: 0.3 }), guidance: { from: 2, to: 2 } };
    expect(() => checkRecipe({ ...recipe, ...changes }, true)).toThrow(/dataDiagonal teaches the velocity of the data/);
  });
});

describe('classes of a student', () => {
  const defaults = distillationDefaults([2], 'velocity', true);
  // At the start a student is its teacher: what it has to learn comes from the data.
  const flow = { velocity: 'data' as const, lambda: lambdaOf({ diagonal: 1 }) };
  const recipe = { ...defaults, batch: 64, steps: 100, ...flow };
  /** How far each row of the table moved in some steps. */
  async function moved(teacher: Network, data: SampleSet, labelDropout: number) {
    const run = await distil({ device, teacher, data }, { ...recipe, labelDropout });
    await run.trainer.advance(5);
    const before = await teacher.weights.read('table');
    const student = await run.now();
    run.dispose();
    const table = await student.weights.read('table');
    return Array.from({ length: before.length / 2 }, (_, row) =>
      Math.hypot(table[2 * row] - before[2 * row], table[2 * row + 1] - before[2 * row + 1]),
    );
  }
  it('include none by default, where its network knows none', async () => {
    expect(recipe.labelDropout).toBe(0.1);
    for (const way of await moved(network(true), set([0, 1, 2]), recipe.labelDropout))
      expect(way).toBeGreaterThan(1e-4);
    // An average of what never changes keeps a rounding error.
    const still = 1e-7;
    expect((await moved(network(true), set([0, 1, 2]), 0))[3]).toBeLessThan(still);
    const hidden = await moved(network(true), set(null), 1);
    for (const way of hidden.slice(0, 3)) expect(way).toBeLessThan(still);
    expect(hidden[3]).toBeGreaterThan(1e-4);
    expect(distillationDefaults([2], 'velocity', false).labelDropout).toBe(0);
  });
  it.each([
    ['unlabelled data', true, null, 0.1, /has no labels, and the network's 3 classes.*hide all labels/],
    ['unlabelled data, no null class', false, null, 0, /has no labels.*: give labelled data$/],
    ['a class that the network does not know', true, [0, 1, 3], 0.1, /labels up to 3.*3 classes, 0 to 2/],
    ['hidden labels without a class for none', false, [0, 1, 2], 0.1, /no class that means none/],
  ])('%s is refused', (_, none, labels, dropout, says) => {
    expect(() => checkFit(set(labels), network(none).model, dropout)).toThrow(says);
  });
  it('that data lacks are named', () => {
    const { model } = network(true);
    expect(checkFit(set([0, 2]), model, 0.1)).toMatch(/holds 2 of the network's 3 classes: without samples of 1,/);
    expect(checkFit(set([2, 1, 0]), model, 0.1)).toBeNull();
    expect(checkFit(set(null), model, 1)).toBeNull();
  });
});

describe('an objective from outside', () => {
  it('is trained beside those that are built in, and counts by its weight', async () => {
    // Regression on a constant: what the loss must come to is known.
    registerObjective({
      name: 'constantField',
      summary: 'the velocity (1, 1) everywhere',
      asked: 'end',
      sampler: 'euler',
      target: ({ x }) => add(mul(x, 0), 1),
    });
    const defaults = distillationDefaults([2], 'velocity');
    const optimizer = { ...defaults.optimizer, rate: 0.05, warmup: 0 };
    const ema = { ...defaults.ema, target: { ...defaults.ema.target, decay: 0 } };
    const alone = { ...defaults, ema, batch: 16, steps: 200, optimizer, lambda: lambdaOf({ constantField: 1 }) };
    const run = await distil({ device, teacher: network(false), data: set([0, 1, 2]) }, alone);
    expect((await run.now()).description.sampler).toBe('euler');
    const losses: number[] = [];
    while (run.trainer.stepsDone < 200) losses.push(...(await run.trainer.advance(64)).map(({ loss }) => loss));
    expect(losses.at(-1)!).toBeLessThan(0.02 * losses[0]);

    // .001 of a batch of 16 is no whole row; the total is that of the λs all the same.
    const lambda = lambdaOf({ constantField: 1e-3, diagonal: 0.3 });
    const shared = await distil({ device, teacher: network(false), data: set([0, 1, 2]) }, { ...alone, lambda });
    for (const { loss, constantField, diagonal } of await shared.trainer.advance(3))
      expect(loss / ((1e-3 * constantField + 0.3 * diagonal) / 0.301)).toBeCloseTo(1, 4);
  });
});
