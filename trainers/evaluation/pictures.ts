import type { Dataset } from '../../src/data/dataset.js';
import { firstOf, shuffledHeldOut, type HeldOut } from '../../src/data/held-out.js';
import { UserError } from '../../src/errors.js';
import type { Store } from '../../src/files/store.js';
import type { Network } from '../../src/flow/network.js';
import { batchFor, guidanceOf, Runner } from '../../src/flow/runner.js';
import { drawSamplesBy } from '../../src/flow/sampling.js';
import type { Device } from '../../src/gpu/device.js';
import type { Canvas } from '../../src/report/canvas.js';
import { figureOr, type MissingFigure, type ReportImage, type ReportStrip } from '../../src/report/html.js';
import { imageGrid, panels } from '../../src/report/png.js';
import { scatter } from '../../src/report/scatter.js';
import { SharedFigures } from './shared.js';
import { counted, stepOf } from './words.js';

/** The same noise in every picture, so that those of two runs can be laid side by side. */
const seed = 12345;

/** How samples are shown. */
export interface PictureOptions {
  /** Of points: the square that is shown. */
  range?: readonly [number, number];
  /** Of images: how many a row. */
  columns?: number;
  /** What lies behind points and between images, default white; null leaves it open. */
  background?: string | null;
}

/** A picture of samples: a grid of images, or points in the plane. @throws UserError for samples that have none */
export function picture({ model, description }: Network, x: Float32Array, options: PictureOptions = {}): Canvas {
  const { sampleShape } = model;
  const { range, columns, background } = options;
  if (sampleShape.length === 3) {
    const [channels, height, width] = sampleShape;
    const shape = [x.length / (channels * height * width), channels, height, width] as const;
    return imageGrid(x, { shape, range: description.dataRange, columns, background });
  }
  if (!isPlane(sampleShape))
    throw new UserError(`samples of shape [${sampleShape}] have no picture: only images and points in the plane do`);
  return scatter(x, { range, background });
}

const isPlane = (shape: readonly number[]) => shape.length === 1 && shape[0] === 2;

/** Samples to draw: so many points, or a few of every class. */
const drawnCount = ({ sampleShape, classes }: Network['model']): number =>
  sampleShape.length === 1 ? 4000 : Math.max(30, classes * 3);

/** Images in a row where there are no classes: each is the larger. */
const fewColumns = 6;

/** Samples under their title. */
interface Drawn {
  title: string;
  x: Float32Array;
}

/** Pictures of samples of one network, all by one scale: a file with titles for wherever, and open ones for a page. */
function show(network: Network, drawn: readonly Drawn[], range: readonly [number, number]) {
  const { sampleShape, classes } = network.model;
  const columns = sampleShape.length === 1 ? undefined : classes || fewColumns;
  const open = drawn.map(({ title, x }) => ({
    title,
    picture: picture(network, x, { range, columns, background: null }),
  }));
  return {
    /** The bytes of a PNG file. */
    sheet: () => panels(open).toPng(),
    images: open.map(({ title, picture: canvas }): ReportImage => ({ png: canvas.toPng(), caption: title })),
  };
}

/** Draws samples of a network from the noise of all pictures, by each number of steps. */
async function drawEach(
  device: Device,
  network: Network,
  counts: readonly number[],
  noun: string,
  { student, onProgress }: { student?: Network; onProgress?: (what: string) => void } = {},
): Promise<Drawn[]> {
  const count = drawnCount(network.model);
  const batch = batchFor(network.model.sampleShape, count);
  const runner = new Runner(device, network, batch, guidanceOf(student ?? network));
  try {
    const drawn: Drawn[] = [];
    for (const steps of counts) {
      const title = counted(steps, noun);
      onProgress?.(`pictures, ${title}`);
      drawn.push({ title, x: (await drawSamplesBy(runner, { count, seed, steps })).x });
    }
    return drawn;
  } finally {
    runner.dispose();
  }
}

/** Samples of a teacher in training by 4 and 50 Euler steps, as `samples.png`; none where they have no picture. */
export function drawTeacherPictures(
  device: Device,
  files: Pick<Store, 'write'>,
  teacher: Network,
  data: Dataset,
): Promise<{ strips: ReportStrip[]; sheet: Uint8Array } | MissingFigure> {
  return figureOr(async () => {
    const drawn = show(teacher, await drawEach(device, teacher, [4, 50], 'Euler step'), data.range);
    const sheet = drawn.sheet();
    await files.write('samples.png', sheet);
    return {
      sheet,
      strips: [
        { heading: 'Data', images: [realPicture(teacher, data, data.range)] },
        { heading: 'Teacher', images: drawn.images },
      ],
    };
  });
}

