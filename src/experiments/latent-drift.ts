import { parametrization } from '../flow/parametrization.js';
import { latentMask } from '../pipelines/preparation.js';
import { normals } from '../tensor/philox.js';
import { hostStreams } from '../tensor/streams.js';
import { driftReport } from './drift-experiment.js';
import { driftOf, hopCounts, type DriftResult } from './drift.js';
import { imageAt, progressLine, shownImages } from './experiment.js';
import { isFlowMap, type LatentContext, type LatentExperiment } from './latent.js';
import { coupledJump, ddim, endpointJump, jump, type Asked, type Operator } from './operators.js';
import type { TestImages } from './test-images.js';

/** Exp-II in latents: how far k hops are from the direct jump, the known region locked to one reference trajectory. */
export const latentDrift: LatentExperiment = async (context) => {
  const { subject, parts, count } = context;
  const { pipelines, seed, onProgress } = subject;
  const { teacher, endpoint, trajectory, flowMap } = pipelines;
  const latest = parametrization(teacher.network.description).highest;
  type Way = readonly [name: string, pipeline: typeof teacher, of: (map: Asked, test: TestImages) => Operator];
  const way = (
    name: string,
    pipeline: typeof teacher | undefined,
    of: (...given: [string, Asked, TestImages]) => Operator,
  ): Way[] => (pipeline ? [[name, pipeline, (map, test) => of(name, map, test)]] : []);
  const ways = [
    ...way('flow map', flowMap, (name, map) => jump(name, map, undefined)),
    ...way('endpoint jump (LCM)', endpoint, (name, map, { noise }) => endpointJump(name, map, undefined, () => noise)),
    ...way('coupled jump (TCD)', trajectory, (name, map) =>
      trajectory && isFlowMap(trajectory) ? coupledJump(name, map, undefined) : ddim(name, map, undefined),
    ),
    ...way('coupled, teacher', teacher, (name, map) => ddim(name, map, undefined)),
  ];
  const results: DriftResult[] = [];
  for (const [name, pipeline, of] of ways)
    results.push(
      await parts.part(`latent drift ${name}`, async () => {
        const painter = await context.open(pipeline);
        try {
          const test = testLatents(context, await painter.known(), painter.size);
          const progress = (hops: number) => onProgress(progressLine('drift', name, hops));
          return await driftOf(test, of(painter.asking, test), seed, Math.min(shownImages, count), progress, latest);
        } finally {
          painter.dispose();
        }
      }),
    );
  const images = await panels(context, results);
  return driftReport(results, images, { parts, seed, from: `random times between 0.5 and ${latest.toFixed(3)}` });
};

/** The latents of the pictures with noise, and what of them is painted. */
function testLatents({ subject, count }: LatentContext, images: Float32Array, size: number): TestImages {
  const { pictures, sides, pipelines, seed } = subject;
  const mask = latentMask(pictures[0].mask, sides, pipelines.teacher.vae.parts.factor);
  return {
    images,
    noise: normals(count * size, seed, 0, hostStreams.latentNoise),
    count,
    size,
    hidden: Uint8Array.from({ length: size }, (_, i) => mask[i % mask.length]),
  };
}

/** The direct jump, the longest chain, and how they differ, decoded. */
async function panels(context: LatentContext, results: readonly DriftResult[]) {
  const all = results.flatMap(({ shown: { direct, composed } }) => [...direct, ...composed]);
  const images = await context.decode(Float32Array.from(all));
  const { pixels } = context;
  const each = images.length / pixels / (2 * results.length);
  const made = [];
  for (let i = 0; i < each; i++) {
    const rows = results.map(({ method }, row) => {
      const [direct, composed] = [0, 1].map((which) => imageAt(images, (2 * row + which) * each + i, pixels));
      // Half of the range is white, so that small differences are seen.
      const difference = direct.map((value, k) => -1 + Math.min(2, 2 * Math.abs(value - composed[k])));
      return { name: method, images: [direct, composed, difference] };
    });
    const columns = ['direct', `${hopCounts[hopCounts.length - 1]} hops`, 'difference'];
    made.push(await context.grid(`drift-${i + 1}`, { columns, rows }));
  }
  return made;
}
