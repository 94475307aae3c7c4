import type { Dataset } from '../data/dataset.js';
import { disjoint, firstOf, shuffledHeldOut } from '../data/held-out.js';
import { UserError } from '../errors.js';
import type { ClassifierNetwork } from '../features/classifier-file.js';
import { Extractor } from '../features/extractor.js';
import type { Store } from '../files/store.js';
import type { Network } from '../flow/network.js';
import { Runner } from '../flow/runner.js';
import { drawSamples } from '../flow/sampling.js';
import type { Device } from '../gpu/device.js';
import { momentsOf } from '../metrics/moments.js';
import { renderReport } from '../report/html.js';
import { sizeOf } from '../tensor/shape.js';
import { hostStreams, seedFor } from '../tensor/streams.js';
import { blackAndWhite, type ExperimentContext, type ExperimentResult } from './experiment.js';
import { experiments, type ExperimentName } from './index.js';
import type { Mask } from './masks.js';
import { Parts } from './parts.js';
import { testImagesOf } from './test-images.js';

/** Euler steps that draw each sample of the teacher where no data is given. */
const sampleSteps = 100;
/** Held-out images that Fréchet distances are taken to, at most. */
const mostReal = 10_000;

/** The networks of an experiment and what judges them. */
export interface ExperimentSubject {
  device: Device;
  teacher: Network;
  flowMap: Network;
  consistency: Network;
  /** Other flow maps by name. */
  others: { name: string; network: Network }[];
  /** Its features judge the images. */
  classifier: ClassifierNetwork;
  /** Held-out images to work on; the teacher's own samples where there are none. */
  data: Dataset | null;
}

/** How experiments are carried out. */
export interface ExperimentOptions {
  names: readonly ExperimentName[];
  /** Images to work on. */
  count: number;
  seed: number;
  mask: Mask;
  /** Where results and finished parts are kept: what is there already is not computed again. */
  store: Store;
  /** Where networks and data come from, so that parts of others are refused. */
  origin: object;
  /** How the page calls the images. */
  about: string;
  onProgress?: (what: string) => void;
}

/**
 * Compares jumps with integration on images. Every experiment leaves its figures, tables and pictures in the store, all of
 * them one page, `report.html`.
 * @throws UserError where the store holds results of other settings, or there are too few images
 */
export async function runExperiments(
  subject: ExperimentSubject,
  { names, count, seed, mask, store, origin, about, onProgress = () => {} }: ExperimentOptions,
): Promise<ExperimentResult[]> {
  const { device, teacher, classifier } = subject;
  const parts = await Parts.open(store, { ...origin, mask: mask.name, count, seed });
  const range = blackAndWhite(teacher);
  const { images, real } = await imagesFor(subject, count, seed, onProgress);
  const extractor = await Extractor.create(device, classifier, teacher.model.sampleShape, range);
  const runner = (network: Network) => new Runner(device, network, Math.min(count, 128));
  const networks = {
    teacher: runner(teacher),
    flowMap: runner(subject.flowMap),
    consistency: runner(subject.consistency),
    others: subject.others.map(({ name, network }) => ({ name, map: runner(network) })),
  };
  const runners = [networks.teacher, networks.flowMap, networks.consistency, ...networks.others.map(({ map }) => map)];
  try {
    const features = await parts.part('real', async () => [...(await extractor.see(real)).values]);
    const dim = classifier.config.features;
    const context: ExperimentContext = {
      networks,
      teacher,
      extractor,
      real: { ...momentsOf(features, dim), count: features.length / dim },
      masked: testImagesOf(teacher, images, range, count, seed, mask),
      whole: testImagesOf(teacher, images, range, count, seed),
      mask,
      seed,
      parts,
      onProgress,
    };
    const results: ExperimentResult[] = [];
    for (const name of names) results.push(await (await experiments[name]()).run(context));
    await parts.write(
      'report.html',
      renderReport({
        title: 'Flow maps, endpoint jumps and integration',
        subtitle: about,
        sections: results.flatMap(({ sections }) => sections),
      }),
    );
    return results;
  } finally {
    for (const taken of [extractor, ...runners]) taken.dispose();
  }
}

/** Images to work on and others to judge by, none of them in both: held-out data, or fine samples of the teacher. */
async function imagesFor(
  { device, teacher, data }: ExperimentSubject,
  count: number,
  seed: number,
  onProgress: (what: string) => void,
) {
  if (data) {
    const held = shuffledHeldOut(data);
    const [test, rest] = disjoint(held, count);
    if (test.count < count)
      throw new UserError(
        `${count} images: ${data.name} holds ${held.count} held-out ones, half of which are kept to judge by; ask for ${Math.floor(held.count / 2)} at most`,
        'images',
      );
    return {
      images: { count, values: test.x, labels: test.labels },
      real: firstOf(rest, Math.min(rest.count, mostReal)).x,
    };
  }
  onProgress(`no data: drawing ${2 * count} samples of the teacher in ${sampleSteps} steps each`);
  const { x, labels } = await drawSamples(device, teacher, {
    count: 2 * count,
    seed: seedFor(seed, hostStreams.sceneImages),
    randomLabels: true,
    steps: sampleSteps,
  });
  const half = count * sizeOf(teacher.model.sampleShape);
  return { images: { count, values: x.slice(0, half), labels: labels?.slice(0, count) }, real: x.slice(half) };
}
