import { bytesPerElement, TensorStorage, type Filler } from '../src/gpu/storage.js';
import type { ParameterLayout, Span } from '../src/nn/parameters.js';
import type { Weights } from '../src/nn/weights.js';
import { concat, reshape, slice } from '../src/ops/movement.js';
import { assign, adamScalars, pack } from '../src/ops/optimizer.js';
import { fromStorage, type Tensor } from '../src/tensor/tensor.js';
import type { AverageLaw } from './schedules.js';

/** What is held of a learner: as `Learner` of trainer.ts has it. */
interface Held {
  name: string;
  layout: ParameterLayout;
  initial: Weights;
  averages: Readonly<Record<string, AverageLaw>>;
}

/** The loss scale that half precision starts with. */
const firstScale = 2 ** 14;

/** The arenas that a state holds, each in the order of its layout whatever pages it lies in. */
export const savedArenas = ['parameters', 'firstMoment', 'secondMoment', 'averages', 'progress'] as const;
/** One of them. */
export type SavedArena = (typeof savedArenas)[number];

/** A page of a learner's arenas: the same span of all of them. */
export interface PageStorages extends Span {
  parameters: TensorStorage;
  firstMoment: TensorStorage;
  secondMoment: TensorStorage;
  /** One average after another. */
  averages: TensorStorage;
  /** In half: weights, then averages. */
  rounded?: TensorStorage;
}

/** All that a learner keeps on the device. */
export interface Storages {
  pages: readonly PageStorages[];
  progress: TensorStorage;
  /** What `adam` wants, without the bias corrections. */
  scalars: TensorStorage;
}

/** The storages of a page. */
export const pageStorages = ({ parameters, firstMoment, secondMoment, averages, rounded }: PageStorages) => [
  parameters,
  firstMoment,
  secondMoment,
  averages,
  ...(rounded ? [rounded] : []),
];

/** All storages of a learner. */
export const allOf = ({ pages, progress, scalars }: Storages): TensorStorage[] => [
  ...pages.flatMap(pageStorages),
  progress,
  scalars,
];

/** Where the elements `start` to before `end` of an arena lie: in a storage, from `offset` on. */
interface Part extends Span {
  storage: TensorStorage;
  offset: number;
}

/** An arena's parts in their order. */
export function partsOf({ pages, progress }: Storages, arena: SavedArena): Part[] {
  if (arena === 'progress') return [{ storage: progress, offset: 0, start: 0, end: progress.length }];
  const total = pages.at(-1)!.end;
  const count = arena === 'averages' ? pages[0].averages.length / pages[0].parameters.length : 1;
  return Array.from({ length: count }, (_, k) =>
    pages.map(({ start, end, [arena]: storage }): Part => ({
      storage,
      offset: k * (end - start),
      start: k * total + start,
      end: k * total + end,
    })),
  ).flat();
}

/** The optimizer keeps one average at least: where none is asked for, the weights themselves. */
export function lawsOf(averages: Held['averages']): AverageLaw[] {
  const laws = Object.values(averages);
  return laws.length ? laws : [{ law: 'decay', decay: 0, width: 0 }];
}

/**
 * The storages of a learner.
 * @param pageBytes what may be bound at once
 * @param most elements of a page
 */
export function storagesOf(
  { name, layout, initial, averages }: Held,
  half: boolean,
  pageBytes: number,
  most = Infinity,
): Storages {
  const count = lawsOf(averages).length;
  // The averages of a page are bound at once, and so are its weights and averages in half.
  const widest = Math.max(count * bytesPerElement.f32, half ? (1 + count) * bytesPerElement.f16 : 0);
  const pages = layout.pages(Math.min(pageBytes / widest, most)).map((span): PageStorages => {
    const length = span.end - span.start;
    const copies =
      (copies: number): Filler =>
      (write) =>
        layout.fill(initial, span, async (values, offset) => {
          for (let k = 0; k < copies; k++) await write(values, k * length + offset);
        });
    return {
      ...span,
      parameters: new TensorStorage(`${name}: weights`, 'f32', length, copies(1)),
      firstMoment: new TensorStorage(`${name}: first moments`, 'f32', length),
      secondMoment: new TensorStorage(`${name}: second moments`, 'f32', length),
      averages: new TensorStorage(`${name}: averages`, 'f32', count * length, copies(count)),
      rounded: half ? new TensorStorage(`${name}: weights in half`, 'f16', (1 + count) * length) : undefined,
    };
  });
  return {
    pages,
    // Loss scale, steps since it changed, updates taken.
    progress: new TensorStorage(`${name}: progress`, 'f32', 3, Float32Array.of(half ? firstScale : 1, 0, 0)),
    scalars: new TensorStorage(`${name}: scalars`, 'f32', adamScalars.length - 2 + count),
  };
}

/** What losses see of a learner. */
export function bindLearner({ layout, averages }: Pick<Held, 'layout' | 'averages'>, { pages }: Storages) {
  const average = (i: number) =>
    pages.map(({ start, end, averages: all, rounded }) =>
      rounded
        ? { start, end, storage: rounded, base: (1 + i) * (end - start) }
        : { start, end, storage: all, base: i * (end - start) },
    );
  return {
    parameters: layout.bind(
      pages.map(({ start, end, parameters, rounded }) => ({ start, end, storage: rounded ?? parameters })),
    ),
    averages: Object.fromEntries(Object.keys(averages).map((name, i) => [name, layout.bind(average(i))])),
  };
}

/** The gradients of parameters, each packed as the page that it lies in; null for pages without any. */
export function packed(layout: ParameterLayout, slopes: ReadonlyMap<number, Tensor>, pages: readonly Span[]) {
  return pages.map(({ start, end }) => {
    const parts: Tensor[] = [];
    const offsets: number[] = [];
    for (const [i, slope] of slopes) {
      const span = layout.spanOf(i);
      const [from, to] = [Math.max(start, span.start), Math.min(end, span.end)];
      if (from >= to) continue;
      const whole = to - from === slope.size;
      parts.push(whole ? slope : slice(reshape(slope, [slope.size]), 0, from - span.start, to - span.start));
      offsets.push(from - start);
    }
    return parts.length ? pack(parts, offsets, end - start) : null;
  });
}

/** Writes weights and averages in half, as `adam` does after each update. */
export function round({ parameters, averages, rounded }: PageStorages): Tensor {
  return assign(rounded!, concat([fromStorage(parameters), fromStorage(averages)], 0));
}
