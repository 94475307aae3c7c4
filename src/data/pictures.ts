import { UserError } from '../errors.js';
import type { DataFiles } from './data-files.js';
import type { DataFormat, RawDataset, RawSamples } from './format.js';
import { fingerprint } from '../files/fingerprint.js';
import { kindOf } from '../files/kind.js';
import type { LoadOptions } from './dataset.js';
import { cover, resizing, type Picture, type PictureDecoder } from './picture.js';
import { decodePng, isPng } from './png.js';
import type { Sides } from './resample.js';

const pictureName = /\.(png|jpe?g|webp|gif|tiff?|avif)$/i;
/** Folders that hold parts of a set instead of classes. */
const trainFolder = /^train(ing)?$/i;
const heldOutFolder = /^(test(ing)?|val(id(ation)?)?)$/i;

/** Pictures read at a time. */
const together = 32;

export const pictures: DataFormat = {
  name: 'picture',
  looks: '.png, .jpg, .webp and other pictures, in folders by class where there are classes',
  recognizes: ({ paths }) => paths.some((path) => pictureName.test(path)),
  async read(files, options) {
    const { labelOf, classNames, notes, metadata, chosen } = await listing(files);
    const [train, heldOut] = chosen;
    const decoded = [];
    for (const part of [train, ...(heldOut ? [heldOut] : [])]) decoded.push(await decodeAll(files, part, options));
    const channels = decoded.flat().some((picture) => picture.channels === 3) ? 3 : 1;
    const [first] = decoded[0];
    decoded.forEach((part, i) => checkSizes(files, chosen[i]!, part, first, train[0]));
    const samples = decoded.map((part) => planes(part, channels));
    const withLabels = (i: number): RawSamples => ({ samples: samples[i], ...labelsOf(chosen[i]!, labelOf) });
    return {
      train: withLabels(0),
      ...(heldOut && { heldOut: withLabels(1) }),
      pixels: [0, 255],
      ...(classNames && { classNames }),
      used: [...chosen.flatMap((part) => part ?? []), ...metadata],
      notes: [...notes, ...sizeNotes(decoded.flat(), options.size)],
    } satisfies RawDataset;
  },
  async store(files, options, memory) {
    const { labelOf, classNames, notes, metadata, chosen } = await listing(files);
    const [train, heldOut] = chosen;
    const few = await decodeAll(files, train.slice(0, together), options);
    const channels = few.some((picture) => picture.channels === 3) ? 3 : 1;
    if (!few.length) return null;
    const [{ height, width }] = few;
    if (train.length * channels * height * width <= memory) return null;
    const decoded = async (paths: readonly string[]) => {
      const found = await decodeAll(files, paths, options);
      checkSizes(files, paths, found, few[0], train[0]);
      const coloured = channels === 3 ? -1 : found.findIndex((picture) => picture.channels === 3);
      if (coloured >= 0)
        throw new UserError(
          `${files.where(paths[coloured])} has colours, the first pictures are grey: make all of one kind`,
        );
      return planes(found, channels);
    };
    const read = (rows: Uint32Array) => decoded(Array.from(rows, (row) => train[row]));
    const shape = [train.length, channels, height, width];
    return {
      train: { samples: { shape, read }, ...labelsOf(train, labelOf) },
      ...(heldOut && { heldOut: { samples: await decoded(heldOut), ...labelsOf(heldOut, labelOf) } }),
      pixels: [0, 255],
      ...(classNames && { classNames }),
      used: [...chosen.flatMap((part) => part ?? []), ...metadata],
      notes: [...notes, ...(options.size ? [resizing('where they have another size', options.size)] : [])],
      mark: await fingerprint([JSON.stringify({ shape, size: options.size }), ...train]),
    };
  },
};

/** Which pictures there are, in parts, and their classes. */
async function listing(files: DataFiles): Promise<Labelling> {
  const { parts, notes, strip } = partsOf(files.paths.filter((path) => pictureName.test(path)));
  const labels = await labelling(files, parts, strip);
  return { ...labels, notes: [...notes, ...labels.notes] };
}

/** Labels of pictures, where there are any. */
const labelsOf = (paths: readonly string[], labelOf: Labelling['labelOf']): Pick<RawSamples, 'labels'> =>
  labelOf ? { labels: { shape: [paths.length], values: Float64Array.from(paths, (path) => labelOf(path)!) } } : {};

type Parts = readonly [string[], string[]?];

