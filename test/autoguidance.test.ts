import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { readNetwork } from '../cli/networks.js';
import { openDevice } from '../node/device.js';
import { writeSafetensors } from '../node/files.js';
import { parseDescription, type Description } from '../src/flow/description.js';
import { autoguidedNetwork, createNetwork, exportNetwork, studentOf, type Network } from '../src/flow/network.js';
import { Runner } from '../src/flow/runner.js';
import { random } from '../src/tensor/philox.js';
import { distillationDefaults } from '../trainers/config.js';
import { canBeKept } from '../trainers/methods.js';
import { distil, planDistillation, studentDescription } from '../trainers/runs.js';
import { runHere } from './support/command-line.js';
import { changed } from './support/weights.js';

const device = await openDevice({ toggles: 'fast' });
const folder = mkdtempSync(join(tmpdir(), 'semiflow-autoguidance-'));
afterAll(() => {
  device.dispose();
  rmSync(folder, { recursive: true, force: true });
});

const architecture = {
  kind: 'sit',
  inputSize: 4,
  patchSize: 2,
  inChannels: 1,
  hiddenSize: 8,
  depth: 1,
  numHeads: 2,
  numClasses: 3,
};
const described = (more: object = {}): Description =>
  parseDescription({ architecture, prediction: 'velocity', ...more }, 'test');
/** A network all of whose weights are drawn, so that nothing hides behind a zero. */
const lively = (seed: number, more: object = {}): Network => {
  const { normal } = random(seed);
  return changed(createNetwork(described(more), seed), (value) => value + 0.2 * normal());
};
const [strong, weak] = [lively(1), lively(2)];
const count = 5;
const { normal } = random(3);
const x = Float32Array.from({ length: count * 16 }, normal);
const t = Float32Array.of(0.9, 0.7, 0.5, 0.3, 0.1);
const labels = Uint32Array.of(0, 1, 2, 3, 1);

async function velocity(network: Network, guidance = 1): Promise<Float32Array> {
  const runner = new Runner(device, network, count, guidance);
  const values = await runner.velocity({ x, t, labels });
  runner.dispose();
  return values;
}

describe('a teacher that is led away from a weaker one', () => {
  it.each([1, 0, 2.5, -0.5])('has the velocity weak + %d (strong - weak)', async (scale) => {
    const [away, own, other] = [
      await velocity(autoguidedNetwork(strong, weak, scale)),
      await velocity(strong),
      await velocity(weak),
    ];
    away.forEach((value, i) => expect(value).toBeCloseTo(other[i] + scale * (own[i] - other[i]), 4));
  });

  it('is so whatever its network predicts, and under guidance by classes as well', async () => {
    const edm = { prediction: 'noise', path: { kind: 'vp', schedule: 'cosine', steps: 100 }, timeScale: 1 };
    for (const [more, guidance] of [
      [{ prediction: 'data', minimumTime: 0.05 }, 1],
      [edm, 1],
      [{}, 3],
    ] as [object, number][]) {
      const [one, two] = [lively(4, more), lively(5, more)];
      const [away, own, other] = [
        await velocity(autoguidedNetwork(one, two, 2), guidance),
        await velocity(one, guidance),
        await velocity(two, guidance),
      ];
      const size = Math.max(...own.map(Math.abs), ...other.map(Math.abs));
      away.forEach((value, i) => expect(Math.abs(value - (2 * own[i] - other[i]))).toBeLessThan(2e-5 * size));
    }
  });

  it('is a teacher in a file like any other, from which a student begins as the stronger network', async () => {
    const path = (name: string) => join(folder, name);
    for (const [name, network] of [
      ['strong.safetensors', strong],
      ['weak.safetensors', weak],
    ] as const) {
      const { tensors, metadata } = exportNetwork(network);
      await writeSafetensors(path(name), tensors, metadata);
    }
    const files = ['--model', path('strong.safetensors'), '--weak', path('weak.safetensors')];
    const out = path('away.safetensors');
    expect((await runHere(['merge', ...files, '--autoguidance', '2', '--out', out])).error).toBeUndefined();
    const away = await readNetwork(out);
    expect(await velocity(away)).toEqual(await velocity(autoguidedNetwork(strong, weak, 2)));
    expect((await runHere(['info', out])).output).toMatch(/autoguidance +2 away/);

    const recipe = distillationDefaults([1, 4, 4], 'velocity', true, false);
    const description = studentDescription(away.description, recipe);
    expect(description.autoguidance).toBeUndefined();
    const student = studentOf(away, description);
    expect(student.layout.parameters.some(({ name }) => name.startsWith('weak.'))).toBe(false);
    expect(await velocity(student)).toEqual(await velocity(strong));

    // What it learns is the guided velocity: so all of it learns, by the command line without being told.
    const { output } = await runHere(['train', '--teacher', out, '--print-config']);
    expect(parse(output).recipe.student).toMatchObject({ jumpRank: 0, rates: { inherited: 1, own: 1 } });
    expect(canBeKept(strong.model, strong.description)).toBe(true);
    expect(canBeKept(away.model, away.description)).toBe(false);
    const set = { shape: [1, 4, 4], count: 5, values: x, range: [0, 1] as const, labels };
    const kept = distillationDefaults([1, 4, 4], 'velocity');
    await expect(distil({ device, teacher: away, data: set }, kept)).rejects.toThrow(/keep another velocity/);
    // Tuning plans a step of the default, which must be one that such a teacher can have.
    planDistillation({ device, teacher: away, data: set }, { ...recipe, batch: 8 });
  });

  it('is refused where the two are not of one kind', async () => {
    const wide = createNetwork(described({ architecture: { ...architecture, hiddenSize: 12 } }), 1);
    expect(() => autoguidedNetwork(strong, wide, 2)).toThrow(/its architecture is another/);
    expect(() => autoguidedNetwork(strong, lively(1, { prediction: 'data' }), 2)).toThrow(/its prediction is another/);
    const away = autoguidedNetwork(strong, weak, 2);
    expect(() => autoguidedNetwork(away, away, 2)).toThrow(/each once/);
    expect(() => described({ role: 'flow-map', autoguidance: 2 })).toThrow(/autoguidance: it is that of a teacher/);
    const merge = async (...flags: string[]) =>
      runHere([
        'merge',
        '--model',
        'checkpoints/rf-checkerboard.safetensors',
        '--out',
        join(folder, 'n.safetensors'),
        ...flags,
      ]);
    const other = 'checkpoints/rf-fashion-mnist.safetensors';
    for (const [flags, line] of [
      [[], /--lora FILE, or --weak FILE/],
      [['--autoguidance', '2'], /--autoguidance.*--weak FILE/],
      [['--weak', other], /--weak.*--autoguidance W/],
      [['--weak', other, '--autoguidance', 'much'], /--autoguidance takes a number/],
      [['--weak', other, '--autoguidance', '2'], /--weak.*its architecture is another/],
    ] as [string[], RegExp][])
      expect(await merge(...flags)).toMatchObject({ exitCode: 2, line: expect.stringMatching(line) });
  });
});
