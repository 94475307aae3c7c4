import type { Tensor } from '../tensor/tensor.js';

/**
 * Each after all that it depends on; where that leaves a choice, in the order in which outputs were made, so that what
 * was meant to be computed late, such as a rematerialised block, is.
 * @param dependencies those of a task among the tasks
 */
export function inOrder<T extends { output: Tensor }>(
  tasks: Iterable<T>,
  dependencies: (task: T) => ReadonlySet<T>,
): T[] {
  const waiting = new Map<T, number>();
  const dependents = new Map<T, T[]>();
  for (const task of tasks) {
    const needed = dependencies(task);
    waiting.set(task, needed.size);
    for (const other of needed) {
      if (!dependents.has(other)) dependents.set(other, []);
      dependents.get(other)!.push(task);
    }
  }
  // Later ones first, so that the next is at the end.
  const ready = [...waiting].filter(([, count]) => !count).map(([task]) => task);
  ready.sort((a, b) => b.output.id - a.output.id);
  const ordered: T[] = [];
  while (ready.length) {
    const task = ready.pop()!;
    ordered.push(task);
    for (const other of dependents.get(task) ?? []) {
      const count = waiting.get(other)! - 1;
      waiting.set(other, count);
      if (count) continue;
      let place = ready.length;
      while (place && ready[place - 1].output.id < other.output.id) place--;
      ready.splice(place, 0, other);
    }
  }
  if (ordered.length < waiting.size) throw new Error('kernels wait for each other');
  return ordered;
}
