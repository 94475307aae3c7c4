/** A process that ends while Dawn's threads are in the midst of hundreds of small kernels, by the way out of commands. */
import { openDevice } from '../../node/device.js';
import { leaveAtOnce } from '../../node/quiet.js';

const device = await openDevice({ toggles: 'fast' });
process.on('exit', leaveAtOnce);
for (let i = 0; i < 1500; i++) {
  const source = `
    struct Pair { matrix: mat4x4f, vector: vec4f }
    var<workgroup> pairs: array<Pair, 16>;
    fn product(pair: Pair) -> vec4f { return pair.matrix * pair.vector; }
    @group(0) @binding(0) var<storage, read_write> x: array<f32>;
    @compute @workgroup_size(64) fn main(@builtin(global_invocation_id) id: vec3u) {
      pairs[id.x % 16u].vector = vec4f(sin(x[id.x] * ${i}.5));
      workgroupBarrier();
      x[id.x] += product(pairs[(id.x + 1u) % 16u]).x;
    }`;
  device.pipeline(source, `kernel ${i}`).catch(() => {});
}
setTimeout(() => process.exit(7), 200);
