import { Tokenizer as Model } from '@huggingface/tokenizers';
import { UserError } from '../errors.js';
import { readText, type Files } from '../files/store.js';
import { readJson } from '../flow/folder.js';

/** Texts to the numbers that a text encoder was trained on. */
export interface Tokenizer {
  /** Tokens of every text, those that fill it up included. */
  readonly length: number;
  /** One more than the greatest number of a token. */
  readonly vocabulary: number;
  /** A text's tokens, `length` of them; `cut` says how many of its own had no place. */
  encode(text: string): { tokens: Uint32Array; cut: number };
}

/** What CLIP splits a text into, before pairs are merged. */
const pieces = "'s|'t|'re|'ve|'m|'ll|'d|[\\p{L}]+|[\\p{N}]|[^\\s\\p{L}\\p{N}]+";

/** A token that configurations state by its text, or by an object that has it. */
const contentOf = (token: unknown): string | undefined =>
  typeof token === 'string' ? token : (token as { content?: string } | null | undefined)?.content;

/**
 * The tokenizer of a folder: `tokenizer.json`, or CLIP's `vocab.json` and `merges.txt` (Radford et al., 2021): lower case,
 * white space collapsed, pairs of bytes merged.
 * @param most tokens of a text that its encoder has places for
 * @throws UserError where files are missing or damaged
 */
export async function openTokenizer(files: Files, most: number): Promise<Tokenizer> {
  const config = (await readJson(files, 'tokenizer_config.json')) ?? {};
  const special = (await readJson(files, 'special_tokens_map.json')) ?? {};
  // Configurations from before they listed tokens are overruled by the map beside them, as transformers reads them.
  const order = config.added_tokens_decoder ? [config, special] : [special, config];
  const named = (name: string, usual: string) => contentOf(order[0][name]) ?? contentOf(order[1][name]) ?? usual;
  const [start, end] = [named('bos_token', '<|startoftext|>'), named('eos_token', '<|endoftext|>')];
  const whole = (await readJson(files, 'tokenizer.json')) ?? (await clipTokenizer(files, start, end));
  const model = made(files.name, () => new Model(whole, config));
  const numberOf = (token: string): number => {
    const number = model.token_to_id(token);
    if (number === undefined) throw new UserError(`${files.name}: its vocabulary has no ${token}: fetch it again`);
    return number;
  };
  const [last, filler] = [numberOf(end), numberOf(named('pad_token', end))];
  const length = Math.min(most, Number(config.model_max_length ?? most));
  const vocabulary = 1 + [...model.get_vocab().values()].reduce((most, number) => Math.max(most, number), 0);
  return {
    length,
    vocabulary,
    encode: (text) => {
      const { ids } = model.encode(text);
      const cut = Math.max(0, ids.length - length);
      const kept = cut ? [...ids.slice(0, length - 1), last] : ids;
      const tokens = new Uint32Array(length).fill(filler);
      tokens.set(kept);
      return { tokens, cut };
    },
  };
}

/** CLIP's vocabulary and merges in the form of tokenizer.json. */
async function clipTokenizer(files: Files, start: string, end: string): Promise<Record<string, unknown>> {
  const vocab = (await readJson(files, 'vocab.json')) as Record<string, number> | null;
  const merges = await readText(files, 'merges.txt');
  if (!vocab || merges === null)
    throw new UserError(
      `${files.name} holds no tokenizer: tokenizer.json is looked for, or vocab.json with merges.txt: fetch all files of the folder`,
    );
  const missing = [start, end].find((token) => !Object.hasOwn(vocab, token));
  if (missing !== undefined) throw new UserError(`${files.name}/vocab.json has no ${missing}: fetch it again`);
  return {
    added_tokens: [start, end].map((content) => ({
      id: vocab[content],
      content,
      single_word: false,
      lstrip: false,
      rstrip: false,
      normalized: false,
      special: true,
    })),
    normalizer: {
      type: 'Sequence',
      normalizers: [
        { type: 'NFC' },
        { type: 'Replace', pattern: { Regex: '\\s+' }, content: ' ' },
        { type: 'Lowercase' },
      ],
    },
    pre_tokenizer: {
      type: 'Sequence',
      pretokenizers: [
        { type: 'Split', pattern: { Regex: pieces }, behavior: 'Removed', invert: true },
        { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true },
      ],
    },
    post_processor: {
      type: 'RobertaProcessing',
      sep: [end, vocab[end]],
      cls: [start, vocab[start]],
      trim_offsets: false,
      add_prefix_space: false,
    },
    decoder: { type: 'ByteLevel' },
    model: {
      type: 'BPE',
      unk_token: end,
      continuing_subword_prefix: '',
      end_of_word_suffix: '</w>',
      fuse_unk: false,
      vocab,
      merges: merges.split('\n').filter((line) => line.trim() && !line.startsWith('#version')),
    },
  };
}

function made(origin: string, make: () => Model): Model {
  try {
    return make();
  } catch (error) {
    throw new UserError(`${origin}: its tokenizer cannot be used (${(error as Error).message}): fetch it again`);
  }
}
