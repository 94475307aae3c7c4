import { UserError } from '../errors.js';
import type { DataFiles } from './data-files.js';
import type { DataFormat, RawSamples } from './format.js';
import { swapSides } from './layout.js';

/**
 * STL-10's binary files: `train_X.bin`, images of 3 planes of 96 x 96 bytes column by column, and `train_y.bin`, a byte each
 * from 1 to 10; `test_…` is held out, and `unlabeled_X.bin` is read where it stands alone.
 */
const partName = /(^|\/)(train|test|unlabeled)_X\.bin(\.gz)?$/;
const [side, classes] = [96, 10];

export const stl10: DataFormat = {
  name: 'STL-10',
  looks: "STL-10's train_X.bin",
  recognizes: ({ paths }) => paths.some((path) => partName.test(path)),
  async read(files) {
    const part = (name: string) => files.paths.find((path) => partName.exec(path)?.[2] === name);
    const [train, test, rest] = [part('train'), part('test'), part('unlabeled')];
    const first = train ?? rest ?? test!;
    const raw = await readPart(files, first);
    const heldOut = train && test ? await readPart(files, test) : undefined;
    return {
      train: raw.samples,
      ...(heldOut && { heldOut: heldOut.samples }),
      pixels: [0, 255],
      classes: raw.samples.labels ? classes : 0,
      used: [...raw.used, ...(heldOut?.used ?? [])],
    };
  },
};

async function readPart(files: DataFiles, path: string): Promise<{ samples: RawSamples; used: string[] }> {
  const bytes = await files.bytes(path);
  const count = bytes.length / (3 * side * side);
  if (!count || !Number.isInteger(count))
    throw new UserError(
      `${files.where(path)}: ${bytes.length} bytes are no whole number of STL-10's images of 3 x ${side} x ${side}; fetch it again`,
    );
  const samples = { shape: [count, 3, side, side], values: swapSides(bytes, side, side) };
  const labelled = path.replace('_X.bin', '_y.bin');
  if (labelled.includes('unlabeled') || !(await files.holds(labelled))) return { samples: { samples }, used: [path] };
  const values = await files.bytes(labelled);
  const wrong = values.findIndex((label) => label < 1 || label > classes);
  if (wrong >= 0)
    throw new UserError(
      `${files.where(labelled)}: label ${wrong} is ${values[wrong]}, STL-10's go from 1 to ${classes}`,
    );
  const labels = { shape: [values.length], values: values.map((label) => label - 1) };
  return { samples: { samples, labels }, used: [path, labelled] };
}
