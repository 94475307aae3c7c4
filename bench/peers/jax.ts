import './gpu.js';
import {
  defaultDevice,
  getWebGPUDevice,
  grad,
  init,
  jit,
  lax,
  nn,
  numpy as np,
  valueAndGrad,
  type Array as Value,
} from '@jax-js/jax';
import { adam, apply, inputsOf, lossOf, prepared, result, type Case } from './cases.js';
import type { Ops } from './ops.js';
import { serve, type Prepared } from './worker.js';

await init('webgpu');
defaultDevice('webgpu');

/**
 * Waits until arrays are computed. Its own wait reads no bytes, which Dawn without lazy clearing answers before the queue
 * has come there.
 */
async function ready(values: readonly Value[]): Promise<void> {
  for (const value of values) await value.blockUntilReady();
  await getWebGPUDevice().queue.onSubmittedWorkDone();
}

// Arrays are consumed by what uses them; `ref` keeps them. Images are [N, C, H, W], filters [out, in, rows, columns].
const ops: Ops<Value> = {
  matmul: (x, w) => np.matmul(x.ref, w.ref),
  add: (x, y) => np.add(x.ref, y.ref),
  mul: (x, y) => np.multiply(x.ref, y.ref),
  offset: (x, k) => np.add(x.ref, k),
  silu: (x) => nn.silu(x.ref),
  gelu: (x) => nn.gelu(x.ref, { approximate: true } as never),
  softmax: (x) => nn.softmax(x.ref, -1),
  layerNorm: (x) => nn.standardize(x.ref, -1, { epsilon: 1e-5 } as never),
  attention: (q, k, v, heads) => {
    // Its own dotProductAttention needs iterator helpers, which Node 20 lacks.
    const [batch, tokens, width] = q.shape;
    const apart = (t: Value) => np.transpose(np.reshape(t.ref, [batch, tokens, heads, width / heads]), [0, 2, 1, 3]);
    const scores = np.multiply(np.matmul(apart(q), np.transpose(apart(k), [0, 1, 3, 2])), (width / heads) ** -0.5);
    const mixed = np.matmul(nn.softmax(scores, -1), apart(v));
    return np.reshape(np.transpose(mixed, [0, 2, 1, 3]), [batch, tokens, width]);
  },
  reshape: (x, shape) => np.reshape(x.ref, shape),
  split: (x, parts) => np.split(x.ref, parts, -1),
  images: (x) => np.transpose(x.ref, [0, 3, 1, 2]),
  pixels: (x) => np.transpose(x.ref, [0, 2, 3, 1]),
  filter: (w) => np.transpose(w.ref, [3, 2, 0, 1]),
  conv: (x, w, stride) => {
    const reach = (w.shape[2] - 1) / 2;
    const sides: [number, number] = [reach, stride === 1 ? reach : 0];
    return lax.convGeneralDilated(x.ref, w.ref, [stride, stride], [sides, sides]);
  },
  addToChannels: (x, v) =>
    np.add(x.ref, np.reshape(v.ref, v.shape.length > 1 ? [...v.shape, 1, 1] : [1, v.shape[0], 1, 1])),
  groupNorm: (x, groups) => {
    const normal = nn.standardize(np.reshape(x.ref, [x.shape[0], groups, -1]), -1, { epsilon: 1e-5 } as never);
    return np.reshape(normal, x.shape);
  },
  upsample: (x) => np.repeat(np.repeat(x.ref, 2, 2), 2, 3),
  concatChannels: (x, y) => np.concatenate([x.ref, y.ref], 1),
  tokens: (x) => np.transpose(np.reshape(x.ref, [x.shape[0], x.shape[1], -1]), [0, 2, 1]),
  fromTokens: (x, like) => np.reshape(np.transpose(x.ref, [0, 2, 1]), like.shape),
  meanSquare: (x, y) => np.mean(np.square(np.subtract(x.ref, y.ref))),
};

