import type { Store } from '../files/store.js';
import { UserError } from '../errors.js';
import type { AvailableMemory } from '../flow/memory.js';
import type { Sampler } from '../flow/samplers.js';
import type { Device } from '../gpu/device.js';
import { decodeLatents } from '../pipelines/coder.js';
import { Painter, prepareNetwork, type PainterOptions } from '../pipelines/painter.js';
import type { Pipeline } from '../pipelines/pipeline.js';
import type { PreparedPicture } from '../pipelines/preparation.js';
import { figureOr, renderReport, type MissingFigure, type ReportImage } from '../report/html.js';
import { labelledGrid, type LabelledGrid } from '../report/labelled-grid.js';
import { joined } from '../tensor/joined.js';
import type { ExperimentResult } from './experiment.js';
import type { Mask } from './masks.js';
import { Parts } from './parts.js';

/** The pipelines that the experiments in latents compare: one backbone, by itself and with the adapters of distillations. */
export interface ComparedPipelines {
  readonly teacher: Pipeline;
  /** Distilled to jump to the data (LCM). */
  readonly endpoint?: Pipeline;
  /** Distilled to jump along trajectories (TCD). */
  readonly trajectory?: Pipeline;
  /** With the adapter of a flow map. */
  readonly flowMap?: Pipeline;
}

/** What is painted in them. */
export interface LatentSubject extends Pick<PainterOptions, 'prompt' | 'negative' | 'guidance' | 'calls' | 'tile'> {
  readonly device: Device;
  readonly pipelines: ComparedPipelines;
  /** Pictures in which one mask is painted. */
  readonly pictures: readonly PreparedPicture[];
  readonly sides: readonly [number, number];
  /** Noises for each picture. */
  readonly seeds: number;
  readonly seed: number;
  readonly available?: AvailableMemory;
  readonly store: Store;
  /** Where pipelines and pictures come from, so that parts of others are refused. */
  readonly origin: object;
  readonly onProgress: (what: string) => void;
}

/** What every one of these experiments has. */
export interface LatentContext {
  readonly subject: LatentSubject;
  readonly parts: Parts;
  /** Samples: every picture with every noise, and their values in pixels. */
  readonly count: number;
  readonly pixels: number;
  /** In pixels, of one channel. */
  readonly mask: Mask;
  /** Pictures of all samples, [count, 3, height, width]. */
  readonly originals: Float32Array;
  /** A pipeline that is ready to paint all samples; whoever asked disposes of it. */
  open(pipeline: Pipeline): Promise<Painter>;
  /** Pictures of latents. */
  decode(latents: Float32Array): Promise<Float32Array>;
  /** A labelled grid of pictures, as a file and on the page. */
  grid(
    name: string,
    grid: Pick<LabelledGrid, 'columns' | 'rows'>,
    caption?: string,
  ): Promise<ReportImage | MissingFigure>;
}

/** An experiment in latents. */
export type LatentExperiment = (context: LatentContext) => Promise<ExperimentResult>;

/** The experiments in latents by name. Each is loaded when it is run. */
export const latentExperiments = {
  steps: async () => (await import('./latent-steps.js')).latentSteps,
  drift: async () => (await import('./latent-drift.js')).latentDrift,
} satisfies Record<string, () => Promise<LatentExperiment>>;

/** The name of one. */
export type LatentExperimentName = keyof typeof latentExperiments;

/** A method: a pipeline and how it is sampled. */
export interface Method {
  readonly name: string;
  readonly pipeline: Pipeline;
  readonly sampler: Sampler;
}

/**
 * The paradigms that there are pipelines for. What was distilled here is a flow map whatever it learned, so it takes the
 * samplers of flow maps that do what LCM's and TCD's do: to the data, or to less noise, and back by fresh noise.
 */
