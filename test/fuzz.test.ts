import { mkdtemp, readFile, rm, writeFile, mkdir } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { crc32, gzipSync } from 'node:zlib';
import { zipSync } from 'fflate';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parse, stringify } from 'yaml';
import { check, parseYaml, resolveConfig } from '../cli/config.js';
import { failureOf } from '../cli/failures.js';
import { distillationKnobs } from '../cli/knobs.js';
import { createProgram, flagOf } from '../cli/program.js';
import { encodeNpy } from '../src/checkpoint/npy.js';
import { encodeSafetensors, openSafetensors } from '../src/checkpoint/safetensors.js';
import type { Dataset } from '../src/data/dataset.js';
import { decodePng } from '../src/data/png.js';
import sharp from 'sharp';
import { decodePicture } from '../node/pictures.js';
import { readDataset } from '../src/data/read.js';
import { SemiflowError } from '../src/errors.js';
import { bytesSource, readAll } from '../src/files/source.js';
import { memoryStore } from '../src/files/store.js';
import { descriptionSchema, parseDescription } from '../src/flow/description.js';
import { createNetwork, exportNetwork, loadNetwork } from '../src/flow/network.js';
import { type Random, random } from '../src/tensor/philox.js';
import { distillationDefaults, distillationSchema } from '../trainers/config.js';
import { checkRecipe } from '../trainers/methods.js';
import { RunFiles } from '../trainers/run-files.js';
import { studyRuns, studySchema } from '../trainers/study.js';
import { mutateBytes, mutateText, mutateTree } from './mutate.js';
import { makePng } from './png-maker.js';
import { bytesOf, stateOf, valuesOf } from './support/weights.js';

/**
 * Damaged and hostile files through everything that reads: each must be read or refused in one line, soon, in bounded
 * memory, and damage that a checksum or a length can tell must be refused. FUZZ=full takes the large budget, SEED another
 * stream of damage.
 */
const full = process.env.FUZZ === 'full';
const seed = Number(process.env.SEED ?? 0);
const budget = { safetensors: full ? 10_000 : 300, others: full ? 2000 : 30, commands: full ? 200 : 12 };
const longestMs = 10_000;
const mostGrowth = 1.5 * 2 ** 30;

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'semiflow-fuzz-'));
  console.log(`fuzz: SEED=${seed}${full ? ' FUZZ=full' : ''}`);
});
afterAll(() => rm(folder, { recursive: true, force: true }));

/** What became of many inputs. */
interface Tally {
  accepted: number;
  refused: number;
  slowest: number;
}

/**
 * Gives `count` damaged inputs to a reader.
 * @param damaged an input, with whether what is read of it can only be refused or be what the whole input gives
 * @param read what is compared with the whole input's where the damage must not change it
 */
async function fuzz<T>(
  name: string,
  count: number,
  damaged: (draw: Random) => { input: T; telling: boolean },
  read: (input: T) => Promise<unknown>,
  whole?: T,
): Promise<Tally> {
  const tally = { accepted: 0, refused: 0, slowest: 0 };
  const expected = whole === undefined ? undefined : await read(whole);
  const before = process.memoryUsage().rss;
  for (let i = 0; i < count; i++) {
    const { input, telling } = damaged(random(seed, i, 77));
    const start = performance.now();
    const label = `${name}, SEED=${seed}, input ${i}`;
    try {
      const got = await read(input);
      tally.accepted++;
      if (telling) expect(got, `${label}: damage was read without a word`).toEqual(expected);
    } catch (error) {
      tally.refused++;
      if (!(error instanceof SemiflowError)) {
        if (error instanceof Error && error.name === 'AssertionError') throw error;
        throw new Error(`${label}: ${error instanceof Error ? error.stack : String(error)}`);
      }
      expect(error.message, label).not.toMatch(/\n/);
      expect(error.message.length, `${label}: ${error.message.slice(0, 300)}`).toBeLessThan(1500);
    }
    const took = performance.now() - start;
    expect(took, `${label} took ${took} ms`).toBeLessThan(longestMs);
    tally.slowest = Math.max(tally.slowest, took);
  }
  expect(process.memoryUsage().rss - before, `${name} took memory`).toBeLessThan(mostGrowth);
  console.log(
    `fuzz: ${name}: ${count} inputs, ${tally.accepted} read, ${tally.refused} refused, slowest ${tally.slowest.toFixed(0)} ms`,
  );
  return tally;
}

