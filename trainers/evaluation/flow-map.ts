import type { Device } from '../../src/gpu/device.js';
import { drift, equalEulerSteps, rmse, rmseByJump, type Bucket, type EqualSteps } from '../../src/metrics/flow-map.js';
import { hostStreams, seedFor } from '../../src/tensor/streams.js';
import type { Network } from '../../src/flow/network.js';
import { sourceNoise } from '../../src/flow/noise.js';
import { isPoints } from '../../src/models/model.js';
import { batchFor, callsOf, equalSteps, guidanceOf, Runner } from '../../src/flow/runner.js';
import { samplerOf } from '../../src/flow/sampling.js';
import type { Solver } from '../../src/flow/solvers.js';
import { SharedFigures } from './shared.js';
import { testTimes } from './test-times.js';
import { counted, solverName, stepOf } from './words.js';

/** Points with times on which a flow map is judged; `x` lies on the path at `t`. */
export interface TestSet {
  x: Float32Array;
  t: Float32Array;
  s: Float32Array;
  labels?: Uint32Array;
}

/** The true flow of points from t to s. */
export type TrueFlow = (set: TestSet) => Promise<Float32Array>;

/** The error of a solver of the teacher by as many steps. */
export interface SolverErrorRow {
  solver: Solver;
  steps: number;
  evaluations: number;
  rmse: number;
}

/** How far a flow map is from the true one, and from being a flow map. RMSE: root mean ‖·‖² over points. */
export interface FlowMapReport {
  samples: number;
  seed: number;
  truth: string;
  /** Over random (t, s), both uniform, 15 % of s at the end. */
  operatorRmse: number;
  byJump: Bucket[];
  /** From noise to the end of the path in equal jumps. */
  jumps: { jumps: number; rmse: number }[];
  /** Euler's by as many steps as the jumps above, and as far as a jump of the student is not better than the last. */
  solvers: SolverErrorRow[];
  /** By how many Euler steps of the teacher one jump from noise to the end is worth. */
  worthEulerSteps: EqualSteps;
  tangentRmse: number;
  /** Mean squared difference a coordinate between the direct jump and k hops, from noise to the end. */
  drift: { hops: number; drift: number }[];
}

/** What a flow map is measured on. */
export interface EvaluationOptions {
  samples: number;
  seed: number;
  /** Where paths end: 0, or the smallest time at which the teacher may be asked. */
  end: number;
  /** Data points that test points are mixed from, with labels where the teacher has classes. */
  data: (count: number, seed: number) => Promise<{ x: Float32Array; labels?: Uint32Array }>;
  /** The true flow where it is known better than by fine integration of the teacher. */
  truth?: { name: string; flow: TrueFlow };
  /** What other students of the teacher were judged by. */
  shared?: SharedFigures;
  onProgress?: (what: string) => void;
}

/**
 * Heun steps of the fine integration that stands for the teacher's true flow: for images fewer, since students of theirs err by
 * thirty times what these leave.
 */
const fineStepsOf = ({ model }: Network) => (isPoints(model.sampleShape) ? 128 : 32);
/** Jumps from noise to the end, beside which the teacher takes as many Euler steps. */
const jumpCounts = [1, 2, 4, 8, 16];
const hopCounts = [2, 4, 6, 8];
const eulerSteps = [1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96];
const heunSteps = [1, 2, 4, 8];

/**
 * Measures a student against its teacher's true flow, each step by the sampler that the student is meant for.
 * @param teacher the student itself where it has none: its own velocity, finely integrated, then leads
 */
export async function evaluateFlowMap(
  device: Device,
  teacher: Network,
  student: Network,
  options: EvaluationOptions,
): Promise<FlowMapReport> {
  const batch = batchFor(teacher.model.sampleShape, options.samples);
  const [field, map] = [teacher, student].map((network) => new Runner(device, network, batch, guidanceOf(student)));
  try {
    return await measure(field, map, options);
  } finally {
    for (const runner of [field, map]) runner.dispose();
  }
}

/** The points that students are judged on, and what of the teacher stands beside all of them. */
interface TeacherSide {
  /** At random times. */
  set: TestSet;
  /** From noise to the end. */
  path: TestSet;
  /** Where the true flow takes either. */
  expected: Float32Array;
  endpoint: Float32Array;
  velocity: Float32Array;
}

