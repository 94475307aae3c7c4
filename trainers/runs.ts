import type { Device } from '../src/gpu/device.js';
import { UserError } from '../src/errors.js';
import { fingerprint } from '../src/files/fingerprint.js';
import { adapterFile, adapterOf } from '../src/flow/adapter.js';
import type { Description } from '../src/flow/description.js';
import {
  bindNetwork,
  checkpointed,
  createNetwork,
  exportNetwork,
  parametersByName,
  studentOf,
  tensorsOf,
  type Network,
  type WeightsFile,
} from '../src/flow/network.js';
import { drawSamples } from '../src/flow/sampling.js';
import { describeFit, teacherFit } from '../src/flow/teacher-fit.js';
import type { Autoencoder } from '../src/models/diffusers/autoencoder.js';
import { ParameterLayout, type Parameters } from '../src/nn/parameters.js';
import { joinedWeights, type Weights } from '../src/nn/weights.js';
import { sizeOf } from '../src/tensor/shape.js';
import { hostStreams, seedFor } from '../src/tensor/streams.js';
import { checkFit, sampleFingerprint, SampleSource, type SampleSet } from './batches.js';
import { exportClassifier, type ClassifierNetwork } from '../src/features/classifier-file.js';
import { autoencodingLoss } from './autoencoding.js';
import { classificationLoss } from './classification.js';
import {
  distillationSchema,
  type AutoencodingConfig,
  type ClassificationConfig,
  type DistillationConfig,
  type TeacherConfig,
} from './config.js';
import { distillationLoss } from './distillation.js';
import { fakeOf } from './fake.js';
import { flowMatchingLoss } from './flow-matching.js';
import { checkRecipe, usedObjectives } from './methods.js';
import { planWithin, savingsOf, type Running, type Savings } from './memory.js';
import { RunFiles } from './run-files.js';
import { rowsByObjective } from './shares.js';
import { epsilonAt, reachAt, strengthAt, warmupAt } from './schedules.js';
import { checkWeights, train, type TrainOptions, type Training } from './train.js';
import type { OptimizerOptions, PlannedTraining, Trainer, TrainerState } from './trainer.js';
import { uncertaintyParameters } from './uncertainty.js';

type Recipe = TeacherConfig | DistillationConfig | ClassificationConfig | AutoencodingConfig;

const optimizerOf = ({ optimizer: { rate, warmup, finalShare, ...adamW } }: Recipe): OptimizerOptions => ({
  ...adamW,
  rate: { peak: rate, warmup, finalShare },
});

/** What all tasks have of their recipe. */
const commonOf = (recipe: Recipe) => ({
  recipe,
  steps: recipe.steps,
  seed: recipe.seed,
  precision: recipe.precision,
});

/** The average that is exported and evaluated. */
const exported = 'export';

/** A task whose learner holds all weights of a network, and perhaps others behind them. */
function wholeNetwork<N extends { layout: ParameterLayout; weights: Weights }>(
  name: string,
  network: N,
  fileOf: (network: N) => WeightsFile,
) {
  return {
    trained: network.layout.count,
    result: (average: Trainer['average']) => kept({ ...network, weights: average(name, exported) }),
    file: (average: Trainer['average']) => fileOf({ ...network, weights: average(name, exported) }),
  };
}

/** A network whose weights are those of now, whatever becomes of where they were. */
async function kept<N extends { layout: ParameterLayout; weights: Weights }>(network: N): Promise<N> {
  const { layout, weights } = network;
  return { ...network, weights: layout.weightsOf(await layout.collect(weights)) };
}

/** What a run remembers of a network, to know it again. */
export const networkFingerprint = (network: Network): Promise<string> => fingerprint(partsOf(network));

async function* partsOf({ description, layout, weights }: Network): AsyncGenerator<string | Float32Array> {
  yield JSON.stringify(description);
  for (const { name, shape } of layout.parameters) {
    yield `${name} [${shape}]`;
    yield await weights.read(name);
  }
}

