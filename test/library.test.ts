import { spawn } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { build as esbuild } from 'esbuild';
import { chromium } from 'playwright-core';
import ts from 'typescript';
import { build as vite, preview } from 'vite';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { readSafetensors } from '../node/files.js';
import { loadNetwork } from '../src/flow/network.js';
import { chromiumFlags, chromiumPath } from './support/chromium.js';
import { installPackage } from './support/package.js';

/** A project that has installed the package, as someone's first would be. */
const folder = mkdtempSync(join(tmpdir(), 'semiflow-library-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const at = (...path: string[]) => join(folder, ...path);

const samples = new Map(
  [...readFileSync('README.md', 'utf8').matchAll(/^```ts\n(\/\/ (\w+\.ts).*?)^```/gms)].map(
    ([, text, name]) => [name, text] as const,
  ),
);
const steps = 3;
const checkpoint = 'rf-checkerboard.safetensors';

beforeAll(async () => {
  await installPackage(folder);
  writeFileSync(at('package.json'), '{ "type": "module" }');
  for (const [name, text] of samples) writeFileSync(at(name), text.replace('steps: 3000', `steps: ${steps}`));
});

/** Makes what is logged readable: numbers of arrays in full, a line each. */
const plainly = `const print = console.log.bind(console);
console.log = (value) => print(JSON.stringify(value, (_, v) => (ArrayBuffer.isView(v) ? [...v] : v)));`;

/** What a sample logs in Node. */
async function inNode(name: string): Promise<unknown[]> {
  writeFileSync(at('plainly.mjs'), plainly);
  const program = spawn(process.execPath, ['--import', 'tsx', '--import', './plainly.mjs', name], { cwd: folder });
  let [out, error] = ['', ''];
  program.stdout.on('data', (part) => (out += part));
  program.stderr.on('data', (part) => (error += part));
  const status = await new Promise((done) => program.on('close', done));
  expect(status, error).toBe(0);
  return linesOf(out);
}

const linesOf = (text: string): unknown[] =>
  text
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as unknown);

interface Result {
  x: number[];
  rmse: number;
  violation: number;
}
let known: Result;

describe("README's library part", () => {
  it('takes under thirty lines', () => {
    expect([...samples.keys()]).toEqual(['distil.ts', 'node.ts', 'page.ts', 'engine.ts']);
    expect(samples.get('distil.ts')!.trim().split('\n').length).toBeLessThan(30);
    expect(samples.get('distil.ts')).toContain('steps: 3000');
  });

  const anywhere = { strict: true, noEmit: true, target: ts.ScriptTarget.ES2022, types: [] };
  it.each([
    ['in Node', ['node.ts', 'engine.ts'], { module: ts.ModuleKind.NodeNext }],
    [
      'for a page',
      ['page.ts'],
      { module: ts.ModuleKind.ESNext, moduleResolution: ts.ModuleResolutionKind.Bundler, skipLibCheck: true },
    ],
  ] as const)('is typed %s', (_, names, options) => {
    const program = ts.createProgram(
      names.map((name) => at(name)),
      { ...anywhere, ...options },
    );
    const wrong = ts.getPreEmitDiagnostics(program);
    expect(
      wrong.map(({ file, messageText }) => `${file?.fileName}: ${ts.flattenDiagnosticMessageText(messageText, ' ')}`),
    ).toEqual([]);
  });

  it('runs in Node: the engine', async () => {
    const [values] = await inNode('engine.ts');
    const silu = (v: number) => v / (1 + Math.exp(-v));
    const loss = (w: number[]) => silu(0.5 * w[0] - w[2]) + silu(0.5 * w[1] - w[3]);
    const w = [1, 2, 3, 4];
    const moved = (k: number, by: number) => loss(w.map((value, i) => (i === k ? value + by : value)));
    w.forEach((_, k) => expect((values as number[])[k]).toBeCloseTo((moved(k, 1e-4) - moved(k, -1e-4)) / 2e-4, 5));
  });

  it('runs in Node: distils, samples, evaluates, checks and saves', async () => {
    const lines = await inNode('node.ts');
    expect(lines).toHaveLength(steps + 1);
    lines.slice(0, steps).forEach((line, i) => expect(line).toMatch(`${i + 1} of ${steps}: loss 0.`));
    known = lines[steps] as Result;
    expect(known.x).toHaveLength(2000);
    expect(known.rmse).toBeGreaterThan(0);
    expect(known.violation).toBeGreaterThan(0);
    const saved = await loadNetwork(await readSafetensors(at('runs', 'library', 'student.safetensors')));
    expect(saved.description.role).toBe('flow-map');
  });

  it('ends when its signal is aborted, with what was learned so far', async () => {
    writeFileSync(at('whole.ts'), samples.get('distil.ts')!);
    writeFileSync(
      at('stopped.ts'),
      `import { fileSource, memoryStore } from 'semiflow';
      import { distilTeacher } from './whole.js';
      const stop = new AbortController();
      const { log } = console;
      console.log = (line) => (stop.abort(), log(line));
      log(await distilTeacher(await fileSource('node_modules/semiflow/checkpoints/${checkpoint}'), memoryStore(), stop.signal));`,
    );
    const lines = await inNode('stopped.ts');
    expect(lines[0]).toMatch('1 of 3000: loss');
    expect(lines.length).toBeLessThan(10);
    expect((lines.at(-1) as Result).x).toHaveLength(2000);
  });
});

if (!chromiumPath) console.log("skipped: no /usr/bin/chromium, so README's library part is not run in a page");

const html = (script: string) =>
  `<!doctype html><link rel="icon" href="data:," /><button>Stop</button><script type="module" src="${script}"></script>`;

/** A site of the page, as each bundler makes it when it is told nothing else; the folder that it is in. */
const bundlers = {
  esbuild: async () => {
    mkdirSync(at('site'));
    cpSync(join('checkpoints', checkpoint), at('site', checkpoint));
    writeFileSync(at('site', 'index.html'), html('/page.js'));
    await esbuild({ entryPoints: [at('page.ts')], bundle: true, minify: true, outfile: at('site', 'page.js') });
    return 'site';
  },
  vite: async () => {
    mkdirSync(at('public'));
    cpSync(join('checkpoints', checkpoint), at('public', checkpoint));
    writeFileSync(at('index.html'), html('/page.ts'));
    await vite({ root: folder, logLevel: 'warn' });
    return 'dist';
  },
};

describe.each(Object.entries(bundlers))('a page bundled by %s', (name, bundle) => {
  let site: string;
  beforeAll(async () => {
    site = await bundle();
  });

  it('is small, and holds nothing of Node, of the driver or of drawing', () => {
    const scripts = readdirSync(at(site), { recursive: true, encoding: 'utf8' }).filter((path) => path.endsWith('.js'));
    expect(scripts).toHaveLength(1);
    const script = readFileSync(at(site, scripts[0]));
    for (const foreign of [/["'`]node:/, /["'`]webgpu["'`]/, /vega/i, /\bprocess\.(env|platform|version)/])
      expect(script.toString()).not.toMatch(foreign);
    const size = gzipSync(script).length;
    console.log(`${name}: the page's script has ${(size / 1000).toFixed(0)} kB gzipped`);
    expect(size).toBeLessThan(200_000);
  });

  it.skipIf(!chromiumPath)('gives the samples of Node in headless Chromium', async () => {
    const server = await preview({ root: folder, build: { outDir: site }, preview: { host: '127.0.0.1' } });
    const chrome = await chromium.launch({ executablePath: chromiumPath, args: chromiumFlags });
    try {
      const page = await chrome.newPage();
      await page.addInitScript(plainly);
      const lines: unknown[] = [];
      const result = new Promise<Result>((done, fail) => {
        page.on('pageerror', fail);
        page.on('console', (message) => {
          if (message.type() === 'error') fail(new Error(message.text()));
          if (message.type() === 'log') lines.push(...linesOf(message.text()));
          if (lines.length > steps) done(lines[steps] as Result);
        });
      });
      await page.goto(server.resolvedUrls!.local[0]);
      const { x, rmse, violation } = await result;
      expect(lines.slice(0, steps)).toEqual(
        [1, 2, 3].map((step) => expect.stringMatching(`^${step} of ${steps}: loss`)),
      );
      expect(x).toHaveLength(known.x.length);
      const worst = x.reduce((most, value, i) => Math.max(most, Math.abs(value - known.x[i])), 0);
      console.log(`${name}: samples in Chromium differ from Node's by ${worst.toExponential(1)} at most`);
      expect(worst).toBeLessThan(1e-4);
      expect(rmse).toBeCloseTo(known.rmse, 4);
      expect(violation).toBeCloseTo(known.violation, 4);
    } finally {
      await chrome.close();
      await server.close();
    }
  });
});
