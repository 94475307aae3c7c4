import type { Dataset } from '../../src/data/dataset.js';
import type { ClassifierNetwork } from '../../src/features/classifier-file.js';
import { Extractor } from '../../src/features/extractor.js';
import type { Network } from '../../src/flow/network.js';
import type { Moments } from '../../src/metrics/moments.js';
import { teacherFit, type TeacherFit } from '../../src/flow/teacher-fit.js';
import type { Device } from '../../src/gpu/device.js';
import { checkerboardKl } from './density.js';
import { evaluateFlowMap, type FlowMapReport } from './flow-map.js';
import { SharedFigures } from './shared.js';
import { qualityTable, sampleQuality, type QualityRow } from './sample-quality.js';
import { fitTable, flowMapTables, type EvaluationTable } from './tables.js';
import { evaluationDefaults, exactTruth, testPoints } from './truth.js';

/** What is evaluated, and by what. */
export interface EvaluationSubject {
  device: Device;
  /** The student itself where it has none. */
  teacher: Network;
  student: Network;
  /** To judge by, where there is some. */
  data?: Dataset | null;
}

/** An evaluation, with tables for people beside the figures. */
export interface Evaluation {
  report: FlowMapReport;
  /** How well the teacher fits held-out data; null where there is no teacher or no data. */
  fit: TeacherFit | null;
  /** Distances of samples to held-out data; empty where there is none. */
  quality: QualityRow[];
  tables: EvaluationTable[];
}

/**
 * Measures a flow map against its teacher, by data where there is some.
 * @param densitySamples for histograms, where the data's density is known; 0 leaves them out
 * @param classifier whose features judge samples too
 */
export async function evaluateStudent(
  { device, teacher, student, data = null }: EvaluationSubject,
  {
    densitySamples = 200_000,
    judged,
    classifier,
    moments,
    shared = new SharedFigures(),
    onProgress,
    ...overrides
  }: {
    samples?: number;
    seed?: number;
    densitySamples?: number;
    /** Images that are held against data by their pixels, at most. */
    judged?: number;
    classifier?: ClassifierNetwork;
    /** Statistics of the classifier's features, for Fréchet distances to them instead of to the data. */
    moments?: Moments;
    /** What other students of this teacher were judged by, with the same data. */
    shared?: SharedFigures;
    onProgress?: (what: string) => void;
  } = {},
): Promise<Evaluation> {
  const report = await evaluateFlowMap(device, teacher, student, {
    ...evaluationDefaults(teacher),
    ...overrides,
    data: testPoints(device, teacher, data),
    truth: exactTruth(teacher, data),
    shared,
    onProgress,
  });
  const tables = flowMapTables(report, student);
  if (!data) return { report, fit: null, quality: [], tables };
  onProgress?.("the teacher's fit");
  const fit =
    teacher.description.role === 'teacher'
      ? await shared.once('fit', () => teacherFit(device, teacher, { ...data.heldOut, range: data.range }))
      : null;
  if (fit) tables.unshift(fitTable(fit, data.name));
  const extractor = classifier && (await Extractor.create(device, classifier, data.shape, data.range));
  const subject = { device, teacher, student, data, extractor, moments };
  const quality = await sampleQuality(subject, { shared, judged, onProgress }).finally(() => extractor?.dispose());
  tables.push(qualityTable(data, quality));
  if (densitySamples && data.name === 'checkerboard')
    tables.push(await checkerboardKl(device, teacher, student, densitySamples, { shared, onProgress }));
  return { report, fit, quality: quality.rows, tables };
}
