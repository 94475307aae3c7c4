import type { OpName, Tensor } from '../tensor/tensor.js';
import { attentionGradientKVRule, attentionGradientQRule, attentionRule } from './attention.js';
import { expandRule, reduceRule } from './broadcast.js';
import { matmulRule } from './matmul.js';
import * as memory from './memory.js';
import * as movement from './movement.js';
import {
  normalizeGradientRule,
  normalizeRule,
  rowStatisticsRule,
  softmaxGradientRule,
  softmaxRule,
} from './normalization.js';
import { adamRule, assignRule, packRule } from './optimizer.js';
import { im2colRule } from './patches.js';
import { pointwiseRules } from './pointwise.js';
import { randomRule } from './random.js';
import { scatterAddRule } from './scatter.js';
import type { Rule } from './rule.js';

/** A row for each operation: how it is computed and how a gradient flows back. A missing row does not compile. */
const table: { [K in OpName]: Rule<K> } = {
  storage: memory.storageRule,
  constant: memory.constantRule,
  secondary: memory.secondaryRule,
  custom: memory.customRule,
  ...pointwiseRules,
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
  softmaxGradient: softmaxGradientRule,
  rowStatistics: rowStatisticsRule,
  normalize: normalizeRule,
  normalizeGradient: normalizeGradientRule,
  attention: attentionRule,
  attentionGradientQ: attentionGradientQRule,
  attentionGradientKV: attentionGradientKVRule,
  scatterAdd: scatterAddRule,
  pack: packRule,
  assign: assignRule,
  adam: adamRule,
};

/** Every operation's name. */
export const operations = Object.keys(table) as OpName[];

/** The rule of a node's operation. */
export const ruleOf = <K extends OpName>(node: Tensor<K>): Rule<K> => table[node.op] as Rule<K>;
