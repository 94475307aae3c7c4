import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { encode } from 'fast-png';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { loadDataset } from '../node/data.js';
import { openDevice } from '../node/device.js';
import { encodeNpy } from '../src/checkpoint/npy.js';
import type { Dataset, Samples } from '../src/data/dataset.js';
import { shardRows } from '../src/data/shards.js';
import { memoryStore } from '../src/files/store.js';
import { parseDescription } from '../src/flow/description.js';
import { createNetwork } from '../src/flow/network.js';
import type { Device } from '../src/gpu/device.js';
import { random } from '../src/tensor/philox.js';
import { sizeOf } from '../src/tensor/shape.js';
import { teacherDefaults } from '../trainers/config.js';
import { trainTeacher } from '../trainers/runs.js';

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'semiflow-shards-'));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

describe('the order of shards', () => {
  it.each([
    [1000, 128],
    [1000, 300],
    [64, 64],
    [65, 64],
    [130, 64],
    [7, 3],
    [5000, 5000],
  ])('of %i samples, %i at a time, holds each in every pass, and is the same for a seed', (count, size) => {
    const each = Math.max(1, Math.floor(size / 64));
    const shards = Math.ceil(Math.ceil(count / 64) / each);
    const passes = [0, 1].map((pass) =>
      Array.from({ length: shards }, (_, k) => [...shardRows(count, size, 5, pass * shards + k)]),
    );
    for (const pass of passes) {
      for (const rows of pass) {
        expect(rows.length).toBe(size);
        expect(new Set(rows).size).toBe(size);
        expect(rows).toEqual([...rows].sort((a, b) => a - b));
      }
      // Runs are kept together where there are enough of them.
      if (size >= 64) expect(new Set(pass.flat()).size).toBe(count);
    }
    expect([...shardRows(count, size, 5, 1)]).toEqual([...shardRows(count, size, 5, 1)]);
    if (count > 64 * 4 && size < count) {
      expect(passes[0]).not.toEqual(passes[1]);
      expect([...shardRows(count, size, 6, 0)]).not.toEqual(passes[0][0]);
    }
  });
});

