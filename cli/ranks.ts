import { leaveFilesToOthers } from '../node/files.js';
import { MpiGroup, startedAs } from '../node/mpi.js';
import { alone, type Group } from '../src/gpu/group.js';
import { interruptedCode } from './failures.js';

/** Which of the processes this is that mpirun started, as far as it is known: null where it was started alone. */
let started: ReturnType<typeof startedAs> = null;
let world: MpiGroup | null = null;

/**
 * Learns whether this process is one of several: all run the same command, and only the first one prints and writes.
 * @throws UserError where they were started so that they cannot come together
 */
export function settleRanks(): void {
  started = startedAs();
  if (!started?.rank) return;
  leaveFilesToOthers();
  process.stdout.write = () => true;
}

/** The ranks that mpirun started, once they are all there; this process alone where it did not. */
export async function joinRanks(): Promise<Group> {
  if (!started) return alone;
  return (world ??= await MpiGroup.join());
}

/** Ends a command that came to its end, once all ranks do. */
export async function leaveRanks(): Promise<void> {
  await world?.leave();
  world = null;
}

/** Milliseconds in which the first rank tells of what fails on all of them. */
const patience = 3000;
/** Milliseconds for what is still being written. */
const goingOut = 200;

/**
 * Tells in one line what went wrong and ends the process, and with it all ranks. What fails on all of them is told by the
 * first, what fails on one by that.
 * @param line null where nothing is left to be said
 */
export function endRanks(line: string | null, exitCode: number, error?: unknown): void {
  const { rank, size } = world ?? started ?? alone;
  const end = () => {
    const where = started && size !== 1 ? `rank ${rank}${size ? ` of ${size}` : ''}: ` : '';
    if (line !== null) console.error(`semiflow: ${where}${line}`);
    if (process.env.SEMIFLOW_DEBUG && error instanceof Error) console.error(error.stack);
    process.exitCode = exitCode;
    // Not at once: what is still being written goes out first.
    const gone = setTimeout(() => (world && exitCode ? world.abort(exitCode) : process.exit()), goingOut);
    if (!world) gone.unref();
  };
  // Ranks are also told to stop where another one failed, which tells why.
  const stopped = size > 1 && exitCode === interruptedCode;
  if (line === null || (!rank && !stopped)) return end();
  // Whoever ends all ranks has told.
  process.removeAllListeners('SIGTERM').once('SIGTERM', () => process.exit(exitCode));
  setTimeout(end, patience);
}
