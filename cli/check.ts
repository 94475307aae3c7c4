import { writeFileAtomic } from '../node/files.js';
import { loadDataset } from '../node/data.js';
import type { Samples } from '../src/data/dataset.js';
import { shuffledHeldOut } from '../src/data/held-out.js';
import { UserError } from '../src/errors.js';
import { endpointJump, jump } from '../src/experiments/operators.js';
import { testImagesOf } from '../src/experiments/test-images.js';
import { violationMap } from '../src/experiments/violation.js';
import { batchFor, Runner } from '../src/flow/runner.js';
import { isPoints } from '../src/models/model.js';
import { drawSamples, samplerOf } from '../src/flow/sampling.js';
import { heatMap } from '../src/report/heat-map.js';
import { sameShape, sizeOf } from '../src/tensor/shape.js';
import { hostStreams, seedFor } from '../src/tensor/streams.js';
import { numberBetween, sampleCount, seedNumber } from './arguments.js';
import { readNetwork } from './networks.js';
import { checkOutput } from './output.js';
import { openSession, type DeviceFlags } from './session.js';

export interface CheckFlags extends DeviceFlags {
  model: string;
  arch?: string;
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
  const network = await readNetwork(flags.model, flags.arch);
  if (network.description.role !== 'flow-map')
    throw new UserError(`${flags.model} is a teacher: the semigroup law is checked of flow maps`);
  const { sampleShape } = network.model;
  const points = isPoints(sampleShape);
  const count = sampleCount('--samples', flags.samples ?? (points ? '4096' : '256'), sizeOf(sampleShape), 16);
  const { dataRange = [-1, 1] as [number, number] } = network.description;
  let data: Samples | null = null;
  if (flags.data) {
    const set = await loadDataset(flags.data, { range: dataRange });
    if (!sameShape(set.shape, sampleShape))
      throw new UserError(`${flags.data} holds samples of shape [${set.shape}], the flow map makes [${sampleShape}]`);
    if (set.heldOut.count < count)
      throw new UserError(`--samples ${count}: ${flags.data} holds ${set.heldOut.count} held-out samples`);
    const held = shuffledHeldOut(set);
    data = { count: held.count, values: held.x, labels: held.labels };
  }

  const device = await openSession(flags);
  if (!data) {
    // Without data the map's own samples stand for them.
    const { x, labels } = await drawSamples(device, network, {
      count,
      seed: seedFor(seed, hostStreams.sceneImages),
      randomLabels: true,
      steps: 1,
    });
    data = { count, values: x, labels };
  }
  const test = testImagesOf(network, data, dataRange, count, seed);
  const runner = new Runner(device, network, batchFor(sampleShape, count));
  const sampler = samplerOf(network).name;
  const operator =
    sampler === 'consistency'
      ? endpointJump('endpoint jump', runner, test.labels, () => test.noise)
      : jump('jump', runner, test.labels);
  let told = performance.now();
  const map = await violationMap(
    test,
    (x, t, s) => operator.go(x, t, s, 0),
    (done, total) => {
      if (performance.now() - told < 5000) return;
      told = performance.now();
      console.log(`${done} of ${total} pairs of times`);
    },
  );
  device.dispose();
  const { worst, mean } = map;
  const passed = mean <= budget;
  if (flags.out) {
    const title = `Semigroup violation over the data's variance: ${mean.toPrecision(3)} in the mean`;
    const cells = map.cells.map(({ t, s, violation }) => ({ x: t, y: s, value: violation }));
    const content = flags.out.endsWith('.json')
      ? `${JSON.stringify({ model: flags.model, operator: operator.name, budget, seed, samples: count, passed, ...map }, null, 2)}\n`
      : await heatMap({ title, xLabel: 't', yLabel: 's', cells });
    await writeFileAtomic(flags.out, content);
  }
  console.log(
    `${flags.model}, ${operator.name}: semigroup violation ${mean.toPrecision(3)} of the data's variance in the mean, ${worst.violation.toPrecision(3)} at worst (t = ${worst.t}, s = ${worst.s}); ${count} samples, seed ${seed}${flags.out ? `; ${flags.out}` : ''}`,
  );
  console.log(passed ? `passed: within ${budget}` : `failed: over ${budget}`);
  if (!passed) process.exitCode = 1;
}
