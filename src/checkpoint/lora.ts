import { UserError } from '../errors.js';
import { addProduct } from '../nn/lora.js';
import type { Parameter } from '../nn/parameters.js';
import type { Weights } from '../nn/weights.js';
import { sameShape, sizeOf, type Shape } from '../tensor/shape.js';
import { quote } from './header.js';
import type { SafetensorsFile } from './safetensors.js';

/** Which network of a pipeline: the one that predicts, or one of the text encoders. */
export type LoraPart = 'network' | 'text encoder' | 'second text encoder';

/** What an adapter adds to a weight: scale · B A, B [out, rank, …] and A [rank, in, …]. */
export interface LoraModule {
  /** As the file has it, for messages. */
  readonly key: string;
  /** The module's path, with and without what may stand in front of it, as `flat` writes it. */
  readonly paths: readonly string[];
  /** Null where the file does not say. */
  readonly part: LoraPart | null;
  readonly down: string;
  readonly up: string;
  readonly rank: number;
  readonly scale: number;
}

/** A low-rank adapter, opened: its header has been checked, and its matrices are read when they are folded in. */
export interface Lora {
  readonly file: SafetensorsFile;
  readonly modules: readonly LoraModule[];
}

/** How PEFT describes an adapter beside its tensors: of its many options, those that change the product. */
export interface PeftOptions {
  readonly r?: unknown;
  readonly lora_alpha?: unknown;
  /** For modules whose path ends as the key says, by a regular expression. */
  readonly rank_pattern?: unknown;
  readonly alpha_pattern?: unknown;
  /** The product is divided by √rank instead of rank. */
  readonly use_rslora?: unknown;
  readonly use_dora?: unknown;
  readonly fan_in_fan_out?: unknown;
}

const matrix = /^(.+?)(?:\.lora_(down|up|[AB])(?:\.\w+)?|[._]lora(?:_linear_layer|_conv2d_layer)?\.(down|up))\.weight$/;
const alphaOf = /^(.+?)(?:[._]lora(?:_linear_layer)?)?\.alpha$/;

/** What stands in front of a module's path, by who wrote the file, with the network that it names. */
const fronts: readonly (readonly [string, LoraPart | null])[] = [
  ['base_model.model.', null],
  ['unet.', 'network'],
  ['transformer.', 'network'],
  ['text_encoder.', 'text encoder'],
  ['text_encoder_2.', 'second text encoder'],
  ['lora_unet_', 'network'],
  ['lora_transformer_', 'network'],
  ['lora_te_', 'text encoder'],
  ['lora_te1_', 'text encoder'],
  ['lora_te2_', 'second text encoder'],
];

/** Forms of adaptation that are more than a product of two matrices, by the tensors that show them. */
const others: readonly (readonly [RegExp, string])[] = [
  [/\.(dora_scale|lora_magnitude_vector)\b/, 'DoRA, which also scales the columns'],
  [/\.hada_/, 'LoHa, a product element by element'],
  [/\.lokr_/, 'LoKr, a Kronecker product'],
  [/\.lora_mid\b/, 'LoCon with a core tensor'],
  [/\.(diff|diff_b)$/, 'differences of whole weights'],
  [/\.lora_(B|up)(\.\w+)?\.bias$|\.lora\.up\.bias$/, 'biases'],
  [/\.lora_embedding_/, 'embeddings'],
];

/** Whether a file holds matrices of low-rank adapters, by their names. */
export const isLora = ({ tensors }: SafetensorsFile): boolean => [...tensors.keys()].some((name) => matrix.test(name));

/** A path in which dots and underscores are the same: kohya's files have no dots, and names have underscores of their own. */
const flat = (path: string): string => path.replaceAll('.', '_');

/** A module's path, and what is left of it behind each of its fronts; and the network that these name. */
function withoutFronts(path: string): { part: LoraPart | null; rests: string[] } {
  let part: LoraPart | null = null;
  const rests = [path];
  for (;;) {
    const last = rests[rests.length - 1];
    const front = fronts.find(([text]) => last.startsWith(text) && last.length > text.length);
    if (!front) return { part, rests };
    part ??= front[1];
    rests.push(last.slice(front[0].length));
  }
}

/** What a module may be called, and whose it is. */
function placeOf(path: string): Pick<LoraModule, 'paths' | 'part'> {
  const { part, rests } = withoutFronts(path);
  // Attention processors stood for their projections, and text encoders had other names for theirs.
  const names = rests.flatMap((name) => {
    const present = name.replace('.processor.', '.');
    const text = present.replace(/\.self_attn\.to_([qkv])$/, '.self_attn.$1_proj');
    const out = present.replace(/\.to_out$/, '.to_out.0');
    return [name, present, text, out, present.replace(/\.self_attn\.to_out$/, '.self_attn.out_proj')];
  });
  return { paths: [...new Set(names.map(flat))], part };
}

