import type { Experiment } from './experiment.js';

/** The experiments by name, in their order on the page. Each is loaded when it is run. */
export const experiments = {
  steps: async () => (await import('./steps-experiment.js')).stepsExperiment,
  drift: async () => (await import('./drift-experiment.js')).driftExperiment,
  editing: async () => (await import('./editing-experiment.js')).editingExperiment,
  violation: async () => (await import('./violation-experiment.js')).violationExperiment,
} satisfies Record<string, () => Promise<Experiment>>;

/** The name of an experiment. */
export type ExperimentName = keyof typeof experiments;

/** The names of all experiments, in their order on the page. */
export const experimentNames = Object.keys(experiments) as ExperimentName[];
