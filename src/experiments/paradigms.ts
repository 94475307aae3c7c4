import { sourceNoise } from '../flow/noise.js';
import type { Runner } from '../flow/runner.js';
import { hostStreams, seedFor } from '../tensor/streams.js';
import { ancestral, coupledJump, ddim, endpointJump, inHops, jump, type Operator } from './operators.js';
import type { TestImages } from './test-images.js';

/** The networks that an experiment compares, all of one backbone. */
export interface ComparedNetworks {
  teacher: Runner;
  /** A two-time flow map. */
  flowMap: Runner;
  /** A consistency model: right at s = 0 alone. */
  consistency: Runner;
  /** Other flow maps by name. */
  others: { name: string; map: Runner }[];
}

/** Exp-I: four paradigms from one noise. */
export function stepParadigms(
  { teacher, flowMap, consistency }: ComparedNetworks,
  test: TestImages,
  seed: number,
): Operator[] {
  const { labels } = test;
  return [
    ancestral('SDE (ancestral)', teacher, labels, seed),
    ddim('ODE (DDIM)', teacher, labels),
    endpointJump('endpoint jump', consistency, labels, freshNoise(teacher, test, seed)),
    jump('flow map', flowMap, labels),
  ];
}

/** Exp-II: operators whose hops ought to compose. */
export function driftParadigms(
  { teacher, flowMap, consistency, others }: ComparedNetworks,
  test: TestImages,
): Operator[] {
  const { labels, noise } = test;
  return [
    jump('flow map', flowMap, labels),
    ...others.map(({ name, map }) => jump(name, map, labels)),
    endpointJump('endpoint jump', consistency, labels, () => noise),
    coupledJump('coupled, student', consistency, labels),
    ddim('coupled, teacher', teacher, labels),
  ];
}

/** Rounds of noise and back: each way back by one call, and the teacher's with more. */
export function editingParadigms(
  { teacher, flowMap, consistency, others }: ComparedNetworks,
  test: TestImages,
): Operator[] {
  const { labels } = test;
  const euler = ddim('', teacher, labels);
  return [
    jump('flow map, 1 jump', flowMap, labels),
    inHops(jump('', flowMap, labels), 4, 'flow map, 4 jumps'),
    ...others.map(({ name, map }) => jump(`${name}, 1 jump`, map, labels)),
    jump('consistency, 1 jump', consistency, labels),
    inHops(euler, 1, 'teacher, 1 Euler step'),
    inHops(euler, 4, 'teacher, 4 Euler steps'),
    inHops(euler, 32, 'teacher, 32 Euler steps'),
  ];
}

/** Round trips between data and noise; a flow map takes part that learned forward jumps. */
export function roundTripParadigms({ teacher, flowMap, others }: ComparedNetworks, test: TestImages): Operator[] {
  const { labels } = test;
  const euler = ddim('', teacher, labels);
  const maps = [{ name: 'flow map', map: flowMap }, ...others].filter(({ map }) => map.network.description.forward);
  return [
    ...maps.flatMap(({ name, map }) => [
      jump(`${name}, 1 jump`, map, labels),
      inHops(jump('', map, labels), 4, `${name}, 4 jumps`),
    ]),
    inHops(euler, 1, 'teacher, 1 Euler step'),
    inHops(euler, 4, 'teacher, 4 Euler steps'),
    inHops(euler, 32, 'teacher, 32 Euler steps'),
  ];
}

/** A new noise for each hop, of the seed alone. */
function freshNoise(teacher: Runner, { count, size }: TestImages, seed: number) {
  return (hop: number) =>
    sourceNoise(teacher.network.description.source, count, size, seedFor(seed, hostStreams.endpointNoise, hop));
}
