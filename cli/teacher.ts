import { stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { teacherDefaults, teacherSchema, type TeacherConfig } from '../trainers/config.js';
import { readMark, RunFiles } from '../trainers/run-files.js';
import { trainTeacher } from '../trainers/runs.js';
import type { TrainerState } from '../trainers/trainer.js';
import { writeSafetensors } from '../node/files.js';
import { folderStore } from '../node/folder.js';
import { shapesOf, type Dataset } from '../src/data/dataset.js';
import type { Device } from '../src/gpu/device.js';
import { loadDataset } from '../node/data.js';
import { UserError } from '../src/errors.js';
import type { Description } from '../src/flow/description.js';
import { folderConfig } from '../src/flow/folder.js';
import { checkpointed, createNetwork, fitNetwork, parametersByName, type Network } from '../src/flow/network.js';
import { buildModel } from '../src/models/index.js';
import { renderReport } from '../src/report/html.js';
import { areCaptions, captionFile } from './captions.js';
import { parseRecipe, resolveConfig } from './config.js';
import { teacherKnobs } from './knobs.js';
import { readMadeDescription, readTeacher } from './networks.js';
import { checkNetworkFolder, writeNetworkFolder } from './network-folder.js';
import { describeNetwork, folderNetwork, type NewNetworkFlags } from './new-network.js';
import { drawTeacherPictures } from '../trainers/evaluation/pictures.js';
import { checkOutput, isFolder } from './output.js';
import { fromFolder, inFull, ofData, placedDescription, type Place } from './places.js';
import { printTree } from './print.js';
import { lossPlot } from '../trainers/evaluation/run-report.js';
import { memoryOf, offerTuning, openSession } from './session.js';
import { begin, done, say } from './status.js';
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

export interface TeacherFlags extends TrainingFlags, NewNetworkFlags {
  /** Weights to go on from, or the folder of a run whose optimizer goes on as well. */
  init?: string;
  out?: string;
  run?: string;
}

/** What a run's config.yaml holds besides the recipe. */
interface SavedRun {
  /** What it went on from, and what describes that where it does not say so itself; alone the folder of a network to be trained. */
  init?: string;
  arch?: string;
  data: string;
  out: string;
  description: Description;
  recipe: TeacherConfig;
}

/** `semiflow teacher`: trains a rectified flow by flow matching, from nothing or from weights, or goes on with a run. */
export async function trainTeacherCommand(flags: TeacherFlags): Promise<void> {
  const run = flags.resume ? await reopenTeacher(flags.resume, flags) : await prepareTeacher(flags);
  const { description, recipe, folder, out } = run;
  if (flags.printConfig) return printTree(savedRun(run, inFull));
  const scheduler = run.from?.network.scheduler ?? run.scheduler;
  const asFolder = isFolder(out);
  if (asFolder) checkFolderOutput(out, description, scheduler);
  else await checkOutput(out, ['.safetensors'], run.init);
  if (run.dataset) console.log(run.dataset.summary);

  const fresh = createNetwork(description, recipe.seed, recipe.checkpointBlocks);
  if (run.from) fresh.layout.check(parametersByName(run.from.network.layout), run.init!);
  const whole = run.from ? { ...fresh, weights: run.from.network.weights } : fresh;
  const place = fromFolder(folder);
  const options = trainOptions(flags, folder, { ...savedRun(run, place), out: place(out) });
  const device = await openSession(flags);
  const dataset = run.dataset ?? (await latentsFor(device, run));
  // The network of a folder takes pictures of any size and texts of any length that it can.
  const network = scheduler ? fitted(whole, dataset, recipe.checkpointBlocks) : whole;
  await offerTuning(device, undefined);
  const watch = await watchIf(flags.watch, device, { folder, runs: [''] });
  const training = await trainTeacher({ device, teacher: network, data: dataset, init: run.from?.init }, recipe, {
    ...options,
    memory: memoryOf(device),
  });
  const files = training.files!;
  // What is told more than a class cannot be asked alone.
  const told = Object.values(network.model.conditions).some(({ optional }) => !optional);
  const draw = async () => (told ? null : drawTeacherPictures(device, files, await training.now(), dataset));
  const finished = await followTraining(training, flags, options.interruption, {
    command: 'teacher',
    onSave: async () => {
      const drawn = await draw();
      if (drawn && 'sheet' in drawn) await files.logPicture(training.step, 'samples', drawn.sheet);
    },
  });
  if (finished) {
    begin('drawing samples');
    const drawn = await draw();
    if (drawn && 'sheet' in drawn) await files.logPicture(training.step, 'samples', drawn.sheet);
    if (asFolder) await writeNetworkFolder(out, folderConfig(network.description), await training.now(), scheduler);
    else {
      const { tensors, metadata } = training.file();
      await writeSafetensors(out, tensors, metadata);
    }
    const losses = await lossPlot(await files.metrics());
    const sections = [
      ...(drawn
        ? [
            {
              heading: 'Samples',
              text: 'Held-out data beside samples, by one scale.',
              ...('strips' in drawn ? { strips: drawn.strips } : { images: [drawn] }),
            },
          ]
        : []),
      ...(losses ? [{ heading: 'Training', svgs: [losses] }] : []),
      { heading: 'Configuration', code: (await files.text(configFile)) ?? '' },
    ];
    await files.write(
      'report.html',
      renderReport({ title: `A teacher of ${run.dataset?.name ?? run.data}`, subtitle: dirname(files.name), sections }),
    );
    done();
    console.log(`teacher  ${out}\nreport   ${files.path('report.html')}`);
  }
  training.dispose();
  device.dispose();
  await watch?.end();
}

/** @throws UserError where a network cannot be written as that folder, or weights are there already */
function checkFolderOutput(out: string, description: Description, scheduler: PreparedTeacher['scheduler']): void {
  folderConfig(description);
  if (!scheduler)
    throw new UserError(
      `${out} would not say on which path its network was trained: only what --arch FOLDER or --init FOLDER describes is written as one; give a file, such as teacher.safetensors`,
      'out',
    );
  checkNetworkFolder(out);
}

/** Latents and text states of captions. */
async function latentsFor(device: Device, { init, arch, data }: PreparedTeacher): Promise<Dataset> {
  const pipeline = (init ?? arch)!;
  const dataset = await loadDataset(
    await captionFile(device, { teacher: pipeline, untrained: init === undefined, data, guidance: 1 }),
  );
  say(dataset.summary);
  return dataset;
}

/** A network as it takes samples of a set and what is told of them. */
function fitted(network: Network, data: Dataset, checkpointBlocks: boolean): Network {
  const whole = fitNetwork(network, shapesOf(data));
  return checkpointBlocks ? checkpointed(whole) : whole;
}

/** A run's configuration. @param place how it says where things are */
function savedRun({ init, arch, data, description, recipe }: PreparedTeacher, place: Place): Omit<SavedRun, 'out'> {
  return {
    ...(init !== undefined && { init: place(init) }),
    ...(arch !== undefined && { arch: place(arch) }),
    data: ofData(place)(data),
    description: placedDescription(description, place),
    recipe,
  };
}

/** Where the run of a file of weights is: beside it, so that files of one name in two folders have a run each. */
export const runFolderOf = (out: string): string =>
  join(dirname(out), 'runs', basename(out).replace(/\.safetensors$/, ''));

/** A run that is ready to start or to go on. */
export interface PreparedTeacher extends SavedRun {
  /** Null where the network starts from nothing. */
  from: Origin | null;
  /** Null for captions, of which latents are made first. */
  dataset: Dataset | null;
  /** What the folder that describes the network says of its path. */
  scheduler?: Readonly<Record<string, unknown>>;
  folder: string;
}

/** A teacher's run as flags describe it. */
export async function prepareTeacher(flags: TeacherFlags): Promise<PreparedTeacher> {
  const file = await configOf(flags);
  const { made, locateMade } = parseRecipe(file);
  const data = flags.data ?? made.data;
  if (data === undefined) throw new UserError('teacher needs --data NAME|PATH (or --resume FOLDER)');
  const out = flags.out ?? 'rf.safetensors';
  const described = flags.arch ?? flags.model ?? flags.prediction ?? flags.path;
  // What a run's own configuration describes holds unless flags describe another network.
  const init = flags.init ?? (described ? undefined : made.init);
  const arch = flags.arch ?? (flags.init || described ? undefined : made.arch);
  const from = init === undefined ? null : await originOf(init, arch, flags);
  const inFolder = from ? null : await folderNetwork({ ...flags, arch });
  const dataset = (await areCaptions(init ?? arch, data))
    ? null
    : await loadDataset(data, { range: (from?.network ?? inFolder)?.description.dataRange });
  const known = from?.network.description ?? inFolder?.description;
  const description = known
    ? dataset
      ? descriptionFor(known, dataset)
      : known
    : made.description !== undefined && !described
      ? await readMadeDescription(made.description, file!.name, locateMade)
      : await describeNetwork(flags, dataset!);
  const { sampleShape, nullClass } = buildModel(description.architecture);
  const defaults = teacherDefaults(sampleShape, nullClass || !dataset || dataset.negative !== undefined);
  return {
    ...(init !== undefined && { init }),
    ...((init !== undefined || inFolder) && arch !== undefined && { arch }),
    from,
    data,
    dataset,
    description,
    ...(inFolder && { scheduler: inFolder.scheduler }),
    recipe: resolveConfig(teacherSchema, defaults, teacherKnobs, flags, file),
    out,
    folder: flags.run ?? runFolderOf(out.replace(/[/\\]+$/, '')),
  };
}

/** What a teacher starts from. */
interface Origin {
  /** Its weights are those of a file; a run's are in its state. */
  network: Network;
  init: 'weights' | TrainerState;
}

/**
 * The teacher in a file or in a folder as others save one, or in the folder of a run with its optimizer.
 * @throws UserError where there is none, or flags say what the network is to be
 */
async function originOf(path: string, arch: string | undefined, flags: NewNetworkFlags): Promise<Origin> {
  for (const name of ['model', 'prediction', 'path'] as const)
    if (flags[name] !== undefined)
      throw new UserError(`--${name} cannot go with --init: the network is what ${path} says it is`);
  const files = await runAt(path);
  if (!files) {
    return { network: await readTeacher(path, arch), init: 'weights' };
  }
  if (arch !== undefined) throw new UserError(`${path} is a run, which says itself what it is: leave --arch out`);
  const state = await files.state();
  if (!state) throw new UserError(`${path} has saved no step yet, from which training could go on`, 'init');
  const { saved, locate } = await readConfig<SavedRun>(files, teacherSchema);
  const description = await readMadeDescription(saved.description, files.path(configFile), locate);
  return { network: createNetwork(description, 0), init: state };
}

/** The run of a teacher in a folder; null where there is none, such as at a file. */
async function runAt(path: string): Promise<RunFiles | null> {
  if (!(await stat(path).catch(() => null))?.isDirectory()) return null;
  const store = folderStore(path);
  return (await readMark(store)) && RunFiles.open(store, 'teacher');
}

/** A teacher's description once it has learned from other data. */
const descriptionFor = (description: Description, { name, kind, range }: Dataset): Description => ({
  ...description,
  data: name,
  ...(kind === 'images' && { dataRange: description.dataRange ?? range }),
});

/** An interrupted run of a teacher. */
export async function reopenTeacher(folder: string, flags: TeacherFlags): Promise<PreparedTeacher> {
  const files = await RunFiles.open(folderStore(folder), 'teacher');
  refuseBesideResume(flags, ['run', 'arch', 'model', 'prediction', 'path']);
  const { saved, locate } = await readConfig<SavedRun>(files, teacherSchema);
  const description = await readMadeDescription(saved.description, files.path(configFile), locate);
  const [data, out] = [flags.data ?? saved.data, flags.out ?? saved.out];
  const init = flags.init ?? saved.init;
  if (init !== undefined && saved.init === undefined)
    throw new UserError('--init cannot go with --resume of a run that started from nothing');
  const inFolder = init === undefined ? await folderNetwork({ arch: saved.arch }) : null;
  return {
    ...saved,
    ...(init !== undefined && { init }),
    from: init === undefined ? null : await originOf(init, saved.arch, {}),
    data,
    dataset: (await areCaptions(init ?? saved.arch, data))
      ? null
      : await loadDataset(data, { range: init === undefined && !inFolder ? undefined : description.dataRange }),
    description,
    ...(inFolder && { scheduler: inFolder.scheduler }),
    recipe: resolveConfig(teacherSchema, saved.recipe, teacherKnobs, flags, await configOf(flags)),
    out,
    folder,
  };
}