const description = parseDescription(
  {
    architecture: { kind: 'mlp', dim: 2, width: 8, depth: 2, activation: 'silu', time: 'features' },
    prediction: 'velocity',
  },
  'the description',
);
const network = createNetwork(description, 0);
const weights = () => {
  const { tensors, metadata } = exportNetwork(network);
  return bytesOf({ tensors, metadata: { ...metadata, note: 'a text' } });
};

/** A header and what lies behind it, put together again after the header was changed. */
function safetensorsOf(header: string, data: Uint8Array, draw: Random): Uint8Array {
  const json = new TextEncoder().encode(header);
  const length = Buffer.alloc(8);
  // Mostly a right length, so that what is damaged is seen at all.
  length.writeBigUInt64LE(BigInt(json.length + (draw.below(8) ? 0 : draw.below(9) - 4)));
  return new Uint8Array(Buffer.concat([length, json, data]));
}

function damagedSafetensors(bytes: Uint8Array, draw: Random): Uint8Array {
  const length = Number(new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0, true));
  const header = new TextDecoder().decode(bytes.subarray(8, 8 + length));
  const data = bytes.subarray(8 + length);
  // What a file says of itself is JSON in a string of JSON.
  const described = header.includes('"semiflow');
  switch (draw.below(described ? 4 : 3)) {
    case 0:
      return mutateBytes(bytes, draw);
    case 1:
      return safetensorsOf(mutateText(header, draw), data, draw);
    case 2:
      return safetensorsOf(JSON.stringify(mutateTree(JSON.parse(header) as object, draw)), data, draw);
    default: {
      const tree = JSON.parse(header) as { __metadata__: Record<string, string> };
      const [key] = Object.keys(tree.__metadata__).filter((name) => name.startsWith('semiflow'));
      const own = tree.__metadata__[key];
      const changed = draw.below(2)
        ? JSON.stringify(mutateTree(JSON.parse(own) as object, draw))
        : mutateText(own, draw);
      return safetensorsOf(
        JSON.stringify({ ...tree, __metadata__: { ...tree.__metadata__, [key]: changed } }),
        data,
        draw,
      );
    }
  }
}

describe('weights', () => {
  it('safetensors files are read or refused', async () => {
    const bytes = await weights();
    const read = async (input: Uint8Array) => {
      const file = await openSafetensors(bytesSource(input, 'w.safetensors'));
      for (const name of file.tensors.keys()) await file.readF32(name).catch(rethrowFault);
      await loadNetwork(file);
    };
    const damaged = (draw: Random) => ({ input: damagedSafetensors(bytes, draw), telling: false });
    const { accepted, refused } = await fuzz('safetensors', budget.safetensors, damaged, read);
    // The mutations reach beyond the first check.
    expect(Math.min(accepted, refused)).toBeGreaterThan(budget.safetensors / 50);
    const cut = (draw: Random) => ({ input: resized(bytes, draw), telling: true });
    await fuzz('safetensors cut or continued', budget.others, cut, read);
  }, 600_000);

  it('descriptions are read or refused', async () => {
    const file = await openSafetensors(bytesSource(await weights(), 'w.safetensors'));
    const texts = await Promise.all(
      ['8gaussian-moons', 'mnist-flow-vit', 'torchcfm-unet'].map((name) =>
        readFile(`docs/teachers/${name}.yaml`, 'utf8'),
      ),
    );
    texts.push(stringify(description));
    await fuzz(
      'descriptions',
      budget.others,
      (draw) => ({ input: damagedYaml(texts[draw.below(texts.length)], draw), telling: false }),
      async (text) => {
        const { tree, locate } = parseYaml(text, 'd.yaml');
        await loadNetwork(
          file,
          check(descriptionSchema, tree, (key) => `d.yaml${locate(key)}`),
        );
      },
    );
  }, 600_000);
});

const rethrowFault = (error: unknown) => {
  if (!(error instanceof SemiflowError)) throw error;
};

/** A file that was cut, or that goes on behind its end. */
function resized(bytes: Uint8Array, draw: Random): Uint8Array {
  if (draw.below(2)) return bytes.slice(0, draw.below(bytes.length));
  return new Uint8Array(Buffer.concat([bytes, new Uint8Array(1 + draw.below(100)).fill(1)]));
}

function damagedYaml(text: string, draw: Random): string {
  return draw.below(2) ? mutateText(text, draw) : stringify(mutateTree(parse(text) as object, draw));
}

