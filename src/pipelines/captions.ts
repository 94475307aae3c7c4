import { UserError } from '../errors.js';
import { readText, type Files } from '../files/store.js';

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
 * (`file_name` and `text` a line), or with a `.txt` beside each; or a text file alone, a prompt a line, without pictures.
 * @returns null where no picture has a caption and there is no text file
 * @throws UserError naming the line or the picture at fault
 */
export async function readCaptions(files: Files): Promise<Caption[] | null> {
  const paths = (await files.list()).sort();
  const pictures = paths.filter((path) => pictureName.test(path));
  if (!pictures.length) {
    const prompts = paths.length === 1 && /\.txt$/i.test(paths[0]) ? await readText(files, paths[0]) : null;
    if (prompts === null) return null;
    const texts = prompts.split(/\r?\n/).filter((line) => line.trim());
    if (!texts.length) throw new UserError(`${files.name} holds no prompt: write one a line`, 'data');
    return texts.map((text) => ({ text: text.trim() }));
  }
  const lists = paths.filter((path) => /(^|\/)metadata\.jsonl$/.test(path));
  if (lists.length) return (await Promise.all(lists.map((path) => listed(files, path, pictures)))).flat();
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
      return { picture, text: (await readText(files, beside))!.replace(/\s+/g, ' ').trim() };
    }),
  );
}

async function listed(files: Files, path: string, pictures: readonly string[]): Promise<Caption[]> {
  const folder = path.replace(/[^/]*$/, '');
  const where = `${files.name}/${path}`;
  const known = new Set(pictures);
  return (await readText(files, path))!.split(/\r?\n/).flatMap((line, i) => {
    if (!line.trim()) return [];
    const row = rowOf(line, `${where}:${i + 1}`);
    const key = textKeys.find((name) => typeof row[name] === 'string');
    const picture = folder + String(row.file_name).replace(/^\.\//, '');
    if (key === undefined || !known.has(picture))
      throw new UserError(
        `${where}:${i + 1} ${key === undefined ? `has no ${textKeys.join(', ')}` : `names ${picture}, which is not there`}: a line is {"file_name": "a.png", "text": "…"}`,
        'data',
      );
    return [{ picture, text: String(row[key]) }];
  });
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
