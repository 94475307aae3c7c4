import { stat } from 'node:fs/promises';
import { folderStore, modelFolderAt } from '../node/folder.js';
import { readWeights } from '../node/files.js';
import { isModule } from '../node/module.js';
import { openSafetensors, type SafetensorsFile, type TensorEntry } from '../src/checkpoint/safetensors.js';
import { isClassifier, loadClassifier, type ClassifierNetwork } from '../src/features/classifier-file.js';
import { adapterOptions } from '../src/flow/adapter.js';
import { metadataKey, type Description } from '../src/flow/description.js';
import { loadNetwork, fitFor, type Network } from '../src/flow/network.js';
import { UserError } from '../src/errors.js';
import { loadComponent, type ModelFolder } from '../src/flow/folder.js';
import { folderClasses } from '../src/models/diffusers/index.js';
import { readMark } from '../trainers/run-files.js';
import { textTable } from '../src/report/table.js';
import { sizeOf } from '../src/tensor/shape.js';
import { evaluationDataset } from './evaluation-data.js';
import { printFit } from './fit.js';
import { readDescription, readFolder, readNetwork, readWeightsOf } from './networks.js';
import { openSession, type DeviceFlags } from './session.js';

/** `semiflow info`: what a file is, or what is missing to know it; with data, how well a teacher fits it. */
export async function info(path: string, flags: DeviceFlags & { arch?: string; data?: string }): Promise<void> {
  const { arch, data } = flags;
  const folder = await modelFolderAt(path);
  if (folder) return describeFolder(path, folder, flags);
  if ((await stat(path).catch(() => null))?.isDirectory()) return describeRun(path);
  const file =
    arch && !isModule(arch) ? await readWeights(path, fitFor(await readDescription(arch))) : await readWeightsOf(path);
  if (data !== undefined) {
    const network = await readNetwork(path, arch);
    describe(file, network);
    if (network.description.role !== 'teacher')
      throw new UserError(`${path} is a flow map: \`eval\` judges it, beside its teacher`, 'data');
    await reportFit(network, data, flags);
  } else if (arch) {
    describe(file, await readNetwork(path, arch));
    const own = file.metadata[metadataKey] !== undefined;
    console.log(
      `\n${arch} fits the file${own ? ', which says itself what it is' : `; bake it in with: semiflow import --arch ${arch} ${path} OUT.safetensors`}`,
    );
  } else if (file.metadata[metadataKey] !== undefined) {
    describe(file, await loadNetwork(file));
  } else if (adapterOptions(file)) {
    describeAdapter(file);
  } else if (isClassifier(file)) {
    describeClassifier(file, await loadClassifier(file));
  } else if (isTrainingState(file)) {
    console.log(
      `${path}: the state of a training run at step ${file.metadata.step}; go on with --resume and its folder`,
    );
  } else {
    reportForeign(file);
  }
}

/** How well data speak for a teacher. */
async function reportFit(network: Network, data: string, flags: DeviceFlags): Promise<void> {
  const dataset = (await evaluationDataset(network, data))!;
  const device = await openSession(flags);
  await printFit(device, network, dataset);
  device.dispose();
}

/** What a folder as others save networks holds: a teacher, or a component of a pipeline. */
async function describeFolder(
  path: string,
  { folder, variant }: { folder: ModelFolder; variant?: string },
  flags: DeviceFlags & { arch?: string; data?: string },
): Promise<void> {
  const { className, known, components, scheduler } = folder;
  if (known && 'component' in known) {
    const { layout, file } = await loadComponent(folder, known.component, variant);
    console.log(`${path}: a component, ${className}
  parameters    ${layout.count} in ${layout.parameters.length} tensors, ${storage(file)}`);
    return;
  }
  const { network, file } = (await readFolder(path, flags.arch))!;
  const read = (name: string, other: string) => name === 'scheduler' || Object.hasOwn(folderClasses, other);
  const others = Object.entries(components).map(
    ([name, other]) => `${name} (${other}${read(name, other) ? '' : ', not read'})`,
  );
  describe(file, network, [
    ['class', `${className}, its path by ${scheduler!.origin}`],
    ...(others.length ? [['pipeline', others.join(', ')] as const] : []),
  ]);
  if (flags.data !== undefined) await reportFit(network, flags.data, flags);
}

const isTrainingState = ({ metadata }: SafetensorsFile) => ['step', 'run', 'checksum'].every((key) => key in metadata);

