import { build, planProgram, type Program } from '../autodiff/compile.js';
import type { Device } from '../gpu/device.js';
import { timeOf } from '../gpu/profiler.js';
import type { Candidate, Choices, Profile } from '../gpu/profile.js';
import { sameCandidate } from '../ops/choice.js';
import type { Trial } from './trials.js';

/** How candidates are compared; all of it optional. */
export interface TuneOptions {
  /** After so long no further choice is begun; default 60. */
  seconds?: number;
  /** Times that each candidate is measured, in turns with the others; default 7. */
  rounds?: number;
  signal?: AbortSignal;
  /** Hears of each choice. */
  onChoice?: (found: Found, done: number, of: number) => void;
}

/** What was found of one choice. */
export interface Found {
  key: string;
  /** The way to take: the table's, unless another one was faster beyond noise. */
  best: Candidate;
  /** In the order of the candidates, the table's first; without `milliseconds` where a candidate did not run or was wrong. */
  measured: readonly Measured[];
}

/** What was found of one candidate. */
export interface Measured {
  candidate: Candidate;
  /** Median of the rounds. */
  milliseconds?: number;
  /** Half of the range in which the median lies with 95 %, by the rounds' median deviation. */
  noise?: number;
  /** Why it cannot be taken. */
  refused?: string;
}

/** A gain less than this is none, whatever the noise. */
const leastGain = 0.03;
/** Milliseconds that a measurement takes at least, of as many runs as that needs. */
const leastTime = 2;
/** Largest difference from the reference, as a share of its largest value. */
const tolerance = { f32: 1e-4, f16: 2e-2 };

/**
 * Measures the candidates of choices on a device, and takes what is fastest. Each is first held against a reference, the
 * same graph by the simplest kernels there are (no subgroups, no workgroup memory, no tensor cores): what differs is never
 * taken, the table's own way included.
 * @returns what differs from the table, on top of the choices that the device had
 * @throws SemiflowError where the device fails
 */
export async function tune(
  device: Device,
  trials: readonly Trial[],
  { seconds = 60, rounds = 7, signal, onChoice }: TuneOptions = {},
): Promise<{ choices: Choices; found: Found[] }> {
  const choices: Record<string, Candidate> = { ...device.profile.choices };
  const found: Found[] = [];
  const end = performance.now() + 1000 * seconds;
  for (const trial of trials) {
    signal?.throwIfAborted();
    if (performance.now() > end) break;
    const one = await compare(device, trial, choices, rounds);
    found.push(one);
    const { key, candidates } = trial.choice;
    if (sameCandidate(one.best, candidates[0])) delete choices[key];
    else choices[key] = one.best;
    onChoice?.(one, found.length, trials.length);
  }
  return { choices, found };
}

/** The simplest kernels, which every adapter runs. */
const simplest = (profile: Profile): Profile => ({ ...profile, family: 'plain', subgroupSize: 0, choices: undefined });

async function compare(device: Device, trial: Trial, choices: Choices, rounds: number): Promise<Found> {
  const { key, candidates } = trial.choice;
  const { half } = trial;
  const outputs = Object.fromEntries(trial.graph().map((tensor, i) => [`${i}`, tensor]));
  const programOf = (profile: Profile) => build(device, planProgram(profile, { outputs, half }));
  const programs: Program[] = [];
  try {
    const expected = await valuesOf(await kept(programOf(simplest(device.profile)), programs), outputs);
    const measured: (Measured & { program?: Program; times: number[]; runs: number })[] = [];
    for (const candidate of candidates) {
      const refused = await (async () => {
        const own = { ...device.profile, choices: { ...choices, [key]: candidate } };
        const program = await kept(programOf(own), programs);
        const wrong = differs(await valuesOf(program, outputs), expected, tolerance[half ? 'f16' : 'f32']);
        measured.push({
          candidate,
          program: wrong ? undefined : program,
          times: [],
          runs: 1,
          ...(wrong && { refused: wrong }),
        });
        return null;
      })().catch((error: Error) => error.message);
      device.assertUsable();
      if (refused) measured.push({ candidate, times: [], runs: 1, refused });
    }
    const running = measured.filter(({ program }) => program);
    for (const one of running) {
      await timeOf(device, one.program!.dispatches, 1);
      const once = await timeOf(device, one.program!.dispatches, 1);
      one.runs = Math.max(1, Math.min(100, Math.round(leastTime / once)));
    }
    for (let round = 0; round < rounds; round++)
      for (const one of running) one.times.push(await timeOf(device, one.program!.dispatches, one.runs));
    const results = measured.map(({ candidate, refused, times }): Measured => {
      if (!times.length) return { candidate, refused };
      const milliseconds = median(times);
      const deviation = 1.4826 * median(times.map((time) => Math.abs(time - milliseconds)));
      // The median of n normal deviates deviates by 1.2533 / √n of theirs.
      return { candidate, milliseconds, noise: (1.96 * 1.2533 * deviation) / Math.sqrt(times.length) };
    });
    return { key, best: fastest(results), measured: results };
  } finally {
    for (const program of programs) program.dispose();
  }
}

async function kept(program: Promise<Program>, all: Program[]): Promise<Program> {
  const made = await program;
  all.push(made);
  return made;
}

async function valuesOf(program: Program, outputs: object): Promise<ArrayLike<number>[]> {
  program.run();
  return Promise.all(Object.keys(outputs).map((name) => program.read(name)));
}

/** What is wrong with values, or an empty string. */
function differs(actual: ArrayLike<number>[], expected: ArrayLike<number>[], allowed: number): string {
  for (const [k, reference] of expected.entries()) {
    let [worst, largest] = [0, 0];
    for (let i = 0; i < reference.length; i++) {
      largest = Math.max(largest, Math.abs(reference[i]));
      const error = Math.abs(actual[k][i] - reference[i]);
      if (Number.isNaN(error)) return 'wrong: not a number where a value is expected';
      worst = Math.max(worst, error);
    }
    if (worst > allowed * Math.max(largest, 1e-6))
      return `wrong: off by ${worst.toExponential(1)} where values reach ${largest.toExponential(1)}`;
  }
  return '';
}

/**
 * The candidate to take: the table's, the first, unless another is faster by more than both can be off; where the table's
 * is refused, the fastest of the rest.
 */
export function fastest(measured: readonly Measured[]): Candidate {
  const [table] = measured;
  const ran = measured.filter(({ milliseconds }) => milliseconds !== undefined);
  const time = ({ milliseconds }: Measured) => milliseconds ?? Infinity;
  const best = ran.reduce((a, b) => (time(b) < time(a) ? b : a), table);
  if (table.milliseconds === undefined || best === table) return best.candidate;
  const gain = table.milliseconds - time(best);
  const bound = Math.max(leastGain * table.milliseconds, (table.noise ?? 0) + (best.noise ?? 0));
  return gain > bound ? best.candidate : table.candidate;
}

const median = (values: readonly number[]) => [...values].sort((a, b) => a - b)[values.length >> 1];
