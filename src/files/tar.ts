import { UserError } from '../errors.js';
import { bytesSource } from './source.js';
import type { Files } from './store.js';

const block = 512;
const text = (bytes: Uint8Array): string => {
  const end = bytes.indexOf(0);
  return new TextDecoder().decode(end < 0 ? bytes : bytes.subarray(0, end));
};

/** Whether bytes begin with a tar header: its checksum tells. */
export function isTar(bytes: Uint8Array): boolean {
  return bytes.length >= block && bytes[0] !== 0 && sumOf(bytes.subarray(0, block)) === octal(bytes.subarray(148, 156));
}

/** The header's bytes added up, those of the sum itself counted as spaces. */
function sumOf(header: Uint8Array): number {
  return header.reduce((sum, byte, i) => sum + (i >= 148 && i < 156 ? 32 : byte), 0);
}

function octal(field: Uint8Array): number {
  const digits = text(field).trim();
  return /^[0-7]+$/.test(digits) ? parseInt(digits, 8) : NaN;
}

/**
 * The files of a tar archive (POSIX ustar, long names of GNU and pax); folders, links and devices are left out.
 * @throws UserError where a header's checksum is wrong or the archive ends early
 */
export function tarFiles(bytes: Uint8Array, name: string): Files {
  const damaged = () => new UserError(`${name}: the tar archive is damaged or cut off; fetch it again`);
  const files = new Map<string, Uint8Array>();
  let longName: string | undefined;
  for (let at = 0; at < bytes.length;) {
    const header = bytes.subarray(at, at + block);
    if (header.length < block) throw damaged();
    if (header.every((byte) => byte === 0)) break;
    const size = octal(header.subarray(124, 136));
    if (sumOf(header) !== octal(header.subarray(148, 156)) || !Number.isSafeInteger(size)) throw damaged();
    const content = bytes.subarray(at + block, at + block + size);
    if (content.length < size) throw damaged();
    at += block + Math.ceil(size / block) * block;
    const type = String.fromCharCode(header[156]);
    if (type === 'L') longName = text(content);
    else if (type === 'x') longName = /^\d+ path=(.*)$/m.exec(text(content))?.[1] ?? longName;
    else {
      const prefix = text(header.subarray(345, 500));
      const short = text(header.subarray(0, 100));
      const path =
        longName ?? (text(header.subarray(257, 263)).startsWith('ustar') && prefix ? `${prefix}/${short}` : short);
      longName = undefined;
      if (type === '0' || type === '\0') files.set(path.replace(/^(\.\/)+/, ''), content);
    }
  }
  return {
    name,
    list: async () => [...files.keys()],
    open: async (path) => {
      const content = files.get(path);
      return content ? bytesSource(content, `${name}, ${path}`) : null;
    },
  };
}
