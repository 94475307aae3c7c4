import { basename } from 'node:path';
import { fileSource, writeFileAtomic } from '../node/files.js';
import { parseMoments } from '../src/data/moments.js';
import type { ClassifierNetwork } from '../src/features/classifier-file.js';
import { readAll } from '../src/files/source.js';
import type { Moments } from '../src/metrics/moments.js';
import { UserError } from '../src/errors.js';
import { sameShape, sizeOf } from '../src/tensor/shape.js';
import { sampleCount, seedNumber } from './arguments.js';
import { evaluateStudent } from '../trainers/evaluation/evaluation.js';
import { readClassifier } from './classifier.js';
import { evaluationDataset } from './evaluation-data.js';
import { agreeOnNetworks, readNetwork, readTeacher } from './networks.js';
import { printTables } from './print.js';
import { verdict } from '../trainers/evaluation/verdict.js';
import { openSession, type DeviceFlags } from './session.js';
import { begin, done } from './status.js';

export interface EvaluateFlags extends DeviceFlags {
  model: string;
  teacher: string;
  arch?: string;
  /** Adapters folded in. */
  lora?: string[];
  data?: string;
  features?: string;
  featuresArch?: string;
  reference?: string;
  samples?: string;
  seed: string;
  out?: string;
}

/** `semiflow eval`: a flow map against its teacher's true flow. */
export async function evaluateCommand(flags: EvaluateFlags): Promise<void> {
  const teacher = await readTeacher(flags.teacher, flags.arch, flags.lora);
  const student = await readNetwork(flags.model);
  if (student.description.role !== 'flow-map')
    throw new UserError(`${flags.model} is a teacher, not a flow map: give the student's file to --model`);
  if (!sameShape(student.model.sampleShape, teacher.model.sampleShape)) {
    throw new UserError(
      `${flags.model} makes samples of shape [${student.model.sampleShape}], ${flags.teacher} of [${teacher.model.sampleShape}]`,
    );
  }
  if (flags.features && !flags.data)
    throw new UserError('--features judges samples beside held-out images: give these with --data');
  if (flags.reference && !flags.features)
    throw new UserError('is statistics of features: give --features too', 'reference');
  const seed = seedNumber('--seed', flags.seed);
  const { sampleShape } = teacher.model;
  const samples =
    flags.samples === undefined ? undefined : sampleCount('--samples', flags.samples, sizeOf(sampleShape), 2);
  const classifier = flags.features ? await readClassifier(flags.features, flags.featuresArch) : undefined;
  const moments = flags.reference ? await readMoments(flags.reference, classifier!) : undefined;
  const data = await evaluationDataset(teacher, flags.data);
  const device = await openSession(flags);
  await agreeOnNetworks(device.group, { teacher, model: student }, { seed, samples, data: data?.name });
  const { tables, ...figures } = await evaluateStudent(
    { device, teacher, student, data },
    {
      classifier,
      moments,
      ...(samples !== undefined && { samples }),
      seed,
      onProgress: (what) => begin(`evaluating: ${what}`),
    },
  );
  done();
  printTables(tables);
  console.log(`\n${verdict(student, figures, { teacher: basename(flags.teacher), data: data?.name })}`);
  if (flags.out) await writeFileAtomic(flags.out, `${JSON.stringify({ ...figures, tables }, null, 2)}\n`);
  device.dispose();
}

/** Published statistics of the features of a classifier. @throws UserError where they are of others */
async function readMoments(path: string, { config }: ClassifierNetwork): Promise<Moments> {
  const moments = await parseMoments(await readAll(await fileSource(path)), path);
  if (moments.mean.length !== config.features)
    throw new UserError(
      `${path} holds statistics of ${moments.mean.length} features, the classifier has ${config.features}: give those of its own`,
      'reference',
    );
  return moments;
}