describe('a set larger than memory', () => {
  const draw = random(2);
  const count = 300;
  const labels = BigInt64Array.from({ length: count }, (_, i) => BigInt(i % 4));

  /** Rows with their labels, in the order of their values. */
  const rowsOf = (parts: readonly Samples[], size: number) =>
    parts
      .flatMap(({ values, labels: own, count: n }) =>
        Array.from({ length: n }, (_, i) => `${values.subarray(i * size, (i + 1) * size).join()} ${own?.[i]}`),
      )
      .sort();

  async function sameAsWhole(path: string, memory: number): Promise<Dataset> {
    const [whole, part] = [await loadDataset(path), await loadDataset(path, { memory })];
    expect(whole.stored).toBeUndefined();
    const { stored } = part;
    expect(part.summary).toMatch(/samples to train on, of which memory holds \d+ at a time: they are read in shards/);
    expect(part.count).toBeLessThan(stored!.count);
    expect(part).toMatchObject({ shape: whole.shape, range: whole.range, classes: whole.classes, kind: whole.kind });
    const size = sizeOf(whole.shape);
    const all = Uint32Array.from({ length: stored!.count }, (_, i) => i);
    const read = await stored!.read(all);
    expect(rowsOf([read, part.heldOut], size)).toEqual(rowsOf([whole, whole.heldOut], size));
    // What it shows is the first shard.
    const shown = await stored!.read(shardRows(stored!.count, part.count, 0, 0));
    expect([shown.values, shown.labels]).toEqual([part.values, part.labels]);
    return part;
  }

  const arrays: [string, Float32Array | Uint8Array, number[]][] = [
    ['bytes', Uint8Array.from({ length: count * 12 }, () => draw.below(256)), [count, 3, 4]],
    ['channels last', Uint8Array.from({ length: count * 18 }, () => draw.below(256)), [count, 3, 2, 3]],
    ['points', Float32Array.from({ length: count * 2 }, () => draw.uniform()), [count, 2]],
    ['latents', Float32Array.from({ length: count * 16 }, () => draw.uniform() * 7), [count, 4, 2, 2]],
  ];
  it.each(arrays)('is the same samples as the whole, of %s in .npy', async (name, values, shape) => {
    const own = join(folder, name);
    await mkdir(own);
    // Ends of the range in the first samples, which a part shows as well.
    if (shape.length === 2 || name === 'latents')
      for (let i = 0; i < count; i++) values.set([0, 1], (i * values.length) / count);
    await writeFile(join(own, 'x.npy'), encodeNpy(values, shape));
    await writeFile(join(own, 'y.npy'), encodeNpy(labels, [count]));
    if (name === 'latents') {
      const part = await loadDataset(own, { memory: 3000 });
      expect(part.stored!.count + part.heldOut.count).toBe(count);
      return;
    }
    if (name === 'points') {
      // Their range is where those lie that are shown.
      const [whole, part] = [await loadDataset(own), await loadDataset(own, { memory: 1500 })];
      expect([part.shape, part.classes]).toEqual([whole.shape, whole.classes]);
      return;
    }
    await sameAsWhole(own, values.length - 1);
  });

  it('is the same samples as the whole, of pictures in folders by class', async () => {
    const own = join(folder, 'pictures');
    for (let i = 0; i < 80; i++) {
      await mkdir(join(own, `class${i % 3}`), { recursive: true });
      const data = Uint8Array.from({ length: 6 }, (_, k) => (i * 3 + k * 11) & 255);
      await writeFile(join(own, `class${i % 3}`, `${i}.png`), encode({ width: 3, height: 2, data, channels: 1 }));
    }
    const part = await sameAsWhole(own, 400);
    expect(part.summary).toMatch(/classes: class0, class1, class2/);
  });

  it('is told to be damaged where that is read late', async () => {
    const path = join(folder, 'late.npy');
    const values = Float32Array.from({ length: count * 4 }, (_, i) => Math.sin(i));
    values[4 * 200] = NaN;
    await writeFile(path, encodeNpy(values, [count, 4]));
    const { stored } = await loadDataset(path, { memory: 1000 }).catch(() => ({ stored: null }));
    if (stored)
      await expect(stored.read(Uint32Array.from({ length: stored.count }, (_, i) => i))).rejects.toThrow(/NaN/);
  });
});

describe('training on shards', () => {
  let device: Device;
  beforeAll(async () => {
    device = await openDevice({ toggles: 'checked' });
  });
  afterAll(() => device.dispose());

  it('goes on after a pause to the bit, and has seen all samples after a pass', async () => {
    const count = 400;
    const path = join(folder, 'points.npy');
    await writeFile(
      path,
      encodeNpy(
        Float32Array.from({ length: 2 * count }, (_, i) => Math.sin(i) + (i >> 6)),
        [count, 2],
      ),
    );
    const description = parseDescription(
      {
        architecture: { kind: 'mlp', dim: 2, width: 8, depth: 1, activation: 'silu', time: 'concat' },
        prediction: 'velocity',
      },
      'it',
    );
    const read: number[] = [];
    const subject = async () => {
      const data = await loadDataset(path, { memory: 3000, heldOut: 10 });
      const { stored } = data;
      expect(data.count).toBe(93);
      const watched = { ...stored!, read: (rows: Uint32Array) => (read.push(...rows), stored!.read(rows)) };
      return { device, teacher: createNetwork(description, 1), data: { ...data, stored: watched } };
    };
    // A shard of 93 lasts two steps.
    const recipe = { ...teacherDefaults([2], false), batch: 64, steps: 17 };
    const weightsAfter = async (pauses: readonly number[]) => {
      const store = memoryStore();
      const losses: number[] = [];
      for (const [i, pause] of [...pauses, recipe.steps].entries()) {
        const training = await trainTeacher(await subject(), recipe, { store, resume: i > 0 });
        const metrics = await training.trainer.advance(pause - training.step);
        losses.push(...metrics.map(({ loss }) => loss));
        await training.save();
        const { layout, weights } = await training.now();
        const arena = await layout.collect(weights);
        training.dispose();
        if (i === pauses.length) return { losses, arena };
      }
      throw new Error('no run');
    };
    const straight = await weightsAfter([]);
    expect([straight.losses.length, new Set(read).size]).toEqual([17, 390]);
    expect(await weightsAfter([5, 6])).toEqual(straight);
  });
});
