import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as ort from 'onnxruntime-web';
import { afterAll, describe, expect, it, vi } from 'vitest';
import { createProgram } from '../cli/program.js';
import { zipSync } from 'fflate';
import { loadDataset } from '../node/data.js';
import { encodeNpy } from '../src/checkpoint/npy.js';
import type { Dataset } from '../src/data/dataset.js';
import { parseMoments } from '../src/data/moments.js';
import { samplePngs, samplesNpz } from '../src/export/samples.js';
import { frechetDistance, frechetMetric } from '../src/metrics/frechet.js';
import { momentsOf } from '../src/metrics/moments.js';
import { readSafetensors, writeSafetensors } from '../node/files.js';
import { encodeOnnx } from '../src/export/onnx-file.js';
import { exportOnnx, type OnnxOptions } from '../src/export/onnx.js';
import { exportStateDict } from '../src/export/state-dict.js';
import { parseDescription } from '../src/flow/description.js';
import { averageVelocityOf, velocityOf } from '../src/flow/field.js';
import { createNetwork, exportNetwork, studentOf, type Network } from '../src/flow/network.js';
import { equalSteps, guidanceOf } from '../src/flow/runner.js';
import { samplerEntry, strengthOf } from '../src/flow/samplers.js';
import { TensorStorage } from '../src/gpu/storage.js';
import { random } from '../src/tensor/philox.js';
import { sizeOf } from '../src/tensor/shape.js';
import { constant, tensor, type Tensor } from '../src/tensor/tensor.js';
import { runHere } from './support/command-line.js';
import { interpret } from './support/interpreter.js';

ort.env.wasm.numThreads = 1;
ort.env.logLevel = 'error';

