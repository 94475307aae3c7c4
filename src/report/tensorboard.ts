import { PbfWriter } from 'pbf';
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
  const event = new PbfWriter();
  event.writeDoubleField(1, wallTime);
  event.writeStringField(3, 'brain.Event:2');
  return frame(event.finish());
}

/**
 * One scalar summary as a record of an event file (tensorflow/core/util/event.proto: wall_time 1, step 2, summary 5;
 * summary.proto: value 1 { tag 1, simple_value 2 }). Records are appended to a file named `events.out.tfevents.*`.
 * @throws UserError for a step that is not a whole number of 0 … 2^53 − 1
 */
export const encodeEvent = ({ wallTime, step, tag, value }: ScalarEvent): Uint8Array =>
  encodeValue(wallTime, step, (summary) => {
    summary.writeStringField(1, tag);
    summary.writeFloatField(2, value);
  });

/** A picture at a step (summary.proto: image 4 { height 1, width 2, colorspace 3, encoded_image_string 4 }). */
export function encodePicture(wallTime: number, step: number, tag: string, png: Uint8Array): Uint8Array {
  const header = new DataView(png.buffer, png.byteOffset, png.byteLength);
  return encodeValue(wallTime, step, (summary) => {
    summary.writeStringField(1, tag);
    within(summary, 4, (image) => {
      image.writeVarintField(1, header.getUint32(20));
      image.writeVarintField(2, header.getUint32(16));
      image.writeVarintField(3, 3);
      image.writeBytesField(4, png);
    });
  });
}

/**
 * The hyperparameters of a run for TensorBoard's table of them (plugins/hparams/plugin_data.proto: version 1,
 * session_start_info 3 { hparams 1, a map of google.protobuf.Value }).
 */
export const encodeHyperparameters = (
  wallTime: number,
  values: Iterable<readonly [name: string, value: unknown]>,
): Uint8Array =>
  encodeValue(wallTime, 0, (summary) => {
    summary.writeStringField(1, '_hparams_/session_start_info');
    within(summary, 9, (metadata) =>
      within(metadata, 1, (plugin) => {
        plugin.writeStringField(1, 'hparams');
        within(plugin, 2, (content) => {
          content.writeVarintField(1, 0);
          within(content, 3, (session) => {
            for (const [name, value] of values)
              within(session, 1, (entry) => {
                entry.writeStringField(1, name);
                within(entry, 2, (kind) => writePlain(kind, value));
              });
          });
        });
      }),
    );
  });

/** google.protobuf.Value: number_value 2, string_value 3, bool_value 4. */
function writePlain(writer: PbfWriter, value: unknown): void {
  if (typeof value === 'number') writer.writeDoubleField(2, value);
  else if (typeof value === 'boolean') writer.writeBooleanField(4, value);
  else writer.writeStringField(3, String(value));
}

/** An event with one value of a summary. @throws UserError for a step that is none */
function encodeValue(wallTime: number, step: number, write: (summary: PbfWriter) => void): Uint8Array {
  if (!Number.isSafeInteger(step) || step < 0)
    throw new UserError(`the step of a TensorBoard event is ${step}, it must be a whole number from 0`);
  const event = new PbfWriter();
  event.writeDoubleField(1, wallTime);
  event.writeVarintField(2, step);
  within(event, 5, (summary) => within(summary, 1, write));
  return frame(event.finish());
}

/** A message as a field of another. */
const within = (writer: PbfWriter, field: number, write: (writer: PbfWriter) => void): void =>
  writer.writeMessage(field, (_, inner) => write(inner), null);

/**
 * The record that opens the event file of a resumed run (session_log 7 { status START }): whoever reads the files in the
 * order of their names forgets what they held from `step` on.
 */
export function encodeRestart(wallTime: number, step: number): Uint8Array {
  const event = new PbfWriter();
  event.writeDoubleField(1, wallTime);
  event.writeVarintField(2, step);
  within(event, 7, (log) => log.writeVarintField(1, 1));
  return frame(event.finish());
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
  if (data[9] !== stepKey) return 0;
  let [step, scale] = [0, 1];
  for (let i = 10; i < data.length; i++, scale *= 128) {
    step += (data[i] & 127) * scale;
    if (data[i] < 128) break;
  }
  return step;
}

/** Field 2 as a varint. */
const stepKey = (2 << 3) | 0;

/** TFRecord: length as u64, its masked CRC, the data, its masked CRC. */
function frame(data: Uint8Array): Uint8Array {
  const record = new Uint8Array(12 + data.length + 4);
  const view = new DataView(record.buffer);
  view.setUint32(0, data.length, true);
  view.setUint32(8, maskedCrc(record.subarray(0, 8)), true);
  record.set(data, 12);
  view.setUint32(12 + data.length, maskedCrc(data), true);
  return record;
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
