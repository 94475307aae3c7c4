import { readTextFile } from '../node/files.js';
import { resolve } from 'node:path';
import { checkFit, type SampleSet } from '../trainers/batches.js';
import { distillationDefaults, distillationSchema, type DistillationConfig } from '../trainers/config.js';
import { checkRecipe, methodRecipe } from '../trainers/methods.js';
import { distil } from '../trainers/runs.js';
import { loadDataset } from '../node/data.js';
import { UserError } from '../src/errors.js';
import { parseDescription, type Description } from '../src/flow/description.js';
import type { Network } from '../src/flow/network.js';
import { drawSamples } from '../src/flow/sampling.js';
import { hostStreams, seedFor } from '../src/tensor/streams.js';
import type { Device } from '../src/gpu/device.js';
import { buildModel } from '../src/models/index.js';
import { parseYaml, resolveConfig } from './config.js';
import { distillationKnobs } from './knobs.js';
import { loadModuleOf, readTeacher } from './networks.js';
import { describeNetwork, type NewNetworkFlags } from './new-network.js';
import type { Evaluation } from '../trainers/evaluation/evaluation.js';
import { finishReport } from './run-report.js';
import { RunFolder } from './run-folder.js';
import { planPrinter, printTree } from './print.js';
import { openSession } from './session.js';
import { drawPictures } from '../trainers/evaluation/pictures.js';
import { trainLoop, type TrainingFlags } from './train-loop.js';

export interface TrainFlags extends TrainingFlags, NewNetworkFlags {
  arch?: string;
  teacher?: string;
  method?: string;
  out?: string;
  evaluate?: boolean;
  /** Whether the evaluation also takes histograms of very many samples. */
  densities?: boolean;
}

const studentFile = 'student.safetensors';

/** What a run's config.yaml holds besides the recipe: where things come from. */
interface SavedRun {
  teacher?: string;
  arch?: string;
  data?: string;
  /** Of a network that has no teacher. */
  description?: Description;
  recipe: DistillationConfig;
}

/** A run that is ready to start or to go on. */
export interface PreparedRun extends SavedRun {
  /** The teacher, or what the network is that learns from data alone. */
  from: Network | Description;
  out: string;
  folder: RunFolder | null;
}

/** `semiflow train`: trains a flow map, or goes on with a run. Returns the run's folder. */
export async function train(flags: TrainFlags): Promise<string | null> {
  const run = flags.resume ? await reopen(flags.resume) : await prepare(flags);
  if (flags.printConfig) {
    printTree(run.recipe);
    return null;
  }
  const device = await openSession(flags);
  const finished = await carryOut(device, run, flags);
  device.dispose();
  return finished && finished.folder.path;
}

/** Trains and evaluates a prepared run; null where it was interrupted. */
export async function carryOut(
  device: Device,
  run: PreparedRun,
  flags: TrainFlags,
): Promise<{ folder: RunFolder; evaluation: Evaluation | null } | null> {
  const { recipe, from } = run;
  const teacher = teacherOf(run);
  const data = await samplesFor(device, run);
  const model = teacher?.model ?? buildModel((from as Description).architecture);
  const note = checkFit(data, model, run.data ?? "the teacher's samples", recipe.labelDropout);
  if (note) console.log(note);
  const folder = run.folder ?? (await RunFolder.create(run.out, studentFile, savedRun(run)));
  const training = await distil(device, from, data, recipe, planPrinter());
  const finished = await trainLoop(training, folder, flags, {
    command: 'train',
    steps: recipe.steps,
    onSave: async () => {
      const student = await training.now();
      await drawPictures(device, folder, student, teacher ?? student);
    },
  });
  const student = finished ? await training.now() : null;
  training.trainer.dispose();
  if (!student) return null;
  const evaluation = await finishReport(device, folder, teacher ?? student, student, run.data, {
    evaluate: flags.evaluate !== false,
    densities: flags.densities !== false,
  });
  return { folder, evaluation };
}

const teacherOf = ({ from }: PreparedRun): Network | null => ('arena' in from ? from : null);

/**
 * A run as flags describe it, all of it checked.
 * @param given a recipe as YAML, in place of the file that flags name
 */
export async function prepare(flags: TrainFlags, given?: { name: string; text: string }): Promise<PreparedRun> {
  const { teacher: path, arch, data } = flags;
  const file = given ?? (flags.config ? { name: flags.config, text: await readTextFile(flags.config) } : undefined);
  const from = path ? await readTeacher(path, arch) : await fresh(flags);
  const description = 'arena' in from ? from.description : from;
  const { sampleShape, nullClass } = buildModel(description.architecture);
  const method = flags.method ?? (file && parseYaml(file.text, file.name).tree.method) ?? 'fmap';
  const defaults = methodRecipe(
    String(method),
    distillationDefaults(sampleShape, description.prediction, nullClass),
    path !== undefined,
  );
  const recipe = resolveConfig(distillationSchema(), defaults, distillationKnobs(), flags, file);
  checkRecipe(recipe, path !== undefined);
  return {
    from,
    recipe,
    ...(path ? { teacher: path, arch } : { description }),
    data,
    out: flags.out ?? 'runs/flow-map',
    folder: null,
  };
}

async function fresh(flags: TrainFlags): Promise<Description> {
  if (!flags.data)
    throw new UserError(
      'train needs --teacher FILE, or --data for a method that learns from data alone (--help names them)',
    );
  return describeNetwork(flags, await loadDataset(flags.data));
}

/** An interrupted run. */
export async function reopen(path: string): Promise<PreparedRun> {
  const folder = RunFolder.open(path, studentFile);
  const name = folder.file('config.yaml');
  const saved = parseYaml(folder.configText, name).tree as unknown as SavedRun;
  await loadModuleOf(saved.description, '.');
  const from = saved.teacher ? await readTeacher(saved.teacher, saved.arch) : parseDescription(saved.description, name);
  const recipe = resolveConfig(distillationSchema(), saved.recipe, [], {});
  return { ...saved, from, recipe, out: path, folder };
}

function savedRun({ teacher, arch, data, description, recipe }: PreparedRun): SavedRun {
  return {
    ...(teacher && { teacher: resolve(teacher) }),
    ...(arch && { arch: resolve(arch) }),
    // A data set may be named rather than a path; names stay as they are.
    ...(data && { data: data.includes('/') ? resolve(data) : data }),
    ...(description && { description }),
    recipe,
  };
}

/** Data to mix x_t from: the given set, or samples of the teacher itself. */
async function samplesFor(device: Device, { from, data, recipe }: PreparedRun): Promise<SampleSet> {
  const range = ('arena' in from ? from.description : from).dataRange;
  if (data || !('arena' in from)) {
    const set = await loadDataset(data!, { range });
    console.log(set.summary);
    return set;
  }
  const { pool, seed, guidance } = recipe;
  console.log(`no --data: drawing ${pool.samples} samples of the teacher in ${pool.steps} steps each`);
  const { x, labels } = await drawSamples(device, from, {
    count: pool.samples,
    seed: seedFor(seed, hostStreams.pool),
    randomLabels: true,
    steps: pool.steps,
    sampler: { name: from.description.prediction === 'data' ? 'euler' : 'heun' },
    guidance: guidance.from === guidance.to ? guidance.from : 1,
  });
  return { shape: from.model.sampleShape, count: pool.samples, values: x, range: [0, 1], labels };
}
