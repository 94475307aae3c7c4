import type { Profile } from '../gpu/profile.js';
import type { Shape } from '../tensor/shape.js';
import type { Tensor } from '../tensor/tensor.js';
import { about, stored, taken, type Choice } from './choice.js';
import { bool, u32, type Kernel } from './rule.js';

const vectorsOf = ([, positions, channels]: Shape, groups: number) => positions * Math.ceil(channels / groups / 4);

/** How many lanes share a row of a kernel over rows: an invocation, a subgroup or a workgroup. Arguments as `rowKernel`. */
export function rowChoice(source: string, profile: Profile, shape: Shape, groups: number): Choice<{ lanes: number }> {
  const vectors = vectorsOf(shape, groups);
  const lanes =
    profile.family !== 'plain'
      ? [64, 1, 32, 128, 256]
      : profile.subgroupSize !== 8
        ? [1]
        : vectors >= 8
          ? [8, 1]
          : [1, 8];
  return {
    key: `${source} ${about(shape[0] * groups)} rows of ${about(vectors)}${profile.family === 'plain' ? '' : ' tiled'}${stored(profile)}`,
    candidates: lanes.map((count) => ({ lanes: count })),
  };
}

/**
 * A kernel over rows, which are the groups of channels of [N, P, C]: an invocation, a subgroup or a workgroup works on one.
 * @param inputs by the name that the kernel gives them
 */
export function rowKernel(
  source: string,
  profile: Profile,
  shape: Shape,
  groups: number,
  inputs: Record<string, Tensor>,
): Kernel {
  const [items, positions, channels] = shape;
  const rows = items * groups;
  const run = channels / groups;
  const vectors = vectorsOf(shape, groups);
  const flat = positions === 1 && groups === 1;
  const { lanes } = taken(rowChoice(source, profile, shape, groups), profile);
  const shared = lanes === 1 ? 'invocation' : profile.family === 'plain' ? 'subgroup' : 'workgroup';
  const rowsOfWorkgroup = { invocation: 64, subgroup: 8, workgroup: 1 }[shared];
  return {
    source,
    library: `row-${shared}`,
    constants: {
      ...(shared === 'workgroup' && { LANES: u32(lanes) }),
      GROUPS: u32(groups),
      SIZE4: u32(flat ? 1 : Math.ceil(run / 4)),
      RAGGED: bool(run % 4 > 0),
      FLAT: bool(flat),
    },
    numbers: {
      ROWS: rows,
      POSITIONS: positions,
      CHANNELS: channels,
      SIZE: run,
      LENGTH: positions * run,
      VECTORS: vectors,
    },
    operands: Object.entries(inputs).map(([name, tensor]) => ({ name, tensor, fusion: 'any', run })),
    workgroups: Math.ceil(rows / rowsOfWorkgroup),
    run,
  };
}
