import * as z from 'zod';
import { geluTanh, quickGelu } from '../../ops/activations.js';
import { attention } from '../../ops/attention.js';
import { linear } from '../../ops/matmul.js';
import { gather, iota, reshape, slice } from '../../ops/movement.js';
import { add, equal, mul, toFloat, toIndex } from '../../ops/pointwise.js';
import { argmax } from '../../ops/statistics.js';
import { normal } from '../../nn/initializers.js';
import { affineLayerNorm, applyLinear, linearParameters, normParameters, requireThat } from '../../nn/layers.js';
import type { Parameters } from '../../nn/parameters.js';
import type { Tensor } from '../../tensor/tensor.js';
import { defineComponent, type ComponentParts } from '../component.js';
import { extent, repetition } from '../sides.js';
import { activations } from './blocks.js';

/** Activations by the names that configurations have for them. */
const textActivations = {
  ...activations,
  quick_gelu: quickGelu,
  gelu_new: geluTanh,
  gelu_pytorch_tanh: geluTanh,
};

/** Options of transformers' CLIPTextConfig, with its defaults; the many others that it writes change no result. */
const schema = z.object({
  vocab_size: extent.default(49408),
  hidden_size: extent.default(512),
  intermediate_size: extent.default(2048),
  projection_dim: extent.default(512),
  num_hidden_layers: repetition.default(12),
  num_attention_heads: extent.default(8),
  max_position_embeddings: extent.default(77),
  hidden_act: z.enum(Object.keys(textActivations) as [keyof typeof textActivations]).default('quick_gelu'),
  layer_norm_eps: z.number().positive().default(1e-5),
  /** By which the token is known whose state stands for the text; 2, an old error, means the largest number. */
  eos_token_id: z.number().int().min(0).default(49407),
});

/** What a text becomes. */
export interface TextStates {
  /** Of the embeddings, and after every layer: [B, T, width] each. */
  readonly hidden: readonly Tensor[];
  /** [B, T, width], after the last norm. */
  readonly last: Tensor;
  /** [B, width], of the token that ends the text. */
  readonly pooled: Tensor;
  /** [B, projection width], of models with a projection. */
  readonly projected?: Tensor;
}

/** A text encoder without weights. */
export interface TextEncoder extends ComponentParts {
  /** Of a state. */
  readonly width: number;
  /** Number of different tokens. */
  readonly vocabulary: number;
  /** The most tokens of a text. */
  readonly length: number;
  /** u32 tokens [B, T]. @throws UserError where there are more than it has places for */
  encode(p: Parameters, tokens: Tensor): TextStates;
}

/**
 * The text half of CLIP (Radford et al., 2021): transformers' CLIPTextModel, under its names. Every token sees those
 * before it, padding included.
 */
export const clipText = defineComponent({ schema, build: (options) => build(options, false) });

/** The same with a projection into the space that texts share with pictures: CLIPTextModelWithProjection. */
export const clipTextWithProjection = defineComponent({ schema, build: (options) => build(options, true) });

function build(options: z.infer<typeof schema>, projecting: boolean): TextEncoder {
  const { hidden_size: width, num_attention_heads: heads, layer_norm_eps: epsilon, eos_token_id: end } = options;
  const { vocab_size: vocabulary, max_position_embeddings: length, num_hidden_layers: depth } = options;
  requireThat(width % heads === 0, 'num_attention_heads', `${heads} heads do not divide a hidden_size of ${width}`);
  const act = textActivations[options.hidden_act];
  const embeddings = 'text_model.embeddings';
  const layers = Array.from({ length: depth }, (_, i) => `text_model.encoder.layers.${i}`);
  const norm = (p: Parameters, name: string, x: Tensor) => affineLayerNorm(p, name, x, epsilon);

  const layer = (p: Parameters, name: string, x: Tensor) => {
    const seen = norm(p, `${name}.layer_norm1`, x);
    const [q, k, v] = ['q', 'k', 'v'].map((part) => applyLinear(p, `${name}.self_attn.${part}_proj`, seen));
    const mixed = attention(q, k, v, heads, { causal: true });
    const attended = add(x, applyLinear(p, `${name}.self_attn.out_proj`, mixed));
    const inner = act(applyLinear(p, `${name}.mlp.fc1`, norm(p, `${name}.layer_norm2`, attended)));
    return add(attended, applyLinear(p, `${name}.mlp.fc2`, inner));
  };
  return {
    width,
    vocabulary,
    length,
    facts: {
      texts: `up to ${length} of ${vocabulary} tokens`,
      states: `${width} wide, after ${depth} layers${projecting ? `, projected to ${options.projection_dim}` : ''}`,
    },
    parameters: [
      { name: `${embeddings}.token_embedding.weight`, shape: [vocabulary, width], initializer: normal(0.02) },
      { name: `${embeddings}.position_embedding.weight`, shape: [length, width], initializer: normal(0.02) },
      ...layers.flatMap((name) => [
        ...['q', 'k', 'v', 'out'].flatMap((part) => linearParameters(`${name}.self_attn.${part}_proj`, width, width)),
        ...normParameters(`${name}.layer_norm1`, width),
        ...linearParameters(`${name}.mlp.fc1`, width, options.intermediate_size),
        ...linearParameters(`${name}.mlp.fc2`, options.intermediate_size, width),
        ...normParameters(`${name}.layer_norm2`, width),
      ]),
      ...normParameters('text_model.final_layer_norm', width),
      ...(projecting ? linearParameters('text_projection', width, options.projection_dim).slice(0, 1) : []),
    ],
    encode: (p, tokens) => {
      const [batch, count] = tokens.shape;
      requireThat(count <= length, 'max_position_embeddings', `${count} tokens, and there are places for ${length}`);
      const places = slice(p(`${embeddings}.position_embedding.weight`), 0, 0, count);
      const hidden = [add(gather(p(`${embeddings}.token_embedding.weight`), tokens), places)];
      for (const name of layers) hidden.push(layer(p, name, hidden[hidden.length - 1]));
      const last = norm(p, 'text_model.final_layer_norm', hidden[depth]);
      const ends = argmax(end === 2 ? toFloat(tokens) : equal(tokens, end), 1);
      const rows = add(toIndex(ends), mul(iota([batch]), count));
      const pooled = gather(reshape(last, [batch * count, width]), rows);
      return { hidden, last, pooled, ...(projecting && { projected: linear(pooled, p('text_projection.weight')) }) };
    },
  };
}
