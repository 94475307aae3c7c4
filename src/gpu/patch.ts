import { sources } from '../../kernels/sources.js';

const pipelines = new WeakMap<GPUDevice, GPUComputePipeline>();

/**
 * Writes 1 to 3 bytes that lie in one word and leaves the others in it as they are, which the queue alone cannot do.
 * @param offset of the first byte in the buffer
 */
export function patchWord(gpu: GPUDevice, buffer: GPUBuffer, offset: number, bytes: Uint8Array): void {
  const at = offset % 4;
  const [mask, value] = [new Uint8Array(4), new Uint8Array(4)];
  mask.fill(0xff, at, at + bytes.length);
  value.set(bytes, at);
  // A binding starts at an aligned place: the word is bound with what lies before it.
  const alignment = gpu.limits.minStorageBufferOffsetAlignment;
  const word = offset - at;
  const start = Math.floor(word / alignment) * alignment;
  const [masked, written] = [mask, value].map((four) => new Uint32Array(four.buffer)[0]);
  const edit = gpu.createBuffer({ size: 16, usage: GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_DST });
  gpu.queue.writeBuffer(edit, 0, Uint32Array.of((word - start) / 4, masked, written, 0));
  const pipeline = pipelineOf(gpu);
  const encoder = gpu.createCommandEncoder();
  const pass = encoder.beginComputePass();
  pass.setPipeline(pipeline);
  pass.setBindGroup(
    0,
    gpu.createBindGroup({
      layout: pipeline.getBindGroupLayout(0),
      entries: [
        { binding: 0, resource: { buffer, offset: start, size: word + 4 - start } },
        { binding: 1, resource: { buffer: edit } },
      ],
    }),
  );
  pass.dispatchWorkgroups(1);
  pass.end();
  gpu.queue.submit([encoder.finish()]);
  edit.destroy();
}

function pipelineOf(gpu: GPUDevice): GPUComputePipeline {
  let pipeline = pipelines.get(gpu);
  if (!pipeline) {
    const module = gpu.createShaderModule({ code: sources['patch-word'], label: 'patch-word' });
    pipeline = gpu.createComputePipeline({ layout: 'auto', compute: { module, entryPoint: 'main' } });
    pipelines.set(gpu, pipeline);
  }
  return pipeline;
}
