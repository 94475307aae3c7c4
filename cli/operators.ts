import { readSafetensors, writeSafetensors } from '../node/files.js';
import type { SafetensorsFile, TensorData } from '../src/checkpoint/safetensors.js';
import { UserError } from '../src/errors.js';
import { conditionShapes, readConditions } from '../src/flow/conditions.js';
import { excess, MemoryError, memoryLine, shortage } from '../src/flow/memory.js';
import { fitNetwork, type Network } from '../src/flow/network.js';
import { batchFor, equalSteps, Runner, type ConditionValues } from '../src/flow/runner.js';
import type { Solver } from '../src/flow/solvers.js';
import { sameShape, sizeOf } from '../src/tensor/shape.js';
import { numberBetween, wholeNumber } from './arguments.js';
import { readNetwork } from './networks.js';
import { checkOutput } from './output.js';
import { memoryOf, openSession, type DeviceFlags } from './session.js';
import { begin, done } from './status.js';

export interface OperatorFlags extends DeviceFlags {
  model: string;
  arch?: string;
  /** Adapters folded in. */
  lora?: string[];
  input: string;
  from: string;
  t?: string;
  s?: string;
  out: string;
}

/** Tensors that commands write for each other; what else a file holds is refused, since it would be passed over. */
const known = ['x', 'noise', 'labels', 't', 's'];

/** `semiflow jump`: f(x, t, s) of given tensors; what it writes can be jumped on. */
export async function jump(flags: OperatorFlags): Promise<void> {
  await checkOutput(flags.out, ['.safetensors'], flags.input);
  const given = await readNetwork(flags.model, flags.arch, flags.lora);
  if (given.description.role !== 'flow-map') {
    throw new UserError(
      `${flags.model} is a teacher, and only a flow map jumps: ask it with \`semiflow velocity\`, or distil it with \`semiflow train\``,
    );
  }
  const [start, end] = [timeOf('--t', flags.t), timeOf('--s', flags.s)];
  const input = await readSafetensors(flags.input);
  const network = fitted(given, input, flags.from);
  const points = await readPoints(input, flags.from, network);
  const t = await readTimes(input, 't', start, points.count);
  const s = await readTimes(input, 's', end, points.count);
  const late = s.findIndex((end, i) => end > t[i]);
  if (late >= 0 && !network.description.forward)
    throw new UserError(
      `${flags.input}: sample ${late} would jump from t = ${number(t[late])} to a later s = ${number(s[late])}: this flow map learned jumps towards data, s ≤ t (train with --forward-share for others)`,
    );
  checkAnswered(t, network, flags);
  await withRunner(flags, network, points.count, async (runner) => ({
    tensors: pointsAt(network, points, await runner.jump({ ...points, t, s }), s),
    says: 'f(x, t, s)',
  }));
}

export interface InvertFlags extends DeviceFlags {
  model: string;
  arch?: string;
  /** Adapters folded in. */
  lora?: string[];
  input: string;
  steps?: string;
  sampler?: Solver | 'jump';
  out: string;
}

/** Steps of a solver that invert to the accuracy of pictures and plots. */
const solverSteps = 50;

/**
 * `semiflow invert`: from data to the noise that leads to it, by forward jumps of a flow map that learned them, or by
 * integrating a velocity backwards.
 */
export async function invert(flags: InvertFlags): Promise<void> {
  await checkOutput(flags.out, ['.safetensors'], flags.input);
  const given = await readNetwork(flags.model, flags.arch, flags.lora);
  const { forward, role, minimumTime } = given.description;
  const sampler = flags.sampler ?? (forward ? 'jump' : 'heun');
  if (sampler === 'jump' && !forward)
    throw new UserError(
      `${flags.model} ${role === 'teacher' ? 'is a teacher' : 'learned no forward jumps (train with --forward-share)'}: invert it by --sampler heun`,
    );
  const steps =
    flags.steps === undefined
      ? sampler === 'jump'
        ? 1
        : solverSteps
      : wholeNumber('--steps', flags.steps, { least: 1, most: 10_000, because: 'finer than f32 can follow' });
  const input = await readSafetensors(flags.input);
  const network = fitted(given, input, 'x');
  const points = await readPoints(input, 'x', network);
  const t = input.tensors.has('t')
    ? await readTimes(input, 't', undefined, points.count)
    : new Float32Array(points.count).fill(minimumTime);
  checkAnswered(t, network, flags);
  const s = new Float32Array(points.count).fill(1);
  await withRunner(flags, network, points.count, async (runner) => ({
    tensors: pointsAt(
      network,
      points,
      await runner.follow({ ...points, t, s }, equalSteps(steps), { name: sampler }),
      s,
    ),
    says: `the noise, by ${steps} step${steps > 1 ? 's' : ''} of ${sampler}`,
  }));
}

