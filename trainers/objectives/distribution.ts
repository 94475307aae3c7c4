import { interpolate, step } from '../../src/flow/field.js';
import { perSample } from '../../src/flow/parametrization.js';
import { together } from '../../src/flow/questions.js';
import { sum } from '../../src/ops/broadcast.js';
import { reshape } from '../../src/ops/movement.js';
import { abs, add, div, maximum, mul, sub } from '../../src/ops/pointwise.js';
import type { Tensor } from '../../src/tensor/tensor.js';
import type { Objective } from './objective.js';
import { warmthLike } from './tangent.js';

/**
 * Distribution matching: where the student jumps to is noised to a random τ, and there two networks say what it should
 * have been, the teacher of its data and the fake of the student's samples. With D = x_τ - τ · v, the gradient of the
 * Kullback-Leibler divergence at the sample is g = (D_fake - D_teacher) / max(1e-3, mean |sample - D_teacher|), which
 * vanishes where both distributions are one. (Yin et al., DMD, 2024.) In u the regression on u + strength / 2 · (t - s) · g
 * has the gradient of strength · mean(g · sample).
 */
export const distribution: Objective = {
  name: 'distribution',
  summary: "matching of distributions, by a network that learns the student's samples (Yin et al., DMD, 2024)",
  asked: 'end',
  fake: true,
  unweighted: true,
  needsTeacher: true,
  // Two networks that nearly agree are subtracted.
  smallDivisor: 'always',
  *target({ x, t, s, student, samples }) {
    const { t: time, z, real, fake, strength } = samples!;
    const sample = step(x, t, s, student);
    const noisy = interpolate(sample, z, time);
    const [towards, away] = yield* together(real(noisy, time), fake(noisy, time));
    const back = perSample(time, x);
    const wanted = sub(noisy, mul(back, towards));
    const distance = maximum(meanMagnitude(sub(sample, wanted)), 1e-3);
    const slope = div(mul(back, sub(towards, away)), perSample(distance, x));
    return add(student, mul(mul(perSample(sub(t, s), x), slope), mul(warmthLike(strength, x), 0.5)));
  },
};

/** Mean |x| of each sample, [B]. */
const meanMagnitude = (x: Tensor): Tensor => {
  const [count] = x.shape;
  return mul(sum(reshape(abs(x), [count, x.size / count]), [1]), count / x.size);
};
