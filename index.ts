/** The library, as it runs anywhere: no files, no processes, no driver. `node/index.ts` adds what Node has. */
export {
  compile,
  type CompileOptions,
  type Program,
  type Held as ProgramMemory,
  type NumberTable,
  planProgram,
  type PlannedProgram,
} from './src/autodiff/compile.js';
export { evaluate, type Values as TensorValues } from './src/autodiff/eager.js';
export { gradients } from './src/autodiff/gradients.js';
export type { Arena as PlannedArena } from './src/autodiff/arena.js';
export type { Task as KernelTask } from './src/autodiff/schedule.js';
export {
  openLora,
  withLoras,
  type AdaptedWeights,
  type AppliedLora,
  type Lora,
  type LoraPart,
  type PeftOptions,
  type LoraModule,
} from './src/checkpoint/lora.js';
export {
  encodeSafetensors,
  openSafetensors,
  streamSafetensors,
  type SafetensorsFile,
  type Named as ByName,
  type StreamedTensor,
  type TensorData,
} from './src/checkpoint/safetensors.js';
export type { Dtype, RawArray } from './src/checkpoint/dtypes.js';
export type { NewerDtype, TensorEntry } from './src/checkpoint/header.js';
export type { Dataset, LoadOptions, ConditionRows, Samples } from './src/data/dataset.js';
export { namedDataset, type DatasetName } from './src/data/named.js';
export { readDataset } from './src/data/read.js';
export { shuffledHeldOut, type HeldOut } from './src/data/held-out.js';
export type { Picture, PictureDecoder } from './src/data/picture.js';
export type { Sides } from './src/data/resample.js';
export type { StoredSamples } from './src/data/shards.js';
export { experimentNames, type ExperimentName } from './src/experiments/index.js';
export { runExperiments, type ExperimentSubject, type ExperimentOptions } from './src/experiments/run.js';
export { checkSemigroup, type SemigroupOptions, type SemigroupReport } from './src/experiments/semigroup.js';
export type { ExperimentResult } from './src/experiments/experiment.js';
export type { Mask } from './src/experiments/masks.js';
export type { ViolationCell, ViolationMap } from './src/experiments/violation.js';
export { DivergenceError, SemiflowError, UserError, type ErrorCode } from './src/errors.js';
export { droppedFiles } from './src/files/dropped.js';
export { indexedDbStore } from './src/files/indexed-db.js';
export { blobSource, bytesSource, urlSource, type Source } from './src/files/source.js';
export { memoryStore, type Files, type Store } from './src/files/store.js';
export { parseDescription, type Description } from './src/flow/description.js';
export {
  averageVelocityOf,
  interpolate,
  step,
  velocityOf,
  type AverageVelocity,
  type Condition as SampleCondition,
  type Velocity,
} from './src/flow/field.js';
export { readOrigin, type Origin } from './src/flow/origin.js';
export { withAdapters, type ChosenAdapter } from './src/flow/adapter.js';
export {
  loadComponent,
  loadFolder,
  openFolder,
  type LoadedComponent,
  type ModelFolder,
  type Options as FolderOptions,
} from './src/flow/folder.js';
export { newDescription, type NewNetworkOptions } from './src/flow/new-description.js';
export {
  bindNetwork,
  createNetwork,
  exportNetwork,
  fileWeights,
  fitNetwork,
  loadNetwork,
  networkOf,
  studentOf,
  type Network,
  type WeightsFile,
} from './src/flow/network.js';
export { batchFor, callsOf, equalSteps, Runner, type Batch, type ConditionValues } from './src/flow/runner.js';
export {
  samplers,
  type Sampler,
  type SamplerEntry,
  type SamplerName,
  type MeasuredStep,
  type SamplerOption,
  type Step as SamplerStep,
  type StepInputs,
} from './src/flow/samplers.js';
export { generate, type GenerateOptions, type Generated } from './src/pipelines/generate.js';
export { openPipeline, type Pipeline, type PipelineOptions } from './src/pipelines/pipeline.js';
export { openTokenizer, type Tokenizer } from './src/pipelines/tokenizer.js';
export type { NoisePurpose, PainterOptions } from './src/pipelines/painter.js';
export type { PreparedPicture } from './src/pipelines/preparation.js';
export type { Call } from './src/pipelines/walk.js';
export { exportOnnx, type OnnxExport, type OnnxOptions } from './src/export/onnx.js';
export { exportStateDict } from './src/export/state-dict.js';
export type { ElementType, OnnxValue } from './src/export/onnx-file.js';
export { MemoryError, type AvailableMemory, type MemoryNeeds, type Saving } from './src/flow/memory.js';
export {
  drawSamples,
  drawSamplesBy,
  planSampling,
  samplerOf,
  type DrawnSamples,
  type SampleOptions,
} from './src/flow/sampling.js';
export { perSample } from './src/flow/parametrization.js';
export { together, type Asking, type Question, type Tensors as TensorRecord } from './src/flow/questions.js';
export { slope, type Solver } from './src/flow/solvers.js';
export { describeFit, teacherFit, type TeacherFit } from './src/flow/teacher-fit.js';
export type { Ahead } from './src/gpu/ahead.js';
export { Device, openDevice, type DeviceMemory, type DeviceOptions, type OnWork } from './src/gpu/device.js';
export type { Group } from './src/gpu/group.js';
export { TensorStorage, type DType, type HostArray, type Filler } from './src/gpu/storage.js';
export type { AdapterSource, Toggles } from './src/gpu/adapter.js';
export type { Candidate, Choices, KernelFamily, Profile } from './src/gpu/profile.js';
export type { KernelTime } from './src/gpu/profiler.js';
export type { Dispatch, Region as BufferRegion } from './src/gpu/program.js';
export type { Resource } from './src/gpu/resource.js';
export {
  defineBackbone,
  type Backbone,
  type BackboneDefinition,
  type InputShapes,
  type SampleLaw,
  type BackboneModule,
} from './src/models/backbone.js';
export {
  backboneNames,
  buildModel,
  defaultArchitecture,
  registerBackbone,
  type Architecture,
} from './src/models/index.js';
export { drawLatents, type Autoencoder, type LatentLaw } from './src/models/diffusers/autoencoder.js';
export { autoencoderKl, type AutoencoderKl } from './src/models/diffusers/autoencoder-kl.js';
export { autoencoderTiny } from './src/models/diffusers/autoencoder-tiny.js';
export {
  clipText,
  clipTextWithProjection,
  type TextEncoder,
  type TextStates,
} from './src/models/diffusers/clip-text.js';
export type { FolderClass } from './src/models/diffusers/index.js';
export { defineComponent, type Component, type ComponentParts } from './src/models/component.js';
export type {
  BuildOptions,
  ConditionLaw,
  Conditions,
  Model,
  ModelOptions,
  ModelParts,
  NetworkInputs,
} from './src/models/model.js';
export type { Classifier, ClassifierConfig } from './src/models/classifier.js';
export { fanIn, normal as normalInitializer, ones, xavier, zeros, type Initializer } from './src/nn/initializers.js';
export {
  affineGroupNorm,
  affineLayerNorm,
  applyBatchNorm,
  applyConvolution,
  applyEmbedding,
  applyLineConvolution,
  applyLinear,
  applyMatrix,
  applyTransposedConvolution,
  batchNormParameters,
  convolutionParameters,
  embedGuidance,
  embedJump,
  embedLabels,
  embeddingParameters,
  guidanceParameters,
  harmonics,
  harmonicsWidth,
  jumpParameters,
  lineConvolutionParameters,
  linearParameters,
  normParameters,
  requireThat,
  rmsNormParameters,
  scaledRmsNorm,
  sinusoids,
  transposedConvolutionParameters,
  type Jump as JumpTimes,
} from './src/nn/layers.js';
export { guidanceSinusoids, timestepSinusoids, type TimestepLayout } from './src/nn/timesteps.js';
export type {
  Opening,
  Parameter,
  Parameters,
  Page as ParameterPage,
  ParameterLayout,
  Span as ArenaSpan,
} from './src/nn/parameters.js';
export type { Weights } from './src/nn/weights.js';
export { runBlock, type Block } from './src/nn/rematerialize.js';
export {
  elu,
  gelu,
  geluTanh,
  glu,
  hardSigmoid,
  hardSwish,
  leakyRelu,
  logSigmoid,
  mish,
  quickGelu,
  relu,
  relu6,
  selu,
  sigmoid,
  silu,
  softplus,
} from './src/ops/activations.js';
export {
  attention,
  materializedAttention,
  type AttentionOptions,
  type Weighing as AttentionWeighing,
} from './src/ops/attention.js';
export { expand, max, sum, type ReduceKind } from './src/ops/broadcast.js';
export { clamp, greaterEqual, less, lessEqual, logicalNot, notEqual, sign } from './src/ops/comparison.js';
export {
  conv1d,
  conv2d,
  convTranspose1d,
  convTranspose2d,
  type ConvolutionOptions,
  type LineOptions,
  type TransposedConvolutionOptions,
} from './src/ops/convolution.js';
export { einsum } from './src/ops/einsum.js';
export {
  binaryCrossEntropy,
  binaryCrossEntropyWithLogits,
  crossEntropy,
  huberLoss,
  meanAbsoluteError,
  meanSquaredError,
  smoothL1Loss,
  type Reduction,
} from './src/ops/losses.js';
export { linear, matmul, type MatmulOptions } from './src/ops/matmul.js';
export {
  barrier,
  concat,
  gather,
  iota,
  pad,
  patchify,
  permute,
  reshape,
  scatterAdd,
  slice,
  split,
  transpose,
  unpatchify,
} from './src/ops/movement.js';
export {
  batchNorm,
  groupNorm,
  instanceNorm,
  layerNorm,
  logSoftmax,
  modulate,
  rmsNorm,
  softmax,
  type BatchStatistics,
  type Normalization,
} from './src/ops/normalization.js';
export { assign, type OptimizerState } from './src/ops/optimizer.js';
export type { Extents, Patches } from './src/ops/patches.js';
export {
  abs,
  add,
  cos,
  div,
  equal,
  erf,
  exp,
  floor,
  greater,
  log,
  maximum,
  minimum,
  mul,
  neg,
  sin,
  sqrt,
  square,
  stopGradient,
  sub,
  tanh,
  toFloat,
  toIndex,
  where,
  type Operand,
  type UnaryName,
} from './src/ops/pointwise.js';
export { adaptiveAveragePool, averagePool, maxPool, type PoolingOptions } from './src/ops/pooling.js';
export { pow, reciprocal, rsqrt } from './src/ops/powers.js';
export { dropout, integers, normal, uniform, type Distribution as RandomDistribution } from './src/ops/random.js';
export {
  flip,
  padEdges,
  pixelShuffle,
  pixelUnshuffle,
  repeat,
  roll,
  squeeze,
  stack,
  take,
  tile,
  unsqueeze,
  type EdgeMode,
} from './src/ops/rearrangement.js';
export { mapAxis, resize, upsampleNearest, type AxisMap, type Interpolation } from './src/ops/resampling.js';
export { rotary, rotaryPositions, type Rotation, type RotaryLayout } from './src/ops/rotary.js';
export {
  argmax,
  argmin,
  cosineSimilarity,
  cumulativeSum,
  logSumExp,
  mean,
  min,
  norm,
  normalizeLength,
  oneHot,
  standardDeviation,
  variance,
} from './src/ops/statistics.js';
export { keepChoices, readChoices } from './src/tuning/cache.js';
export { trialsOf, type Trial } from './src/tuning/trials.js';
export type { Choice as KernelChoice } from './src/ops/choice.js';
export { tune, type Found, type Measured, type TuneOptions } from './src/tuning/tune.js';
export type { Fusion as OperandFusion, Kernel as KernelUse, Operand as KernelOperand } from './src/ops/rule.js';
export {
  constant,
  fromStorage,
  tensor,
  Tensor,
  type NumberType,
  type OpAttributes,
  type OpName,
} from './src/tensor/tensor.js';
export type { Shape } from './src/tensor/shape.js';
export type { Fit as WeightsFit, Wanted as WantedWeights } from './src/checkpoint/pytorch/file.js';
export type { ClassifierNetwork } from './src/features/classifier-file.js';
export type { Combination, Schedule, ScheduledStep, Term } from './src/flow/schedulers/schedule.js';
export type { ScheduleRequest, Scheduler } from './src/flow/schedulers/scheduler.js';
export type { MissingFigure, ReportImage, ReportPlot, ReportSection, ReportStrip } from './src/report/html.js';
export type { Cell as TableCell, Column as TableColumn, Table } from './src/report/table.js';
export {
  distillationDefaults,
  lambdaOf,
  teacherDefaults,
  type ClassificationConfig,
  type DistillationConfig,
  type TeacherConfig,
} from './trainers/config.js';
export {
  canBeKept,
  checkRecipe,
  keepsVelocity,
  learnsFromData,
  methodRecipe,
  methods,
  type Method,
  type Part as RecipePart,
} from './trainers/methods.js';
export { registerObjective } from './trainers/objectives/index.js';
export type { Objective, ObjectiveInputs, Judging as SampleJudging, Tangent } from './trainers/objectives/objective.js';
export { RunFiles, type RunFilesOptions, type RunIdentity } from './trainers/run-files.js';
export {
  distil,
  planDistillation,
  planTeacher,
  trainClassifier,
  trainTeacher,
  type DistillationSubject,
  type TeacherSubject,
} from './trainers/runs.js';
export {
  train,
  Training,
  type Progress,
  type Task,
  type TrainOptions,
  type Settings as TrainSettings,
} from './trainers/train.js';
export { Rows, type ChosenRows } from './trainers/rows.js';
export {
  Trainer,
  type Learner,
  type Loss,
  type LossContext,
  type StepMetrics,
  type Arena as StateArena,
  type Feed as DataFeed,
  type Halves as HalfExchange,
  type Member as CompiledLearner,
  type OptimizerOptions,
  type PlannedTraining,
  type SharedStorages,
  type TrainerPlan,
  type TrainerState,
} from './trainers/trainer.js';
/** Schemas of sizes are written with the zod that checks them. */
export * as z from 'zod';
export { evaluateStudent, type Evaluation, type EvaluationSubject } from './trainers/evaluation/evaluation.js';
export {
  evaluateFlowMap,
  type FlowMapReport,
  type EvaluationOptions,
  type SolverErrorRow,
  type TestSet,
  type TrueFlow,
} from './trainers/evaluation/flow-map.js';
export { reportRun, type RunReportOptions } from './trainers/evaluation/run-report.js';
export { SharedFigures } from './trainers/evaluation/shared.js';
export { verdict, type Making } from './trainers/evaluation/verdict.js';
export type { QualityRow } from './trainers/evaluation/sample-quality.js';
export type { EvaluationTable } from './trainers/evaluation/tables.js';
export { compareRuns, type ComparedRun, type Comparison } from './trainers/compare.js';
export {
  runStudy,
  studySchema,
  type StudyPlan,
  type StudyOptions,
  type StudyResult,
  type StudyRun,
  type Tree as RecipeTree,
} from './trainers/study.js';
export type { SampleSet } from './trainers/batches.js';
export type { PartStorages } from './trainers/exchange.js';
export type { HalfSum } from './trainers/halves.js';
export type { PageStorages, Storages as LearnerStorages } from './trainers/learner-storages.js';
export type { Alternative as SavingAlternative, Running, Savings, Ways as SavingWays } from './trainers/memory.js';
export type { AverageLaw, RateSchedule } from './trainers/schedules.js';
export type { RecipeSummary } from './trainers/summary.js';
export { sampleMetrics } from './src/metrics/index.js';
export type {
  SampleMetric,
  Comparison as SampleComparison,
  Reference as SampleReference,
  SampleFeatures,
} from './src/metrics/metric.js';
export type { Estimate } from './src/metrics/estimate.js';
export type { Bucket as ErrorBucket, EqualSteps, WorthSummary } from './src/metrics/flow-map.js';
export type { Moments } from './src/metrics/moments.js';
export type { PairDistances } from './src/metrics/pairs.js';
export type { Points } from './src/metrics/points.js';
