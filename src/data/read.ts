import { UserError } from '../errors.js';
import type { Files } from '../files/store.js';
import { contentsOf, type DataFiles, lookInto } from './data-files.js';
import { type Dataset, type LoadOptions, type Samples, splitHeldOut } from './dataset.js';
import type { NumberArray, RawDataset, RawSamples, RawStored } from './format.js';
import { shardRows, type StoredSamples } from './shards.js';
import { random } from '../tensor/philox.js';
import { hostStreams } from '../tensor/streams.js';
import { formats } from './formats.js';
import { classesOf } from './labels.js';
import { channelsFirst } from './layout.js';
import { resizing, toBytes } from './picture.js';
import { resample, type Sides } from './resample.js';
import { extremesOf, pixelRange, rescale } from './pixel-range.js';
import { summarize } from './summary.js';

/**
 * The data set that files hold: a folder's, those dropped on a page, or a single file's with its neighbours. What is in
 * them is told by `formats`; what is passed over, assumed or renumbered stands in the set's notes.
 * @throws UserError in one line: nothing that is known, or files that are not what their names or headers claim
 */
export async function readDataset(files: Files, options: LoadOptions = {}): Promise<Dataset> {
  const found = await lookInto(files);
  const name = files.name.replace(/[/\\]+$/, '').replace(/^.*[/\\]/, '') || files.name;
  const format = formats.find((candidate) => candidate.recognizes(found));
  if (!format) {
    // Damage that hides what a file is comes first.
    if (found.paths.length === 1) await found.bytes(found.paths[0]);
    const looks = formats.map((candidate) => candidate.looks).join('; ');
    throw new UserError(
      `${found.name}: holds no data that semiflow knows: ${contentsOf(found.paths, found.head)} (known are ${looks}); give another folder or the path of a file`,
    );
  }
  const { memory } = options;
  const stored = memory === undefined ? null : await format.store?.(found, options, memory);
  if (stored) return assembleStored(name, found, stored, format.name, { ...options, memory: memory! });
  return assemble(name, found, await format.read(found, options), format.name, options).set;
}

/** Samples that are held out of a set that memory does not hold, where its files hold none out. */
const mostHeldOut = 10_000;

/**
 * Puts a data set together whose training samples stay in their files: one shard of them, and what is held out, show what
 * they are.
 */
async function assembleStored(
  name: string,
  files: DataFiles,
  raw: RawStored,
  format: string,
  options: LoadOptions & { memory: number },
): Promise<Dataset> {
  const { samples, labels } = raw.train;
  const [total, ...rest] = samples.shape;
  const given = [
    ...(labels ? [{ labels, samples: total }] : []),
    ...(raw.heldOut?.labels ? [{ labels: raw.heldOut.labels, samples: raw.heldOut.samples.shape[0] }] : []),
  ];
  const classes = given.length === (raw.heldOut ? 2 : 1) ? classesOf(given, files.name) : null;
  const partOf = (values: Uint32Array): NumberArray => ({ shape: [values.length], values });
  const pick = (rows: Uint32Array) => (classes ? { labels: partOf(rows.map((row) => classes.labels[0][row])) } : {});

  const { seed = 0 } = options;
  const held = raw.heldOut
    ? new Uint32Array(0)
    : someRows(total, options.heldOut ?? Math.min(mostHeldOut, Math.ceil(total / 10)), seed);
  const out = new Set(held);
  const trained = raw.heldOut ? null : Uint32Array.from({ length: total }, (_, i) => i).filter((row) => !out.has(row));
  const count = trained?.length ?? total;
  // A shard that is trained on, the next one, and what either is made from.
  const bytes = 4 * rest.reduce((product, extent) => product * extent, 1);
  const size = Math.min(count, Math.max(2, Math.floor(options.memory / 4 / bytes)));
  const read = async (rows: Uint32Array): Promise<RawSamples> => {
    const own = trained ? rows.map((row) => trained[row]) : rows;
    return { samples: await samples.read(own), ...pick(own) };
  };
  const heldOut = raw.heldOut
    ? { samples: raw.heldOut.samples, ...(classes && { labels: partOf(classes.labels[1]) }) }
    : { samples: await samples.read(held), ...pick(held) };
  const first = {
    ...raw,
    train: await read(shardRows(count, size, seed, 0)),
    heldOut,
    classes: Math.max(classes?.count ?? 0, raw.classes ?? 0),
  };
  const { set, convert } = assemble(name, files, first, format, options);
  const stored: StoredSamples = {
    count,
    mark: raw.mark,
    read: async (rows) => {
      const part = await read(rows);
      if (!(part.samples.values instanceof Uint8Array)) extremesOf([part.samples], files.name);
      return {
        count: rows.length,
        values: convert(part.samples),
        ...(part.labels && { labels: Uint32Array.from(part.labels.values) }),
      };
    },
  };
  const note = `${count} samples to train on, of which memory holds ${size} at a time: they are read in shards`;
  return summarize({ ...set, stored, notes: [...set.notes, ...(classes?.notes ?? []), note] });
}

