import { isGzip } from './gzip.js';
import { isTar } from './tar.js';
import { isZip } from './zip.js';

const startsWith = (bytes: Uint8Array, text: string): boolean =>
  bytes.length >= text.length && [...text].every((character, i) => bytes[i] === character.charCodeAt(0));

/**
 * What a file is by how it begins, for messages that say what was given instead of what was wanted.
 * @param head the first bytes, 512 are plenty
 * @returns such as "a web page"; null where nothing known is seen
 */
export function kindOf(head: Uint8Array): string | null {
  const text = new TextDecoder('latin1').decode(head);
  if (!head.length) return 'an empty file';
  if (text.startsWith('version https://git-lfs'))
    return 'a Git LFS pointer, the content was not fetched (git lfs pull)';
  if (/^\s*(<\?xml[^>]*>\s*)?(<!--[^]*?-->\s*)?<(!doctype\s+html|html|head|body)\b/i.test(text))
    return 'a web page, as servers send instead of a file that needs a login or is gone';
  if (/^\s*<\?xml|^\s*<Error>/.test(text)) return 'an XML document, as servers send with an error';
  if (isZip(head)) return 'a zip archive (.npz and PyTorch files are such)';
  if (isGzip(head)) return 'gzip data';
  if (startsWith(head, '\x89PNG')) return 'a PNG picture';
  if (startsWith(head, '\xff\xd8\xff')) return 'a JPEG picture';
  if (startsWith(head, 'GIF8')) return 'a GIF picture';
  if (startsWith(head, 'RIFF') && text.slice(8, 12) === 'WEBP') return 'a WebP picture';
  if (startsWith(head, 'II*\0') || startsWith(head, 'MM\0*')) return 'a TIFF picture';
  if (/^ftyp(avif|avis)/.test(text.slice(4))) return 'an AVIF picture';
  if (/^BM[^]{4}\0\0\0\0/.test(text)) return 'a BMP picture';
  if (startsWith(head, '\x93NUMPY')) return 'a NumPy array';
  if (startsWith(head, '\x89HDF')) return 'an HDF5 file (Keras weights, MATLAB 7.3)';
  if (startsWith(head, 'MATLAB')) return 'a MATLAB file';
  if (startsWith(head, 'PAR1')) return 'a Parquet file';
  if (startsWith(head, 'GGUF')) return 'a GGUF file';
  if (startsWith(head, '%PDF')) return 'a PDF document';
  if (startsWith(head, '\x7fELF') || startsWith(head, 'MZ')) return 'a program';
  if (startsWith(head, 'BZh')) return 'bzip2 data';
  if (startsWith(head, '\xfd7zXZ')) return 'xz data';
  if (startsWith(head, '\x28\xb5\x2f\xfd')) return 'Zstandard data';
  if (isTar(head)) return 'a tar archive';
  if (head[0] === 0x80 && head[1] >= 2 && head[1] <= 5) return 'a Python pickle (PyTorch before 1.6 wrote such)';
  if (head[0] === 0 && head[1] === 0 && head[2] >= 8 && head[2] <= 14 && head[3] >= 1 && head[3] <= 4)
    return 'an IDX file';
  if (head.length >= 9 && head[8] === 0x7b && head[6] === 0 && head[7] === 0) return 'a safetensors file';
  if (/^\s*[{[]/.test(text) && /^[\x09\x0a\x0d\x20-\x7e\x80-\xff]*$/.test(text)) return 'JSON text';
  if (/^[\x09\x0a\x0d\x20-\x7e]*$/.test(text)) return 'plain text';
  if (head.every((byte) => byte === 0)) return 'zeros, as an interrupted download or copy leaves';
  return null;
}
