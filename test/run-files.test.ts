import { describe, expect, it } from 'vitest';
import { fileSource } from '../node/files.js';
import { openSafetensors } from '../src/checkpoint/safetensors.js';
import { UserError } from '../src/errors.js';
import { readAll } from '../src/files/source.js';
import { memoryStore, readText, type Store } from '../src/files/store.js';
import { loadNetwork } from '../src/flow/network.js';
import type { Device } from '../src/gpu/device.js';
import { alone } from '../src/gpu/group.js';
import { crc32c } from '../src/report/tensorboard.js';
import { random } from '../src/tensor/philox.js';
import { version } from '../src/version.js';
import { distillationDefaults } from '../trainers/config.js';
import { RunFiles, type RunIdentity } from '../trainers/run-files.js';
import { distil } from '../trainers/runs.js';
import type { Progress } from '../trainers/train.js';
import type { TrainerState } from '../trainers/trainer.js';
import packageJson from '../package.json' with { type: 'json' };
import { stateOf, valuesOf } from './support/weights.js';

const identity: RunIdentity = {
  kind: 'flow-map',
  recipe: { steps: 100, seed: 0, optimizer: { rate: 0.1 }, list: [1, 2] } as RunIdentity['recipe'],
  inputs: { teacher: 'a', data: 'b' },
};
const withRecipe = (change: object): RunIdentity => ({ ...identity, recipe: { ...identity.recipe, ...change } });
const stateAt = (step: number): TrainerState =>
  stateOf({ step, arenas: { 'student.parameters': Float32Array.from({ length: 12 }, (_, i) => Math.sin(i + step)) } });
const bytesOf = async (store: Store, name: string) => (await readAll((await store.open(name))!)).slice();
const logged = (from: number, to: number) =>
  Array.from({ length: to - from + 1 }, (_, i) => ({ step: from + i, loss: 1 / (from + i), gradientNorm: 1 }));

/** A run with `saved` steps in its checkpoint and `done` in its logs. */
async function runOf(store: Store, saved: number, done = saved): Promise<RunFiles> {
  const files = await RunFiles.create(store, identity);
  await files.write('config.yaml', 'recipe: {}\n');
  if (saved) await files.log(logged(1, saved));
  if (saved) await files.save(stateAt(saved), 'student.safetensors', Uint8Array.of(1));
  if (done > saved) await files.log(logged(saved + 1, done));
  return files;
}

/** All events of a run in the order of its files, as steps; what restarts purge is gone. */
async function stepsSeen(store: Store): Promise<number[]> {
  let seen: number[] = [];
  for (const name of (await store.list()).filter((file) => file.includes('.tfevents.')).sort()) {
    const bytes = await bytesOf(store, name);
    const view = new DataView(bytes.buffer);
    const masked = (part: Uint8Array) => {
      const crc = crc32c(part);
      return (((crc >>> 15) | (crc << 17)) + 0xa282ead8) >>> 0;
    };
    for (let at = 0; at < bytes.length;) {
      const length = view.getUint32(at, true);
      expect(at + 16 + length, 'a torn record').toBeLessThanOrEqual(bytes.length);
      const data = bytes.subarray(at + 12, at + 12 + length);
      expect(view.getUint32(at + 12 + length, true)).toBe(masked(data));
      at += 16 + length;
      if (data[9] !== 0x10) continue;
      let [step, scale, i] = [0, 1, 10];
      do {
        step += (data[i] & 127) * scale;
        scale *= 128;
      } while (data[i++] & 128);
      if (data[i] === 0x3a) seen = seen.filter((other) => other < step);
      else seen.push(step);
    }
  }
  return seen;
}

