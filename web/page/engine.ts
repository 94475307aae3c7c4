import type { CallName, Calls, FromWorker, ToWorker } from '../protocol.js';

/** A call that was cancelled by whoever made it: nothing is to be said of it. */
export class Cancelled extends Error {}

interface Pending {
  onPart: (part: never) => void;
  done: (result: never) => void;
  fail: (error: Error) => void;
}

/** The worker, asked by name. */
export class Engine {
  private readonly worker = new Worker(new URL('../worker/main.ts', import.meta.url), { type: 'module' });
  private readonly pending = new Map<number, Pending>();
  private last = 0;

  /** @param onLost hears why nothing more can be computed */
  constructor(onLost: (message: string) => void) {
    this.worker.addEventListener('message', ({ data }: MessageEvent<FromWorker>) => {
      if ('lost' in data) return onLost(data.lost);
      const call = this.pending.get(data.id);
      if ('part' in data) return call?.onPart(data.part as never);
      this.pending.delete(data.id);
      if ('result' in data) call?.done(data.result as never);
      else call?.fail(new Error(data.failure));
    });
    this.worker.addEventListener('error', () => onLost('The worker of this page could not be loaded'));
  }

  /**
   * @param onPart hears of what comes before the result
   * @param signal cancels the call
   * @throws Cancelled, or an Error with a sentence for people
   */
  call<Name extends CallName>(
    name: Name,
    input: Calls[Name]['input'],
    { onPart = () => {}, signal }: { onPart?: (part: Calls[Name]['part']) => void; signal?: AbortSignal } = {},
  ): Promise<Calls[Name]['result']> {
    const id = ++this.last;
    return new Promise((done, fail) => {
      if (signal?.aborted) return fail(new Cancelled());
      signal?.addEventListener('abort', () => {
        if (!this.pending.delete(id)) return;
        this.send({ cancel: id });
        fail(new Cancelled());
      });
      this.pending.set(id, { onPart, done, fail });
      this.send({ id, name, input } as ToWorker);
    });
  }

  private send(message: ToWorker): void {
    this.worker.postMessage(message);
  }
}

/**
 * Work of which only the newest matters, such as what follows a dragged handle: one runs at a time, and of those asked for
 * meanwhile the last.
 */
export function newest<Input>(work: (input: Input) => Promise<void>): (input: Input) => void {
  let busy = false;
  let next: { input: Input } | null = null;
  const run = async (input: Input) => {
    busy = true;
    try {
      await work(input);
    } finally {
      busy = false;
      const waiting = next;
      next = null;
      if (waiting) void run(waiting.input);
    }
  };
  return (input) => {
    if (busy) next = { input };
    else void run(input);
  };
}