/** What a recipe's student is, given its teacher or the description of a network of one's own. */
export function studentDescription(base: Description, config: DistillationConfig): Description {
  const { guidance, times, student } = config;
  const used = usedObjectives(config);
  const sampler = used.length === 1 ? used[0].sampler : undefined;
  const { autoguidance: _, ...kept } = base;
  return {
    ...kept,
    role: 'flow-map',
    ...(sampler && { sampler }),
    ...(times.forwardShare > 0 && { forward: true }),
    ...(student.jumpRank > 0 && !student.loraRank && { jumpRank: student.jumpRank }),
    ...((guidance.from !== 1 || guidance.to !== 1) && { guidance }),
  };
}

/** What a flow map is distilled from. */
export interface DistillationSubject {
  device: Device;
  /** Null or missing where the method learns from data alone. */
  teacher?: Network | null;
  /** Without a teacher: what the network is. */
  student?: Description;
  /** A flow map of the same network whose weights the student starts from, by a fresh optimizer. */
  start?: Network;
  /** What x_t is mixed from; by default samples of the teacher. */
  data?: SampleSet | null;
}

/**
 * The training of a flow map.
 * @throws UserError where recipe, networks and data do not fit together
 */
export async function distil(
  subject: DistillationSubject,
  recipe: DistillationConfig,
  options: TrainOptions = {},
): Promise<Training<Network>> {
  const { device, teacher = null, data } = subject;
  const network = studentNetwork(subject, recipe);
  if (teacher) await checkWeights(teacher.layout, teacher.weights, 'the teacher');
  const weightsFile = 'student.safetensors';
  // What is refused is refused before anything is computed.
  if (options.store && !options.resume) {
    await RunFiles.checkFree(options.store, [weightsFile], options.disposable);
    if (!device.group.rank) await RunFiles.checkWritable(options.store);
  }
  if (data) noteFit(data, network.model, recipe.labelDropout, options);
  if (teacher && data && !options.resume) await noteTeacherFit(device, teacher, data, options);
  if (!data) planDistillation(subject, recipe, options);
  const set = data ?? (await teacherSamples(device, teacher!, recipe, options));
  options.onProgress?.({ phase: 'preparing', what: 'fingerprints of teacher and data' });
  const inputs = {
    ...(teacher && { teacher: await networkFingerprint(teacher) }),
    ...(data && { data: await sampleFingerprint(data) }),
    ...(subject.start && { student: await networkFingerprint(subject.start) }),
  };
  const task = distillationTask(subject, recipe, network, set);
  const savings = distillationSavings(subject, recipe, set);
  return train(device, { ...task, inputs, weightsFile, savings }, options);
}

/**
 * What the training of a flow map needs, computed without any of it.
 * @throws MemoryError where it is more than there is; UserError as `distil`
 */
export function planDistillation(
  subject: DistillationSubject,
  recipe: DistillationConfig,
  running?: Running,
): PlannedTraining {
  const set = subject.data ?? standIn(subject.teacher!, recipe);
  const task = distillationTask(subject, recipe, studentNetwork(subject, recipe), set);
  return planWithin(subject.device, task, running, distillationSavings(subject, recipe, set));
}

