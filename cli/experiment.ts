import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { loadDataset } from '../node/data.js';
import { fileSource } from '../node/files.js';
import { folderStore } from '../node/folder.js';
import { pictureAt } from '../node/pictures.js';
import type { Dataset } from '../src/data/dataset.js';
import type { Picture } from '../src/data/picture.js';
import type { Sides } from '../src/data/resample.js';
import { decodePng } from '../src/data/png.js';
import { UserError } from '../src/errors.js';
import { experimentNames, type ExperimentName } from '../src/experiments/index.js';
import { checkedMask, maskNames, namedMask, type Mask, type MaskName } from '../src/experiments/masks.js';
import { latentExperiments, runLatentExperiments, type LatentExperimentName } from '../src/experiments/latent.js';
import { runExperiments } from '../src/experiments/run.js';
import { prepared } from '../src/pipelines/preparation.js';
import { readAll } from '../src/files/source.js';
import { apart } from '../src/files/store.js';
import type { Network } from '../src/flow/network.js';
import { sameShape } from '../src/tensor/shape.js';
import { seedNumber, wholeNumber } from './arguments.js';
import { readClassifier } from './classifier.js';
import { agreeOnNetworks, readNetwork, readTeacher } from './networks.js';
import { pipelineOptions, readPipeline, type PipelineFlags } from './generate.js';
import { memoryOf, openSession } from './session.js';
import { begin, done } from './status.js';
import { shipped } from './shipped.js';

export interface ExperimentFlags extends Omit<PipelineFlags, 'pipeline' | 'prompt'> {
  pipeline?: string;
  prompt?: string;
  image?: string[];
  lcmLora?: string;
  tcdLora?: string;
  flowMapLora?: string;
  seeds?: string;
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
  out?: string;
}

/** Options of the experiments on a latent pipeline alone, and on a teacher of images alone. */
const alone = {
  pipeline: ['image', 'prompt', 'negative', 'guidance', 'lcmLora', 'tcdLora', 'flowMapLora', 'seeds', 'vaeTile'],
  teacher: ['teacher', 'arch', 'flowMap', 'consistency', 'ctm', 'meanflow', 'data', 'features', 'featuresArch'],
} as const;

/** Refuses what would be passed over. @throws UserError naming the option */
function refuseOthers(flags: ExperimentFlags): void {
  const [others, why] =
    flags.pipeline === undefined
      ? [alone.pipeline, 'is of experiments on a latent pipeline: give --pipeline, or leave it out']
      : [alone.teacher, 'is of experiments on images, and a pipeline is given: leave one of them out'];
  const given = others.find((name) => flags[name] !== undefined);
  if (given) throw new UserError(why, given);
}

/** Which of the experiments a pipeline is put to. */
function latentNames(which: ExperimentName | 'all'): LatentExperimentName[] {
  const names = Object.keys(latentExperiments) as LatentExperimentName[];
  if (which === 'all') return names;
  const found = names.find((name) => name === which);
  if (found) return [found];
  throw new UserError(`${which} is not made of pipelines: ${names.join(' and ')} are, or all of these`, 'pipeline');
}

