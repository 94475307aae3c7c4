import { writeFileAtomic, writeSafetensors } from '../checkpoint/file.js';
import { encodeNpy } from '../checkpoint/npy.js';
import { UserError } from '../errors.js';
import type { Network } from '../flow/network.js';
import { drawSamples, type Samples } from '../flow/sampling.js';
import { evaluations, type Solver } from '../flow/solvers.js';
import { wholeNumber } from './arguments.js';
import { readNetwork } from './networks.js';
import { checkOutput } from './output.js';
import { picture } from './pictures.js';
import { openSession, type DeviceFlags } from './session.js';

export interface SampleFlags extends DeviceFlags {
  model: string;
  arch?: string;
  nfe: string;
  solver: Solver;
  n: string;
  label?: string;
  seed: string;
  out: string;
}

/** `semiflow sample`: draws samples and writes them as a picture or as numbers. */
export async function sample(flags: SampleFlags): Promise<void> {
  const { model, out, solver } = flags;
  const nfe = wholeNumber('--nfe', flags.nfe, 1);
  const count = wholeNumber('--n', flags.n, 1);
  const seed = wholeNumber('--seed', flags.seed, 0);
  const extension = await checkOutput(out, ['.png', '.npy', '.safetensors'], model);
  const network = await readNetwork(model, flags.arch);
  const isMap = network.description.role === 'flow-map';
  const label = flags.label === undefined ? undefined : classOf(flags.label, network, model);
  const steps = isMap ? nfe : stepsOf(nfe, solver);
  const { sampleShape, classes } = network.model;
  if (extension === '.png' && !isDrawable(sampleShape)) {
    throw new UserError(`samples of shape [${sampleShape}] have no picture: write them to .npy or .safetensors`);
  }

  const device = await openSession(flags);
  const samples = await drawSamples(device, network, { count, seed, label, steps, solver });
  const broken = samples.x.findIndex((value) => !Number.isFinite(value));
  if (broken >= 0)
    throw new UserError(
      `${model}: sample ${Math.floor((broken * count) / samples.x.length)} is not finite: the weights have diverged`,
    );
  if (extension === '.png') {
    const columns = classes && label === undefined ? Math.min(classes, count) : undefined;
    await writeFileAtomic(out, picture(network, samples.x, undefined, columns).toPng());
  } else if (extension === '.npy') {
    await writeFileAtomic(out, encodeNpy(samples.x, [count, ...sampleShape]));
  } else {
    await writeSafetensors(out, tensorsOf(samples, [count, ...sampleShape]));
  }
  const by = isMap ? plural(steps, 'jump') : `${plural(steps, `${solver} step`)} (${plural(nfe, 'evaluation')})`;
  console.log(`${plural(count, 'sample')} by ${by} on ${device.profile.description}: ${out}`);
  device.close();
}

const plural = (count: number, noun: string) => `${count} ${noun}${count === 1 ? '' : 's'}`;
const isDrawable = (shape: readonly number[]) =>
  (shape.length === 3 && [1, 3].includes(shape[0])) || (shape.length === 1 && shape[0] === 2);

/** Steps of a solver that cost so many evaluations of the velocity. */
function stepsOf(nfe: number, solver: Solver): number {
  const each = evaluations[solver];
  if (nfe % each)
    throw new UserError(
      `--nfe ${nfe}: a step of ${solver} costs ${each} evaluations, so a multiple of ${each} is wanted`,
    );
  return nfe / each;
}

function classOf(text: string, { model }: Network, file: string): number {
  if (!model.classes) throw new UserError(`--label: ${file} knows no classes: leave it out`);
  const label = wholeNumber('--label', text, 0);
  if (label >= model.classes) throw new UserError(`--label takes a class from 0 to ${model.classes - 1}, not ${label}`);
  return label;
}

function tensorsOf({ x, noise, labels }: Samples, shape: readonly number[]) {
  const f32 = (data: Float32Array) => ({ dtype: 'F32' as const, shape, data });
  return {
    x: f32(x),
    noise: f32(noise),
    // PyTorch indexes by i64.
    ...(labels && {
      labels: { dtype: 'I64' as const, shape: [labels.length], data: BigInt64Array.from(labels, BigInt) },
    }),
  };
}
