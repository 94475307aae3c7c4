import type { Device } from './device.js';

/** Part of a buffer that a kernel binds; bytes. */
export interface Region {
  buffer: GPUBuffer;
  offset: number;
  size: number;
}

/** One recorded dispatch. `flops` and `bytes` are the work that it is known to do, for the profiler. */
export interface Dispatch {
  label: string;
  pipeline: GPUComputePipeline;
  bindGroup: GPUBindGroup;
  grid: readonly [number, number];
  flops: number;
  bytes: number;
}

/** Binds parts of buffers to a pipeline, in the order of `@binding`. */
export function bind(device: Device, pipeline: GPUComputePipeline, regions: readonly Region[]): GPUBindGroup {
  return device.gpu.createBindGroup({
    layout: pipeline.getBindGroupLayout(0),
    entries: regions.map((region, binding) => ({ binding, resource: region })),
  });
}

/** Workgroups beyond the limit of one dimension go to a second one; kernels linearise `x + y * GRID_X`. */
export function gridOf(workgroups: number, limit: number): [number, number] {
  if (workgroups <= limit) return [workgroups, 1];
  const rows = Math.ceil(workgroups / limit);
  return [Math.ceil(workgroups / rows), rows];
}

/** Encodes a recorded list in one pass and submits it. */
export function submit(device: Device, dispatches: readonly Dispatch[]): void {
  device.assertUsable();
  const encoder = device.gpu.createCommandEncoder();
  const pass = encoder.beginComputePass();
  for (const { pipeline, bindGroup, grid } of dispatches) {
    pass.setPipeline(pipeline);
    pass.setBindGroup(0, bindGroup);
    pass.dispatchWorkgroups(grid[0], grid[1]);
  }
  pass.end();
  device.gpu.queue.submit([encoder.finish()]);
}
