import { UserError } from '../../src/errors.js';
import { batchFor, guidanceOf, Runner } from '../../src/flow/runner.js';
import type { Sampler } from '../../src/flow/samplers.js';
import { drawSamplesBy } from '../../src/flow/sampling.js';
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
  if (sampleShape.length !== 1 || sampleShape[0] !== 2)
    throw new UserError(`samples of shape [${sampleShape}] have no picture: only images and points in the plane do`);
  return scatter(x, { range });
}

/** Samples to draw: so many points, or a few of every class. */
const drawnCount = ({ sampleShape, classes }: Network['model']): number =>
  sampleShape.length === 1 ? 4000 : Math.max(30, classes * 3);

/** Samples of a teacher in training by 4 and 50 Euler steps, as `samples.png`; none where they have no picture. */
export function drawTeacherPictures(
  device: Device,
  files: Pick<Store, 'write'>,
  teacher: Network,
  range: readonly [number, number],
): Promise<ReportImage | MissingFigure> {
  const count = drawnCount(teacher.model);
  return figureOr(async () => {
    const runner = new Runner(device, teacher, batchFor(teacher.model.sampleShape, count));
    try {
      const items: Panel[] = [];
      for (const steps of [4, 50]) {
        const { x } = await drawSamplesBy(runner, { count, seed, steps });
        items.push({
          title: `${steps} Euler steps`,
          picture: picture(teacher, x, range, teacher.model.classes || 10),
        });
      }
      const png = panels(items).toPng();
      await files.write('samples.png', png);
      return { png };
    } finally {
      runner.dispose();
    }
  });
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
  const count = drawnCount(teacher.model);
  const columns = points ? undefined : teacher.model.classes || 10;
  const runner = (network: Network) =>
    new Runner(device, network, batchFor(network.model.sampleShape, count), guidanceOf(student));
  const [map, field] = [runner(student), runner(teacher)];
  const draw = async (by: Runner, steps: number, sampler?: Sampler) =>
    (await drawSamplesBy(by, { count, seed, steps, sampler })).x;
  const euler = { name: 'euler' } as const;
  const sheet = async (name: string, by: Runner, steps: number[], noun: string, sampler?: Sampler) => {
    const items: Panel[] = [];
    for (const n of steps) {
      const title = `${n} ${noun}${n > 1 ? 's' : ''}`;
      items.push({ title, picture: picture(by.network, await draw(by, n, sampler), range, columns) });
    }
    const png = panels(items).toPng();
    await files.write(name, png);
    return { png };
  };
  let range: readonly [number, number] | undefined;
  try {
    if (points) range = rangeOf(await draw(field, 50, euler));
    const drawn = () => sheet('flow-map.png', map, [1, 2, 4], 'jump');
    const integrated = () => sheet('teacher.png', field, [1, 2, 4, 50], 'Euler step', euler);
    return [
      await figureOr(drawn, 'flow map, from the same noise'),
      await figureOr(integrated, 'teacher, from the same noise'),
    ];
  } finally {
    map.dispose();
    field.dispose();
  }
}

function rangeOf(points: Float32Array): readonly [number, number] {
  const largest = points.reduce((most, value) => (Math.abs(value) > most ? Math.abs(value) : most), 0) * 1.05;
  return [-largest, largest];
}
