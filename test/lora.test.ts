import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { random } from '../src/tensor/philox.js';
import { readSafetensors, writeSafetensors } from '../node/files.js';
import { openDevice } from '../node/device.js';
import { evaluate } from '../src/autodiff/eager.js';
import { gradients } from '../src/autodiff/gradients.js';
import { withAdapters } from '../src/flow/adapter.js';
import { parseDescription } from '../src/flow/description.js';
import { bindNetwork, createNetwork, loadNetwork, studentOf, type Network } from '../src/flow/network.js';
import { Runner } from '../src/flow/runner.js';
import { TensorStorage } from '../src/gpu/storage.js';
import type { Device } from '../src/gpu/device.js';
import { adaptedParameters, isAdapted, loraParameters, mergeLora } from '../src/nn/lora.js';
import { ParameterLayout } from '../src/nn/parameters.js';
import { sum } from '../src/ops/broadcast.js';
import { square, sub } from '../src/ops/pointwise.js';
import { distillationDefaults, lambdaOf } from '../trainers/config.js';
import { methodRecipe } from '../trainers/methods.js';
import { distil } from '../trainers/runs.js';
import { arenaOf, changed, drawn } from './support/weights.js';

let device: Device;
const folder = mkdtempSync(join(tmpdir(), 'semiflow-lora-'));
beforeAll(async () => {
  device = await openDevice({ toggles: 'checked' });
});
afterAll(() => device.dispose());

const architectures = {
  mlp: { kind: 'mlp', dim: 2, width: 12, depth: 2, activation: 'silu', time: 'features' },
  sit: { kind: 'sit', inputSize: 4, patchSize: 2, inChannels: 1, hiddenSize: 8, depth: 1, numHeads: 2, numClasses: 3 },
  vit: {
    kind: 'vit',
    imageSize: 4,
    patchSize: 2,
    channels: 1,
    width: 8,
    depth: 1,
    heads: 2,
    mlpWidth: 12,
    norm: 'post',
    classes: 3,
  },
  unet: {
    kind: 'unet',
    imageSize: 4,
    inChannels: 1,
    modelChannels: 32,
    numResBlocks: 1,
    channelMult: [1, 1],
    attentionResolutions: [2],
  },
} as const;

/** A network of a kind whose weights are all random, so that nothing hides behind a zero. */
function randomTeacher(kind: keyof typeof architectures): Network {
  const network = createNetwork(
    parseDescription({ architecture: architectures[kind], time: 'noise-at-1', prediction: 'velocity' }, 'test'),
    1,
  );
  const { normal } = random(5);
  return changed(network, () => 0.2 * normal());
}

describe.each(Object.keys(architectures) as (keyof typeof architectures)[])('an adapter of a %s', (kind) => {
  const lora = { rank: 3, alpha: 6 };
  it('computes on the device what merging computes in float64, convolutions too, and has a gradient', async () => {
    const student = studentOf(randomTeacher(kind));
    const { parameters, adapted, studentParameters } = student.model;
    const layout = new ParameterLayout(loraParameters(parameters, adapted, studentParameters, lora.rank));
    const { normal } = random(8);
    const arena = (await drawn(layout, 2)).map(() => 0.3 * normal());
    const base = bindNetwork(student, 'base', device.profile);
    const trained = layout.bind(new TensorStorage('adapter', 'f32', layout.length, arena));
    const bound = adaptedParameters(base, trained, parameters, adapted, studentParameters, lora);
    const given = layout.weightsOf(arena);
    const merged = mergeLora(student.weights, given, parameters, adapted, studentParameters, lora);
    const wanted = bindNetwork({ ...student, weights: merged }, 'merged', device.profile);
    const chosen = parameters.filter((parameter) => isAdapted(parameter, adapted));
    expect(chosen.length).toBeGreaterThan(2);
    for (const { name } of chosen) {
      const [difference] = await evaluate(device, sum(square(sub(bound(name), wanted(name)))));
      expect(Math.sqrt(difference)).toBeLessThan(1e-4);
    }
    const [{ name }] = chosen;
    const key = layout.parameters.find((parameter) => parameter.name.endsWith('lora_A.weight'))!.name;
    const [slope] = gradients(sum(square(bound(name))), [trained(key)]);
    expect((await evaluate(device, slope)).some((value) => value !== 0)).toBe(true);
  });

  it("keeps PEFT's shapes, and leaves embeddings and norms alone", () => {
    const { parameters, adapted, studentParameters } = studentOf(randomTeacher(kind)).model;
    const made = loraParameters(parameters, adapted, studentParameters, 3);
    for (const { name, shape } of parameters) {
      const module = `base_model.model.${name.replace(/\.weight$/, '')}`;
      const [a, b] = ['A', 'B'].map((side) => made.find((other) => other.name === `${module}.lora_${side}.weight`));
      if (shape.length === 1 || /embed|norm|emb_layers|y_encoder/.test(name)) expect(a).toBeUndefined();
      if (!a || !b) continue;
      expect(a.shape).toEqual([3, ...shape.slice(1)]);
      expect(b.shape).toEqual([shape[0], 3, ...shape.slice(2).map(() => 1)]);
    }
  });
});

