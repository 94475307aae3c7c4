import { spawn } from 'node:child_process';
import {
  appendFileSync,
  cpSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { request } from 'node:http';
import { connect } from 'node:net';
import { networkInterfaces, tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { chromium } from 'playwright-core';
import { afterAll, afterEach, describe, expect, it } from 'vitest';
import { watch, type Watch, type WatchPlan } from '../cli/watch.js';
import { renderReport } from '../src/report/html.js';
import { seriousFaults } from './support/axe.js';
import { chromiumFlags, chromiumPath } from './support/chromium.js';

const folder = mkdtempSync(join(tmpdir(), 'semiflow-watch-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const line = (step: number) => `${JSON.stringify({ step, loss: 1 / step, gradientNorm: 2 })}\n`;

/** A run of ten steps as training leaves it, with files beside it that it did not write. */
function makeRun(path: string, names: readonly string[] = []): string {
  const run = join(folder, path);
  mkdirSync(run, { recursive: true });
  const files = ['run.json', 'metrics.jsonl', 'flow-map.png', 'state.safetensors', 'report.html', ...names];
  const mark = { format: 1, semiflow: '0', kind: 'flow-map', recipe: { steps: 10 }, inputs: {}, files };
  writeFileSync(join(run, 'run.json'), JSON.stringify(mark));
  writeFileSync(join(run, 'metrics.jsonl'), [1, 2, 3].map(line).join(''));
  cpSync('docs/images/experiment-drift.png', join(run, 'flow-map.png'));
  writeFileSync(join(run, 'state.safetensors'), 'weights');
  writeFileSync(join(run, 'secret.json'), '"secret"');
  return run;
}

const started: Watch[] = [];
async function watched(plan: WatchPlan): Promise<Watch> {
  const made = await watch(plan, true);
  started.push(made);
  return made;
}
// They end by themselves once nobody has asked for a while.
afterEach(() => {
  for (const made of started.splice(0)) void made.end();
});

interface Answer {
  status: number;
  text: string;
  headers: Record<string, string | string[] | undefined>;
}

/** What is answered to a path that nobody normalises first. */
function ask(address: string, path: string, options: { method?: string; headers?: Record<string, string> } = {}) {
  const { port } = new URL(address);
  return new Promise<Answer>((done, fail) => {
    const asked = request({ host: '127.0.0.1', port, path, ...options }, (response) => {
      let text = '';
      response.on('data', (part) => (text += part));
      response.on('end', () => done({ status: response.statusCode!, text, headers: response.headers }));
    });
    asked.on('error', fail);
    asked.end();
  });
}

describe('what --watch serves', () => {
  it('is the page, what the run wrote, and how far it is', async () => {
    const run = makeRun('one');
    const { address } = await watched({ folder: run, runs: [''] });
    expect(address).toMatch(/^http:\/\/127\.0\.0\.1:\d+\/$/);
    for (const [path, type] of [
      ['/', 'text/html'],
      ['/watch.js', 'text/javascript'],
      ['/style.css', 'text/css'],
      ['/files/flow-map.png?1', 'image/png'],
      ['/files/metrics.jsonl', 'text/plain'],
    ]) {
      const { status, headers } = await ask(address, path);
      expect([path, status]).toEqual([path, 200]);
      expect(headers['content-type']).toContain(type);
      expect(headers['x-content-type-options']).toBe('nosniff');
      expect(headers['cross-origin-resource-policy']).toBe('same-origin');
      expect(headers['content-security-policy']).toMatch(/default-src 'none'/);
      expect(headers).not.toHaveProperty('access-control-allow-origin');
    }
    const { runs, ended } = JSON.parse((await ask(address, '/run')).text) as {
      runs: { files: { name: string }[]; steps: number }[];
      ended: boolean;
    };
    expect(ended).toBe(false);
    expect(runs[0].steps).toBe(10);
    expect(runs[0].files.map(({ name }) => name)).toEqual(['run.json', 'metrics.jsonl', 'flow-map.png']);
    const tail = await ask(address, '/files/metrics.jsonl', { headers: { Range: `bytes=${line(1).length}-` } });
    expect([tail.status, tail.text]).toEqual([206, line(2) + line(3)]);
    expect((await ask(address, '/files/metrics.jsonl', { headers: { Range: 'bytes=9999-' } })).status).toBe(416);
  });

  it('is nothing to write to', async () => {
    const { address } = await watched({ folder: makeRun('one'), runs: [''] });
    for (const method of ['POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS', 'PROPFIND']) {
      const { status, headers } = await ask(address, '/files/metrics.jsonl', { method });
      expect([method, status, headers.allow]).toEqual([method, 405, 'GET, HEAD']);
    }
    expect((await ask(address, '/files/metrics.jsonl', { method: 'HEAD' })).text).toBe('');
  });

  it('is for this machine by its own name alone', async () => {
    const { address } = await watched({ folder: makeRun('one'), runs: [''] });
    const { port, host } = new URL(address);
    for (const Host of [host, `localhost:${port}`])
      expect((await ask(address, '/', { headers: { Host } })).status).toBe(200);
    for (const Host of [
      'evil.example',
      `evil.example:${port}`,
      `127.0.0.1.evil.example:${port}`,
      '127.0.0.1',
      `[::1]:${port}`,
      `0.0.0.0:${port}`,
    ])
      for (const path of ['/', '/run', '/files/metrics.jsonl'])
        expect([Host, (await ask(address, path, { headers: { Host } })).status]).toEqual([Host, 403]);
    const others = Object.values(networkInterfaces()).flatMap((all) => all ?? []);
    for (const { address: other } of others.filter(({ internal, family }) => !internal && family === 'IPv4')) {
      const refused = await new Promise<boolean>((done) => {
        const socket = connect(Number(port), other, () => (socket.destroy(), done(false)));
        socket.on('error', () => done(true));
      });
      expect([other, refused]).toEqual([other, true]);
    }
  });

  it('is no path outside of the run, and nothing in it that the run did not write or nobody can read', async () => {
    writeFileSync(join(folder, 'outside.json'), '"outside"');
    mkdirSync(join(folder, 'elsewhere'), { recursive: true });
    writeFileSync(join(folder, 'elsewhere', 'inner.json'), '"outside"');
    const run = makeRun('one', ['link.json', 'linked/inner.json', 'folder.json']);
    symlinkSync(join(folder, 'outside.json'), join(run, 'link.json'));
    symlinkSync(join(folder, 'elsewhere'), join(run, 'linked'));
    mkdirSync(join(run, 'folder.json'));
    const { address } = await watched({ folder: run, runs: [''] });
    const climbs = ['..', '%2e%2e', '.%2E', '%252e%252e', '..%00'];
    const paths = [
      ...climbs.flatMap((up) => ['/', '%2f', '%5c', '\\'].map((slash) => `${up}${slash}outside.json`)),
      'metrics.jsonl/../../outside.json',
      'x/../metrics.jsonl',
      './metrics.jsonl',
      '/metrics.jsonl',
      'metrics.jsonl%00.png',
      '/etc/passwd',
      '%2fetc%2fpasswd',
      'file:///etc/passwd',
      join(folder, 'outside.json'),
      'secret.json',
      'state.safetensors',
      'link.json',
      'linked/inner.json',
      'folder.json',
      'constructor',
      '__proto__',
      '',
    ];
    for (const path of paths) {
      const { status, text } = await ask(address, `/files/${path}`);
      expect([path, status]).toEqual([path, expect.toSatisfy((code: number) => code === 404 || code === 400)]);
      expect(text).not.toMatch(/outside"|secret"|root:/);
    }
    for (const path of ['/../outside.json', '/%', '/constructor', '/__proto__', '/files', 'http://evil.example/'])
      expect([path, [400, 404].includes((await ask(address, path)).status)]).toEqual([path, true]);
  });

  it('is nothing of a run whose mark reaches beyond it, and of a folder that is no run yet', async () => {
    const run = makeRun('beyond', ['../outside.json']);
    const { address } = await watched({ folder: run, runs: ['', 'later'] });
    expect(JSON.parse((await ask(address, '/run')).text)).toMatchObject({ runs: [], files: [] });
    expect((await ask(address, '/files/metrics.jsonl')).status).toBe(404);
  });

  it('is refused in a line where a port is taken', async () => {
    const plan = { folder: makeRun('one'), runs: [''] };
    const { address } = await watched(plan);
    const { port } = new URL(address);
    await expect(watch(plan, Number(port))).rejects.toThrow(/port \d+ cannot be served .*choose another/);
  });
});

it('train serves its run while it goes on, and ends with it', async () => {
  const out = join(folder, 'trained');
  const few = ['--steps', '2', '--batch', '16', '--pool', '64', '--no-evaluate', '--out', out];
  const command = [resolve('bin/semiflow.js'), 'train', '--teacher', 'checkpoints/rf-checkerboard.safetensors', ...few];
  const program = spawn(process.execPath, [...command, '--watch']);
  const ends = new Promise((done) => program.on('close', done));
  let said = '';
  const address = await new Promise<string>((done, fail) => {
    program.stdout.on('data', (part) => {
      said += part;
      const found = /^watch it at (\S+)$/m.exec(said)?.[1];
      if (found) done(found);
    });
    program.stderr.on('data', (part) => (said += part));
    void ends.then(() => fail(new Error(said)));
  });
  // Who looks sees the end.
  let last = { ended: false, runs: [{ files: [{ name: '' }] }] };
  while (!last.ended) {
    last = JSON.parse((await ask(address, '/run')).text) as typeof last;
    await new Promise((done) => setTimeout(done, 100));
  }
  expect(last.runs[0].files.map(({ name }) => name)).toContain('report.html');
  // A student that is not evaluated is drawn beside real data all the same.
  expect(readFileSync(join(out, 'report.html'), 'utf8')).toContain('real, held out');
  expect((await ask(address, '/files/report.html')).text).toMatch(/^<!doctype html>/);
  expect(await ends).toBe(0);
  expect(readFileSync(join(out, 'metrics.jsonl'), 'utf8')).toContain('"step":2');
});

if (!chromiumPath) console.log('skipped: no /usr/bin/chromium, so the page of --watch is not opened');

it.skipIf(!chromiumPath)('its page draws what comes, chooses among runs by keys, and shows the report', async () => {
  const study = join(folder, 'study');
  const runs = ['fmap/seed-0', 'fmap/seed-1'];
  const [first, second] = runs.map((path) => makeRun(join('study', path)));
  const served = await watch({ folder: study, runs, files: ['study.html'] }, true);
  const chrome = await chromium.launch({ executablePath: chromiumPath, args: chromiumFlags });
  try {
    const page = await chrome.newPage({ viewport: { width: 1280, height: 900 } });
    const faults: string[] = [];
    page.on('pageerror', ({ message }) => faults.push(message));
    page.on('console', (message) => message.type() === 'error' && faults.push(message.text()));
    await page.addInitScript(`self.isBlue = ${isBlue}`);
    await page.goto(served.address);
    await page.getByText('3 of 10').waitFor();
    appendFileSync(join(second, 'metrics.jsonl'), line(4) + line(5).slice(0, 8));
    await page.getByText('4 of 10').waitFor();
    appendFileSync(join(second, 'metrics.jsonl'), line(5).slice(8));
    await page.getByText('5 of 10').waitFor();
    const curve = page.getByRole('img', { name: 'loss over the steps' });
    expect(await curve.evaluate((canvas) => isBlue(canvas as HTMLCanvasElement))).toBe(true);
    expect(
      await page.getByAltText(/flow-map/).evaluate((image: HTMLImageElement) => image.naturalWidth),
    ).toBeGreaterThan(0);
    const other = page.getByRole('button', { name: /seed-0/ });
    await other.focus();
    await page.keyboard.press('Enter');
    await page.getByText('3 of 10').waitFor();
    // As after a resumption: the log is cut back.
    writeFileSync(join(first, 'metrics.jsonl'), line(1));
    await page.getByText('1 of 10').waitFor();
    for (const colorScheme of ['light', 'dark'] as const)
      for (const width of [1280, 360]) {
        await page.setViewportSize({ width, height: 800 });
        await page.emulateMedia({ colorScheme });
        expect(await seriousFaults(page)).toEqual([]);
        expect(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth)).toBe(true);
      }
    writeFileSync(join(study, 'study.html'), renderReport({ title: 'What came of it', sections: [] }));
    const ending = served.end();
    await page.getByText('The run has ended.').waitFor();
    expect(await page.frameLocator('iframe').getByRole('heading').textContent()).toBe('What came of it');
    await ending;
    expect(faults).toEqual([]);
  } finally {
    await chrome.close();
  }
});

/** Runs in the page: whether something is drawn in the colour of flow maps, not in that of the text. */
function isBlue(canvas: HTMLCanvasElement): boolean {
  const { data } = canvas.getContext('2d')!.getImageData(0, 0, canvas.width, canvas.height);
  for (let at = 0; at < data.length; at += 4) if (data[at + 3] > 200 && data[at + 2] > data[at] + 60) return true;
  return false;
}
