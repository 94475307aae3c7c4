import { classificationDefaults, classificationSchema, type ClassificationConfig } from '../trainers/config.js';
import { RunFiles } from '../trainers/run-files.js';
import { trainClassifier } from '../trainers/runs.js';
import { readTextFile, readWeights, writeSafetensors } from '../node/files.js';
import { folderStore } from '../node/folder.js';
import { decode, type Dataset } from '../src/data/dataset.js';
import { loadDataset } from '../node/data.js';
import { UserError } from '../src/errors.js';
import {
  createClassifier,
  exportClassifier,
  loadClassifier,
  type ClassifierNetwork,
} from '../src/features/classifier-file.js';
import { Extractor } from '../src/features/extractor.js';
import { accuracy as agreement } from '../src/metrics/accuracy.js';
import type { Device } from '../src/gpu/device.js';
import { classifierSchema, defaultClassifier, type ClassifierConfig } from '../src/models/classifier.js';
import { sameShape } from '../src/tensor/shape.js';
import { check, parseYaml, parseRecipe, resolveConfig, type Locate } from './config.js';
import { classificationKnobs } from './knobs.js';
import { originMetadata } from '../src/flow/origin.js';
import { checkOutput } from './output.js';
import { fromFolder, inFull, ofData, type Place } from './places.js';
import { begin, done } from './status.js';
import { runFolderOf } from './teacher.js';
import { printTree } from './print.js';
import { memoryOf, openSession } from './session.js';
import {
  configFile,
  configOf,
  readConfig,
  refuseBesideResume,
  followTraining,
  trainOptions,
  type TrainingFlags,
} from './training-flags.js';
import { watchIf } from './watch.js';

export interface ClassifierFlags extends TrainingFlags {
  out?: string;
  run?: string;
}

/** What a run's config.yaml holds besides the recipe. */
interface SavedRun {
  data: string;
  out: string;
  architecture: ClassifierConfig;
  recipe: ClassificationConfig;
}

/** `semiflow classifier`: trains a classifier of images, or goes on with a run, and prints its accuracy on held-out ones. */
export async function trainClassifierCommand(flags: ClassifierFlags): Promise<void> {
  const run = flags.resume ? await reopen(flags.resume, flags) : await prepare(flags);
  const { dataset, architecture, recipe, folder, out } = run;
  if (flags.printConfig) return printTree(savedRun(run, inFull));
  await checkOutput(out, ['.safetensors']);
  console.log(dataset.summary);
  if (!sameShape(architecture.imageShape, dataset.shape) || architecture.classes < dataset.classes)
    throw new UserError(
      `${dataset.name} holds ${dataset.classes} classes of images [${dataset.shape}], the classifier is for ${architecture.classes} of [${architecture.imageShape}]`,
    );

  const classifier = createClassifier(architecture, recipe.seed);
  const place = fromFolder(folder);
  const options = trainOptions(flags, folder, { ...savedRun(run, place), out: place(out) });
  const device = await openSession(flags);
  const watch = await watchIf(flags.watch, device, { folder, runs: [''] });
  const training = await trainClassifier({ device, classifier, data: dataset }, recipe, {
    ...options,
    memory: memoryOf(device),
  });
  const finished = await followTraining(training, flags, options.interruption, { command: 'classifier' });
  if (finished) {
    begin('accuracy on held-out images');
    const trained = await training.now();
    const share = await accuracy(device, trained, dataset);
    const { tensors, metadata } = exportClassifier(trained, { data: dataset.name, testAccuracy: String(share) });
    await writeSafetensors(out, tensors, { ...metadata, ...originMetadata(training.origin) });
    done();
    console.log(
      `right on ${(100 * share).toFixed(2)} % of ${dataset.heldOut.count} held-out images\nclassifier  ${out}`,
    );
  }
  training.dispose();
  device.dispose();
  await watch?.end();
}

/** A run's configuration. @param place how it says where things are */
const savedRun = ({ data, architecture, recipe }: PreparedClassifier, place: Place): Omit<SavedRun, 'out'> => ({
  data: ofData(place)(data),
  architecture,
  recipe,
});

interface PreparedClassifier extends SavedRun {
  dataset: Dataset;
  folder: string;
}

async function prepare(flags: ClassifierFlags): Promise<PreparedClassifier> {
  const file = await configOf(flags);
  const { made, locateMade } = parseRecipe(file);
  const data = flags.data ?? made.data;
  if (data === undefined) throw new UserError('classifier needs --data PATH (or --resume FOLDER)');
  const dataset = await loadDataset(data, { range: [0, 1] });
  const out = flags.out ?? 'classifier.safetensors';
  const kept = flags.arch === undefined && made.architecture !== undefined;
  return {
    data,
    dataset,
    architecture: kept
      ? readMade(made.architecture, file!.name, locateMade)
      : await architectureFor(flags.arch, dataset),
    recipe: resolveConfig(classificationSchema, classificationDefaults, classificationKnobs, flags, file),
    out,
    folder: flags.run ?? runFolderOf(out),
  };
}

async function reopen(folder: string, flags: ClassifierFlags): Promise<PreparedClassifier> {
  const files = await RunFiles.open(folderStore(folder), 'classifier');
  refuseBesideResume(flags, ['run', 'arch']);
  const { saved, locate } = await readConfig<SavedRun>(files, classificationSchema);
  const [data, out] = [flags.data ?? saved.data, flags.out ?? saved.out];
  return {
    data,
    dataset: await loadDataset(data, { range: [0, 1] }),
    architecture: readMade(saved.architecture, files.path(configFile), locate),
    recipe: resolveConfig(classificationSchema, saved.recipe, classificationKnobs, flags, await configOf(flags)),
    out,
    folder,
  };
}

/** What a classifier is, as a run's configuration has it. */
const readMade = (architecture: unknown, file: string, locate: Locate): ClassifierConfig =>
  check(classifierSchema, architecture, (key, ofName) => `${file}${locate(['architecture', ...key], ofName)}`);

/** Share of held-out images that get their own label. */
export async function accuracy(device: Device, network: ClassifierNetwork, data: Dataset): Promise<number> {
  const { values, labels } = data.heldOut;
  const extractor = await Extractor.create(device, network, data.shape, data.range);
  const { classes } = await extractor.see(decode(values, data.range));
  extractor.dispose();
  return agreement(classes, labels!);
}

/** A classifier's file; `arch` is the YAML that describes it where it does not do so itself. */
export async function readClassifier(path: string, arch?: string): Promise<ClassifierNetwork> {
  return loadClassifier(await readWeights(path), arch ? await readArchitecture(arch) : undefined);
}

async function readArchitecture(path: string): Promise<ClassifierConfig> {
  const { tree, locate } = parseYaml(await readTextFile(path), path);
  return check(classifierSchema, tree, (key, ofName) => `${path}${locate(key, ofName)}`);
}

async function architectureFor(arch: string | undefined, data: Dataset): Promise<ClassifierConfig> {
  if (arch) return readArchitecture(arch);
  if (data.kind !== 'images') throw new UserError(`${data.name} holds points: a classifier is for images`);
  return defaultClassifier(data);
}