async function measureTeacher(
  field: Runner,
  options: EvaluationOptions,
  progress: (what: string) => void,
): Promise<TeacherSide> {
  const { samples, seed, end } = options;
  const { network: teacher, sampleSize: size } = field;
  const set = await randomSet(teacher, options, size);
  const truth: TrueFlow = options.truth?.flow ?? ((points) => field.integrate(points, fineStepsOf(teacher), 'heun'));
  progress('the true flow over random times');
  const expected = await truth(set);
  const path: TestSet = {
    ...set,
    x: sourceNoise(teacher.description.source, samples, size, seedFor(seed, hostStreams.pathNoise)),
    t: filled(samples, 1),
    s: filled(samples, end),
  };
  progress('the true flow from noise to data');
  const endpoint = await truth(path);
  progress("the teacher's velocity");
  return { set, path, expected, endpoint, velocity: await field.velocity(set) };
}

async function measure(field: Runner, map: Runner, options: EvaluationOptions): Promise<FlowMapReport> {
  const { samples, seed, end, shared = new SharedFigures(), onProgress: progress = () => {} } = options;
  const { network: teacher, sampleSize: size } = field;
  const { network: student } = map;
  const guidance = guidanceOf(student);
  const sampler = samplerOf(student);
  const follow = (points: TestSet, hops: number) =>
    map.follow(points, equalSteps(hops), sampler, seedFor(seed, hostStreams.hops, hops));
  const key = `flow ${samples} ${seed} ${end} ${guidance}`;
  const side = await shared.once(key, () => measureTeacher(field, options, progress));
  const { set, path, expected, endpoint, velocity } = side;
  progress('jumps over random times');
  const got = await follow(set, 1);
  const hops = new Map<number, Float32Array>();
  for (const count of new Set([...jumpCounts, ...hopCounts])) {
    progress(`noise to data in ${counted(count, stepOf(student))}`);
    hops.set(count, await follow(path, count));
  }
  const direct = hops.get(1)!;
  progress('tangents');
  const tangent = rmse(await map.velocity(set), velocity, size);

  const solverRow = (solver: Solver, steps: number): Promise<SolverErrorRow> =>
    shared.once(`${key} ${solver} ${steps}`, async () => {
      progress(`the teacher by ${counted(steps, `${solverName(solver)} step`)}`);
      return {
        solver,
        steps,
        evaluations: steps * callsOf(teacher, solver, guidance),
        rmse: rmse(await field.integrate(path, steps, solver), endpoint, size),
      };
    });
  const directError = rmse(direct, endpoint, size);
  const solvers: SolverErrorRow[] = [];
  for (const steps of eulerSteps) {
    const row = await solverRow('euler', steps);
    solvers.push(row);
    // Finer steps are dear, and say nothing more of what jumps are worth.
    if (row.rmse <= directError && steps >= jumpCounts.at(-1)!) break;
  }
  for (const steps of heunSteps) solvers.push(await solverRow('heun', steps));
  return {
    samples,
    seed,
    truth:
      options.truth?.name ??
      `${teacher === student ? "the student's own velocity" : 'the teacher'}${guidance === 1 ? '' : ` under guidance ${guidance}`} integrated by ${fineStepsOf(teacher)} Heun steps`,
    operatorRmse: rmse(got, expected, size),
    byJump: rmseByJump(got, expected, size, set.t, set.s),
    jumps: jumpCounts.map((jumps) => ({ jumps, rmse: rmse(hops.get(jumps)!, endpoint, size) })),
    solvers,
    worthEulerSteps: equalEulerSteps(
      directError,
      solvers.filter(({ solver }) => solver === 'euler').map(({ steps, rmse: error }) => ({ steps, error })),
    ),
    tangentRmse: tangent,
    drift: hopCounts.map((count) => ({ hops: count, drift: drift(direct, hops.get(count)!, size) })),
  };
}

async function randomSet(
  teacher: Network,
  { samples, seed, end, data }: EvaluationOptions,
  size: number,
): Promise<TestSet> {
  const { x: x0, labels } = await data(samples, seed);
  const z = sourceNoise(teacher.description.source, samples, size, seedFor(seed, hostStreams.testNoise));
  const { t, s } = testTimes(samples, seed, teacher.description.minimumTime, end);
  const x = Float32Array.from(x0, (value, i) => {
    const time = t[Math.floor(i / size)];
    return (1 - time) * value + time * z[i];
  });
  return { x, t, s, labels };
}

const filled = (count: number, value: number) => new Float32Array(count).fill(value);
