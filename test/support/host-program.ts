import { layOut } from '../../src/autodiff/arena.js';
import { batchProducts } from '../../src/autodiff/batch.js';
import { bindingsOf } from '../../src/autodiff/bindings.js';
import { decompose } from '../../src/autodiff/decompose.js';
import { schedule } from '../../src/autodiff/schedule.js';
import { separate, writesOf } from '../../src/autodiff/separate.js';
import { shareCommon } from '../../src/autodiff/share.js';
import type { Profile } from '../../src/gpu/profile.js';
import type { TensorStorage } from '../../src/gpu/storage.js';
import { secondary } from '../../src/ops/memory.js';
import type { Tensor } from '../../src/tensor/tensor.js';
import { interpret } from './interpreter.js';
import { changes } from './random-graph.js';

/**
 * A graph compiled as a device would have it, and run on the host in float64: the same tasks in the same order over the
 * same memory, each computed from nothing but what its bindings hold at that moment. Whatever reads too early, too late
 * or what somebody else has overwritten gives other numbers, to all digits.
 */
export function runOnHost(outputs: readonly Tensor[], effects: readonly Tensor[], profile: Profile) {
  const shared = batchProducts(shareCommon(decompose([...outputs, ...effects], profile)));
  const separated = separate(shared.slice(0, outputs.length), shared.slice(outputs.length));
  const { tasks } = schedule(separated, profile);
  const arena = layOut(tasks, separated.outputs, new Set(), 256);
  const memory = new Float64Array(arena.bytes / 4);
  const storages = new Map<TensorStorage, Float64Array>();
  const held = (storage: TensorStorage) => {
    if (!storages.has(storage))
      storages.set(storage, Float64Array.from(storage.initial ?? new Float64Array(storage.length)));
    return storages.get(storage)!;
  };
  const read = (node: Tensor) => {
    if (node.op === 'storage') {
      const { storage, offset } = (node as Tensor<'storage'>).attributes;
      return held(storage).slice(offset, offset + node.size);
    }
    const first = arena.offsetOf({ node }) / 4;
    return memory.slice(first, first + node.size);
  };
  for (const task of tasks) {
    const bindings = bindingsOf(task, profile);
    if (bindings.list.length > profile.maxBindings) throw new Error(`${bindings.list.length} bindings`);
    assertApart(
      bindings.list.map((binding) => {
        if ('storage' in binding) return binding;
        const [offset, size] = [arena.offsetOf(binding) + binding.start, binding.end - binding.start];
        return { offset, size };
      }),
    );
    const known = new Map([...task.reads].map((leaf) => [leaf, read(leaf)]));
    const { core, output, kernel, second, kept } = task;
    if (writesOf(output)) {
      const inputs = output.inputs.map((input) => interpret([input], new Map(), known)[0]);
      for (const [storage, values] of changes(output, inputs, held)) storages.set(storage, Float64Array.from(values));
      continue;
    }
    const [value] = interpret([output], new Map(), known);
    if (kernel.secondary) {
      const other = second ?? secondary(core, [kernel.secondary]);
      memory.set(interpret([other], new Map(), known)[0], arena.offsetOf({ second: core }) / 4);
    }
    memory.set(value, arena.offsetOf({ node: output }) / 4);
    if (kept) memory.set(interpret([kept], new Map(), known)[0], arena.offsetOf({ node: kept }) / 4);
  }
  return { values: separated.outputs.map(read), storages };
}

type Part = { offset: number; size: number } | { storage: TensorStorage; start: number; end: number };

/** WebGPU forbids to bind memory twice where a kernel may write it. */
function assertApart(parts: readonly Part[]): void {
  const spans = parts.map((part) =>
    'storage' in part
      ? { of: part.storage as object, start: part.start, end: part.end }
      : { of: parts, start: part.offset, end: part.offset + part.size },
  );
  spans.forEach((a, i) => {
    for (const b of spans.slice(i + 1))
      if (a.of === b.of && a.start < b.end && b.start < a.end) throw new Error('memory is bound twice');
  });
}
