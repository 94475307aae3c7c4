import { UserError } from '../errors.js';
import { readAll } from '../files/source.js';
import type { Files } from '../files/store.js';

/** A text, and the picture that it is of, where there is one. */
export interface Caption {
  readonly text: string;
  /** Below the folder. */
  readonly picture?: string;
}

const pictureName = /\.(png|jpe?g|webp|gif|tiff?|avif)$/i;
/** Keys under which rows of metadata.jsonl have their text, those that are preferred first. */
const textKeys = ['text', 'caption', 'prompt'];

/**
 * The captions of a folder as diffusers' training scripts take it: pictures with a `metadata.jsonl` that names them
 * (`file_name` and `text` a line; several texts in a list are a caption each), or with a `.txt` beside each; or a text file
 * alone, a prompt a line, without pictures.
 * @returns null where no picture has a caption and there is no text file
 * @throws UserError naming the line or the picture at fault
 */
export async function readCaptions(files: Files): Promise<Caption[] | null> {
  // Programs leave hidden files that have the names of pictures.
  const paths = (await files.list()).filter((path) => !/(^|\/)\./.test(path)).sort();
  const pictures = paths.filter((path) => pictureName.test(path));
  if (!pictures.length) {
    if (paths.length !== 1 || !/\.txt$/i.test(paths[0])) return null;
    const texts = (await textIn(files, paths[0])).split(/\r?\n/).filter((line) => line.trim());
    if (!texts.length) throw new UserError(`${files.name} holds no prompt: write one a line`, 'data');
    return texts.map((text) => ({ text: text.trim() }));
  }
  const lists = paths.filter((path) => /(^|\/)metadata\.jsonl$/.test(path));
  if (lists.length) {
    const captions = (await Promise.all(lists.map((path) => listed(files, path, pictures)))).flat();
    if (!captions.length) throw new UserError(`${files.name}/${lists[0]} is empty: ${lineLooks}`, 'data');
    return captions;
  }
  const texts = new Set(paths.filter((path) => /\.txt$/i.test(path)));
  if (!texts.size) return null;
  return Promise.all(
    pictures.map(async (picture) => {
      const beside = picture.replace(/\.\w+$/, '.txt');
      if (!texts.has(beside))
        throw new UserError(
          `${files.name}/${picture} has no text beside it: write ${beside}, or a metadata.jsonl`,
          'data',
        );
      return { picture, text: (await textIn(files, beside)).replace(/\s+/g, ' ').trim() };
    }),
  );
}

const lineLooks = 'a line is {"file_name": "a.png", "text": "…"}';

async function listed(files: Files, path: string, pictures: readonly string[]): Promise<Caption[]> {
  const folder = path.replace(/[^/]*$/, '');
  const where = `${files.name}/${path}`;
  const known = new Set(pictures);
  return (await textIn(files, path)).split(/\r?\n/).flatMap((line, i) => {
    if (!line.trim()) return [];
    const refuse = (what: string) => new UserError(`${where}:${i + 1} ${what}: ${lineLooks}`, 'data');
    const row = rowOf(line, `${where}:${i + 1}`);
    const texts = textKeys.map((name) => textsIn(row[name])).find((found) => found.length);
    if (!texts) throw refuse(`has no ${textKeys.join(', ')}`);
    if (typeof row.file_name !== 'string') throw refuse('has no file_name');
    const picture = folder + row.file_name.replaceAll('\\', '/').replace(/^\.\//, '');
    if (!known.has(picture)) throw refuse(`names ${picture}, which is not there`);
    return texts.map((text) => ({ picture, text }));
  });
}

const textsIn = (value: unknown): string[] =>
  (Array.isArray(value) ? value : [value]).filter((text) => typeof text === 'string');

/** A file of text. @throws UserError where it is in another encoding, which would be read as other words */
async function textIn(files: Files, path: string): Promise<string> {
  const bytes = await readAll((await files.open(path))!);
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch {
    throw new UserError(`${files.name}/${path} is not in UTF-8: save it so`, 'data');
  }
}

function rowOf(line: string, where: string): Record<string, unknown> {
  try {
    const row: unknown = JSON.parse(line);
    if (row && typeof row === 'object') return row as Record<string, unknown>;
  } catch {
    // Said below.
  }
  throw new UserError(`${where} is no JSON object: mend it or remove it`, 'data');
}
