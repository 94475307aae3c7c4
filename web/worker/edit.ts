import { drawSamplesBy, type Runner } from '../../index.js';
import { editingParadigms, stepParadigms, type ComparedNetworks } from '../../src/experiments/paradigms.js';
import { checkedMask } from '../../src/experiments/masks.js';
import { renoised } from '../../src/experiments/editing.js';
import { inpaint } from '../../src/experiments/steps.js';
import { everywhere, testImagesOf, type TestImages } from '../../src/experiments/test-images.js';
import { UserError } from '../../src/errors.js';
import { hostStreams, seedFor } from '../../src/tensor/streams.js';
import type { Edited, FillRequest, Picture, RoundsRequest, Subject } from '../protocol.js';
import type { Models } from './models.js';

/** Calls of the teacher that draw the picture to be edited, and how many it is chosen from. */
const [drawingCalls, drawn] = [16, 16];

/**
 * A picture to edit that looks like its class: of some samples of the teacher the one that is nearest to their mean.
 * @throws UserError where the family has none
 */
export async function picture(models: Models, { family, seed, label }: Subject): Promise<Picture> {
  const { teacher } = await compared(models, family);
  const { x, labels } = await drawSamplesBy(teacher, {
    count: drawn,
    seed: seedFor(seed, hostStreams.sceneImages),
    label: label ?? (teacher.network.model.classes ? seed % teacher.network.model.classes : undefined),
    steps: drawingCalls,
  });
  const size = x.length / drawn;
  const pictures = Array.from({ length: drawn }, (_, n) => x.slice(n * size, (n + 1) * size));
  const mean = Float32Array.from({ length: size }, (_, i) => pictures.reduce((sum, own) => sum + own[i], 0) / drawn);
  const distances = pictures.map((own) => own.reduce((sum, value, i) => sum + (value - mean[i]) ** 2, 0));
  return { x: pictures[distances.indexOf(Math.min(...distances))], label: labels?.[0] ?? null };
}

/** Fills what a mask hides by the four paradigms, from several noises. @throws UserError where it hides nothing or all */
export async function fill(
  models: Models,
  { family, hidden, calls, ...request }: FillRequest,
  tell: (edited: Edited) => void,
  signal: AbortSignal,
): Promise<void> {
  const networks = await compared(models, family);
  const [, height, width] = networks.teacher.network.model.sampleShape;
  const mask = checkedMask({ name: 'you brushed', height, width, hidden });
  const test = trialOf(networks.teacher, request, mask);
  for (const operator of stepParadigms(networks, test, request.seed)) {
    signal.throwIfAborted();
    tell({ name: operator.name, x: await inpaint(test, operator, calls) });
  }
}

/** Rounds of noise to a time and back, each way back by its own operator. */
export async function rounds(
  models: Models,
  { family, time, rounds: count, ...request }: RoundsRequest,
  tell: (edited: Edited) => void,
  signal: AbortSignal,
): Promise<void> {
  const networks = await compared(models, family);
  const test = trialOf(networks.teacher, request);
  for (const operator of editingParadigms(networks, test).slice(0, -1)) {
    let x = test.images;
    for (let round = 0; round < count; round++) {
      signal.throwIfAborted();
      const noisy = renoised(test, networks.teacher.network, x, time, request.seed, round);
      x = await operator.go(noisy, everywhere(test, time), everywhere(test, 0), round);
      tell({ name: operator.name, round, x: x.slice(0, test.size) });
    }
  }
}

/** The networks of a family as experiments compare them. @throws UserError where it makes no pictures or has no flow map */
async function compared(models: Models, id: string): Promise<ComparedNetworks> {
  const { kind, members } = await models.family(id);
  if (kind !== 'pictures') throw new UserError('points have nothing to brush: choose networks that make pictures');
  const map = members.find(({ role, sampler }) => role === 'flow-map' && sampler === 'jump');
  if (!map) throw new UserError('there is no flow map among these networks: choose others');
  const runner = (name: string) => models.runner(id, name);
  const consistency = members.find(({ sampler }) => sampler === 'consistency') ?? map;
  const teacher = members.find(({ role }) => role === 'teacher') ?? map;
  return {
    teacher: await runner(teacher.name),
    flowMap: await runner(map.name),
    consistency: await runner(consistency.name),
    others: [],
  };
}

/** One picture several times, each with a noise of its own. */
function trialOf(
  { network }: Runner,
  { x, label, seed, count }: Pick<FillRequest, 'x' | 'label' | 'seed' | 'count'>,
  mask?: Parameters<typeof testImagesOf>[5],
): TestImages {
  const values = new Float32Array(count * x.length);
  for (let i = 0; i < count; i++) values.set(x, i * x.length);
  const labels = label === null ? undefined : new Uint32Array(count).fill(label);
  return testImagesOf(network, { count, values, labels }, [-1, 1], count, seed, mask);
}