/** `semiflow experiment … --pipeline`: the experiments on a latent pipeline and the adapters of its distillations. */
async function latentExperiment(which: ExperimentName | 'all', flags: ExperimentFlags): Promise<void> {
  const names = latentNames(which);
  const { pipeline, weights, prompt, image = [], lora = [] } = flags;
  if (prompt === undefined || !image.length)
    throw new UserError(
      prompt === undefined
        ? 'a pipeline paints to a text: give one'
        : 'a pipeline paints in pictures: give one, or several',
      prompt === undefined ? 'prompt' : 'image',
    );
  const seeds = wholeNumber('--seeds', flags.seeds ?? '4', { least: 1, most: 1000, because: 'which would take days' });
  const read = (adapters: string[]) => readPipeline({ pipeline: pipeline!, weights, lora: [...lora, ...adapters] });
  const teacher = await read([]);
  const other = async (file: string | undefined) => (file === undefined ? undefined : read([file]));
  const pipelines = {
    teacher,
    endpoint: await other(flags.lcmLora),
    trajectory: await other(flags.tcdLora),
    flowMap: await other(flags.flowMapLora),
  };
  const given = pipelineOptions({ ...flags, pipeline: pipeline!, prompt }, teacher);
  const { sides, seed } = given;
  const mask = await maskPicture(flags.mask, sides, seed);
  const pictures = [];
  for (const file of image) pictures.push(prepared(await pictureAt(file), mask, sides));
  const store = folderStore(flags.out ?? join('runs', `experiment-${which}-pipeline`));
  const device = await openSession(flags);
  const { lcmLora, tcdLora, flowMapLora } = flags;
  const results = await runLatentExperiments(
    {
      ...given,
      device,
      pipelines,
      pictures,
      seeds,
      store,
      available: memoryOf(device),
      origin: { pipeline, weights, lora, lcmLora, tcdLora, flowMapLora, image, mask: flags.mask },
      onProgress: begin,
    },
    names,
  );
  done();
  for (const { print } of results) console.log(print);
  console.log(`\nreport  ${join(store.name, 'report.html')}`);
  device.dispose();
}

/** A named mask at those sides, or a picture that is white where to paint. */
async function maskPicture(spec: string, [height, width]: Sides, seed: number): Promise<Picture> {
  if (!(maskNames as readonly string[]).includes(spec)) return pictureAt(spec);
  const { hidden } = namedMask(spec as MaskName, height, width, seed);
  return { height, width, channels: 1, pixels: hidden.map((value) => 255 * value) };
}

/** `semiflow experiment`: how jumps and integration bear few steps, composition and chains of edits. */
export async function experiment(which: ExperimentName | 'all', flags: ExperimentFlags): Promise<void> {
  refuseOthers(flags);
  if (flags.pipeline !== undefined) return latentExperiment(which, flags);
  const files = filesOf(flags);
  const count = wholeNumber('--images', flags.images, { least: 16, most: 100_000, because: 'which would take days' });
  const seed = seedNumber('--seed', flags.seed);
  const teacher = await readTeacher(files.teacher, flags.arch, flags.lora);
  const { sampleShape } = teacher.model;
  if (sampleShape.length !== 3) throw new UserError(`${files.teacher} makes points: the experiments are on images`);
  const mask = await readMask(flags.mask, sampleShape[1], sampleShape[2], seed);
  const maps = await readMaps(files, teacher);
  const classifier = await readClassifier(files.features, flags.featuresArch);
  const data = await dataFor(flags.data, teacher);
  const folder = folderStore(flags.out ?? join('runs', `experiment-${which}`));
  const device = await openSession(flags);
  // Before the first rank writes anything, the others have seen what is there.
  const store = device.group.rank ? await apart(folder) : folder;
  const { flowMap, consistency } = maps;
  await agreeOnNetworks(device.group, { teacher, 'flow map': flowMap, consistency }, { count, seed, mask: mask.name });
  const results = await runExperiments(
    { device, teacher, ...maps, classifier, data },
    {
      names: which === 'all' ? experimentNames : [which],
      count,
      seed,
      mask,
      store,
      origin: { ...files, arch: flags.arch, data: flags.data },
      about: `${count} images of ${flags.data ?? 'the teacher'}, mask ${mask.name}, seed ${seed}`,
      onProgress: begin,
    },
  );
  done();
  for (const { print } of results) console.log(print);
  console.log(`\nreport  ${join(store.name, 'report.html')}`);
  device.dispose();
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
  return checkedMask({ name: spec, height, width, hidden });
}

async function dataFor(given: string | undefined, teacher: Network): Promise<Dataset | null> {
  if (!given) return null;
  const data = await loadDataset(given, { range: teacher.description.dataRange });
  if (!sameShape(data.shape, teacher.model.sampleShape))
    throw new UserError(
      `${given} holds samples of shape [${data.shape}], the teacher makes [${teacher.model.sampleShape}]`,
      'data',
    );
  return data;
}
