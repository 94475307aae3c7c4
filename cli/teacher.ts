import { basename, dirname, join, resolve } from 'node:path';
import { teacherDefaults, teacherSchema, type TeacherConfig } from '../trainers/config.js';
import { RunFiles } from '../trainers/run-files.js';
import { trainTeacher } from '../trainers/runs.js';
import { writeSafetensors } from '../node/files.js';
import { folderStore } from '../node/folder.js';
import type { Dataset } from '../src/data/dataset.js';
import { loadDataset } from '../node/data.js';
import { UserError } from '../src/errors.js';
import { parseDescription, type Description } from '../src/flow/description.js';
import { createNetwork } from '../src/flow/network.js';
import { buildModel } from '../src/models/index.js';
import { renderReport } from '../src/report/html.js';
import { parseRecipe, resolveConfig } from './config.js';
import { teacherKnobs } from './knobs.js';
import { loadModuleOf } from './networks.js';
import { describeNetwork, type NewNetworkFlags } from './new-network.js';
import { drawTeacherPictures } from '../trainers/evaluation/pictures.js';
import { checkOutput } from './output.js';
import { printTree } from './print.js';
import { lossPlot } from '../trainers/evaluation/run-report.js';
import { memoryOf, openSession } from './session.js';
import {
  configFile,
  configOf,
  readConfig,
  refuseBesideResume,
  settledData,
  followTraining,
  trainOptions,
  type TrainingFlags,
} from './training-flags.js';

export interface TeacherFlags extends TrainingFlags, NewNetworkFlags {
  out?: string;
  run?: string;
}

/** What a run's config.yaml holds besides the recipe. */
interface SavedRun {
  data: string;
  out: string;
  description: Description;
  recipe: TeacherConfig;
}

/** `semiflow teacher`: trains a rectified flow by flow matching, or goes on with a run. */
export async function trainTeacherCommand(flags: TeacherFlags): Promise<void> {
  const run = flags.resume ? await reopenTeacher(flags.resume, flags) : await prepareTeacher(flags);
  const { dataset, description, recipe, folder, out } = run;
  if (flags.printConfig) return printTree({ description, recipe });
  await checkOutput(out, ['.safetensors']);
  console.log(dataset.summary);

  const network = createNetwork(description, recipe.seed, recipe.checkpointBlocks);
  const options = trainOptions(flags, folder, {
    data: settledData(run.data),
    out: resolve(out),
    description,
    recipe,
  } satisfies SavedRun);
  const device = await openSession(flags);
  const training = await trainTeacher({ device, teacher: network, data: dataset }, recipe, {
    ...options,
    memory: memoryOf(device),
  });
  const files = training.files!;
  const draw = async () => drawTeacherPictures(device, files, await training.now(), dataset.range);
  const finished = await followTraining(training, flags, options.interruption, {
    command: 'teacher',
    onSave: async () => void (await draw()),
  });
  if (finished) {
    const image = await draw();
    const { tensors, metadata } = await training.file();
    await writeSafetensors(out, tensors, metadata);
    const losses = await lossPlot(await files.metrics());
    const sections = [
      { heading: 'Samples', images: [image] },
      ...(losses ? [{ heading: 'Training', svgs: [losses] }] : []),
      { heading: 'Configuration', text: (await files.text(configFile)) ?? '' },
    ];
    await files.write(
      'report.html',
      renderReport({ title: `A teacher of ${dataset.name}`, subtitle: dirname(files.name), sections }),
    );
    console.log(`teacher  ${out}\nreport   ${files.path('report.html')}`);
  }
  training.dispose();
  device.dispose();
}

/** A run that is ready to start or to go on. */
export interface PreparedTeacher extends SavedRun {
  dataset: Dataset;
  folder: string;
}

/** A teacher's run as flags describe it. */
export async function prepareTeacher(flags: TeacherFlags): Promise<PreparedTeacher> {
  const file = await configOf(flags);
  const { made } = parseRecipe(file);
  const data = flags.data ?? made.data;
  if (data === undefined) throw new UserError('teacher needs --data NAME|PATH (or --resume FOLDER)');
  const dataset = await loadDataset(data);
  const out = flags.out ?? 'rf.safetensors';
  // What a run's own configuration describes holds unless flags describe another network.
  const described = made.description !== undefined && !(flags.arch ?? flags.model ?? flags.prediction ?? flags.path);
  if (described) await loadModuleOf(made.description, '.');
  const description = described
    ? parseDescription(made.description, file!.name)
    : await describeNetwork(flags, dataset);
  const { sampleShape, nullClass } = buildModel(description.architecture);
  const defaults = teacherDefaults(sampleShape, nullClass);
  return {
    data,
    dataset,
    description,
    recipe: resolveConfig(teacherSchema, defaults, teacherKnobs, flags, file),
    out,
    folder: flags.run ?? join('runs', basename(out).replace(/\.safetensors$/, '')),
  };
}

/** An interrupted run of a teacher. */
export async function reopenTeacher(folder: string, flags: TeacherFlags): Promise<PreparedTeacher> {
  const files = await RunFiles.open(folderStore(folder), 'teacher');
  refuseBesideResume(flags, ['run', 'arch', 'model', 'prediction', 'path']);
  const saved = await readConfig<SavedRun>(files, teacherSchema);
  await loadModuleOf(saved.description, '.');
  const [data, out] = [flags.data ?? saved.data, flags.out ?? saved.out];
  return {
    data,
    dataset: await loadDataset(data),
    description: parseDescription(saved.description, files.path(configFile)),
    recipe: resolveConfig(teacherSchema, saved.recipe, teacherKnobs, flags, await configOf(flags)),
    out,
    folder,
  };
}
