// What a training step costs besides its kernels: JavaScript per dispatch, growth of the heap, memory against the least
// that any plan needs: `npm run bench -- --steps` (with `node --expose-gc`, a collection before each reading).
import { compile } from '../src/autodiff/compile.js';
import { openDevice } from '../node/device.js';
import { gradients } from '../src/autodiff/gradients.js';
import { readTeacher } from '../cli/networks.js';
import { loadDataset } from '../node/data.js';
import type { Device } from '../src/gpu/device.js';
import { TensorStorage } from '../src/gpu/storage.js';
import { buildModel, type Architecture } from '../src/models/index.js';
import { ParameterLayout } from '../src/nn/parameters.js';
import { sum } from '../src/ops/broadcast.js';
import { mul } from '../src/ops/pointwise.js';
import { textTable } from '../src/report/table.js';
import { sizeOf } from '../src/tensor/shape.js';
import { fromStorage } from '../src/tensor/tensor.js';
import { distillationDefaults } from '../trainers/config.js';
import { distil } from '../trainers/runs.js';
import { unet } from './architectures.js';

const device = await openDevice({ toggles: 'fast' });
const mebibytes = (bytes: number) => bytes / 2 ** 20;

/** Outputs of a forward and backward pass over a batch. */
function passes(architecture: Architecture, batch: number, checkpointBlocks = false) {
  const model = buildModel(architecture, { checkpointBlocks });
  const layout = new ParameterLayout(model.parameters);
  const parameters = layout.bind(new TensorStorage('weights', 'f32', layout.length));
  const x = fromStorage(new TensorStorage('x', 'f32', batch * sizeOf(model.sampleShape)), [
    batch,
    ...model.sampleShape,
  ]);
  const y = model.apply(parameters, { x, time: fromStorage(new TensorStorage('t', 'f32', batch)) });
  const trained = layout.parameters.filter(({ frozen }) => !frozen).map(({ name }) => parameters(name));
  return Object.fromEntries(gradients(sum(mul(y, y)), trained).map((slope, i) => [`${i}`, slope]));
}

const mlp: Architecture = { kind: 'mlp', dim: 2, width: 64, depth: 6, activation: 'silu', time: 'features' };
const program = await compile(device, { outputs: passes(mlp, 8) });
const encoding: number[] = [];
for (let i = 0; i < 100; i++) {
  const start = performance.now();
  program.run();
  encoding.push((1000 * (performance.now() - start)) / program.dispatches.length);
  await device.finished();
}
encoding.sort((a, b) => a - b);
console.log(
  `${encoding[50].toFixed(1)} µs of JavaScript a dispatch, median of 100 runs of ${program.dispatches.length}`,
);

const teacher = await readTeacher('checkpoints/rf-checkerboard.safetensors');
const recipe = { ...distillationDefaults([2], 'velocity'), batch: 8, steps: 1100 };
const { trainer } = await distil({ device, teacher, data: await loadDataset('checkerboard') }, recipe);
await trainer.advance(50);
await trainer.advance(50);
const collect = () => (globalThis as { gc?: () => void }).gc?.();
collect();
const before = process.memoryUsage();
while (trainer.stepsDone < 1100) await trainer.advance(50);
collect();
const after = process.memoryUsage();
const growth = (key: 'heapUsed' | 'rss') => mebibytes(after[key] - before[key]).toFixed(1);
console.log(
  `1000 steps of ${trainer.dispatches} dispatches: heap ${growth('heapUsed')} MiB, process ${growth('rss')} MiB`,
);

const dit: Architecture = {
  kind: 'sit',
  inputSize: 28,
  patchSize: 2,
  inChannels: 1,
  hiddenSize: 192,
  depth: 4,
  numHeads: 3,
  mlpRatio: 4,
  numClasses: 0,
  learnSigma: false,
};

/** The plan of a program that is never compiled further. */
async function planOf(target: Device, architecture: Architecture, checkpointBlocks: boolean, half: boolean) {
  const planned = new Error('planned');
  let memory = { bytes: 0, lowerBound: 1, kernels: 0 };
  const onPlan = (plan: typeof memory) => {
    memory = plan;
    throw planned;
  };
  await compile(target, { outputs: passes(architecture, 16, checkpointBlocks), half, onPlan }).catch((error) => {
    if (error !== planned) throw error;
  });
  return memory;
}

const rows: (string | number)[][] = [];
for (const [name, architecture] of Object.entries({ 'DiT, 192 wide, 4 blocks': dit, 'UNet, 64 channels': unet })) {
  for (const checkpointBlocks of [false, true]) {
    for (const half of [false, true]) {
      const { bytes, lowerBound, kernels } = await planOf(device, architecture, checkpointBlocks, half);
      const options = [half ? 'f16' : 'f32', ...(checkpointBlocks ? ['blocks anew'] : [])].join(', ');
      rows.push([name, options, mebibytes(bytes), mebibytes(lowerBound), bytes / lowerBound, kernels]);
    }
  }
}
const columns = ['batch of 16', 'stored', 'plan, MiB', 'least, MiB', 'ratio', 'kernels'];
console.log(`\n${textTable({ columns, rows })}`);
device.dispose();