/** Training pictures and those held out: `train` beside `val` or `test`, or all of them to be split. */
function partsOf(paths: string[]): { parts: Parts; notes: string[]; strip: (path: string) => string } {
  // Archives have all they hold in one folder of their own.
  const root = paths.reduce((shared, path) => sharedFolder(shared, path), paths[0].replace(/[^/]*$/, ''));
  const folders = root.split('/');
  const trainAt = folders.findIndex((folder) => trainFolder.test(folder));
  const start =
    trainAt < 0
      ? root
      : folders
          .slice(0, trainAt)
          .map((folder) => `${folder}/`)
          .join('');
  const top = (path: string) => /^([^/]*)\//.exec(path.slice(start.length))?.[1] ?? '';
  const tops = new Set(paths.map(top));
  const train = [...tops].find((folder) => trainFolder.test(folder));
  const rest = [...tops].filter((folder) => folder && folder !== train);
  const held = rest.filter((folder) => heldOutFolder.test(folder)).sort((a) => (/^val/i.test(a) ? -1 : 1));
  // Beside other folders alone, `train` is a class, as of vehicles.
  if (!train || (rest.length && !held.length))
    return { parts: [paths], notes: [], strip: (path) => path.slice(start.length) };
  const inside = (folder: string) => paths.filter((path) => top(path) === folder);
  return {
    parts: held.length ? [inside(train), inside(held[0])] : [inside(train)],
    notes: held.length > 1 ? [`held out are the pictures of ${held[0]}, not those of ${held.slice(1).join(', ')}`] : [],
    strip: (path) => path.slice(start.length + top(path).length + 1),
  };
}

/** The longest folder that both lie in, with its slash. */
function sharedFolder(folder: string, path: string): string {
  let shared = folder;
  while (!path.startsWith(shared)) shared = shared.slice(0, shared.lastIndexOf('/', shared.length - 2) + 1);
  return shared;
}

interface Labelling {
  /** A class for each of the chosen pictures; absent where there are no labels. */
  labelOf?: (path: string) => number | undefined;
  classNames?: string[];
  notes: string[];
  /** Files that the labels came from. */
  metadata: string[];
  chosen: Parts;
}

/** Where classes come from: a list beside the pictures first, else the folders that they lie in. */
async function labelling(files: DataFiles, parts: Parts, strip: (path: string) => string): Promise<Labelling> {
  const listed = await readLists(files);
  const all = parts.flatMap((part) => part ?? []);
  if (listed?.labels) {
    const { labels, metadata } = listed;
    const list = metadata.join(', ');
    const missing = all.filter((path) => !labels.has(path));
    if (missing.length === all.length)
      throw new UserError(
        `${files.where(metadata[0])} has labels for none of the ${all.length} pictures; remove it or mend it`,
      );
    const chosen = thatHave((path) => labels.has(path), parts);
    const notes = [`labels from ${list}`];
    if (missing.length) notes.push(`passed over: ${missing.length} pictures that ${list} has no label for`);
    return { labelOf: (path) => labels.get(path), classNames: listed.classNames, notes, metadata, chosen };
  }
  const metadata = listed ? listed.metadata : [];
  const notes = listed ? [`${metadata.join(', ')} has no labels, so there are none`] : [];
  const classOf = (path: string) => (strip(path).includes('/') ? strip(path).slice(0, strip(path).indexOf('/')) : null);
  const classNames = [...new Set(all.map(classOf))].filter((name) => name !== null).sort();
  // One folder in which all lies is no class.
  const loose = all.filter((path) => classOf(path) === null);
  if (listed || !classNames.length || (classNames.length === 1 && !loose.length))
    return { notes, metadata, chosen: parts };
  if (loose.length)
    notes.push(`passed over: ${loose.length} pictures beside the folders of classes, such as ${loose[0]}`);
  const chosen = thatHave((path) => classOf(path) !== null, parts);
  return { labelOf: (path) => classNames.indexOf(classOf(path)!), classNames, notes, metadata, chosen };
}

/** The pictures that have a label; held out are none where none of them has. */
function thatHave(labelled: (path: string) => boolean, [train, heldOut]: Parts): Parts {
  const [some, others] = [train.filter(labelled), heldOut?.filter(labelled)];
  return some.length && others?.length ? [some, others] : [some.length ? some : others!];
}

interface Lists {
  metadata: string[];
  labels: Map<string, number> | null;
  classNames?: string[];
}

const listName = /(^|\/)(dataset\.json|metadata\.jsonl)$/;

/**
 * Labels from files beside the pictures: StyleGAN's `dataset.json` ({"labels": [["00000/img.png", 3], …]}) or the
 * `metadata.jsonl` of Hugging Face ({"file_name": "img.png", "label": 3} a line), at the top or in the folders of parts;
 * paths in them start where they lie.
 */
