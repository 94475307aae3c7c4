// Times each kernel at the sizes of a small DiT, beside what this adapter can do at most: `npm run bench`.
import { readFileSync, writeFileSync } from 'node:fs';
import { compile } from '../src/autodiff/compile.js';
import { gradients } from '../src/autodiff/gradients.js';
import { openSession } from '../cli/session.js';
import type { Device } from '../src/gpu/device.js';
import { bind, submit, type Dispatch } from '../src/gpu/program.js';
import { attention } from '../src/ops/attention.js';
import { sum } from '../src/ops/broadcast.js';
import { conv2d } from '../src/ops/convolution.js';
import { matmul } from '../src/ops/matmul.js';
import { groupNorm, layerNorm, modulate, softmax } from '../src/ops/normalization.js';
import { adam, pack } from '../src/ops/optimizer.js';
import { geluTanh, silu } from '../src/ops/activations.js';
import { mul } from '../src/ops/pointwise.js';
import { markdownTable, textTable, type Table } from '../src/report/table.js';
import { fromStorage, tensor, type Tensor } from '../src/tensor/tensor.js';
import { TensorStorage } from '../src/gpu/storage.js';

const repeats = 7;
const median = (values: number[]) => values.sort((a, b) => a - b)[values.length >> 1];

/** Median milliseconds of one submission, the queue drained before and after. */
async function time(device: Device, run: () => void): Promise<number> {
  run();
  await device.finished();
  const start = performance.now();
  run();
  await device.finished();
  const inner = Math.max(1, Math.round(20 / (performance.now() - start)));
  const times: number[] = [];
  for (let i = 0; i < repeats; i++) {
    const from = performance.now();
    for (let k = 0; k < inner; k++) run();
    await device.finished();
    times.push((performance.now() - from) / inner);
  }
  return median(times);
}

/** A kernel of this folder as a dispatch over fresh buffers. */
async function raw(
  device: Device,
  file: string,
  constants: string,
  bytes: number[],
  grid: [number, number],
): Promise<Dispatch> {
  const source = `${constants}\n${readFileSync(new URL(file, import.meta.url), 'utf8')}`;
  const pipeline = await device.pipeline(source, file);
  const regions = bytes.map((size) => ({ buffer: device.createBuffer(file, size), offset: 0, size }));
  return { label: file, pipeline, bindGroup: bind(device, pipeline, regions), grid, flops: 0, bytes: 0 };
}

const random = (shape: number[]): Tensor => {
  const size = shape.reduce((a, b) => a * b, 1);
  return fromStorage(
    new TensorStorage(
      'input',
      'f32',
      size,
      Float32Array.from({ length: size }, () => Math.random() - 0.5),
    ),
    shape,
  );
};

const device = await openSession({});
const rounds = 512;
const invocations = 64 * 64;
const fma = await raw(device, 'fma.wgsl', `const ROUNDS = ${rounds}u;`, [invocations * 4], [invocations / 64, 1]);
const fmaRate = async () =>
  (2 * 8 * 32 * rounds * invocations) / (await time(device, () => submit(device, [fma]))) / 1e6;
const copied = 2 ** 25;
const copy = await raw(device, 'copy.wgsl', '', [copied, copied], [copied / 4096, 1]);
const copyRate = async () => (2 * copied) / (await time(device, () => submit(device, [copy]))) / 1e6;
// On a shared machine a ceiling can be measured too low: the best of several times, before and after.
let [fmaCeiling, copyCeiling] = [0, 0];
async function raiseCeilings(): Promise<void> {
  for (let i = 0; i < 3; i++) {
    fmaCeiling = Math.max(fmaCeiling, await fmaRate());
    copyCeiling = Math.max(copyCeiling, await copyRate());
  }
}
await raiseCeilings();

const measured: { name: string; ms: number; arithmetic: boolean; rate: number }[] = [];
const milliseconds = new Map<string, number>();

/** Times a graph; `flops` or else `bytes` is the work that it has to do, by which it is judged. */
async function measure(
  name: string,
  outputs: Tensor[],
  work: { flops: number } | { bytes: number },
  effects: Tensor[] = [],
  half = false,
): Promise<void> {
  const named = Object.fromEntries(outputs.map((output, i) => [`${i}`, output]));
  const program = await compile(device, { outputs: named, effects, half });
  const ms = await time(device, () => program.run());
  milliseconds.set(name, ms);
  const arithmetic = 'flops' in work;
  const rate = (arithmetic ? work.flops : work.bytes) / ms / 1e6;
  measured.push({ name, ms, arithmetic, rate });
  program.dispose();
}

