import * as z from 'zod';
import { UserError } from '../errors.js';
import { issueText } from '../issue.js';
import type { Architecture, Backbone, BackboneModule, InputShapes, SampleLaw } from './backbone.js';
import { dit } from './diffusers/dit.js';
import { unet2dCondition } from './diffusers/unet-2d-condition.js';
import { unet2d } from './diffusers/unet-2d.js';
import { mlp } from './mlp.js';
import { modelOf, type Model, type ModelOptions } from './model.js';
import { sit } from './sit.js';
import { unet } from './unet.js';
import { vit } from './vit.js';

export type { Architecture } from './backbone.js';

interface Entry {
  backbone: Backbone;
  module?: BackboneModule;
}

/** Backbones by their name. The first that has a default for some samples is the one that they get. */
const registry = new Map<string, Entry>(
  [mlp, sit, unet, vit, unet2d, unet2dCondition, dit].map((backbone) => [backbone.name, { backbone }]),
);
const builtIn: ReadonlySet<string> = new Set(registry.keys());

/**
 * Makes a backbone of one's own known, so that descriptions and files may name it.
 * @param module where it comes from, which files of its weights will then say
 * @throws UserError where the name is one of those built in
 */
export function registerBackbone(backbone: Backbone, module?: BackboneModule): void {
  if (builtIn.has(backbone.name))
    throw new UserError(`a backbone named "${backbone.name}" is built in: give yours another name`, 'name');
  registry.set(backbone.name, { backbone, module });
}

/** The names of all backbones that are known. */
export const backboneNames = (): string[] => [...registry.keys()];

/** Why a kind is not known, in words. */
function unknownKind(kind: unknown, module: unknown): string {
  const { name, sha256 } = (module ?? {}) as Partial<BackboneModule>;
  if (typeof name === 'string')
    return `the backbone "${kind}" is defined by the module ${name}${typeof sha256 === 'string' ? ` (sha256 ${sha256.slice(0, 12)}…)` : ''}: load that module first, or give it as arch`;
  return `"${kind}" is none of the known backbones, ${backboneNames().join(', ')}: one's own comes from a module, given as arch`;
}

/** Checks an architecture by the schema of the backbone that it names, and completes it by the schema's defaults. */
export const architectureSchema: z.ZodType<Architecture, Architecture> = z
  .looseObject({ kind: z.string(), module: z.unknown() })
  .partial({ module: true })
  .transform(({ kind, module, ...sizes }, context): Architecture => {
    const entry = registry.get(kind);
    if (!entry) {
      context.issues.push({ code: 'custom', input: kind, path: ['kind'], message: unknownKind(kind, module) });
      return z.NEVER;
    }
    const { backbone } = entry;
    // Of a backbone that is built in, `module` would be a size that it does not know.
    const own = module === undefined || !builtIn.has(kind) ? sizes : { ...sizes, module };
    const result = backbone.schema.safeParse(own);
    if (!result.success) {
      for (const issue of result.error.issues) context.issues.push({ ...issue, input: own } as never);
      return z.NEVER;
    }
    return { kind, ...(entry.module && { module: entry.module }), ...result.data };
  }) as never;

/**
 * The network, without weights, that an architecture describes.
 * @throws UserError naming the key whose value cannot work
 */
export function buildModel(architecture: Architecture, options: Partial<ModelOptions> = {}): Model {
  const result = architectureSchema.safeParse(architecture);
  if (!result.success) {
    const [issue] = result.error.issues;
    throw new UserError(`${['architecture', ...issue.path].join('.')}: ${issueText(issue)}`, 'architecture');
  }
  const { kind, module: _, ...sizes } = result.data;
  const { twoTime = false, checkpointBlocks = false, guided = false, jumpRank = 0 } = options;
  const parts = registry.get(kind)!.backbone.build(sizes, { twoTime, checkpointBlocks, guided });
  const model = modelOf(parts, twoTime ? jumpRank : 0);
  for (const [wanted, prefix, what] of [
    [twoTime, 'jump_embedder.', 'second time input: put what jumpParameters gives among its parameters'],
    [guided, 'guidance_embedder.', 'input of guidance: put what guidanceParameters gives among its parameters'],
  ] as const)
    if (wanted && ![...model.studentParameters].some((name) => name.startsWith(prefix)))
      throw new UserError(`the backbone "${kind}" has no ${what}`, 'architecture');
  return model;
}

/**
 * The architecture under which the same weights take inputs of other shapes.
 * @returns null where the backbone has one shape only, or cannot take these
 */
export function fitArchitecture(architecture: Architecture, shapes: InputShapes): Architecture | null {
  const { kind, module, ...sizes } = architecture;
  const fitted = registry.get(kind)?.backbone.fit?.(sizes, shapes);
  return fitted ? architectureSchema.parse({ kind, ...(module && { module }), ...fitted }) : null;
}

/**
 * The architecture that a data set gets unless one is described.
 * @param kind of which backbone; without it of the first that has a default for such samples
 * @throws UserError where there is none
 */
export function defaultArchitecture(samples: SampleLaw, kind?: string): Architecture {
  const kinds = kind === undefined ? backboneNames() : [kind];
  for (const name of kinds) {
    const entry = registry.get(name);
    if (!entry) throw new UserError(unknownKind(name, undefined), 'model');
    const sizes = entry.backbone.defaults(samples);
    if (sizes) return architectureSchema.parse({ kind: name, ...sizes });
  }
  throw new UserError(
    `${kind ?? 'no backbone'} has ${kind === undefined ? 'a' : 'no'} default for samples of shape [${samples.shape}]: describe it with arch, or use ${
      backboneNames()
        .filter((name) => registry.get(name)!.backbone.defaults(samples))
        .join(' or ') || 'a backbone of your own'
    }`,
    'model',
  );
}