/** What a run's folder holds and how far it came. */
async function describeRun(path: string): Promise<void> {
  const store = folderStore(path);
  const mark = await readMark(store);
  if (!mark)
    throw new UserError(
      `${path} is a folder without a run or a network in it: give a file, the folder of a run, or one as diffusers saves it`,
    );
  const state = await store.open('state.safetensors');
  const step = state ? (await openSafetensors(state)).metadata.step : '0';
  const weights = (await store.list()).filter((name) => name.endsWith('.safetensors') && name !== 'state.safetensors');
  const method = 'method' in mark.recipe ? ` by ${String(mark.recipe.method)}` : '';
  console.log(`${path}: the training of a ${mark.kind}${method}, saved at step ${step} of ${mark.recipe.steps}
  semiflow      ${mark.semiflow}
  weights       ${weights.join(', ') || 'none yet'}
  made from     ${
    Object.entries(mark.inputs)
      .map(([name, hash]) => `${name} ${hash.slice(0, 16)}…`)
      .join(', ') || 'nothing of its own'
  }`);
}

function describeClassifier(file: SafetensorsFile, { config, layout }: ClassifierNetwork): void {
  const { kind, imageShape, classes, features } = config;
  console.log(`${file.name}: a classifier, whose features judge samples (--features)
  architecture  ${kind}, ${features} features
  parameters    ${layout.count} in ${layout.parameters.length} tensors, ${storage(file)}
  images        ${imageShape.join(' × ')}
  classes       ${classes}`);
  printMetadata(file);
}

function describeAdapter(file: SafetensorsFile): void {
  const { rank, alpha, description } = adapterOptions(file)!;
  const values = [...file.tensors.values()].reduce((sum, { shape }) => sum + sizeOf(shape), 0);
  const adapted = [...file.tensors.keys()].filter((name) => name.endsWith('.lora_A.weight')).length;
  const whole = file.tensors.size - 2 * adapted;
  console.log(`${file.name}: a low-rank adapter that makes a ${description.architecture.kind} teacher a flow map
  rank          ${rank}, alpha ${alpha}, on ${adapted} layers; ${whole} tensors beside them are trained in full
  parameters    ${values}, ${storage(file)}
  fold it in with: semiflow merge --model TEACHER --lora ${file.name} --out FILE`);
}

function describe(
  file: SafetensorsFile,
  { description, model, layout }: Network,
  more: readonly (readonly [string, string])[] = [],
): void {
  const { role, architecture, data, dataRange, ...rest } = description;
  const shape = model.sampleShape.join(' × ');
  console.log(`${file.name}: a ${role === 'teacher' ? 'teacher, v(x, t)' : 'flow map, f(x, t, s)'}`);
  const { kind, module, ...sizes } = architecture;
  const lines: (readonly [string, string])[] = [
    ['architecture', `${kind}, ${inline(sizes)}`],
    ...(module ? [['module', `${module.name}, sha256 ${module.sha256}`] as [string, string]] : []),
    ['parameters', `${layout.count} in ${layout.parameters.length} tensors, ${storage(file)}`],
    ['samples', model.sampleShape.length === 1 ? `points of ${shape} coordinates` : `images of ${shape}`],
    ...told(model),
    ['classes', model.classes ? `${model.classes}${model.nullClass ? ', and none' : ''}` : 'none: not conditional'],
    ['time', time(rest)],
    ['prediction', predictions[rest.prediction]],
    ['path', path(rest.path)],
    ['source', source(rest.source)],
    ...(role === 'flow-map' ? [['sampling', sampling(rest)] as [string, string]] : []),
    [
      'data',
      [
        data ?? 'not named',
        ...(dataRange ? [`values from ${dataRange[0]} (black) to ${dataRange[1]} (white)`] : []),
      ].join(', '),
    ],
    ...more,
  ];
  for (const [name, value] of lines) console.log(`  ${name.padEnd(14)}${value}`);
  printMetadata(file);
}

/** What a network is told beside time and class. */
function told({ conditions }: Network['model']): [string, string][] {
  const listed = Object.entries(conditions).map(
    ([name, { shape, optional }]) => `${name} [${shape.join(', ')}]${optional ? ', which may be left out' : ''}`,
  );
  return listed.length ? [['conditions', listed.join('; ')]] : [];
}

function time({
  time: end,
  timeScale,
  timeShift,
  minimumTime,
}: Pick<Description, 'time' | 'timeScale' | 'timeShift' | 'minimumTime'>): string {
  const parts = [
    end === 'noise-at-1'
      ? 'noise at t = 1, data at 0'
      : "its own runs from noise at 0 to data at 1; semiflow's t is 1 minus that",
  ];
  if (timeScale !== 1) parts.push(`asked at ${timeScale} t`);
  if (timeShift !== undefined) parts.push(`equal steps shifted by ${timeShift}`);
  if (minimumTime > 0) parts.push(`answers from t = ${minimumTime} on`);
  return parts.join('; ');
}

const predictions: Record<Description['prediction'], string> = {
  velocity: 'velocity dx/dt in its own time',
  data: 'the data point; v = (x - x₀) / t',
  noise: 'the noise; v = (z - x) / (1 - t)',
  v: 'v = α z - σ x₀ under VP',
  edm: "EDM's preconditioned network",
};

