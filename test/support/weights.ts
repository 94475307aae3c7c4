import { streamSafetensors } from '../../src/checkpoint/safetensors.js';
import { collected } from '../../src/files/store.js';
import type { WeightsFile } from '../../src/flow/network.js';
import type { ParameterLayout } from '../../src/nn/parameters.js';
import type { Weights } from '../../src/nn/weights.js';
import type { TrainerState } from '../../trainers/trainer.js';

interface WithWeights {
  layout: ParameterLayout;
  weights: Weights;
}

/** All weights of a network by its layout. */
export const arenaOf = ({ layout, weights }: WithWeights): Promise<Float32Array> => layout.collect(weights);

/** Fresh weights by a layout. */
export const drawn = (layout: ParameterLayout, seed: number): Promise<Float32Array> =>
  layout.collect(layout.drawn(seed));

/** A network with other weights: those that it has, changed one by one when they are first read. */
export function changed<N extends WithWeights>(network: N, change: (value: number) => number): N {
  const made = new Map<string, Promise<Float32Array>>();
  const read = async (name: string) => {
    if (!made.has(name))
      made.set(
        name,
        network.weights.read(name).then((values) => values.map(change)),
      );
    return (await made.get(name)!).slice();
  };
  return { ...network, weights: { dtype: 'f32', read } };
}

/** The bytes of a file of weights. */
export const bytesOf = ({ tensors, metadata }: WeightsFile): Promise<Uint8Array> =>
  collected(streamSafetensors(tensors, metadata));

/** What a state holds now. */
export async function valuesOf({ step, arenas }: TrainerState) {
  const values: Record<string, Float32Array> = {};
  for (const [name, { length, read }] of Object.entries(arenas)) values[name] = await read(0, length);
  return { step, arenas: values };
}

/** A state that holds given values. */
export const stateOf = ({ step, arenas }: { step: number; arenas: Record<string, Float32Array> }): TrainerState => ({
  step,
  arenas: Object.fromEntries(
    Object.entries(arenas).map(([name, values]) => [
      name,
      { length: values.length, read: async (start: number, end: number) => values.slice(start, end) },
    ]),
  ),
});
