import { CommanderError } from 'commander';
import { called } from './called.js';
import { SemiflowError, type ErrorCode } from '../src/errors.js';
import { MemoryError } from '../src/flow/memory.js';

/** What the process ends with. */
export const exitCodes: Record<ErrorCode, number> = { input: 2, divergence: 3, device: 1 };
const faultCode = 1;
/** As shells have it for Ctrl-C. */
export const interruptedCode = 130;

/** What a report of a fault should name, known as far as the command came. */
const context: { adapter?: string } = {};

/** Remembers the adapter that was opened, for reports of faults. */
export const noteAdapter = (description: string): void => void (context.adapter = description);

/** What the terminal shows of an error, and the exit code. */
export interface Failure {
  line: string;
  exitCode: number;
}

/**
 * An error as one line.
 * @param flagOf the flag of a field of the library
 * @param version semiflow's
 */
export function failureOf(error: unknown, flagOf: (field: string) => string, version: string): Failure {
  if (error instanceof SemiflowError) {
    const { code, field, message } = error;
    const said = error instanceof MemoryError ? error.said(flagOf) : message;
    return { line: oneLine(field ? `${flagOf(field)}: ${said}` : said), exitCode: exitCodes[code] };
  }
  if (error instanceof CommanderError) {
    // What is wrong and, on a second line, the nearest name.
    const [what, nearest = ''] = error.message.replace(/^error: /, '').split('\n');
    const hint = nearest || (/unknown/.test(error.code) ? `(\`${called} help\` shows what there is)` : '');
    return { line: oneLine(`${what} ${hint}`), exitCode: error.exitCode === 0 ? 0 : exitCodes.input };
  }
  if (error instanceof DOMException && error.name === 'AbortError')
    return { line: 'interrupted before a step was made: everything is as it was before', exitCode: interruptedCode };
  const message = error instanceof Error ? `${error.name}: ${error.message}` : String(error);
  const where = [`semiflow ${version}`, `Node ${process.versions.node}`, process.platform, context.adapter];
  return {
    line: `this is a fault of semiflow, please report it: ${oneLine(message)} (${where.filter(Boolean).join(', ')}; command: ${process.argv.slice(2).join(' ') || 'none'}; with SEMIFLOW_DEBUG=1 it says where)`,
    exitCode: faultCode,
  };
}

const oneLine = (text: string) => text.trim().replace(/\s*\n\s*/g, ' ');
