import { compile } from '../../src/autodiff/compile.js';
import { evaluate } from '../../src/autodiff/eager.js';
import { gradients } from '../../src/autodiff/gradients.js';
import { openSession } from '../../cli/session.js';
import { TensorStorage } from '../../src/gpu/storage.js';
import { ParameterLayout } from '../../src/nn/parameters.js';
import { attention } from '../../src/ops/attention.js';
import { sum } from '../../src/ops/broadcast.js';
import { conv2d } from '../../src/ops/convolution.js';
import { upsampleNearest } from '../../src/ops/resampling.js';
import { matmul } from '../../src/ops/matmul.js';
import { concat, reshape, split } from '../../src/ops/movement.js';
import { groupNorm, layerNorm, softmax } from '../../src/ops/normalization.js';
import { adam as adamStep, pack } from '../../src/ops/optimizer.js';
import { geluTanh, silu } from '../../src/ops/activations.js';
import { add, mul, square, sub } from '../../src/ops/pointwise.js';
import { fromStorage, tensor, type Tensor } from '../../src/tensor/tensor.js';
import { Trainer } from '../../trainers/trainer.js';
import { adam, apply, inputsOf, lossOf, prepared, result, type Case, type Input } from './cases.js';
import { networks } from './networks.js';
import type { Ops } from './ops.js';
import { serve, type Prepared } from './worker.js';

// As the commands open it.
const device = await openSession({});

const ops: Ops<Tensor> = {
  matmul: (x, w) => matmul(x, w),
  add,
  mul,
  offset: add,
  silu,
  gelu: geluTanh,
  softmax,
  layerNorm: (x) => layerNorm(x),
  attention: (q, k, v, heads) => attention(q, k, v, heads),
  reshape,
  split: (x, parts) => split(x, -1, parts),
  images: (x) => x,
  pixels: (x) => x,
  filter: (w) => w,
  conv: (x, w, stride) => conv2d(x, w, undefined, { stride, padding: (w.shape[0] - 1) / 2 }),
  addToChannels: (x, v) => add(x, v.shape.length > 1 ? reshape(v, [v.shape[0], 1, 1, v.shape[1]]) : v),
  groupNorm: (x, groups) => groupNorm(x, groups),
  upsample: upsampleNearest,
  concatChannels: (x, y) => concat([x, y], -1),
  tokens: (x) => reshape(x, [x.shape[0], -1, x.shape[3]]),
  fromTokens: (x, like) => reshape(x, like.shape),
  meanSquare: (x, y) => mul(sum(square(sub(x, y))), 1 / x.size),
};

const storageOf = ({ data }: Input) => new TensorStorage('input', 'f32', data.length, data);

async function step(c: Extract<Case, { kind: 'step' }>): Promise<Prepared> {
  const names = Object.keys(networks[c.network].parameters);
  const [x, time, target, ...weights] = inputsOf(c);
  const given = [x, time, target].map((input) => fromStorage(storageOf(input), input.shape));
  const initializer = (_: readonly number[], _1: number, i: number) => weights[i].data;
  const layout = new ParameterLayout(names.map((name, i) => ({ name, shape: weights[i].shape, initializer })));
  const initial = await layout.collect(layout.drawn(0));
  const { rate: peak, ...rest } = adam;
  const trainer = await Trainer.create(device, {
    steps: 1e9,
    seed: 0,
    precision: process.env.PRECISION === 'f16' ? 'f16' : 'f32',
    learners: [
      {
        name: 'network',
        layout,
        initial: layout.drawn(0),
        averages: {
          target: { law: 'decay', decay: 0.99, width: 0 },
          export: { law: 'decay', decay: 0.999, width: 0 },
        },
        optimizer: { ...rest, rate: { peak, warmup: 0, finalShare: 1 }, weightDecay: 0, clipNorm: 1e9 },
        loss: ({ parameters }) => ({ total: lossOf(ops, c, [...given, ...names.map(parameters)]), parts: {} }),
      },
    ],
  });
  let asked = 0;
  return {
    run: () => void asked++,
    finish: async () => {
      while (asked > 0) asked -= (await trainer.advance(Math.min(asked, 64))).length;
    },
    read: async () => {
      const parameters = layout.bind(new TensorStorage('weights', 'f32', layout.length, initial));
      const { y } = await evaluate(device, { y: result(ops, c, [...given, ...names.map(parameters)]) });
      return y as Float32Array;
    },
    dispose: () => trainer.dispose(),
  };
}

async function adamOf(c: Extract<Case, { kind: 'adam' | 'gelu' | 'silu' }>): Promise<Prepared> {
  const [parameters, gradient] = inputsOf(c).map(storageOf);
  const zeros = (name: string) => new TensorStorage(name, 'f32', c.count);
  const { rate, beta1, beta2, epsilon } = adam;
  // As a first step: without weight decay or clipping, corrections for step 1, one average that forgets all.
  const scalars = tensor([rate, beta1, beta2, epsilon, 0, 1e9, 1 - beta1, 1 - beta2, 0]);
  const state = { parameters, firstMoment: zeros('m'), secondMoment: zeros('v'), averages: zeros('average') };
  const packed = pack([fromStorage(gradient)], [0], c.count);
  const program = await compile(device, { effects: [adamStep(packed, tensor([1]), scalars, state)] });
  return {
    run: () => program.run(),
    finish: () => device.finished(),
    read: async () => {
      program.run();
      return (await device.read(parameters)) as Float32Array;
    },
    dispose: () => program.dispose(),
  };
}

serve(async (c, mode) => {
  if (c.kind === 'step') return step(c);
  if (c.kind === 'adam') return adamOf(c);
  const storages = inputsOf(c).map(storageOf);
  const inputs = prepared(
    ops,
    c,
    inputsOf(c).map(({ shape }, i) => fromStorage(storages[i], shape)),
  );
  const y = apply(ops, c, inputs);
  const wanted = mode === 'forward' ? [y] : gradients(sum(mul(y, y)), inputs);
  const program = await compile(device, { outputs: Object.fromEntries(wanted.map((value, i) => [i, value])) });
  return {
    run: () => program.run(),
    finish: () => device.finished(),
    read: async () => (await evaluate(device, { y })).y as Float32Array,
    dispose: () => program.dispose(),
  };
});
