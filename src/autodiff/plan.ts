/** Something that needs memory from the task that writes it to the last that reads it. */
export interface Block {
  bytes: number;
  first: number;
  last: number;
  /** Filled in by `plan`. */
  offset: number;
}

/**
 * Gives blocks offsets in one arena so that no two that live at the same time overlap: largest first, each at the
 * lowest gap that fits (Pisarchyk and Lee, 2020, "greedy by size").
 * @param bufferBytes the arena lies in buffers of so many bytes: no block goes from one into the next, unless it is
 * larger, and then it begins where one does
 * @returns the arena's size in bytes, and the most that is alive at one time: no plan can be smaller
 */
export function plan(
  blocks: readonly Block[],
  alignment: number,
  bufferBytes = Infinity,
): { bytes: number; lowerBound: number } {
  const within = (offset: number, bytes: number): number => {
    const left = bufferBytes - (offset % bufferBytes);
    return bytes <= left || left === bufferBytes ? offset : offset + left;
  };
  const round = (bytes: number) => Math.ceil(bytes / alignment) * alignment;
  /** By their offsets. */
  const placed: Block[] = [];
  let total = 0;
  for (const block of [...blocks].sort((a, b) => b.bytes - a.bytes || a.first - b.first)) {
    let offset = 0;
    for (const other of placed) {
      if (other.first > block.last || block.first > other.last) continue;
      offset = within(offset, block.bytes);
      if (offset + block.bytes <= other.offset) break;
      offset = Math.max(offset, other.offset + round(other.bytes));
    }
    block.offset = offset = within(offset, block.bytes);
    let [low, high] = [0, placed.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (placed[middle].offset <= offset) low = middle + 1;
      else high = middle;
    }
    placed.splice(low, 0, block);
    total = Math.max(total, offset + round(block.bytes));
  }
  return { bytes: total, lowerBound: mostAlive(blocks, round) };
}

function mostAlive(blocks: readonly Block[], round: (bytes: number) => number): number {
  const changes = new Map<number, number>();
  const change = (time: number, bytes: number) => changes.set(time, (changes.get(time) ?? 0) + bytes);
  for (const { bytes, first, last } of blocks) {
    change(first, round(bytes));
    change(last + 1, -round(bytes));
  }
  let alive = 0;
  let most = 0;
  for (const [, bytes] of [...changes].sort(([a], [b]) => a - b)) most = Math.max(most, (alive += bytes));
  return most;
}