/** Rows by chance, rising. @throws UserError unless one is left on either side */
function someRows(total: number, count: number, seed: number): Uint32Array {
  if (!Number.isInteger(count) || count < 1 || count >= total)
    throw new UserError(`${count} of ${total} samples cannot be held out; hold out 1 to ${total - 1}`);
  const draw = random(seed, 0, hostStreams.heldOutSplit);
  const chosen = new Set<number>();
  while (chosen.size < count) chosen.add(draw.below(total));
  return Uint32Array.from(chosen).sort();
}

/** A data set, and what makes values of other samples of its files as its own were made. */
interface Assembled {
  set: Dataset;
  convert(samples: NumberArray): Float32Array | Uint8Array;
}

/** Puts a data set together: layout, range, labels and split are the same for every format. */
function assemble(name: string, files: DataFiles, raw: RawDataset, format: string, options: LoadOptions): Assembled {
  const where = files.name;
  const notes = [`${format} files`, ...(raw.notes ?? [])];
  const parts = raw.heldOut ? [raw.train, raw.heldOut] : [raw.train];
  const empty = parts.find(({ samples }) => !samples.values.length);
  if (empty) throw new UserError(`${where} holds an array [${empty.samples.shape}], which has no samples`);
  const points = raw.train.samples.shape.length === 2;
  const laid = parts.map(({ samples }) => (points ? samples : laidOut(samples, where, notes)));
  if (laid[1] && laid[1].shape.slice(1).join() !== laid[0].shape.slice(1).join())
    throw new UserError(
      `${where}: test images of ${sideOf(laid[1].shape)} do not fit the training images of ${sideOf(laid[0].shape)}; give files of one set`,
    );
  const { values, range, shape, convert } = points
    ? asTheyAre(laid, where, options)
    : asImages(laid, where, notes, raw.pixels, options);
  const classes = labelsOf(parts, laid, where, notes, raw);
  const samples = values.map((part, i): Samples => ({
    count: laid[i].shape[0],
    values: part,
    ...(classes && { labels: classes.labels[i] }),
    ...conditionsOf(parts[i].conditions, notes),
  }));
  const size = shape.reduce((product, extent) => product * extent, 1);
  const { heldOut = Math.ceil(samples[0].count / 10), seed = 0 } = options;
  const split = samples[1]
    ? { train: samples[0], heldOut: samples[1] }
    : splitHeldOut(samples[0], size, heldOut, seed, name);
  const rest = files.paths.filter((path) => !raw.used.includes(path));
  if (rest.length) notes.push(`passed over: ${contentsOf(rest)}`);
  const set = summarize({
    name,
    kind: points ? 'points' : 'images',
    shape,
    range,
    classes: classes?.count ?? 0,
    ...split.train,
    heldOut: split.heldOut,
    ...(Object.keys(raw.negative ?? {}).length && { negative: negativeOf(raw.negative!) }),
    notes,
  });
  return { set, convert: (other) => convert(points ? other : channelsFirst(other, where).array) };
}

const floats = ({ values }: NumberArray) => (values instanceof Float32Array ? values : Float32Array.from(values));

/** What each sample is told, and a note of it. */
function conditionsOf(arrays: RawSamples['conditions'], notes: string[]): Pick<Samples, 'conditions'> {
  const entries = Object.entries(arrays ?? {});
  if (!entries.length) return {};
  notes.push(`each with ${entries.map(([name, { shape }]) => `${name} [${shape.slice(1).join(', ')}]`).join(', ')}`);
  const rows = entries.map(([name, array]) => [name, { shape: array.shape.slice(1), values: floats(array) }] as const);
  return { conditions: Object.fromEntries(rows) };
}

/** One row for all samples, whose first axis may say so. */
const negativeOf = (arrays: NonNullable<RawDataset['negative']>): NonNullable<Dataset['negative']> =>
  Object.fromEntries(
    Object.entries(arrays).map(([name, array]) => [
      name,
      { shape: array.shape[0] === 1 ? array.shape.slice(1) : array.shape, values: floats(array) },
    ]),
  );

