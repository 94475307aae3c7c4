import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { decodePng } from '../src/data/png.js';
import { loadDataset } from '../node/data.js';
import { fileSource } from '../node/files.js';
import type { Samples } from '../src/data/dataset.js';
import { UserError } from '../src/errors.js';
import { readAll } from '../src/files/source.js';
import { driftOf, type DriftResult } from '../src/experiments/drift.js';
import { renoisingChain, roundTripChain, type ChainResult } from '../src/experiments/editing.js';
import { maskNames, namedMask, type Mask, type MaskName } from '../src/experiments/masks.js';
import {
  driftParadigms,
  editingParadigms,
  roundTripParadigms,
  stepParadigms,
  type Cast,
} from '../src/experiments/paradigms.js';
import { sceneOf, type Scene } from '../src/experiments/scene.js';
import { inpaint, stepsOf, type StepsResult } from '../src/experiments/steps.js';
import { ddim } from '../src/experiments/operators.js';
import { violationMap, type ViolationMap } from '../src/experiments/violation.js';
import { Extractor } from '../src/features/extractor.js';
import type { Network } from '../src/flow/network.js';
import { Runner } from '../src/flow/runner.js';
import { drawSamples } from '../src/flow/sampling.js';
import type { Device } from '../src/gpu/device.js';
import { momentsOf, type Moments } from '../src/metrics/frechet.js';
import { sameShape } from '../src/tensor/shape.js';
import { hostStreams, seedFor } from '../src/tensor/streams.js';
import { seedNumber, wholeNumber } from './arguments.js';
import { readClassifier } from './classifier.js';
import {
  driftSection,
  editingSection,
  pageOf,
  stepsSection,
  violationSection,
  type Section,
} from './experiment-report.js';
import { readNetwork, readTeacher } from './networks.js';
import { PartsFolder } from './parts-folder.js';
import { openSession, type DeviceFlags } from './session.js';
import { shipped } from './shipped.js';

const kinds = ['steps', 'drift', 'editing', 'violation'] as const;
export const experiments = [...kinds, 'all'] as const;

export interface ExperimentFlags extends DeviceFlags {
  teacher?: string;
  arch?: string;
  flowMap?: string;
  consistency?: string;
  ctm?: string;
  meanflow?: string;
  data?: string;
  features?: string;
  featuresArch?: string;
  mask: string;
  images: string;
  seed: string;
  out?: string;
}

/** Images that the pictures show. */
const shown = 4;
/** Euler steps of the teacher that stand for its true flow, and that draw its samples where no data is given. */
const fineSteps = 100;
/** Held-out images that Fréchet distances are taken to. */
const mostReal = 10_000;

/** Everything that the experiments share. */
interface Stage {
  device: Device;
  folder: PartsFolder;
  cast: Cast;
  teacher: Network;
  extractor: Extractor;
  /** Features of real images. */
  real: Moments;
  /** Images with a mask, and the same without. */
  masked: Scene;
  whole: Scene;
  mask: Mask;
  seed: number;
}

/** `semiflow experiment`: how jumps and integration bear few steps, composition and chains of edits. */
export async function experiment(which: (typeof experiments)[number], flags: ExperimentFlags): Promise<void> {
  const files = filesOf(flags);
  const count = wholeNumber('--images', flags.images, { least: 16, most: 100_000, because: 'which would take days' });
  const seed = seedNumber('--seed', flags.seed);
  const teacher = await readTeacher(files.teacher, flags.arch);
  const { sampleShape } = teacher.model;
  if (sampleShape.length !== 3) throw new UserError(`${files.teacher} makes points: the experiments are on images`);
  const mask = await readMask(flags.mask, sampleShape[1], sampleShape[2], seed);
  const maps = await readMaps(files, teacher);
  const classifier = await readClassifier(files.features, flags.featuresArch);
  const out = flags.out ?? join('runs', `experiment-${which}`);
  const folder = await PartsFolder.open(out, {
    ...files,
    arch: flags.arch,
    data: flags.data,
    mask: mask.name,
    count,
    seed,
  });

  const device = await openSession(flags);
  const range = teacher.description.dataRange ?? [-1, 1];
  const extractor = await Extractor.create(device, classifier, sampleShape, range);
  const images = await imagesFor(device, teacher, flags.data, range, count, seed);
  const runner = (network: Network) => new Runner(device, network, Math.min(count, 128));
  const stage: Stage = {
    device,
    folder,
    teacher,
    extractor,
    mask,
    seed,
    cast: {
      teacher: runner(teacher),
      flowMap: runner(maps.flowMap),
      consistency: runner(maps.consistency),
      others: maps.others.map(({ name, network }) => ({ name, map: runner(network) })),
    },
    real: await folder
      .part('real', async () => ({ features: [...(await extractor.see(images.real)).values] }))
      .then(({ features }) => momentsOf(features, classifier.config.features)),
    masked: sceneOf(teacher, images.scene, range, count, seed, mask),
    whole: sceneOf(teacher, images.scene, range, count, seed),
  };
  const wanted = which === 'all' ? kinds : [which];
  const sections: Section[] = [];
  for (const name of wanted)
    sections.push(
      await { steps: runSteps, drift: runDrift, editing: runEditing, violation: runViolation }[name](stage),
    );
  const about = `${count} images of ${flags.data ?? 'the teacher'}, mask ${mask.name}, seed ${seed}`;
  await folder.write('report.html', pageOf(about, sections));
  for (const { print } of sections) console.log(print);
  console.log(`\nreport  ${folder.file('report.html')}`);
  device.dispose();
}

