import fc from 'fast-check';
import { afterAll, describe, expect, it } from 'vitest';
import { openDevice } from '../node/device.js';
import { Linker } from '../src/autodiff/codegen.js';
import { compile, planProgram } from '../src/autodiff/compile.js';
import { reachable } from '../src/autodiff/gradients.js';
import type { Device, DeviceOptions } from '../src/gpu/device.js';
import type { Profile } from '../src/gpu/profile.js';
import { operations } from '../src/ops/table.js';
import { relativeError } from './support/compare.js';
import { runOnHost } from './support/host-program.js';
import { after, asCode, generated, RandomGraph } from './support/random-graph.js';

/** `GRAPHS` asks for more graphs than every run makes, on the host and on the device alike; `SEED` repeats a run. */
const given = process.env.GRAPHS && Number(process.env.GRAPHS);
const counts = { host: given || 100, device: given || 12 };
const seed = Number(process.env.SEED ?? Math.floor(Math.random() * 2 ** 31));
/** Graphs that are compiled as one program: this many at most, half of it at least in the mean. */
const together = 4;

interface Way {
  options: DeviceOptions;
  half: boolean;
}
const families: DeviceOptions[] = [{}, { without: ['subgroups'] }, { family: 'tiled' }];
const ways: Way[] = families.flatMap((family) =>
  (['checked', 'fast'] as const).flatMap((toggles) =>
    [{}, { limits: { maxStorageBuffersPerShaderStage: 8 } }].flatMap((limits) =>
      [false, true].map((half) => ({ options: { ...family, ...limits, toggles }, half })),
    ),
  ),
);

const devices = new Map<string, Promise<Device>>();
function deviceFor(options: DeviceOptions): Promise<Device> {
  const key = JSON.stringify(options);
  if (!devices.has(key)) devices.set(key, openDevice(options));
  return devices.get(key)!;
}

/** What differs from float64, in words; empty where nothing does. */
async function differences(graphs: readonly RandomGraph[], { options, half }: Way): Promise<string[]> {
  const device = await deviceFor(options);
  const named = graphs.flatMap(({ outputs }, i) => outputs.map((output, k) => [`${i}.${k}`, output] as const));
  const effects = graphs.flatMap((graph) => graph.effects);
  const program = await compile(device, { outputs: Object.fromEntries(named), effects, half });
  program.run();
  const wrong: string[] = [];
  const check = (name: string, actual: ArrayLike<number>, expected: ArrayLike<number>, stored: boolean) => {
    const error = relativeError(actual, expected, 1);
    if (!(error < (half ? 0.06 : stored ? 2e-3 : 3e-4))) wrong.push(`${name}: ${error}`);
  };
  for (const [name, node] of named) {
    const graph = graphs[Number(name.split('.')[0])];
    check(`output ${name}`, (await program.read(name)) as Float32Array, graph.valuesOf(node), false);
  }
  for (const [i, graph] of graphs.entries()) {
    for (const [storage, expected] of after(graph))
      check(`${storage.name} of graph ${i}`, await device.read(storage), expected, storage.dtype === 'f16');
  }
  program.dispose();
  return wrong;
}

/** The same of programs that run on the host: there nothing rounds, so nothing may differ. */
async function hostDifferences(graphs: readonly RandomGraph[], way: number): Promise<string[]> {
  const profile = hostProfiles[way % hostProfiles.length];
  const outputs = graphs.flatMap((graph) =>
    graph.outputs.map((output) => ({ output, expected: graph.valuesOf(output) })),
  );
  const { values, storages } = runOnHost(
    outputs.map(({ output }) => output),
    graphs.flatMap(({ effects }) => effects),
    profile,
  );
  const wrong: string[] = [];
  const check = (name: string, actual: ArrayLike<number>, expected: ArrayLike<number>) => {
    if (!(relativeError(actual, expected, 1) < 1e-9)) wrong.push(`${name}: ${actual} for ${expected}`);
  };
  outputs.forEach(({ expected }, i) => check(`output ${i}`, values[i], expected));
  for (const graph of graphs)
    for (const [storage, expected] of after(graph)) check(storage.name, storages.get(storage)!, expected);
  return wrong;
}
const hostProfiles = (['plain', 'tiled'] as const).flatMap((family) =>
  [8, 11, 64].map((maxBindings): Profile => ({
    vendor: '',
    architecture: '',
    description: 'the host',
    software: true,
    family,
    subgroupSize: 8,
    f16: true,
    half: false,
    maxBindings,
    maxBindingBytes: 2 ** 27,
    maxBufferBytes: 2 ** 28,
    bindingAlignment: 256,
    workgroupBytes: 2 ** 15,
  })),
);

