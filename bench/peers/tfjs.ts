import './gpu.js';
import * as tf from '@tensorflow/tfjs';
import '@tensorflow/tfjs-backend-webgpu';
import { inputsOf, type Case } from './cases.js';
import { serve } from './worker.js';

await tf.setBackend('webgpu');
await tf.ready();

const standardize = (x: tf.Tensor, axes: number[]) => {
  const { mean, variance } = tf.moments(x, axes, true);
  return tf.div(tf.sub(x, mean), tf.sqrt(tf.add(variance, 1e-5)));
};

function apply(c: Case, [x, w, v]: tf.Tensor[]): tf.Tensor {
  switch (c.kind) {
    case 'matmul':
      return tf.matMul(x, w);
    case 'conv':
      return tf.conv2d(
        x as tf.Tensor4D,
        w as tf.Tensor4D,
        c.stride,
        c.stride === 1
          ? 1
          : [
              [0, 0],
              [1, 0],
              [1, 0],
              [0, 0],
            ],
      );
    case 'attention': {
      const [q, k, values] = [x, w, v].map((t) => tf.transpose(t, [0, 2, 1, 3]));
      const scores = tf.softmax(tf.mul(tf.matMul(q, k, false, true), c.depth ** -0.5));
      return tf.transpose(tf.matMul(scores, values), [0, 2, 1, 3]);
    }
    case 'layerNorm':
      return standardize(x, [1]);
    case 'groupNorm': {
      const grouped = tf.reshape(x, [c.n, c.size * c.size, c.groups, c.channels / c.groups]);
      const y = tf.reshape(standardize(grouped, [1, 3]), x.shape);
      return tf.mul(y, tf.sigmoid(y));
    }
    case 'softmax':
      return tf.softmax(x);
    case 'gelu': {
      const inner = tf.mul(tf.add(x, tf.mul(tf.mul(tf.mul(x, x), x), 0.044715)), Math.sqrt(2 / Math.PI));
      return tf.mul(tf.mul(x, 0.5), tf.add(tf.tanh(inner), 1));
    }
    case 'silu':
      return tf.mul(x, tf.sigmoid(x));
  }
}

serve(async (c, mode) => {
  const inputs = inputsOf(c).map(({ shape, data }) => tf.tensor(data, shape));
  const slopes = tf.grads((...xs: tf.Tensor[]) => {
    const y = apply(c, xs);
    return tf.sum(tf.mul(y, y));
  });
  let last: tf.Tensor[] = [];
  return {
    run: () => {
      const results = tf.tidy(() => (mode === 'forward' ? [apply(c, inputs)] : slopes(inputs)));
      last.forEach((tensor) => tensor.dispose());
      last = results;
    },
    finish: async () => {
      for (const tensor of last)
        await tf
          .slice(
            tensor,
            tensor.shape.map(() => 0),
            tensor.shape.map(() => 1),
          )
          .data();
    },
    read: async () => (await tf.tidy(() => apply(c, inputs)).data()) as Float32Array,
    dispose: () => inputs.forEach((input) => input.dispose()),
  };
});
