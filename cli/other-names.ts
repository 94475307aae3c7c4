import type { Command } from 'commander';
import { called } from './called.js';

/** Flags under the names that other programs give them. */
const otherNames: Readonly<Record<string, readonly string[]>> = {
  lr: ['learning-rate'],
  steps: ['nfe'],
  nfe: ['steps'],
  epochs: ['steps'],
  iterations: ['steps'],
  iters: ['steps'],
  'max-steps': ['steps'],
  'num-steps': ['steps', 'nfe'],
  'batch-size': ['batch'],
  dataset: ['data'],
  'data-dir': ['data'],
  output: ['out'],
  'output-dir': ['out'],
  checkpoint: ['model', 'teacher'],
  samples: ['n'],
  'num-samples': ['n', 'samples'],
  count: ['n'],
};

/** What is said of an option that there is not, and the one that was meant, or where all are listed. */
export function withNearest(message: string, word: string, command: Command): string {
  const [what, nearest = `(\`${called} ${word} --help\` shows what there is)`] = message.split('\n');
  const [, name] = /unknown option '--?([^'=]+)/.exec(what) ?? [];
  const meant = otherNames[name]?.find((own) => command.options.some(({ long }) => long === `--${own}`));
  return `${what}\n${meant ? `(Did you mean --${meant}?)` : nearest}`;
}
