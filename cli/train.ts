import { basename } from 'node:path';
import { distillationDefaults, distillationSchema, type DistillationConfig } from '../trainers/config.js';
import {
  canBeKept,
  checkRecipe,
  hasKept,
  keepsVelocity,
  learnsFromData,
  methodNames,
  methodRecipe,
} from '../trainers/methods.js';
import { RunFiles } from '../trainers/run-files.js';
import { distil } from '../trainers/runs.js';
import { folderStore } from '../node/folder.js';
import { areCaptions, captionFile } from './captions.js';
import { loadDataset } from '../node/data.js';
import { loadObjective } from '../node/module.js';
import { shapesOf, type Dataset } from '../src/data/dataset.js';
import { UserError } from '../src/errors.js';
import type { Description } from '../src/flow/description.js';
import { fitNetwork, loadNetwork, type Network } from '../src/flow/network.js';
import type { Device } from '../src/gpu/device.js';
import { buildModel } from '../src/models/index.js';
import { called } from './called.js';
import { parseRecipe, resolveConfig, type RecipeFile } from './config.js';
import { distillationKnobs } from './knobs.js';
import { readMadeDescription, readNetwork, readTeacher } from './networks.js';
import { describeNetwork, type NewNetworkFlags } from './new-network.js';
import type { Evaluation } from '../trainers/evaluation/evaluation.js';
import { finishReport } from './run-report.js';
import { printTree } from './print.js';
import { memoryOf, offerTuning, openSession } from './session.js';
import { drawStudentPicture } from '../trainers/evaluation/pictures.js';
import type { SharedFigures } from '../trainers/evaluation/shared.js';
import { fromFolder, inFull, ofData, placedDescription, type Place } from './places.js';
import { say } from './status.js';
import { readWeights } from '../node/files.js';
import { readAll } from '../src/files/source.js';
import { apart } from '../src/files/store.js';
import { adapterOptions, withAdapters } from '../src/flow/adapter.js';
import { readOrigin, type Origin } from '../src/flow/origin.js';
import type { ClassifierNetwork } from '../src/features/classifier-file.js';
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

export interface TrainFlags extends TrainingFlags, NewNetworkFlags {
  arch?: string;
  /** Adapters folded in. */
  lora?: string[];
  teacher?: string;
  /** A flow map that goes on learning. */
  student?: string;
  method?: string;
  /** Modules of objectives of one's own. */
  objective?: string[];
  out?: string;
  evaluate?: boolean;
  /** Whether the evaluation also takes histograms of very many samples. */
  densities?: boolean;
  /** Whether the next such run may replace it. */
  disposable?: boolean;
}

/** What a run's config.yaml holds besides the recipe: where things come from. */
interface SavedRun {
  teacher?: string;
  /** The flow map that it went on from. */
  student?: string;
  arch?: string;
  /** Adapters folded in. */
  lora?: string[];
  data?: string;
  /** Of a network that has no teacher. */
  description?: Description;
  /** Modules of objectives of one's own. */
  objectives?: string[];
  recipe: DistillationConfig;
}

/** A run that is ready to start or to go on. */
export interface PreparedRun extends SavedRun {
  /** The teacher, or what the network is that learns from data alone. */
  from: Network | Description;
  out: string;
}

/** `semiflow train`: trains a flow map, or goes on with a run. Returns the run's folder. */
export async function train(flags: TrainFlags): Promise<string | null> {
  if (flags.printConfig && !(flags.teacher ?? flags.data ?? flags.resume ?? flags.config)) {
    console.log('# of points in the plane: with --teacher or --data that of yours');
    printTree(recipeOf(flags, undefined, () => distillationDefaults([2], 'velocity')));
    return null;
  }
  const run = flags.resume ? await reopen(flags.resume, flags) : await prepare(flags);
  if (flags.printConfig) {
    printTree(savedRun(run, inFull));
    return null;
  }
  const device = await openSession(flags);
  await offerTuning(device, run.teacher);
  const watch = await watchIf(flags.watch, device, { folder: run.out, runs: [''] });
  const finished = await carryOut(device, run, flags);
  device.dispose();
  await watch?.end();
  return finished && finished.folder;
}

