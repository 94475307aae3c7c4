/**
 * What the page and its worker say to each other. The worker owns the device and all work on it; the page draws. A call
 * has an input, may tell of parts of its result on the way, and gives a result or a failure; it can be cancelled.
 */

import type { EqualSteps } from '../src/metrics/flow-map.js';
import type { DistillationConfig } from '../trainers/config.js';
import type { StepMetrics } from '../trainers/trainer.js';

interface Call<Input, Part, Result> {
  input: Input;
  part: Part;
  result: Result;
}

/** Everything that the worker can be asked for. */
export interface Calls {
  /** Opens the device. */
  start: Call<null, never, Started>;
  /** What a family of networks is; reads its files. */
  family: Call<string, never, Family>;
  /** Samples of all members by several schedules. */
  sample: Call<SampleRequest, SampleTile, void>;
  /** A chain of hops by every operator. */
  walk: Call<WalkRequest, Walk, void>;
  /** The semigroup law over the plane of times, for every operator. */
  violations: Call<Subject, Violation, void>;
  /** A picture to be edited. */
  picture: Call<Subject, never, Picture>;
  /** Fills what a mask hides. */
  fill: Call<FillRequest, Edited, void>;
  /** Rounds of noise and back. */
  rounds: Call<RoundsRequest, Edited, void>;
  /** Takes up the networks in a file, if they are such. */
  open: Call<{ file: File; description: File | null }, never, Opened>;
  /** The student of the training among the networks of all parts. */
  distilShare: Call<null, never, Families>;
  /** What a training can be set to. */
  distilMenu: Call<null, never, DistilMenu>;
  /** The knobs as a method has them. */
  distilKnobs: Call<string, never, Knobs>;
  /** Trains a teacher of a data set of points, until it is done or it is enough. */
  distilTeach: Call<{ data: string; steps: number }, TeacherNews, Families>;
  /** A new training, from the teacher of a data set or from a flow map of it in a file. */
  distilBegin: Call<{ knobs: Knobs; teacher: string; file: Blob | null }, never, void>;
  /** Other knobs for the training on its way. */
  distilTurn: Call<Knobs, never, void>;
  /** Trains until it is done or paused; whether it is done. */
  distilRun: Call<null, DistilNews, boolean>;
  /** Ends the run at the next step. */
  distilPause: Call<null, never, void>;
  /** Ends the training of the teacher, which is then as far as it came. */
  distilEnough: Call<null, never, void>;
  /** The student as a safetensors file. */
  distilFile: Call<null, never, Blob>;
}

export type CallName = keyof Calls;

/** What the page sends. */
export type ToWorker =
  { [Name in CallName]: { id: number; name: Name; input: Calls[Name]['input'] } }[CallName] | { cancel: number };

/** What the worker sends; `lost` where nothing more can be computed. */
export type FromWorker =
  | { id: number; part: Calls[CallName]['part'] }
  | { id: number; result: Calls[CallName]['result'] }
  | { id: number; failure: string }
  | { lost: string };

/** The device that was opened. */
export interface Started {
  /** The adapter's own name, where the browser tells it. */
  adapter: string;
  /** Whether it computes on the processor. */
  software: boolean;
  /** The families of networks that can be chosen. */
  families: Families;
}

/** The families of networks, to choose from. */
export type Families = readonly Pick<Family, 'id' | 'name'>[];

/** Networks of one kind of samples: a teacher and what was distilled from it. */
export interface Family {
  id: string;
  name: string;
  kind: 'points' | 'pictures';
  /** Of one sample. */
  shape: readonly number[];
  /** Values of black and white in pictures, of the edges of a plot of points. */
  range: readonly [number, number];
  /** The classes' names; empty where it knows none. */
  classes: readonly string[];
  /** Whether it can be asked without a class. */
  nullClass: boolean;
  members: readonly Member[];
  /** Samples that a part shows of it. */
  count: number;
}

