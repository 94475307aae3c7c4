import { UserError } from '../src/errors.js';
import type { Files } from '../src/files/store.js';
import { readMark } from './run-files.js';

/** A file of a run that people can look at. */
export interface WatchedFile {
  name: string;
  size: number;
  /** When it changed last, in milliseconds of the epoch. */
  changed: number;
}

/** A run as it is now. */
export interface WatchedRun {
  /** Below the place that is watched; empty for that itself. */
  path: string;
  kind: string;
  /** Of the whole run. */
  steps: number;
  /** When any of its files changed last. */
  changed: number;
  files: WatchedFile[];
}

/** A run, or the runs of a study, as `--watch` shows them. */
export interface Watched {
  /** How people call what is watched. */
  name: string;
  runs: WatchedRun[];
  /** Those of a study itself. */
  files: WatchedFile[];
  /** Whether nothing more will come. */
  ended: boolean;
}

/** Endings of files that say something to people: weights and states do not. */
const endings = ['.html', '.json', '.jsonl', '.md', '.png', '.yaml'];

/** Whether people can look at a file of this name. */
export const isViewable = (name: string): boolean => endings.some((ending) => name.endsWith(ending));

/**
 * Which of a run's files can be looked at: of those alone that its mark says it wrote, whatever else lies beside them.
 * @returns null where there is no run yet
 */
export async function viewableFiles(files: Files): Promise<{ kind: string; steps: number; names: string[] } | null> {
  const mark = await readMark(files).catch((error: unknown) => {
    if (error instanceof UserError) return null;
    throw error;
  });
  return mark && { kind: mark.kind, steps: mark.recipe.steps, names: mark.files.filter(isViewable) };
}
