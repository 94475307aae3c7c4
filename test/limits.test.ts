import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openDevice } from '../node/device.js';
import { evaluate } from '../src/autodiff/eager.js';
import { compile } from '../src/autodiff/compile.js';
import { createClassifier } from '../src/features/classifier-file.js';
import { parseDescription } from '../src/flow/description.js';
import { createNetwork } from '../src/flow/network.js';
import type { Device } from '../src/gpu/device.js';
import { TensorStorage } from '../src/gpu/storage.js';
import { concat, reshape } from '../src/ops/movement.js';
import { assign } from '../src/ops/optimizer.js';
import { add, mul, sin } from '../src/ops/pointwise.js';
import { random } from '../src/tensor/philox.js';
import { sizeOf } from '../src/tensor/shape.js';
import { fromStorage } from '../src/tensor/tensor.js';
import {
  classificationDefaults,
  distillationDefaults,
  lambdaOf,
  teacherDefaults,
  type DistillationConfig,
} from '../trainers/config.js';
import { methodNames, methodRecipe } from '../trainers/methods.js';
import { distil, trainClassifier, trainTeacher } from '../trainers/runs.js';
import { openNullDevice } from './support/null-device.js';
import { changed } from './support/weights.js';

/** What WebGPU promises on every adapter. */
const limits = {
  maxStorageBuffersPerShaderStage: 8,
  maxStorageBufferBindingSize: 128 * 2 ** 20,
  maxBufferSize: 256 * 2 ** 20,
};

const architectures = {
  mlp: { kind: 'mlp', dim: 2, width: 12, depth: 2, activation: 'silu', time: 'features' },
  sit: { kind: 'sit', inputSize: 8, patchSize: 2, inChannels: 1, hiddenSize: 16, depth: 1, numHeads: 2, numClasses: 3 },
  vit: {
    kind: 'vit',
    imageSize: 8,
    patchSize: 2,
    channels: 1,
    width: 16,
    depth: 1,
    heads: 2,
    mlpWidth: 32,
    norm: 'post',
    classes: 3,
  },
  unet: {
    kind: 'unet',
    imageSize: 8,
    inChannels: 1,
    modelChannels: 32,
    numResBlocks: 1,
    channelMult: [1, 2],
    attentionResolutions: [2],
    numClasses: 3,
    useScaleShiftNorm: true,
  },
  dit: {
    kind: 'dit',
    sample_size: 8,
    in_channels: 1,
    out_channels: 1,
    num_layers: 1,
    num_attention_heads: 2,
    attention_head_dim: 8,
    num_embeds_ada_norm: 3,
  },
  'unet-2d': {
    kind: 'unet-2d',
    sample_size: 8,
    in_channels: 1,
    out_channels: 1,
    block_out_channels: [16, 16],
    down_block_types: ['DownBlock2D', 'AttnDownBlock2D'],
    up_block_types: ['AttnUpBlock2D', 'UpBlock2D'],
    layers_per_block: 1,
    norm_num_groups: 8,
  },
  'unet-2d-condition': {
    kind: 'unet-2d-condition',
    sample_size: 8,
    in_channels: 1,
    out_channels: 1,
    block_out_channels: [16, 16],
    down_block_types: ['CrossAttnDownBlock2D', 'DownBlock2D'],
    up_block_types: ['UpBlock2D', 'CrossAttnUpBlock2D'],
    layers_per_block: 1,
    norm_num_groups: 8,
    cross_attention_dim: 16,
    attention_head_dim: 2,
    context_tokens: 3,
  },
};
type Name = keyof typeof architectures;

function subjectOf(name: Name) {
  const image = name !== 'mlp';
  const shape = image ? [1, 8, 8] : [2];
  const description = parseDescription(
    {
      architecture: architectures[name],
      prediction: name === 'vit' ? 'data' : 'velocity',
      ...(name === 'vit' && { minimumTime: 0.05 }),
      ...(image && { dataRange: [-1, 1] }),
    },
    name,
  );
  const draw = random(3);
  const count = 32;
  const size = shape.reduce((a, b) => a * b);
  const values = Uint8Array.from({ length: count * size }, () => draw.below(256));
  const teacher = createNetwork(description, 1);
  const { classes, conditions } = teacher.model;
  const labels = classes ? Uint32Array.from({ length: count }, () => draw.below(classes)) : undefined;
  const told = Object.entries(conditions).map(
    ([key, { shape: each }]) => [key, { shape: each, values: new Float32Array(count * sizeOf(each)) }] as const,
  );
  const data = { shape, count, values, range: [-1, 1] as const, labels, conditions: Object.fromEntries(told) };
  return {
    teacher,
    data,
    defaults: distillationDefaults(shape, description.prediction),
  };
}