/** How a run is evaluated beside others. */
export interface EvaluationWishes {
  /** What other students of the same teacher were judged by. */
  shared?: SharedFigures;
  /** Whose features judge samples too. */
  classifier?: ClassifierNetwork;
}

/** Trains and evaluates a prepared run; null where it was interrupted. */
export async function carryOut(
  device: Device,
  run: PreparedRun,
  flags: TrainFlags,
  wishes: EvaluationWishes = {},
): Promise<{ folder: string; evaluation: Evaluation | null } | null> {
  const { recipe } = run;
  const { teacher, student, data } = await subjectOf(device, run);
  if (data) say(data.summary);
  const options = {
    ...trainOptions(flags, run.out, savedRun(run, fromFolder(run.out))),
    disposable: flags.disposable,
    memory: memoryOf(device),
  };
  const start = run.student === undefined ? undefined : await readStudent(run.student, recipe);
  const training = await distil({ device, teacher, student, start, data }, recipe, options);
  const files = training.files!;
  const draw = async () => {
    const drawn = await drawStudentPicture(device, files, await training.now(), data);
    if ('sheet' in drawn) await files.logPicture(training.step, 'samples', drawn.sheet);
  };
  const finished = await followTraining(training, flags, options.interruption, { command: 'train', onSave: draw });
  const trained = finished ? await training.now() : null;
  const { origin } = training;
  training.dispose();
  if (!trained) return null;
  const evaluation = await report(device, run, files, { teacher, trained, data, origin }, flags, wishes);
  const picture = await files.store.open('flow-map.png');
  if (picture) await files.logPicture(recipe.steps, 'samples', await readAll(picture));
  return { folder: files.name, evaluation };
}

/** What a run learns from. */
async function subjectOf(device: Device, run: PreparedRun) {
  const { from: given } = run;
  const [network, student] = 'weights' in given ? [given, undefined] : [null, given];
  const spec = await dataOf(device, run);
  const data = spec ? await loadDataset(spec, { range: (student ?? network!.description).dataRange }) : null;
  return { teacher: network && data ? fitNetwork(network, shapesOf(data)) : network, student, data };
}

/** A student at its end, and what it is judged beside. */
interface Trained {
  teacher: Network | null;
  trained: Network;
  data: Dataset | null;
  origin: Origin;
}

async function report(
  device: Device,
  run: PreparedRun,
  files: RunFiles,
  { teacher, trained, data, origin }: Trained,
  flags: TrainFlags,
  { shared, classifier }: EvaluationWishes,
): Promise<Evaluation | null> {
  const { method, seed, steps } = run.recipe;
  const told = Object.entries(trained.model.conditions).find(([, { optional }]) => !optional)?.[0];
  const unwanted = flags.evaluate === false;
  if (told) console.log(`not evaluated: the true flow would have to be told ${told} of each sample`);
  else if (unwanted) console.log(`not evaluated: \`${called} train --resume ${files.name}\` does that`);
  return finishReport(device, files, teacher ?? trained, trained, told ? undefined : run.data, {
    evaluate: !unwanted && !told,
    densities: flags.densities !== false,
    origin,
    making: {
      method,
      seed,
      steps,
      ...(run.teacher && { teacher: nameOf(run.teacher) }),
      ...(data && { data: data.name }),
    },
    classifier,
    // Without a teacher every student leads itself.
    ...(teacher && { shared }),
  });
}

/** How people call a file: without its folders. */
const nameOf = (path: string) => basename(path).replace(/\.safetensors$/, '');

/**
 * Evaluates a run that came to its end, anew; null where it has not.
 * @throws UserError where its weights cannot be read
 */
export async function evaluateAgain(
  device: Device,
  folder: string,
  flags: TrainFlags,
  wishes: EvaluationWishes,
): Promise<Evaluation | null> {
  const store = folderStore(folder);
  const files = await RunFiles.open(device.group.rank ? await apart(store) : store, 'flow-map');
  const file = await readWeights(files.path('student.safetensors')).catch(() => null);
  const origin = file && readOrigin(file.metadata);
  if (!file || !origin || origin.step < origin.steps) return null;
  const run = await reopen(folder);
  const { teacher, data } = await subjectOf(device, run);
  const trained = adapterOptions(file)
    ? (await withAdapters(teacher!, [{ file, scale: 1 }])).network
    : await loadNetwork(file);
  return report(device, run, files, { teacher, trained, data, origin }, flags, wishes);
}