const sideOf = (shape: readonly number[]) => shape.slice(-2).join('x');

function laidOut(samples: NumberArray, where: string, notes: string[]): NumberArray {
  const { array, notes: said } = channelsFirst(samples, where);
  notes.push(...said.filter((note) => !notes.includes(note)));
  return array;
}

interface Valued {
  values: (Float32Array | Uint8Array)[];
  range: [number, number];
  /** Of one sample. */
  shape: number[];
  /** Makes such values of other samples. */
  convert(laid: NumberArray): Float32Array | Uint8Array;
}

/** Points and latents are taken as they are; their range is where they lie. */
function asTheyAre(parts: readonly NumberArray[], where: string, { size }: LoadOptions): Valued {
  const shape = parts[0].shape.slice(1);
  if (size)
    throw new UserError(
      `${where} holds ${shape.length === 1 ? 'points' : `arrays [${shape}] that are no colours`}: only pictures are resized`,
      'size',
    );
  const { low, high } = extremesOf(parts, where);
  // All alike, they still need a square to be drawn in.
  const margin = low === high ? Math.max(1, Math.abs(low)) / 2 : 0;
  const convert = ({ values }: NumberArray) => Float32Array.from(values);
  return { values: parts.map(convert), range: [low - margin, high + margin], shape, convert };
}

function asImages(
  parts: readonly NumberArray[],
  where: string,
  notes: string[],
  pixels: [number, number] | undefined,
  options: LoadOptions,
): Valued {
  const [{ shape, values, boolean = false }] = parts;
  const declared = options.pixels ?? pixels;
  const float = values instanceof Float32Array || values instanceof Float64Array;
  const colours = !float || declared || shape[1] === 1 || shape[1] === 3;
  if (declared === 'none' || !colours) {
    notes.push(`${colours ? 'no pixels' : `${shape[1]} channels are no colours`}: values as they are`);
    return asTheyAre(parts, where, options);
  }
  const found = extremesOf(parts, where);
  const from = pixelRange(values, boolean, found, where, declared);
  const { range = [-1, 1] } = options;
  const all = found.low === from[0] && found.high === from[1];
  const met = all ? '' : `, of which ${format(found.low)} … ${format(found.high)} occur`;
  notes.push(`pixels of ${from[0]} … ${from[1]}${met}`);
  const [channels, height, width] = shape.slice(1);
  const { size = [height, width] } = options;
  const same = size[0] === height && size[1] === width;
  // Of samples that are read later it is not known whether they are whole numbers, but by their type.
  const whole = options.memory === undefined || !float ? found.whole : false;
  const convert = (part: NumberArray) => {
    const scaled = rescale(part.values, whole, from, range);
    return same ? scaled : resized(scaled, channels, [height, width], size, range);
  };
  if (!same) notes.push(resizing(`from ${height}x${width}`, size));
  return { values: parts.map(convert), range, shape: [channels, ...size], convert };
}

/** Images one by one at another size, as bytes where they are bytes. */
function resized(
  values: Uint8Array | Float32Array,
  channels: number,
  from: Sides,
  to: Sides,
  [low, high]: [number, number],
): Uint8Array | Float32Array {
  const [before, after] = [from, to].map(([height, width]) => channels * height * width);
  const count = values.length / before;
  const bytes = values instanceof Uint8Array;
  const result = bytes ? new Uint8Array(count * after) : new Float32Array(count * after);
  for (let i = 0; i < count; i++) {
    const image = resample(values.subarray(i * before, (i + 1) * before), channels, from, 1, to);
    // The filter overshoots at edges.
    result.set(bytes ? toBytes(image) : image.map((v) => Math.min(high, Math.max(low, v))), i * after);
  }
  return result;
}

const format = (value: number) => String(Number(value.toPrecision(4)));

function labelsOf(
  parts: readonly RawSamples[],
  laid: readonly NumberArray[],
  where: string,
  notes: string[],
  { classNames: names, classes: least = 0 }: RawDataset,
): { labels: Uint32Array[]; count: number } | null {
  const labelled = parts.flatMap(({ labels }, i) => (labels ? [{ labels, samples: laid[i].shape[0] }] : []));
  if (!labelled.length) return null;
  if (labelled.length < parts.length) {
    notes.push('labels of one part alone are left out');
    return null;
  }
  const classes = classesOf(labelled, where);
  notes.push(...classes.notes);
  if (names) notes.push(`classes: ${names.slice(0, 12).join(', ')}${names.length > 12 ? ', …' : ''}`);
  return { ...classes, count: Math.max(classes.count, least) };
}