describe('configurations', () => {
  const shape = [2];
  const defaults = distillationDefaults(shape, 'velocity');
  const resolve = (text: string) =>
    resolveConfig(distillationSchema(), defaults, distillationKnobs(), {}, { name: 'c.yaml', text });

  it('recipes are read or refused', async () => {
    const text = stringify(defaults);
    await fuzz(
      'recipes',
      budget.others,
      (draw) => ({ input: damagedYaml(text, draw), telling: false }),
      async (input) => checkRecipe(resolve(input), true),
    );
  }, 600_000);

  it('no text keeps the parser of YAML busy or ends the process', () => {
    const pieces = [
      '[',
      '{',
      '- ',
      '? ',
      ': ',
      'a: ',
      '&a ',
      '!x ',
      '*a ',
      '"',
      "'",
      '"a" ',
      '[a, ',
      '{"a":',
      '|\n',
      '# ',
      '- a\n',
      'a: b: c\n',
      ']\n',
      '"a" "b"\n',
      '%\n',
      '- - ',
      '- ? ',
      'a: &a ',
      '\t',
      ',',
      'x',
    ];
    const steps = Array.from({ length: 3000 }, (_, i) => `${' '.repeat(i)}a:`).join('\n');
    for (const text of [
      ...pieces.map((piece) => piece.repeat(full ? 100_000 : 10_000)),
      steps,
      'a: &a [*a]',
      'a: &a { b: [*a] }',
    ]) {
      const start = performance.now();
      try {
        parseYaml(text, 'y.yaml');
      } catch (error) {
        expect(error).toBeInstanceOf(SemiflowError);
      }
      expect(performance.now() - start, JSON.stringify(text.slice(0, 20))).toBeLessThan(longestMs);
    }
  });

  it('studies are read or refused', async () => {
    const text = stringify({
      teacher: 'rf.safetensors',
      seeds: [0, 1],
      common: { steps: 100, lambda: { lagrangian: 1 } },
      recipes: { plain: null, fast: { method: 'fmap', optimizer: { learningRate: 0.01 } } },
    });
    await fuzz(
      'studies',
      budget.others,
      (draw) => ({ input: damagedYaml(text, draw), telling: false }),
      async (input) => {
        const { tree, locate } = parseYaml(input, 's.yaml');
        studyRuns(check(studySchema, tree, (key) => `s.yaml${locate(key)}`));
      },
    );
  }, 600_000);

  it('runs are resumed to the same state or refused, whatever happened to their files', async () => {
    const identity = { kind: 'flow-map', recipe: { steps: 40, seed: 0 }, inputs: { teacher: 'abc' } };
    const store = memoryStore('run');
    const made = await RunFiles.create(store, identity);
    await made.log(Array.from({ length: 30 }, (_, i) => ({ step: i + 1, loss: 1 / (i + 1), gradientNorm: 1 })));
    const arenas = { parameters: Float32Array.of(1, 2, 3), firstMoment: Float32Array.of(4, 5, 6) };
    const state = stateOf({ step: 20, arenas });
    await made.save(state, 'student.safetensors', Uint8Array.of(1));
    const whole = new Map<string, Uint8Array>();
    for (const name of await store.list()) whole.set(name, await readAll((await store.open(name))!));
    const resumed = async (name: string, content: Uint8Array) => {
      for (const path of await store.list()) await store.remove(path);
      for (const [path, bytes] of whole) await store.write(path, path === name ? content : bytes);
      const files = await RunFiles.open(store, 'flow-map');
      const found = await files.resume(identity);
      await files.metrics();
      return found && valuesOf(found);
    };
    const events = [...whole.keys()].find((name) => name.includes('tfevents'))!;
    const kinds: [string, boolean, (bytes: Uint8Array, draw: Random) => Uint8Array][] = [
      // A checksum tells damage to the state; a log that is damaged changes nothing of what is trained.
      [
        'state.safetensors',
        true,
        (bytes, draw) => (draw.below(2) ? mutateBytes(bytes, draw) : damagedSafetensors(bytes, draw)),
      ],
      ['metrics.jsonl', true, damagedText],
      [events, true, mutateBytes],
      ['run.json', false, (bytes, draw) => (draw.below(2) ? damagedText(bytes, draw) : damagedJson(bytes, draw))],
    ];
    for (const [name, telling, damage] of kinds) {
      const bytes = whole.get(name)!;
      await fuzz(
        `runs with another ${name.replace(/\d{5,}/, 'N')}`,
        budget.others,
        (draw) => ({ input: damage(bytes, draw), telling }),
        (input) => resumed(name, input),
        bytes,
      );
    }
  }, 600_000);
});

const damagedText = (bytes: Uint8Array, draw: Random): Uint8Array =>
  draw.below(2) ? mutateBytes(bytes, draw) : Buffer.from(mutateText(new TextDecoder().decode(bytes), draw));