const folder = mkdtempSync(join(tmpdir(), 'semiflow-export-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** A network all of whose weights are drawn, so that none is zero and nothing cancels. */
async function lively(description: object, twoTime: boolean): Promise<Network> {
  const teacher = createNetwork(parseDescription({ prediction: 'velocity', ...description }, 'it'), 1);
  const network = twoTime ? studentOf(teacher, { ...teacher.description, role: 'flow-map' }) : teacher;
  const draw = random(5);
  const arena = await network.layout.collect(network.weights);
  const moved = arena.map((value) => value + 0.08 * (draw.uniform() - 0.5));
  return { ...network, weights: network.layout.weightsOf(moved) };
}

const points = { kind: 'mlp', dim: 2, width: 16, depth: 2, activation: 'silu', time: 'features' };
const pictures = {
  sit: {
    kind: 'sit',
    inputSize: [6, 8],
    patchSize: 4,
    inChannels: 3,
    hiddenSize: 16,
    depth: 1,
    numHeads: 2,
    numClasses: 3,
  },
  vit: {
    kind: 'vit',
    imageSize: [8, 6],
    patchSize: 4,
    channels: 1,
    width: 12,
    depth: 1,
    heads: 2,
    mlpWidth: 20,
    norm: 'post',
    classes: 3,
  },
  unet: {
    kind: 'unet',
    imageSize: [5, 4],
    inChannels: 1,
    modelChannels: 32,
    numResBlocks: 1,
    channelMult: [1, 1],
    attentionResolutions: [2],
    numHeads: 2,
    numClasses: 3,
  },
};

interface Inputs {
  count: number;
  x: Float32Array;
  t: Float32Array;
  s: Float32Array;
  labels: Uint32Array;
}

function drawn({ model }: Network, count: number): Inputs {
  const draw = random(count);
  const reals = () => Float32Array.from({ length: count }, () => 0.05 + 0.9 * draw.uniform());
  const x = Float32Array.from({ length: count * sizeOf(model.sampleShape) }, () => draw.normal());
  return { count, x, t: reals(), s: reals(), labels: Uint32Array.from({ length: count }, (_, i) => (i + 1) % 3) };
}

/** The same in float64, by the interpreter that shares no code with the export. */
async function reference(
  network: Network,
  inputs: Inputs,
  { steps, sampler, guidance }: OnnxOptions,
): Promise<Float64Array> {
  const { model, description } = network;
  const { count } = inputs;
  const { layout, weights } = network;
  const parameters = layout.bind(new TensorStorage('weights', 'f32', layout.length, await layout.collect(weights)));
  const x = tensor(inputs.x, [count, ...model.sampleShape]);
  const [t, s] = [tensor(inputs.t), tensor(inputs.s)];
  const scale = guidance ?? guidanceOf(network);
  const condition = {
    labels: model.classes ? tensor(inputs.labels) : undefined,
    guidance: scale === 1 ? undefined : constant(scale, [count]),
  };
  const flowMap = description.role === 'flow-map';
  const average = averageVelocityOf(model, parameters, description, condition);
  const velocity = flowMap
    ? (y: Tensor, at: Tensor) => average(y, at, at)
    : velocityOf(model, parameters, description, condition);
  if (steps === undefined && !flowMap) return interpret([velocity(x, t)])[0];
  const { name } = sampler ?? { name: flowMap ? 'jump' : 'euler' };
  const step = samplerEntry(name).step!;
  const given = { velocity, average, strength: constant(strengthOf({ name }), [1]), noise: x };
  if (steps === undefined) return interpret([step({ x, t, s, ...given })])[0];
  const { timeShift = 1 } = description;
  const equal = (n: number) => equalSteps(n).map((done) => (1 - done) / (1 - done + done / timeShift));
  const times = typeof steps === 'number' ? equal(steps) : steps;
  const at = (time: number) => constant(time, [count]);
  let y: Tensor = x;
  for (const [i, to] of times.slice(1).entries()) y = step({ x: y, t: at(times[i]), s: at(to), ...given });
  return interpret([y])[0];
}

/** What onnxruntime makes of a file, and how far it is from the reference. */
async function distance(network: Network, bytes: Uint8Array, inputs: Inputs, options: OnnxOptions): Promise<number> {
  const session = await ort.InferenceSession.create(bytes);
  const { count } = inputs;
  const all: Record<string, ort.Tensor> = {
    x: new ort.Tensor('float32', inputs.x, [count, ...network.model.sampleShape]),
    t: new ort.Tensor('float32', inputs.t, [count]),
    s: new ort.Tensor('float32', inputs.s, [count]),
    labels: new ort.Tensor('int64', BigInt64Array.from(inputs.labels, BigInt), [count]),
  };
  const { y } = await session.run(Object.fromEntries(session.inputNames.map((name) => [name, all[name]])));
  await session.release();
  const want = await reference(network, inputs, options);
  expect(y.dims).toEqual([count, ...network.model.sampleShape]);
  return want.reduce((most, value, i) => Math.max(most, Math.abs(value - Number(y.data[i]))), 0);
}

async function agrees(network: Network, options: OnnxOptions, counts = [1, 4]): Promise<void> {
  const { bytes } = await exportOnnx(network, options);
  for (const count of counts) {
    const worst = await distance(network, bytes, drawn(network, count), options);
    expect(worst, `a batch of ${count} is off by ${worst}`).toBeLessThan(1e-5);
  }
}

describe('ONNX in onnxruntime', () => {
  it.each(Object.entries({ mlp: points, ...pictures }))(
    'is the jump of a %s to 1e-5, for batches of any size',
    async (_, architecture) => agrees(await lively({ architecture }, true), {}),
  );

  it.each([
    ['a velocity of data at 1', { time: 'data-at-1' }, false, {}],
    ['data predicted', { prediction: 'data' }, false, {}],
    [
      'v on a vp path, by a table of levels',
      { prediction: 'v', path: { kind: 'vp', schedule: 'cosine' }, timeScale: 1e-3 },
      false,
      {},
    ],
    [
      'noise on a vp path, in steps of Heun',
      { prediction: 'noise', path: { kind: 'vp', schedule: 'linear', steps: 40 }, timeScale: 0.03 },
      false,
      { steps: [0.9, 0.5, 0.2], sampler: { name: 'heun' } },
    ],
    ['edm', { prediction: 'edm', path: { kind: 've' } }, false, { steps: [1, 0.4, 0], sampler: { name: 'rk4' } }],
    ['equal steps that are closer in noise', { timeShift: 3 }, false, { steps: 4 }],
    ['jumps over times of its own', {}, true, { steps: [1, 0.7, 0.2, 0] }],
    ['jumps that open weights', { jumpRank: 3 }, true, { steps: [1, 0.6, 0] }],
    ['jumps that open convolutions', { architecture: pictures.unet, jumpRank: 2 }, true, { steps: 2 }],
    ['Euler steps of a flow map', {}, true, { steps: 4, sampler: { name: 'euler' } }],
    ['a sample of more axes', { architecture: { ...points, dim: [3, 2] } }, true, { steps: 1 }],
  ] as [string, object, boolean, OnnxOptions][])('is %s', async (_, description, twoTime, options) =>
    agrees(await lively({ architecture: points, ...description }, twoTime), options),
  );

  it('is a teacher under guidance, which asks it twice', async () =>
    agrees(await lively({ architecture: pictures.sit }, false), { guidance: 2.5, steps: 2 }, [3]));

  it('is refused where a file cannot hold it', async () => {
    const map = await lively({ architecture: points }, true);
    const teacher = await lively({ architecture: points }, false);
    const cases: [Network, OnnxOptions, RegExp][] = [
      [map, { steps: 2, sampler: { name: 'consistency' } }, /fresh noise .* cannot be exported/],
      [map, { steps: 2, sampler: { name: 'dopri5' } }, /chooses its own steps/],
      [teacher, { steps: 2, sampler: { name: 'jump' } }, /for flow maps/],
      [teacher, { guidance: 2 }, /classes and none/],
    ];
    for (const [network, options, told] of cases) await expect(exportOnnx(network, options)).rejects.toThrow(told);
    const data = Object.defineProperty(new Float32Array(1), 'byteLength', { value: 3 * 2 ** 30 });
    const none = { nodes: [], inputs: [], outputs: [], producer: '', about: '', metadata: {} };
    const large = { ...none, initializers: [{ name: 'w', type: 'f32' as const, shape: [1], data }] };
    expect(() => encodeOnnx(large)).toThrow(/3\.0 GiB of weights pass the 2 GiB/);
  });
});

const python = '/usr/bin/python3';
const found = spawnSync(python, ['-c', 'import torch']).status === 0;
if (!found) console.log(`skipped: ${python} has no torch to load exported weights (apt-get install python3-torch)`);

describe('a state dict', () => {
  it.skipIf(!found).each([
    ['mlp', points],
    ['sit', { ...pictures.sit, inputSize: 8, depth: 2 }],
  ] as const)('of a %s gives the same samples in PyTorch', async (kind, architecture) => {
    const network = await lively({ architecture }, true);
    const inputs = drawn(network, 3);
    const { tensors, metadata } = exportStateDict(network);
    expect(metadata.format).toBe('pt');
    const path = join(folder, `${kind}.safetensors`);
    await writeSafetensors(path, tensors, metadata);
    const file = await readSafetensors(path);
    const entries = [...file.tensors].map(async ([name, { shape }]) => [
      name,
      { shape, values: [...(await file.readF32(name))] },
    ]);
    const given = {
      kind,
      sizes: architecture,
      file: Object.fromEntries(await Promise.all(entries)) as object,
      x: { shape: [3, ...network.model.sampleShape], values: [...inputs.x] },
      t: [...inputs.t],
      s: [...inputs.s],
      labels: [...inputs.labels],
    };
    const { stdout, stderr } = spawnSync(python, ['test/support/torch-models.py'], {
      input: JSON.stringify(given),
      encoding: 'utf8',
    });
    expect(stderr).toBe('');
    const theirs = JSON.parse(stdout) as number[];
    const ours = await reference(network, inputs, {});
    const worst = ours.reduce((most, value, i) => Math.max(most, Math.abs(value - theirs[i])), 0);
    expect(worst).toBeLessThan(1e-5);
  });
});

describe('samples', () => {
  const draw = random(3);
  const bytes = Uint8Array.from({ length: 6 * 3 * 5 * 4 }, () => draw.below(256));
  const labels = Uint32Array.of(2, 0, 1, 2, 0, 1);
  /** Images and their labels, in the order of their first pixels. */
  const contents = ({ values, heldOut, labels: own, count, shape }: Dataset) => {
    const size = sizeOf(shape);
    const rows = [values, heldOut.values].flatMap((part, held) =>
      Array.from({ length: held ? heldOut.count : count }, (_, i) => [
        [...part.subarray(i * size, (i + 1) * size)].join(),
        (held ? heldOut.labels : own)?.[i],
      ]),
    );
    return rows.sort();
  };

  it.each([1, 3] as const)('of %i channels come back as data from a folder and from .npz', async (channels) => {
    const shape = [channels, 5, 4];
    const stored = bytes.slice(0, 6 * sizeOf(shape));
    // Black and white at -0.5 and 2, and what lies a little beyond them.
    const x = Float32Array.from(stored, (byte) => -0.5 + (2.5 * byte) / 255 + (byte === 255 ? 0.3 : 0.001));
    const batch = { x, shape, labels, range: [-0.5, 2] as const };
    const want = Array.from({ length: 6 }, (_, i) => [
      [...stored.subarray(i * sizeOf(shape), (i + 1) * sizeOf(shape))].join(),
      labels[i],
    ]);
    const own = mkdtempSync(join(folder, 'pngs-'));
    for (const [name, content] of samplePngs(batch)) writeFileSync(join(own, name), content);
    expect(contents(await loadDataset(own, { heldOut: 2 }))).toEqual(want.sort());
    const npz = join(own, 'samples.npz');
    writeFileSync(npz, samplesNpz(batch));
    const set = await loadDataset(npz, { heldOut: 2 });
    expect([set.shape, contents(set)]).toEqual([shape, want]);
    const script =
      'import sys, numpy; a = numpy.load(sys.argv[1]); print(a["arr_0"].dtype, a["arr_0"].shape, a["arr_1"])';
    const { stdout, status } = spawnSync(python, ['-c', script, npz], { encoding: 'utf8' });
    if (status === 0) expect(stdout.trim()).toBe(`uint8 (6, 5, 4, ${channels}) [2 0 1 2 0 1]`);
  });

  it('that are no pictures are numbers in .npz, and no folder of pictures', async () => {
    const x = Float32Array.of(1, 2, 3, 4, 5, 6);
    writeFileSync(join(folder, 'points.npz'), samplesNpz({ x, shape: [2] }));
    const set = await loadDataset(join(folder, 'points.npz'), { heldOut: 1 });
    expect([...set.values, ...set.heldOut.values].sort()).toEqual([...x]);
    expect(() => [...samplePngs({ x, shape: [2] })]).toThrow(/no pictures: write them to \.npz/);
  });

  it('are written to a new folder alone', async () => {
    const sample = (out: string) =>
      runHere(['sample', '--model', 'checkpoints/rf-checkerboard.safetensors', '--out', out]);
    expect((await sample(`${folder}/`)).line).toMatch(/holds \d+ files already: choose a new folder/);
    expect((await sample(`${join(folder, 'new')}/`)).line).toMatch(/have no picture: write them to \.npz/);
  });
});

describe('published statistics of features', () => {
  const npz = (arrays: Record<string, [Float32Array, number[]]>) =>
    zipSync(
      Object.fromEntries(
        Object.entries(arrays).map(([name, [data, shape]]) => [`${name}.npy`, encodeNpy(data, shape)]),
      ),
    );
  const mu = Float32Array.of(1, 2);

  it('are what a Fréchet distance is taken to', async () => {
    const sigma = Float32Array.of(2, 0.5, 0.5, 1);
    const moments = await parseMoments(npz({ mu: [mu, [2]], sigma: [sigma, [2, 2]] }), 's.npz');
    expect([[...moments.mean], [...moments.covariance]]).toEqual([
      [1, 2],
      [2, 0.5, 0.5, 1],
    ]);
    const values = Float32Array.from({ length: 40 }, (_, i) => Math.sin(i * i));
    const features = { values, dim: 2, classes: new Uint32Array(20) };
    const reference = { x: values, allFeatures: features };
    const distance = (other: object) =>
      frechetMetric.compute({ dim: 2, x: values, features, reference: { ...reference, ...other } });
    expect(distance({})).toBe(0);
    expect(distance({ moments })).toBe(frechetDistance(momentsOf(values, 2), moments));
    expect(distance({ moments })).toBeGreaterThan(1);
  });

  it('are refused where they are none', async () => {
    const square = (...values: number[]): [Float32Array, number[]] => [Float32Array.from(values), [2, 2]];
    for (const [bytes, told] of [
      [npz({ mu: [mu, [2]] }), /holds mu\.npy, and no sigma\.npy/],
      [npz({ mu: [mu, [2]], sigma: [mu, [2]] }), /no mean \[d\] and covariance/],
      [npz({ mu: [mu, [2]], sigma: square(1, 2, 3, 4) }), /sigma is no covariance/],
      [npz({ mu: [mu, [2]], sigma: square(-1, 0, 0, 1) }), /sigma is no covariance/],
      [npz({ mu: [Float32Array.of(NaN, 0), [2]], sigma: square(1, 0, 0, 1) }), /or mu no mean/],
      [new Uint8Array(50), /no \.npz of statistics/],
    ] as const)
      await expect(parseMoments(bytes, 's.npz')).rejects.toThrow(told);
  });
});

describe('semiflow export', () => {
  const model = join(folder, 'map.safetensors');
  const lines = (text: readonly unknown[][]) => text.flat().join('\n');

  it('writes both, says how they are loaded, and refuses in one line', async () => {
    const network = await lively({ architecture: pictures.vit }, true);
    const { tensors, metadata } = exportNetwork(network);
    await writeSafetensors(model, tensors, metadata);
    const out = (name: string) => join(folder, name);
    const printed = await printedBy(['export', '--model', model, '--to', 'onnx', '--nfe', '2', '--out', out('a.onnx')]);
    expect(lines(printed)).toMatch(/x \[batch, 1, 8, 6\], labels \[batch\] → y.*\n.*\n+import onnxruntime/);
    const worst = await distance(network, new Uint8Array(readFileSync(out('a.onnx'))), drawn(network, 2), { steps: 2 });
    expect(worst).toBeLessThan(1e-5);
    const state = await printedBy(['export', '--model', model, '--to', 'pytorch', '--out', out('b.safetensors')]);
    expect(lines(state)).toMatch(/load_file.*vit state dict[^]*jump_embedder[^]*load_state_dict\(state\)/);
    const written = await readSafetensors(out('b.safetensors'));
    expect([...written.tensors.keys()].sort()).toEqual(Object.keys(tensors).sort());
    expect(written.metadata.format).toBe('pt');
    for (const [args, told] of [
      [['--to', 'onnx', '--out', out('c.pt')], /must end in \.onnx/],
      [['--to', 'pytorch', '--nfe', '2', '--out', out('c.safetensors')], /^--nfe: belongs to --to onnx/],
      [['--to', 'onnx', '--sampler', 'euler', '--out', out('c.onnx')], /^--sampler: needs --nfe or --times/],
      [['--to', 'onnx', '--sampler', 'dopri5', '--out', out('c.onnx')], /^--sampler: dopri5 chooses its own steps/],
      [['--to', 'onnx', '--sampler', 'ddim', '--nfe', '2', '--out', out('c.onnx')], /^--sampler: fresh noise/],
    ] as const)
      expect((await runHere(['export', '--model', model, ...args])).line).toMatch(told);
  });

  it('is of no network that is damaged', async () => {
    writeFileSync(join(folder, 'bad.safetensors'), 'x'.repeat(100));
    const args = [
      'export',
      '--model',
      join(folder, 'bad.safetensors'),
      '--to',
      'onnx',
      '--out',
      join(folder, 'd.onnx'),
    ];
    expect(await runHere(args)).toMatchObject({ exitCode: 2 });
  });
});

/** What a command prints. */
async function printedBy(args: string[]): Promise<unknown[][]> {
  const log = vi.spyOn(console, 'log').mockImplementation(() => {});
  try {
    await createProgram().parseAsync(args, { from: 'user' });
    return log.mock.calls;
  } finally {
    log.mockRestore();
  }
}
