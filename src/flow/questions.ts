import { UserError } from '../errors.js';
import { concat, slice } from '../ops/movement.js';
import { Tensor } from '../tensor/tensor.js';

/**
 * A computation that asks networks on its way: `yield*` hands a question out and comes back with the answer. Whoever runs
 * several such computations asks each network once for all of them.
 */
export type Asking<T> = { [Symbol.iterator](): Iterator<readonly Question[], T, void> };

/** Tensors, or records of them, perhaps some that are not there. */
export type Tensors = object | undefined;

/** A record of tensors with something else in the place of each. */
export const mapTensors = <T extends Tensors>(tensors: T, change: (tensor: Tensor) => Tensor): T =>
  joinTensors([tensors], ([tensor]) => change(tensor));

/**
 * Records of tensors with the same names as one.
 * @throws UserError where some have what others lack
 */
function joinTensors<T extends Tensors>(
  all: readonly T[],
  join: (tensors: readonly Tensor[]) => Tensor,
  what = 'inputs',
): T {
  const [first] = all;
  if (all.some((one) => (one === undefined) !== (first === undefined)))
    throw new UserError(`questions to one network must tell it the same: ${what} is there in some of them only`);
  if (first === undefined) return first;
  if (first instanceof Tensor) return join(all as readonly object[] as readonly Tensor[]) as object as T;
  const names = new Set(all.flatMap((one) => Object.keys(one as object)));
  const parts = (name: string) => all.map((one) => (one as Record<string, Tensors>)[name]);
  return Object.fromEntries([...names].map((name) => [name, joinTensors(parts(name), join, name)])) as T;
}

/** What a network is to say of some samples. */
export class Question {
  private answer?: Tensor;

  /** @param inputs of the network: tensors with the same first axis, the first one by itself, and records of such */
  constructor(
    /** Who is asked. */
    readonly network: (...inputs: Tensors[]) => Tensor,
    /** What it is called with. */
    readonly inputs: readonly Tensors[],
  ) {}

  /** What is known without asking. */
  static answered(answer: Tensor): Question {
    const question = new Question(() => answer, []);
    question.answer = answer;
    return question;
  }

  /** Asks a network at once for the samples of all these questions, which are its. */
  static ask(questions: readonly Question[]): void {
    const [{ network, inputs }] = questions;
    const joined = inputs.map((_, i) =>
      joinTensors(
        questions.map((question) => question.inputs[i]),
        (tensors) => concat(tensors, 0),
      ),
    );
    const answer = network(...joined);
    let from = 0;
    for (const question of questions) {
      const [rows] = (question.inputs[0] as Tensor).shape;
      question.answer = slice(answer, 0, from, from + rows);
      from += rows;
    }
  }

  /** Waits for the answer, however often it is asked whether it is there. */
  *[Symbol.iterator](): Generator<readonly Question[], Tensor, void> {
    while (!this.answer) yield [this];
    return this.answer;
  }

  /** Operations look at type and shape of what they are given. */
  get dtype(): never {
    throw new UserError('a network was asked, and the question was taken for its answer: write `yield* teacher(x, t)`');
  }

  get shape(): never {
    return this.dtype;
  }
}

/**
 * A function of samples as one that can be asked: all tensors that it is given have the same first axis, and so has its
 * result.
 */
export const askable =
  <Inputs extends Tensors[]>(network: (...inputs: Inputs) => Tensor) =>
  (...inputs: Inputs): Question =>
    new Question(network as Question['network'], inputs);

/** Several side by side, so that what they ask at one time is asked at once; what each comes to, in order. */
export function* together<Parts extends readonly Asking<unknown>[]>(
  ...parts: Parts
): Generator<
  readonly Question[],
  { -readonly [K in keyof Parts]: Parts[K] extends Asking<infer T> ? T : never },
  void
> {
  const results: unknown[] = [];
  let running = parts.map((part, i) => ({ run: part[Symbol.iterator](), i }));
  for (;;) {
    const asked: Question[] = [];
    running = running.filter(({ run, i }) => {
      const { done, value } = run.next();
      if (done) results[i] = value;
      else asked.push(...value);
      return !done;
    });
    if (!running.length) return results as never;
    yield asked;
  }
}

/**
 * Runs a computation to its end. One network is asked as long as somebody wants to know something of it, then the next:
 * what is asked of that meanwhile is asked at once.
 */
export function answered<T>(computation: Asking<T>): T {
  const run = computation[Symbol.iterator]();
  let network: Question['network'] | undefined;
  for (;;) {
    const { done, value } = run.next();
    if (done) return value;
    const same = value.some((question) => question.network === network);
    if (!same) network = value[0].network;
    Question.ask(value.filter((question) => question.network === network));
  }
}