describe("a run's files", () => {
  it('know the version of the package', () => expect(version).toBe(packageJson.version));

  it('go on from a checkpoint, with the logs of what it holds', async () => {
    const store = memoryStore();
    await runOf(store, 40, 70);
    const files = await RunFiles.open(store, 'flow-map');
    expect(await valuesOf((await files.resume(identity))!)).toEqual(await valuesOf(stateAt(40)));
    expect(await files.metrics()).toEqual(logged(1, 40));
    await files.log(logged(41, 100));
    expect(await files.metrics()).toEqual(logged(1, 100));
  });

  it('keep no step twice in TensorBoard, whenever a run was killed', async () => {
    const draw = random(3);
    for (let trial = 0; trial < 8; trial++) {
      const store = memoryStore();
      await runOf(store, 0);
      let saved = 0;
      for (let kill = 0; kill < 4; kill++) {
        const files = await RunFiles.open(store, 'flow-map');
        await files.resume(identity);
        const [next, done] = [saved + 1 + draw.below(10), saved + 12 + draw.below(8)];
        await files.log(logged(saved + 1, next));
        await files.save(stateAt(next), 'student.safetensors', Uint8Array.of(1));
        await files.log(logged(next + 1, done));
        // The kill tears what was being appended.
        const events = (await store.list()).filter((file) => file.includes('.tfevents.')).sort();
        for (const name of ['metrics.jsonl', events.at(-1)!]) {
          const bytes = await bytesOf(store, name);
          await store.write(name, bytes.subarray(0, Math.max(0, bytes.length - draw.below(30))));
        }
        saved = next;
        await new Promise((resolve) => setTimeout(resolve, 2));
      }
      const files = await RunFiles.open(store, 'flow-map');
      await files.resume(identity);
      await files.log(logged(saved + 1, 100));
      const steps = [...new Set((await stepsSeen(store)).filter(Boolean))];
      expect(steps).toEqual(logged(1, 100).map(({ step }) => step));
      expect(await files.metrics()).toEqual(logged(1, 100));
    }
  });

  it.each([
    ['another seed', withRecipe({ seed: 1 }), /seed is 1, but this run was started with 0/],
    ['another rate', withRecipe({ optimizer: { rate: 0.2 } }), /optimizer\.rate is 0\.2, but.* 0\.1/],
    ['another list', withRecipe({ list: [1, 3] }), /list\.1 is 3/],
    ['a missing key', withRecipe({ seed: undefined }), /seed is missing/],
    ['a new key', withRecipe({ more: true }), /more is true/],
    ['another teacher', { ...identity, inputs: { ...identity.inputs, teacher: 'c' } }, /the teacher is not what/],
    ['no data', { ...identity, inputs: { teacher: 'a' } }, /the data is not what/],
    ['fewer steps than done', withRecipe({ steps: 39 }), /40 steps are done already/],
  ])('refuse to go on with %s', async (_, other, says) => {
    const store = memoryStore();
    await runOf(store, 40);
    const before = await bytesOf(store, 'metrics.jsonl');
    const files = await RunFiles.open(store, 'flow-map');
    await expect(files.resume(other)).rejects.toThrow(says);
    expect(await bytesOf(store, 'metrics.jsonl')).toEqual(before);
  });

  it('take more steps, and say so', async () => {
    const store = memoryStore();
    await runOf(store, 40);
    const notes: string[] = [];
    const files = await RunFiles.open(store, 'flow-map', { onNote: (note) => notes.push(note) });
    expect((await files.resume(withRecipe({ steps: 150 })))!.step).toBe(40);
    expect(notes.join()).toMatch(/150 steps instead of 100/);
    await (await RunFiles.open(store, 'flow-map')).resume(withRecipe({ steps: 150 }));
  });

  it('notice every flipped bit of a state', async () => {
    const store = memoryStore('place');
    await runOf(store, 40);
    const whole = await bytesOf(store, 'state.safetensors');
    const files = await RunFiles.open(store, 'flow-map');
    for (let bit = 0; bit < 8 * whole.length; bit++) {
      const flipped = whole.slice();
      flipped[bit >> 3] ^= 1 << (bit & 7);
      await store.write('state.safetensors', flipped);
      await expect(files.resume(identity), `bit ${bit}`).rejects.toThrow(/^place\/state\.safetensors[^\n]*$/);
    }
    for (let length = 0; length < whole.length; length += 7) {
      await store.write('state.safetensors', whole.subarray(0, length));
      await expect(files.resume(identity)).rejects.toThrow(/^place\/state\.safetensors[^\n]*$/);
    }
    await store.write('state.safetensors', whole);
    expect((await files.resume(identity))!.step).toBe(40);
  });

  it('refuse the state of another run', async () => {
    const [store, other] = [memoryStore(), memoryStore()];
    await runOf(store, 40);
    const stranger = await RunFiles.create(other, withRecipe({ seed: 7 }));
    await stranger.save(stateAt(3), 'student.safetensors', Uint8Array.of(1));
    await store.write('state.safetensors', await bytesOf(other, 'state.safetensors'));
    const files = await RunFiles.open(store, 'flow-map');
    await expect(files.resume(identity)).rejects.toThrow(/of another run/);
  });

  it.each([
    ['a step before the first', { ...stateAt(40), step: -1 }, /of step "-1"/],
    ['a step that is none', { ...stateAt(40), step: NaN }, /of step "NaN"/],
    ['a step beyond the last', { ...stateAt(40), step: 101 }, /101 steps are done already/],
    [
      'a moment that is none',
      stateOf({ step: 40, arenas: { 'student.firstMoment': Float32Array.of(1, NaN) } }),
      /student\.firstMoment holds NaN/,
    ],
  ])('refuse a whole state with %s', async (_, state, says) => {
    const store = memoryStore();
    await runOf(store, 40);
    await (await RunFiles.open(store, 'flow-map')).save(state, 'student.safetensors', Uint8Array.of(1));
    const before = await bytesOf(store, 'metrics.jsonl');
    const files = await RunFiles.open(store, 'flow-map');
    await expect(files.resume(identity)).rejects.toThrow(says);
    expect(await bytesOf(store, 'metrics.jsonl')).toEqual(before);
  });

  it.each([
    ['missing', null],
    ['empty', ''],
    ['no JSON', 'hello\nworld\n'],
    ['JSON of something else', '[]\nnull\n{"step":"a"}\n{"step":-1,"loss":2}\n3\n'],
    ['half a line', '{"step":1,"loss":1,"gradientNorm":1}\n{"step":2,"lo'],
  ])('go on without metrics that are %s', async (_, text) => {
    const store = memoryStore();
    await runOf(store, 40);
    if (text === null) await store.remove('metrics.jsonl');
    else await store.write('metrics.jsonl', text);
    const files = await RunFiles.open(store, 'flow-map');
    expect((await files.resume(identity))!.step).toBe(40);
    await files.log(logged(41, 42));
    expect((await files.metrics()).slice(-2)).toEqual(logged(41, 42));
  });

  it('leave out a damaged line in the middle, and say so', async () => {
    const store = memoryStore();
    await runOf(store, 5);
    const text = (await readText(store, 'metrics.jsonl'))!;
    await store.write('metrics.jsonl', text.replace('"step":3', '"step":x'));
    const notes: string[] = [];
    const files = await RunFiles.open(store, 'flow-map', { onNote: (note) => notes.push(note) });
    await files.resume(identity);
    expect((await files.metrics()).map(({ step }) => step)).toEqual([1, 2, 4, 5]);
    expect(notes).toEqual([expect.stringMatching(/1 damaged line/)]);
  });

  it.each([
    ['none', async () => {}, /holds no run/],
    [
      'of another kind',
      async (store: Store) => void (await runOf(store, 1)),
      /training of a flow-map, not of a teacher/,
    ],
    [
      'of before',
      async (store: Store) => {
        await store.write('config.yaml', 'recipe: {}');
        await store.write('state.safetensors', 'x');
      },
      /older semiflow/,
    ],
    ['with a mark that is text', (store: Store) => store.write('run.json', 'hello'), /run\.json is damaged/],
    ['with a mark that is null', (store: Store) => store.write('run.json', 'null'), /run\.json is damaged/],
    [
      'with a mark that reaches out',
      (store: Store) =>
        store.write('run.json', JSON.stringify({ format: 1, ...identity, kind: 'teacher', files: ['../thesis.txt'] })),
      /run\.json is damaged/,
    ],
    ['of later', (store: Store) => store.write('run.json', '{"format":9,"semiflow":"3"}'), /newer semiflow \(3\)/],
  ])('of a run %s are refused', async (_, make, says) => {
    const store = memoryStore();
    await make(store);
    await expect(RunFiles.open(store, 'teacher')).rejects.toThrow(says);
  });

  it('never replace or remove what no run wrote', async () => {
    const names = ['config.yaml', 'report.html'];
    for (const taken of ['config.yaml', 'report.html', 'state.safetensors', 'metrics.jsonl']) {
      const store = memoryStore();
      await store.write(taken, 'mine');
      await store.write('thesis.txt', 'mine too');
      for (const disposable of [false, true])
        await expect(RunFiles.create(store, identity, { names, disposable })).rejects.toThrow(/that no run wrote/);
      expect((await store.list()).sort()).toEqual([taken, 'thesis.txt'].sort());
      expect(await readText(store, taken)).toBe('mine');
    }
    const store = memoryStore();
    const files = await RunFiles.create(store, identity, { disposable: true });
    await store.write('thesis.txt', 'mine');
    await expect(files.write('thesis.txt', 'yours')).rejects.toThrow(/did not write/);
    await files.save(stateAt(3), 'student.safetensors', Uint8Array.of(1));
    await RunFiles.create(store, identity, { disposable: true });
    expect(await readText(store, 'thesis.txt')).toBe('mine');
    expect(await store.open('student.safetensors')).toBeNull();
  });

  it('are replaced by the next run only where nothing was saved, or both are disposable', async () => {
    const failed = memoryStore();
    await runOf(failed, 0);
    await runOf(failed, 2);
    await expect(RunFiles.create(failed, identity)).rejects.toThrow(/holds a run already/);
    await expect(RunFiles.create(failed, identity, { disposable: true })).rejects.toThrow(/holds a run already/);
  });
});

describe('a place that cannot be written to', () => {
  const subject = async () => ({
    device: { group: alone } as Device,
    teacher: await loadNetwork(await openSafetensors(await fileSource('checkpoints/rf-checkerboard.safetensors'))),
  });
  const recipe = distillationDefaults([2], 'velocity');

  it('is refused before a student of no data waits for samples of its teacher', async () => {
    const store: Store = {
      ...memoryStore('full'),
      write: () => Promise.reject(new UserError('full cannot be written: choose another place')),
    };
    const heard: Progress[] = [];
    const options = { store, onProgress: (progress: Progress) => void heard.push(progress) };
    await expect(distil(await subject(), recipe, options)).rejects.toThrow('full cannot be written');
    expect(heard).toEqual([]);
  });

  it('is tried, and left as it was', async () => {
    const store = memoryStore();
    await store.write('notes.txt', 'mine');
    await RunFiles.checkWritable(store);
    expect(await store.list()).toEqual(['notes.txt']);
  });
});