/** Where a run's data are: captions become latents first. */
async function dataOf(device: Device, { teacher, lora, data, recipe }: PreparedRun): Promise<string | undefined> {
  if (!(await areCaptions(teacher, data))) return data;
  return captionFile(device, { teacher: teacher!, lora, data: data!, guidance: recipe.guidance.from });
}

/**
 * A run as flags describe it, all of it checked.
 * @param given a recipe as YAML, in place of the file that flags name
 */
export async function prepare(flags: TrainFlags, given?: RecipeFile): Promise<PreparedRun> {
  const file = given ?? (await configOf(flags));
  const { made, locateMade } = parseRecipe(file);
  const objectives = [...(made.objectives ?? []), ...(flags.objective ?? [])];
  for (const module of objectives) await loadObjective(module);
  const path = flags.teacher ?? made.teacher;
  const arch = flags.arch ?? (flags.teacher ? undefined : made.arch);
  const data = flags.data ?? made.data;
  const student = flags.student ?? made.student;
  const lora = flags.lora ?? (flags.teacher ? undefined : made.lora);
  if (lora && !path) throw new UserError('adapts a teacher: give --teacher', 'lora');
  const described = () => readMadeDescription(made.description, file!.name, locateMade);
  if (student !== undefined && !path)
    throw new UserError('a flow map goes on learning beside its teacher: give --teacher', 'student');
  const from = path
    ? await readTeacher(path, arch, lora)
    : await fresh(flags, data, made.description === undefined ? undefined : described);
  const description = 'weights' in from ? from.description : from;
  const model = buildModel(description.architecture);
  const start = student === undefined ? null : await readNetwork(student);
  // A flow map that has kept no velocity so far does not begin to.
  const able = canBeKept(model, description) && (!start || ('weights' in from && (await hasKept(start, from))));
  const opened = start ? (start.description.jumpRank ?? 0) : undefined;
  const defaultsFor = (keeps: boolean) =>
    distillationDefaults(model.sampleShape, description.prediction, model.nullClass, able && keeps);
  return {
    from,
    recipe: recipeOf(flags, file, defaultsFor, path !== undefined, opened),
    ...(path ? { teacher: path, arch, lora } : { description }),
    ...(student !== undefined && { student }),
    ...(objectives.length && { objectives }),
    data,
    out: flags.out ?? 'runs/flow-map',
  };
}

/**
 * The recipe that a method, a file and flags make of defaults.
 * @param defaultsFor by whether the student keeps its teacher's velocity
 * @param opened the rank of what jumps open in the flow map that goes on learning, where one does
 */
function recipeOf(
  flags: TrainFlags,
  file: RecipeFile | undefined,
  defaultsFor: (keeps: boolean) => DistillationConfig,
  hasTeacher?: boolean,
  opened?: number,
): DistillationConfig {
  const { recipe: given, locate } = parseRecipe(file);
  const stated = given.method;
  if (stated !== undefined && !methodNames.includes(stated as string))
    throw new UserError(
      `${file!.name}${locate(['method'])}: method: ${String(stated)} is none: choose one of ${methodNames.join(', ')}`,
    );
  if (flags.method !== undefined && stated !== undefined && flags.method !== stated)
    throw new UserError(
      `${file!.name} is a recipe of ${String(stated)}, not of ${flags.method}: leave one out`,
      'method',
    );
  const defaults = defaultsFor(true);
  const method = String(flags.method ?? stated ?? defaults.method);
  const led = hasTeacher ?? !learnsFromData(method, defaults);
  const resolved = (defaults: DistillationConfig) =>
    resolveConfig(distillationSchema(), methodRecipe(method, defaults, led, opened), distillationKnobs(), flags, file);
  const kept = resolved(defaults);
  const recipe = keepsVelocity(kept) ? kept : resolved(defaultsFor(false));
  checkRecipe(recipe, led);
  checkOwn(recipe, opened);
  return recipe;
}