function path(law: Description['path']): string {
  if (law.kind === 'straight') return 'straight, (1 - t) x₀ + t z';
  if (law.kind === 'vp') {
    const { schedule, steps, betaStart, betaEnd, zeroTerminal } = law;
    const ends = betaStart === undefined && betaEnd === undefined ? '' : `, β from ${betaStart} to ${betaEnd}`;
    return `VP, ${schedule}, ${steps} levels${ends}${zeroTerminal ? ', the last one noise alone' : ''}`;
  }
  return `VE, σ from ${law.sigmaMin} to ${law.sigmaMax}, σ of the data ${law.sigmaData}`;
}

function sampling({
  sampler = 'jump',
  forward,
  guidance,
}: Pick<Description, 'sampler' | 'forward' | 'guidance'>): string {
  const parts = [`by ${sampler}`];
  if (forward) parts.push('also forward, s > t');
  if (guidance)
    parts.push(
      guidance.from === guidance.to ? `guidance ${guidance.from}` : `guidance ${guidance.from} to ${guidance.to}`,
    );
  return parts.join(', ');
}

function source(law: Description['source']): string {
  return law.kind === 'normal' ? 'N(0, I)' : `${law.centers.length} Gaussians of standard deviation ${law.std}`;
}

function reportForeign(file: SafetensorsFile): void {
  const values = [...file.tensors.values()].reduce((sum, { shape }) => sum + sizeOf(shape), 0);
  console.log(
    `${file.name}: ${file.tensors.size} tensors of ${values} values, ${storage(file)}; it does not say what it is\n`,
  );
  console.log(textTable({ columns: ['tensor', 'dtype', 'shape'], rows: summarise(file.tensors) }));
  printMetadata(file);
  console.log(`
missing, if these are a network's weights:
  architecture   the kind of network (mlp, sit, vit, unet or one's own) and its sizes
  time           noise-at-1 or data-at-1: which end of the network's own time is noise
  prediction     velocity or data
  and, where they differ from the defaults: role, source, dataRange, minimumTime, timeScale, data
Say it in a YAML file (docs/teachers.md has it in full, with examples), check it and bake it in:
  semiflow info --arch FILE.yaml ${file.name}
  semiflow import --arch FILE.yaml ${file.name} OUT.safetensors`);
}

/** Tensors of numbered layers in one row each: `blocks.{0…11}.attn.qkv.weight`. */
function summarise(tensors: ReadonlyMap<string, TensorEntry>): string[][] {
  const groups = new Map<string, { names: string[]; numbers: Set<number>; dtype: string; shape: string }>();
  for (const [name, entry] of tensors) {
    const shape = `[${entry.shape.join(', ')}]`;
    const number = /\.(\d+)\./.exec(name);
    const key = `${name.replace(/\.\d+\./, '.#.')} ${entry.dtype} ${shape}`;
    const group = groups.get(key) ?? { names: [], numbers: new Set(), dtype: entry.dtype, shape };
    group.names.push(name);
    if (number) group.numbers.add(Number(number[1]));
    groups.set(key, group);
  }
  return [...groups.values()].map(({ names, numbers, dtype, shape }) => {
    const [name] = names;
    return [names.length === 1 ? name : name.replace(/\.\d+\./, `.{${ranges([...numbers])}}.`), dtype, shape];
  });
}

/** 0, 1, 2, 5 → "0…2, 5". */
function ranges(numbers: number[]): string {
  const sorted = numbers.toSorted((a, b) => a - b);
  const starts = sorted.filter((value, i) => value - 1 !== sorted[i - 1]);
  return starts
    .map((start, i) => {
      const end = sorted[(i + 1 < starts.length ? sorted.indexOf(starts[i + 1]) : sorted.length) - 1];
      return end === start ? `${start}` : `${start}…${end}`;
    })
    .join(', ');
}

function printMetadata({ metadata }: SafetensorsFile): void {
  const others = Object.entries(metadata).filter(([key]) => key !== metadataKey);
  if (!others.length) return;
  console.log('\nmetadata of its own (for people: semiflow reads none of it)');
  for (const [key, value] of others) console.log(`  ${key}: ${value}`);
}

function storage({ tensors }: SafetensorsFile): string {
  const entries = [...tensors.values()];
  const bytes = entries.reduce((sum, entry) => sum + entry.bytes, 0);
  const size = bytes < 2 ** 20 ? `${(bytes / 2 ** 10).toFixed(1)} KiB` : `${(bytes / 2 ** 20).toFixed(1)} MiB`;
  return `${size} of ${[...new Set(entries.map(({ dtype }) => dtype))].join(', ')}`;
}

const inline = (tree: object) =>
  Object.entries(tree)
    .filter(([, value]) => value !== null && value !== undefined)
    .map(([key, value]) => `${key}: ${JSON.stringify(value).replaceAll(',', ', ').replaceAll('"', '')}`)
    .join(', ');
