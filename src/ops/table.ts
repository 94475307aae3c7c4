import type { OpName, Tensor } from '../tensor/tensor.js';
import { attentionGradientKVRule, attentionGradientQRule, attentionRule } from './attention.js';
import { expandRule, reduceRule } from './broadcast.js';
import { matmulRule } from './matmul.js';
import * as movement from './movement.js';
import { normalizeGradientRule, normalizeRule, rowStatisticsRule, softmaxRule } from './normalization.js';
import { adamRule, assignRule } from './optimizer.js';
import { im2colRule } from './patches.js';
import { pointwiseRules } from './pointwise.js';
import { randomRule } from './random.js';
import { scatterAddRule } from './scatter.js';
import type { Rule } from './rule.js';

/** Operations without a rule: three name memory rather than compute, one only says how a gradient flows. */
export type MemoryOp = 'storage' | 'secondary' | 'pack' | 'custom';

/** A row for each operation: how it is computed and how a gradient flows back. A missing row does not compile. */
const table: { [K in Exclude<OpName, MemoryOp>]: Rule<K> } = {
  ...pointwiseRules,
  constant: movement.constantRule,
  barrier: movement.barrierRule,
  iota: movement.iotaRule,
  reshape: movement.reshapeRule,
  permute: movement.permuteRule,
  slice: movement.sliceRule,
  pad: movement.padRule,
  concat: movement.concatRule,
  gather: movement.gatherRule,
  im2col: im2colRule,
  expand: expandRule,
  random: randomRule,
  reduce: reduceRule,
  matmul: matmulRule,
  softmax: softmaxRule,
  rowStatistics: rowStatisticsRule,
  normalize: normalizeRule,
  normalizeGradient: normalizeGradientRule,
  attention: attentionRule,
  attentionGradientQ: attentionGradientQRule,
  attentionGradientKV: attentionGradientKVRule,
  scatterAdd: scatterAddRule,
  assign: assignRule,
  adam: adamRule,
};

/** The rule of a node's operation, or null for memory. */
export function ruleOf<K extends OpName>(node: Tensor<K>): Rule<K> | null {
  return ((table as Partial<Record<OpName, unknown>>)[node.op] as Rule<K> | null) ?? null;
}

/** Gradients of a node's inputs from the gradient of its result; null where none flows. */
export function gradientsOf(node: Tensor, gradient: Tensor): (Tensor | null)[] {
  if (node.op === 'custom') return [null, ...(node as Tensor<'custom'>).attributes.gradient(gradient)];
  const rule = ruleOf(node);
  if (!rule?.gradient) return node.inputs.map(() => null);
  return rule.gradient(node, gradient);
}
