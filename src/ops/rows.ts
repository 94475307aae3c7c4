import type { Profile } from '../gpu/profile.js';
import type { Shape } from '../tensor/shape.js';
import type { Tensor } from '../tensor/tensor.js';
import { bool, u32, type Kernel } from './rule.js';

/**
 * A kernel over rows, which are the groups of channels of [N, P, C]: an invocation, a subgroup or a workgroup works on one.
 * @param inputs by the name that the kernel gives them
 */
export function rowKernel(
  source: string,
  profile: Profile,
  [items, positions, channels]: Shape,
  groups: number,
  inputs: Record<string, Tensor>,
): Kernel {
  const rows = items * groups;
  const run = channels / groups;
  const vectors = positions * Math.ceil(run / 4);
  const flat = positions === 1 && groups === 1;
  const shared =
    profile.family !== 'plain' ? 'workgroup' : profile.subgroupSize === 8 && vectors >= 8 ? 'subgroup' : null;
  return {
    source,
    library: `row-${shared ?? 'invocation'}`,
    constants: {
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
    workgroups: shared ? rows : Math.ceil(rows / 64),
    run,
  };
}