/** The student of a recipe at its start. @throws UserError where recipe, networks and data do not fit together */
function studentNetwork(subject: DistillationSubject, recipe: DistillationConfig): Network {
  const { teacher = null, student, data } = subject;
  checkRecipe(recipe, teacher !== null);
  const base = teacher?.description ?? student;
  if (!base)
    throw new UserError('a flow map is trained from a teacher, or as the student that is described', 'student');
  const told = teacher && Object.entries(teacher.model.conditions).find(([, { optional }]) => !optional);
  if (told && !data)
    throw new UserError(
      `the teacher is told ${told[0]} [${told[1].shape}] of each sample, so it cannot draw samples alone: give data that hold it`,
      'data',
    );
  if (!teacher && !data) throw new UserError('without a teacher a flow map learns from data: give some', 'data');
  const ofData = usedObjectives(recipe).find((objective) => objective.ofData);
  if (ofData && !data)
    throw new UserError(`${ofData.name} learns the velocity of data, and there are none: give some`, 'data');
  // Whatever the recipe says, weights that are there already are those of a network of their own rank.
  const { jumpRank } = subject.start?.description ?? studentDescription(base, recipe);
  const description = { ...studentDescription(base, recipe), jumpRank };
  const { seed, checkpointBlocks, student: start } = recipe;
  const fresh =
    teacher && start.init === 'teacher'
      ? studentOf(teacher, description, seed, checkpointBlocks)
      : createNetwork(description, seed, checkpointBlocks);
  const network = subject.start ? withWeightsOf(fresh, subject.start) : fresh;
  if (base.autoguidance !== undefined && start.init === 'teacher' && start.rates.inherited === 0)
    throw new UserError(
      'the teacher is led away from a weaker network, and weights of it that do not learn keep another velocity: let them (above 0)',
      'student.rates.inherited',
    );
  if (jumpRank && !network.model.opens)
    throw new UserError(
      `the backbone "${description.architecture.kind}" names no weights beside which jumps open others (opens): leave the rank at 0, and let what is inherited learn`,
      'student.jumpRank',
    );
  const { nullClass, conditions } = network.model;
  const against = Object.keys(conditions)[0];
  const stronger = isJudged(recipe) && recipe.distribution.guidance !== 1;
  if ((description.guidance || stronger) && !nullClass && !(data?.negative && against))
    throw new UserError(
      against
        ? `guidance leads away from a negative condition, such as an empty text: give data with negative.${against}`
        : 'guidance needs a network that knows classes and none: this one has no row for none',
      description.guidance ? 'guidance' : 'distribution.guidance',
    );
  return network;
}

/** A distillation without its files and what it remembers. */
function distillationTask(
  { device, teacher = null, start: from }: DistillationSubject,
  recipe: DistillationConfig,
  network: Network,
  set: SampleSet,
) {
  const source = new SampleSource(set, recipe);
  const { epsilon, tangent, reach, steps, ema, seed, student: start } = recipe;
  const common = {
    kind: 'flow-map',
    ...commonOf(recipe),
    feed: source.feed,
    complete: (recipe: object) => distillationSchema().parse(recipe),
    schedules: {
      epsilon: (step: number) => epsilonAt(epsilon, step, steps),
      warmup: (step: number) => warmupAt(tangent.warmup, step),
      reach: (step: number) => reachAt(reach, step, steps),
      ...(isJudged(recipe) && { strength: (step: number) => strengthAt(recipe.distribution, step) }),
    },
  };
  const fakeFor = (adapt?: (trained: Parameters) => Parameters) =>
    isJudged(recipe) ? fakeOf(teacher!, network, source, recipe, optimizerOf(recipe), adapt) : null;
  const averages = { target: ema.target, [exported]: ema.export };
  const student = {
    name: 'student',
    averages,
    optimizer: optimizerOf(recipe),
    rows: rowsByObjective(recipe),
  };

  if (start.loraRank) {
    const lora = { rank: start.loraRank, alpha: start.loraAlpha };
    // What the student has beyond its teacher is trained in full, so that the base is the teacher's own copy on the device.
    const base = teacher && start.init === 'teacher' && !from ? teacher : network;
    const adapter = adapterOf(network, lora, seed);
    const adapt = (trained: Parameters) =>
      adapter.adapt(bindNetwork(base, 'base', device.profile, recipe.precision), trained);
    const fake = fakeFor(adapt);
    const loss = distillationLoss(teacher, network, source, recipe, adapt, fake);
    return {
      ...common,
      learners: [
        { ...student, layout: adapter.layout, initial: adapter.weights, loss },
        ...(fake ? [fake.learner] : []),
      ],
      trained: adapter.layout.count,
      result: (average: Trainer['average']) =>
        kept({ ...network, weights: adapter.merge(average('student', exported)) }),
      file: (average: Trainer['average']) => adapterFile(network, adapter, lora, average('student', exported)),
    };
  }
  const extra = recipe.weighting.kind === 'uncertainty' ? uncertaintyParameters : [];
  const layout = extra.length ? new ParameterLayout([...network.model.parameters, ...extra]) : network.layout;
  const own = new Set(network.layout.parameters.map(({ name }) => name));
  const initial = joinedWeights(network.weights, (name) => own.has(name), layout.drawn(seed));
  const fake = fakeFor();
  const loss = distillationLoss(teacher, network, source, recipe, undefined, fake);
  const rates = start.init === 'teacher' ? start.rates : undefined;
  const learners = [{ ...student, layout, initial, loss, rates }, ...(fake ? [fake.learner] : [])];
  return { ...common, learners, ...wholeNetwork('student', network, exportNetwork) };
}