describe('within the limits that WebGPU promises, everything that ships is a valid program', () => {
  let device: Device;
  const errors: string[] = [];
  beforeAll(async () => {
    device = await openNullDevice({
      toggles: 'checked',
      family: 'tiled',
      limits,
      onFailure: (message) => errors.push(message),
    });
  });
  afterAll(() => device.dispose());

  async function compiles(training: Promise<{ trainer: { dispose(): void } }>) {
    (await training).trainer.dispose();
    await device.finished();
    expect(errors).toEqual([]);
  }
  const small = { steps: 4, batch: 8 };
  const precisions = ['f32', 'f16'] as const;

  it.each(
    (Object.keys(architectures) as Name[]).flatMap((name) => precisions.map((precision) => [name, precision] as const)),
  )('%s in %s: distillation, and a teacher in f16, a low-rank adapter in f32', async (name, precision) => {
    const { teacher, data, defaults } = subjectOf(name);
    const recipe: DistillationConfig = { ...defaults, ...small, precision, labelDropout: 0 };
    await compiles(distil({ device, teacher, data }, recipe));
    if (precision === 'f32')
      await compiles(distil({ device, teacher, data }, { ...recipe, student: { ...recipe.student, loraRank: 2 } }));
    else
      await compiles(
        trainTeacher(
          { device, teacher, data },
          { ...teacherDefaults(data.shape), ...small, precision, labelDropout: 0 },
        ),
      );
  });

  it.each([
    ...(Object.keys(architectures) as Name[]).map((name) => [name, 'a whole', 0] as const),
    ['sit', 'a low-rank', 2] as const,
  ])('%s: distribution matching, with %s fake', async (name, _, rank) => {
    const { teacher, data, defaults } = subjectOf(name);
    const recipe = { ...methodRecipe('distribution', { ...defaults, ...small }, true), ...small };
    await compiles(
      distil({ device, teacher, data }, { ...recipe, distribution: { ...recipe.distribution, rank, updates: 2 } }),
    );
  });

  it.each(methodNames)('the method %s, and blocks computed anew', async (method) => {
    const { teacher, data, defaults } = subjectOf('sit');
    const recipe = { ...methodRecipe(method, { ...defaults, ...small }, true), ...small, checkpointBlocks: true };
    await compiles(distil({ device, teacher, data }, recipe));
  });

  it('a classifier', async () => {
    const { data } = subjectOf('unet');
    const classifier = createClassifier(
      {
        kind: 'cnn',
        imageShape: [1, 8, 8],
        channels: [4, 8],
        padding: 1,
        pooled: 1,
        norms: false,
        features: 16,
        classes: 3,
        mean: 0,
        std: 1,
      },
      1,
    );
    for (const precision of precisions)
      await compiles(trainClassifier({ device, classifier, data }, { ...classificationDefaults, ...small, precision }));
  });
});

describe('training on an adapter', () => {
  it('has the same losses with 8 storage buffers a kernel as with all that there are', async () => {
    const subject = subjectOf('sit');
    // A fresh network ends in zeros: all its velocities agree and no loss tells anything.
    const draw = random(5);
    subject.teacher = changed(subject.teacher, (value) => value + 0.3 * draw.normal());
    const recipe: DistillationConfig = {
      ...subject.defaults,
      steps: 3,
      batch: 8,
      lambda: lambdaOf({ lmd: 1, emd: 1, diagonal: 1 }),
    };
    const losses: number[][] = [];
    for (const options of [{}, { limits }]) {
      const device = await openDevice({ toggles: 'checked', ...options });
      const { trainer } = await distil({ device, ...subject }, recipe);
      losses.push((await trainer.advance(3)).map(({ loss }) => loss));
      device.dispose();
    }
    const [many, few] = losses;
    expect(few).toHaveLength(3);
    expect(Math.min(...many)).toBeGreaterThan(1e-4);
    few.forEach((loss, i) => expect(Math.abs(loss / many[i] - 1)).toBeLessThan(1e-5));
  });

  it('sums and joins more tensors than a kernel may bind', async () => {
    const device = await openDevice({ toggles: 'checked', limits });
    const values = (i: number) => Float32Array.of(i, 2 * i, -i);
    const parts = Array.from({ length: 23 }, (_, i) =>
      fromStorage(new TensorStorage(`part ${i}`, 'f32', 3, values(i))),
    );
    const sum = parts.map((part, i) => mul(part, i % 3)).reduce(add);
    const columns = parts.map((part) => reshape(part, [3, 1]));
    const outputs = { total: sum, joined: add(concat(parts, 0), 1), beside: concat(columns, 1) };
    const { total, joined, beside } = await evaluate(device, outputs);
    const expected = [1, 2, -1].map((scale) => parts.reduce((all, _, i) => all + scale * i * (i % 3), 0));
    expect([...total]).toEqual(expected);
    expect([...joined]).toEqual(parts.flatMap((_, i) => [i + 1, 2 * i + 1, 1 - i]));
    expect([...beside]).toEqual([1, 2, -1].flatMap((scale) => parts.map((_, i) => scale * i)));
    device.dispose();
  });

  it('effects see every storage as it was before the run', async () => {
    const device = await openDevice({ toggles: 'checked' });
    const [a, b] = [1, 100].map(
      (first) =>
        new TensorStorage(
          'values',
          'f32',
          5,
          Float32Array.from([0, 1, 2, 3, 4], (i) => i + first),
        ),
    );
    const [x, y] = [a, b].map((storage) => fromStorage(storage));
    // Two storages change places, while a third value needs both.
    const program = await compile(device, {
      outputs: { sum: sin(add(x, y)), x },
      effects: [assign(a, y), assign(b, x)],
    });
    program.run();
    expect([...(await program.read('x'))]).toEqual([1, 2, 3, 4, 5]);
    expect([...(await device.read(a))]).toEqual([100, 101, 102, 103, 104]);
    expect([...(await device.read(b))]).toEqual([1, 2, 3, 4, 5]);
    const sums = [101, 103, 105, 107, 109].map(Math.sin);
    ((await program.read('sum')) as Float32Array).forEach((value, i) => expect(value).toBeCloseTo(sums[i], 4));
    device.dispose();
  });
});
