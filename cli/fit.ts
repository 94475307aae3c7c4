import type { Dataset } from '../src/data/dataset.js';
import type { Network } from '../src/flow/network.js';
import { describeFit, teacherFit } from '../src/flow/teacher-fit.js';
import type { Device } from '../src/gpu/device.js';

/** Says how well a teacher fits data that it should fit: one line, on the error stream where something is wrong. */
export async function printFit(device: Device, teacher: Network, data: Dataset): Promise<void> {
  const fit = await teacherFit(device, teacher, { ...data.heldOut, range: data.range });
  if (!fit) return;
  const { line, warning } = describeFit(fit, data.name);
  if (warning) console.error(`warning: ${line}`);
  else console.log(line);
}
