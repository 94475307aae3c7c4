// WebGPU for peers that look for `navigator.gpu`, with the same Dawn and the same work toggles as semiflow.
import { create, globals } from 'webgpu';

Object.assign(globalThis, globals);
const gpu = create([
  'enable-dawn-features=allow_unsafe_apis,disable_robustness,skip_validation,disable_workgroup_init',
  'disable-dawn-features=timestamp_quantization',
]);
Object.defineProperty(globalThis, 'navigator', {
  value: { gpu, userAgent: 'node', platform: 'linux' },
  configurable: true,
});
