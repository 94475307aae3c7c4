/** Integrals of exp(-z²/2) over an interval that stay exact in float64 however far in the tail it lies. */

const rootTwoPi = Math.sqrt(2 * Math.PI);

// W. J. Cody, "Rational Chebyshev approximations for the error function", Math. Comp. 23 (1969), as for the normal
// distribution in his SPECFUN; highest power first.
const inner = {
  top: [0.06568233791820745, 2.2352520354606837, 161.02823106855587, 1067.6894854603709, 18154.98125334356],
  bottom: [1, 47.202581904688245, 976.0985517377767, 10260.932208618979, 45507.78933502673],
};
const middle = {
  top: [
    1.0765576773720192e-8, 0.39894151208813466, 8.883149794388377, 93.50665613217785, 597.2702763948002,
    2494.5375852903726, 6848.190450536283, 11602.65143764735, 9842.714838383978,
  ],
  bottom: [
    1, 22.266688044328117, 235.387901782625, 1519.3775994075547, 6485.558298266761, 18615.571640885097,
    34900.95272114598, 38912.00328609327, 19685.429676859992,
  ],
};
const outer = {
  top: [
    0.023073441764940174, 0.215898534057957, 0.12740116116024736, 0.022235277870649807, 0.0014216191932278934,
    2.9112874951168793e-5,
  ],
  bottom: [1, 1.284260096144911, 0.4682382124808651, 0.06598813786892856, 0.0037823963320275824, 7.297515550839662e-5],
};

function polynomial(coefficients: readonly number[], x: number): number {
  let value = 0;
  for (const coefficient of coefficients) value = value * x + coefficient;
  return value;
}

function ratio({ top, bottom }: { top: readonly number[]; bottom: readonly number[] }, x: number): number {
  return polynomial(top, x) / polynomial(bottom, x);
}

/** Mills' ratio ∫_y^∞ exp(-z²/2) dz / exp(-y²/2) for y ≥ 0: falls from √(π/2) as 1/y and never underflows. */
export function mills(y: number): number {
  if (y <= 0.67448975) return (0.5 - y * ratio(inner, y * y)) * rootTwoPi * Math.exp((y * y) / 2);
  if (y <= Math.sqrt(32)) return ratio(middle, y) * rootTwoPi;
  if (y === Infinity) return 0;
  const inverseSquare = 1 / (y * y);
  return (1 - inverseSquare * ratio(outer, inverseSquare) * rootTwoPi) / y;
}

// Gauss-Legendre with 8 points on [-1, 1]: half of the nodes, with their weights halved.
const nodes = [0.1834346424956498, 0.525532409916329, 0.7966664774136267, 0.9602898564975363];
const weights = [0.181341891689181, 0.1568533229389436, 0.1111905172266872, 0.0506142681451881];

/** What remains of a standard normal cut to an interval. */
export interface Truncated {
  /** Logarithm of the average of exp(-z²/2) over the interval. */
  logDensity: number;
  /** Where the mean lies: 0 at the lower end, 1 at the upper. */
  fraction: number;
}

/** The standard normal cut to [a, b], a ≤ b. */
export function truncate(a: number, b: number): Truncated {
  if (a + b > 0) {
    const { logDensity, fraction } = truncate(-b, -a);
    return { logDensity, fraction: 1 - fraction };
  }
  const width = b - a;
  const center = (a + b) / 2;
  // Nearly flat over the interval: differences of tails would cancel, quadrature is exact.
  if (width <= 1 && -center * width <= 3) {
    const half = width / 2;
    let mass = 0;
    let moment = 0;
    for (let i = 0; i < nodes.length; i++) {
      const z = half * nodes[i];
      // exp(-(c ± z)²/2) without the common factor exp(-c²/2).
      const right = weights[i] * Math.exp(-z * (center + z / 2));
      const left = weights[i] * Math.exp(z * (center - z / 2));
      mass += right + left;
      moment += nodes[i] * (right - left);
    }
    return { logDensity: Math.log(mass) - (center * center) / 2, fraction: (1 + moment / mass) / 2 };
  }
  if (b > 0) {
    const mass = rootTwoPi - Math.exp((-b * b) / 2) * mills(b) - Math.exp((-a * a) / 2) * mills(-a);
    const mean = (Math.exp((-a * a) / 2) - Math.exp((-b * b) / 2)) / mass;
    return { logDensity: Math.log(mass / width), fraction: (mean - a) / width };
  }
  // Everything relative to exp(-b²/2), the density at the end nearer to 0.
  const drop = Math.exp(center * width);
  const mass = mills(-b) - drop * mills(-a);
  return { logDensity: Math.log(mass / width) - (b * b) / 2, fraction: 1 - ((1 - drop) / mass + b) / width };
}