/** Metadata in which diffusers writes PEFT's options, with the name of the network in front of each. */
const metadataKey = 'lora_adapter_metadata';
const partNames: Record<LoraPart, readonly string[]> = {
  network: ['unet', 'transformer'],
  'text encoder': ['text_encoder'],
  'second text encoder': ['text_encoder_2'],
};

/** PEFT's options for a network as a file's metadata has them; none where it has not. */
function metadataOptions({ metadata, name }: SafetensorsFile, part: LoraPart): PeftOptions {
  const text = metadata[metadataKey];
  if (text === undefined) return {};
  try {
    const entries = Object.entries(JSON.parse(text) as object);
    return Object.fromEntries(
      entries.flatMap(([key, value]) =>
        partNames[part].flatMap((front) => (key.startsWith(`${front}.`) ? [[key.slice(front.length + 1), value]] : [])),
      ),
    );
  } catch {
    throw new UserError(`${name}: its "${metadataKey}" metadata is not JSON: save the adapter anew`, 'lora');
  }
}

/**
 * What a pattern option of PEFT says of a module; undefined for nothing.
 * @throws UserError where a key is no expression that ends soon
 */
function patterned(patterns: unknown, path: string, origin: string): unknown {
  for (const [key, value] of Object.entries((patterns ?? {}) as object)) {
    // Quantified groups can take exponential time.
    if (key.length > 500 || /\)[*+?{]/.test(key))
      throw new UserError(`${origin}: the pattern ${quote(key)} is too involved: name the modules`, 'lora');
    try {
      const pattern = new RegExp(`^(?:.*\\.)?(?:${key})$`);
      if (withoutFronts(path).rests.some((rest) => pattern.test(rest))) return value;
    } catch {
      throw new UserError(`${origin}: the pattern ${quote(key)} is no regular expression`, 'lora');
    }
  }
  return undefined;
}

/** alpha / rank of a module by PEFT's options, alpha / √rank where they say so; 1 where they do not speak of it. */
function configuredScale(options: PeftOptions, path: string, rank: number, origin: string): number {
  const refuse = (what: string) => new UserError(`${origin}: ${what}`, 'lora');
  if (options.use_dora)
    throw refuse('use_dora: DoRA also scales the columns: only products of two matrices can be folded in');
  if (options.fan_in_fan_out) throw refuse('fan_in_fan_out: weights that lie the other way round are not supported');
  const stated = patterned(options.rank_pattern, path, origin) ?? options.r;
  if (typeof stated === 'number' && stated !== rank)
    throw refuse(`${quote(path)} has rank ${rank}, PEFT's options say ${stated}: they belong to another adapter`);
  const alpha = patterned(options.alpha_pattern, path, origin) ?? options.lora_alpha ?? null;
  if (alpha === null) return 1;
  if (typeof alpha !== 'number' || !Number.isFinite(alpha)) throw refuse(`lora_alpha of ${quote(path)} is no number`);
  return alpha / (options.use_rslora ? Math.sqrt(rank) : rank);
}

/**
 * Opens the low-rank adapter that a file holds, in the styles of kohya (`lora_unet_….lora_down`), PEFT (`….lora_A`) and
 * diffusers (`….lora.down`, attention processors). The scale of each product is its tensor `alpha` over the rank, else
 * what PEFT's options say, else 1.
 * @param options PEFT's adapter_config.json, where one lies beside the file; else its metadata is asked
 * @throws UserError naming the tensor or the option that cannot be folded in
 */
export async function openLora(file: SafetensorsFile, options?: PeftOptions): Promise<Lora> {
  const refuse = (what: string) => new UserError(`${file.name}: ${what}`, 'lora');
  const found = new Map<string, { down?: string; up?: string }>();
  const alphas = new Map<string, string>();
  for (const name of file.tensors.keys()) {
    const form = others.find(([pattern]) => pattern.test(name));
    if (form) throw refuse(`${quote(name)} belongs to ${form[1]}: only products of two matrices can be folded in`);
    const [alpha, match] = [alphaOf.exec(name), matrix.exec(name)];
    if (alpha) alphas.set(alpha[1], name);
    else if (match) {
      const [, module, plain, dotted] = match;
      const side = ['down', 'A'].includes(plain ?? dotted) ? 'down' : 'up';
      found.set(module, { ...found.get(module), [side]: name });
    } else throw refuse(`${quote(name)} is no part of a low-rank adapter`);
  }
  if (!found.size) throw refuse('it holds no low-rank adapter');
  const stray = [...alphas].find(([key]) => !found.has(key));
  if (stray) throw refuse(`${quote(stray[1])} belongs to no matrices of the file`);

  const open = async ([key, { down, up }]: [string, { down?: string; up?: string }]): Promise<LoraModule> => {
    if (down === undefined || up === undefined)
      throw refuse(`${quote(key)} has one of its two matrices only: fetch the file again`);
    const [a, b] = [file.tensors.get(down)!.shape, file.tensors.get(up)!.shape];
    const [rank] = a;
    if (a.length < 2 || b.length < 2 || !rank || sizeOf(b) !== b[0] * rank)
      throw refuse(`${quote(key)}: matrices of [${a}] and [${b}] have no product`);
    const place = placeOf(key);
    const named = alphas.get(key);
    const scale =
      named === undefined
        ? configuredScale(options ?? metadataOptions(file, place.part ?? 'network'), key, rank, file.name)
        : (await file.readF32(named))[0] / rank;
    if (!Number.isFinite(scale)) throw refuse(`${quote(key)} has no finite alpha`);
    return { key, ...place, down, up, rank, scale };
  };
  return { file, modules: await Promise.all([...found].map(open)) };
}

