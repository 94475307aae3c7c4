/** Bytes of each buffer that kernels are compiled with: their numbers are all zero, so that they touch none of it. */
const bytes = 2 ** 16;

/** A device beside another, and what kernels bind on it. */
interface Helper {
  gpu: GPUDevice;
  numbers: GPUBuffer;
  buffers: GPUBuffer[];
}

/**
 * Devices that compile kernels for another one of the same adapter, which runs them: a software adapter compiles a kernel when
 * it first runs, one after another on each device, and keeps it on disk, where all of its devices find it.
 */
export class Ahead {
  private readonly helpers: Promise<Helper>[] = [];

  /**
   * @param count how many there may be
   * @param open makes one
   * @param wait as `AdapterSource.wait`
   */
  constructor(
    readonly count: number,
    private readonly open: () => Promise<GPUDevice>,
    private readonly wait: <T>(result: Promise<T>) => Promise<T>,
  ) {}

  /**
   * Compiles a kernel on one of the devices, each of which does one at a time. What fails there fails again, and is told,
   * where the kernel is to run.
   * @param which the device, from 0 on
   * @param bindings how many buffers the kernel binds, the last of them uniform
   */
  async compile(which: number, source: string, bindings: number): Promise<void> {
    const { gpu, numbers, buffers } = await (this.helpers[which] ??= this.helper());
    while (buffers.length < bindings - 1)
      buffers.push(gpu.createBuffer({ size: bytes, usage: GPUBufferUsage.STORAGE }));
    const compute = { module: gpu.createShaderModule({ code: source }), entryPoint: 'main' };
    const pipeline = await this.wait(gpu.createComputePipelineAsync({ layout: 'auto', compute }));
    const bound = [...buffers.slice(0, bindings - 1), numbers];
    const entries = bound.map((buffer, binding) => ({ binding, resource: { buffer } }));
    const encoder = gpu.createCommandEncoder();
    const pass = encoder.beginComputePass();
    pass.setPipeline(pipeline);
    pass.setBindGroup(0, gpu.createBindGroup({ layout: pipeline.getBindGroupLayout(0), entries }));
    pass.dispatchWorkgroups(1);
    pass.end();
    gpu.queue.submit([encoder.finish()]);
    await this.wait(gpu.queue.onSubmittedWorkDone());
  }

  /** Gives the devices back. */
  dispose(): void {
    for (const helper of this.helpers) helper.then(({ gpu }) => gpu.destroy()).catch(() => {});
  }

  private async helper(): Promise<Helper> {
    const gpu = await this.open();
    return { gpu, numbers: gpu.createBuffer({ size: bytes, usage: GPUBufferUsage.UNIFORM }), buffers: [] };
  }
}
