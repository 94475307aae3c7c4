/** The library, as it runs anywhere: no files, no processes, no driver. `node/index.ts` adds what Node has. */
export { compile, type CompileOptions, type Program } from './src/autodiff/compile.js';
export { evaluate } from './src/autodiff/eager.js';
export { gradients } from './src/autodiff/gradients.js';
export {
  openLora,
  withLoras,
  type AdaptedWeights,
  type AppliedLora,
  type Lora,
  type LoraPart,
  type PeftOptions,
} from './src/checkpoint/lora.js';
export {
  encodeSafetensors,
  openSafetensors,
  streamSafetensors,
  type SafetensorsFile,
} from './src/checkpoint/safetensors.js';
export type { Dataset, LoadOptions } from './src/data/dataset.js';
export { namedDataset, type DatasetName } from './src/data/named.js';
export { readDataset } from './src/data/read.js';
export { shuffledHeldOut, type HeldOut } from './src/data/held-out.js';
export { experimentNames, type ExperimentName } from './src/experiments/index.js';
export { runExperiments, type ExperimentSubject } from './src/experiments/run.js';
export { checkSemigroup, type SemigroupOptions, type SemigroupReport } from './src/experiments/semigroup.js';
export { DivergenceError, SemiflowError, UserError, type ErrorCode } from './src/errors.js';
export { droppedFiles } from './src/files/dropped.js';
export { blobSource, bytesSource, urlSource, type Source } from './src/files/source.js';
export { memoryStore, type Files, type Store } from './src/files/store.js';
export { parseDescription, type Description } from './src/flow/description.js';
export { averageVelocityOf, interpolate, step, velocityOf } from './src/flow/field.js';
export { readOrigin, type Origin } from './src/flow/origin.js';
export { withAdapters, type ChosenAdapter } from './src/flow/adapter.js';
export { loadComponent, loadFolder, openFolder, type LoadedComponent, type ModelFolder } from './src/flow/folder.js';
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
} from './src/flow/network.js';
export { batchFor, callsOf, equalSteps, Runner, type Batch, type ConditionValues } from './src/flow/runner.js';
export { samplers, type Sampler, type SamplerEntry, type SamplerName } from './src/flow/samplers.js';
export { generate, type GenerateOptions, type Generated } from './src/pipelines/generate.js';
export { openPipeline, type Pipeline, type PipelineOptions } from './src/pipelines/pipeline.js';
export { openTokenizer, type Tokenizer } from './src/pipelines/tokenizer.js';
export { exportOnnx, type OnnxExport, type OnnxOptions } from './src/export/onnx.js';
export { exportStateDict } from './src/export/state-dict.js';
export { MemoryError, type AvailableMemory, type MemoryNeeds } from './src/flow/memory.js';
export {
  drawSamples,
  drawSamplesBy,
  planSampling,
  samplerOf,
  type DrawnSamples,
  type SampleOptions,
} from './src/flow/sampling.js';
export { perSample } from './src/flow/parametrization.js';
export { together, type Asking, type Question } from './src/flow/questions.js';
export { slope, type Solver } from './src/flow/solvers.js';
export { describeFit, teacherFit, type TeacherFit } from './src/flow/teacher-fit.js';
export { Device, openDevice, type DeviceMemory, type DeviceOptions } from './src/gpu/device.js';
export type { Group } from './src/gpu/group.js';
export { TensorStorage, type DType, type HostArray } from './src/gpu/storage.js';
export {
  defineBackbone,
  type Backbone,
  type BackboneDefinition,
  type InputShapes,
  type SampleLaw,
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
export { defineComponent, type Component, type ComponentParts } from './src/models/component.js';
export type { BuildOptions, ConditionLaw, Conditions, Model, ModelParts, NetworkInputs } from './src/models/model.js';
export { fanIn, normal as normalInitializer, ones, xavier, zeros, type Initializer } from './src/nn/initializers.js';
export {
  affineGroupNorm,
  affineLayerNorm,
  applyBatchNorm,
  applyConvolution,
  applyEmbedding,
  applyLineConvolution,
  applyLinear,
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
} from './src/nn/layers.js';
export { guidanceSinusoids, timestepSinusoids, type TimestepLayout } from './src/nn/timesteps.js';
export type { Parameter, Parameters } from './src/nn/parameters.js';
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
export { attention, materializedAttention, type AttentionOptions } from './src/ops/attention.js';
export { expand, max, sum } from './src/ops/broadcast.js';
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
export { linear, matmul } from './src/ops/matmul.js';
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
} from './src/ops/normalization.js';
export { assign } from './src/ops/optimizer.js';
export type { Extents } from './src/ops/patches.js';
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
} from './src/ops/pointwise.js';
export { adaptiveAveragePool, averagePool, maxPool, type PoolingOptions } from './src/ops/pooling.js';
export { pow, reciprocal, rsqrt } from './src/ops/powers.js';
export { dropout, integers, normal, uniform } from './src/ops/random.js';
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
export { constant, fromStorage, tensor, Tensor } from './src/tensor/tensor.js';
export { distillationDefaults, lambdaOf, teacherDefaults } from './trainers/config.js';
export { checkRecipe, learnsFromData, methodRecipe, methods, type Method } from './trainers/methods.js';
export { registerObjective } from './trainers/objectives/index.js';
export type { Objective, ObjectiveInputs } from './trainers/objectives/objective.js';
export { RunFiles } from './trainers/run-files.js';
export { distil, planDistillation, planTeacher, trainClassifier, trainTeacher } from './trainers/runs.js';
export { train, Training, type Progress, type Task, type TrainOptions } from './trainers/train.js';
export { Rows } from './trainers/rows.js';
export { Trainer, type Learner, type Loss, type LossContext, type StepMetrics } from './trainers/trainer.js';
/** Schemas of sizes are written with the zod that checks them. */
export * as z from 'zod';
export { evaluateStudent, type Evaluation, type EvaluationSubject } from './trainers/evaluation/evaluation.js';
export { evaluateFlowMap, type FlowMapReport } from './trainers/evaluation/flow-map.js';
export { reportRun, type RunReportOptions } from './trainers/evaluation/run-report.js';
export { SharedFigures } from './trainers/evaluation/shared.js';
export { verdict, type Making } from './trainers/evaluation/verdict.js';
export { compareRuns, type ComparedRun, type Comparison } from './trainers/compare.js';
export { runStudy, studySchema, type StudyPlan } from './trainers/study.js';
export { sampleMetrics } from './src/metrics/index.js';
export type { SampleMetric } from './src/metrics/metric.js';