/** A network of a family. */
export interface Member {
  name: string;
  role: 'teacher' | 'flow-map';
  /** How it is sampled. */
  sampler: string;
}

/** Samples of a family. */
export interface Subject {
  family: string;
  seed: number;
  /** A class for all; null lets classes take turns. */
  label: number | null;
  count: number;
}

export interface SampleRequest extends Subject {
  /** Falling times from 1 to 0, a list for each picture; a call of the network an interval. */
  schedules: readonly (readonly number[])[];
}

/** Samples of one member by one schedule. */
export interface SampleTile {
  member: string;
  /** Which of the schedules. */
  schedule: number;
  /** Where they started, and where they ended. */
  noise: Float32Array;
  x: Float32Array;
  milliseconds: number;
}

/** A flow map's jump, a jump to the end of the path and back by noise, an Euler step of the teacher. */
export type OperatorName = 'map' | 'endpoint' | 'euler';

export interface WalkRequest extends Subject {
  /** From where to where, with the stops between, falling. */
  times: readonly number[];
}

/** Where one operator leads. */
export interface Walk {
  operator: OperatorName;
  /** Samples at every time. */
  stops: readonly Float32Array[];
  /** At the last time, in one jump. */
  direct: Float32Array;
  /** Δ_k: mean squared difference a value between the direct jump and the chain. */
  drift: number;
  /** What points are coloured by. */
  noise: Float32Array;
}

/** The mean squared difference between one jump t → s and two by the middle, over the data's variance. */
export interface Violation {
  operator: OperatorName;
  t: number;
  s: number;
  violation: number;
}

/** One picture, and its class where networks know some. */
export interface Picture {
  x: Float32Array;
  label: number | null;
}

/** One picture that is edited several times over, each time from another noise. */
interface EditRequest extends Subject {
  x: Float32Array;
}

export interface FillRequest extends EditRequest {
  /** 1 where a pixel is to be filled, row by row. */
  hidden: Uint8Array<ArrayBuffer>;
  calls: number;
}

export interface RoundsRequest extends EditRequest {
  /** How far towards noise a round goes. */
  time: number;
  rounds: number;
}

/** What came of one way to edit, at first or after a round. */
export interface Edited {
  name: string;
  round?: number;
  x: Float32Array;
}

/** What a file is. */
export interface Opened {
  /** In a few words. */
  title: string;
  /** What is known, a name and a line each. */
  lines: readonly (readonly [string, string])[];
  /** Tensors by name, type and shape, where nothing more is known. */
  tensors: readonly (readonly string[])[];
  /** What is missing before anything can be computed with it. */
  missing: readonly (readonly [string, string])[];
  /** The networks of all parts, with those of the file among them. */
  families: Families;
}

/** What of a recipe can be turned while it is followed. */
export interface Knobs extends Pick<DistillationConfig, 'method' | 'lambda' | 'epsilon' | 'steps' | 'batch' | 'seed'> {
  rate: number;
}

export interface DistilMenu {
  methods: readonly { name: string; summary: string }[];
  objectives: readonly { name: string; summary: string }[];
  knobs: Knobs;
  /** Data sets of points whose teacher can be trained here; the first one's is shipped. */
  teachers: readonly string[];
  /** Steps that such a teacher takes unless others are asked for. */
  teacherSteps: number;
}

/** What the training of a teacher tells: its losses, and what its samples have become. */
export type TeacherNews =
  | { losses: readonly StepMetrics[] }
  | { samples: { x: Float32Array; noise: Float32Array; range: readonly [number, number] } };

/** What a training tells. */
export type DistilNews =
  | { losses: readonly StepMetrics[] }
  | { text: string }
  | {
      /** One jump of the student: its points, those of the true flow, their error, and how many Euler steps have the same. */
      look: {
        step: number;
        x: Float32Array;
        noise: Float32Array;
        truth: Float32Array;
        /** What a plot of the points shows. */
        range: readonly [number, number];
        error: number;
        worth: EqualSteps;
      };
    };
