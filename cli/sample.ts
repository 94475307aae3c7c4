import { readSafetensors, writeFileAtomic, writeSafetensors } from '../node/files.js';
import type { SafetensorsFile } from '../src/checkpoint/safetensors.js';
import { encodeNpy } from '../src/checkpoint/npy.js';
import { UserError } from '../src/errors.js';
import { conditionNames, conditionShapes, readConditions } from '../src/flow/conditions.js';
import { memoryLine } from '../src/flow/memory.js';
import { fitNetwork, type Network } from '../src/flow/network.js';
import { callsOf, checkGuidance, guidanceOf } from '../src/flow/runner.js';
import { samplerEntry, samplers, type Sampler, type SamplerEntry, type SamplerName } from '../src/flow/samplers.js';
import { drawSamples, planSampling, samplerOf, type DrawnSamples } from '../src/flow/sampling.js';
import { sizeOf } from '../src/tensor/shape.js';
import { numberBetween, sampleCount, seedNumber, wholeNumber } from './arguments.js';
import { agreeOnNetworks, readNetwork } from './networks.js';
import { labelsTensor } from './operators.js';
import { checkFolder, checkOutput, isFolder } from './output.js';
import { folderStore } from '../node/folder.js';
import { arePictures, samplePngs, samplesNpz } from '../src/export/samples.js';
import { picture } from '../trainers/evaluation/pictures.js';
import { memoryOf, openSession, type DeviceFlags } from './session.js';
import { begin, done } from './status.js';

export interface SampleFlags extends DeviceFlags {
  model: string;
  arch?: string;
  /** Adapters folded in. */
  lora?: string[];
  nfe?: string;
  sampler?: SamplerName;
  times?: string;
  gamma?: string;
  eta?: string;
  tolerance?: string;
  guidance?: string;
  n: string;
  label?: string;
  conditions?: string;
  seed: string;
  out: string;
}

/** Steps along a velocity unless told otherwise: enough for pictures. */
const solverSteps = 50;
/** Steps finer than these change nothing that f32 can hold. */
const mostSteps = { least: 1, most: 10_000, because: 'finer than f32 can follow' };

/** The file of what a network is told, and the network as it takes the shapes in it. */
async function readTold(network: Network, path?: string): Promise<{ network: Network; input?: SafetensorsFile }> {
  const needed = Object.entries(network.model.conditions).filter(([, { optional }]) => !optional);
  if (path === undefined) {
    if (!needed.length) return { network };
    const shapes = needed.map(([name, { shape }]) => `${name} [${shape.join(', ')}]`).join(' and ');
    throw new UserError(`the network is told ${shapes}: give a safetensors file of it`, 'conditions');
  }
  const input = await readSafetensors(path);
  const names = conditionNames(network);
  const other = [...input.tensors.keys()].find((name) => !names.includes(name));
  if (other !== undefined)
    throw new UserError(
      `${path} holds ${other}, and the network is told ${names.join(', ') || 'nothing'} beside time and class`,
      'conditions',
    );
  const conditions = conditionShapes(input, network);
  // Further channels of the input have the sides of the sample.
  const sides = conditions.channels?.slice(1) ?? network.model.sampleShape.slice(1);
  return { network: fitNetwork(network, { sample: [network.model.sampleShape[0], ...sides], conditions }), input };
}

/** What flags of `sample` ask for, all of it checked. */
export async function prepareSampling(flags: SampleFlags) {
  const { model } = flags;
  const seed = seedNumber('--seed', flags.seed);
  const { network, input } = await readTold(await readNetwork(model, flags.arch, flags.lora), flags.conditions);
  const count = sampleCount('--n', flags.n, sizeOf(network.model.sampleShape));
  const sampler = samplerFor(flags, network);
  const guidance =
    flags.guidance === undefined ? guidanceOf(network) : numberBetween('--guidance', flags.guidance, 0, 100);
  checkGuidance(network, guidance);
  const steps = stepsFor(flags, sampler, network, guidance);
  const label = flags.label === undefined ? undefined : classOf(flags.label, network, model);
  const told = input && (await readConditions(input, network, count));
  return { network, count, seed, label, steps, sampler, guidance, ...told };
}

