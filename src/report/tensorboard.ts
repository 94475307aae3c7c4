import { UserError } from '../errors.js';

/** A scalar as TensorBoard draws it; wallTime in seconds since 1970. */
export interface ScalarEvent {
  wallTime: number;
  step: number;
  tag: string;
  value: number;
}

/** The record that opens every event file. */
export function encodeFileVersion(wallTime: number): Uint8Array {
  const version = new TextEncoder().encode('brain.Event:2');
  return frame([...field(1, FIXED64), ...float64(wallTime), ...field(3, BYTES), ...varint(version.length), ...version]);
}

/**
 * One scalar summary as a record of an event file (tensorflow/core/util/event.proto: wall_time 1, step 2, summary 5;
 * summary.proto: value 1 { tag 1, simple_value 2 }). Records are appended to a file named `events.out.tfevents.*`.
 * @throws UserError for a step that is not a whole number of 0 … 2^53 − 1
 */
export function encodeEvent({ wallTime, step, tag, value }: ScalarEvent): Uint8Array {
  if (!Number.isSafeInteger(step) || step < 0)
    throw new UserError(`the step of a TensorBoard event is ${step}, it must be a whole number from 0`);
  const name = new TextEncoder().encode(tag);
  const scalar = [...field(1, BYTES), ...varint(name.length), ...name, ...field(2, FIXED32), ...float32(value)];
  const summary = [...field(1, BYTES), ...varint(scalar.length), ...scalar];
  return frame([
    ...field(1, FIXED64),
    ...float64(wallTime),
    ...field(2, VARINT),
    ...varint(step),
    ...field(5, BYTES),
    ...varint(summary.length),
    ...summary,
  ]);
}

/**
 * The record that opens the event file of a resumed run (session_log 7 { status START }): whoever reads the files in the
 * order of their names forgets what they held from `step` on.
 */
export function encodeRestart(wallTime: number, step: number): Uint8Array {
  const start = [...field(1, VARINT), 1];
  return frame([
    ...field(1, FIXED64),
    ...float64(wallTime),
    ...field(2, VARINT),
    ...varint(step),
    ...field(7, BYTES),
    ...varint(start.length),
    ...start,
  ]);
}

/**
 * How many bytes of an event file hold whole records up to a step. A record that a kill tore ends them: readers see nothing
 * behind it.
 */
export function eventsUntil(bytes: Uint8Array, step: number): number {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let at = 0;
  while (at + 12 <= bytes.length) {
    const length = view.getUint32(at, true);
    const end = at + 12 + length + 4;
    if (end > bytes.length || view.getUint32(at + 8, true) !== maskedCrc(bytes.subarray(at, at + 8))) break;
    const data = bytes.subarray(at + 12, at + 12 + length);
    if (view.getUint32(end - 4, true) !== maskedCrc(data) || stepOf(data) > step) break;
    at = end;
  }
  return at;
}

/** The step of an event as `encodeEvent` writes it, behind the time; 0 where it has none. */
function stepOf(data: Uint8Array): number {
  if (data[9] !== field(2, VARINT)[0]) return 0;
  let [step, scale] = [0, 1];
  for (let i = 10; i < data.length; i++, scale *= 128) {
    step += (data[i] & 127) * scale;
    if (data[i] < 128) break;
  }
  return step;
}

const [VARINT, FIXED64, BYTES, FIXED32] = [0, 1, 2, 5];

/** Protocol buffers: a field is its number and wire type, then the value. */
const field = (number: number, wire: number): number[] => [(number << 3) | wire];

function varint(value: number): number[] {
  const bytes: number[] = [];
  for (; value >= 128; value = Math.floor(value / 128)) bytes.push((value % 128) | 128);
  return [...bytes, value];
}

const float64 = (value: number): Uint8Array => littleEndian(8, (view) => view.setFloat64(0, value, true));
const float32 = (value: number): Uint8Array => littleEndian(4, (view) => view.setFloat32(0, value, true));
const uint32 = (value: number): Uint8Array => littleEndian(4, (view) => view.setUint32(0, value, true));

function littleEndian(size: number, write: (view: DataView) => void): Uint8Array {
  const bytes = new Uint8Array(size);
  write(new DataView(bytes.buffer));
  return bytes;
}

/** TFRecord: length as u64, its masked CRC, the data, its masked CRC. */
function frame(data: number[]): Uint8Array {
  const length = [...uint32(data.length), 0, 0, 0, 0];
  return Uint8Array.from([...length, ...uint32(maskedCrc(length)), ...data, ...uint32(maskedCrc(data))]);
}

/** TFRecord's mask: a CRC of data that holds CRCs would be weak. */
function maskedCrc(data: ArrayLike<number>): number {
  const crc = crc32c(data);
  return (((crc >>> 15) | (crc << 17)) + 0xa282ead8) >>> 0;
}

const TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  for (let bit = 0; bit < 8; bit++) byte = byte & 1 ? (byte >>> 1) ^ 0x82f63b78 : byte >>> 1;
  return byte;
});

/** CRC-32C (Castagnoli; RFC 3720, appendix B.4). */
export function crc32c(data: ArrayLike<number>): number {
  let crc = 0xffffffff;
  for (let i = 0; i < data.length; i++) crc = TABLE[(crc ^ data[i]) & 255] ^ (crc >>> 8);
  return (crc ^ 0xffffffff) >>> 0;
}