const damagedJson = (bytes: Uint8Array, draw: Random): Uint8Array =>
  Buffer.from(JSON.stringify(mutateTree(JSON.parse(new TextDecoder().decode(bytes)) as object, draw)));

/** An IDX file of bytes. */
function idx(extents: number[], data: Uint8Array): Buffer {
  const header = Buffer.alloc(4 + 4 * extents.length);
  header.writeUInt32BE(0x800 + extents.length);
  extents.forEach((extent, i) => header.writeUInt32BE(extent, 4 + 4 * i));
  return Buffer.concat([header, data]);
}

describe('data', () => {
  const noise = (count: number) => Uint8Array.from({ length: count }, (_, i) => (i * 167 + (i >> 3) * 31) & 255);
  const images = idx([12, 5, 4], noise(240));
  const array = encodeNpy(
    Float32Array.from(noise(240), (value) => value / 255),
    [12, 5, 4],
  );
  const labels = encodeNpy(
    Float32Array.from({ length: 12 }, (_, i) => i % 3),
    [12],
  );
  const batch = Uint8Array.from({ length: 3 * 3073 }, (_, i) => (i % 3073 ? (i * 7) & 255 : (i / 3073) % 10));
  const kinds: Record<string, { bytes: Uint8Array; checked?: true; fits?: (length: number) => boolean }> = {
    'a-images-idx3-ubyte': { bytes: images },
    'a-images-idx3-ubyte.gz': { bytes: gzipSync(images), checked: true },
    'a.npy': { bytes: array },
    'a.npz': { bytes: zipSync({ 'x.npy': array, 'y.npy': labels }), checked: true },
    'a.safetensors': {
      bytes: encodeSafetensors({
        x: { dtype: 'U8', shape: [12, 5, 4], data: noise(240) },
        labels: { dtype: 'I64', shape: [12], data: BigInt64Array.from({ length: 12 }, (_, i) => BigInt(i % 3)) },
        context: { dtype: 'F32', shape: [12, 2], data: Float32Array.from(noise(24)) },
        'negative.context': { dtype: 'F32', shape: [2], data: Float32Array.of(1, 2) },
      }),
    },
    'data_batch_1.bin': { bytes: batch, fits: (length) => length > 0 && (length % 3073 === 0 || length % 3074 === 0) },
    'train_X.bin': { bytes: noise(2 * 27648), fits: (length) => length > 0 && length % 27648 === 0 },
    'data_batch_1.bin.gz': { bytes: gzipSync(batch), checked: true },
  };
  const readOf = (name: string) => async (bytes: Uint8Array) => {
    const files = {
      name,
      list: async () => [name],
      open: async (path: string) => (path === name ? bytesSource(bytes, name) : null),
    };
    const { values, labels: classes, heldOut, shape, range } = (await readDataset(files)) as Dataset;
    return { values, classes, heldOut, shape, range };
  };

  it.each(Object.entries(kinds))(
    '%s is read or refused',
    async (name, { bytes, checked, fits }) => {
      const read = readOf(name);
      await fuzz(
        name,
        budget.others,
        (draw) => ({ input: mutateBytes(bytes, draw), telling: checked ?? false }),
        read,
        bytes,
      );
      if (checked) return;
      const cut = (draw: Random) => {
        const input = resized(bytes, draw);
        return { input, telling: !fits?.(input.length) };
      };
      await fuzz(`${name} cut or continued`, budget.others, cut, read);
    },
    600_000,
  );

  it('PNG is read or refused, also where its checksums are right', async () => {
    const pictures = ([0, 2, 3] as const).map((type) =>
      makePng({ type, depth: 8, interlaced: type === 2, clear: true, width: 9, height: 6 }, random(type)),
    );
    for (const { bytes, name } of pictures) {
      const read = async (input: Uint8Array) => decodePng(input, 'a.png');
      await fuzz(
        `PNG, ${name}`,
        budget.others,
        (draw) => ({ input: mutateBytes(bytes, draw), telling: true }),
        read,
        bytes,
      );
      await fuzz(
        `PNG with right checksums, ${name}`,
        budget.others,
        (draw) => ({ input: withRightSums(mutateBytes(bytes, draw)), telling: false }),
        read,
      );
    }
  }, 600_000);
});