export function paradigmsOf({ teacher, endpoint, trajectory, flowMap }: ComparedPipelines): Method[] {
  const { path } = teacher.network.description;
  const straight = path.kind === 'straight';
  return [
    { name: 'SDE (Euler ancestral)', pipeline: teacher, sampler: { name: 'euler-ancestral' } },
    { name: 'ODE (DDIM)', pipeline: teacher, sampler: { name: straight ? 'euler' : 'ddim' } },
    ...distilled('endpoint jump (LCM)', endpoint, 'lcm', 'consistency'),
    ...distilled('two-time jump (TCD)', trajectory, 'tcd', 'gamma'),
    ...(flowMap ? [{ name: 'flow map', pipeline: flowMap, sampler: { name: 'jump' } } satisfies Method] : []),
  ];
}

const distilled = (
  name: string,
  pipeline: Pipeline | undefined,
  theirs: 'lcm' | 'tcd',
  own: 'consistency' | 'gamma',
) => (pipeline ? [{ name, pipeline, sampler: { name: isFlowMap(pipeline) ? own : theirs } } satisfies Method] : []);

/** Whether a pipeline has the adapter of a distillation here. */
export const isFlowMap = ({ network }: Pipeline): boolean => network.description.role === 'flow-map';

/**
 * Compares ways of sampling a latent pipeline on pictures that are painted in. Every experiment leaves its figures, tables
 * and pictures in the store, all of them one page, `report.html`.
 * @throws UserError where the store holds results of other settings, or a pipeline cannot be asked so
 */
export async function runLatentExperiments(
  subject: LatentSubject,
  names: readonly LatentExperimentName[],
): Promise<ExperimentResult[]> {
  const { device, pipelines, pictures, sides, seeds, seed, store, origin, prompt, available, tile } = subject;
  const [height, width] = sides;
  const { guidance, calls, negative } = subject;
  const methods = paradigmsOf(pipelines);
  if (pipelines.flowMap && !isFlowMap(pipelines.flowMap))
    throw new UserError('it makes no flow map of the teacher: give what `train --lora-rank` wrote', 'flowMapLora');
  for (const { pipeline } of methods)
    prepareNetwork(pipeline, { prompt, seed, sides, guidance: guidanceFor(pipeline, guidance) });
  const settings = { ...origin, prompt, negative, guidance, sides, seeds, seed };
  const parts = await Parts.open(store, settings);
  const count = pictures.length * seeds;
  const scenes = Array.from({ length: count }, (_, i) => pictures[Math.floor(i / seeds)]);
  const hidden = Uint8Array.from(pictures[0].mask);
  const context: LatentContext = {
    subject,
    parts,
    count,
    pixels: 3 * height * width,
    mask: { name: 'mask', height, width, hidden },
    originals: joined(scenes.map(({ image }) => image)),
    open: (pipeline) =>
      Painter.open(device, pipeline, {
        prompt,
        negative,
        sides,
        guidance: guidanceFor(pipeline, guidance),
        seed,
        count,
        scenes,
        available,
        tile,
        calls,
      }),
    decode: (latents) => {
      const { vae } = pipelines.teacher;
      const { factor } = vae.parts;
      return decodeLatents(device, vae, latents, [height / factor, width / factor], { tile, available });
    },
    grid: (name, grid, caption) =>
      figureOr(async () => {
        const png = labelledGrid({ ...grid, shape: [3, height, width], range: [-1, 1] }).toPng();
        await parts.write(`${name}.png`, png);
        return { png };
      }, caption),
  };
  const results: ExperimentResult[] = [];
  for (const name of names) results.push(await (await latentExperiments[name]())(context));
  await parts.write(
    'report.html',
    renderReport({
      title: 'Latent inpainting: integration, endpoint jumps and flow maps',
      subtitle: `"${prompt}", ${pictures.length} picture${pictures.length > 1 ? 's' : ''} with ${seeds} noise${seeds > 1 ? 's' : ''} each, ${height}x${width}, guidance ${guidance ?? 1}`,
      sections: results.flatMap(({ sections }) => sections),
    }),
  );
  return results;
}

/** One scale for all; a flow map that learned a single one is asked with that. */
function guidanceFor({ network: { description } }: Pipeline, guidance: number | undefined): number | undefined {
  const { role, guidance: learned } = description;
  if (role === 'teacher') return guidance;
  const { from, to } = learned ?? { from: 1, to: 1 };
  return from === to ? from : guidance;
}