/** Whether a recipe has the student's samples judged, by a fake that learns beside it. */
const isJudged = (recipe: DistillationConfig): boolean => usedObjectives(recipe).some(({ fake }) => fake);

/** A network with the weights of another. @throws UserError where they are not those of the same backbone */
function withWeightsOf(network: Network, { layout, weights }: Network): Network {
  network.layout.check(parametersByName(layout), 'the flow map to start from');
  return { ...network, weights };
}

/** The rank that is proposed where a whole student, or a whole fake, does not fit. */
const proposedRank = 8;

/** How a distillation takes less memory. */
function distillationSavings(subject: DistillationSubject, recipe: DistillationConfig, set: SampleSet): Savings {
  const adapted = { ...recipe, student: { ...recipe.student, loraRank: proposedRank } };
  const lowFake = { ...recipe, distribution: { ...recipe.distribution, rank: proposedRank } };
  const others: { changes: Record<string, string>; recipe: DistillationConfig }[] = [
    ...(isJudged(recipe) && !recipe.distribution.rank
      ? [{ changes: { 'distribution.rank': String(proposedRank) }, recipe: lowFake }]
      : []),
    ...(subject.teacher && !subject.start && !recipe.student.loraRank && recipe.student.init === 'teacher'
      ? [{ changes: { 'student.loraRank': String(proposedRank) }, recipe: adapted }]
      : []),
  ];
  const planOf = (changed: DistillationConfig) =>
    distillationTask(subject, changed, studentNetwork(subject, changed), set);
  return savingsOf(recipe, planOf, others);
}

/** A set as large as the samples of a teacher will be. */
const standIn = ({ model }: Network, { pool }: DistillationConfig): SampleSet => ({
  shape: model.sampleShape,
  count: pool.samples,
  values: new Float32Array(pool.samples * sizeOf(model.sampleShape)),
  range: [0, 1],
  ...(model.classes && { labels: new Uint32Array(pool.samples) }),
});

/** Refuses data that do not fit, and tells what is to be known of those that do. */
function noteFit(
  data: SampleSet,
  model: Pick<Network['model'], 'sampleShape' | 'classes' | 'nullClass' | 'conditions'>,
  labelDropout: number,
  { onProgress }: TrainOptions,
): void {
  const text = checkFit(data, model, labelDropout);
  if (text) onProgress?.({ phase: 'note', text });
}

/** Tells how well the data speaks for the teacher, where somebody listens. */
async function noteTeacherFit(
  device: Device,
  teacher: Network,
  data: SampleSet,
  { onProgress }: TrainOptions,
): Promise<void> {
  onProgress?.({ phase: 'preparing', what: "the teacher's fit to the data" });
  const fit = onProgress && (await teacherFit(device, teacher, data));
  if (!fit) return;
  const { line, warning } = describeFit(fit, data.name ?? 'the data');
  onProgress({ phase: 'note', text: warning ? `warning: ${line}` : line });
}

