import { openSafetensors, streamSafetensors, type StreamedTensor } from '../src/checkpoint/safetensors.js';
import { UserError } from '../src/errors.js';
import { chunkedFingerprint } from '../src/files/fingerprint.js';
import type { Source } from '../src/files/source.js';
import type { Arena, TrainerState } from './trainer.js';

/** While the checksum is taken, this stands in its place. */
const blank = '0'.repeat(64);

/** Elements, and bytes of a file, that are held at a time. */
const chunk = 2 ** 22;

/**
 * A training's state as a safetensors file whose metadata holds a checksum over all of the file, part by part: it is read
 * twice, so no step may run before the end.
 * @param run which run it belongs to
 */
export async function* encodeState({ step, arenas }: TrainerState, run: string): AsyncGenerator<Uint8Array> {
  const tensors = Object.fromEntries(
    Object.entries(arenas).map(([name, arena]): [string, StreamedTensor] => [
      name,
      { dtype: 'F32', shape: [arena.length], parts: () => partsOf(arena) },
    ]),
  );
  const stream = (checksum: string) => streamSafetensors(tensors, { step: String(step), run, checksum });
  yield* stream(await chunkedFingerprint(stream(blank)));
}

async function* partsOf({ length, read }: Arena): AsyncGenerator<Float32Array> {
  for (let at = 0; at < length; at += chunk) yield await read(at, Math.min(length, at + chunk));
}

/**
 * Opens a state, whose arenas are read when they are asked for.
 * @throws UserError where a bit of it is not as it was written, or it belongs to another run
 */
export async function decodeState(source: Source, run: string): Promise<TrainerState> {
  const { name } = source;
  const file = await openSafetensors(source);
  const { checksum = '' } = file.metadata;
  const damaged = `${name} is damaged, its checksum does not fit: put a copy of it back, or start a new run`;
  if (!/^[0-9a-f]{64}$/.test(checksum)) throw new UserError(damaged);
  if ((await chunkedFingerprint(withBlank(source, checksum))) !== checksum) throw new UserError(damaged);
  if (file.metadata.run !== run)
    throw new UserError(`${name} is of another run than the folder it lies in: put the run's own back`);
  const { step = '' } = file.metadata;
  if (!/^\d{1,15}$/.test(step)) throw new UserError(`${name} is of step "${step}", which cannot be: start a new run`);
  const arenas: Record<string, Arena> = {};
  for (const [tensor, { dtype, shape, offset }] of file.tensors) {
    if (dtype !== 'F32') throw new UserError(`${name}: ${tensor} is of ${dtype}, a state keeps F32: start a new run`);
    const read = async (start: number, end: number) => {
      const bytes = await source.read(offset + 4 * start, 4 * (end - start));
      if (bytes.length !== 4 * (end - start)) throw new UserError(damaged);
      const { buffer, byteOffset } = bytes.byteOffset % 4 ? bytes.slice() : bytes;
      return new Float32Array(buffer, byteOffset, end - start);
    };
    arenas[tensor] = { length: shape.reduce((size, extent) => size * extent, 1), read };
    for await (const part of partsOf(arenas[tensor])) {
      const wrong = part.find((value) => !Number.isFinite(value));
      if (wrong !== undefined) throw new UserError(`${name}: ${tensor} holds ${wrong}, from which no run goes on`);
    }
  }
  return { step: Number(step), arenas };
}

/** A file with the blank in the place of its checksum, which is in its header. */
async function* withBlank({ read, size }: Source, checksum: string): AsyncGenerator<Uint8Array> {
  const length = await read(0, 8);
  const end = 8 + new DataView(length.buffer, length.byteOffset).getUint32(0, true);
  const header = await read(0, end);
  const at = new TextDecoder('latin1').decode(header).indexOf(checksum);
  if (at >= 0) header.set(new TextEncoder().encode(blank), at);
  yield header;
  for (let offset = end; offset < size; offset += chunk) yield await read(offset, Math.min(chunk, size - offset));
}