async function runSteps({ cast, masked, mask, extractor, real, folder, seed, teacher }: Stage): Promise<Section> {
  const fine = await folder.part('steps fine', async () => {
    announce('steps', 'the teacher', fineSteps);
    return [...(await inpaint(masked, ddim('', cast.teacher, masked.labels), fineSteps))];
  });
  const results: StepsResult[] = [];
  for (const operator of stepParadigms(cast, masked, seed)) {
    const compute = () =>
      stepsOf(masked, mask, operator, Float32Array.from(fine), extractor, shown, (budget) =>
        announce('steps', operator.name, budget),
      );
    results.push(await folder.part(`steps ${operator.name}`, compute));
  }
  return stepsSection(folder, results, real, masked, teacher, seed, Float32Array.from(fine));
}

async function runDrift({ cast, masked, folder, seed, teacher }: Stage): Promise<Section> {
  const results: DriftResult[] = [];
  for (const operator of driftParadigms(cast, masked)) {
    const compute = () => driftOf(masked, operator, seed, shown, (hops) => announce('drift', operator.name, hops));
    results.push(await folder.part(`drift ${operator.name}`, compute));
  }
  return driftSection(folder, results, masked, teacher, seed);
}

async function runEditing({ cast, whole, extractor, folder, seed, teacher }: Stage): Promise<Section> {
  const edits: ChainResult[] = [];
  for (const operator of editingParadigms(cast, whole)) {
    edits.push(
      await folder.part(`editing ${operator.name}`, async () => {
        announce('editing', operator.name);
        return renoisingChain(whole, teacher, operator, extractor, seed, shown);
      }),
    );
  }
  const trips: ChainResult[] = [];
  for (const operator of roundTripParadigms(cast, whole)) {
    trips.push(
      await folder.part(`round trips ${operator.name}`, async () => {
        announce('round trips', operator.name);
        return roundTripChain(whole, operator, extractor, teacher.description.minimumTime, shown);
      }),
    );
  }
  return editingSection(folder, edits, trips, whole, teacher);
}

async function runViolation({ cast, whole, folder }: Stage): Promise<Section> {
  const maps: { method: string; map: ViolationMap }[] = [];
  const operators = driftParadigms(cast, whole).filter(({ name }) => !name.startsWith('coupled'));
  for (const operator of operators) {
    const compute = () =>
      violationMap(
        whole,
        (x, t, s) => operator.go(x, t, s, 0),
        () => {},
      );
    announce('violation', operator.name);
    maps.push({ method: operator.name, map: await folder.part(`violation ${operator.name}`, compute) });
  }
  return violationSection(folder, maps);
}

function announce(what: string, method: string, steps?: number): void {
  console.log(`${what}: ${method}${steps === undefined ? '' : `, ${steps} step${steps > 1 ? 's' : ''}`}`);
}