/** An adapter, and how strongly it is applied: 1 is as it was trained. */
export interface AppliedLora {
  readonly lora: Lora;
  readonly scale: number;
}

/** Weights, and what was done to them, a phrase an adapter. */
export interface AdaptedWeights {
  readonly weights: Weights;
  readonly notes: readonly string[];
}

/**
 * Weights with adapters folded in, one after the other: each is read as W + scale · B A.
 * @param parameters of the network whose weights they are
 * @param part which network of a pipeline it is; what adapters hold for others is passed over, which the notes say
 * @throws UserError naming the module that fits nothing in the network
 */
export function withLoras(
  weights: Weights,
  parameters: readonly Pick<Parameter, 'name' | 'shape'>[],
  applied: readonly AppliedLora[],
  part: LoraPart = 'network',
): AdaptedWeights {
  const targets = targetsIn(parameters);
  const products = new Map<string, { module: LoraModule; file: SafetensorsFile; scale: number }[]>();
  const notes = applied.map(({ lora: { file, modules }, scale }) => {
    const placed = modules
      .filter((module) => module.part === part || module.part === null)
      .map((module) => [module, targetOf(module, targets)] as const);
    // Products that name no network are for another one where none of them fits.
    const unnamed = placed.filter(([module]) => module.part === null);
    const foreign = part !== 'network' && unnamed.every(([, target]) => !target);
    const used = foreign ? placed.filter(([module]) => module.part !== null) : placed;
    const lost = used.find(([, target]) => !target);
    if (lost)
      throw new UserError(
        `${file.name}: ${quote(lost[0].key)} fits no weight of the ${part}: was the adapter trained on another model?`,
        'lora',
      );
    for (const [module, target] of used) {
      checkProduct(module, file, target!);
      products.set(target!.name, [...(products.get(target!.name) ?? []), { module, file, scale }]);
    }
    return [
      `${file.name} folded into ${used.length} weight${used.length === 1 ? '' : 's'} of the ${part}${scale === 1 ? '' : `, ${scale} times`}`,
      ...(used.length < modules.length ? [`its ${modules.length - used.length} for other networks passed over`] : []),
    ].join(', ');
  });
  const read = async (name: string): Promise<Float32Array> => {
    const values = await weights.read(name);
    for (const { module, file, scale } of products.get(name) ?? []) {
      const [down, up] = [await file.readF32(module.down), await file.readF32(module.up)];
      addProduct(values, down, up, module.rank, scale * module.scale);
    }
    return values;
  };
  return { weights: { dtype: 'f32', read }, notes };
}

type Target = Pick<Parameter, 'name' | 'shape'>;

/** Weights that can be adapted, by the path of their module as `flat` writes it. */
const targetsIn = (parameters: readonly Target[]): ReadonlyMap<string, Target> =>
  new Map(
    parameters
      .filter(({ shape }) => shape.length > 1)
      .map((target) => [flat(target.name.replace(/\.weight$/, '')), target]),
  );

const targetOf = ({ paths }: LoraModule, targets: ReadonlyMap<string, Target>): Target | undefined =>
  paths.map((path) => targets.get(path)).find((target) => target !== undefined);

/** Extents without those of 1 at the end: a 1 x 1 convolution is a matrix. */
const trimmed = (shape: Shape): Shape => shape.slice(0, shape.findLastIndex((extent) => extent !== 1) + 1);

function checkProduct({ key, down, up }: LoraModule, { name, tensors }: SafetensorsFile, target: Target): void {
  const made = [tensors.get(up)!.shape[0], ...tensors.get(down)!.shape.slice(1)];
  if (!sameShape(trimmed(made), trimmed(target.shape)))
    throw new UserError(
      `${name}: ${quote(key)} makes a weight of [${made}], and ${quote(target.name)} has [${target.shape}]: was the adapter trained on another model?`,
      'lora',
    );
}
