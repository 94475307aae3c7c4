import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { followTraining, trainOptions } from '../cli/training-flags.js';
import { begin, detail, done, piece, say } from '../cli/status.js';
import { alone } from '../src/gpu/group.js';
import { Training, type Progress, type Task } from '../trainers/train.js';
import type { Trainer } from '../trainers/trainer.js';

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

describe('how far a phase of many pieces is', () => {
  /** What is said a minute later of a phase in which some of this happened, without the time that it took. */
  const said = (...happened: (() => void)[]) => {
    begin('checking');
    for (const one of happened) one();
    vi.advanceTimersByTime(60_000);
    return lines.at(-1)!.text.replace(/, \d+s$/, '');
  };

  it('is counted as a whole where that is known, and by the share of a piece elsewhere', () => {
    expect(said(() => piece(3, 4, 'samples'))).toBe('checking, 75 %');
    expect(
      said(
        () => detail('3 of 36 pairs'),
        () => piece(1, 4, 'samples'),
      ),
    ).toBe('checking, 3 of 36 pairs');
    expect(
      said(
        () => piece(1, 4, 'samples'),
        () => detail('3 of 36 pairs'),
      ),
    ).toBe('checking, 3 of 36 pairs');
  });

  it('is never all while something is waited for', () => {
    expect(said(() => piece(4, 4, 'samples'))).toBe('checking');
    expect(
      said(
        () => detail('3 of 36 pairs'),
        () => piece(4, 4, 'samples'),
      ),
    ).toBe('checking, 3 of 36 pairs');
    expect(said(() => piece(7, 7, 'kernels'))).toBe('checking');
  });

  it('names what is compiled on the way', () => {
    const compiling = 'compiling 2 of 7 kernels';
    expect(said(() => piece(2, 7, 'kernels'))).toBe(`checking, ${compiling}`);
    expect(
      said(
        () => detail('3 of 36'),
        () => piece(2, 7, 'kernels'),
      ),
    ).toBe(`checking, 3 of 36, ${compiling}`);
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

describe('the time that is left', () => {
  /** What is said of it, and what it then takes: a training whose steps cost so many milliseconds. */
  async function said(
    steps: number,
    cost: (step: number) => number,
  ): Promise<{ at: number; left: number; true: number }[]> {
    const trainer = {
      stepsDone: 0,
      device: { group: alone },
      scheduleOf: () => ({}),
      async advance(count: number) {
        const end = Math.min(steps, this.stepsDone + count);
        const metrics = [];
        for (; this.stepsDone < end; metrics.push({ step: this.stepsDone, loss: 1 }))
          vi.advanceTimersByTime(cost(++this.stepsDone));
        return metrics;
      },
    };
    const began = performance.now();
    const told: { at: number; left: number }[] = [];
    const onProgress = (progress: Progress) => {
      if (progress.phase !== 'training') return;
      const left = (progress.steps - progress.step) / progress.stepsPerSecond;
      told.push({ at: (performance.now() - began) / 1000, left });
    };
    const settings = { onProgress, logEvery: 10, saveEvery: 60 };
    const training = new Training(trainer as unknown as Trainer, { steps } as Task<unknown>, null, settings);
    for await (const _ of training);
    const took = (performance.now() - began) / 1000;
    return told.map((line) => ({ ...line, true: took - line.at }));
  }
  const worst = (lines: { left: number; true: number }[]) =>
    Math.max(...lines.map(({ left, true: truth }) => Math.abs(left - truth) / truth));

  it.each([3, 40, 700, 6000])(
    'is right from the second window on, of steps of %i ms, where the first compile',
    async (ms) => {
      const lines = await said(Math.ceil(90_000 / ms), (step) => (step === 1 ? 40_000 : ms));
      const early = lines.filter(({ at, true: truth }) => at <= 50 && truth > 0);
      expect(early.length).toBeGreaterThan(0);
      expect(worst(early)).toBeLessThan(0.02);
    },
  );

  it.each([
    [20, 60],
    [60, 20],
    [900, 2500],
    [4000, 1000],
  ])('follows within ten seconds where steps of %i ms become steps of %i', async (before, after) => {
    const change = Math.ceil(40_000 / before);
    const lines = await said(change + Math.ceil(60_000 / after), (step) => (step <= change ? before : after));
    const later = lines.filter(({ at, true: truth }) => at > 51 && truth > 0);
    expect(later.length).toBeGreaterThan(3);
    expect(worst(later)).toBeLessThan(0.3);
  });

  it.each([30, 500])('is the mean of unsteady steps of %i ms', async (ms) => {
    // Some steps wait for others' work: five times as long, every seventh.
    const lines = await said(Math.ceil(60_000 / ms), (step) => (step % 7 ? ms / 3 : 5 * ms));
    const from = lines.filter(({ at, true: truth }) => at > 10 && truth > 3);
    expect(from.length).toBeGreaterThan(10);
    expect(worst(from)).toBeLessThan(0.3);
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