const stepOf = fc.tuple(fc.nat(generated.length - 1), fc.array(fc.nat(65535), { minLength: 8, maxLength: 8 }));
const stepsOf = fc.array(stepOf, { minLength: 1, maxLength: 24, size: 'max' });
const batchOf = fc.array(stepsOf, { minLength: 1, maxLength: together, size: 'max' });

describe(`graphs made at random: fusion, order and memory change no value (SEED=${seed})`, () => {
  const seen = new Map<string, number>(operations.map((op) => [op, 0]));
  let made = 0;

  afterAll(async () => {
    for (const device of devices.values()) (await device).dispose();
    if (!given) return;
    const times = [...seen].sort(([, a], [, b]) => b - a).map(([op, count]) => `${op} ${count}`);
    console.log(`${made} graphs; nodes by operation: ${times.join(', ')}`);
  });

  it('every operation of the table can be drawn', () => {
    expect(new Set(generated)).toEqual(new Set(operations));
    for (const [i, op] of generated.entries()) {
      const graphs = Array.from({ length: 12 }, (_, k) => {
        const choices = Array.from({ length: 8 }, (_, j) => (k * 7 + j * 3 + k * j) % 64);
        return new RandomGraph([
          [generated.indexOf('storage'), choices],
          [i, choices],
        ]);
      });
      const drawn = graphs.flatMap(({ pool, effects }) => reachable([...pool, ...effects]).map((node) => node.op));
      expect(drawn, op).toContain(op);
    }
  });

  /** Draws, compares, and on a difference shrinks it and throws the code of what is left. */
  async function hold(count: number, compare: (graphs: readonly RandomGraph[], way: number) => Promise<string[]>) {
    const property = fc.asyncProperty(batchOf, fc.nat(ways.length - 1), async (batch, way) => {
      const graphs = batch.map((steps) => new RandomGraph(steps));
      made += graphs.length;
      for (const { pool, effects } of graphs)
        for (const { op } of reachable([...pool, ...effects])) seen.set(op, seen.get(op)! + 1);
      const wrong = await compare(graphs, way);
      if (wrong.length) throw new Error(wrong.join('\n'));
    });
    const found = await fc.check(property, { numRuns: Math.ceil((2 * count) / together), seed });
    if (!found.failed) return;
    const [batch, way] = found.counterexample!;
    const code = batch.map((steps) => asCode(new RandomGraph(steps)));
    const where = `SEED=${seed}, ${JSON.stringify(ways[way])}`;
    throw new Error([where, String(found.errorInstance), ...code].join('\n\n'));
  }

  it('a task that is like one before is written as it would be by itself', () =>
    hold(counts.host, async (graphs, way) => {
      const profile = hostProfiles[way % hostProfiles.length];
      const outputs = graphs.flatMap((graph) => graph.outputs);
      const effects = graphs.flatMap((graph) => graph.effects);
      const named = Object.fromEntries(outputs.map((output, i) => [`${i}`, output]));
      const { tasks, halves } = planProgram(profile, { outputs: named, effects, half: way % 2 > 0 });
      const linker = () => new Linker((node) => halves.has(node), profile);
      const shared = linker();
      return tasks.flatMap((task) => {
        const [once, anew] = [shared.link(task, 1), linker().link(task, 1)];
        const same = once.source === anew.source && once.numbers.join() === anew.numbers.join();
        return same ? [] : [`${task.kernel.source} of ${task.output.op}`];
      });
    }));
  it(`${counts.host} on the host, to all digits`, { timeout: 2 ** 31 - 1 }, () => hold(counts.host, hostDifferences));
  it(
    `${counts.device} on the device, in every family, with both toggles, few bindings and f16`,
    { timeout: 2 ** 31 - 1 },
    () => hold(counts.device, (graphs, way) => differences(graphs, ways[way])),
  );
});
