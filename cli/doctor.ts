import { evaluate } from '../src/autodiff/eager.js';
import type { Device } from '../src/gpu/device.js';
import { dawnAdapters } from '../node/dawn.js';
import { random } from '../src/tensor/philox.js';
import { matmul } from '../src/ops/matmul.js';
import { softmax } from '../src/ops/normalization.js';
import { tensor } from '../src/tensor/tensor.js';
import { openSession, type DeviceFlags } from './session.js';

/** Rows, inner size and columns of the proof: odd, so that every kernel meets its edges. */
const [rows, inner, columns] = [37, 53, 41];
/** Errors of f32 stay under a tenth of this. */
const tolerance = 1e-5;

const shownLimits = [
  'maxBufferSize',
  'maxStorageBufferBindingSize',
  'maxStorageBuffersPerShaderStage',
  'maxComputeWorkgroupStorageSize',
  'maxComputeInvocationsPerWorkgroup',
  'maxComputeWorkgroupsPerDimension',
] as const;

/** `semiflow doctor`: what computes here, and whether it computes right. */
export async function doctor(flags: DeviceFlags): Promise<void> {
  const device = await openSession(flags);
  const { profile, toggles, gpu } = device;
  const line = (name: string, value: string | number) => console.log(`${name.padEnd(15)}${value}`);
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

const readable = (name: string, value: number) =>
  /Buffer.*Size$/.test(name) ? `${Math.floor(value / 2 ** 20)} MiB` : name.endsWith('Size') ? `${value} bytes` : value;

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
