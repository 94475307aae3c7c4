import { stat } from 'node:fs/promises';
import { folderStore, modelFolderAt } from '../node/folder.js';
import { adapterAt } from '../node/adapter.js';
import { readWeights } from '../node/files.js';
import { isModule } from '../node/module.js';
import { isLora, openLora, withLoras, type AppliedLora } from '../src/checkpoint/lora.js';
import { openSafetensors, type SafetensorsFile } from '../src/checkpoint/safetensors.js';
import { isClassifier, loadClassifier, type ClassifierNetwork } from '../src/features/classifier-file.js';
import { adapterOptions } from '../src/flow/adapter.js';
import { metadataKey } from '../src/flow/description.js';
import { originKey, originSummary, readOrigin } from '../src/flow/origin.js';
import { loadNetwork, fitFor, type Network } from '../src/flow/network.js';
import { UserError } from '../src/errors.js';
import { loadComponent, type ModelFolder } from '../src/flow/folder.js';
import { missingSummary, networkSummary, storageSummary, tensorSummary } from '../src/flow/summary.js';
import { folderClasses } from '../src/models/diffusers/index.js';
import type { DistillationConfig } from '../trainers/config.js';
import { nounOf } from '../trainers/evaluation/words.js';
import { objectives } from '../trainers/objectives/index.js';
import { readMark } from '../trainers/run-files.js';
import { textTable } from '../src/report/table.js';
import { sizeOf } from '../src/tensor/shape.js';
import { evaluationDataset } from './evaluation-data.js';
import { printFit } from './fit.js';
import { adapted, readDescription, readFolder, readNetwork, readWeightsOf } from './networks.js';
import { openSession, type DeviceFlags } from './session.js';

export interface InfoFlags extends DeviceFlags {
  arch?: string;
  /** Adapters folded in. */
  lora?: string[];
  data?: string;
}

