import { resolve } from 'node:path';
import { checkFit, type SampleSet } from '../../trainers/batches.js';
import { distillationDefaults, distillationSchema, type DistillationConfig } from '../../trainers/config.js';
import { distil } from '../../trainers/runs.js';
import { loadDataset } from '../data/load.js';
import type { Network } from '../flow/network.js';
import { drawSamples } from '../flow/sampling.js';
import type { Device } from '../gpu/device.js';
import { parseYaml, resolveConfig } from './config.js';
import { distillationKnobs } from './knobs.js';
import { readText, readTeacher } from './networks.js';
import { finishReport, type RunPaths } from './run-report.js';
import { RunFolder } from './run-folder.js';
import { planPrinter, printTree } from './print.js';
import { openSession } from './session.js';
import { drawPictures } from './pictures.js';
import { trainLoop, type TrainingFlags } from './train-loop.js';

export interface TrainFlags extends TrainingFlags {
  teacher?: string;
  out?: string;
  evaluate?: boolean;
}

const studentFile = 'student.safetensors';

/** What a run's config.yaml holds besides the recipe: where things come from. */
interface SavedRun {
  teacher: string;
  arch?: string;
  data?: string;
  recipe: DistillationConfig;
}

/** `semiflow train`: distils a teacher into a flow map, or goes on with a run. Returns the run's folder. */
export async function train(flags: TrainFlags): Promise<string | null> {
  const run = flags.resume ? await reopen(flags.resume) : await prepare(flags);
  const { recipe, teacher } = run;
  if (flags.printConfig) {
    printTree(recipe);
    return null;
  }
  const device = await openSession(flags);
  const data = await samplesFor(device, teacher, run.paths.data, recipe);
  checkFit(data, teacher.model.sampleShape, teacher.model.classes, run.paths.data ?? "the teacher's samples");
  const folder = run.folder ?? (await RunFolder.create(run.out, studentFile, savedRun(run)));
  const printer = planPrinter();
  const training = await distil(device, teacher, data, recipe, printer);
  const finished = await trainLoop(training, folder, flags, {
    command: 'train',
    steps: recipe.steps,
    onSave: async () => void (await drawPictures(device, folder, await studentNow(training), teacher)),
  });
  if (!finished) {
    device.close();
    return null;
  }
  await finishReport(device, folder, teacher, await studentNow(training), run.paths, {
    evaluate: flags.evaluate !== false,
  });
  device.close();
  return folder.path;
}

async function studentNow({ network, trainer }: Awaited<ReturnType<typeof distil>>): Promise<Network> {
  return { ...network, arena: await trainer.exported() };
}

interface PreparedRun {
  teacher: Network;
  recipe: DistillationConfig;
  paths: RunPaths;
  out: string;
  folder: RunFolder | null;
}

async function prepare(flags: TrainFlags): Promise<PreparedRun> {
  const teacher = await readTeacher(flags.teacher!, flags.arch);
  const defaults = distillationDefaults(teacher.model.sampleShape, teacher.description.prediction);
  const file = flags.config ? { name: flags.config, text: await readText(flags.config) } : undefined;
  const recipe = resolveConfig(distillationSchema, defaults, distillationKnobs, flags, file);
  const paths = { teacher: flags.teacher!, arch: flags.arch, data: flags.data };
  return { teacher, recipe, paths, out: flags.out ?? 'runs/flow-map', folder: null };
}

async function reopen(path: string): Promise<PreparedRun> {
  const folder = RunFolder.open(path, studentFile);
  const { tree } = parseYaml(folder.configText, folder.file('config.yaml'));
  const saved = tree as unknown as SavedRun;
  const teacher = await readTeacher(saved.teacher, saved.arch);
  const recipe = resolveConfig(distillationSchema, saved.recipe, [], {});
  return { teacher, recipe, paths: saved, out: path, folder };
}

function savedRun({ paths, recipe }: PreparedRun): SavedRun {
  const absolute = (path?: string) => path && resolve(path);
  // A data set may be named rather than a path; names stay as they are.
  const data = paths.data?.includes('/') ? resolve(paths.data) : paths.data;
  return {
    teacher: resolve(paths.teacher),
    ...(paths.arch && { arch: absolute(paths.arch) }),
    ...(data && { data }),
    recipe,
  };
}

/** Data to mix x_t from: the given set, or samples of the teacher itself. */
async function samplesFor(
  device: Device,
  teacher: Network,
  data: string | undefined,
  { pool, seed }: DistillationConfig,
): Promise<SampleSet> {
  if (data) return loadDataset(data, { range: teacher.description.dataRange });
  console.log(`no --data: drawing ${pool.samples} samples of the teacher in ${pool.steps} steps each`);
  const { x, labels } = await drawSamples(device, teacher, {
    count: pool.samples,
    seed: seed + 1000,
    randomLabels: true,
    steps: pool.steps,
    solver: teacher.description.prediction === 'data' ? 'euler' : 'heun',
  });
  return { shape: teacher.model.sampleShape, count: pool.samples, values: x, range: [0, 1], labels };
}
