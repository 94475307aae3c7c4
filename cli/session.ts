import { existsSync } from 'node:fs';
import { totalmem } from 'node:os';
import { cacheFolder } from '../node/cache.js';
import { openDevice } from '../node/device.js';
import { ranksHere } from '../node/mpi.js';
import { folderStore } from '../node/folder.js';
import { SemiflowError } from '../src/errors.js';
import type { AvailableMemory } from '../src/flow/memory.js';
import type { Device } from '../src/gpu/device.js';
import type { KernelFamily } from '../src/gpu/profile.js';
import type { Toggles } from '../src/gpu/adapter.js';
import { agree } from '../src/gpu/group.js';
import { version } from '../src/version.js';
import { keepChoices, readChoices, wereMeasured } from '../src/tuning/cache.js';
import { called } from './called.js';
import { noteAdapter } from './failures.js';
import { endRanks, joinRanks } from './ranks.js';
import { begin, done, piece } from './status.js';

/** Choices of a device that every command takes; the environment gives what the command line does not. */
export interface DeviceFlags {
  adapter?: string;
  family?: KernelFamily;
  toggles?: Toggles;
}

/**
 * Opens the device for a command, on every rank where mpirun started several. An error on it that nobody caught ends the
 * process, and all ranks, with one line.
 */
export async function openSession(flags: DeviceFlags): Promise<Device> {
  begin('opening a device');
  await prepareDriver();
  const device = await openBare(flags);
  done();
  return device;
}

/** The same with the drivers that are there, none of which is installed. */
export async function openBare(flags: DeviceFlags): Promise<Device> {
  // Drivers complain on every start where it is missing.
  process.env.XDG_RUNTIME_DIR ??= '/tmp';
  const group = await joinRanks();
  const device = await openDevice({
    group,
    adapter: flags.adapter ?? process.env.SEMIFLOW_ADAPTER,
    family: flags.family ?? (process.env.SEMIFLOW_FAMILY as KernelFamily | undefined),
    toggles: flags.toggles ?? (process.env.SEMIFLOW_TOGGLES as Toggles | undefined) ?? 'fast',
    choices: (profile) => readChoices(folderStore(cacheFolder()), profile),
    onFailure: (message) => {
      endRanks(message, 1);
    },
    onWork: piece,
  });
  noteAdapter(device.profile.description);
  const { description, family, maxBindingBytes, choices = {} } = device.profile;
  await agree(group, {
    'version of semiflow': version,
    adapter: description,
    'family of kernels': family,
    'limit of bindings': String(maxBindingBytes),
    'choice of kernels (semiflow tune)': JSON.stringify(choices),
  });
  return device;
}

/** Says once of a hardware adapter that its kernels can be measured. @param model the network that is trained, as a flag */
export async function offerTuning({ profile }: Device, model: string | undefined): Promise<void> {
  const store = folderStore(cacheFolder());
  if (profile.software || (await wereMeasured(store, profile))) return;
  console.log(
    `kernels run by the table, as nobody measured this adapter: \`${called} tune${model ? ` --model ${model}` : ''}\` does, in a minute, for every run after it (this is said once)`,
  );
  // A cache that cannot be written is no reason not to train.
  await keepChoices(store, profile, {}).catch(() => {});
}

/**
 * The memory that there is for this process, as far as the system tells: that of a device of its own is not known, and
 * ranks of one machine share it.
 */
export function memoryOf({ profile }: Device): AvailableMemory {
  const limit = process.constrainedMemory();
  const bytes = (limit && limit < totalmem() ? limit : totalmem()) / ranksHere();
  return profile.software ? { shared: bytes } : { host: bytes };
}

/** A script of the set-up; undefined in the published package, which has none. */
export function setupScript(name: string): URL | undefined {
  const script = new URL(`../scripts/${name}`, import.meta.url);
  return existsSync(script) ? script : undefined;
}

/** In a clone a driver is installed where there is none; the published package leaves that to its user. */
async function prepareDriver(): Promise<void> {
  const setup = setupScript('setup.js');
  if (!setup) return;
  const { ensureAdapter } = (await import(setup.href)) as { ensureAdapter(quiet: boolean): void };
  try {
    ensureAdapter(true);
  } catch (error) {
    throw error instanceof Error && error.name === 'SetupError' ? new SemiflowError('device', error.message) : error;
  }
}
