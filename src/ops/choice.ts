import type { Candidate, Profile } from '../gpu/profile.js';

/**
 * What a kernel leaves open: one result by several ways, of which an adapter runs one fastest. A rule states its ways in
 * one place, `choices`, which its kernel and the tuner (src/tuning) both read.
 */
export interface Choice<C extends Candidate = Candidate> {
  /** What it is about: the kernel, and extents as far as they make a difference. */
  key: string;
  /** The first is the table's, which holds where nobody has measured. */
  candidates: readonly C[];
}

/**
 * The way that was found fastest on this adapter, else the table's. A finding that is none of the candidates, such as one
 * of another version, counts for nothing.
 */
export function taken<C extends Candidate>({ key, candidates }: Choice<C>, { choices }: Profile): C {
  const found = choices?.[key];
  return (found && candidates.find((candidate) => sameCandidate(candidate, found))) ?? candidates[0];
}

/** Whether two candidates are the same way. */
export const sameCandidate = (a: Candidate, b: Candidate): boolean => {
  const names = new Set([...Object.keys(a), ...Object.keys(b)]);
  return [...names].every((name) => a[name] === b[name]);
};

/** An extent to the nearest power of two: what is fastest for 60 is so for 64. */
export const about = (extent: number): number => 2 ** Math.round(Math.log2(extent));

/** What is fastest may be another way where operands lie in memory as f16. */
export const stored = ({ half }: Profile): string => (half ? ' in f16' : '');