/** `semiflow info`: what a file is, or what is missing to know it; with data, how well a teacher fits it. */
export async function info(path: string, flags: InfoFlags): Promise<void> {
  const { arch, data, lora } = flags;
  const folder = await modelFolderAt(path);
  if (folder) return describeFolder(path, folder, flags);
  if ((await stat(path).catch(() => null))?.isDirectory()) return describeRun(path);
  const file =
    arch && !isModule(arch) ? await readWeights(path, fitFor(await readDescription(arch))) : await readWeightsOf(path);
  if (data !== undefined) {
    const network = await readNetwork(path, arch, lora);
    describe(file, network);
    if (network.description.role !== 'teacher')
      throw new UserError(`${path} is a flow map: \`eval\` judges it, beside its teacher`, 'data');
    await reportFit(network, data, flags);
  } else if (arch) {
    describe(file, await readNetwork(path, arch, lora));
    const own = file.metadata[metadataKey] !== undefined;
    console.log(
      `\n${arch} fits the file${own ? ', which says itself what it is' : `; bake it in with: semiflow import --arch ${arch} ${path} OUT.safetensors`}`,
    );
  } else if (file.metadata[metadataKey] !== undefined) {
    describe(file, await adapted(await loadNetwork(file), lora));
  } else if (adapterOptions(file)) {
    describeAdapter(file);
  } else if (isLora(file)) {
    await describeLora(path);
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
  flags: InfoFlags,
): Promise<void> {
  const { className, known, components, scheduler } = folder;
  if (known && 'component' in known) {
    const { parts, layout, weights, file } = await loadComponent(folder, known.component, variant);
    if (flags.lora && !className.startsWith('CLIPText'))
      throw new UserError(`adapters are for networks and text encoders, and ${path} is a ${className}`, 'lora');
    const part = /text_encoder_2\/?$/.test(folder.files.name) ? 'second text encoder' : 'text encoder';
    const applied = await Promise.all((flags.lora ?? []).map(openedLora));
    for (const note of withLoras(weights, layout.parameters, applied, part).notes) console.log(note);
    console.log(`${path}: a component, ${className}
  parameters    ${layout.count} in ${layout.parameters.length} tensors, ${storageSummary(file)}`);
    for (const [name, fact] of Object.entries(parts.facts ?? {})) console.log(`  ${name.padEnd(14)}${fact}`);
    return;
  }
  const { network: whole, file } = (await readFolder(path, flags.arch))!;
  const network = await adapted(whole, flags.lora);
  const read = (name: string, other: string) =>
    ['scheduler', 'tokenizer'].includes(name) || Object.hasOwn(folderClasses, other);
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
  semiflow      ${mark.semiflow}${besideOf(mark.recipe)}
  weights       ${weights.join(', ') || 'none yet'}
  made from     ${
    Object.entries(mark.inputs)
      .map(([name, hash]) => `${name} ${hash.slice(0, 16)}…`)
      .join(', ') || 'nothing of its own'
  }`);
}

/** The line on a network that learns beside what is trained, where a recipe has one. */
function besideOf(recipe: object): string {
  const { lambda, distribution } = recipe as Partial<DistillationConfig>;
  if (!lambda || !distribution || !objectives().some(({ name, fake }) => fake && lambda[name] > 0)) return '';
  const { rank, rate, updates, guidance } = distribution;
  const what = rank ? `an adapter of rank ${rank} of its teacher` : 'a copy of its teacher';
  return `
  beside it     the fake, ${what} that learns its samples at rate ${rate}, ${updates} to 1; compared at ${guidance} times the guidance`;
}

function describeClassifier(file: SafetensorsFile, { config, layout }: ClassifierNetwork): void {
  const { kind, imageShape, classes, features } = config;
  console.log(`${file.name}: a classifier, whose features judge samples (--features)
  architecture  ${kind}, ${features} features
  parameters    ${layout.count} in ${layout.parameters.length} tensors, ${storageSummary(file)}
  images        ${imageShape.join(' × ')}
  classes       ${classes}`);
  printOrigin(file);
  printMetadata(file);
}

function describeAdapter(file: SafetensorsFile): void {
  const { rank, alpha, description } = adapterOptions(file)!;
  const values = [...file.tensors.values()].reduce((sum, { shape }) => sum + sizeOf(shape), 0);
  const adapted = [...file.tensors.keys()].filter((name) => name.endsWith('.lora_A.weight')).length;
  const whole = file.tensors.size - 2 * adapted;
  console.log(`${file.name}: a low-rank adapter that makes a ${description.architecture.kind} teacher a flow map
  rank          ${rank}, alpha ${alpha}, on ${adapted} layers; ${whole} tensors beside them are trained in full
  parameters    ${values}, ${storageSummary(file)}
  fold it in with: semiflow merge --model TEACHER --lora ${file.name} --out FILE`);
  printOrigin(file);
}

/** An adapter of others, from `FILE` or `FILE:scale`. */
async function openedLora(text: string): Promise<AppliedLora> {
  const { file, scale, options } = await adapterAt(text);
  return { lora: await openLora(file, options), scale };
}

async function describeLora(path: string): Promise<void> {
  const { file, modules } = (await openedLora(path)).lora;
  const some = (values: readonly (string | number)[]) => [...new Set(values)].slice(0, 8).join(', ');
  const values = [...file.tensors.values()].reduce((sum, { shape }) => sum + sizeOf(shape), 0);
  console.log(`${file.name}: a low-rank adapter
  products      ${modules.length}, of the ${some(modules.map(({ part }) => part ?? 'network that it does not name'))}
  rank          ${some(modules.map(({ rank }) => rank))}, scale ${some(modules.map(({ scale }) => Number(scale.toPrecision(6))))}
  parameters    ${values}, ${storageSummary(file)}
  fold it in by --lora ${file.name}, wherever a network is read, or with: semiflow merge --model NETWORK --lora ${file.name} --out FILE`);
}

function describe(file: SafetensorsFile, network: Network, more: readonly (readonly [string, string])[] = []): void {
  console.log(
    `${file.name}: a ${network.description.role === 'teacher' ? 'teacher, v(x, t)' : `${nounOf(network)}, f(x, t, s)`}`,
  );
  const lines = [...networkSummary(file, network), ...more];
  for (const [name, value] of lines) console.log(`  ${name.padEnd(14)}${value}`);
  printOrigin(file);
  printMetadata(file);
}

/** How weights came to be, where they were trained here. */
function printOrigin({ metadata }: SafetensorsFile): void {
  const origin = readOrigin(metadata);
  for (const [name, value] of origin ? originSummary(origin) : []) console.log(`  ${name.padEnd(14)}${value}`);
}

function reportForeign(file: SafetensorsFile): void {
  const values = [...file.tensors.values()].reduce((sum, { shape }) => sum + sizeOf(shape), 0);
  console.log(
    `${file.name}: ${file.tensors.size} tensors of ${values} values, ${storageSummary(file)}; it does not say what it is\n`,
  );
  console.log(textTable({ columns: ['tensor', 'dtype', 'shape'], rows: tensorSummary(file.tensors) }));
  printMetadata(file);
  console.log(`
missing, if these are a network's weights:
${missingSummary.map(([key, what]) => `  ${key.padEnd(15)}${what}`).join('\n')}
  and, where they differ from the defaults: role, source, dataRange, minimumTime, timeScale, data
Say it in a YAML file (docs/teachers.md has it in full, with examples), check it and bake it in:
  semiflow info --arch FILE.yaml ${file.name}
  semiflow import --arch FILE.yaml ${file.name} OUT.safetensors`);
}

function printMetadata({ metadata }: SafetensorsFile): void {
  const others = Object.entries(metadata).filter(([key]) => key !== metadataKey && key !== originKey);
  if (!others.length) return;
  console.log('\nmetadata of its own (for people: semiflow reads none of it)');
  for (const [key, value] of others) console.log(`  ${key}: ${value}`);
}
