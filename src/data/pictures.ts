import { UserError } from '../errors.js';
import type { DataFiles } from './data-files.js';
import type { DataFormat, RawDataset, RawSamples } from './format.js';
import { decodePng, type Picture } from './png.js';

const pictureName = /\.(png|jpe?g|webp|gif|bmp|tiff?|avif)$/i;
const pngName = /\.png$/i;
/** Folders that hold parts of a set instead of classes. */
const trainFolder = /^train(ing)?$/i;
const heldOutFolder = /^(test(ing)?|val(id(ation)?)?)$/i;

/** Pictures read at a time. */
const together = 32;

export const pictures: DataFormat = {
  name: 'PNG',
  looks: '.png, in folders by class where there are classes',
  recognizes: ({ paths }) => paths.some((path) => pictureName.test(path)),
  async read(files) {
    const pngs = files.paths.filter((path) => pngName.test(path));
    if (!pngs.length) {
      const others = files.paths.filter((path) => pictureName.test(path));
      throw new UserError(
        `${files.name} holds ${others.length} pictures such as ${others[0]}, and only PNG is read: convert them (magick mogrify -format png *.${others[0].split('.').at(-1)})`,
      );
    }
    const { parts, notes: partNotes, strip } = partsOf(pngs);
    const { labelOf, classNames, notes, metadata, chosen } = await labelling(files, parts, strip);
    const [train, heldOut] = chosen;
    const decoded = [];
    for (const part of [train, ...(heldOut ? [heldOut] : [])]) decoded.push(await decodeAll(files, part));
    const channels = decoded.flat().some((picture) => picture.channels === 3) ? 3 : 1;
    const [first] = decoded[0];
    decoded.forEach((part, i) => checkSizes(files, chosen[i]!, part, first, train[0]));
    const samples = decoded.map((part) => planes(part, channels));
    const withLabels = (i: number): RawSamples => ({
      samples: samples[i],
      ...(labelOf && {
        labels: { shape: [chosen[i]!.length], values: Float64Array.from(chosen[i]!, (path) => labelOf(path)!) },
      }),
    });
    return {
      train: withLabels(0),
      ...(heldOut && { heldOut: withLabels(1) }),
      pixels: [0, 255],
      ...(classNames && { classNames }),
      used: [...chosen.flatMap((part) => part ?? []), ...metadata],
      notes: [...partNotes, ...notes],
    } satisfies RawDataset;
  },
};

type Parts = readonly [string[], string[]?];

