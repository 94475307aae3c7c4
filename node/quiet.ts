import { closeSync, openSync } from 'node:fs';

interface Descriptors {
  dup(descriptor: number): number;
  dup2(from: number, to: number): number;
}

let known: Promise<Descriptors | null> | undefined;

/** How descriptors of this process are exchanged: Node has nothing for it. Null where there is no way. */
const descriptors = (): Promise<Descriptors | null> =>
  (known ??= import('koffi')
    .then(({ default: koffi }) => {
      const system = koffi.load(null);
      return {
        dup: system.func('int dup(int)') as Descriptors['dup'],
        dup2: system.func('int dup2(int, int)') as Descriptors['dup2'],
      };
    })
    .catch(() => null));

/**
 * Runs what native code warns in that only its authors understand, such as Dawn of its own limits: nothing is shown of it,
 * unless SEMIFLOW_DEBUG is set. What JavaScript writes to stderr meanwhile is lost as well.
 */
export async function quietly<T>(work: () => T): Promise<Awaited<T>> {
  const system = process.platform === 'win32' || process.env.SEMIFLOW_DEBUG ? null : await descriptors();
  if (!system) return await work();
  const stderr = system.dup(2);
  const nothing = openSync('/dev/null', 'w');
  system.dup2(nothing, 2);
  closeSync(nothing);
  try {
    return await work();
  } finally {
    system.dup2(stderr, 2);
    closeSync(stderr);
  }
}
