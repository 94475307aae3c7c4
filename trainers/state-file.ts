import { encodeSafetensors, openSafetensors } from '../src/checkpoint/safetensors.js';
import { UserError } from '../src/errors.js';
import { fingerprint } from '../src/files/fingerprint.js';
import { bytesSource, readAll, type Source } from '../src/files/source.js';
import type { TrainerState } from './trainer.js';

/** While the checksum is taken, this stands in its place. */
const blank = '0'.repeat(64);

/**
 * A training's state as a safetensors file whose metadata holds a checksum over all of the file.
 * @param run which run it belongs to
 */
export async function encodeState({ step, arenas }: TrainerState, run: string): Promise<Uint8Array> {
  const tensors = Object.fromEntries(
    Object.entries(arenas).map(([name, data]) => [name, { dtype: 'F32' as const, shape: [data.length], data }]),
  );
  const bytes = encodeSafetensors(tensors, { step: String(step), run, checksum: blank });
  bytes.set(new TextEncoder().encode(await fingerprint([bytes])), placeOf(blank, bytes));
  return bytes;
}

/**
 * Reads a state.
 * @throws UserError where a bit of it is not as it was written, or it belongs to another run
 */
export async function decodeState(source: Source, run: string): Promise<TrainerState> {
  const { name } = source;
  const bytes = await readAll(source);
  const file = await openSafetensors(bytesSource(bytes, name));
  const { checksum = '' } = file.metadata;
  const at = /^[0-9a-f]{64}$/.test(checksum) ? placeOf(checksum, bytes) : -1;
  const damaged = `${name} is damaged, its checksum does not fit: put a copy of it back, or start a new run`;
  if (at < 0) throw new UserError(damaged);
  bytes.set(new TextEncoder().encode(blank), at);
  if ((await fingerprint([bytes])) !== checksum) throw new UserError(damaged);
  if (file.metadata.run !== run)
    throw new UserError(`${name} is of another run than the folder it lies in: put the run's own back`);
  const { step = '' } = file.metadata;
  if (!/^\d{1,15}$/.test(step)) throw new UserError(`${name} is of step "${step}", which cannot be: start a new run`);
  const arenas: TrainerState['arenas'] = {};
  for (const tensor of file.tensors.keys()) {
    arenas[tensor] = await file.readF32(tensor);
    const wrong = arenas[tensor].find((value) => !Number.isFinite(value));
    if (wrong !== undefined) throw new UserError(`${name}: ${tensor} holds ${wrong}, from which no run goes on`);
  }
  return { step: Number(step), arenas };
}

/** Where a text of ASCII letters starts in the header of a file. */
function placeOf(text: string, bytes: Uint8Array): number {
  const header = bytes.subarray(0, 8 + new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true));
  return new TextDecoder('latin1').decode(header).indexOf(text);
}
