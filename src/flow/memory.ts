import { UserError } from '../errors.js';
import type { TensorStorage } from '../gpu/storage.js';

/** Bytes that a run needs, by what they are for. */
export interface MemoryNeeds {
  /** On the device. */
  device: Readonly<Record<string, number>>;
  /** In the process besides, at the most. */
  host: number;
}

/** Bytes that there are; what is not known is not compared. */
export interface AvailableMemory {
  device?: number;
  host?: number;
  /** Where the device computes in the host's memory: both together. */
  shared?: number;
}

/** What node, driver and compiled kernels take by themselves, as measured on software Vulkan. */
const processBytes = 450 * 2 ** 20;

/**
 * What the process holds beside the device: itself, values that storages were made of, and copies on their way.
 * @param moved the largest that is read, written or kept at one time
 */
export function hostBytes(storages: Iterable<TensorStorage>, moved: number): number {
  const values = new Set([...storages].flatMap(({ initial }) => (initial ? [initial.buffer] : [])));
  return processBytes + moved + [...values].reduce((sum, { byteLength }) => sum + byteLength, 0);
}

/** All bytes on the device. */
export const deviceBytes = ({ device }: MemoryNeeds): number => Object.values(device).reduce((sum, n) => sum + n, 0);

/** By how much the needs exceed what there is; 0 where they fit. */
export function excess(needs: MemoryNeeds, { device, host, shared }: AvailableMemory): number {
  const onDevice = deviceBytes(needs);
  const over = [
    [onDevice, device],
    [needs.host, host],
    [onDevice + needs.host, shared],
  ] as const;
  return Math.max(0, ...over.map(([wanted, there]) => (there === undefined ? 0 : wanted - there)));
}

/** Bytes as people say them. */
export const readable = (bytes: number): string =>
  bytes >= 2 ** 30 ? `${(bytes / 2 ** 30).toFixed(1)} GiB` : `${Math.ceil(bytes / 2 ** 20)} MiB`;

/** What is needed in a line, the greatest first. */
export function memoryLine(needs: MemoryNeeds): string {
  const parts = Object.entries(needs.device)
    .filter(([, bytes]) => bytes > 0)
    .sort(([, a], [, b]) => b - a)
    .map(([name, bytes]) => `${name} ${readable(bytes)}`);
  return `${readable(deviceBytes(needs))} on the device (${parts.join(', ')}) and ${readable(needs.host)} in the process`;
}

/** A change of options that takes less memory. */
export interface Saving {
  /** The options, by their names in the library, and their new values. */
  changes: Readonly<Record<string, string>>;
  /** What it takes of the memory that there is. */
  bytes: number;
  enough: boolean;
}

/** What options would save. */
export const savingOf = (changes: Saving['changes'], needs: MemoryNeeds, available: AvailableMemory): Saving => ({
  changes,
  bytes: deviceBytes(needs) + (available.device === undefined ? needs.host : 0),
  enough: !excess(needs, available),
});

/** Work that does not fit in memory, with the figures and what would make it fit. */
export class MemoryError extends UserError {
  constructor(
    private readonly reason: string,
    readonly savings: readonly Saving[],
  ) {
    super(sentence(reason, savings, (field) => field));
  }

  /** The message with options by the names of a front, such as flags. */
  said(nameOf: (field: string) => string): string {
    return sentence(this.reason, this.savings, nameOf);
  }
}

function sentence(cause: string, savings: readonly Saving[], nameOf: (field: string) => string): string {
  const said = ({ changes, bytes, enough }: Saving) => {
    const names = Object.entries(changes).map(([field, value]) => `${nameOf(field)} ${value}`);
    return `${names.join(' with ')} takes ${readable(bytes)}${enough ? ', which is enough' : ''}`;
  };
  if (!savings.length) return `${cause}: use a smaller network`;
  const helps = savings.some(({ enough }) => enough);
  return `${cause}: ${savings.map(said).join('; ')}${helps ? '' : '; none of them is enough: use a smaller network'}`;
}

/** What does not fit of what there is, in words. */
export function shortage(needs: MemoryNeeds, { device, host, shared }: AvailableMemory): string {
  const there = [
    ...(shared === undefined ? [] : [`${readable(shared)} of memory`]),
    ...(device === undefined ? [] : [`${readable(device)} on the device`]),
    ...(host === undefined ? [] : [`${readable(host)} in the process`]),
  ];
  return `this needs ${memoryLine(needs)}, and there is ${there.join(' and ')}`;
}
