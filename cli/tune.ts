import { cacheFolder } from '../node/cache.js';
import { folderStore } from '../node/folder.js';
import type { PlannedProgram } from '../src/autodiff/compile.js';
import { UserError } from '../src/errors.js';
import { Runner } from '../src/flow/runner.js';
import { samplerOf } from '../src/flow/sampling.js';
import type { Network } from '../src/flow/network.js';
import type { Device } from '../src/gpu/device.js';
import type { Candidate } from '../src/gpu/profile.js';
import { textTable } from '../src/report/table.js';
import { sizeOf, type Shape } from '../src/tensor/shape.js';
import { keepChoices } from '../src/tuning/cache.js';
import { trialsOf } from '../src/tuning/trials.js';
import { tune, type Found } from '../src/tuning/tune.js';
import type { SampleSet } from '../trainers/batches.js';
import { distillationDefaults } from '../trainers/config.js';
import { canBeKept } from '../trainers/methods.js';
import { planDistillation } from '../trainers/runs.js';
import { numberBetween, wholeNumber } from './arguments.js';
import { readNetwork } from './networks.js';
import { openSession, type DeviceFlags } from './session.js';
import { shipped } from './shipped.js';

/** Flags of `tune`. */
interface TuneFlags extends DeviceFlags {
  model?: string;
  arch?: string;
  lora?: string[];
  batch: string;
  precision: 'f32' | 'f16';
  seconds: string;
}

/** `semiflow tune`: measures the candidates of all kernels of a network on this adapter, and keeps the fastest. */
export async function tuneCommand(flags: TuneFlags): Promise<void> {
  const batch = wholeNumber('--batch', flags.batch, { least: 1 });
  const seconds = numberBetween('--seconds', flags.seconds, 1, 1e6);
  const path = flags.model ?? shipped('rf-fashion-mnist.safetensors');
  const network = await readNetwork(path, flags.arch, flags.lora);
  const device = await openSession(flags);
  try {
    if (flags.precision === 'f16' && !device.profile.f16)
      throw new UserError('this adapter has no f16 (shader-f16): f32 works on all', 'precision');
    const trials = trialsOf(programsOf(device, network, batch, flags.precision));
    const terminal = process.stderr.isTTY;
    const { choices, found } = await tune(device, trials, {
      seconds,
      onChoice: (one, done, of) => {
        if (terminal) process.stderr.write(`\r${done} of ${of} choices, ${one.key}`.padEnd(100).slice(0, 100));
      },
    });
    if (terminal) process.stderr.write('\n');
    const store = folderStore(cacheFolder());
    const file = await keepChoices(store, device.profile, choices);
    console.log(textTable(tableOf(found)));
    for (const one of found)
      for (const { candidate, refused } of one.measured)
        if (refused) console.log(`${one.key}: ${named(candidate)} was not taken: ${refused.split('\n')[0]}`);
    const left = trials.length - found.length;
    console.log(
      `${Object.keys(choices).length} choices differ from the table${left ? `; ${left} were not measured, --seconds gives them time` : ''}: kept in ${store.name}/${file} for ${device.profile.description}`,
    );
  } finally {
    device.dispose();
  }
}

/** What training and sampling of a network run. */
function programsOf(device: Device, network: Network, batch: number, precision: 'f32' | 'f16'): PlannedProgram[] {
  const runner = new Runner(device, network, batch);
  const sampling = runner.planned(samplerOf(network));
  runner.dispose();
  const { description, model } = network;
  if (description.role !== 'teacher') return [sampling];
  const defaults = distillationDefaults(
    model.sampleShape,
    description.prediction,
    model.nullClass,
    canBeKept(model, description),
  );
  const recipe = { ...defaults, batch, precision };
  const { members } = planDistillation({ device, teacher: network, data: toldOf(network) }, recipe);
  return [...members.map(({ planned }) => planned), sampling];
}

/** A sample with all that a network is told of it, where it draws none without: nothing of it is read. */
function toldOf({ model: { sampleShape: shape, conditions, classes } }: Network): SampleSet | undefined {
  const told = Object.entries(conditions);
  if (told.every(([, { optional }]) => optional)) return undefined;
  const zeros = (of: Shape) => ({ shape: of, values: new Float32Array(sizeOf(of)) });
  return {
    ...zeros(shape),
    count: 1,
    range: [0, 1],
    ...(classes && { labels: new Uint32Array(1) }),
    conditions: Object.fromEntries(told.map(([name, condition]) => [name, zeros(condition.shape)])),
  };
}

const named = (candidate: Candidate) =>
  Object.entries(candidate)
    .map(([name, value]) => `${name} ${value}`)
    .join(', ');

/** Each choice with the table's way and the one taken. */
function tableOf(found: readonly Found[]) {
  const rows = found.map(({ key, best, measured }) => {
    const [table] = measured;
    const taken = measured.find(({ candidate }) => candidate === best)!;
    const gain = table.milliseconds && taken.milliseconds ? table.milliseconds / taken.milliseconds : NaN;
    const same = table === taken;
    return [
      key,
      named(table.candidate),
      table.milliseconds ?? 'refused',
      same ? '' : named(best),
      same ? '' : (taken.milliseconds ?? ''),
      same || !gain ? '' : `${gain.toFixed(2)}x`,
    ];
  });
  return { columns: ['what', 'table', 'ms', 'taken', 'ms', 'gain'], rows };
}