async function readLists(files: DataFiles): Promise<Lists | null> {
  const metadata = files.paths.filter((path) => listName.test(path));
  if (!metadata.length) return null;
  const pairs: [unknown, unknown][] = [];
  for (const path of metadata) {
    const folder = path.replace(/[^/]*$/, '');
    for (const [file, label] of await readList(files, path))
      pairs.push([typeof file === 'string' ? folder + file.replace(/^\.\//, '') : file, label]);
  }
  if (pairs.every(([, label]) => label === undefined)) return { metadata, labels: null };
  return { metadata, ...classesOf(pairs, files.where(metadata[0])) };
}

/** Paths and labels as one file has them, undefined where it has none. */
async function readList(files: DataFiles, path: string): Promise<[unknown, unknown][]> {
  const where = files.where(path);
  const text = new TextDecoder().decode(await files.bytes(path));
  const parse = (part: string, line: string) => {
    try {
      return JSON.parse(part) as unknown;
    } catch {
      throw new UserError(`${where}${line} is not JSON; mend it or remove it`);
    }
  };
  if (path.endsWith('.json')) {
    const { labels } = Object(parse(text, '')) as { labels?: unknown };
    const entries = Array.isArray(labels) ? labels : Object.entries(Object(labels) as object);
    return entries.map((entry: unknown) => (Array.isArray(entry) ? [entry[0], entry[1] as unknown] : [entry, null]));
  }
  return text.split('\n').flatMap((line, i): [unknown, unknown][] => {
    if (!line.trim()) return [];
    const row = Object(parse(line, `:${i + 1}`)) as Record<string, unknown>;
    return [[row.file_name, row.label ?? row.labels ?? row.class]];
  });
}

/** Classes by number as they are, or by name in the order of names. */
function classesOf(
  pairs: readonly [unknown, unknown][],
  where: string,
): { labels: Map<string, number>; classNames?: string[] } {
  const wrong = pairs.find(
    ([path, label]) => typeof path !== 'string' || !(typeof label === 'string' || typeof label === 'number'),
  );
  if (wrong)
    throw new UserError(`${where}: ${JSON.stringify(wrong)?.slice(0, 80)} is not the path and the class of a picture`);
  const named = pairs.some(([, label]) => typeof label === 'string');
  if (!named) return { labels: new Map(pairs as [string, number][]) };
  const classNames = [...new Set(pairs.map(([, label]) => String(label)))].sort();
  return {
    labels: new Map(pairs.map(([path, label]) => [path as string, classNames.indexOf(String(label))])),
    classNames,
  };
}

/** A picture at the size that is asked for, and that of its file. */
interface Decoded extends Picture {
  own: Sides;
}

async function decodeAll(files: DataFiles, paths: readonly string[], options: LoadOptions): Promise<Decoded[]> {
  const decoded: Decoded[] = [];
  const read = async (path: string): Promise<Decoded> => {
    const picture = await readPicture(await files.bytes(path), files.where(path), options.decoder);
    const own: Sides = [picture.height, picture.width];
    return { ...cover(picture, options.size ?? own), own };
  };
  for (let at = 0; at < paths.length; at += together)
    decoded.push(...(await Promise.all(paths.slice(at, at + together).map(read))));
  return decoded;
}

/** A picture by what it is, whatever its name says. */
export async function readPicture(
  bytes: Uint8Array,
  name: string,
  decoder: PictureDecoder | undefined,
): Promise<Picture> {
  if (isPng(bytes)) return decodePng(bytes, name);
  const kind = kindOf(bytes.subarray(0, 512));
  if (!kind?.endsWith(' picture'))
    throw new UserError(
      `${name} is no picture: it is ${kind ?? 'damaged or of no known kind'}; fetch it again or remove it`,
    );
  if (!decoder) throw new UserError(`${name} is ${kind}, and PNG alone is read here: convert it`);
  return decoder(bytes, name);
}

/** What was done to sizes, in a line; how many were enlarged, which adds nothing but blur. */
function sizeNotes(decoded: readonly Decoded[], size: Sides | undefined): string[] {
  if (!size) return [];
  const others = decoded.filter(({ own }) => own[0] !== size[0] || own[1] !== size[1]);
  if (!others.length) return [];
  const sizes = new Set(others.map(({ own }) => own.join('x')));
  const small = others.filter(({ own }) => Math.min(own[0] / size[0], own[1] / size[1]) < 1).length;
  const from = sizes.size === 1 ? `from ${[...sizes][0]}` : `from ${sizes.size} sizes`;
  return [
    resizing(from, size),
    ...(small ? [`${small} of ${decoded.length} pictures were smaller and are enlarged`] : []),
  ];
}

function checkSizes(
  files: DataFiles,
  paths: readonly string[],
  decoded: readonly Picture[],
  { width, height }: Picture,
  firstPath: string,
): void {
  const odd = decoded.findIndex((picture) => picture.width !== width || picture.height !== height);
  if (odd < 0) return;
  const others = decoded.filter((picture) => picture.width !== width || picture.height !== height).length;
  throw new UserError(
    `${files.where(paths[odd])} is ${decoded[odd].height}x${decoded[odd].width}, ${files.where(firstPath)} is ${height}x${width} (${others} of ${decoded.length} differ): images of one size are wanted: say which, and the others are resized and cropped to it`,
    'size',
  );
}

/** Pictures as [n, channels, height, width]; grey ones among coloured have three equal planes. */
function planes(decoded: readonly Picture[], channels: 1 | 3): { shape: number[]; values: Uint8Array } {
  const [{ width, height }] = decoded;
  const area = width * height;
  const values = new Uint8Array(decoded.length * channels * area);
  decoded.forEach((picture, i) => {
    for (let channel = 0; channel < channels; channel++)
      for (let at = 0; at < area; at++)
        values[(i * channels + channel) * area + at] =
          picture.pixels[at * picture.channels + (picture.channels === 3 ? channel : 0)];
  });
  return { shape: [decoded.length, channels, height, width], values };
}
