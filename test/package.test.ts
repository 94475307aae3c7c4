import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { chromium } from 'playwright-core';
import { publint } from 'publint';
import ts from 'typescript';
import { build, preview } from 'vite';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openDevice } from '../node/device.js';
import { readSafetensors } from '../node/files.js';
import { loadNetwork } from '../src/flow/network.js';
import { drawSamples } from '../src/flow/sampling.js';
import { version } from '../src/version.js';
import { chromiumFlags, chromiumPath } from './support/chromium.js';
import { installPackage } from './support/package.js';

const folder = mkdtempSync(join(tmpdir(), 'semiflow-package-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const at = (...path: string[]) => join(folder, ...path);

let installed: string;
/** What `npm pack` puts into the tarball, and the tarball itself. */
let packed: { path: string; size: number }[];
let tarball: string;

beforeAll(async () => {
  installed = await installPackage(folder);
  const { stdout, stderr } = spawnSync('npm', ['pack', '--json', '--ignore-scripts', '--pack-destination', folder], {
    cwd: installed,
    encoding: 'utf8',
  });
  expect(stdout, stderr).not.toBe('');
  const [{ files, filename }] = JSON.parse(stdout) as [{ files: typeof packed; filename: string }];
  [packed, tarball] = [files, at(filename)];
});

const run = (program: string, args: string[], env: NodeJS.ProcessEnv = {}) =>
  spawnSync(program, args, { cwd: folder, encoding: 'utf8', env: { ...process.env, ...env } });
const inNode = (...args: string[]) => run(process.execPath, args);

describe('what is packed', () => {
  it('is what users need: the command, what was compiled, checkpoints, and what README links', () => {
    const paths = packed.map(({ path }) => path);
    const kinds = new Set(paths.map((path) => path.split('/')[0]));
    const files = ['CHANGELOG.md', 'CITATION.cff', 'LICENSE', 'README.md', 'package.json'];
    expect([...kinds].sort()).toEqual([...files, 'bin', 'checkpoints', 'dist', 'docs'].sort());
    // Set-up is a clone's: it would look for what is not there. Maps of sources that read the same explain nothing.
    for (const foreign of [/^dist\/(scripts|test|web|bench)\b/, /\.map$/, /^docs\/api\b/])
      expect(paths.filter((path) => foreign.test(path))).toEqual([]);
    expect(paths.filter((path) => path.startsWith('dist/watch/')).length).toBe(3);
    const links = [...readFileSync('README.md', 'utf8').matchAll(/\]\((?!https?:|#)([^)#]+)/g)].map(([, path]) => path);
    expect(links.length).toBeGreaterThan(3);
    expect(links.filter((path) => !paths.includes(path))).toEqual([]);
  });

  it('is small: most of it are the checkpoints', () => {
    const size = (paths: RegExp) => packed.reduce((sum, { path, size }) => sum + (paths.test(path) ? size : 0), 0);
    const bytes = statSync(tarball).size;
    console.log(
      `the tarball has ${(bytes / 1e6).toFixed(1)} MB: checkpoints of ${(size(/^checkpoints/) / 1e6).toFixed(1)} MB, ` +
        `${(size(/^dist/) / 1e6).toFixed(1)} MB compiled, ${(size(/^docs/) / 1e6).toFixed(1)} MB of documentation`,
    );
    expect(bytes).toBeLessThan(8e6);
    expect(size(/^dist.*\.js$/)).toBeLessThan(3e6);
  });

  it('says what it is, alike in all places', () => {
    const { keywords, version: packaged } = JSON.parse(readFileSync('package.json', 'utf8')) as {
      keywords: string[];
      version: string;
    };
    const citation = readFileSync('CITATION.cff', 'utf8');
    expect(packaged).toBe(version);
    expect(citation).toContain(`version: ${version}\n`);
    expect(readFileSync('CHANGELOG.md', 'utf8')).toContain(`## ${version}\n`);
    expect(keywords).toContain('flow-map');
  });

  it('is found no fault with by publint', async () => {
    const { messages } = await publint({ pkgDir: installed, pack: false, strict: true });
    expect(messages).toEqual([]);
  });

  it('is found no fault with by attw, whoever resolves its types', () => {
    const { status, stdout } = inNode('node_modules/@arethetypeswrong/cli/dist/index.js', tarball, '--no-color');
    expect(status, stdout).toBe(0);
  });
});

describe('its types', () => {
  const strict = {
    strict: true,
    noUncheckedIndexedAccess: true,
    exactOptionalPropertyTypes: true,
    noEmit: true,
    types: [],
  };
  const target = 'es2022';
  /** Projects that read the declarations, each in its own way; none skips checking them. */
  const projects = {
    'modules and CommonJS, before Node required the former': {
      names: ['own.ts', 'own.cts'],
      options: { target, module: 'node16' },
    },
    'a module that a bundler resolves': {
      names: ['own.ts'],
      options: { target, module: 'esnext', moduleResolution: 'bundler' },
    },
  };
  const text = `import { namedDataset, z } from 'semiflow';
  import { openDevice, type Device, type Training, type Network } from 'semiflow/node';
  export const opened: Promise<Device> = openDevice();
  export const side: number | undefined = namedDataset('checkerboard')?.shape[0];
  export const law = z.number();
  export const steps = (training: Training<Network>): number => training.steps;`;
  // The oldest that is at hand knows neither WebGPU nor the buffers of typed arrays.
  const attw = createRequire(resolve('node_modules/@arethetypeswrong/cli/package.json'));
  const older = createRequire(attw.resolve('@arethetypeswrong/core')).resolve('typescript/package.json');
  const compilers = ['node_modules/typescript/package.json', older].map((path) => {
    const { version } = JSON.parse(readFileSync(path, 'utf8')) as { version: string };
    return [version, join(resolve(path), '..', 'lib', 'tsc.js')] as const;
  });

  it.each(compilers.flatMap(([version, path]) => Object.keys(projects).map((project) => ({ version, path, project }))))(
    'can be read by TypeScript $version in $project',
    ({ path, project }) => {
      const { names, options } = projects[project as keyof typeof projects];
      writeFileSync(at('package.json'), '{ "type": "module" }');
      for (const name of names) writeFileSync(at(name), text);
      writeFileSync(at('tsconfig.json'), JSON.stringify({ compilerOptions: { ...strict, ...options }, files: names }));
      const { stdout } = inNode(path, '-p', '.');
      expect(stdout).toBe('');
    },
  );

  it('have public names wherever a public signature needs them', () => {
    const entry = join(installed, 'dist', 'node', 'index.d.ts');
    const options = { module: ts.ModuleKind.NodeNext, target: ts.ScriptTarget.ES2022, strict: true, types: [] };
    const program = ts.createProgram([entry], { ...options, skipLibCheck: true });
    expect(namelessTypes(program, entry, join(installed, 'dist'))).toEqual([]);
  });
});

describe('its use', () => {
  const checkpoint = 'node_modules/semiflow/checkpoints/rf-checkerboard.safetensors';

  it('can be required, and is one library with what is imported', () => {
    writeFileSync(
      at('required.cjs'),
      `const [own, node] = [require('semiflow'), require('semiflow/node')];
      const checkpoint = require.resolve('semiflow/checkpoints/rf-checkerboard.safetensors');
      import('semiflow').then((imported) =>
        console.log(imported.Tensor === own.Tensor, node.Tensor === own.Tensor, typeof own.fileSource, checkpoint));`,
    );
    const { stdout, stderr } = inNode('required.cjs');
    expect(stderr).toBe('');
    expect(stdout).toMatch(/^true true function .*rf-checkerboard\.safetensors\n$/);
  });

  const help = ['node_modules/.bin/semiflow', '--help'];

  it('starts within a second', () => {
    const clock = `process.on('exit', () => {
      const { user, system } = process.cpuUsage();
      console.error((user + system) / 1e6);
    })`;
    const timed = `data:text/javascript,${encodeURIComponent(clock)}`;
    // The processor's time, and of several: other tests run beside.
    const seconds = [1, 2, 3].map(() => Number(inNode('--import', timed, ...help).stderr));
    expect(Math.min(...seconds)).toBeLessThan(1);
  });

  it.each([
    ['help', help],
    ['what a file is', ['node_modules/.bin/semiflow', 'info', checkpoint]],
    ['the library', ['--input-type=module', '-e', "import 'semiflow'"]],
  ])('loads neither plots nor a driver for %s', (_, args) => {
    const hook = `import { writeSync } from 'node:fs';
      export async function resolve(name, context, next) {
        writeSync(2, 'loads ' + name + '\\n');
        return next(name, context);
      }`;
    const watch = `import { register } from 'node:module';
      register('data:text/javascript,' + ${JSON.stringify(encodeURIComponent(hook))});`;
    const { status, stderr } = inNode('--import', `data:text/javascript,${encodeURIComponent(watch)}`, ...args);
    expect(status, stderr).toBe(0);
    const loaded = [...stderr.matchAll(/^loads (\S+)$/gm)].map(([, name]) => name);
    expect(loaded).toContain('zod');
    expect(loaded.filter((name) => /^(vega|webgpu|sharp)/.test(name))).toEqual([]);
  });

  const sample = ['semiflow', 'sample', '--n', '4', '--out', 'four.npy', '--model'];
  it('samples by npx', () => {
    const { status, stderr } = run('npx', ['--no-install', ...sample, checkpoint]);
    expect(status, stderr).toBe(0);
    expect(existsSync(at('four.npy'))).toBe(true);
  });

  it('says in one line what is missing where there is no driver', () => {
    const { status, stderr } = run('npx', ['--no-install', ...sample, checkpoint], { VK_LOADER_DRIVERS_DISABLE: '*' });
    expect(stderr).toMatch(/^semiflow: no WebGPU adapter found: install a Vulkan driver [^\n]*\n$/);
    expect(status).toBeGreaterThan(0);
  });
});

if (!chromiumPath) console.log('skipped: no /usr/bin/chromium, so the blank project is not opened');

describe('a blank vite project', () => {
  const [, script] = /^```js\n(\/\/ main\.js.*?)^```/ms.exec(readFileSync('docs/web.md', 'utf8'))!;

  it('takes ten lines', () => {
    expect(script.trim().split('\n').length).toBeLessThanOrEqual(11);
  });

  it.skipIf(!chromiumPath)("draws Node's samples of the shipped flow map in Chromium", async () => {
    writeFileSync(
      at('index.html'),
      '<!doctype html><link rel="icon" href="data:," /><script type="module" src="/main.js"></script>',
    );
    writeFileSync(at('main.js'), `${script}\nwindow.drawn = [...x];`);
    await build({ root: folder, logLevel: 'error' });
    expect(readdirSync(at('dist', 'assets')).some((name) => name.endsWith('.safetensors'))).toBe(true);
    const server = await preview({ root: folder, preview: { host: '127.0.0.1', port: 0 } });
    const chrome = await chromium.launch({ executablePath: chromiumPath, args: chromiumFlags });
    try {
      const page = await chrome.newPage();
      const faults: string[] = [];
      page.on('pageerror', ({ message }) => faults.push(message));
      page.on('console', (message) => message.type() === 'error' && faults.push(message.text()));
      await page.goto(server.resolvedUrls!.local[0]);
      const handle = await page.waitForFunction(() => (window as { drawn?: number[] }).drawn, null, {
        timeout: 250_000,
      });
      expect(faults).toEqual([]);
      const drawn = (await handle.jsonValue())!;
      const device = await openDevice();
      const network = await loadNetwork(await readSafetensors('checkpoints/flow-map-fashion-mnist.safetensors'));
      const { x } = await drawSamples(device, network, { count: drawn.length / 784, seed: 0, steps: 1 });
      device.dispose();
      const worst = drawn.reduce((most, value, i) => Math.max(most, Math.abs(value - x[i])), 0);
      console.log(`pictures in Chromium differ from Node's by ${worst.toExponential(1)} at most`);
      expect(worst).toBeLessThan(1e-4);
    } finally {
      await chrome.close();
      await server.close();
    }
  });
});

/** Types of the package's own that a public declaration names and its users cannot: a line each. */
function namelessTypes(program: ts.Program, entry: string, own: string): string[] {
  const checker = program.getTypeChecker();
  const resolved = (symbol: ts.Symbol) =>
    symbol.flags & ts.SymbolFlags.Alias ? checker.getAliasedSymbol(symbol) : symbol;
  const module = checker.getSymbolAtLocation(program.getSourceFile(entry)!)!;
  const named = new Set(checker.getExportsOfModule(module).map(resolved));
  expect(named.size).toBeGreaterThan(300);
  const isOwn = ({ declarations: [declaration] = [] }: ts.Symbol) =>
    declaration?.getSourceFile().fileName.startsWith(own);
  const nameless = new Set<string>();
  for (const symbol of [...named].filter(isOwn)) {
    const visit = (node: ts.Node): void => {
      if (ts.isClassElement(node) && ts.getCombinedModifierFlags(node) & ts.ModifierFlags.Private) return;
      const name = ts.isTypeReferenceNode(node)
        ? node.typeName
        : ts.isExpressionWithTypeArguments(node)
          ? node.expression
          : ts.isImportTypeNode(node)
            ? node.qualifier
            : undefined;
      const found = name && checker.getSymbolAtLocation(name);
      const type = found && resolved(found);
      if (type && isOwn(type) && !(type.flags & ts.SymbolFlags.TypeParameter) && !named.has(type))
        nameless.add(`${type.name}, which ${symbol.name} names`);
      ts.forEachChild(node, visit);
    };
    symbol.declarations?.forEach(visit);
  }
  return [...nameless];
}
