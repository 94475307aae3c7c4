import { cases, type Case, type Mode } from './cases.js';

/** What a peer brings: a case made ready to run, and its result read back. */
export interface Prepared {
  /** Starts one repetition. */
  run(): void | Promise<void>;
  /** Waits until everything started has been computed. */
  finish(): Promise<void>;
  /** The forward result, flat, in the order that cases.ts states; of a step the network's output, of Adam the parameters. */
  read(): Promise<Float32Array>;
  dispose(): void;
}

export interface Request {
  name: string;
  mode: Mode;
  repeats: number;
  /** Flat indices at which the result is wanted; empty where only time counts. */
  indices: number[];
}

export type Reply = { milliseconds: number; processor: number; values: number[]; error?: string };

/** Answers the driver's requests, one at a time; a case stays prepared while it is asked for again. */
export function serve(prepare: (c: Case, mode: Mode) => Promise<Prepared>): void {
  let current: { key: string; prepared: Prepared } | undefined;
  const answer = async ({ name, mode, repeats, indices }: Request): Promise<Reply> => {
    const key = `${name} ${mode}`;
    const values: number[] = [];
    if (current?.key !== key) {
      current?.prepared.dispose();
      current = undefined;
      const prepared = await prepare(
        cases.find((c) => c.name === name)!,
        mode,
      );
      current = { key, prepared };
      // The first result, before a training step changes what it depends on.
      if (indices.length) {
        const all = await prepared.read();
        values.push(...indices.map((i) => all[i]));
      }
      // Compilation belongs to no repetition.
      await prepared.run();
      await prepared.finish();
    }
    const { prepared } = current;
    const cpu = process.cpuUsage();
    const start = performance.now();
    for (let i = 0; i < repeats; i++) await prepared.run();
    await prepared.finish();
    const milliseconds = (performance.now() - start) / repeats;
    const { user, system } = process.cpuUsage(cpu);
    return { milliseconds, processor: (user + system) / 1000 / repeats, values };
  };
  process.on('message', (request: Request) => {
    void answer(request)
      .catch((error: Error) => ({ milliseconds: NaN, processor: NaN, values: [], error: error.message.split('\n')[0] }))
      .then((reply) => process.send!(reply));
  });
  process.send!('ready');
}