/** Training pictures and those held out: `train` beside `val` or `test`, or all of them to be split. */
function partsOf(paths: string[]): { parts: Parts; notes: string[]; strip: (path: string) => string } {
  const top = (path: string) => (path.includes('/') ? path.slice(0, path.indexOf('/')) : '');
  const tops = new Set(paths.map(top));
  const train = [...tops].find((folder) => trainFolder.test(folder));
  const rest = [...tops].filter((folder) => folder && folder !== train);
  const held = rest.filter((folder) => heldOutFolder.test(folder)).sort((a) => (/^val/i.test(a) ? -1 : 1));
  if (!train || rest.length !== held.length) return { parts: [paths], notes: [], strip: (path) => path };
  const inside = (folder: string) => paths.filter((path) => top(path) === folder);
  return {
    parts: held.length ? [inside(train), inside(held[0])] : [inside(train)],
    notes: held.length > 1 ? [`held out are the pictures of ${held[0]}, not those of ${held.slice(1).join(', ')}`] : [],
    strip: (path) => path.slice(path.indexOf('/') + 1),
  };
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
  const listed = await readList(files);
  const all = parts.flatMap((part) => part ?? []);
  if (listed?.labels) {
    const { labels, metadata } = listed;
    const missing = all.filter((path) => !labels.has(path));
    if (missing.length === all.length)
      throw new UserError(
        `${files.where(metadata)} has labels for none of the ${all.length} pictures; remove it or mend it`,
      );
    const chosen = parts.map((part) => part?.filter((path) => labels.has(path))) as unknown as Parts;
    const notes = [`labels from ${metadata}`];
    if (missing.length) notes.push(`passed over: ${missing.length} pictures that ${metadata} has no label for`);
    return { labelOf: (path) => labels.get(path), classNames: listed.classNames, notes, metadata: [metadata], chosen };
  }
  const metadata = listed ? [listed.metadata] : [];
  const notes = listed ? [`${listed.metadata} has no labels, so there are none`] : [];
  const classOf = (path: string) => (strip(path).includes('/') ? strip(path).slice(0, strip(path).indexOf('/')) : null);
  const classNames = [...new Set(all.map(classOf))].filter((name) => name !== null).sort();
  // One folder in which all lies is no class.
  const loose = all.filter((path) => classOf(path) === null);
  if (listed || !classNames.length || (classNames.length === 1 && !loose.length))
    return { notes, metadata, chosen: parts };
  if (loose.length)
    notes.push(`passed over: ${loose.length} pictures beside the folders of classes, such as ${loose[0]}`);
  const chosen = parts.map((part) => part?.filter((path) => classOf(path) !== null)) as unknown as Parts;
  if (chosen.some((part) => part && !part.length))
    throw new UserError(`${files.name}: a part of it has no folders of classes, another has; give both the same form`);
  return { labelOf: (path) => classNames.indexOf(classOf(path)!), classNames, notes, metadata, chosen };
}

interface List {
  metadata: string;
  labels: Map<string, number> | null;
  classNames?: string[];
}

/**
 * Labels from a file beside the pictures: StyleGAN's `dataset.json` ({"labels": [["00000/img.png", 3], …]}) or the
 * `metadata.jsonl` of Hugging Face ({"file_name": "img.png", "label": 3} a line).
 */
async function readList(files: DataFiles): Promise<List | null> {
  const metadata = ['dataset.json', 'metadata.jsonl'].find((name) => files.paths.includes(name));
  if (!metadata) return null;
  const where = files.where(metadata);
  const text = new TextDecoder().decode(await files.bytes(metadata));
  const parse = (part: string, line: string) => {
    try {
      return JSON.parse(part) as unknown;
    } catch {
      throw new UserError(`${where}${line} is not JSON; mend it or remove it`);
    }
  };
  const pairs: [unknown, unknown][] = [];
  if (metadata === 'dataset.json') {
    const { labels } = Object(parse(text, '')) as { labels?: unknown };
    if (labels === null || labels === undefined) return { metadata, labels: null };
    const entries = Array.isArray(labels) ? labels : Object.entries(Object(labels) as object);
    for (const entry of entries) pairs.push(Array.isArray(entry) ? [entry[0], entry[1]] : [entry, undefined]);
  } else {
    for (const [i, line] of text.split('\n').entries()) {
      if (!line.trim()) continue;
      const row = Object(parse(line, `:${i + 1}`)) as Record<string, unknown>;
      pairs.push([row.file_name, row.label ?? row.labels ?? row.class]);
    }
    if (pairs.every(([, label]) => label === undefined)) return { metadata, labels: null };
  }
  return { metadata, ...classesOf(pairs, where) };
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

async function decodeAll(files: DataFiles, paths: readonly string[]): Promise<Picture[]> {
  const decoded: Picture[] = [];
  for (let at = 0; at < paths.length; at += together) {
    const read = async (path: string) => decodePng(await files.bytes(path), files.where(path));
    decoded.push(...(await Promise.all(paths.slice(at, at + together).map(read))));
  }
  return decoded;
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
    `${files.where(paths[odd])} is ${decoded[odd].height}x${decoded[odd].width}, ${files.where(firstPath)} is ${height}x${width} (${others} of ${decoded.length} differ): images of one size are wanted, resize them first`,
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
