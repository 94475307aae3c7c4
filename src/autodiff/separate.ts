import { UserError } from '../errors.js';
import type { TensorStorage } from '../gpu/storage.js';
import { barrier } from '../ops/movement.js';
import { ruleOf } from '../ops/table.js';
import type { Tensor } from '../tensor/tensor.js';
import { reachable } from './gradients.js';
import { remade } from './rewrite.js';

/** A graph in which no value lies in memory that something else changes or claims. */
export interface Separated {
  outputs: Tensor[];
  /** In the order in which they take hold. */
  effects: Tensor[];
  /** Nodes that must have memory of their own. */
  pinned: Set<Tensor>;
}

/**
 * Effects take hold after everything else, one after another, so a storage has the value from before the run wherever it
 * is read. Whatever could not keep to that where it is gets a place of its own, computed before all effects:
 * - what an effect computes from a storage that one before it changes, or that it changes itself at other elements;
 * - an output that is a storage;
 * - a part of a pack that others read too, or that has memory already: a pack's parts lie in it and nowhere else.
 * @throws UserError when an effect is used as a value
 */
export function separate(outputs: readonly Tensor[], effects: readonly Tensor[]): Separated {
  const inTurn = [...new Set(effects)];
  const nodes = reachable([...outputs, ...inTurn]);
  const readers = new Map<Tensor, number>();
  for (const node of [...nodes.flatMap(({ inputs }) => inputs), ...outputs]) {
    if (writesOf(node)) throw new UserError(`${node.op} has no value to be read: use what it is given instead`);
    readers.set(node, (readers.get(node) ?? 0) + 1);
  }
  const changedBefore = new Map(
    inTurn.map((effect, i) => [effect, new Set(inTurn.slice(0, i).flatMap((before) => writesOf(before)!))]),
  );
  const replaced = new Map<Tensor, Tensor>();
  const pinned = new Set<Tensor>();
  const pin = (node: Tensor, copied: boolean) => {
    const own = copied || isMemory(node) ? barrier(node) : node;
    pinned.add(own);
    return own;
  };
  for (const node of nodes) {
    const inputs = node.inputs.map((input) => {
      const same = replaced.get(input)!;
      if (node.op === 'pack') return pin(same, readers.get(input)! > 1);
      return writesOf(node) && clashes(node, input, changedBefore.get(node)!) ? pin(same, false) : same;
    });
    replaced.set(node, remade(node, inputs));
  }
  const results = outputs.map((output) => {
    const same = replaced.get(output)!;
    return output.op === 'storage' ? pin(same, true) : same;
  });
  const last = inTurn.map((effect) => replaced.get(effect)!);
  for (const node of [...results, ...last]) pinned.add(node);
  return { outputs: results, effects: last, pinned };
}

const isMemory = (node: Tensor) => ruleOf(node).kind === 'memory';

/** The storages that an effect changes; null where a node is none. */
export function writesOf(node: Tensor): readonly TensorStorage[] | null {
  const rule = ruleOf(node);
  return rule.kind === 'kernel' && rule.writes ? rule.writes(node as never) : null;
}

/** Whether an effect, computing an operand while it writes, would meet values that are no longer those of before. */
function clashes(effect: Tensor, operand: Tensor, changedBefore: ReadonlySet<TensorStorage>): boolean {
  const own = new Set(writesOf(effect));
  const rule = ruleOf(effect);
  const inPlace = rule.kind === 'kernel' && Boolean(rule.inPlace);
  const seen = [new Set<Tensor>(), new Set<Tensor>()];
  const visit = (node: Tensor, aligned: boolean): boolean => {
    if (seen[Number(aligned)].has(node)) return false;
    seen[Number(aligned)].add(node);
    if (node.op === 'storage') {
      const { storage, offset } = (node as Tensor<'storage'>).attributes;
      const whole = offset === 0 && node.size === storage.length;
      return changedBefore.has(storage) || (own.has(storage) && !(aligned && whole));
    }
    const { kind, ...index } = ruleOf(node);
    if (kind !== 'index') return false;
    const keeps = aligned && 'access' in index && index.access === 'same';
    return node.inputs.some((input) => visit(input, keeps));
  };
  return visit(operand, inPlace);
}