/** `semiflow velocity`: v(x, t) of given tensors, dx/dt in semiflow's time, where t = 1 is noise. */
export async function velocity(flags: OperatorFlags): Promise<void> {
  await checkOutput(flags.out, ['.safetensors'], flags.input);
  const given = await readNetwork(flags.model, flags.arch, flags.lora);
  const time = timeOf('--t', flags.t);
  const input = await readSafetensors(flags.input);
  const network = fitted(given, input, flags.from);
  const points = await readPoints(input, flags.from, network);
  const t = await readTimes(input, 't', time, points.count);
  checkAnswered(t, network, flags);
  await withRunner(flags, network, points.count, async (runner) => ({
    tensors: { v: samplesTensor(network, points.count, await runner.velocity({ ...points, t })) },
    says: 'v(x, t)',
  }));
}

interface Points {
  count: number;
  x: Float32Array;
  labels?: Uint32Array;
  conditions: ConditionValues;
}

/** A network as it takes the shapes of an input, where it takes several. */
function fitted(network: Network, input: SafetensorsFile, from: string): Network {
  const sample = input.tensors.get(from)?.shape.slice(1);
  return sample ? fitNetwork(network, { sample, conditions: conditionShapes(input, network) }) : network;
}

async function withRunner(
  flags: DeviceFlags & { out: string },
  network: Network,
  count: number,
  apply: (runner: Runner) => Promise<{ tensors: Record<string, TensorData>; says: string }>,
): Promise<void> {
  const device = await openSession(flags);
  const runner = new Runner(device, network, batchFor(network.model.sampleShape, count));
  const [needs, memory] = [runner.needs('velocity'), memoryOf(device)];
  if (excess(needs, memory)) throw new MemoryError(shortage(needs, memory), []);
  console.log(`memory: ${memoryLine(needs)}`);
  begin('asking the network');
  const { tensors, says } = await apply(runner);
  done();
  await writeSafetensors(flags.out, tensors);
  console.log(`${says} of ${count} samples on ${device.profile.description}: ${flags.out}`);
  device.dispose();
}

const samplesTensor = ({ model }: Network, count: number, data: Float32Array): TensorData => ({
  dtype: 'F32',
  shape: [count, ...model.sampleShape],
  data,
});

/** Where points arrived and when, with their classes: what the next command reads. */
const pointsAt = (network: Network, { count, labels, conditions }: Points, x: Float32Array, t: Float32Array) => ({
  x: samplesTensor(network, count, x),
  t: { dtype: 'F32' as const, shape: [count], data: t },
  ...(labels && { labels: labelsTensor(labels, network) }),
  ...Object.fromEntries(
    Object.entries(conditions).map(([name, data]) => {
      const { shape } = network.model.conditions[name];
      return [name, { dtype: 'F32' as const, shape: data.length === sizeOf(shape) ? shape : [count, ...shape], data }];
    }),
  ),
});

/** Classes as PyTorch indexes, by i64; none is -1. */
export const labelsTensor = (labels: Uint32Array, { model }: Network): TensorData => ({
  dtype: 'I64',
  shape: [labels.length],
  data: BigInt64Array.from(labels, (label) => BigInt(label === model.classes ? -1 : label)),
});

