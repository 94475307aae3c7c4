import { biasEpsilons, solverBias, type BiasReport } from '../trainers/evaluation/solver-bias.js';
import type { Table } from '../src/report/table.js';
import { sizeOf } from '../src/tensor/shape.js';
import { sampleCount, seedNumber } from './arguments.js';
import { evaluationDefaults } from '../trainers/evaluation/truth.js';
import { readTeacher } from './networks.js';
import { printTables } from './print.js';
import { openSession, type DeviceFlags } from './session.js';
import { begin, detail, done } from './status.js';

export interface BiasFlags extends DeviceFlags {
  teacher: string;
  arch?: string;
  /** Adapters folded in. */
  lora?: string[];
  samples?: string;
  seed: string;
}

/** `semiflow bias`: from the teacher alone, the error that each constant ε, objective and solver converges to. */
export async function bias(flags: BiasFlags): Promise<void> {
  const seed = seedNumber('--seed', flags.seed);
  const teacher = await readTeacher(flags.teacher, flags.arch, flags.lora);
  const { sampleShape } = teacher.model;
  const given = flags.samples === undefined ? undefined : sampleCount('--samples', flags.samples, sizeOf(sampleShape));
  const images = sampleShape.length === 3;
  const device = await openSession(flags);
  begin('integrating over grids');
  const report = await solverBias(device, teacher, {
    samples: given ?? (images ? 64 : 2000),
    seed,
    end: evaluationDefaults(teacher).end,
    onProgress: (grids, total) => detail(`${grids} of ${total}`),
  });
  done();
  printTables([{ heading: heading(report), table: biasTable(report) }]);
  console.log(
    '\nA perfect network trained at a constant ε ends at these errors; annealing ε ends at those of its last value.',
  );
  device.dispose();
}

const heading = ({ samples, seed, distance }: BiasReport) =>
  `RMSE over ${samples} random (t, s), seed ${seed}; the true flow moves these points by ${distance.toPrecision(3)}`;

function biasTable({ rows }: BiasReport): Table {
  const cell = (epsilon: number, objective: string, solver: string) =>
    rows.find((row) => row.epsilon === epsilon && row.objective === objective && row.solver === solver)!.rmse;
  return {
    columns: ['ε', 'EMD, Euler', 'LMD, Euler', 'EMD, Heun', 'LMD, Heun'],
    rows: biasEpsilons.map((epsilon) => [
      epsilon,
      ...['euler', 'heun'].flatMap((solver) => ['emd', 'lmd'].map((objective) => cell(epsilon, objective, solver))),
    ]),
  };
}
