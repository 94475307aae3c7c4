/** What a network is and what a file holds, in words. */
import type { SafetensorsFile, TensorEntry } from '../checkpoint/safetensors.js';
import type { Description } from './description.js';
import type { Network } from './network.js';
import { isPoints } from '../models/model.js';

/** What is known of a network in a file, a name and a line each. */
export function networkSummary(
  file: Pick<SafetensorsFile, 'tensors'>,
  { description, model, layout }: Network,
): (readonly [string, string])[] {
  const { role, architecture, data, dataRange, guidanceTimes, jumpRank, autoguidance, ...rest } = description;
  const shape = model.sampleShape.join(' × ');
  const { kind, module, ...sizes } = architecture;
  return [
    ['architecture', `${kind}, ${inline(sizes)}`],
    ...(module ? [['module', `${module.name}, sha256 ${module.sha256}`] as [string, string]] : []),
    ['parameters', `${layout.count} in ${layout.parameters.length} tensors, ${storageSummary(file)}`],
    ['samples', isPoints(model.sampleShape) ? `points of ${shape} coordinates` : `images of ${shape}`],
    ...told(model),
    ['classes', model.classes ? `${model.classes}${model.nullClass ? ', and none' : ''}` : 'none: not conditional'],
    ['time', time(rest)],
    ['prediction', predictions[rest.prediction]],
    ['path', path(rest.path)],
    ['source', source(rest.source)],
    ...(role === 'flow-map' ? [['sampling', sampling(rest)] as [string, string]] : []),
    ...(jumpRank ? [['jumps', `open products of rank ${jumpRank} beside weights`] as [string, string]] : []),
    ...(autoguidance === undefined
      ? []
      : [['autoguidance', `${autoguidance} away from the weaker network that it holds`] as [string, string]]),
    ...(guidanceTimes
      ? [['guidance', `counts between t = ${guidanceTimes.from} and ${guidanceTimes.to}`] as [string, string]]
      : []),
    [
      'data',
      [
        data ?? 'not named',
        ...(dataRange ? [`values from ${dataRange[0]} (black) to ${dataRange[1]} (white)`] : []),
      ].join(', '),
    ],
  ];
}

/** What must be said of a file that does not say itself what network it holds. */
export const missingSummary = [
  ['architecture', "the kind of network (mlp, sit, vit, unet or one's own) and its sizes"],
  ['time', "noise-at-1 or data-at-1: which end of the network's own time is noise"],
  ['prediction', 'velocity, data, noise, v or edm'],
] as const;

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
    const from = betaStart === undefined ? '' : ` from ${betaStart}`;
    const to = betaEnd === undefined ? '' : ` to ${betaEnd}`;
    return `VP, ${schedule}, ${steps} levels${from || to ? `, β${from}${to}` : ''}${zeroTerminal ? ', the last one noise alone' : ''}`;
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

/** Tensors of numbered layers in one row each: `blocks.{0…11}.attn.qkv.weight`. */
export function tensorSummary(tensors: ReadonlyMap<string, TensorEntry>): string[][] {
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

/** The size of a file's tensors, and how they are kept. */
export function storageSummary({ tensors }: Pick<SafetensorsFile, 'tensors'>): string {
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
