import { openDevice } from '../node/device.js';
import { nullAdapters } from '../node/dawn.js';
import { areCaptions } from './captions.js';
import { loadDataset } from '../node/data.js';
import { UserError } from '../src/errors.js';
import { deviceBytes, readable, type AvailableMemory, type MemoryNeeds } from '../src/flow/memory.js';
import { createNetwork, fitNetwork } from '../src/flow/network.js';
import { planSampling } from '../src/flow/sampling.js';
import type { Device } from '../src/gpu/device.js';
import { planDistillation, planTeacher } from '../trainers/runs.js';
import type { PlannedTraining } from '../trainers/trainer.js';
import { prepareSampling, type SampleFlags } from './sample.js';
import { memoryOf, openSession, type DeviceFlags } from './session.js';
import { prepareTeacher, reopenTeacher, type TeacherFlags } from './teacher.js';
import { prepare, readStudent, reopen, type TrainFlags } from './train.js';

/** What `plan` takes beside the flags of what is planned. */
export interface PlanFlags {
  /** `default`, or figures such as `memory=8GiB,binding=128MiB,buffer=256MiB,buffers=8`. */
  limits?: string;
}

/** `semiflow plan train`: what a training would need. */
export async function planTrain(flags: TrainFlags & PlanFlags): Promise<void> {
  const run = flags.resume ? await reopen(flags.resume, flags) : await prepare(flags);
  const { from, recipe, data, teacher: path } = run;
  if (await areCaptions(path, data))
    throw new UserError('captions become latents when a training starts: give the file that it keeps of them', 'data');
  const [given, student] = 'weights' in from ? [from, undefined] : [null, from];
  const range = (student ?? given!.description).dataRange;
  const set = data ? await loadDataset(data, { range }) : null;
  const teacher = given && set ? fitNetwork(given, { sample: set.shape }) : given;
  const start = run.student === undefined ? undefined : await readStudent(run.student, recipe);
  const subject = { teacher, student, start, data: set };
  await planned(flags, (device, memory) =>
    trainingNeeds(planDistillation({ device, ...subject }, recipe, { memory, accumulate: flags.accumulate })),
  );
}

/** `semiflow plan teacher`. */
export async function planTeacherCommand(flags: TeacherFlags & PlanFlags): Promise<void> {
  const run = flags.resume ? await reopenTeacher(flags.resume, flags) : await prepareTeacher(flags);
  const { description, recipe, dataset: data } = run;
  if (!data)
    throw new UserError('captions become latents when a training starts: give the file that it keeps of them', 'data');
  const teacher = createNetwork(description, recipe.seed, recipe.checkpointBlocks);
  await planned(flags, (device, memory) =>
    trainingNeeds(planTeacher({ device, teacher, data }, recipe, { memory, accumulate: flags.accumulate })),
  );
}

/** `semiflow plan sample`. */
export async function planSample(flags: SampleFlags & PlanFlags): Promise<void> {
  const { network, ...options } = await prepareSampling(flags);
  await planned(flags, (device, memory) => ({ needs: planSampling(device, network, options, memory) }));
}

const trainingNeeds = ({ needs, kernels }: PlannedTraining) => ({ needs, kernels });

/** Makes a plan for a device and prints it. */
async function planned(
  flags: DeviceFlags & PlanFlags,
  make: (device: Device, memory: AvailableMemory) => { needs: MemoryNeeds; kernels?: number },
): Promise<void> {
  const { device, memory } = await deviceFor(flags);
  try {
    const { needs, kernels } = make(device, memory);
    const line = (name: string, text: string) => console.log(`${name.padEnd(32)}${text}`);
    for (const [name, bytes] of Object.entries(needs.device)) if (bytes) line(name, readable(bytes));
    line('on the device', readable(deviceBytes(needs)));
    line('in the process besides', readable(needs.host));
    if (kernels !== undefined) line('kernels a step', String(kernels));
    const { maxBindingBytes, maxBufferBytes, maxBindings, description } = device.profile;
    line(
      'planned for',
      `${flags.limits ? 'the given limits' : description}: ${maxBindings} storage buffers a kernel, ${readable(maxBindingBytes)} bound at once, ${readable(maxBufferBytes)} a buffer`,
    );
    const there = Object.entries(memory)
      .filter(([, bytes]) => bytes !== undefined)
      .map(([of, bytes]) => `${readable(bytes as number)}${of === 'shared' ? '' : ` of the ${of}`}`);
    line('fits', there.length ? `in ${there.join(' and ')}` : 'these limits; how much memory there is was not said');
  } finally {
    device.dispose();
  }
}

async function deviceFor(flags: DeviceFlags & PlanFlags): Promise<{ device: Device; memory: AvailableMemory }> {
  if (flags.limits === undefined) {
    const device = await openSession(flags);
    return { device, memory: memoryOf(device) };
  }
  const { memory, host, binding, buffer, buffers } = limitsOf(flags.limits);
  const limits = {
    maxStorageBuffersPerShaderStage: buffers,
    maxStorageBufferBindingSize: binding,
    maxBufferSize: buffer,
  };
  const device = await openDevice({ source: nullAdapters, family: flags.family, toggles: 'checked', limits });
  return { device, memory: { device: memory, host } };
}

/** What WebGPU promises on every adapter. */
const least = { buffers: 8, binding: 2 ** 27, buffer: 2 ** 28 };
const units: Record<string, number> = { '': 1, kib: 2 ** 10, mib: 2 ** 20, gib: 2 ** 30, kb: 1e3, mb: 1e6, gb: 1e9 };

/** @throws UserError where a figure is none */
function limitsOf(text: string): typeof least & { memory?: number; host?: number } {
  const limits: typeof least & { memory?: number; host?: number } = { ...least };
  if (text === 'default') return limits;
  for (const part of text.split(',')) {
    const [, name, amount, unit] =
      /^(memory|host|binding|buffer|buffers)=(\d{1,15}(?:\.\d{1,6})?)\s*([a-z]{0,3})$/i.exec(part) ?? [];
    const factor = units[unit?.toLowerCase() ?? ''];
    const value = Math.floor(Number(amount) * factor);
    if (!name || !(value >= 1))
      throw new UserError(
        `"${part}" is no limit: give default, or figures such as memory=8GiB,host=16GiB,binding=128MiB,buffer=256MiB,buffers=8`,
        'limits',
      );
    if (name === 'memory' || name === 'host') limits[name] = value;
    else if (value < least[name as keyof typeof least])
      throw new UserError(`${part}: every adapter has ${readableLeast(name as keyof typeof least)} at least`, 'limits');
    else limits[name as keyof typeof least] = value;
  }
  return limits;
}

const readableLeast = (name: keyof typeof least): string =>
  name === 'buffers' ? String(least.buffers) : readable(least[name]);