for (const [m, k, n] of [
  [512, 512, 512],
  [1024, 1024, 1024],
  [784, 192, 768],
  [333, 777, 555],
]) {
  await measure(`matmul ${m}×${k}×${n}`, [matmul(random([m, k]), random([k, n]))], { flops: 2 * m * k * n });
}
if (device.profile.f16) {
  // Where there are tensor cores, this is what they do.
  for (const size of device.profile.software ? [1024] : [1024, 4096, 8192]) {
    const operand = () => fromStorage(new TensorStorage('input', 'f16', size * size), [size, size]);
    const product = matmul(operand(), operand());
    await measure(`matmul ${size}³, stored in f16`, [product], { flops: 2 * size ** 3 }, [], true);
  }
}
{
  const [a, b] = [random([512, 512]), random([512, 512])];
  const y = matmul(a, b, { transposeB: true });
  await measure('matmul 512³ forward and backward', [y, ...gradients(y, [a, b], random([512, 512]))], {
    flops: 6 * 512 ** 3,
  });
}
for (const [n, size, channels, out, stride] of [
  [16, 32, 64, 64, 1],
  [8, 16, 128, 128, 1],
  [16, 32, 64, 64, 2],
]) {
  const [x, weight] = [random([n, size, size, channels]), random([3, 3, channels, out])];
  const y = conv2d(x, weight, undefined, { stride, padding: 1 });
  const flops = 2 * y.size * 9 * channels;
  const name = `conv 3×3, stride ${stride} ${n}×${size}×${size}×${channels} to ${out}`;
  await measure(name, [y], { flops });
  await measure(`${name} forward and backward`, [y, ...gradients(y, [x, weight], random([...y.shape]))], {
    flops: 3 * flops,
  });
}
for (const [batch, tokens, heads, depth] of [
  [4, 256, 4, 64],
  [64, 20, 4, 16],
]) {
  const shape = [batch, tokens, heads * depth];
  const [q, k, v] = [random(shape), random(shape), random(shape)];
  const flops = 4 * batch * heads * tokens ** 2 * depth;
  const y = attention(q, k, v, heads);
  const name = `attention b${batch} h${heads} s${tokens} d${depth}`;
  await measure(name, [y], { flops });
  await measure(`${name} forward and backward`, [y, ...gradients(y, [q, k, v], random(shape))], { flops: 3.5 * flops });
}
{
  const x = random([4096, 384]);
  const [scale, shift] = [random([1, 384]), random([1, 384])];
  const bytes = 4096 * 384 * 4;
  await measure('layer norm and modulation 4096×384', [modulate(layerNorm(x), scale, shift)], { bytes: 2 * bytes });
  await measure('layer norm 4096×384, gradient', gradients(layerNorm(x), [x], random([4096, 384])), {
    bytes: 3 * bytes,
  });
}
{
  const x = random([16, 32, 32, 64]);
  const y = silu(groupNorm(x, 8));
  await measure('group norm and SiLU 16×32×32×64', [y], { bytes: 2 * 2 ** 22 });
  await measure('group norm and SiLU 16×32×32×64, gradient', gradients(y, [x], random([...x.shape])), {
    bytes: 3 * 2 ** 22,
  });
}
await measure('softmax 4096×1024', [softmax(random([4096, 1024]))], { bytes: 2 * 4096 * 1024 * 4 });
const large = random([4 * 2 ** 20]);
await measure('SiLU 4 M', [silu(large)], { bytes: 2 * 16 * 2 ** 20 });
await measure('GELU 4 M', [geluTanh(large)], { bytes: 2 * 16 * 2 ** 20 });
await measure('sum of squares 4 M', [sum(mul(large, large))], { bytes: 16 * 2 ** 20 });

{
  const count = 4 * 2 ** 20;
  const storage = (name: string) => new TensorStorage(name, 'f32', count);
  const state = {
    parameters: storage('parameters'),
    firstMoment: storage('first moment'),
    secondMoment: storage('second moment'),
    averages: storage('average'),
  };
  const packed = pack([random([count])], [0], count);
  const step = adam(packed, tensor([1]), tensor([1e-3, 1e-3, 0.9, 0.99, 1e-8, 0, 1, 0.1, 0.01, 0.99]), state);
  // Parameters, two moments and an average go both ways, the gradient one.
  await measure('Adam with an average, 4 M', [], { bytes: 9 * count * 4 }, [step]);
}

await raiseCeilings();
const naive = await raw(device, 'naive-matmul.wgsl', 'const SIZE = 512u;', [2 ** 20, 2 ** 20, 2 ** 20], [64, 64]);
const naiveMs = await time(device, () => submit(device, [naive]));

const rows = measured.map(({ name, ms, arithmetic, rate }) => [
  name,
  ms,
  arithmetic ? rate : '',
  arithmetic ? '' : rate,
  `${Math.round((100 * rate) / (arithmetic ? fmaCeiling : copyCeiling))} %`,
]);
const table: Table = { columns: ['kernel', 'ms', 'GFLOP/s', 'GB/s', 'of the ceiling'], rows };
const head = [
  `${device.profile.description}, ${device.profile.family} family, ${new Date().toISOString().slice(0, 10)}; medians of ${repeats}`,
  `ceilings: ${fmaCeiling.toFixed(0)} GFLOP/s (register-only FMA), ${copyCeiling.toFixed(1)} GB/s (copy kernel)`,
  `matmul 512³: ${(naiveMs / milliseconds.get('matmul 512×512×512')!).toFixed(1)} times as fast as one output per invocation (${naiveMs.toFixed(0)} ms)`,
];
console.log(`${head.join('\n')}\n\n${textTable(table)}`);
const out = process.argv[2];
if (out) {
  writeFileSync(out, `${head.map((line) => `${line}  `).join('\n')}\n\n${markdownTable(table)}\n`);
  const figures = { adapter: device.profile.description, fmaCeiling, copyCeiling, kernels: measured };
  writeFileSync(out.replace(/(\.md)?$/, '.json'), `${JSON.stringify(figures, null, 1)}\n`);
}
device.dispose();
