import { writeFileAtomic } from '../node/files.js';
import { loadDataset } from '../node/data.js';
import { assertCheckable, checkSemigroup, semigroupSamples } from '../src/experiments/semigroup.js';
import { heatMap } from '../src/report/heat-map.js';
import { sizeOf } from '../src/tensor/shape.js';
import { numberBetween, sampleCount, seedNumber } from './arguments.js';
import { readNetwork } from './networks.js';
import { checkOutput } from './output.js';
import { openSession, type DeviceFlags } from './session.js';
import { begin, detail, done } from './status.js';

export interface CheckFlags extends DeviceFlags {
  model: string;
  arch?: string;
  /** Adapters folded in. */
  lora?: string[];
  budget: string;
  data?: string;
  samples?: string;
  seed: string;
  out?: string;
}

/**
 * `semiflow check`: the semigroup law as a unit test. Compares f(x, t, s) with f(f(x, t, m), m, s) over a grid of times, and
 * fails the process where the mean violation is over the budget.
 */
export async function checkCommand(flags: CheckFlags): Promise<void> {
  const budget = numberBetween('--budget', flags.budget, 0, 1e6);
  const seed = seedNumber('--seed', flags.seed);
  if (flags.out) await checkOutput(flags.out, ['.svg', '.json'], flags.model);
  const network = await readNetwork(flags.model, flags.arch, flags.lora);
  const { sampleShape } = network.model;
  const samples = sampleCount('--samples', flags.samples ?? `${semigroupSamples(network)}`, sizeOf(sampleShape), 16);
  const data = flags.data ? await loadDataset(flags.data, { range: network.description.dataRange ?? [-1, 1] }) : null;
  assertCheckable(network, samples, data);

  const device = await openSession(flags);
  begin('checking the semigroup law');
  const report = await checkSemigroup(device, network, {
    data,
    samples,
    seed,
    onProgress: (pairs, total) => detail(`${pairs} of ${total} pairs of times`),
  });
  done();
  device.dispose();
  const { worst, mean, cells, operator } = report;
  const passed = mean <= budget;
  if (flags.out) {
    const title = `Semigroup violation over the data's variance: ${mean.toPrecision(3)} in the mean`;
    const squares = cells.map(({ t, s, violation }) => ({ x: t, y: s, value: violation }));
    const content = flags.out.endsWith('.json')
      ? `${JSON.stringify({ model: flags.model, budget, passed, ...report }, null, 2)}\n`
      : await heatMap({ title, xLabel: 't', yLabel: 's', cells: squares, budget });
    await writeFileAtomic(flags.out, content);
  }
  console.log(
    `${flags.model}, ${operator}: semigroup violation ${mean.toPrecision(3)} of the data's variance in the mean, ${worst.violation.toPrecision(3)} at worst (t = ${worst.t}, s = ${worst.s}); ${samples} samples, seed ${seed}${flags.out ? `; ${flags.out}` : ''}`,
  );
  console.log(passed ? `passed: within ${budget}` : `failed: over ${budget}`);
  if (!passed) process.exitCode = 1;
}