describe('pictures of other kinds', () => {
  it.each(['jpeg', 'webp'] as const)(
    '%s is read or refused',
    async (kind) => {
      const data = Uint8Array.from({ length: 16 * 16 * 3 }, (_, i) => (i * 5) & 255);
      const bytes = await sharp(data, { raw: { width: 16, height: 16, channels: 3 } })
        [kind]()
        .toBuffer();
      const damaged = (draw: Random) => ({ input: mutateBytes(bytes, draw), telling: false });
      await fuzz(kind, budget.others, damaged, (input) => decodePicture(input, `a.${kind}`));
    },
    600_000,
  );
});

/** Damaged chunks with checksums that fit, as long as their lengths lead on. */
function withRightSums(bytes: Uint8Array): Uint8Array {
  const fixed = Buffer.from(bytes);
  for (let at = 8; at + 12 <= fixed.length;) {
    const length = fixed.readUInt32BE(at);
    if (at + 12 + length > fixed.length) break;
    fixed.writeUInt32BE(crc32(fixed.subarray(at + 4, at + 8 + length)), at + 8 + length);
    at += 12 + length;
  }
  return new Uint8Array(fixed);
}

describe('commands', () => {
  /** Runs a command here; what it prints is thrown away. */
  const run = async (args: readonly string[]) => {
    const [log, write] = [console.log, process.stdout.write.bind(process.stdout)];
    console.log = () => {};
    process.stdout.write = () => true;
    try {
      await createProgram().parseAsync([...args], { from: 'user' });
      return null;
    } catch (error) {
      return failureOf(error, flagOf, 'x');
    } finally {
      console.log = log;
      process.stdout.write = write;
    }
  };

  it('end with one line and exit code 2, whatever they are given', async () => {
    const file = (name: string) => join(folder, name);
    const good = await weights();
    await writeFile(file('good.safetensors'), good);
    const recipe = stringify(distillationDefaults([2], 'velocity'));
    const yaml = stringify(description);
    // There is no such teacher: no damage makes a study that would be trained.
    const study = stringify({ teacher: file('none.safetensors'), seeds: [0], recipes: { a: null } });
    const [image] = [makePng({ type: 2, depth: 8, interlaced: false, clear: false, width: 8, height: 8 }, random(3))];
    const saved = stringify({ teacher: file('good.safetensors'), recipe: parse(recipe) as object });
    const cases: [string, (draw: Random) => Uint8Array | string, (path: string) => string[]][] = [
      ['a.safetensors', (draw) => damagedSafetensors(good, draw), (path) => ['info', path]],
      [
        'b.safetensors',
        (draw) => damagedSafetensors(good, draw),
        (path) => ['train', '--teacher', path, '--print-config'],
      ],
      [
        'c.yaml',
        (draw) => damagedYaml(recipe, draw),
        (path) => ['train', '--teacher', file('good.safetensors'), '--config', path, '--print-config'],
      ],
      ['d.yaml', (draw) => damagedYaml(yaml, draw), (path) => ['info', file('good.safetensors'), '--arch', path]],
      [
        'e.yaml',
        (draw) => damagedYaml(yaml, draw),
        (path) => ['import', file('good.safetensors'), file('out.safetensors'), '--arch', path],
      ],
      [
        'f.npy',
        (draw) => mutateBytes(encodeNpy(new Float32Array(32), [16, 2]), draw),
        (path) => ['teacher', '--data', path, '--print-config'],
      ],
      ['g.png', (draw) => mutateBytes(image.bytes, draw), (path) => ['classifier', '--data', path, '--print-config']],
      [
        'run/config.yaml',
        (draw) => damagedYaml(saved, draw),
        () => ['train', '--resume', file('run'), '--print-config'],
      ],
      ['study.yaml', (draw) => damagedYaml(study, draw), (path) => ['study', path, '--out', file('study')]],
    ];
    await mkdir(file('run'), { recursive: true });
    let [refused, ended] = [0, 0];
    for (let i = 0; i < budget.commands; i++) {
      const draw = random(seed, i, 78);
      const [name, make, args] = cases[i % cases.length];
      await writeFile(file(name), make(draw));
      const start = performance.now();
      const failure = await run(args(file(name)));
      const label = `SEED=${seed}, command ${i}: ${args(file(name)).join(' ')}: ${failure?.line}`;
      expect(performance.now() - start, label).toBeLessThan(longestMs);
      if (!failure) {
        ended++;
        continue;
      }
      refused++;
      expect(failure.exitCode, label).toBe(2);
      expect(failure.line, label).not.toMatch(/\n/);
      expect(failure.line.length, label).toBeLessThan(1500);
    }
    console.log(`fuzz: ${budget.commands} commands, ${ended} read their file, ${refused} refused it`);
  }, 600_000);
});
