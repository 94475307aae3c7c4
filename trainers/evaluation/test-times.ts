import { random } from '../../src/tensor/philox.js';
import { hostStreams } from '../../src/tensor/streams.js';

/** Share of the pairs whose s is the end of the path, as sampling in one jump asks for. */
const endShare = 0.15;

/**
 * Pairs s ≤ t by which flow maps are judged: the greater and the smaller of two uniform times, s moved to the end of
 * the path for a share of them.
 * @param lowest the smallest time that is drawn
 * @param end where the path ends, usually 0
 */
export function testTimes(
  count: number,
  seed: number,
  lowest: number,
  end: number,
): { t: Float32Array; s: Float32Array } {
  const { uniform } = random(seed, 0, hostStreams.testTimes);
  const time = () => lowest + (1 - lowest) * uniform();
  const [t, s] = [new Float32Array(count), new Float32Array(count)];
  for (let i = 0; i < count; i++) {
    const [a, b] = [time(), time()];
    t[i] = Math.max(a, b);
    s[i] = uniform() < endShare ? end : Math.max(end, Math.min(a, b));
  }
  return { t, s };
}
