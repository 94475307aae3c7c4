import { relative, resolve, sep } from 'node:path';
import { datasetNames } from '../src/data/named.js';
import type { Description } from '../src/flow/description.js';
import { isFolder } from './output.js';

/** How a configuration says where something is. */
export type Place = (path: string) => string;

/** What is meant as a folder, by a slash at its end, stays so. */
const meantAs = (path: string, place: string): string => (isFolder(path) ? `${place}/` : place);

/** From the folder of the configuration: it says nothing of this machine, and can be moved with what it names. */
export const fromFolder =
  (folder: string): Place =>
  (path) =>
    meantAs(path, relative(resolve(folder), resolve(path)).split(sep).join('/') || '.');

/** In full, for a configuration that nobody knows yet where it will lie. */
export const inFull: Place = (path) => meantAs(path, resolve(path));

/** What a configuration in a folder says, as it is found from here. Older ones say it in full. */
export const readFrom =
  (folder: string): Place =>
  (path) =>
    meantAs(path, relative('', resolve(folder, path)) || '.');

/** Where data come from: a name stays one. */
export const ofData =
  (place: Place): Place =>
  (data) =>
    datasetNames.includes(data.split('#')[0]) ? data : place(data);

/** A description whose module is said as all else is. */
export function placedDescription(description: Description, place: Place): Description {
  const { architecture } = description;
  const { module } = architecture;
  if (!module?.path) return description;
  return { ...description, architecture: { ...architecture, module: { ...module, path: place(module.path) } } };
}
