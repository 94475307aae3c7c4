import type { Device } from './device.js';
import type { Dispatch } from './program.js';

/** Time of all dispatches of one kernel in a profiled run. */
export interface KernelTime {
  kernel: string;
  calls: number;
  milliseconds: number;
  gigaflopsPerSecond: number;
  gigabytesPerSecond: number;
}

const queriesPerSet = 4096;

/**
 * Runs a recorded list once with a timestamped pass a dispatch, and sums by kernel, longest first.
 * @throws Error when the adapter has no timestamp queries
 */
export async function profile(device: Device, dispatches: readonly Dispatch[]): Promise<KernelTime[]> {
  const { gpu } = device;
  if (!gpu.features.has('timestamp-query'))
    throw new Error('this adapter has no timestamp queries: --profile cannot time kernels');
  const times = new Float64Array(dispatches.length);
  for (let from = 0; from < dispatches.length; from += queriesPerSet / 2) {
    const part = dispatches.slice(from, from + queriesPerSet / 2);
    const querySet = gpu.createQuerySet({ type: 'timestamp', count: part.length * 2 });
    const bytes = part.length * 16;
    const resolved = gpu.createBuffer({ size: bytes, usage: GPUBufferUsage.QUERY_RESOLVE | GPUBufferUsage.COPY_SRC });
    const encoder = gpu.createCommandEncoder();
    part.forEach(({ pipeline, bindGroup, grid }, i) => {
      const pass = encoder.beginComputePass({
        timestampWrites: { querySet, beginningOfPassWriteIndex: 2 * i, endOfPassWriteIndex: 2 * i + 1 },
      });
      pass.setPipeline(pipeline);
      pass.setBindGroup(0, bindGroup);
      pass.dispatchWorkgroups(grid[0], grid[1]);
      pass.end();
    });
    encoder.resolveQuerySet(querySet, 0, part.length * 2, resolved, 0);
    gpu.queue.submit([encoder.finish()]);
    const stamps = new BigUint64Array(await device.readBuffer(resolved, 0, bytes));
    part.forEach((_, i) => (times[from + i] = Number(stamps[2 * i + 1] - stamps[2 * i])));
    querySet.destroy();
    resolved.destroy();
  }
  const sums = new Map<string, { calls: number; nanoseconds: number; flops: number; bytes: number }>();
  dispatches.forEach(({ label, flops, bytes }, i) => {
    const sum = sums.get(label) ?? { calls: 0, nanoseconds: 0, flops: 0, bytes: 0 };
    sums.set(label, {
      calls: sum.calls + 1,
      nanoseconds: sum.nanoseconds + times[i],
      flops: sum.flops + flops,
      bytes: sum.bytes + bytes,
    });
  });
  return [...sums]
    .map(([kernel, { calls, nanoseconds, flops, bytes }]) => ({
      kernel,
      calls,
      milliseconds: nanoseconds / 1e6,
      gigaflopsPerSecond: flops / nanoseconds,
      gigabytesPerSecond: bytes / nanoseconds,
    }))
    .sort((a, b) => b.milliseconds - a.milliseconds);
}

/**
 * Milliseconds that a recorded list takes, on average of so many runs one after another: by timestamps where there are any,
 * else by the clock.
 */
export async function timeOf(device: Device, dispatches: readonly Dispatch[], runs: number): Promise<number> {
  const { gpu } = device;
  const stamped = gpu.features.has('timestamp-query');
  const querySet = stamped ? gpu.createQuerySet({ type: 'timestamp', count: 2 }) : null;
  const encoder = gpu.createCommandEncoder();
  const pass = encoder.beginComputePass(
    querySet ? { timestampWrites: { querySet, beginningOfPassWriteIndex: 0, endOfPassWriteIndex: 1 } } : {},
  );
  for (let run = 0; run < runs; run++) {
    for (const { pipeline, bindGroup, grid } of dispatches) {
      pass.setPipeline(pipeline);
      pass.setBindGroup(0, bindGroup);
      pass.dispatchWorkgroups(grid[0], grid[1]);
    }
  }
  pass.end();
  if (!querySet) {
    await device.finished();
    const start = performance.now();
    gpu.queue.submit([encoder.finish()]);
    await device.finished();
    return (performance.now() - start) / runs;
  }
  const resolved = gpu.createBuffer({ size: 16, usage: GPUBufferUsage.QUERY_RESOLVE | GPUBufferUsage.COPY_SRC });
  encoder.resolveQuerySet(querySet, 0, 2, resolved, 0);
  gpu.queue.submit([encoder.finish()]);
  const [start, end] = new BigUint64Array(await device.readBuffer(resolved, 0, 16));
  querySet.destroy();
  resolved.destroy();
  return Number(end - start) / 1e6 / runs;
}
