import { existsSync } from 'node:fs';
import { dawnAdapters, loadDawn } from '../node/dawn.js';
import { mpiVersion } from '../node/mpi.js';
import { driverMend, isLinked, vulkanDrivers } from '../node/vulkan.js';
import { evaluate } from '../src/autodiff/eager.js';
import { UserError } from '../src/errors.js';
import type { Device } from '../src/gpu/device.js';
import { matmul } from '../src/ops/matmul.js';
import { softmax } from '../src/ops/normalization.js';
import { random } from '../src/tensor/philox.js';
import { tensor } from '../src/tensor/tensor.js';
import { version } from '../src/version.js';
import { openBare, setupScript, type DeviceFlags } from './session.js';

/** What was found of one thing. */
export interface Finding {
  /** False where nothing can be computed because of it. */
  ok: boolean;
  says: string;
  /** What to do about it, a command where there is one. */
  mend?: string;
}

/** Something of this machine to be looked at before a device is opened: a name and what is found, a line each. */
export type Check = readonly [name: string, look: () => Finding | Promise<Finding>];

/** In the order of their lines. Another is an entry. */
const checks: readonly Check[] = [
  [
    'semiflow',
    () => ({ ok: true, says: `${version}, Node ${process.versions.node}, ${process.platform} ${process.arch}` }),
  ],
  ['WebGPU', webgpuPackage],
  ['loader', loader],
  ['drivers', drivers],
  ['MPI', mpi],
];

export interface DoctorFlags extends DeviceFlags {
  undo?: boolean;
}

/**
 * `semiflow doctor`: what this machine has, what it lacks and by which command that is had, what computes here, and whether
 * it computes right. It changes nothing; with `--undo` it takes back what the set-up changed.
 */
export async function doctor(flags: DoctorFlags): Promise<void> {
  if (flags.undo) return undo();
  for (const [name, look] of checks) {
    const { ok, says, mend } = await look();
    line(name, ok ? says : `NO: ${says}`);
    if (mend) line('', mend);
  }
  const device = await openBare(flags).catch((error: Error) => {
    line('adapter', 'NO: see below');
    throw error;
  });
  await describe(device);
  const error = await proof(device);
  const right = error < tolerance;
  line(
    'computes',
    `${right ? 'yes' : 'NO'}: softmax(A·B) of ${rows}×${inner} and ${inner}×${columns}, largest error ${error.toExponential(1)} (allowed ${tolerance})`,
  );
  device.dispose();
  if (!right) {
    console.error(
      'semiflow: this adapter computes wrong values: update its driver, or choose another one with --adapter',
    );
    process.exitCode = 1;
  }
}

const line = (name: string, value: string | number) => console.log(`${name.padEnd(15)}${value}`);

async function webgpuPackage(): Promise<Finding> {
  return loadDawn().then(
    () => ({ ok: true, says: 'the webgpu package (Dawn) loads' }),
    (error: Error) => ({ ok: false, says: error.message }),
  );
}

function loader(): Finding {
  if (process.platform !== 'linux') return { ok: true, says: 'that of the system' };
  return isLinked('libvulkan.so.1')
    ? { ok: true, says: 'libvulkan.so.1' }
    : { ok: false, says: 'libvulkan.so.1, through which drivers are found, is not installed', mend: driverMend() };
}

function drivers(): Finding {
  if (process.platform !== 'linux') return { ok: true, says: 'those of the system' };
  const found = vulkanDrivers();
  const usable = found.filter(({ there }) => there);
  const broken = found.filter(({ there }) => !there);
  const list = (some: typeof found) => some.map(({ manifest }) => manifest).join(', ');
  const missing = broken.length ? `; without their library: ${list(broken)}` : '';
  if (usable.length) return { ok: true, says: `${list(usable)}${missing}`, ...nvidiaHint(list(usable)) };
  const variable = ['VK_DRIVER_FILES', 'VK_ICD_FILENAMES'].find((name) => process.env[name]);
  if (variable)
    return {
      ok: false,
      says: `${variable}=${process.env[variable]} names no Vulkan driver`,
      mend: `unset ${variable}`,
    };
  return { ok: false, says: `no Vulkan driver${missing}`, mend: driverMend() };
}