/** `semiflow sample`: draws samples and writes them as a picture or as numbers. */
export async function sample(flags: SampleFlags): Promise<void> {
  const { model, out } = flags;
  const extension = isFolder(out)
    ? await checkFolder(out)
    : await checkOutput(out, ['.png', '.npy', '.npz', '.safetensors'], model);
  const { network, ...wanted } = await prepareSampling(flags);
  const { count, label, sampler, guidance } = wanted;
  const { sampleShape, classes } = network.model;
  if ((extension === '.png' && !isDrawable(sampleShape)) || (extension === '/' && !arePictures(sampleShape))) {
    throw new UserError(`samples of shape [${sampleShape}] have no picture: write them to .npz, .npy or .safetensors`);
  }

  const device = await openSession(flags);
  const { seed, steps } = wanted;
  await agreeOnNetworks(device.group, { model: network }, { count, seed, label, steps, sampler, guidance });
  console.log(`memory: ${memoryLine(planSampling(device, network, wanted, memoryOf(device)))}`);
  begin(`drawing ${plural(count, 'sample')}`);
  const samples = await drawSamples(device, network, wanted);
  done();
  const broken = samples.x.findIndex((value) => !Number.isFinite(value));
  if (broken >= 0)
    throw new UserError(
      `${model}: sample ${Math.floor((broken * count) / samples.x.length)} is not finite: the weights have diverged`,
    );
  const batch = { ...samples, shape: sampleShape, range: network.description.dataRange };
  if (extension === '.png') {
    const columns = classes && label === undefined ? Math.min(classes, count) : undefined;
    await writeFileAtomic(out, picture(network, samples.x, { columns }).toPng());
  } else if (extension === '/') {
    const store = folderStore(out);
    for (const [name, bytes] of samplePngs(batch)) await store.write(name, bytes);
  } else if (extension === '.npz') {
    await writeFileAtomic(out, samplesNpz(batch));
  } else if (extension === '.npy') {
    await writeFileAtomic(out, encodeNpy(samples.x, [count, ...sampleShape]));
  } else {
    await writeSafetensors(out, tensorsOf(network, samples, [count, ...sampleShape]));
  }
  console.log(
    `${plural(count, 'sample')} by ${sampler.name} in ${plural(samples.evaluations, 'evaluation')}${guidance === 1 ? '' : `, guidance ${guidance}`} on ${device.profile.description}: ${out}`,
  );
  device.dispose();
}

const plural = (count: number, noun: string) => `${count} ${noun}${count === 1 ? '' : 's'}`;
const isDrawable = (shape: readonly number[]) =>
  (shape.length === 3 && [1, 3].includes(shape[0])) || (shape.length === 1 && shape[0] === 2);

/** The sampler that flags ask for; the options of others are refused. */
export function samplerFor(
  flags: Pick<SampleFlags, 'sampler' | 'gamma' | 'eta' | 'tolerance' | 'model'>,
  network: Network,
): Sampler {
  const name = flags.sampler ?? samplerOf(network).name;
  const { jumps, option } = samplerEntry(name);
  if (jumps && network.description.role === 'teacher')
    throw new UserError(
      `--sampler ${name} is for flow maps, and ${flags.model} is a teacher: use euler, heun or another`,
    );
  for (const [owner, entry] of Object.entries(samplers) as [SamplerName, SamplerEntry][])
    if (entry.option && flags[entry.option.name] !== undefined && entry.option.name !== option?.name)
      throw new UserError(`--${entry.option.name} belongs to --sampler ${owner}, not to ${name}`);
  const given = option && flags[option.name];
  if (!option || given === undefined) return { name };
  return { name, [option.name]: numberBetween(`--${option.name}`, given, option.low, option.high) };
}

/** Equal steps that cost the evaluations asked for, or the times themselves. */
export function stepsFor(
  { nfe, times }: Pick<SampleFlags, 'nfe' | 'times'>,
  { name }: Sampler,
  network: Network,
  guidance: number,
): number | number[] {
  const { jumps, measured, step } = samplerEntry(name);
  if (!step && !measured && times !== undefined)
    throw new UserError(`${name} has timesteps of its own: leave --times out, and say --nfe`);
  if (measured) {
    if (nfe !== undefined || times !== undefined)
      throw new UserError(`${name} chooses its own steps: leave --nfe and --times out, and say --tolerance`);
    return 1;
  }
  if (times !== undefined) {
    if (nfe !== undefined) throw new UserError('--times says every step: leave --nfe out');
    const list = times.split(',').map((text) => numberBetween('--times', text, 0, 1));
    if (list.length < 2 || list[0] !== 1 || list.some((time, i) => i > 0 && time >= list[i - 1]))
      throw new UserError(`--times takes falling times from 1 on, such as 1,0.7,0.3,0, not "${times}"`);
    return list;
  }
  if (nfe === undefined) return jumps ? 1 : solverSteps;
  const count = wholeNumber('--nfe', nfe, mostSteps);
  const each = callsOf(network, name, guidance);
  if (count % each)
    throw new UserError(
      `--nfe ${count}: a step of ${name}${guidance === 1 ? '' : ` under guidance ${guidance}`} costs ${each} evaluations, so a multiple of ${each} is wanted`,
    );
  return count / each;
}

/** A class, or the number that stands for none. */
function classOf(text: string, { model }: Network, file: string): number {
  if (!model.classes) throw new UserError(`--label: ${file} knows no classes: leave it out`);
  if (text === 'none') {
    if (!model.nullClass) throw new UserError(`--label none: ${file} was trained with classes alone: name one`);
    return model.classes;
  }
  const label = wholeNumber('--label', text, { least: 0 });
  if (label >= model.classes) throw new UserError(`--label takes a class from 0 to ${model.classes - 1}, not ${label}`);
  return label;
}

function tensorsOf(network: Network, { x, noise, labels }: DrawnSamples, shape: readonly number[]) {
  const f32 = (data: Float32Array) => ({ dtype: 'F32' as const, shape, data });
  return {
    x: f32(x),
    noise: f32(noise),
    ...(labels && { labels: labelsTensor(labels, network) }),
  };
}
