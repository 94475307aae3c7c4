import { basename, join, resolve } from 'node:path';
import { parse } from 'yaml';
import { classificationDefaults, classificationSchema, type ClassificationConfig } from '../trainers/config.js';
import { trainClassifier } from '../trainers/runs.js';
import { readTextFile, readSafetensors, writeSafetensors } from '../node/files.js';
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
import { classifierSchema, type ClassifierConfig } from '../src/models/classifier.js';
import { sameShape } from '../src/tensor/shape.js';
import { check, parseYaml, resolveConfig } from './config.js';
import { classificationKnobs } from './knobs.js';

import { planPrinter, printTree } from './print.js';
import { RunFolder } from './run-folder.js';
import { openSession } from './session.js';
import { trainLoop, type TrainingFlags } from './train-loop.js';

export interface ClassifierFlags extends TrainingFlags {
  out: string;
  run?: string;
}

const weightsFile = 'classifier.safetensors';

/** What a run's config.yaml holds besides the recipe. */
interface SavedRun {
  data: string;
  out: string;
  architecture: unknown;
  recipe: ClassificationConfig;
}

/** `semiflow classifier`: trains a classifier of images, or goes on with a run, and prints its accuracy on held-out ones. */
export async function trainClassifierCommand(flags: ClassifierFlags): Promise<void> {
  const before = flags.resume ? RunFolder.open(flags.resume, weightsFile) : null;
  const saved = before ? (parse(before.configText) as SavedRun) : null;
  const data = await loadDataset(saved?.data ?? flags.data!, { range: [0, 1] });
  const config = saved ? classifierSchema.parse(saved.architecture) : await architectureFor(flags.arch, data);
  const recipe = saved ? classificationSchema.parse(saved.recipe) : await recipeFor(flags);
  const out = saved?.out ?? flags.out;
  if (flags.printConfig) return printTree({ architecture: config, recipe });
  console.log(data.summary);
  if (!sameShape(config.imageShape, data.shape) || config.classes < data.classes)
    throw new UserError(
      `${data.name} holds ${data.classes} classes of images [${data.shape}], the classifier is for ${config.classes} of [${config.imageShape}]`,
    );

  const network = createClassifier(config, recipe.seed);
  const device = await openSession(flags);
  const folder =
    before ??
    (await RunFolder.create(flags.run ?? join('runs', basename(out).replace(/\.safetensors$/, '')), weightsFile, {
      data: resolve(flags.data!),
      out: resolve(out),
      architecture: config,
      recipe,
    }));
  const training = await trainClassifier(device, network, data, recipe, planPrinter());
  const finished = await trainLoop(training, folder, flags, {
    command: 'classifier',
    steps: recipe.steps,
    onSave: async () => {},
  });
  if (finished) {
    const trained = await training.now();
    const share = await accuracy(device, trained, data);
    const { tensors, metadata } = exportClassifier(trained, { data: data.name, testAccuracy: String(share) });
    await writeSafetensors(out, tensors, metadata);
    console.log(`right on ${(100 * share).toFixed(2)} % of ${data.heldOut.count} held-out images\nclassifier  ${out}`);
  }
  device.dispose();
}

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
  return loadClassifier(await readSafetensors(path), arch ? await readArchitecture(arch) : undefined);
}

async function readArchitecture(path: string): Promise<ClassifierConfig> {
  const { tree, locate } = parseYaml(await readTextFile(path), path);
  return check(classifierSchema, tree, (key) => `${path}${locate(key)}`);
}

async function architectureFor(arch: string | undefined, data: Dataset): Promise<ClassifierConfig> {
  if (arch) return readArchitecture(arch);
  if (data.kind !== 'images') throw new UserError(`${data.name} holds points: a classifier is for images`);
  const [, height, width] = data.shape;
  const halvings = [4, 2, 1].find((by) => height % by === 0 && width % by === 0)!;
  return classifierSchema.parse({
    kind: 'cnn',
    imageShape: data.shape,
    channels: [32, 64, 64],
    pooled: Math.log2(halvings),
    features: 64,
    classes: data.classes,
    mean: 0.5,
    std: 0.5,
  });
}

async function recipeFor(flags: ClassifierFlags): Promise<ClassificationConfig> {
  const file = flags.config ? { name: flags.config, text: await readTextFile(flags.config) } : undefined;
  return resolveConfig(classificationSchema, classificationDefaults, classificationKnobs, flags, file);
}
