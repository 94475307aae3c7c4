import { loadDataset } from '../node/data.js';
import { readTextFile } from '../node/files.js';
import { folderStore } from '../node/folder.js';
import { decode, type Dataset } from '../src/data/dataset.js';
import { DivergenceError, UserError } from '../src/errors.js';
import type { Device } from '../src/gpu/device.js';
import { autoencoderKl } from '../src/models/diffusers/autoencoder-kl.js';
import { ParameterLayout } from '../src/nn/parameters.js';
import { decodeLatents, encodePictures } from '../src/pipelines/coder.js';
import { autoencodingDefaults, autoencodingSchema, type AutoencodingConfig } from '../trainers/config.js';
import { RunFiles } from '../trainers/run-files.js';
import { trainAutoencoder, type AutoencoderNetwork } from '../trainers/runs.js';
import { check, parseRecipe, parseYaml, resolveConfig } from './config.js';
import { autoencodingKnobs } from './knobs.js';
import { checkNetworkFolder, writeNetworkFolder } from './network-folder.js';
import { isFolder } from './output.js';
import { fromFolder, inFull, ofData, type Place } from './places.js';
import { printTree } from './print.js';
import { memoryOf, openSession } from './session.js';
import { runFolderOf } from './teacher.js';
import {
  configOf,
  followTraining,
  readConfig,
  refuseBesideResume,
  trainOptions,
  type TrainingFlags,
} from './training-flags.js';

export interface VaeFlags extends TrainingFlags {
  out?: string;
  run?: string;
}

/** What a run's config.yaml holds besides the recipe. */
interface SavedRun {
  data: string;
  out: string;
  /** Options of diffusers' AutoencoderKL. */
  architecture: Record<string, unknown>;
  recipe: AutoencodingConfig;
}

interface PreparedVae extends SavedRun {
  dataset: Dataset;
  folder: string;
}

/** `semiflow vae`: trains an autoencoder of pictures, and writes it as diffusers saves one. */
export async function trainVaeCommand(flags: VaeFlags): Promise<void> {
  const run = flags.resume ? await reopen(flags.resume, flags) : await prepare(flags);
  const { dataset, architecture, recipe, folder, out } = run;
  if (flags.printConfig) return printTree(savedRun(run, inFull));
  if (!isFolder(out)) throw new UserError(`${out}: an autoencoder is a folder: put a slash at its end`, 'out');
  checkNetworkFolder(out);
  console.log(dataset.summary);
  const vae = built(architecture, recipe.seed);
  const place = fromFolder(folder);
  const options = trainOptions(flags, folder, { ...savedRun(run, place), out: place(out) });
  const device = await openSession(flags);
  const training = await trainAutoencoder({ device, vae, data: dataset }, recipe, {
    ...options,
    memory: memoryOf(device),
  });
  const finished = await followTraining(training, flags, options.interruption, { command: 'vae' });
  if (finished) {
    const trained = await training.now();
    const { error, spread } = await judged(device, trained, dataset);
    if (!(spread > 0))
      throw new DivergenceError(
        `latents of ${dataset.name} do not differ: the encoder has died, train at a lower --rate`,
      );
    // So that networks over its latents see a variance of 1.
    const config = { _class_name: 'AutoencoderKL', ...architecture, scaling_factor: Number((1 / spread).toFixed(5)) };
    await writeNetworkFolder(out, config, trained);
    console.log(
      `root mean squared error of ${dataset.heldOut.count} held-out pictures ${error.toFixed(4)} of values from -1 to 1; latents deviate by ${spread.toFixed(3)}, so scaling_factor is ${config.scaling_factor}\nautoencoder  ${out}`,
    );
  }
  training.dispose();
  device.dispose();
}

/** A run's configuration. @param place how it says where things are */
const savedRun = ({ data, architecture, recipe }: PreparedVae, place: Place): Omit<SavedRun, 'out'> => ({
  data: ofData(place)(data),
  architecture,
  recipe,
});

