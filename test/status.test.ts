import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { followTraining, trainOptions } from '../cli/training-flags.js';
import { begin, detail, done, say } from '../cli/status.js';
import { alone } from '../src/gpu/group.js';
import type { Training } from '../trainers/train.js';

let lines: { at: number; text: string }[];
let start: number;
// One clock for all: what is remembered of when something was said lies before, not after.
beforeAll(() => void vi.useFakeTimers());
afterAll(() => void vi.useRealTimers());
beforeEach(() => {
  vi.advanceTimersByTime(60_000);
  lines = [];
  start = performance.now();
  vi.spyOn(console, 'log').mockImplementation(
    (text: string) => void lines.push({ at: performance.now() - start, text }),
  );
});
afterEach(() => {
  done();
  vi.restoreAllMocks();
});

describe('what a log says while one waits', () => {
  it('names what takes longer than a moment, and is never silent for 5 s', () => {
    begin('compiling');
    for (let i = 1; i <= 30; i++) {
      vi.advanceTimersByTime(1000);
      detail(`${i} of 30 kernels`);
    }
    const times = [0, ...lines.map(({ at }) => at), 30_000];
    expect(times[1]).toBeLessThanOrEqual(2000);
    times.slice(1).forEach((time, i) => expect(time - times[i]).toBeLessThan(5000));
    expect(lines[1].text).toMatch(/^compiling, \d+ of 30 kernels, \d+s$/);
    done();
    vi.advanceTimersByTime(60_000);
    expect(lines.at(-1)!.at).toBeLessThanOrEqual(30_000);
  });

  it('passes over what is done at once, and counts each phase anew', () => {
    for (let i = 0; i < 10; i++) {
      begin(`phase ${i}`);
      vi.advanceTimersByTime(90);
    }
    expect(lines).toEqual([]);
    say('a line');
    begin('a long one');
    vi.advanceTimersByTime(2000);
    expect(lines.map(({ text }) => text)).toEqual(['a line']);
    vi.advanceTimersByTime(2000);
    expect(lines.map(({ text }) => text)).toEqual(['a line', 'a long one, 3s']);
  });
});

describe('a wait of many short phases', () => {
  it.each([40, 300, 900, 1100, 2400])('of %i ms each is never silent for 5 s', (milliseconds) => {
    for (let i = 0; i * milliseconds < 30_000; i++) {
      begin(`phase ${i}`);
      vi.advanceTimersByTime(milliseconds);
      // Some say that they are over, some are followed at once.
      if (i % 2) done();
    }
    const times = [0, ...lines.map(({ at }) => at), 30_000];
    times.slice(1).forEach((time, i) => expect(time - times[i]).toBeLessThan(5000));
  });
});

describe('pictures on the way', () => {
  /** A training of 100 steps that saves after each, a minute of it. */
  const training = () =>
    ({
      step: 0,
      steps: 100,
      trained: 1,
      saved: 0,
      finished: false,
      files: { name: 'run' },
      trainer: { dispatches: 1, device: { profile: { description: 'none' }, group: alone } },
      async *[Symbol.asyncIterator](this: { saved: number }) {
        for (this.saved = 1; this.saved <= 100; this.saved++) {
          vi.advanceTimersByTime(60_000);
          yield {};
        }
      },
    }) as unknown as Training<unknown>;
  const follow = (onSave: () => Promise<void>) => {
    const { interruption } = trainOptions({}, 'run', {});
    return followTraining(training(), {}, interruption, { command: 'train', onSave });
  };

  it.each([
    [0, 100],
    [6_000, 50],
    [60_000, 5],
    [600_000, 1],
  ])('take a twentieth of the time at most: drawn in %i ms, %i times', async (milliseconds, times) => {
    let drawn = 0;
    await follow(async () => {
      drawn++;
      vi.advanceTimersByTime(milliseconds);
    });
    expect(drawn).toBeLessThanOrEqual(times);
    expect(drawn).toBeGreaterThanOrEqual(0.9 * times);
  });

  it('are not waited for once somebody asks for the end', async () => {
    const ended = follow(() => {
      process.emit('SIGINT');
      return new Promise(() => {});
    });
    expect(await ended).toBe(false);
  });
});
