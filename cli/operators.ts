import { readSafetensors, writeSafetensors } from '../node/files.js';
import type { SafetensorsFile } from '../src/checkpoint/safetensors.js';
import { UserError } from '../src/errors.js';
import type { Network } from '../src/flow/network.js';
import { equalSteps, Runner } from '../src/flow/runner.js';
import type { Solver } from '../src/flow/solvers.js';
import { sameShape, sizeOf } from '../src/tensor/shape.js';
import { numberBetween, wholeNumber } from './arguments.js';
import { readNetwork } from './networks.js';
import { checkOutput } from './output.js';
import { openSession, type DeviceFlags } from './session.js';

export interface OperatorFlags extends DeviceFlags {
  model: string;
  arch?: string;
  input: string;
  t?: string;
  s?: string;
  out: string;
}

/** `semiflow jump`: f(x, t, s) of given tensors. */
export async function jump(flags: OperatorFlags): Promise<void> {
  await checkOutput(flags.out, ['.safetensors'], flags.input);
  const network = await readNetwork(flags.model, flags.arch);
  if (network.description.role !== 'flow-map') {
    throw new UserError(
      `${flags.model} is a teacher, and only a flow map jumps: ask it with \`semiflow velocity\`, or distil it with \`semiflow train\``,
    );
  }
  const input = await readSafetensors(flags.input);
  const x = await readPoints(input, network);
  const t = await readTimes(input, 't', flags.t, x.count);
  const s = await readTimes(input, 's', flags.s, x.count);
  const late = s.findIndex((end, i) => end > t[i]);
  if (late >= 0 && !network.description.forward)
    throw new UserError(
      `${flags.input}: sample ${late} would jump from t = ${number(t[late])} to a later s = ${number(s[late])}: this flow map learned jumps towards data, s ≤ t (train with --forward-share for others)`,
    );
  checkAnswered(t, network, flags);
  await write(flags, network, x, 'x', (runner) => runner.jump({ ...x, t, s }));
}

export interface InvertFlags extends DeviceFlags {
  model: string;
  arch?: string;
  input: string;
  steps: string;
  sampler?: Solver | 'jump';
  out: string;
}

/**
 * `semiflow invert`: from data to the noise that leads to it, by forward jumps of a flow map that learned them, or by
 * integrating a velocity backwards.
 */
export async function invert(flags: InvertFlags): Promise<void> {
  await checkOutput(flags.out, ['.safetensors'], flags.input);
  const network = await readNetwork(flags.model, flags.arch);
  const { forward, role, minimumTime } = network.description;
  const sampler = flags.sampler ?? (forward ? 'jump' : 'heun');
  if (sampler === 'jump' && !forward)
    throw new UserError(
      `${flags.model} ${role === 'teacher' ? 'is a teacher' : 'learned no forward jumps (train with --forward-share)'}: invert it by --sampler heun`,
    );
  const steps = wholeNumber('--steps', flags.steps, { least: 1, most: 10_000, because: 'finer than f32 can follow' });
  const x = await readPoints(await readSafetensors(flags.input), network);
  const [t, s] = [new Float32Array(x.count).fill(minimumTime), new Float32Array(x.count).fill(1)];
  await write({ ...flags }, network, x, 'z', (runner) =>
    runner.follow({ ...x, t, s }, equalSteps(steps), { name: sampler }),
  );
}

/** `semiflow velocity`: v(x, t) of given tensors, dx/dt in semiflow's time, where t = 1 is noise. */
export async function velocity(flags: OperatorFlags): Promise<void> {
  await checkOutput(flags.out, ['.safetensors'], flags.input);
  const network = await readNetwork(flags.model, flags.arch);
  const input = await readSafetensors(flags.input);
  const x = await readPoints(input, network);
  const t = await readTimes(input, 't', flags.t, x.count);
  checkAnswered(t, network, flags);
  await write(flags, network, x, 'v', (runner) => runner.velocity({ ...x, t }));
}

interface Points {
  count: number;
  x: Float32Array;
  labels?: Uint32Array;
}

async function write(
  flags: OperatorFlags,
  network: Network,
  { count }: Points,
  name: string,
  apply: (runner: Runner) => Promise<Float32Array>,
): Promise<void> {
  const { sampleShape } = network.model;
  const device = await openSession(flags);
  const runner = new Runner(device, network, Math.min(count, sizeOf(sampleShape) > 64 ? 128 : 4096));
  const data = await apply(runner);
  await writeSafetensors(flags.out, { [name]: { dtype: 'F32', shape: [count, ...sampleShape], data } });
  console.log(`${name} [${[count, ...sampleShape]}] on ${device.profile.description}: ${flags.out}`);
  device.close();
}

/** x [n, ...sampleShape] and, where there is one, the class y [n] of each sample. */
async function readPoints(input: SafetensorsFile, { model }: Network): Promise<Points> {
  const x = await input.readF32('x');
  const { shape } = input.tensors.get('x')!;
  if (!sameShape(shape.slice(1), model.sampleShape) || !shape[0]) {
    throw new UserError(
      `${input.name}: x has shape [${shape}], the network takes [n, ${model.sampleShape.join(', ')}]`,
    );
  }
  checkFinite(x, input.name, 'x');
  const [count] = shape;
  if (!input.tensors.has('y')) return { count, x };
  if (!model.classes) throw new UserError(`${input.name} holds classes y, but the network knows none: leave y out`);
  const y = await readVector(input, 'y', count);
  const lowest = model.nullClass ? -1 : 0;
  const wrong = y.findIndex((value) => !Number.isInteger(value) || value < lowest || value >= model.classes);
  if (wrong >= 0)
    throw new UserError(
      `${input.name}: y[${wrong}] is ${y[wrong]}, classes go from 0 to ${model.classes - 1}${model.nullClass ? ', and -1 is none' : ''}`,
    );
  return { count, x, labels: Uint32Array.from(y, (value) => (value === -1 ? model.classes : value)) };
}

/** Times in [0, 1], one a sample: from the input, else the flag's for all. */
async function readTimes(
  input: SafetensorsFile,
  name: 't' | 's',
  flag: string | undefined,
  count: number,
): Promise<Float32Array> {
  if (input.tensors.has(name)) {
    if (flag !== undefined) throw new UserError(`${input.name} holds ${name} for each sample: leave --${name} out`);
    const times = await readVector(input, name, count);
    const wrong = times.findIndex((value) => !(value >= 0 && value <= 1));
    if (wrong >= 0)
      throw new UserError(`${input.name}: ${name}[${wrong}] is ${times[wrong]}, times go from 0 (data) to 1 (noise)`);
    return times;
  }
  if (flag === undefined)
    throw new UserError(`${input.name} holds no ${name}: give --${name}, or a tensor ${name} [${count}]`);
  return new Float32Array(count).fill(numberBetween(`--${name}`, flag, 0, 1));
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
function checkAnswered(t: Float32Array, { description }: Network, { model, input }: OperatorFlags): void {
  const least = Math.fround(description.minimumTime);
  const early = t.findIndex((time) => time < least);
  if (early >= 0)
    throw new UserError(
      `${input}: sample ${early} is at t = ${number(t[early])}, ${model} answers from t = ${description.minimumTime} on (its minimumTime)`,
    );
}

/** An f32 as people write it. */
const number = (value: number) => Number(value.toPrecision(7));
