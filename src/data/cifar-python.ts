import { UserError } from '../errors.js';
import { Global, Made, readPickle } from '../files/pickle.js';
import { isTest, joinParts, type Batch } from './cifar.js';
import type { DataFiles } from './data-files.js';
import type { DataFormat } from './format.js';

/**
 * CIFAR as its authors offer it to Python: pickles of a dictionary with `data`, a uint8 array [n, 3072], and `labels` or
 * `fine_labels`. Nothing in them is executed.
 */
const batchName = /(^|\/)(data_batch_\d+|test_batch)$/;
/** CIFAR-100's two, which are told from other files of these names by what they begin with. */
const partName = /(^|\/)(train|test)$/;
const metaName = /(^|\/)(batches\.)?meta$/;
const pixels = 3 * 32 * 32;

export const cifarPython: DataFormat = {
  name: 'CIFAR (Python)',
  looks: "CIFAR's data_batch_1 as a pickle",
  recognizes: ({ paths, head }) =>
    paths.length === 1
      ? head[0] === 0x80 && (batchName.test(paths[0]) || partName.test(paths[0]))
      : paths.some((path) => batchName.test(path)) ||
        (paths.some((path) => metaName.test(path)) && paths.some((path) => partName.test(path))),
  async read(files) {
    const named = files.paths.filter((path) => batchName.test(path));
    const batches = named.length ? named : files.paths.filter((path) => partName.test(path));
    const [train, test] = [batches.filter((path) => !isTest(path)), batches.filter(isTest)];
    const parts = train.length ? [train, test] : [test, []];
    if (!train.length && files.paths.length > 1)
      throw new UserError(`${files.name} holds CIFAR's test batch alone: add the training batches`);
    const read = async (paths: readonly string[]) => {
      const found = [];
      for (const path of paths) found.push(await readBatch(files, path));
      return found;
    };
    return {
      ...joinParts(await read(parts[0]), await read(parts[1])),
      used: [...batches, ...files.paths.filter((path) => metaName.test(path))],
    };
  },
};

async function readBatch(files: DataFiles, path: string): Promise<Batch> {
  const name = files.where(path);
  const { value } = readPickle(await files.bytes(path), name);
  const fields = new Map<string, unknown>();
  if (value instanceof Map) for (const [key, field] of value) fields.set(textOf(key), field);
  const array = bytesOf(fields.get('data'));
  const labels = fields.get('fine_labels') ?? fields.get('labels');
  if (!array || !array.length || array.length % pixels || !Array.isArray(labels))
    throw new UserError(
      `${name} is a pickle, but no batch of CIFAR: it holds ${[...fields.keys()].slice(0, 6).join(', ') || 'something else'}`,
    );
  const count = array.length / pixels;
  if (labels.length !== count)
    throw new UserError(`${name}: ${labels.length} labels for ${count} images; fetch it again`);
  const numbers = Float64Array.from(labels, (label) => (typeof label === 'number' ? label : NaN));
  return {
    samples: { shape: [count, 3, 32, 32], values: array },
    labels: { shape: [count], values: numbers },
    classes: fields.has('fine_labels') ? 100 : 10,
  };
}

/** A key, be it a text, the bytes of one, or bytes that Python 3 wrote for Python 2. */
const textOf = (key: unknown): string => new TextDecoder().decode(contentOf(key) ?? new Uint8Array(0));

/** The elements of a pickled NumPy array of bytes; null for anything else. */
function bytesOf(value: unknown): Uint8Array | null {
  if (!(value instanceof Made)) return null;
  const args = Array.isArray(value.args) ? (value.args as unknown[]) : [];
  if (/^numpy\.(_?core)\.numeric\._frombuffer$/.test(value.name)) return isBytes(args[1]) ? contentOf(args[0]) : null;
  if (!/^numpy\.(_?core)\.multiarray\._reconstruct$/.test(value.name) || !Array.isArray(value.state)) return null;
  const [, , dtype, fortran, content] = value.state as unknown[];
  return isBytes(dtype) && !fortran ? contentOf(content) : null;
}

const isBytes = (dtype: unknown): boolean =>
  dtype instanceof Made &&
  dtype.of instanceof Global &&
  dtype.name === 'numpy.dtype' &&
  Array.isArray(dtype.args) &&
  dtype.args[0] === 'u1';

/** Bytes as Python 3 keeps them, or the text that Python 2 made of them, which Python 3 encodes anew. */
function contentOf(value: unknown): Uint8Array | null {
  if (value instanceof Uint8Array) return value;
  if (value instanceof Made && value.name === '_codecs.encode' && Array.isArray(value.args))
    return contentOf(value.args[0]);
  return typeof value === 'string' ? Uint8Array.from(value, (character) => character.charCodeAt(0)) : null;
}
