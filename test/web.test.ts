import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { deflateSync, gzipSync } from 'node:zlib';
import { chromium, type Browser, type Page } from 'playwright-core';
import { build, preview, type PreviewServer } from 'vite';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openDevice } from '../node/device.js';
import { fileSource } from '../node/files.js';
import { bytesSource } from '../src/files/source.js';
import { openSafetensors } from '../src/checkpoint/safetensors.js';
import { namedDataset } from '../src/data/named.js';
import { loadNetwork, type Network } from '../src/flow/network.js';
import { drawSamples } from '../src/flow/sampling.js';
import type { Device } from '../src/gpu/device.js';
import { drift } from '../src/metrics/flow-map.js';
import { distillationDefaults } from '../trainers/config.js';
import { distil } from '../trainers/runs.js';
import type { DistilNews, Edited, FromWorker, SampleTile, TeacherNews, Walk } from '../web/protocol.js';
import { chunk, pngSignature } from './png-maker.js';
import { seriousFaults } from './support/axe.js';
import { chromiumFlags, chromiumPath } from './support/chromium.js';
import { full } from './support/full.js';

if (!chromiumPath) console.log('skipped: no /usr/bin/chromium, so the page is not driven');

const folder = mkdtempSync(join(tmpdir(), 'semiflow-web-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

beforeAll(async () => {
  await build({ root: 'web', logLevel: 'error', build: { outDir: folder } });
});

it('the page is small before any model, and holds nothing of Node, of the driver or of drawing', () => {
  const scripts = readdirSync(join(folder, 'assets')).filter((name) => name.endsWith('.js'));
  const texts = scripts.map((name) => readFileSync(join(folder, 'assets', name)));
  for (const text of texts)
    for (const foreign of [/["'`]node:/, /["'`]webgpu["'`]/, /vega/i]) expect(text.toString()).not.toMatch(foreign);
  const size = texts.reduce((sum, text) => sum + gzipSync(text).length, 0);
  console.log(`the page has ${(size / 1000).toFixed(0)} kB of JavaScript gzipped`);
  expect(size).toBeLessThan(300_000);
});

/** Runs in the worker before its own script: counts bytes of buffers, and keeps the device so that it can be lost. */
const spy = `{
  const make = GPUDevice.prototype.createBuffer;
  self.bytes = 0;
  GPUDevice.prototype.createBuffer = function (descriptor) {
    const buffer = make.call(this, descriptor);
    const destroy = buffer.destroy.bind(buffer);
    let held = descriptor.size;
    self.bytes += held;
    buffer.destroy = () => { self.bytes -= held; held = 0; destroy(); };
    self.device = this;
    return buffer;
  };
}`;

/** Keeps what the worker says, for the test. */
const listen = `{
  const { Worker } = self;
  self.heard = [];
  self.Worker = class extends Worker {
    constructor(...given) {
      super(...given);
      this.addEventListener('message', ({ data }) => self.heard.push(data));
    }
  };
}`;

/** Milliseconds: a processor that plays GPU beside another test is slow. */
const patience = 280_000;

describe.skipIf(!chromiumPath)('the page in headless Chromium', () => {
  let server: PreviewServer;
  let chrome: Browser;
  let page: Page;
  let device: Device;
  let address: string;
  const faults: string[] = [];
  const requests: string[] = [];

  /** A page whose worker runs a script first. */
  async function opened(before: string, part = ''): Promise<Page> {
    const made = await chrome.newPage({ viewport: { width: 1280, height: 900 }, acceptDownloads: true });
    made.setDefaultTimeout(patience);
    await made.addInitScript(listen);
    await made.route(/assets\/main-.*\.js/, async (route) => {
      const answer = await route.fetch();
      await route.fulfill({ response: answer, body: before + (await answer.text()) });
    });
    made.on('pageerror', ({ message }) => faults.push(message));
    made.on('console', (message) => message.type() === 'error' && faults.push(message.text()));
    made.on('request', (request) => requests.push(request.url()));
    await made.goto(address + part);
    return made;
  }

  beforeAll(async () => {
    device = await openDevice({});
    server = await preview({ root: 'web', build: { outDir: folder }, preview: { port: 0 }, logLevel: 'warn' });
    address = server.resolvedUrls!.local[0];
    chrome = await chromium.launch({ executablePath: chromiumPath, args: chromiumFlags, timeout: patience });
    page = await opened(spy, '#distil');
  });
  afterAll(async () => {
    await chrome?.close();
    await server?.close();
    device?.dispose();
  });

  /** What the worker said from a message on, once there is something that fits. */
  async function hear<Heard>(fits: (part: object) => part is Heard & object, count = 1): Promise<Heard[]> {
    for (;;) {
      const all = (await page.evaluate(() =>
        (self as unknown as { heard: unknown[] }).heard.map((message) =>
          JSON.parse(
            JSON.stringify(message, (_, value) => (ArrayBuffer.isView(value) ? [...(value as Float32Array)] : value)),
          ),
        ),
      )) as FromWorker[];
      const failure = all.find((message) => 'failure' in message && message.failure !== 'cancelled');
      if (failure) throw new Error(JSON.stringify(failure));
      const parts = all.flatMap((message) => ('part' in message ? [message.part as object] : []));
      const found = parts.filter(fits) as Heard[];
      if (found.length >= count) return found;
      await page.waitForTimeout(200);
    }
  }
  const forget = () => page.evaluate(() => void ((self as unknown as { heard: unknown[] }).heard.length = 0));
  const isTile = (part: object): part is SampleTile => 'schedule' in part;
  const isWalk = (part: object): part is Walk => 'stops' in part;
  const isLook = (part: object): part is Extract<DistilNews, { look: unknown }> => 'look' in part;

  const expectSame = (a: ArrayLike<number>, b: ArrayLike<number>) => {
    expect(a.length).toBe(b.length);
    const worst = Array.from(a).reduce((largest, value, i) => Math.max(largest, Math.abs(value - b[i])), 0);
    console.log(`samples in Chromium differ from Node's by ${worst.toExponential(1)} at most`);
    expect(worst).toBeLessThan(1e-4);
  };
  const shipped = async (name: string): Promise<Network> =>
    loadNetwork(await openSafetensors(await fileSource(`checkpoints/${name}.safetensors`)));

  it("draws Node's samples of the same seed, and draws anew where a stop is moved by keys", async () => {
    await page.evaluate(() => (location.hash = '#sample/checkerboard'));
    const tiles = await hear(isTile, 8);
    const map = await shipped('flow-map-checkerboard');
    const count = tiles[0].x.length / 2;
    for (const [schedule, steps] of [1, 2, 4, 8].entries()) {
      const { x } = await drawSamples(device, map, { count, seed: 0, steps });
      const tile = tiles.find(({ member, schedule: own }) => member === 'flow map' && own === schedule)!;
      expectSame(tile.x, x);
    }
    await forget();
    const stop = page.getByRole('group', { name: 'times of 2 calls' }).getByRole('slider');
    await stop.focus();
    await page.keyboard.press('Shift+ArrowRight');
    expect(await stop.getAttribute('aria-valuenow')).toBe('0.40');
    const [moved] = await hear(isTile);
    const { x } = await drawSamples(device, map, { count, seed: 0, steps: [1, 0.4, 0] });
    expectSame(moved.x, x);
  });

  it('takes no more memory the more often it samples', async () => {
    const [worker] = page.workers();
    const held = () => worker.evaluate(() => (self as unknown as { bytes: number }).bytes);
    const again = async () => {
      await forget();
      await page.getByRole('button', { name: 'Other noise' }).first().click();
      await hear(isTile, 8);
    };
    await again();
    const before = await held();
    for (let i = 0; i < (full ? 100 : 3); i++) await again();
    expect(await held()).toBe(before);
  });

  it('shows the networks that were chosen last, whichever are read first', async () => {
    await forget();
    const networks = page.locator('#sample select').first();
    await networks.selectOption('fashion');
    await networks.selectOption('checkerboard');
    await hear((part): part is SampleTile => isTile(part) && part.x.length % 784 > 0, 8);
    expect(await page.locator('#sample').getByText('Class').isVisible()).toBe(false);
    expect(await hear(isTile)).toHaveLength(8);
  });

  it('walks by hops and in one jump, and its handles move by keys alone', async () => {
    await forget();
    await page.evaluate(() => (location.hash = '#operator/checkerboard'));
    const handle = page.getByRole('slider', { name: 'stop 1 of 2' });
    await hear(isWalk, 3);
    await forget();
    await handle.focus();
    await page.keyboard.press('ArrowDown');
    expect(await handle.getAttribute('aria-valuenow')).toBe('0.59');
    const walks = await hear(isWalk, 3);
    expect(walks.map(({ operator }) => operator)).toEqual(['map', 'endpoint', 'euler']);
    for (const { stops, direct, drift: told } of walks) {
      expect(stops).toHaveLength(4);
      expect(told).toBeCloseTo(drift(direct, stops[3], 2), 6);
    }
    const [map, endpoint, euler] = walks;
    expect(map.drift).toBeLessThan(0.01);
    expect(endpoint.drift).toBeGreaterThan(map.drift);
    expect(euler.drift).toBeGreaterThan(endpoint.drift);
    await page
      .getByText(/^Δ₃ = /)
      .first()
      .waitFor();
  });

  it("trains with Node's losses, goes on by other knobs, and saves what Node reads", async () => {
    const [steps, batch] = full ? [200, 512] : [12, 64];
    const more = steps + 2;
    await forget();
    await page.evaluate(() => (location.hash = '#distil'));
    const field = (name: string) => page.getByLabel(name, { exact: true });
    for (const [name, value] of [
      ['Steps', steps],
      ['Batch', batch],
    ] as const) {
      await field(name).fill(String(value));
      await field(name).press('Enter');
    }
    await page.getByRole('button', { name: 'Start', exact: true }).click();
    await page.getByText(`Done: ${steps} steps`).waitFor();
    const recipe = { ...distillationDefaults([2], 'velocity'), steps, batch };
    const subject = { device, teacher: await shipped('rf-checkerboard'), data: namedDataset('checkerboard') };
    const training = await distil(subject, recipe);
    const losses: number[] = [];
    for await (const { loss } of training) losses.push(loss);
    training.dispose();
    const isLosses = (part: object): part is Extract<DistilNews, { losses: unknown }> => 'losses' in part;
    const told = (await hear(isLosses)).flatMap((part) => part.losses);
    expect(told.map(({ step }) => step)).toEqual(losses.map((_, i) => i + 1));
    const worst = told.reduce((most, { loss }, i) => Math.max(most, Math.abs(loss / losses[i] - 1)), 0);
    console.log(`losses of ${steps} steps in Chromium differ from Node's by ${worst.toExponential(1)} at most`);
    expect(worst).toBeLessThan(1e-3);

    await forget();
    await field('Steps').fill(String(more));
    await field('Steps').press('Enter');
    await page.getByText('Turned.').waitFor();
    await page.getByRole('button', { name: 'Go on', exact: true }).click();
    await page.getByText(`Done: ${more} steps`).waitFor();
    expect((await hear(isLosses)).flatMap((part) => part.losses).map(({ step }) => step)).toEqual([steps + 1, more]);
    const [download] = await Promise.all([
      page.waitForEvent('download'),
      page.getByRole('button', { name: 'Save', exact: true }).click(),
    ]);
    const bytes = new Uint8Array(readFileSync(await download.path()));
    const saved = await loadNetwork(await openSafetensors(bytesSource(bytes, 'student.safetensors')));
    expect(saved.description.role).toBe('flow-map');
    const { look } = (await hear(isLook)).at(-1)!;
    const { x } = await drawSamples(device, saved, { count: look.x.length / 2, seed: 0, steps: 1 });
    expectSame(look.x, x);
  });

  it('says what a file is and what is missing', async () => {
    await page.evaluate(() => (location.hash = '#open'));
    await page.getByLabel('Drop a file here').setInputFiles('checkpoints/rf-checkerboard.safetensors');
    await page.getByText('rf-checkerboard.safetensors: a teacher').waitFor();
    await forget();
    await page.getByRole('link', { name: 'sample it' }).click();
    expect((await hear(isTile, 4)).every(({ member }) => member === 'teacher')).toBe(true);
    await page.evaluate(() => (location.hash = '#open'));
    await page.getByLabel('Drop a file here').setInputFiles('package.json');
    await page.getByText('A description alone says nothing').waitFor();
    await page.getByLabel('Drop a file here').setInputFiles('README.md');
    await page.getByText(/README.md is no safetensors file/).waitFor();
  });

  it('trains a teacher of another data set, which is enough where one says so, and distils it, in the background too', async () => {
    // What a tab has that nobody looks at: no frames, and a timer a second.
    await page.evaluate(() => {
      const { setTimeout, requestAnimationFrame } = self;
      Object.defineProperty(document, 'visibilityState', { value: 'hidden', configurable: true });
      self.requestAnimationFrame = () => 0;
      self.setTimeout = ((work: () => void, delay = 0) => setTimeout(work, Math.max(1000, delay))) as typeof setTimeout;
      Object.assign(self, { seen: () => Object.assign(self, { setTimeout, requestAnimationFrame }) });
    });
    await page.evaluate(() => (location.hash = '#distil'));
    await forget();
    const part = page.locator('#distil');
    await part.locator('.controls select').selectOption('moons');
    await part.getByText('A teacher of moons is to be trained first.').waitFor();
    await part.getByRole('button', { name: 'Train the teacher' }).click();
    await hear((news): news is Extract<TeacherNews, { samples: unknown }> => 'samples' in news);
    await part.getByRole('button', { name: 'Enough' }).click();
    await part.getByText('The teacher of moons is trained').waitFor();
    await part.getByLabel('Steps', { exact: true }).fill('2');
    await part.getByLabel('Steps', { exact: true }).press('Enter');
    await part.getByRole('button', { name: 'Start', exact: true }).click();
    await part.getByText('Done: 2 steps').waitFor();
    await page.evaluate(() => {
      Object.defineProperty(document, 'visibilityState', { value: 'visible', configurable: true });
      (self as unknown as { seen(): void }).seen();
    });
    await page.evaluate(() => (location.hash = '#sample/taught-moons'));
    await forget();
    const tiles = await hear(isTile, 4);
    expect(tiles.every(({ member, x }) => member === 'teacher' && x.every(Number.isFinite))).toBe(true);
  });

  it('fills what is brushed on a picture of one’s own by four paradigms, and leaves the rest as it is', async () => {
    const side = 28;
    const grey = Uint8Array.from({ length: side * side }, (_, i) => (37 * i) % 256);
    const rows = Array.from({ length: side }, (_, y) => Buffer.from([0, ...grey.subarray(y * side, (y + 1) * side)]));
    const head = Buffer.from([0, 0, 0, side, 0, 0, 0, side, 8, 0, 0, 0, 0]);
    const data = chunk('IDAT', deflateSync(Buffer.concat(rows)));
    const buffer = Buffer.concat([pngSignature, chunk('IHDR', head), data, chunk('IEND')]);
    const isEdited = (part: object): part is Edited => 'name' in part && 'x' in part;
    const edit = page.locator('#edit');
    await page.evaluate(() => (location.hash = '#edit/fashion'));
    await forget();
    await hear(isEdited);
    const own = edit.getByLabel('A picture of your own');
    await own.setInputFiles('README.md');
    await edit.getByText('this file is no picture that the browser can read').waitFor();
    await edit.getByRole('slider', { name: 'Calls of the network' }).fill('1');
    await own.setInputFiles({ name: 'own.png', mimeType: 'image/png', buffer });
    const isOwn = (part: object): part is Edited => isEdited(part) && Math.abs(part.x[0] + 1) < 1e-5;
    await hear(isOwn, 4);
    await forget();
    await edit.getByRole('button', { name: 'Clear' }).click();
    await edit.locator('canvas.brush').focus();
    await page.keyboard.press('Space');
    const fillings = await hear(isOwn, 4);
    expect(new Set(fillings.map(({ name }) => name)).size).toBe(4);
    // The brush, of radius 3, stands in the middle.
    const brushed = (i: number) => Math.hypot((i % side) - 14, Math.floor(i / side) - 14) < 3;
    for (const { x } of fillings) {
      const changed = [...x].flatMap((value, i) =>
        Math.abs(value - (2 * grey[i % grey.length]) / 255 + 1) > 1e-5 ? [i % grey.length] : [],
      );
      expect(changed.filter((i) => !brushed(i))).toEqual([]);
      expect(changed.length).toBeGreaterThan(0.9 * 4 * [...grey.keys()].filter(brushed).length);
    }
  });

  it('is found nothing serious by axe-core, and has room at 360 pixels, in light and dark', async () => {
    const looks = (['light', 'dark'] as const).flatMap((colorScheme) =>
      [1280, 360].map((width) => ({ colorScheme, width })),
    );
    for (const { colorScheme, width } of full ? looks : [looks[1], looks[2]]) {
      await page.setViewportSize({ width, height: 800 });
      await page.emulateMedia({ colorScheme });
      for (const part of ['sample', 'operator', 'distil', 'open', 'edit']) {
        await page.evaluate((name) => (location.hash = `#${name}`), part);
        await page.locator(`#${part}`).waitFor();
        const wide = await page.evaluate(() => document.documentElement.scrollWidth > innerWidth);
        const where = { part, colorScheme, width };
        expect({ ...where, wide, faults: await seriousFaults(page) }).toEqual({ ...where, wide: false, faults: [] });
      }
    }
  });

  it('asks nobody else for anything, and complains of nothing', () => {
    expect(requests.length).toBeGreaterThan(3);
    expect(requests.filter((url) => !url.startsWith(address) && !/^(blob|data):/.test(url))).toEqual([]);
    expect(faults).toEqual([]);
  });

  it('works where the adapter has no f16, no subgroups, 8 storage buffers and bindings of 128 MiB', async () => {
    const least = `{
      const limits = { maxStorageBuffersPerShaderStage: 8, maxStorageBufferBindingSize: 2 ** 27, maxBufferSize: 2 ** 28 };
      const { get } = Object.getOwnPropertyDescriptor(GPUAdapter.prototype, 'limits');
      Object.defineProperty(GPUAdapter.prototype, 'limits', {
        get() {
          const all = get.call(this);
          return new Proxy(all, { get: (_, name) => limits[name] ?? all[name] });
        },
      });
      Object.defineProperty(GPUAdapter.prototype, 'features', { get: () => new Set() });
      const { requestDevice } = GPUAdapter.prototype;
      self.asked = [];
      GPUAdapter.prototype.requestDevice = function (descriptor) {
        self.asked.push(JSON.stringify(descriptor ?? {}));
        return requestDevice.call(this, descriptor);
      };
    }`;
    const before = page;
    page = await opened(least, '#sample/checkerboard');
    try {
      const tiles = await hear(isTile, 8);
      const map = await shipped('flow-map-checkerboard');
      const tile = tiles.find(({ member, schedule }) => member === 'flow map' && schedule === 3)!;
      const { x } = await drawSamples(device, map, { count: tile.x.length / 2, seed: 0, steps: 8 });
      expectSame(tile.x, x);
      const asked = await page.workers()[0].evaluate(() => (self as unknown as { asked: string[] }).asked.join());
      expect(asked).toMatch(/requiredLimits/);
      expect(asked).not.toMatch(/f16|subgroups/);
    } finally {
      await page.close();
      page = before;
    }
  });

  it('says in a sentence what to do where the device is lost, and where there is no WebGPU', async () => {
    const [worker] = page.workers();
    await worker.evaluate(() => (self as unknown as { device: GPUDevice }).device.destroy());
    await page
      .getByRole('alert')
      .getByText(/the device was lost .*open it anew/i)
      .waitFor();
    expect(await page.getByRole('button', { name: 'Begin anew' }).isVisible()).toBe(true);
    const without = await opened("Object.defineProperty(navigator, 'gpu', { value: undefined });");
    await without
      .getByRole('alert')
      .getByText(/take a browser with WebGPU/)
      .waitFor();
  });
});
