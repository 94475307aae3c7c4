import type { Network } from '../../src/flow/network.js';
import type { Sampler } from '../../src/flow/samplers.js';
import { batchFor, Runner } from '../../src/flow/runner.js';
import { drawSamplesBy } from '../../src/flow/sampling.js';
import type { Device } from '../../src/gpu/device.js';
import { checkerboardLaw, histogramKl } from '../../src/metrics/histogram-kl.js';
import { hostStreams, seedFor } from '../../src/tensor/streams.js';
import { SharedFigures } from './shared.js';
import type { EvaluationTable } from './tables.js';
import { counted, stepOf } from './words.js';

/** As many fill fine bins. */
const manySamples = 50_000;

/**
 * How far histograms of very many samples are from the checkerboard's known density.
 * @param samples their number: perfect ones read about 580 / samples, fewer than 50 000 in coarser bins a quarter of it
 */
export async function checkerboardKl(
  device: Device,
  teacher: Network,
  student: Network,
  samples: number,
  {
    shared = new SharedFigures(),
    onProgress = () => {},
  }: { shared?: SharedFigures; onProgress?: (what: string) => void } = {},
): Promise<EvaluationTable> {
  const bins = samples < manySamples ? 24 : 48;
  const law = checkerboardLaw(bins);
  const row = async (name: string, network: Runner, steps: number, sampler?: Sampler) => {
    onProgress(`density, ${samples} samples by ${name}`);
    const seed = seedFor(0, hostStreams.densitySamples);
    const { kl, floor, offSupport } = histogramKl(
      (await drawSamplesBy(network, { count: samples, seed, steps, sampler })).x,
      law,
    );
    return [name, kl, floor, offSupport];
  };
  const runner = (network: Network) => new Runner(device, network, batchFor(network.model.sampleShape, samples));
  const [map, field] = [runner(student), runner(teacher)];
  const rows: (string | number)[][] = [];
  try {
    for (const jumps of [1, 2, 4]) rows.push(await row(counted(jumps, stepOf(student)), map, jumps));
    const reference = () => row('50 Euler steps of the teacher', field, 50, { name: 'euler' });
    rows.push(await shared.once(`density ${samples}`, reference));
  } finally {
    map.dispose();
    field.dispose();
  }
  return {
    heading: `KL from the checkerboard to ${samples} samples in ${bins} × ${bins} aligned bins, beside what perfect samples read`,
    table: { columns: ['samples', 'KL', 'floor', 'share outside the squares'], rows },
    about: [
      'KL: nats from the known density to the histogram; perfect samples, of which there are as few, read the floor',
      'share outside: of samples where the density is 0; perfect samples have none there',
    ],
  };
}
