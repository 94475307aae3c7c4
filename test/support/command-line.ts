import { vi } from 'vitest';
import { failureOf } from '../../cli/failures.js';
import { flagOf, runCommand } from '../../cli/program.js';

/** What a command line threw, as the terminal would show it, the exit code, and what it printed, which nobody sees. */
export async function runHere(
  args: readonly string[],
): Promise<{ error: unknown; line: string; exitCode: number; output: string }> {
  let output = '';
  const spies = [vi.spyOn(console, 'log'), vi.spyOn(process.stdout, 'write')] as const;
  spies[0].mockImplementation((...words) => void (output += `${words.join(' ')}\n`));
  spies[1].mockImplementation((text) => {
    output += String(text);
    return true;
  });
  try {
    await runCommand(args);
    return { error: undefined, line: '', exitCode: 0, output };
  } catch (error) {
    return { error, output, ...failureOf(error, flagOf, '0') };
  } finally {
    for (const spy of spies) spy.mockRestore();
  }
}
