/** How timesteps of few steps lie among those of training, by the names that configurations have. */
export const spacings = ['linspace', 'leading', 'trailing'] as const;
/** One of them. */
export type Spacing = (typeof spacings)[number];

/** Equal distances from low to high, both included; of one only low. As NumPy has it, to the bit. */
export function linspace(low: number, high: number, count: number): number[] {
  const step = (high - low) / (count - 1);
  return Array.from({ length: count }, (_, i) => (i && i === count - 1 ? high : low + (i && i * step)));
}

/** Rounded with halves to the even neighbour, as NumPy and PyTorch do. */
export function roundHalfEven(value: number): number {
  const below = Math.floor(value);
  return value - below === 0.5 ? below + (below % 2) : Math.round(value);
}

/** What `timesteps` is asked for. */
export interface SpacingRequest {
  readonly spacing: Spacing;
  /** Timesteps of training. */
  readonly levels: number;
  readonly steps: number;
  /** Added by `leading`. */
  readonly offset: number;
  /** Whether `linspace` keeps fractions, as samplers over σ do. */
  readonly fractional?: boolean;
}

/**
 * Falling timesteps of that many steps (Lin et al., 2024, table 2): `linspace` from the first to the last of training,
 * `leading` from 0 on in whole distances, `trailing` from the last on in equal ones, whose number may be one more where
 * their distance is rounded.
 */
export function timesteps({ spacing, levels, steps, offset, fractional = false }: SpacingRequest): number[] {
  if (spacing === 'linspace') {
    const equal = linspace(0, levels - 1, steps).reverse();
    return fractional ? equal : equal.map(roundHalfEven);
  }
  if (spacing === 'leading') {
    const distance = Math.floor(levels / steps);
    return Array.from({ length: steps }, (_, i) => (steps - 1 - i) * distance + offset);
  }
  return trailing(levels, levels / steps);
}

/** From the last timestep down in equal distances. */
export const trailing = (levels: number, distance: number): number[] =>
  Array.from({ length: Math.ceil(levels / distance) }, (_, i) => roundHalfEven(levels - i * distance) - 1);
