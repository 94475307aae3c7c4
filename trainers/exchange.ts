import type { Device } from '../src/gpu/device.js';
import { TensorStorage } from '../src/gpu/storage.js';
import type { ParameterLayout } from '../src/nn/parameters.js';
import { sizeOf } from '../src/tensor/shape.js';
import { HalfSum } from './halves.js';
import type { ChosenRows } from './rows.js';

/** What a learner keeps on the device where a batch is computed in parts, by one device or by several. */
export interface PartStorages extends ChosenRows<TensorStorage> {
  /** 1 for the first part that this device computes of a step, which the others are added to. */
  fresh: TensorStorage;
  /** The sum of the gradients, page by page; null where a page has none. */
  gradients: readonly (TensorStorage | null)[];
  /** The sums of the loss and of what is shown beside it; where there are several ranks, at its end what tells whose are no numbers. */
  sums: TensorStorage;
}

/** Which rows of a batch a program computes, as data. @param kinds as `Rows` takes them */
export function rowStorages(kinds: readonly number[], parts: number): ChosenRows<TensorStorage> {
  const count = kinds.reduce((sum, rows) => sum + Math.ceil(rows / parts), 0);
  return {
    numbers: new TensorStorage('rows', 'u32', count),
    counted: new TensorStorage('rows that count', 'f32', count),
  };
}

/** All of them. */
export const storagesOfParts = ({ numbers, counted, fresh, gradients, sums }: PartStorages): TensorStorage[] => [
  numbers,
  counted,
  fresh,
  ...gradients.flatMap((gradient) => gradient ?? []),
  sums,
];

/** Weights whose gradients go around at a time: an eighth of all, but neither too few nor too many, 1 to 16 MiB. */
const [leastAtOnce, mostAtOnce] = [2 ** 18, 2 ** 22];

/**
 * How many elements of a layout's arenas lie together where gradients go around page by page: while one page is summed, the
 * backward pass comes to the next. No tensor is cut for it.
 */
export function pageFor({ parameters, length }: ParameterLayout): number {
  const longest = parameters.reduce((most, { shape }) => Math.max(most, sizeOf(shape)), 0);
  return Math.max(longest + 128, Math.min(mostAtOnce, Math.max(leastAtOnce, length / 8)));
}

/** An exchange of gradients and losses on its way. */
export class Exchange {
  /** Whether what this rank gave are numbers, all of it. */
  sound = true;
  private readonly reading: { storage: TensorStorage; values: Promise<Float32Array>; half?: HalfSum }[] = [];
  /** What to do as soon as a storage is written: begin to read it. */
  readonly after: ReadonlyMap<TensorStorage, () => void>;

  /** @param halves what sums gradients in half, by their storages; none where they travel in f32 */
  constructor(
    private readonly device: Device,
    private readonly parts: Pick<PartStorages, 'gradients' | 'sums'>,
    private readonly halves: ReadonlyMap<TensorStorage, HalfSum> = new Map(),
  ) {
    const { gradients, sums } = parts;
    const storages = device.group.size > 1 ? [...gradients.flatMap((gradient) => gradient ?? []), sums] : [];
    this.after = new Map(storages.map((storage) => [storage, () => this.begin(storage)]));
  }

  /** Of all that is given to other ranks. */
  get bytes(): number {
    return this.reading.reduce((sum, { storage, half }) => sum + storage.bytes / (half ? 2 : 1), 0);
  }

  private begin(storage: TensorStorage): void {
    const values = this.device.readPart(storage, 0, storage.length);
    // Whoever waits for it is told.
    values.catch(() => {});
    this.reading.push({ storage, values, half: this.halves.get(storage) });
  }

  /**
   * Replaces all of it by the sums over all ranks, page by page: while one is summed, the next ones are computed.
   * @returns when the last page was computed, as `performance.now()` has it
   */
  async finish(): Promise<number> {
    const { device, reading } = this;
    const summing: Promise<void>[] = [];
    let computed = performance.now();
    // Every rank computes its pages in the same order.
    for (const { storage, values, half } of reading) {
      const own = await values;
      computed = performance.now();
      if (storage === this.parts.sums) this.sound = own.every(Number.isFinite);
      if (half) {
        // It calls the others more than once, and all ranks must call in the same order.
        await half.sum(own);
        device.write(storage, own);
      } else summing.push(device.group.sum(own).then(() => device.write(storage, own)));
    }
    await Promise.all(summing);
    return computed;
  }
}