/** Points [n, ...sampleShape] from the tensor of that name and, where there are any, the classes `labels` [n]. */
async function readPoints(input: SafetensorsFile, from: string, network: Network): Promise<Points> {
  const { model } = network;
  const names = [...known, ...Object.keys(model.conditions)];
  const others = [...input.tensors.keys()].filter((name) => !names.includes(name) && name !== from);
  if (others.length)
    throw new UserError(
      `${input.name} holds ${others.slice(0, 3).join(', ')}, which would be passed over: only ${names.join(', ')} are read${others.includes('y') ? ' (classes are `labels`)' : ''}`,
    );
  const entry = input.tensors.get(from);
  if (!entry)
    throw new UserError(`${input.name} holds no ${from}: it has ${[...input.tensors.keys()].join(', ') || 'nothing'}`);
  const x = await input.readF32(from);
  const { shape } = entry;
  if (!sameShape(shape.slice(1), model.sampleShape) || !shape[0]) {
    throw new UserError(
      `${input.name}: ${from} has shape [${shape}], the network takes [n, ${model.sampleShape.join(', ')}]`,
    );
  }
  checkFinite(x, input.name, from);
  const [count] = shape;
  const { conditions } = await readConditions(input, network, count);
  if (!input.tensors.has('labels')) return { count, x, conditions };
  if (!model.classes)
    throw new UserError(`${input.name} holds labels, but the network knows no classes: leave them out`);
  const labels = await readVector(input, 'labels', count);
  const lowest = model.nullClass ? -1 : 0;
  const wrong = labels.findIndex((value) => !Number.isInteger(value) || value < lowest || value >= model.classes);
  if (wrong >= 0)
    throw new UserError(
      `${input.name}: labels[${wrong}] is ${labels[wrong]}, classes go from 0 to ${model.classes - 1}${model.nullClass ? ', and -1 is none' : ''}`,
    );
  return {
    count,
    x,
    labels: Uint32Array.from(labels, (value) => (value === -1 ? model.classes : value)),
    conditions,
  };
}

/** A time in [0, 1] from a flag, if it is given. */
const timeOf = (flag: string, text: string | undefined): number | undefined =>
  text === undefined ? undefined : numberBetween(flag, text, 0, 1);

/** Times in [0, 1], one a sample: from the input, else the given one for all. */
async function readTimes(
  input: SafetensorsFile,
  name: 't' | 's',
  given: number | undefined,
  count: number,
): Promise<Float32Array> {
  if (input.tensors.has(name)) {
    if (given !== undefined) throw new UserError(`${input.name} holds ${name} for each sample: leave --${name} out`);
    const times = await readVector(input, name, count);
    const wrong = times.findIndex((value) => !(value >= 0 && value <= 1));
    if (wrong >= 0)
      throw new UserError(`${input.name}: ${name}[${wrong}] is ${times[wrong]}, times go from 0 (data) to 1 (noise)`);
    return times;
  }
  if (given === undefined)
    throw new UserError(`${input.name} holds no ${name}: give --${name}, or a tensor ${name} [${count}]`);
  return new Float32Array(count).fill(given);
}

/** A number a sample, [n] or [n, 1], of any dtype that f32 can hold. */
async function readVector(input: SafetensorsFile, name: string, count: number): Promise<Float32Array> {
  const { shape } = input.tensors.get(name)!;
  if (!sameShape(shape, [count]) && !sameShape(shape, [count, 1])) {
    throw new UserError(`${input.name}: ${name} has shape [${shape}] beside ${count} samples x: [${count}] is wanted`);
  }
  const values = await input.readF32(name);
  checkFinite(values, input.name, name);
  return values;
}

function checkFinite(values: Float32Array, file: string, name: string): void {
  const broken = values.findIndex((value) => !Number.isFinite(value));
  if (broken >= 0)
    throw new UserError(
      `${file}: element ${broken} of ${name} is ${values[broken]}: only finite numbers can be asked about`,
    );
}

/** A data prediction says nothing of the velocity near t = 0: asked there, the answer would be for another time. */
function checkAnswered(
  t: Float32Array,
  { description }: Network,
  { model, input }: { model: string; input: string },
): void {
  const least = Math.fround(description.minimumTime);
  const early = t.findIndex((time) => time < least);
  if (early >= 0)
    throw new UserError(
      `${input}: sample ${early} is at t = ${number(t[early])}, ${model} answers from t = ${description.minimumTime} on (its minimumTime)`,
    );
}

/** An f32 as people write it. */
const number = (value: number) => Number(value.toPrecision(7));
