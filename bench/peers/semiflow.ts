import { compile } from '../../src/autodiff/compile.js';
import { evaluate } from '../../src/autodiff/eager.js';
import { openSession } from '../../src/cli/session.js';
import { gradients } from '../../src/autodiff/gradients.js';
import { Storage } from '../../src/gpu/storage.js';
import { attention } from '../../src/ops/attention.js';
import { sum } from '../../src/ops/broadcast.js';
import { conv2d } from '../../src/ops/convolution.js';
import { matmul } from '../../src/ops/matmul.js';
import { reshape } from '../../src/ops/movement.js';
import { groupNorm, layerNorm, softmax } from '../../src/ops/normalization.js';
import { geluTanh, mul, silu } from '../../src/ops/pointwise.js';
import { fromStorage, type Tensor } from '../../src/tensor/tensor.js';
import { inputsOf, type Case } from './cases.js';
import { serve } from './worker.js';

// As the commands open it: on software adapters that lowers the main thread's priority, which matters.
const device = await openSession({});

function apply(c: Case, [x, w, v]: Tensor[]): Tensor {
  switch (c.kind) {
    case 'matmul':
      return matmul(x, w);
    case 'conv':
      return conv2d(x, w, undefined, { stride: c.stride, padding: 1 });
    case 'attention': {
      const joined = [x, w, v].map((t) => reshape(t, [c.batch, c.tokens, c.heads * c.depth]));
      return reshape(attention(joined[0], joined[1], joined[2], c.heads), x.shape);
    }
    case 'layerNorm':
      return layerNorm(x);
    case 'groupNorm':
      return silu(groupNorm(x, c.groups));
    case 'softmax':
      return softmax(x);
    case 'gelu':
      return geluTanh(x);
    case 'silu':
      return silu(x);
  }
}

serve(async (c, mode) => {
  const storages = inputsOf(c).map(({ data }) => new Storage('input', 'f32', data.length, data));
  const inputs = inputsOf(c).map(({ shape }, i) => fromStorage(storages[i], shape));
  const y = apply(c, inputs);
  const wanted = mode === 'forward' ? [y] : gradients(sum(mul(y, y)), inputs);
  const program = await compile(device, { outputs: Object.fromEntries(wanted.map((tensor, i) => [i, tensor])) });
  return {
    run: () => program.run(),
    finish: () => device.finished(),
    read: async () => (await evaluate(device, { y })).y as Float32Array,
    dispose: () => program.destroy(),
  };
});
