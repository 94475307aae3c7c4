import { UserError } from '../errors.js';
import type { Tensor } from '../tensor/tensor.js';

/** Most kernels compute with f32 alone. @throws UserError where one of the tensors holds whole numbers */
export function requireFloats(operation: string, ...tensors: readonly Tensor[]): void {
  const other = tensors.find(({ dtype }) => dtype !== 'f32');
  if (other) throw new UserError(`${operation} of ${other.dtype}: it is for f32, convert with toFloat`);
}
