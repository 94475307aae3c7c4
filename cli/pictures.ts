import { guidanceOf } from '../src/flow/runner.js';
import type { Sampler } from '../src/flow/samplers.js';
import { drawSamples } from '../src/flow/sampling.js';
import type { Network } from '../src/flow/network.js';
import type { Device } from '../src/gpu/device.js';
import { imageGrid, panels, type Panel } from '../src/report/png.js';
import { scatter } from '../src/report/scatter.js';
import type { ReportImage } from '../src/report/html.js';
import type { RunFolder } from './run-folder.js';

const seed = 12345;

/** A picture of samples: a grid of images, or points in the plane. */
export function picture(network: Network, x: Float32Array, range?: readonly [number, number], columns?: number) {
  const { sampleShape } = network.model;
  if (sampleShape.length === 3) {
    const [channels, height, width] = sampleShape;
    const shape = [x.length / (channels * height * width), channels, height, width] as const;
    return imageGrid(x, { shape, range: network.description.dataRange, columns });
  }
  return scatter(x, { range });
}

/** Samples of the flow map by 1, 2, 4 jumps, and of the teacher by Euler steps, all from the same noise. */
export async function drawPictures(
  device: Device,
  folder: RunFolder,
  student: Network,
  teacher: Network,
): Promise<ReportImage[]> {
  const points = teacher.model.sampleShape.length === 1;
  if (points && teacher.model.sampleShape[0] !== 2) return [];
  const count = points ? 4000 : Math.max(30, teacher.model.classes * 3);
  const columns = points ? undefined : teacher.model.classes || 10;
  const guidance = guidanceOf(student);
  const draw = async (network: Network, steps: number, sampler?: Sampler) =>
    (await drawSamples(device, network, { count, seed, steps, sampler, guidance })).x;
  const euler = { name: 'euler' } as const;
  const fine = await draw(teacher, 50, euler);
  const range = points ? rangeOf(fine) : undefined;
  const panel = async (network: Network, steps: number, title: string, sampler?: Sampler): Promise<Panel> => ({
    title,
    picture: picture(network, await draw(network, steps, sampler), range, columns),
  });
  const students = [];
  for (const jumps of [1, 2, 4]) students.push(await panel(student, jumps, `${jumps} jump${jumps > 1 ? 's' : ''}`));
  const teachers = [];
  for (const steps of [1, 2, 4, 50])
    teachers.push(await panel(teacher, steps, `${steps} Euler step${steps > 1 ? 's' : ''}`, euler));
  const images: ReportImage[] = [
    { png: panels(students).toPng(), caption: 'flow map, from the same noise' },
    { png: panels(teachers).toPng(), caption: 'teacher, from the same noise' },
  ];
  await folder.write('flow-map.png', images[0].png);
  await folder.write('teacher.png', images[1].png);
  return images;
}

function rangeOf(points: Float32Array): readonly [number, number] {
  const largest = points.reduce((most, value) => Math.max(most, Math.abs(value)), 0) * 1.05;
  return [-largest, largest];
}