/** An autoencoder with weights by their initialisers, at the scale of its own latents. */
function built(architecture: Record<string, unknown>, seed: number): AutoencoderNetwork {
  const parts = autoencoderKl.build(checked({ ...architecture, scaling_factor: 1 }, 'architecture'));
  const layout = new ParameterLayout(parts.parameters);
  return { parts, layout, weights: layout.drawn(seed) };
}

/** Held-out pictures decoded again, at most 256 of them, and the deviation of their latents. */
async function judged(
  device: Device,
  vae: AutoencoderNetwork,
  { heldOut, shape, range }: Dataset,
): Promise<{ error: number; spread: number }> {
  const count = Math.min(heldOut.count, 256);
  const size = shape.reduce((product, extent) => product * extent, 1);
  const pictures = decode(heldOut.values.subarray(0, count * size), range);
  const sides = [shape[1] / vae.parts.factor, shape[2] / vae.parts.factor] as const;
  const { mean, deviation } = await encodePictures(device, vae, pictures, sides);
  const again = await decodeLatents(device, vae, mean, sides);
  const centre = mean.reduce((sum, value) => sum + value, 0) / mean.length;
  const variance =
    mean.reduce((sum, value, i) => sum + (value - centre) ** 2 + (deviation?.[i] ?? 0) ** 2, 0) / mean.length;
  const error = Math.sqrt(again.reduce((sum, value, i) => sum + (value - pictures[i]) ** 2, 0) / again.length);
  return { error, spread: Math.sqrt(variance) };
}

async function prepare(flags: VaeFlags): Promise<PreparedVae> {
  const file = await configOf(flags);
  const { made } = parseRecipe(file);
  const data = flags.data ?? made.data;
  if (data === undefined) throw new UserError('vae needs --data PATH (or --resume FOLDER)');
  const dataset = await loadDataset(data, { range: [-1, 1] });
  if (dataset.kind !== 'images') throw new UserError(`${dataset.name} holds points: an autoencoder is for pictures`);
  const out = flags.out ?? 'vae/';
  return {
    data,
    dataset,
    architecture: await architectureFor(flags.arch, made.architecture, dataset),
    recipe: resolveConfig(autoencodingSchema, autoencodingDefaults, autoencodingKnobs, flags, file),
    out,
    folder: flags.run ?? runFolderOf(out.replace(/[/\\]+$/, '')),
  };
}

async function reopen(folder: string, flags: VaeFlags): Promise<PreparedVae> {
  const files = await RunFiles.open(folderStore(folder), 'autoencoder');
  refuseBesideResume(flags, ['run', 'arch']);
  const { saved } = await readConfig<SavedRun>(files, autoencodingSchema);
  const [data, out] = [flags.data ?? saved.data, flags.out ?? saved.out];
  return {
    data,
    out,
    dataset: await loadDataset(data, { range: [-1, 1] }),
    architecture: saved.architecture,
    recipe: resolveConfig(autoencodingSchema, saved.recipe, autoencodingKnobs, flags, await configOf(flags)),
    folder,
  };
}

/** A small one for the pictures, which makes sides of 8 or more of them. */
async function architectureFor(
  arch: string | undefined,
  made: unknown,
  { shape: [channels, height, width] }: Dataset,
): Promise<Record<string, unknown>> {
  if (arch) {
    const { tree } = parseYaml(await readTextFile(arch), arch);
    checked(tree, arch);
    return tree as Record<string, unknown>;
  }
  if (made !== undefined) return made as Record<string, unknown>;
  let levels = 1;
  while (levels < 4 && [height, width].every((side) => side % 2 ** levels === 0 && side / 2 ** levels >= 8)) levels++;
  const widths = [32, 64, 64, 128].slice(0, levels);
  return {
    in_channels: channels,
    out_channels: channels,
    block_out_channels: widths,
    down_block_types: widths.map(() => 'DownEncoderBlock2D'),
    up_block_types: widths.map(() => 'UpDecoderBlock2D'),
    layers_per_block: 1,
    norm_num_groups: 8,
  };
}

const checked = (tree: unknown, origin: string): Record<string, unknown> =>
  check(autoencoderKl.schema, tree, () => origin);