/** Which MPI there is for runs of several ranks; nothing else needs one. */
function mpi(): Promise<Finding> {
  return mpiVersion().then(
    (version) => ({ ok: true, says: `${version}, for mpirun -n 4 semiflow train …` }),
    (error: Error) => ({ ok: true, says: `none, and only runs of several ranks need it: ${error.message}` }),
  );
}

const nvidiaHint = (drivers: string): Pick<Finding, 'mend'> =>
  existsSync('/dev/nvidia0') && !/nvidia/.test(drivers)
    ? { mend: 'an NVIDIA GPU is here without its Vulkan driver: in a container, add the "graphics" driver capability' }
    : {};

/** Takes back what the set-up of a clone changed of this machine. */
async function undo(): Promise<void> {
  const script = setupScript('apt.js');
  if (!script) {
    console.log('nothing to take back: the package changes nothing of this machine');
    return;
  }
  const { undoApt } = (await import(script.href)) as { undoApt(): string };
  try {
    console.log(undoApt());
  } catch (error) {
    throw error instanceof Error && error.name === 'SetupError' ? new UserError(error.message) : error;
  }
}

const shownLimits = [
  'maxBufferSize',
  'maxStorageBufferBindingSize',
  'maxStorageBuffersPerShaderStage',
  'maxComputeWorkgroupStorageSize',
  'maxComputeInvocationsPerWorkgroup',
  'maxComputeWorkgroupsPerDimension',
] as const;

/** The adapter, what it can, and how it is used. */
async function describe({ profile, toggles, gpu }: Device): Promise<void> {
  line('adapter', (gpu.adapterInfo.device || profile.description) + (profile.software ? ' (software)' : ' (hardware)'));
  line('driver', profile.description);
  line('vendor', profile.vendor);
  line('architecture', profile.architecture);
  const names = await dawnAdapters.names();
  if (names.length) line('adapters here', names.join('; '));
  line('features', [...gpu.features].sort().join(', '));
  shownLimits.forEach((name, i) => line(i ? '' : 'limits', `${name} ${readable(name, gpu.limits[name])}`));
  line(
    'kernels',
    `${profile.family} family, subgroups ${profile.subgroupSize ? `of ${profile.subgroupSize}` : 'of no fixed size'}, ${profile.maxBindings} buffers a kernel`,
  );
  line('toggles', toggles);
}

const readable = (name: string, value: number) =>
  /Buffer.*Size$/.test(name) ? `${Math.floor(value / 2 ** 20)} MiB` : name.endsWith('Size') ? `${value} bytes` : value;

/** Rows, inner size and columns of the proof: odd, so that every kernel meets its edges. */
const [rows, inner, columns] = [37, 53, 41];
/** Errors of f32 stay under a tenth of this. */
const tolerance = 1e-5;

/** The largest difference between a known result on the device and the same in float64 on the host. */
async function proof(device: Device): Promise<number> {
  const { normal } = random(1);
  const a = Float32Array.from({ length: rows * inner }, normal);
  const b = Float32Array.from({ length: inner * columns }, () => 0.3 * normal());
  const { result } = await evaluate(device, {
    result: softmax(matmul(tensor(a, [rows, inner]), tensor(b, [inner, columns]))),
  });
  let worst = 0;
  for (let i = 0; i < rows; i++) {
    const row = Float64Array.from({ length: columns }, (_, j) => {
      let sum = 0;
      for (let k = 0; k < inner; k++) sum += a[i * inner + k] * b[k * columns + j];
      return Math.exp(sum);
    });
    const total = row.reduce((sum, value) => sum + value);
    for (let j = 0; j < columns; j++) {
      // Math.max lets no NaN slip through.
      worst = Math.max(worst, Math.abs(result[i * columns + j] - row[j] / total));
    }
  }
  return worst;
}
