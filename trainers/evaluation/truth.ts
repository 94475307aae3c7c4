import { exactFlow } from '../../src/data/closed-form.js';
import type { Dataset } from '../../src/data/dataset.js';
import { distributions, type DistributionName } from '../../src/data/distributions.js';
import { shuffledHeldOut } from '../../src/data/held-out.js';
import type { Network } from '../../src/flow/network.js';
import { isPoints } from '../../src/models/model.js';
import { drawSamples } from '../../src/flow/sampling.js';
import type { Device } from '../../src/gpu/device.js';
import { hostStreams, seedFor } from '../../src/tensor/streams.js';
import type { EvaluationOptions, TestSet } from './flow-map.js';

/** Test points and where paths end, by what the teacher is. */
export function evaluationDefaults(teacher: Network): Pick<EvaluationOptions, 'samples' | 'seed' | 'end'> {
  return {
    samples: isPoints(teacher.model.sampleShape) ? 6000 : affordable(teacher, 512, 64),
    seed: 0,
    end: teacher.description.minimumTime > 0 ? 0.05 : 0,
  };
}

/**
 * So many images that judging takes minutes, not hours, on a software adapter too: `most` for a network of a million weights,
 * fewer in proportion beyond, and never less than `least`.
 */
export const affordable = ({ layout }: Network, most: number, least: number): number =>
  Math.min(most, Math.max(least, Math.round((most * 1e6) / layout.count)));

/** Held-out data, in turn where there is less of it than is asked for, or samples of the teacher where there is none. */
export function testPoints(device: Device, teacher: Network, data: Dataset | null): EvaluationOptions['data'] {
  return async (count, seed) => {
    if (!data) {
      const { x, labels } = await drawSamples(device, teacher, {
        count,
        seed: seedFor(seed, hostStreams.testData),
        randomLabels: true,
        steps: 64,
        sampler: { name: 'euler' },
      });
      return { x, labels };
    }
    const { x, labels, count: available, size } = shuffledHeldOut(data);
    const rows = Array.from({ length: count }, (_, i) => i % available);
    const chosen = new Float32Array(count * size);
    rows.forEach((row, i) => chosen.set(x.subarray(row * size, (row + 1) * size), i * size));
    return { x: chosen, labels: labels && Uint32Array.from(rows, (row) => labels[row]) };
  };
}

/** Points whose exact flow takes a moment on the host. */
const pieceRows = 500;
/** Steps of the exact flow from noise to data, after which it errs by 1e-4: a hundredth of what is measured by it. */
const truthSteps = 16;

/** The exact flow of a named distribution that has a closed form, which judges teacher and student alike. */
export function exactTruth(teacher: Network, data: Dataset | null): EvaluationOptions['truth'] {
  const { source } = teacher.description;
  const distribution = data && Object.hasOwn(distributions, data.name) && distributions[data.name as DistributionName];
  if (!distribution || !('velocity' in distribution) || source.kind !== 'normal') return undefined;
  const exact = distribution.velocity;
  return {
    name: `the exact flow of ${data!.name} (its closed form, finely integrated)`,
    flow: async ({ x, t, s }: TestSet) => {
      const reached = new Float32Array(x.length);
      for (let row = 0; row < t.length; row += pieceRows) {
        const end = row + pieceRows;
        reached.set(
          exactFlow(exact, x.subarray(2 * row, 2 * end), t.subarray(row, end), s.subarray(row, end), truthSteps),
          2 * row,
        );
        // Whoever watches gets a turn.
        await new Promise((resolve) => setTimeout(resolve));
      }
      return reached;
    },
  };
}
