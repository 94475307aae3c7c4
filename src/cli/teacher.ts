import { basename, dirname, join, resolve } from 'node:path';
import { parse } from 'yaml';
import { checkFit } from '../../trainers/batches.js';
import { teacherDefaults, teacherSchema, type TeacherConfig } from '../../trainers/config.js';
import { trainTeacher } from '../../trainers/runs.js';
import { writeSafetensors } from '../checkpoint/file.js';
import type { Dataset } from '../data/dataset.js';
import { loadDataset } from '../data/load.js';
import { UserError } from '../errors.js';
import { parseDescription, type Description } from '../flow/description.js';
import { createNetwork, exportNetwork } from '../flow/network.js';
import { drawSamples } from '../flow/sampling.js';
import { renderReport } from '../report/html.js';
import { panels } from '../report/png.js';
import { parseYaml, resolveConfig } from './config.js';
import { teacherKnobs } from './knobs.js';
import { readText } from './networks.js';
import { picture } from './pictures.js';
import { planPrinter, printTree } from './print.js';
import { RunFolder } from './run-folder.js';
import { lossPlot } from './run-report.js';
import { openSession } from './session.js';
import { trainLoop, type TrainingFlags } from './train-loop.js';

export interface TeacherFlags extends TrainingFlags {
  model?: string;
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
  const description = parseDescription(
    saved?.description ?? (await describe(flags, data)),
    flags.arch ?? 'the architecture',
  );
  const recipe = saved ? teacherSchema.parse(saved.recipe) : await recipeFor(flags, data);
  const out = saved?.out ?? flags.out;
  if (flags.printConfig) return printTree({ description, recipe });

  const network = createNetwork(description, recipe.seed, recipe.checkpointBlocks);
  checkFit(data, network.model.sampleShape, network.model.classes, data.name);
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
    const trained = { ...network, arena: await training.trainer.exported() };
    const points = data.kind === 'points';
    const count = points ? 4000 : Math.max(30, data.classes * 3);
    const items = [];
    for (const steps of [4, 50]) {
      const { x } = await drawSamples(device, trained, { count, seed: 1, steps, solver: 'euler' });
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
    const { tensors, metadata } = exportNetwork(network, await training.trainer.exported());
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
  device.close();
}

async function recipeFor(flags: TeacherFlags, data: Dataset): Promise<TeacherConfig> {
  const file = flags.config ? { name: flags.config, text: await readText(flags.config) } : undefined;
  return resolveConfig(teacherSchema, teacherDefaults(data.shape), teacherKnobs, flags, file);
}

/** What the teacher will be: the user's architecture, or the default size of a kind for the data. */
async function describe({ arch, model }: TeacherFlags, data: Dataset): Promise<Description | object> {
  const rest = {
    time: 'noise-at-1',
    prediction: 'velocity',
    data: data.name,
    ...(data.kind === 'images' && { dataRange: data.range }),
  };
  if (arch) return { architecture: parseYaml(await readText(arch), arch).tree, ...rest };
  if (data.kind === 'points') {
    if (model && model !== 'mlp')
      throw new UserError(`${data.name} holds points: --model mlp is for them, not ${model}`);
    return {
      architecture: { kind: 'mlp', dim: data.shape[0], width: 128, depth: 4, activation: 'silu', time: 'features' },
      ...rest,
    };
  }
  const [channels, size] = data.shape;
  const patchSize = size % 4 === 0 ? 4 : 1;
  if (!model || model === 'sit') {
    const sit = {
      inputSize: size,
      patchSize,
      inChannels: channels,
      hiddenSize: 96,
      depth: 4,
      numHeads: 3,
      mlpRatio: 4,
      numClasses: data.classes,
      learnSigma: false,
    };
    return { architecture: { kind: 'sit', ...sit }, ...rest };
  }
  if (model === 'unet') {
    const halvings = [0, 1, 2].filter((level) => size % 2 ** level === 0);
    const unet = {
      imageSize: size,
      inChannels: channels,
      modelChannels: 32,
      numResBlocks: 1,
      channelMult: halvings.map((level) => Math.min(2, level + 1)),
      attentionResolutions: [size / 2 ** (halvings.length - 1)],
      numHeads: 2,
      numClasses: data.classes,
    };
    return { architecture: { kind: 'unet', ...unet }, ...rest };
  }
  throw new UserError(`--model ${model} has no default for images: describe it with --arch, or use sit or unet`);
}
