import { compile } from '../autodiff/compile.js';
import { UserError } from '../errors.js';
import { bindNetwork } from '../flow/network.js';
import type { Device } from '../gpu/device.js';
import { TensorStorage } from '../gpu/storage.js';
import { fromStorage } from '../tensor/tensor.js';
import type { Pipeline } from './pipeline.js';

/** What texts became. */
export interface TextStates {
  /** Of each text [tokens, width], the context that networks are told. */
  readonly states: readonly Float32Array[];
  /** What was left of texts that are too long, a line each. */
  readonly notes: readonly string[];
}

/**
 * The states of texts, one text at a time.
 * @throws UserError where they are not finite
 */
export async function encodeTexts(
  device: Device,
  { text, tokenizer, name }: Pick<Pipeline, 'text' | 'tokenizer' | 'name'>,
  texts: readonly string[],
  onProgress: (done: number, total: number) => void = () => {},
): Promise<TextStates> {
  const { length } = tokenizer;
  const p = bindNetwork(text, 'text encoder', device.profile);
  const storage = new TensorStorage('tokens', 'u32', length);
  const { last } = text.parts.encode(p, fromStorage(storage, [1, length]));
  const program = await compile(device, { outputs: { last } });
  try {
    const states: Float32Array[] = [];
    const notes: string[] = [];
    for (const [i, each] of texts.entries()) {
      const { tokens, cut } = tokenizer.encode(each);
      if (cut)
        notes.push(`the last ${cut} tokens of "${each.slice(0, 40)}…" are left out: a text has ${length} at most`);
      device.write(storage, tokens);
      program.run();
      const values = (await program.read('last')) as Float32Array;
      if (!values.every(Number.isFinite))
        throw new UserError(
          `${name}: the states of "${each.slice(0, 40)}" are not finite: its text encoder is damaged`,
        );
      states.push(values);
      onProgress(i + 1, texts.length);
    }
    return { states, notes };
  } finally {
    program.dispose();
    storage.dispose();
  }
}
