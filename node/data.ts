import { totalmem } from 'node:os';
import { UserError } from '../src/errors.js';
import type { Dataset, LoadOptions } from '../src/data/dataset.js';
import { datasetNames, namedDataset } from '../src/data/named.js';
import { readDataset } from '../src/data/read.js';
import { chosenAt } from './files.js';
import { filesAt } from './folder.js';
import { decodePicture } from './pictures.js';

/**
 * A data set by its name, or by the path of a file or folder; docs/data.md lists the kinds. `path#size=64&range=0,1` says
 * how it is to be read as `size` and `pixels` of the options do, so that a run remembers it with the path.
 * @throws UserError in one line: no such set or file, or a file that is not what its name or header claims
 */
export async function loadDataset(spec: string, options: LoadOptions = {}): Promise<Dataset> {
  const named = namedDataset(spec, options);
  if (named) return named;
  const { path, size, pixels } = await parseDataSpec(spec);
  if (path !== spec && datasetNames.includes(path))
    throw new UserError(`${path} is generated: it has the size and the range that it is asked for`, 'data');
  const files = await filesAt(path);
  if (!files)
    throw new UserError(
      `${path}: no data set has this name and there is no such file; names are ${datasetNames.join(', ')}`,
      'data',
    );
  const given = { ...(size && { size }), ...(pixels && { pixels }) };
  return readDataset(files, { decoder: decodePicture, memory: totalmem() * memoryShare, ...given, ...options });
}

/** Of the memory of this machine, what samples may take; beyond it they are read in shards. */
const memoryShare = 0.4;

/** The parts of what `loadDataset` takes. */
async function parseDataSpec(spec: string): Promise<{ path: string } & Pick<LoadOptions, 'size' | 'pixels'>> {
  const { path, chosen } = await chosenAt(spec);
  if (chosen === undefined) return { path };
  const given = Object.fromEntries(new URLSearchParams(chosen));
  const { size, range, ...others } = given;
  const [unknown] = Object.keys(others);
  if (unknown !== undefined)
    throw new UserError(`${spec}: data are read with size=HxW and range=LOW,HIGH, not with ${unknown}`, 'data');
  return {
    path,
    ...(size !== undefined && { size: parseSides(size) }),
    ...(range !== undefined && { pixels: parsePixels(range) }),
  };
}

/** Height and width: one whole number for a square, or `32x48`. @throws UserError for anything else */
export function parseSides(text: string): [number, number] {
  const [, height, width = height] = /^(\d{1,5})(?:x(\d{1,5}))?$/.exec(text) ?? [];
  const sides: [number, number] = [Number(height), Number(width)];
  if (!sides.every((side) => side > 0))
    throw new UserError(`"${text}" is no size: give one number for a square, or HEIGHTxWIDTH such as 32x48`, 'size');
  return sides;
}

/** What the darkest and the brightest pixel stand at: `0,1`, or `none` for what are no pixels. */
function parsePixels(text: string): LoadOptions['pixels'] {
  if (text === 'none') return text;
  const ends = text.split(',').map((end) => (end.trim() ? Number(end) : NaN));
  if (ends.length !== 2 || !ends.every(Number.isFinite) || ends[0] >= ends[1])
    throw new UserError(
      `"${text}" is no range: give what black and white stand at, such as 0,1 or -1,1, or none for values as they are`,
      'pixels',
    );
  return [ends[0], ends[1]];
}
