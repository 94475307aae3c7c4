import { closeSync, openSync } from 'node:fs';

interface System {
  dup(descriptor: number): number;
  dup2(from: number, to: number): number;
  _exit(code: number): void;
}

let asked: Promise<System | null> | undefined;
/** Once it is there. */
let found: System | null = null;

/** What Node has nothing for: how descriptors of this process are exchanged, and how it ends at once. Null where there is no way. */
const system = (): Promise<System | null> =>
  (asked ??= import('koffi')
    .then(({ default: koffi }) => {
      const library = koffi.load(null);
      return (found = {
        dup: library.func('int dup(int)') as System['dup'],
        dup2: library.func('int dup2(int, int)') as System['dup2'],
        _exit: library.func('void _exit(int)') as System['_exit'],
      });
    })
    .catch(() => null));

const shown = () => process.platform === 'win32' || Boolean(process.env.SEMIFLOW_DEBUG);

/**
 * Runs what native code warns in that only its authors understand, such as Dawn of its own limits: nothing is shown of it,
 * unless SEMIFLOW_DEBUG is set. What JavaScript writes to stderr meanwhile is lost as well.
 */
export async function quietly<T>(work: () => T): Promise<Awaited<T>> {
  const known = shown() ? null : await system();
  if (!known) return await work();
  const stderr = known.dup(2);
  const nothing = openSync('/dev/null', 'w');
  known.dup2(nothing, 2);
  closeSync(nothing);
  try {
    return await work();
  } finally {
    known.dup2(stderr, 2);
    closeSync(stderr);
  }
}

/**
 * The last word of a process, for its `exit` event: whatever it ends by, driver and Dawn have no time to be taken apart, which
 * under threads that still compile ends in a dump of what they were at, or in a crash. Where the system cannot be asked, they
 * are at least not heard.
 */
export function leaveAtOnce(code: number): void {
  if (shown()) return;
  if (found) return found._exit(code);
  // The lowest descriptor that is free is opened: the one that was just closed.
  for (const stream of [1, 2]) {
    closeSync(stream);
    openSync('/dev/null', 'w');
  }
}
