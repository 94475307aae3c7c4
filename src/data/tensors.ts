import { openSafetensors } from '../checkpoint/safetensors.js';
import { UserError } from '../errors.js';
import { bytesSource } from '../files/source.js';
import { kindOf } from '../files/kind.js';
import type { DataFormat, NumberArray } from './format.js';

/** What the samples are called, those that are preferred first. */
const sampleNames = ['x', 'samples', 'images', 'latents'];
const labelNames = ['labels', 'y'];
/** What semiflow's commands write beside samples, and no network is told. */
const others = ['noise', 't', 's'];
const negativePrefix = 'negative.';

/**
 * Safetensors with samples `x` [n, …], perhaps their classes `labels` [n], and what else a network is told of each, such as
 * `context` [n, tokens, width]; `negative.context` is one for all.
 */
export const tensors: DataFormat = {
  name: 'safetensors',
  looks: '.safetensors with a tensor x',
  recognizes: ({ paths, head }) =>
    paths.length === 1 && /\.safetensors$/i.test(paths[0]) && kindOf(head) === 'a safetensors file',
  async read(files) {
    const [path] = files.paths;
    const where = files.where(path);
    const file = await openSafetensors(bytesSource(await files.bytes(path), where));
    const array = async (name: string): Promise<NumberArray> => {
      const { dtype, shape } = file.tensors.get(name)!;
      return { shape, values: dtype === 'U8' ? ((await file.read(name)) as Uint8Array) : await file.readF32(name) };
    };
    const held = [...file.tensors.keys()];
    const name = sampleNames.find((candidate) => held.includes(candidate));
    if (name === undefined)
      throw new UserError(
        `${where} holds ${held.slice(0, 4).join(', ') || 'nothing'}: samples are looked for as ${sampleNames.join(', ')}`,
      );
    const labels = labelNames.find((candidate) => held.includes(candidate));
    const samples = await array(name);
    const rest = held.filter((key) => key !== name && key !== labels && !others.includes(key));
    const conditions: Record<string, NumberArray> = {};
    const negative: Record<string, NumberArray> = {};
    const passed: string[] = [];
    for (const key of rest) {
      const { shape } = file.tensors.get(key)!;
      if (key.startsWith(negativePrefix)) negative[key.slice(negativePrefix.length)] = await array(key);
      else if (shape[0] === samples.shape[0]) conditions[key] = await array(key);
      else passed.push(key);
    }
    return {
      train: { samples, ...(labels && { labels: await array(labels) }), conditions },
      negative,
      used: [path],
      ...(passed.length && { notes: [`passed over, as they are not one a sample: ${passed.slice(0, 4).join(', ')}`] }),
    };
  },
};
