/**
 * What went wrong, for people who catch it: `input`, a value, file or option that cannot be used; `divergence`, a loss or
 * gradient that is no number; `device`, an adapter that is missing, lost or refuses.
 */
export type ErrorCode = 'input' | 'divergence' | 'device';

/** A failure that whoever called can mend: its message is one line that names the cause and the mend. */
export class SemiflowError extends Error {
  override name = 'SemiflowError';

  /** @param field the option at fault, by its name in the library such as `guidance`; a front turns it into its own flag */
  constructor(
    readonly code: ErrorCode,
    message: string,
    readonly field?: string,
  ) {
    super(inOneLine(message));
  }
}

/** Longest message; names and values in it may come from files that hold anything. */
const longest = 900;

/** A message without line breaks; of one that is too long the middle is left out, since the mend stands at its end. */
function inOneLine(message: string): string {
  const line = message.replace(/\s*[\r\n]+\s*/g, ' ');
  return line.length <= longest ? line : `${line.slice(0, (longest * 2) / 3)} … ${line.slice(-longest / 3)}`;
}

/** A value, file or option that cannot be used. */
export class UserError extends SemiflowError {
  constructor(message: string, field?: string) {
    super('input', message, field);
  }
}

/** Training met a loss or a gradient that is no number, at a step (counted from 1). */
export class DivergenceError extends SemiflowError {
  constructor(
    message: string,
    readonly step?: number,
  ) {
    super('divergence', message);
  }
}
