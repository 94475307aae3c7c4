import { basename, dirname, join, resolve } from 'node:path';
import { parse } from 'yaml';
import { checkFit } from '../trainers/batches.js';
import { teacherDefaults, teacherSchema, type TeacherConfig } from '../trainers/config.js';
import { trainTeacher } from '../trainers/runs.js';
import { readTextFile, writeSafetensors } from '../node/files.js';
import { loadDataset } from '../node/data.js';
import { parseDescription, type Description } from '../src/flow/description.js';
import { createNetwork } from '../src/flow/network.js';
import { buildModel } from '../src/models/index.js';
import { drawSamples } from '../src/flow/sampling.js';
import { renderReport } from '../src/report/html.js';
import { panels } from '../src/report/png.js';
import { resolveConfig } from './config.js';
import { teacherKnobs } from './knobs.js';
import { loadModuleOf } from './networks.js';
import { describeNetwork, type NewNetworkFlags } from './new-network.js';
import { picture } from '../trainers/evaluation/pictures.js';
import { planPrinter, printTree } from './print.js';
import { RunFolder } from './run-folder.js';
import { lossPlot } from '../trainers/evaluation/run-report.js';
import { openSession } from './session.js';
import { trainLoop, type TrainingFlags } from './train-loop.js';

export interface TeacherFlags extends TrainingFlags, NewNetworkFlags {
  out: string;
  run?: string;
}

const weightsFile = 'teacher.safetensors';

/** What a run's config.yaml holds besides the recipe. */
interface SavedRun {
  data: string;
  out: string;
  description: unknown;
  recipe: TeacherConfig;
}

/** `semiflow teacher`: trains a rectified flow by flow matching, or goes on with a run. */
export async function trainTeacherCommand(flags: TeacherFlags): Promise<void> {
  const folderBefore = flags.resume ? RunFolder.open(flags.resume, weightsFile) : null;
  const saved = folderBefore ? (parse(folderBefore.configText) as SavedRun) : null;
  const data = await loadDataset(saved?.data ?? flags.data!);
  await loadModuleOf(saved?.description, '.');
  const description = saved
    ? parseDescription(saved.description, folderBefore!.file('config.yaml'))
    : await describeNetwork(flags, data);
  const recipe = saved ? teacherSchema.parse(saved.recipe) : await recipeFor(flags, description);
  const out = saved?.out ?? flags.out;
  if (flags.printConfig) return printTree({ description, recipe });
  console.log(data.summary);

  const network = createNetwork(description, recipe.seed, recipe.checkpointBlocks);
  const note = checkFit(data, network.model, data.name, recipe.labelDropout);
  if (note) console.log(note);
  const device = await openSession(flags);
  const path = flags.run ?? join('runs', basename(out).replace(/\.safetensors$/, ''));
  const folder =
    folderBefore ??
    (await RunFolder.create(path, weightsFile, {
      data: flags.data!.includes('/') ? resolve(flags.data!) : flags.data!,
      out: resolve(out),
      description,
      recipe,
    }));
  const training = await trainTeacher(device, network, data, recipe, planPrinter());
  const draw = async () => {
    const trained = await training.now();
    const points = data.kind === 'points';
    const count = points ? 4000 : Math.max(30, data.classes * 3);
    const items = [];
    for (const steps of [4, 50]) {
      const { x } = await drawSamples(device, trained, { count, seed: 1, steps });
      items.push({ title: `${steps} Euler steps`, picture: picture(trained, x, data.range, data.classes || 10) });
    }
    const png = panels(items).toPng();
    await folder.write('samples.png', png);
    return png;
  };
  const finished = await trainLoop(training, folder, flags, {
    command: 'teacher',
    steps: recipe.steps,
    onSave: async () => void (await draw()),
  });
  if (finished) {
    const png = await draw();
    const { tensors, metadata } = await training.file();
    await writeSafetensors(out, tensors, metadata);
    const losses = await lossPlot(folder.metrics());
    const sections = [
      { heading: 'Samples', images: [{ png }] },
      ...(losses ? [{ heading: 'Training', svgs: [losses] }] : []),
      { heading: 'Configuration', text: folder.configText },
    ];
    await folder.write(
      'report.html',
      renderReport({ title: `A teacher of ${data.name}`, subtitle: dirname(folder.path), sections }),
    );
    console.log(`teacher  ${out}\nreport   ${folder.file('report.html')}`);
  }
  device.dispose();
}

async function recipeFor(flags: TeacherFlags, { architecture }: Description): Promise<TeacherConfig> {
  const file = flags.config ? { name: flags.config, text: await readTextFile(flags.config) } : undefined;
  const { sampleShape, nullClass } = buildModel(architecture);
  return resolveConfig(teacherSchema, teacherDefaults(sampleShape, nullClass), teacherKnobs, flags, file);
}