/** The files to compare: the shipped ones, or the user's. */
function filesOf(flags: ExperimentFlags) {
  const { ctm, meanflow } = flags;
  if (!flags.teacher) {
    const given = (['flowMap', 'consistency', 'features', 'ctm', 'meanflow'] as const).find((name) => flags[name]);
    if (given) throw new UserError('students are compared with their own teacher: give it with --teacher');
    return {
      teacher: shipped('rf-fashion-mnist.safetensors'),
      flowMap: shipped('flow-map-fashion-mnist.safetensors'),
      consistency: shipped('consistency-fashion-mnist.safetensors'),
      features: shipped('classifier-fashion-mnist.safetensors'),
    };
  }
  const needed = (name: 'flowMap' | 'consistency' | 'features', flag: string, what: string) => {
    const path = flags[name];
    if (!path) throw new UserError(`with --teacher the experiments also need ${flag} FILE, ${what}`);
    return path;
  };
  return {
    teacher: flags.teacher,
    flowMap: needed('flowMap', '--flow-map', 'its flow map'),
    consistency: needed('consistency', '--consistency', 'its consistency student'),
    features: needed('features', '--features', 'a classifier of these images'),
    ctm,
    meanflow,
  };
}

async function readMaps(
  files: ReturnType<typeof filesOf>,
  teacher: Network,
): Promise<{ flowMap: Network; consistency: Network; others: { name: string; network: Network }[] }> {
  const read = async (path: string) => {
    const network = await readNetwork(path);
    if (network.description.role !== 'flow-map')
      throw new UserError(`${path} is a teacher, not a flow map: give a student's file`);
    if (!sameShape(network.model.sampleShape, teacher.model.sampleShape))
      throw new UserError(
        `${path} makes samples of shape [${network.model.sampleShape}], the teacher of [${teacher.model.sampleShape}]`,
      );
    return network;
  };
  const others = [];
  if (files.ctm) others.push({ name: 'CTM', network: await read(files.ctm) });
  if (files.meanflow) others.push({ name: 'MeanFlow', network: await read(files.meanflow) });
  return { flowMap: await read(files.flowMap), consistency: await read(files.consistency), others };
}

/** A named mask, or white where a PNG is white. */
async function readMask(spec: string, height: number, width: number, seed: number): Promise<Mask> {
  if ((maskNames as readonly string[]).includes(spec)) return namedMask(spec as MaskName, height, width, seed);
  if (!existsSync(spec))
    throw new UserError(`--mask ${spec}: choose ${maskNames.join(', ')}, or a PNG that is white where to fill`);
  const picture = decodePng(await readAll(await fileSource(spec)), spec);
  if (picture.height !== height || picture.width !== width)
    throw new UserError(`${spec} is ${picture.height}x${picture.width}, the images are ${height}x${width}`);
  const hidden = Uint8Array.from({ length: height * width }, (_, i) =>
    Number(picture.pixels[i * picture.channels] > 127),
  );
  const area = hidden.reduce((sum, value) => sum + value, 0);
  if (!area || area === hidden.length)
    throw new UserError(`${spec} hides ${area ? 'everything' : 'nothing'}: paint some of it white`);
  return { name: spec, height, width, hidden };
}

/** Images to experiment on and others to judge by: held-out data, or fine samples of the teacher. */
async function imagesFor(
  device: Device,
  teacher: Network,
  given: string | undefined,
  range: [number, number],
  count: number,
  seed: number,
): Promise<{ scene: Samples; real: Float32Array }> {
  if (given) {
    const data = await loadDataset(given, { range });
    if (!sameShape(data.shape, teacher.model.sampleShape))
      throw new UserError(
        `${given} holds samples of shape [${data.shape}], the teacher makes [${teacher.model.sampleShape}]`,
      );
    if (data.heldOut.count < count)
      throw new UserError(`--images ${count}: ${given} holds ${data.heldOut.count} held-out images`);
    const scene = sceneOf(teacher, data.heldOut, range, Math.min(mostReal, data.heldOut.count), seed);
    return { scene: data.heldOut, real: scene.images };
  }
  console.log(`no --data: drawing ${2 * count} samples of the teacher in ${fineSteps} steps each`);
  const { x, labels } = await drawSamples(device, teacher, {
    count: 2 * count,
    seed: seedFor(seed, hostStreams.sceneImages),
    randomLabels: true,
    steps: fineSteps,
  });
  const half = x.length / 2;
  return { scene: { count, values: x.slice(0, half), labels: labels?.slice(0, count) }, real: x.slice(half) };
}
