import { alone, type Group } from '../../src/gpu/group.js';

/** One rank of several within this process. */
export interface Seat extends Group {
  /** Takes its place among some others, or stands alone again. */
  sit(group: Group): void;
}

/** A rank that can be moved from one group to another, since a device keeps the one that it was opened with. */
export function seat(): Seat {
  let current: Group = alone;
  return {
    sit: (group) => void (current = group),
    get rank() {
      return current.rank;
    },
    get size() {
      return current.size;
    },
    sum: (values) => current.sum(values),
    gather: (bytes) => current.gather(bytes),
    swap: (blocks) => current.swap(blocks),
  };
}

/** Ranks that meet within this process: what each calls in its turn is done once all have called it. */
export function meeting(size: number): Group[] {
  const calls: { given: Float32Array[] | Uint8Array[]; arrived: number; done: Promise<void>; go: () => void }[] = [];
  const meet = async <T extends Float32Array | Uint8Array>(turn: number, rank: number, given: T): Promise<T[]> => {
    if (!calls[turn]) {
      let go!: () => void;
      const done = new Promise<void>((resolve) => (go = resolve));
      calls[turn] = { given: [], arrived: 0, done, go };
    }
    const call = calls[turn];
    call.given[rank] = given.slice() as T;
    if (++call.arrived === size) call.go();
    await call.done;
    return call.given as T[];
  };
  return Array.from({ length: size }, (_, rank): Group => {
    let turn = 0;
    return {
      rank,
      size,
      sum: async (values) => {
        const all = await meet(turn++, rank, values);
        values.fill(0);
        for (const part of all) part.forEach((value, i) => (values[i] += value));
      },
      gather: (bytes) => meet(turn++, rank, bytes),
      swap: async (blocks) => {
        const all = await meet(turn++, rank, blocks);
        const each = blocks.length / size;
        const received = new Uint8Array(blocks.length);
        all.forEach((given, k) => received.set(given.subarray(rank * each, (rank + 1) * each), k * each));
        return received;
      },
    };
  });
}