/**
 * Samples of the student by 1, 2 and 4 of its steps, as `flow-map.png`. Samples that have no picture leave none: nothing
 * fails for want of one.
 * @returns the file's bytes, to be logged as well
 */
export function drawStudentPicture(
  device: Device,
  files: Pick<Store, 'write'>,
  student: Network,
  data: Dataset | null,
): Promise<{ sheet: Uint8Array; images: ReportImage[] } | MissingFigure> {
  return figureOr(async () => {
    const drawn = await drawEach(device, student, [1, 2, 4], stepOf(student));
    const { sheet, images } = show(student, drawn, data?.range ?? rangeOf(drawn));
    const png = sheet();
    await files.write('flow-map.png', png);
    return { sheet: png, images };
  });
}

/** What pictures are drawn of, and by what else is known. */
export interface PictureSubject {
  device: Device;
  teacher: Network;
  student: Network;
  data?: Dataset | null;
  /** What other students of the teacher were drawn beside. */
  shared?: SharedFigures;
  onProgress?: (what: string) => void;
}

/**
 * Real data, samples of the student by 1, 2 and 4 steps, and of the teacher by Euler steps, all by one scale and from the
 * same noise; the latter two also as `flow-map.png` and `teacher.png`.
 */
export async function drawPictures(
  subject: PictureSubject,
  files: Pick<Store, 'write'>,
): Promise<{ strips: ReportStrip[] } | MissingFigure> {
  const { device, teacher, student, data, shared = new SharedFigures(), onProgress } = subject;
  const { sampleShape } = teacher.model;
  if (sampleShape.length === 1 && !isPlane(sampleShape)) return { strips: [] };
  return figureOr(async () => {
    const euler = await shared.once(`pictures ${guidanceOf(student)}`, () =>
      drawEach(device, teacher, [1, 2, 4, 50], 'Euler step', { student, onProgress }),
    );
    const range = data?.range ?? rangeOf(euler.slice(-1));
    const jumps = await drawEach(device, student, [1, 2, 4], stepOf(student), { onProgress });
    const [ofStudent, ofTeacher] = [show(student, jumps, range), show(teacher, euler, range)];
    await files.write('flow-map.png', ofStudent.sheet());
    await files.write('teacher.png', ofTeacher.sheet());
    return {
      strips: [
        {
          heading: data ? 'Real data, and the student' : 'Student',
          images: [...(data ? [realPicture(teacher, data, range)] : []), ...ofStudent.images],
        },
        { heading: teacher === student ? 'Its own velocity' : 'Teacher', images: ofTeacher.images },
      ],
    };
  });
}

/** Held-out data, classes in turn as samples have them. */
function realPicture(network: Network, data: Dataset, range: readonly [number, number]): ReportImage {
  const { model } = network;
  const held = shuffledHeldOut(data);
  const x = inTurn(held, Math.min(drawnCount(model), held.count), model.classes);
  const { images } = show(network, [{ title: 'real, held out', x }], range);
  return images[0];
}

/** So many samples whose classes take turns, as far as there are enough of each. */
function inTurn(held: HeldOut, count: number, classes: number): Float32Array {
  const { labels, size, x } = held;
  if (!labels || !classes) return firstOf(held, count).x;
  const rows = Array.from({ length: classes }, (): number[] => []);
  labels.forEach((label, row) => rows[label]?.push(row));
  const chosen = Array.from({ length: count }, (_, i) => rows[i % classes][Math.floor(i / classes)] ?? i);
  const values = new Float32Array(count * size);
  chosen.forEach((row, i) => values.set(x.subarray(row * size, (row + 1) * size), i * size));
  return values;
}

function rangeOf(drawn: readonly Drawn[]): readonly [number, number] {
  const most = (x: Float32Array) =>
    x.reduce((largest, value) => (Math.abs(value) > largest ? Math.abs(value) : largest), 0);
  const largest = 1.05 * Math.max(...drawn.map(({ x }) => most(x)));
  return [-largest, largest];
}
