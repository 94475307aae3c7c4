import type { z } from 'zod';

/** What is wrong with a value that a schema refuses, in words: `must be above 0`. */
export function issueText(issue: z.core.$ZodIssue): string {
  if ((issue.code === 'too_small' || issue.code === 'too_big') && ['number', 'int', 'bigint'].includes(issue.origin)) {
    const [limit, within, beyond] =
      issue.code === 'too_small' ? [issue.minimum, 'at least', 'above'] : [issue.maximum, 'at most', 'below'];
    return `must be ${issue.inclusive === false ? beyond : within} ${limit}`;
  }
  return issue.message.replace(/^Invalid input: /, '');
}
