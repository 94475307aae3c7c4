import type { SafetensorsFile } from '../checkpoint/safetensors.js';
import { UserError } from '../errors.js';
import type { InputShapes } from '../models/backbone.js';
import { sameShape, type Shape } from '../tensor/shape.js';
import type { Network } from './network.js';
import type { ConditionValues } from './runner.js';

/** What the names of tensors begin with that guidance leads away from. */
const negativePrefix = 'negative.';

/** Names of tensors that say what a network is told beside time and class. */
export const conditionNames = ({ model }: Network): string[] =>
  Object.keys(model.conditions).flatMap((name) => [name, negativePrefix + name]);

/** The shape of one sample's condition: without a first axis of samples, where it has one more than the network's. */
const shapeOfOne = (shape: Shape, law: Shape): Shape => (shape.length === law.length + 1 ? shape.slice(1) : shape);

/**
 * The shapes of conditions in a file, for `fitNetwork`.
 * @param file with tensors under the names of conditions
 */
export function conditionShapes(file: SafetensorsFile, { model }: Network): NonNullable<InputShapes['conditions']> {
  return Object.fromEntries(
    Object.entries(model.conditions).flatMap(([name, { shape }]) => {
      const entry = file.tensors.get(name);
      return entry ? [[name, shapeOfOne(entry.shape, shape)] as const] : [];
    }),
  );
}

/**
 * What a network is told, from a file: [n, ...shape] for each sample, or [...shape] for all alike.
 * @param count samples
 * @throws UserError naming a condition that is missing, or of another shape
 */
export async function readConditions(
  file: SafetensorsFile,
  { model }: Network,
  count: number,
): Promise<{ conditions: ConditionValues; negative: ConditionValues }> {
  const read = async (prefix: string) => {
    const values: Record<string, Float32Array> = {};
    for (const [name, { shape }] of Object.entries(model.conditions)) {
      const entry = file.tensors.get(prefix + name);
      if (!entry) continue;
      const one = sameShape(entry.shape, shape) || sameShape(entry.shape, [1, ...shape]);
      if (!one && !sameShape(entry.shape, [count, ...shape]))
        throw new UserError(
          `${file.name}: ${prefix}${name} has shape [${entry.shape}] beside ${count} samples: [${[count, ...shape].join(', ')}] is wanted, or [${shape.join(', ')}] for all`,
        );
      const numbers = await file.readF32(prefix + name);
      const broken = numbers.findIndex((value) => !Number.isFinite(value));
      if (broken >= 0)
        throw new UserError(
          `${file.name}: element ${broken} of ${prefix}${name} is ${numbers[broken]}, no finite number`,
        );
      values[name] = numbers;
    }
    return values;
  };
  const conditions = await read('');
  for (const [name, { shape, optional }] of Object.entries(model.conditions))
    if (!optional && !conditions[name])
      throw new UserError(
        `${file.name} holds no ${name}: the network is told it of each sample, [${[count, ...shape].join(', ')}], or [${shape.join(', ')}] for all`,
      );
  return { conditions, negative: await read(negativePrefix) };
}
