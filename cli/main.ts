import { CommanderError } from 'commander';
import { failureOf } from './failures.js';
import { leaveAtOnce } from '../node/quiet.js';
import { version } from '../src/version.js';
import { endRanks, leaveRanks, settleRanks } from './ranks.js';
import { done } from './status.js';
import { flagOf, loadObjectives, runCommand } from './program.js';

let failed = false;

/** Says what went wrong in one line and ends the process; pending GPU promises must not hold it. */
function fail(error: unknown): void {
  // What a first error tears down fails as well: the first one is told.
  if (failed) return;
  failed = true;
  done();
  const { line, exitCode } = failureOf(error, flagOf, version);
  // Help and version come as errors too, after they were printed.
  const printed = error instanceof CommanderError && error.exitCode === 0;
  endRanks(printed ? null : line, exitCode, error);
}

process.on('exit', leaveAtOnce);
process.on('uncaughtException', fail);
process.on('unhandledRejection', fail);
// Whoever reads our output may leave, as `head` does: nothing is wrong then, and nobody is there to be told.
for (const stream of [process.stdout, process.stderr])
  stream.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code === 'EPIPE') process.exit(process.exitCode ?? 0);
    fail(error);
  });

try {
  settleRanks();
  await loadObjectives(process.argv);
  await runCommand(process.argv.slice(2));
  await leaveRanks();
} catch (error) {
  fail(error);
}
