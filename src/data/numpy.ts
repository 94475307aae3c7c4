import { UserError } from '../errors.js';
import { fingerprint } from '../files/fingerprint.js';
import { bytesSource } from '../files/source.js';
import { isZip, openZip } from '../files/zip.js';
import type { DataFiles } from './data-files.js';
import type { DataFormat, NumberArray, RawDataset } from './format.js';
import { checkEnd, isNpy, mostHeader, npyElements, npyHeader, parseNpy } from './npy.js';
import { bytesOf } from './numbers.js';
import { runsOf } from './shards.js';

/** What people call the arrays of a .npz, in small letters: by hand, NumPy's own default, Keras, MedMNIST, guided diffusion. */
const names = {
  samples: 'x images image imgs data samples latents x_train train_images train_x train_data xtrain arr_0'.split(' '),
  labels: 'y labels label targets target classes y_train train_labels train_y train_targets ytrain arr_1'.split(' '),
  testSamples: 'x_test test_images test_x test_data xtest x_val val_images'.split(' '),
  testLabels: 'y_test test_labels test_y test_targets ytest y_val val_labels'.split(' '),
  /** What the lowest and the highest pixel stand at. */
  range: ['range'],
};

const isArchive = (path: string) => /\.npz(\.gz)?$/i.test(path);
const isArray = (path: string) => /\.npy(\.gz)?$/i.test(path);

export const numpy: DataFormat = {
  name: 'NumPy',
  looks: '.npy, .npz',
  recognizes: ({ paths, head }) =>
    paths.length === 1 ? isNpy(head) || isZip(head) || isArchive(paths[0]) || isArray(paths[0]) : someArrays(paths),
  async read(files) {
    const archives = files.paths.filter(isArchive);
    if (archives.length > 1)
      throw new UserError(
        `${files.name} holds ${archives.length} archives (${archives.slice(0, 4).join(', ')}${archives.length > 4 ? ', …' : ''}): give the path of one`,
      );
    const [path] = archives.length ? archives : files.paths;
    if (archives.length || (files.paths.length === 1 && isZip(files.head))) {
      const raw = await readArrays(await archiveEntries(files, path), files.where(path));
      return { ...raw, used: [path] };
    }
    const arrays = files.paths.length === 1 ? files.paths : files.paths.filter(isArray);
    if (arrays.length === 1)
      return { train: { samples: parseNpy(await files.bytes(arrays[0]), files.where(arrays[0])) }, used: arrays };
    const entries = new Map(arrays.map((file) => [keyOf(file), () => files.bytes(file)]));
    return { ...(await readArrays(entries, files.name)), used: arrays };
  },
  async store(files, _, memory) {
    const arrays = files.paths.length === 1 ? files.paths : files.paths.filter((path) => path.endsWith('.npy'));
    const spelled = new Map(arrays.map((path) => [keyOf(path).toLowerCase().replaceAll('-', '_'), path]));
    const of = (candidates: readonly string[]) =>
      candidates.map((candidate) => spelled.get(candidate)).find((path) => path !== undefined);
    const path = arrays.length === 1 ? arrays[0] : of(names.samples);
    const source = path === undefined || files.paths.some(isArchive) ? null : await files.open(path);
    if (!source || path === undefined) return null;
    const head = await source.read(0, Math.min(mostHeader, source.size));
    if (!isNpy(head)) return null;
    const where = files.where(path);
    const { shape, kind, little, rowMajor, start, end } = npyHeader(head, where);
    const size = shape.slice(1).reduce((product, extent) => product * extent, 1);
    const kept = size * (kind === 'u1' || kind === 'b1' ? 1 : 4);
    if (!rowMajor || shape.length < 2 || shape[0] * kept <= memory) return null;
    checkEnd(source.size, end, where);
    const rowBytes = size * bytesOf(kind);
    const read = async (rows: Uint32Array): Promise<NumberArray> => {
      const bytes = new Uint8Array(rows.length * rowBytes);
      let at = 0;
      for (const [first, behind] of runsOf(rows)) {
        bytes.set(await source.read(start + first * rowBytes, (behind - first) * rowBytes), at);
        at += (behind - first) * rowBytes;
      }
      return npyElements(bytes, [rows.length, ...shape.slice(1)], kind, little, where);
    };
    const whole = async (candidates: readonly string[]) => {
      const found = arrays.length === 1 ? undefined : of(candidates);
      return found === undefined ? undefined : parseNpy(await files.bytes(found), files.where(found));
    };
    const [labels, test, testLabels] = [
      await whole(names.labels),
      await whole(names.testSamples),
      await whole(names.testLabels),
    ];
    const tail = await source.read(Math.max(0, source.size - 2 ** 20), 2 ** 20);
    const used = [names.samples, names.labels, names.testSamples, names.testLabels].flatMap((list) => of(list) ?? []);
    return {
      train: { samples: { shape, read }, ...(labels && { labels }) },
      ...(test && { heldOut: { samples: test, ...(testLabels && { labels: testLabels }) } }),
      used: arrays.length === 1 ? arrays : used,
      mark: await fingerprint([JSON.stringify({ shape, kind }), head, tail]),
    };
  },
};

