import type { DataFiles } from './data-files.js';
import type { LoadOptions } from './dataset.js';

/** Elements as a file holds them. */
export type NumberValues =
  Uint8Array | Int8Array | Uint16Array | Int16Array | Uint32Array | Int32Array | Float32Array | Float64Array;

/** An array of numbers in row-major order, a sample along the first axis. */
export interface NumberArray {
  shape: number[];
  values: NumberValues;
  /** Elements that mean yes or no. */
  boolean?: true;
}

/** Samples as a file holds them: their range, layout and labels are looked at where the data set is put together. */
export interface RawSamples {
  /** [n, h, w], [n, h, w, c] or [n, c, h, w] for images, [n, d] for points. */
  samples: NumberArray;
  /** A class of each sample [n] or [n, 1], or a one in a row of zeros [n, classes]. */
  labels?: NumberArray;
  /** What else a network is told of each sample, by name: [n, ...]. */
  conditions?: Readonly<Record<string, NumberArray>>;
}

/** What a format read. */
export interface RawDataset {
  train: RawSamples;
  /** Samples that the files themselves hold out. */
  heldOut?: RawSamples;
  /** What the lowest and the highest pixel stand at, where the format or the file says so. */
  pixels?: [number, number];
  /** How many classes there are, where the format says; those of the labels may be fewer. */
  classes?: number;
  /** Names of the classes 0, 1, …, where the files have them. */
  classNames?: string[];
  /** What guidance leads away from, by the names of conditions: one for all samples, [...] or [1, ...]. */
  negative?: Readonly<Record<string, NumberArray>>;
  /** Paths of the files that were read; others are passed over aloud. */
  used: readonly string[];
  /** What else is to be said, a phrase each. */
  notes?: string[];
}

/** An array of which rows are read when they are wanted. */
export interface StoredArray {
  /** [n, ...], as of `RawSamples`. */
  shape: number[];
  /** Rows by rising indices, [indices.length, ...]. */
  read(rows: Uint32Array): Promise<NumberArray>;
}

/** What a format found of a set that memory does not hold: training samples are left in their files. */
export interface RawStored extends Omit<RawDataset, 'train'> {
  train: { samples: StoredArray; labels?: NumberArray };
  /** What a run knows them by. */
  mark: string;
}

/** A kind of files that hold a data set: a file of this folder, and a line in `formats.ts`. */
export interface DataFormat {
  /** Its name in the line that says what was read. */
  readonly name: string;
  /** What its files are called, for the message that nothing known was found. */
  readonly looks: string;
  /** Whether these files are of this format, by their names and by the first bytes of a file that stands alone. */
  recognizes(files: DataFiles): boolean;
  /** @throws UserError in one line, naming file, cause and mend */
  read(files: DataFiles, options: LoadOptions): Promise<RawDataset>;
  /**
   * The same where its samples take more than `memory` bytes; null where they do not, or the files can only be read whole.
   * @throws UserError as `read`
   */
  store?(files: DataFiles, options: LoadOptions, memory: number): Promise<RawStored | null>;
}
