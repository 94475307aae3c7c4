import './gpu.js';
import * as tf from '@tensorflow/tfjs';
import '@tensorflow/tfjs-backend-webgpu';
import { adam, apply, inputsOf, lossOf, prepared, result, type Case } from './cases.js';
import type { Ops } from './ops.js';
import { serve, type Prepared } from './worker.js';

await tf.setBackend('webgpu');
await tf.ready();

const standardize = (x: tf.Tensor, axes: number[]) => {
  const { mean, variance } = tf.moments(x, axes, true);
  return tf.div(tf.sub(x, mean), tf.sqrt(tf.add(variance, 1e-5)));
};

const ops: Ops<tf.Tensor> = {
  matmul: (x, w) => {
    if (x.shape.length === w.shape.length) return tf.matMul(x, w);
    const flat = tf.matMul(tf.reshape(x, [-1, x.shape.at(-1)!]), w);
    return tf.reshape(flat, [...x.shape.slice(0, -1), w.shape[1]!]);
  },
  add: (x, y) => tf.add(x, y),
  mul: (x, y) => tf.mul(x, y),
  offset: (x, k) => tf.add(x, k),
  silu: (x) => tf.mul(x, tf.sigmoid(x)),
  gelu: (x) => {
    const inner = tf.mul(tf.add(x, tf.mul(tf.mul(tf.mul(x, x), x), 0.044715)), Math.sqrt(2 / Math.PI));
    return tf.mul(tf.mul(x, 0.5), tf.add(tf.tanh(inner), 1));
  },
  softmax: (x) => tf.softmax(x),
  layerNorm: (x) => standardize(x, [x.shape.length - 1]),
  attention: (q, k, v, heads) => {
    const [batch, tokens, width] = q.shape;
    const apart = (t: tf.Tensor) => tf.transpose(tf.reshape(t, [batch, tokens, heads, width / heads]), [0, 2, 1, 3]);
    const scores = tf.softmax(tf.mul(tf.matMul(apart(q), apart(k), false, true), (width / heads) ** -0.5));
    return tf.reshape(tf.transpose(tf.matMul(scores, apart(v)), [0, 2, 1, 3]), q.shape);
  },
  reshape: (x, shape) => tf.reshape(x, shape),
  split: (x, parts) => tf.split(x, parts, -1),
  images: (x) => x,
  pixels: (x) => x,
  filter: (w) => w,
  conv: (x, w, stride) => {
    const reach = (w.shape[0] - 1) / 2;
    const sides: [number, number] = [reach, stride === 1 ? reach : 0];
    return tf.conv2d(x as tf.Tensor4D, w as tf.Tensor4D, stride, [[0, 0], sides, sides, [0, 0]]);
  },
  addToChannels: (x, v) => tf.add(x, v.shape.length > 1 ? tf.reshape(v, [v.shape[0], 1, 1, v.shape[1]!]) : v),
  groupNorm: (x, groups) => {
    const [n, height, width, channels] = x.shape as [number, number, number, number];
    return tf.reshape(standardize(tf.reshape(x, [n, height * width, groups, channels / groups]), [1, 3]), x.shape);
  },
  upsample: (x) => tf.image.resizeNearestNeighbor(x as tf.Tensor4D, [2 * x.shape[1]!, 2 * x.shape[2]!]),
  concatChannels: (x, y) => tf.concat([x, y], -1),
  tokens: (x) => tf.reshape(x, [x.shape[0], -1, x.shape[3]!]),
  fromTokens: (x, like) => tf.reshape(x, like.shape),
  meanSquare: (x, y) => tf.mean(tf.square(tf.sub(x, y))),
};

/** Waits for a tensor by reading one number of it. */
async function settle(x: tf.Tensor): Promise<void> {
  const corner = tf.slice(
    x,
    x.shape.map(() => 0),
    x.shape.map(() => 1),
  );
  await corner.data();
  corner.dispose();
}

const tensors = (c: Case) => inputsOf(c).map(({ shape, data }) => tf.tensor(data, shape));

function training(c: Case): Prepared {
  const all = tensors(c);
  const fixed = c.kind === 'adam' ? [all[1]] : all.slice(0, 3);
  const variables = (c.kind === 'adam' ? [all[0]] : all.slice(3)).map((x) => tf.variable(x));
  const optimizer = tf.train.adam(adam.rate, adam.beta1, adam.beta2, adam.epsilon);
  const run = () => {
    if (c.kind === 'adam') optimizer.applyGradients({ [variables[0].name]: fixed[0] as never });
    else optimizer.minimize(() => lossOf(ops, c, [...fixed, ...variables]) as tf.Scalar, false, variables);
  };
  return {
    run,
    finish: () => settle(variables[0]),
    read: async () => {
      if (c.kind !== 'adam')
        return (await tf.tidy(() => result(ops, c, [...fixed, ...variables])).data()) as Float32Array;
      run();
      return (await variables[0].data()) as Float32Array;
    },
    dispose: () => [...fixed, ...variables].forEach((x) => x.dispose()),
  };
}

serve(async (c, mode) => {
  if (mode === 'step') return training(c);
  const inputs = prepared(ops, c, tensors(c));
  const slopes = tf.grads((...xs: tf.Tensor[]) => tf.sum(tf.square(apply(ops, c, xs))));
  let last: tf.Tensor[] = [];
  return {
    run: () => {
      const results = tf.tidy(() => (mode === 'forward' ? [apply(ops, c, inputs)] : slopes(inputs)));
      last.forEach((tensor) => tensor.dispose());
      last = results;
    },
    finish: async () => {
      for (const tensor of last) await settle(tensor);
    },
    read: async () => (await tf.tidy(() => result(ops, c, inputs)).data()) as Float32Array,
    dispose: () => inputs.forEach((input) => input.dispose()),
  };
});
