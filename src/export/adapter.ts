import type { SafetensorsFile, StreamedTensor } from '../checkpoint/safetensors.js';
import { UserError } from '../errors.js';
import { adapterOptions } from '../flow/adapter.js';
import { moduleOf } from '../nn/lora.js';
import type { WeightsFile } from '../flow/network.js';

/** Whose names an adapter is written under. */
export const adapterStyles = ['kohya', 'peft'] as const;
/** One of them. */
export type AdapterStyle = (typeof adapterStyles)[number];

/** Names of a module's two matrices and of its alpha, and what they begin with. */
const namesOf: Record<AdapterStyle, (module: string) => { a: string; b: string; alpha: string }> = {
  kohya: (module) => {
    const key = `lora_unet_${module.replaceAll('.', '_')}`;
    return { a: `${key}.lora_down.weight`, b: `${key}.lora_up.weight`, alpha: `${key}.alpha` };
  },
  peft: (module) => {
    const key = `unet.${module}`;
    return { a: `${key}.lora_A.weight`, b: `${key}.lora_B.weight`, alpha: `${key}.alpha` };
  },
};

/**
 * The adapter of a distillation here, for other programs: its low-rank products under names that they read. What only a
 * flow map has, the embedding of its second time, is left out.
 * @throws UserError where the file is no such adapter
 */
export function exportAdapter(file: SafetensorsFile, style: AdapterStyle): WeightsFile & { leftOut: string[] } {
  const own = adapterOptions(file);
  if (!own)
    throw new UserError(`${file.name} is no adapter of a distillation, as \`train --lora-rank\` writes one`, 'model');
  const tensors: Record<string, StreamedTensor> = {};
  const leftOut: string[] = [];
  const entry = (name: string): StreamedTensor => ({
    dtype: 'F32',
    shape: file.tensors.get(name)!.shape,
    parts: async function* () {
      yield await file.readF32(name);
    },
  });
  for (const name of file.tensors.keys()) {
    const place = moduleOf(name);
    if (!place) leftOut.push(name);
    else {
      const names = namesOf[style](place.module);
      tensors[names[place.side]] = entry(name);
      tensors[names.alpha] ??= {
        dtype: 'F32',
        shape: [],
        parts: async function* () {
          yield Float32Array.of(own.alpha);
        },
      };
    }
  }
  return { tensors, metadata: { format: 'pt' }, leftOut };
}