/** One step of Adam on lists of arrays. */
function update(p: Value[], g: Value[], m: Value[], v: Value[], correction1: Value, correction2: Value): Value[][] {
  const { beta1, beta2, rate, epsilon } = adam;
  const m1 = m.map((value, i) => np.add(np.multiply(value.ref, beta1), np.multiply(g[i].ref, 1 - beta1)));
  const v1 = v.map((value, i) => np.add(np.multiply(value.ref, beta2), np.multiply(np.square(g[i].ref), 1 - beta2)));
  const p1 = p.map((value, i) => {
    const size = np.add(np.sqrt(np.divide(v1[i].ref, correction2.ref)), epsilon);
    return np.subtract(value.ref, np.multiply(np.divide(np.divide(m1[i].ref, correction1.ref), size), rate));
  });
  return [p1, m1, v1];
}

const arrays = (c: Case) =>
  inputsOf(c).map(({ shape, data }) => np.array(data as Float32Array<ArrayBuffer>).reshape(shape));

/** Adam by itself, or a whole training step: parameters and moments go in and come out. */
async function training(c: Case): Promise<Prepared> {
  const all = arrays(c);
  const fixed = c.kind === 'adam' ? [all[1]] : all.slice(0, 3);
  let p = c.kind === 'adam' ? [all[0]] : all.slice(3);
  let m = p.map((value) => np.zeros(value.shape));
  let v = p.map((value) => np.zeros(value.shape));
  let steps = 0;
  const step = jit((given: Value[], p0: Value[], m0: Value[], v0: Value[], c1: Value, c2: Value) => {
    if (c.kind === 'adam') return update(p0, given, m0, v0, c1, c2);
    const loss = (weights: Value[]) => lossOf(ops, c, [...given, ...weights]);
    const [value, g] = valueAndGrad(loss as never)(p0.map((x) => x.ref) as never) as unknown as [Value, Value[]];
    return [[value], ...update(p0, g, m0, v0, c1, c2)];
  }) as unknown as (...xs: unknown[]) => Value[][];
  const run = async () => {
    steps++;
    const corrections = [adam.beta1, adam.beta2].map((beta) => np.array(1 - beta ** steps));
    const outputs = step(
      fixed.map((x) => x.ref),
      p,
      m,
      v,
      ...corrections,
    );
    [p, m, v] = outputs.slice(-3);
    await ready(outputs.flat());
    outputs.slice(0, -3).forEach((list) => list.forEach((value) => value.dispose()));
  };
  return {
    run,
    finish: async () => {},
    read: async () => {
      if (c.kind === 'adam') {
        await run();
        return (await p[0].ref.data()) as Float32Array;
      }
      const forward = jit((...xs: Value[]) => result(ops, c, xs));
      return (await (forward(...fixed.map((x) => x.ref), ...p.map((x) => x.ref)) as Value).data()) as Float32Array;
    },
    dispose: () => [...fixed, ...p, ...m, ...v].forEach((value) => value.dispose()),
  };
}

serve(async (c, mode) => {
  if (mode === 'step') return training(c);
  const inputs = prepared(ops, c, arrays(c));
  const forward = jit((...xs: Value[]) => apply(ops, c, xs));
  const loss = (...xs: Value[]) => np.sum(np.square(apply(ops, c, xs)));
  const slopes = jit(grad(loss, { argnums: inputs.map((_, i) => i) } as never) as never) as unknown as (
    ...xs: Value[]
  ) => Value[];
  const fresh = () => inputs.map((input) => input.ref);
  let kept: Value[] = [];
  const settle = async () => {
    const results = kept;
    kept = [];
    await ready(results);
    results.forEach((value) => value.dispose());
  };
  await ready(inputs);
  return {
    // Results that nobody keeps are never computed.
    run: () => {
      if (mode === 'forward') kept.push(forward(...fresh()) as Value);
      else kept.push(...[slopes(...fresh())].flat());
      return kept.length > 8 ? settle() : undefined;
    },
    finish: settle,
    read: async () => (await result(ops, c, fresh()).data()) as Float32Array,
    dispose: () => inputs.forEach((input) => input.dispose()),
  };
});