describe('distilling by an adapter', () => {
  it('trains it alone, and the merged file is the trained student', async () => {
    const teacher = randomTeacher('mlp');
    const defaults = distillationDefaults([2], 'velocity');
    const recipe = {
      ...methodRecipe('fmap', defaults, true),
      steps: 20,
      batch: 32,
      student: { ...defaults.student, loraRank: 2 },
    };
    const { normal } = random(4);
    const values = Float32Array.from({ length: 256 }, () => normal());
    const run = await distil({ device, teacher, data: { shape: [2], count: 128, values, range: [0, 1] } }, recipe);
    const start = await run.now();
    expect(run.trained).toBeLessThan(start.layout.count);
    const metrics = await run.trainer.advance(20);
    expect(metrics.every(({ loss }) => Number.isFinite(loss))).toBe(true);
    const { tensors, metadata } = run.file();
    const path = join(folder, 'adapter.safetensors');
    await writeSafetensors(path, tensors, metadata);
    const { network: merged } = await withAdapters(teacher, [{ file: await readSafetensors(path), scale: 1 }]);
    const now = await run.now();
    expect(merged.description).toEqual(now.description);
    const [before, after] = [await arenaOf(start), await arenaOf(now)];
    expect(await arenaOf(merged)).toEqual(after);
    expect(after.some((value, i) => value !== before[i])).toBe(true);
    await expect(loadNetwork(await readSafetensors(path))).rejects.toThrow(/is an adapter.*semiflow merge/s);
    const other = join(folder, 'teacher.safetensors');
    await writeSafetensors(other, { x: { dtype: 'F32', shape: [1], data: Float32Array.of(1) } }, {});
    await expect(withAdapters(teacher, [{ file: await readSafetensors(other), scale: 1 }])).rejects.toThrow(
      /"x" is no part of a low-rank adapter/,
    );
  });
});

describe('guidance', () => {
  const teacher = randomTeacher('sit');
  const [x, t] = [Float32Array.from({ length: 32 }, (_, i) => Math.sin(i)), Float32Array.of(0.8, 0.3)];
  const labels = Uint32Array.of(2, 0);

  it('of a teacher is v(none) + w (v(class) - v(none))', async () => {
    const ask = async (guidance: number, labels?: Uint32Array) => {
      const runner = new Runner(device, teacher, 2, guidance);
      const v = await runner.velocity({ x, t, labels });
      runner.dispose();
      return v;
    };
    const [free, given, guided] = [await ask(1), await ask(1, labels), await ask(2.5, labels)];
    guided.forEach((value, i) => expect(value).toBeCloseTo(free[i] + 2.5 * (given[i] - free[i]), 4));
  });

  it('counts between two times alone, where the description says so', async () => {
    const between = (from: number, to: number) => ({ ...teacher.description, guidanceTimes: { from, to } });
    const ask = async (guidance: number, description = teacher.description) => {
      const runner = new Runner(device, { ...teacher, description }, 2, guidance);
      const v = await runner.velocity({ x, t, labels });
      runner.dispose();
      return v;
    };
    const [plain, guided, late, early] = [
      await ask(1),
      await ask(2.5),
      await ask(2.5, between(0.5, 1)),
      await ask(2.5, between(0.1, 0.7)),
    ];
    expect(plain.every((value, i) => value !== guided[i])).toBe(true);
    // The first sample is at t = .8, the second at .3.
    plain.forEach((value, i) => {
      const [first, second] = i < 16 ? [guided[i], value] : [value, guided[i]];
      expect(late[i]).toBeCloseTo(first, 5);
      expect(early[i]).toBeCloseTo(second, 5);
    });
    expect(() => parseDescription(between(0.7, 0.3), 'it')).toThrow(/guidanceTimes: they go from the earlier/);
  });

  it('at some times alone is refused to samplers of noise levels', async () => {
    const network = { ...teacher, description: { ...teacher.description, guidanceTimes: { from: 0.3, to: 0.7 } } };
    const runner = new Runner(device, network, 2, 2);
    expect(() => runner.output({ x, t, labels })).toThrow(/take euler, heun or rk4/);
    runner.dispose();
  });

  it('is learned by a student as an input', async () => {
    const defaults = distillationDefaults([1, 4, 4], 'velocity', false, false);
    // One objective: each compiles kernels of its own.
    const lambda = lambdaOf({ lmd: 1 });
    const recipe = {
      ...methodRecipe('fmap', defaults, true),
      lambda,
      steps: 12,
      batch: 8,
      guidance: { from: 1, to: 4 },
    };
    const values = Float32Array.from({ length: 160 }, (_, i) => Math.cos(3 * i));
    const data = {
      shape: [1, 4, 4],
      count: 10,
      values,
      range: [0, 1] as const,
      labels: new Uint32Array(10).map((_, i) => i % 3),
    };
    const run = await distil({ device, teacher, data }, recipe);
    await run.trainer.advance(12);
    const student = await run.now();
    expect(student.description.guidance).toEqual({ from: 1, to: 4 });
    const jump = async (guidance: number) => {
      const runner = new Runner(device, student, 2, guidance);
      const reached = await runner.jump({ x, t, s: new Float32Array(2), labels });
      runner.dispose();
      return reached;
    };
    const [weak, strong] = [await jump(1), await jump(4)];
    expect(weak.some((value, i) => value !== strong[i])).toBe(true);
    expect(() => new Runner(device, student, 2, 5)).toThrow(/learned guidance from 1 to 4/);
    expect(() => new Runner(device, randomTeacher('mlp'), 2, 2)).toThrow(/needs a network that knows classes/);
  });
});