/** Samples of a teacher, to mix x_t from where no data is given. */
async function teacherSamples(
  device: Device,
  teacher: Network,
  { pool, seed, guidance }: DistillationConfig,
  { onProgress }: TrainOptions,
): Promise<SampleSet> {
  onProgress?.({ phase: 'sampling', samples: pool.samples, steps: pool.steps });
  const { x, labels } = await drawSamples(device, teacher, {
    count: pool.samples,
    seed: seedFor(seed, hostStreams.pool),
    randomLabels: true,
    steps: pool.steps,
    sampler: { name: teacher.description.prediction === 'data' ? 'euler' : 'heun' },
    guidance: guidance.from === guidance.to ? guidance.from : 1,
  });
  const set: SampleSet = {
    name: "the teacher's samples",
    shape: teacher.model.sampleShape,
    count: pool.samples,
    values: x,
    range: [0, 1],
    labels,
  };
  checkFit(set, teacher.model, 0);
  return set;
}

/** What a teacher is trained from. */
export interface TeacherSubject {
  device: Device;
  teacher: Network;
  data: SampleSet;
  /**
   * Where the teacher's weights come from another training: `weights`, with a fresh optimizer; or the state of a run of a
   * teacher, whose weights, averages and moments then stand in place of the network's own. The run remembers which.
   */
  init?: 'weights' | TrainerState;
}

/**
 * The training of a teacher on data.
 * @throws UserError where recipe, network, data and what it goes on from do not fit together
 */
export async function trainTeacher(
  subject: TeacherSubject,
  recipe: TeacherConfig,
  options: TrainOptions = {},
): Promise<Training<Network>> {
  const { device, data, init } = subject;
  noteFit(data, subject.teacher.model, recipe.labelDropout, options);
  const start = init === undefined || init === 'weights' ? undefined : init.arenas;
  const weights = start ? await startingWeights(subject.teacher, start, recipe) : subject.teacher.weights;
  const teacher = { ...subject.teacher, weights };
  const task = {
    ...teacherTask({ ...subject, teacher }, recipe),
    weightsFile: 'teacher.safetensors',
    inputs: { data: await sampleFingerprint(data), ...(init && { init: await networkFingerprint(teacher) }) },
    start,
    savings: teacherSavings(subject, recipe),
  };
  return train(device, task, options);
}

/** What the training of a teacher needs, computed without any of it. @throws MemoryError where it is more than there is */
export const planTeacher = (subject: TeacherSubject, recipe: TeacherConfig, running?: Running): PlannedTraining =>
  planWithin(subject.device, teacherTask(subject, recipe), running, teacherSavings(subject, recipe));

/** A teacher's training without its files and what it remembers. */
function teacherTask({ teacher, data }: TeacherSubject, recipe: TeacherConfig) {
  const { layout, weights: initial } = teacher;
  const source = new SampleSource(data, recipe);
  const loss = flowMatchingLoss(teacher, source, recipe);
  const averages = { [exported]: recipe.ema.export };
  return {
    kind: 'teacher',
    ...commonOf(recipe),
    feed: source.feed,
    learners: [
      { name: 'teacher', layout, initial, averages, optimizer: optimizerOf(recipe), loss, rows: [recipe.batch] },
    ],
    ...wholeNetwork('teacher', teacher, exportNetwork),
  };
}

const teacherSavings = (subject: TeacherSubject, recipe: TeacherConfig): Savings =>
  savingsOf(recipe, (changed) => {
    const teacher = changed.checkpointBlocks ? checkpointed(subject.teacher) : subject.teacher;
    return teacherTask({ ...subject, teacher }, changed);
  });

/**
 * The weights that a teacher's run had, where its optimizer can go on.
 * @throws UserError where the run was of another network, or of another precision
 */
