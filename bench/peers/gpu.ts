// WebGPU for peers that look for `navigator.gpu`, with the same Dawn and every toggle that semiflow's commands use.
import { create, globals } from 'webgpu';
import { dawnFlags } from '../../node/dawn.js';

Object.assign(globalThis, globals);
const gpu = create(dawnFlags('fast'));
Object.defineProperty(globalThis, 'navigator', {
  value: { gpu, userAgent: 'node', platform: 'linux' },
  configurable: true,
});
