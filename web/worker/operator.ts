import { drawSamplesBy, type Runner } from '../../index.js';
import { ddim, endpointJump, jump, type Operator } from '../../src/experiments/operators.js';
import { everywhere, mixed, testImagesOf, type TestImages } from '../../src/experiments/test-images.js';
import { violationMap } from '../../src/experiments/violation.js';
import { drift } from '../../src/metrics/flow-map.js';
import { hostStreams, seedFor } from '../../src/tensor/streams.js';
import type { OperatorName, Subject, Violation, Walk, WalkRequest } from '../protocol.js';
import type { Models } from './models.js';

/** Samples that operators are tried on, with the operators themselves. */
interface Trial {
  test: TestImages;
  operators: readonly (readonly [name: OperatorName, operator: Operator])[];
}

/** A chain of hops by every operator, beside its direct jump. */
export async function walk(
  models: Models,
  { times, ...subject }: WalkRequest,
  tell: (walk: Walk) => void,
  signal: AbortSignal,
): Promise<void> {
  const { test, operators } = await trialOf(models, subject);
  const [start, ...rest] = times.map((time) => everywhere(test, time));
  const x = mixed(test, start);
  for (const [name, operator] of operators) {
    signal.throwIfAborted();
    const stops = [x];
    for (const [hop, to] of rest.entries())
      stops.push(await operator.go(stops[hop], hop ? rest[hop - 1] : start, to, hop));
    const composed = stops[stops.length - 1];
    const direct = rest.length > 1 ? await operator.go(x, start, rest[rest.length - 1], 0) : composed;
    tell({ operator: name, stops, direct, drift: drift(direct, composed, test.size), noise: test.noise });
  }
}

/** How far two hops are from one, over the plane of times, for every operator; what is known so far is told on the way. */
export async function violations(
  models: Models,
  subject: Subject,
  tell: (violation: Violation) => void,
  signal: AbortSignal,
): Promise<void> {
  const { test, operators } = await trialOf(models, subject);
  // All at once, so that the planes fill together.
  await Promise.all(
    operators.map(([operator, { go }]) =>
      violationMap(
        test,
        (x, t, s) => go(x, t, s, 0),
        (_done, _total, cell) => {
          signal.throwIfAborted();
          if (cell) tell({ operator, ...cell });
        },
      ),
    ),
  );
}

/**
 * Samples as `semiflow check` makes them of a flow map, and the three operators: the flow map's jumps, jumps to its end and
 * back by noise (by a consistency model where the family has one), and Euler steps of the teacher.
 */
async function trialOf(models: Models, { family: id, seed, label, count }: Subject): Promise<Trial> {
  const { members, range } = await models.family(id);
  const map = members.find(({ role, sampler }) => role === 'flow-map' && sampler === 'jump');
  const consistency = members.find(({ sampler }) => sampler === 'consistency') ?? map;
  const teacher = members.find(({ role }) => role === 'teacher') ?? map;
  const runners = new Map<OperatorName, Runner>();
  for (const [name, member] of [
    ['map', map],
    ['endpoint', consistency],
    ['euler', teacher],
  ] as const)
    if (member) runners.set(name, await models.runner(id, member.name));
  const drawn = await drawSamplesBy([...runners.values()][0], {
    count,
    seed: seedFor(seed, hostStreams.sceneImages),
    label: label ?? undefined,
    steps: 4,
  });
  const samples = { count, values: drawn.x, labels: drawn.labels };
  const test = testImagesOf([...runners.values()][0].network, samples, range, count, seed);
  const make = {
    map: (runner: Runner) => jump('jump', runner, test.labels),
    endpoint: (runner: Runner) => endpointJump('endpoint jump', runner, test.labels, () => test.noise),
    euler: (runner: Runner) => ddim('Euler', runner, test.labels),
  };
  return { test, operators: [...runners].map(([name, runner]) => [name, make[name](runner)] as const) };
}
