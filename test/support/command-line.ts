import { vi } from 'vitest';
import { failureOf } from '../../cli/failures.js';
import { createProgram, flagOf } from '../../cli/program.js';

/** What a command line threw, as the terminal would show it, and the exit code; its output is swallowed. */
export async function runHere(args: readonly string[]): Promise<{ error: unknown; line: string; exitCode: number }> {
  const spies = [vi.spyOn(console, 'log'), vi.spyOn(process.stdout, 'write')];
  for (const spy of spies) spy.mockImplementation(() => true as never);
  try {
    await createProgram().parseAsync(['node', 'semiflow', ...args]);
    return { error: undefined, line: '', exitCode: 0 };
  } catch (error) {
    return { error, ...failureOf(error, flagOf, '0') };
  } finally {
    for (const spy of spies) spy.mockRestore();
  }
}