async function startingWeights(
  { layout }: Network,
  { 'teacher.parameters': parameters, 'teacher.progress': progress }: TrainerState['arenas'],
  { precision }: TeacherConfig,
): Promise<Weights> {
  if (parameters?.length !== layout.length || !progress)
    throw new UserError('the state that training is to go on from is of another network', 'init');
  const [lossScale] = await progress.read(0, 1);
  if ((lossScale === 1) !== (precision === 'f32'))
    throw new UserError(
      `the optimizer that is to go on has ${lossScale === 1 ? 'no loss scale, as in f32' : 'a loss scale, as in f16'}: keep its precision, or start from the weights alone`,
      'precision',
    );
  return layout.weightsOf((from, to) => parameters.read(from, to));
}

/** The training of a classifier, whose features judge samples. */
export async function trainClassifier(
  { device, classifier, data }: { device: Device; classifier: ClassifierNetwork; data: SampleSet },
  recipe: ClassificationConfig,
  options: TrainOptions = {},
): Promise<Training<ClassifierNetwork>> {
  const { imageShape, classes } = classifier.config;
  noteFit(data, { sampleShape: imageShape, classes, nullClass: false, conditions: {} }, 0, options);
  const { layout, weights: initial } = classifier;
  const averages = { [exported]: recipe.ema.export };
  const planOf = (changed: ClassificationConfig) => {
    const source = new SampleSource(data, changed);
    const loss = classificationLoss(classifier, source);
    const optimizer = optimizerOf(changed);
    const learner = { name: 'classifier', layout, initial, averages, optimizer, loss, rows: [changed.batch] };
    return { ...commonOf(changed), learners: [learner], feed: source.feed };
  };
  const task = {
    kind: 'classifier',
    weightsFile: 'classifier.safetensors',
    ...planOf(recipe),
    inputs: { data: await sampleFingerprint(data) },
    savings: savingsOf(recipe, planOf),
    ...wholeNetwork('classifier', classifier, (network) => exportClassifier(network)),
  };
  return train(device, task, options);
}

/** An autoencoder with its weights, for pictures of a shape. */
export interface AutoencoderNetwork {
  readonly parts: Autoencoder;
  readonly layout: ParameterLayout;
  readonly weights: Weights;
}

/**
 * The training of an autoencoder on pictures.
 * @throws UserError where the pictures do not fit it
 */
export async function trainAutoencoder(
  { device, vae, data }: { device: Device; vae: AutoencoderNetwork; data: SampleSet },
  recipe: AutoencodingConfig,
  options: TrainOptions = {},
): Promise<Training<AutoencoderNetwork>> {
  const { layout, weights: initial, parts } = vae;
  const { shape } = data;
  if (shape[0] !== parts.imageChannels || shape.slice(1).some((side) => side % parts.factor))
    throw new UserError(
      `${data.name} holds samples of shape [${shape}]: this autoencoder takes ${parts.imageChannels} channels and sides that are multiples of ${parts.factor}`,
      'data',
    );
  noteFit(data, { sampleShape: shape, classes: 0, nullClass: false, conditions: {} }, 0, options);
  const averages = { [exported]: recipe.ema.export };
  const planOf = (changed: AutoencodingConfig) => {
    const source = new SampleSource(data, changed);
    const loss = autoencodingLoss(parts, source, changed);
    const optimizer = optimizerOf(changed);
    const learner = { name: 'autoencoder', layout, initial, averages, optimizer, loss, rows: [changed.batch] };
    return { ...commonOf(changed), learners: [learner], feed: source.feed };
  };
  const task = {
    kind: 'autoencoder',
    weightsFile: 'autoencoder.safetensors',
    ...planOf(recipe),
    inputs: { data: await sampleFingerprint(data) },
    savings: savingsOf(recipe, planOf),
    ...wholeNetwork('autoencoder', vae, ({ layout, weights }) => ({
      tensors: tensorsOf(layout, weights),
      metadata: {},
    })),
  };
  return train(device, task, options);
}