const keyOf = (file: string) => file.replace(/^.*\//, '').replace(/\.npy(\.gz)?$/i, '');

/** Arrays that people keep a file each, or one file among texts. */
function someArrays(paths: readonly string[]): boolean {
  return paths.some((path) => isArchive(path) || isArray(path));
}

type Entries = Map<string, () => Promise<Uint8Array>>;

async function archiveEntries(files: DataFiles, path: string): Promise<Entries> {
  const bytes = await files.bytes(path);
  const name = files.where(path);
  if (!isZip(bytes)) throw new UserError(`${name} is not a .npz file, or is damaged`);
  const entries = await openZip(bytesSource(bytes, name));
  return new Map([...entries].map(([entry, { read }]) => [entry.replace(/\.npy$/, ''), read]));
}

/** Samples and labels among arrays by their names. */
async function readArrays(entries: Entries, name: string): Promise<Omit<RawDataset, 'used'>> {
  const read = new Set<string>();
  const spelled = new Map([...entries.keys()].map((key) => [key.toLowerCase().replaceAll('-', '_'), key]));
  const array = async (candidates: readonly string[]): Promise<NumberArray | undefined> => {
    const key = candidates.map((candidate) => spelled.get(candidate)).find((found) => found !== undefined);
    if (key === undefined) return undefined;
    read.add(key);
    return parseNpy(await entries.get(key)!(), `${name}, ${key}`);
  };
  const samples = await array(entries.size === 1 ? [...spelled.keys()] : names.samples);
  if (!samples) {
    const held = [...entries.keys()];
    const statistics = entries.has('mu') && entries.has('sigma') ? ', the statistics of a Fréchet distance' : '';
    throw new UserError(
      `${name} holds ${held.slice(0, 6).join(', ') || 'nothing'}${held.length > 6 ? ', …' : ''}${statistics}: samples are looked for under x, images, x_train or arr_0`,
    );
  }
  const labels = await array(names.labels);
  const test = await array(names.testSamples);
  const testLabels = test && (await array(names.testLabels));
  const range = await array(names.range);
  if (range && range.values.length !== 2)
    throw new UserError(`${name}: range holds ${range.values.length} numbers, two are wanted: [low, high]`);
  const taken = [...read][0];
  const notes = names.samples.includes(taken.toLowerCase()) ? [] : [`the array ${taken} is taken for samples`];
  const unread = [...entries.keys()].filter((key) => !read.has(key));
  return {
    train: { samples, ...(labels && { labels }) },
    ...(test && { heldOut: { samples: test, ...(testLabels && { labels: testLabels }) } }),
    ...(range && { pixels: [range.values[0], range.values[1]] as [number, number] }),
    notes: unread.length ? [...notes, `passed over: the arrays ${unread.slice(0, 6).join(', ')}`] : notes,
  };
}