/** Refuses what was asked of weights that a student has beyond its teacher, where it would say nothing. */
function checkOwn({ student: { init, loraRank, jumpRank, rates } }: DistillationConfig, opened?: number): void {
  if (opened !== undefined && jumpRank !== opened)
    throw new UserError(
      `the flow map that goes on learning ${opened ? `opens weights of rank ${opened}` : 'opens none'}: leave it out`,
      'student.jumpRank',
    );
  if (loraRank && jumpRank)
    throw new UserError('an adapter opens no weights: leave one of them out', 'student.jumpRank');
  if ((loraRank || init === 'scratch') && (rates.inherited !== 1 || rates.own !== 1))
    throw new UserError(
      `all weights of ${loraRank ? 'an adapter' : 'a student from scratch'} are its own: leave it out`,
      `student.rates.${rates.inherited === 1 ? 'own' : 'inherited'}`,
    );
}

/** What a network is that learns from data alone: as a run's configuration describes it, or as flags and data make it. */
async function fresh(
  flags: TrainFlags,
  data: string | undefined,
  described: (() => Promise<Description>) | undefined,
): Promise<Description> {
  if (!data)
    throw new UserError(
      'train needs --teacher FILE, or --data for a method that learns from data alone (--help names them)',
    );
  return !described || flags.arch || flags.model ? describeNetwork(flags, await loadDataset(data)) : described();
}

/** An interrupted run, as flags given beside `--resume` allow: more steps, other places of the same teacher and data. */
export async function reopen(path: string, flags: TrainFlags = {}): Promise<PreparedRun> {
  const files = await RunFiles.open(folderStore(path), 'flow-map');
  refuseBesideResume(flags, ['out', 'model']);
  for (const module of (await savedObjectives(files)) ?? []) await loadObjective(module);
  const { saved, locate } = await readConfig<SavedRun>(files, distillationSchema());
  const [teacher, arch, data] = [flags.teacher ?? saved.teacher, flags.arch ?? saved.arch, flags.data ?? saved.data];
  const lora = flags.lora ?? saved.lora;
  const student = flags.student ?? saved.student;
  const from = teacher
    ? await readTeacher(teacher, arch, lora)
    : await readMadeDescription(saved.description, files.path(configFile), locate);
  const recipe = resolveConfig(distillationSchema(), saved.recipe, distillationKnobs(), flags, await configOf(flags));
  if (flags.method !== undefined) recipe.method = flags.method as typeof recipe.method;
  return { ...saved, teacher, ...(student !== undefined && { student }), arch, lora, data, from, recipe, out: path };
}

/**
 * A flow map that goes on learning.
 * @throws UserError where it is none, or the recipe starts otherwise
 */
export async function readStudent(path: string, { student }: DistillationConfig): Promise<Network> {
  const network = await readNetwork(path);
  if (network.description.role !== 'flow-map')
    throw new UserError(`${path} is a teacher: what goes on learning is a flow map`, 'student');
  if (student.init === 'scratch')
    throw new UserError(`${path} goes on as it is, it cannot start from scratch: leave --init out`, 'student');
  if (student.loraRank)
    throw new UserError(
      `an adapter would be one of ${path}, not of the teacher that it is merged into: train it whole`,
      'student',
    );
  return network;
}

/** A run's configuration. @param place how it says where things are */
function savedRun(run: PreparedRun, place: Place): SavedRun {
  const { teacher, student, arch, lora, data, description, objectives, recipe } = run;
  return {
    ...(teacher && { teacher: place(teacher) }),
    ...(student && { student: place(student) }),
    ...(arch && { arch: place(arch) }),
    ...(lora && { lora: lora.map(place) }),
    ...(data && { data: ofData(place)(data) }),
    ...(description && { description: placedDescription(description, place) }),
    ...(objectives && { objectives: objectives.map(place) }),
    recipe,
  };
}

/** Modules of the objectives of one's own that a run was made with. */
async function savedObjectives(files: RunFiles): Promise<string[] | undefined> {
  const text = await files.text(configFile);
  return text === null ? undefined : parseRecipe({ name: files.path(configFile), text }).made.objectives;
}
