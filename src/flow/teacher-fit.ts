import { decode, takeRows, type Samples } from '../data/dataset.js';
import type { Device } from '../gpu/device.js';
import { isPoints, type Model } from '../models/model.js';
import { sub } from '../ops/pointwise.js';
import { sizeOf } from '../tensor/shape.js';
import { random } from '../tensor/philox.js';
import { hostStreams } from '../tensor/streams.js';
import type { Network } from './network.js';
import { sourceNoise } from './noise.js';
import { parametrization } from './parametrization.js';
import { Runner } from './runner.js';

/** How well a teacher's velocity fits data: flow-matching losses, E‖v - (z - x0)‖² a coordinate, on one fixed batch. */
export interface TeacherFit {
  /** Of the teacher as it is described. */
  loss: number;
  /** Of the same network asked with its time the other way round. */
  flipped: number;
  /** Of no velocity at all, v = 0. */
  zero: number;
}

/** So many data points that figures are within a few per cent. */
const mostPoints = 4096;
const mostPictures = 128;

/**
 * The teacher's flow-matching loss on data, beside those of the flipped time and of no velocity. A description that is
 * wrong about time, scale or prediction shows here and nowhere else: a student learns a wrong flow as readily as the right
 * one. Null where it cannot be told: classes without labels, and no class that means none; conditions that data do not hold.
 * @param data of the law that the teacher was trained on, scaled as it is described; some of it, evenly taken, is used
 */
export async function teacherFit(
  device: Device,
  teacher: Network,
  data: Samples & { range: readonly [number, number] },
  seed = 0,
): Promise<TeacherFit | null> {
  const { model, description } = teacher;
  if (model.classes && !data.labels && !model.nullClass) return null;
  if (Object.values(model.conditions).some(({ optional }) => !optional)) return null;
  const size = sizeOf(model.sampleShape);
  const points = isPoints(model.sampleShape);
  const count = Math.min(data.count, points ? mostPoints : mostPictures);
  const taken = Uint32Array.from({ length: count }, (_, i) => Math.floor((i * data.count) / count));
  const { values, labels } = takeRows(data, size, taken);
  const x0 = decode(values, data.range);
  const z = sourceNoise(description.source, count, size, seed);
  const { uniform } = random(seed, 0, hostStreams.testTimes);
  const [low, high] = askedTimes(teacher);
  const t = Float32Array.from({ length: count }, () => low + (high - low) * uniform());
  const slope = x0.map((value, i) => z[i] - value);
  const x = x0.map((value, i) => value + t[Math.floor(i / size)] * slope[i]);
  const batch = points ? count : Math.min(count, 64);
  const lossOf = async (network: Network) => {
    const runner = new Runner(device, network, batch, 1);
    const velocity = await runner.velocity({ x, t, labels });
    runner.dispose();
    return meanSquare(velocity, slope);
  };
  return {
    loss: await lossOf(teacher),
    flipped: await lossOf(flippedInTime(teacher)),
    zero: meanSquare(new Float32Array(slope.length), slope),
  };
}

/**
 * What a fit says, in a line; a warning where the data speaks against the teacher's description.
 * @param name of the data
 */
export function describeFit({ loss, flipped, zero }: TeacherFit, name: string): { line: string; warning: boolean } {
  const shown = (value: number) => value.toPrecision(3);
  const figures = `flow-matching loss on ${name} ${shown(loss)}, ${shown(flipped)} with its time the other way round, ${shown(zero)} for no velocity at all`;
  // Within what a batch can tell apart.
  const asWell = (other: number) => !(loss < 0.98 * other);
  if (flipped < zero && asWell(flipped))
    return {
      line: `the teacher fits as well with its time the other way round (${figures}): check time in its description`,
      warning: true,
    };
  if (asWell(zero))
    return {
      line: `the teacher fits no better than no velocity at all (${figures}): check its description, and the range of the data`,
      warning: true,
    };
  return { line: `the teacher's ${figures}`, warning: false };
}

/** Where errors of what the network returns are not blown up tenfold and more in the velocity: v = (x - x̂0) / t. */
function askedTimes({ description }: Network): [number, number] {
  const { lowest, highest } = parametrization(description);
  const { prediction } = description;
  return [
    prediction === 'data' ? Math.max(lowest, 0.1) : lowest,
    prediction === 'noise' ? Math.min(highest, 0.9) : highest,
  ];
}

/** The same weights under the mistaken belief that its time runs the other way. */
function flippedInTime(network: Network): Network {
  const { description, model } = network;
  const { path, timeScale } = description;
  if (path.kind === 'straight') {
    const time = description.time === 'noise-at-1' ? 'data-at-1' : 'noise-at-1';
    return { ...network, description: { ...description, time } };
  }
  // Levels of noise counted from the other end: the least and the most, less the one that is asked for.
  const bothEnds = path.kind === 'vp' ? path.steps - 1 : (Math.log(path.sigmaMin) + Math.log(path.sigmaMax)) / 4;
  const apply: Model['apply'] = (parameters, inputs) =>
    model.apply(parameters, { ...inputs, time: sub(bothEnds * timeScale, inputs.time) });
  return { ...network, model: { ...model, apply } };
}

function meanSquare(a: Float32Array, b: Float32Array): number {
  let total = 0;
  for (let i = 0; i < a.length; i++) total += (a[i] - b[i]) ** 2;
  return total / a.length;
}
