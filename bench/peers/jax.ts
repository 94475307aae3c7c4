import './gpu.js';
import { defaultDevice, grad, init, jit, lax, nn, numpy as np, type Array as Value } from '@jax-js/jax';
import { inputsOf, type Case } from './cases.js';
import { serve } from './worker.js';

await init('webgpu');
defaultDevice('webgpu');

/** jax-js convolves [N, C, H, W] with [out, in, rows, columns]; arrays are consumed by what uses them. */
function apply(c: Case, [x, w, v]: Value[]): Value {
  switch (c.kind) {
    case 'matmul':
      return np.matmul(x, w);
    case 'conv':
      return lax.convGeneralDilated(
        x,
        w,
        [c.stride, c.stride],
        [
          [1, c.stride === 1 ? 1 : 0],
          [1, c.stride === 1 ? 1 : 0],
        ],
      );
    case 'attention': {
      // Its own dotProductAttention needs iterator helpers, which Node 20 lacks.
      const [q, k, values] = [x, w, v].map((t) => np.transpose(t, [0, 2, 1, 3]));
      const scores = np.multiply(np.matmul(q, np.transpose(k, [0, 1, 3, 2])), c.depth ** -0.5);
      return np.transpose(np.matmul(nn.softmax(scores, -1), values), [0, 2, 1, 3]);
    }
    case 'layerNorm':
      return nn.standardize(x, -1, { epsilon: 1e-5 } as never);
    case 'groupNorm': {
      const grouped = np.reshape(x, [c.n, c.groups, -1]);
      const normal = np.reshape(nn.standardize(grouped, -1, { epsilon: 1e-5 } as never), [
        c.n,
        c.channels,
        c.size,
        c.size,
      ]);
      return nn.silu(normal);
    }
    case 'softmax':
      return nn.softmax(x, -1);
    case 'gelu':
      return nn.gelu(x, { approximate: true } as never);
    case 'silu':
      return nn.silu(x);
  }
}

const channelsFirst = (c: Case) => c.kind === 'conv' || c.kind === 'groupNorm';

serve(async (c, mode) => {
  const inputs = inputsOf(c).map(({ shape, data }, i) => {
    const array = np.array(data as Float32Array<ArrayBuffer>).reshape(shape);
    if (!channelsFirst(c)) return array;
    return np.transpose(array, i === 0 ? [0, 3, 1, 2] : [3, 2, 0, 1]);
  });
  const forward = jit((...xs: Value[]) => apply(c, xs));
  const loss = (...xs: Value[]) => {
    const y = apply(c, xs);
    return np.sum(np.multiply(y.ref, y));
  };
  const slopes = jit(grad(loss, { argnums: inputs.map((_, i) => i) } as never) as never) as unknown as (
    ...xs: Value[]
  ) => Value[];
  const fresh = () => inputs.map((input) => input.ref);
  let kept: Value[] = [];
  const settle = async () => {
    const results = kept;
    kept = [];
    for (const result of results) await result.blockUntilReady();
    results.forEach((result) => result.dispose());
  };
  for (const input of inputs) await input.blockUntilReady();
  return {
    // Results that nobody keeps are never computed.
    run: () => {
      if (mode === 'forward') kept.push(forward(...fresh()) as Value);
      else kept.push(...[slopes(...fresh())].flat());
      return kept.length > 8 ? settle() : undefined;
    },
    finish: settle,
    read: async () => {
      const y = forward(...fresh()) as Value;
      return (await (channelsFirst(c) ? np.transpose(y, [0, 2, 3, 1]) : y).data()) as Float32Array;
    },
    dispose: () => inputs.forEach((input) => input.dispose()),
  };
});
