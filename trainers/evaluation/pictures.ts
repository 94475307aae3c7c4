import { guidanceOf } from '../../src/flow/runner.js';
import type { Sampler } from '../../src/flow/samplers.js';
import { drawSamples } from '../../src/flow/sampling.js';
import type { Network } from '../../src/flow/network.js';
import type { Store } from '../../src/files/store.js';
import type { Device } from '../../src/gpu/device.js';
import { figureOr, type MissingFigure, type ReportImage } from '../../src/report/html.js';
import { imageGrid, panels, type Panel } from '../../src/report/png.js';
import { scatter } from '../../src/report/scatter.js';

/** The same noise in every picture, so that those of two runs can be laid side by side. */
const seed = 12345;

/** A picture of samples: a grid of images, or points in the plane. @throws UserError for samples that have none */
export function picture(network: Network, x: Float32Array, range?: readonly [number, number], columns?: number) {
  const { sampleShape } = network.model;
  if (sampleShape.length === 3) {
    const [channels, height, width] = sampleShape;
    const shape = [x.length / (channels * height * width), channels, height, width] as const;
    return imageGrid(x, { shape, range: network.description.dataRange, columns });
  }
  return scatter(x, { range });
}

/**
 * Samples of the flow map by 1, 2, 4 jumps, and of the teacher by Euler steps, all from the same noise, as `flow-map.png`
 * and `teacher.png`. Samples that have no picture leave none: nothing fails for want of one.
 */
export async function drawPictures(
  device: Device,
  files: Pick<Store, 'write'>,
  student: Network,
  teacher: Network,
): Promise<(ReportImage | MissingFigure)[]> {
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
  const sheet = async (name: string, network: Network, steps: number[], noun: string, sampler?: Sampler) => {
    const items: Panel[] = [];
    for (const n of steps) items.push(await panel(network, n, `${n} ${noun}${n > 1 ? 's' : ''}`, sampler));
    const png = panels(items).toPng();
    await files.write(name, png);
    return { png };
  };
  return [
    await figureOr(() => sheet('flow-map.png', student, [1, 2, 4], 'jump'), 'flow map, from the same noise'),
    await figureOr(
      () => sheet('teacher.png', teacher, [1, 2, 4, 50], 'Euler step', euler),
      'teacher, from the same noise',
    ),
  ];
}

function rangeOf(points: Float32Array): readonly [number, number] {
  const largest = points.reduce((most, value) => (Math.abs(value) > most ? Math.abs(value) : most), 0) * 1.05;
  return [-largest, largest];
}
