import { existsSync } from 'node:fs';
import { lstat, readFile, realpath } from 'node:fs/promises';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { basename, extname, join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileSource } from '../node/files.js';
import { folderStore } from '../node/folder.js';
import { UserError } from '../src/errors.js';
import type { Device } from '../src/gpu/device.js';
import { isViewable, viewableFiles, type Watched, type WatchedFile, type WatchedRun } from '../trainers/watched.js';

/** What is watched: a run, or a study with its runs. */
export interface WatchPlan {
  folder: string;
  /** Paths of the runs below the folder; empty for the folder itself. */
  runs: readonly string[];
  /** Files that a study itself writes. */
  files?: readonly string[];
}

/** A server on its way. */
export interface Watch {
  readonly address: string;
  /** The run is over: whoever looks sees the last of it, then the server closes. */
  end(): Promise<void>;
}

/** Milliseconds: who has asked within `lately` is looking, and is waited for, but no longer than `patience`. */
const [lately, patience] = [3000, 20_000];

const types: Readonly<Record<string, string>> = {
  '.css': 'text/css; charset=utf-8',
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.json': 'application/json; charset=utf-8',
  '.png': 'image/png',
};
const typeOf = (name: string): string => types[extname(name)] ?? 'text/plain; charset=utf-8';

const own = "'self'";
const policies = {
  /** Of the page: its own files, and a frame for the report. */
  page: `default-src 'none'; script-src ${own}; style-src ${own}; img-src ${own} data:; connect-src ${own}; frame-src ${own}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'`,
  /** Of a run's own files: pictures and styles within them, and nothing that runs. */
  file: `sandbox; default-src 'none'; img-src data:; style-src 'unsafe-inline'; frame-ancestors ${own}`,
};

/** `watch` where the flag is given, with its address on the terminal; null elsewhere, and on all ranks but the first. */
export async function watchIf(
  port: number | true | undefined,
  { group }: Device,
  plan: WatchPlan,
): Promise<Watch | null> {
  if (port === undefined || group.rank) return null;
  const started = await watch(plan, port);
  console.log(`watch it at ${started.address}`);
  return started;
}

/**
 * Serves runs while they go on, to this machine alone: the page of `--watch`, what their marks say they wrote, and nothing
 * else. Nothing can be sent to it.
 * @param port as `--watch` gives it; true chooses one that is free
 * @throws UserError where the port is taken
 */
export async function watch(plan: WatchPlan, port: number | true): Promise<Watch> {
  const page = await pageFiles();
  let [ended, asked] = [false, -Infinity];
  const server = createServer((request, response) => {
    asked = performance.now();
    void answer(request, response).catch(() => response.destroy());
  });

  async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { port: bound } = server.address() as AddressInfo;
    const send = (status: number, content: string | Uint8Array, type: string, more: Record<string, string> = {}) => {
      response.writeHead(status, {
        'Content-Type': type,
        'Content-Length': Buffer.byteLength(content),
        'Content-Security-Policy': policies.page,
        'Cross-Origin-Resource-Policy': 'same-origin',
        'Referrer-Policy': 'no-referrer',
        'X-Content-Type-Options': 'nosniff',
        'Cache-Control': 'no-store',
        ...more,
      });
      response.end(request.method === 'HEAD' ? undefined : content);
    };
    const refuse = (status: number, why: string, more?: Record<string, string>) =>
      send(status, `${why}\n`, 'text/plain; charset=utf-8', more);
    // Another name that leads here is how a page from elsewhere would read what is served.
    if (![`127.0.0.1:${bound}`, `localhost:${bound}`].includes(request.headers.host ?? ''))
      return refuse(403, 'only this machine is served, by its own name');
    if (request.method !== 'GET' && request.method !== 'HEAD')
      return refuse(405, 'there is nothing to write to', { Allow: 'GET, HEAD' });
    const path = pathOf(request.url);
    if (path === null) return refuse(400, 'that is no path');
    const file = path === '' ? 'index.html' : path;
    if (Object.hasOwn(page, file)) return send(200, page[file], typeOf(file));
    if (path === 'run') return send(200, JSON.stringify(await seen(plan, ended)), types['.json']);
    const place = path.startsWith('files/') ? await placeOf(plan, path.slice('files/'.length)) : null;
    if (!place) return refuse(404, 'there is no such file of the run');
    const source = await fileSource(place);
    const [, first, last] = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? '') ?? [];
    const [from, to] = [Number(first ?? 0), Math.min(last ? Number(last) + 1 : source.size, source.size)];
    if (first !== undefined && from >= to) return refuse(416, 'there are no such bytes');
    const bytes = await source.read(from, to - from);
    const headers = { 'Content-Security-Policy': policies.file, 'Accept-Ranges': 'bytes' };
    if (first === undefined) return send(200, bytes, typeOf(place), headers);
    const range = { 'Content-Range': `bytes ${from}-${from + bytes.length - 1}/${source.size}` };
    send(206, bytes, typeOf(place), { ...headers, ...range });
  }

  await new Promise<void>((done, fail) => {
    server.once('error', (error: NodeJS.ErrnoException) =>
      fail(new UserError(`port ${port} cannot be served (${error.code}): choose another, or leave it out`, 'watch')),
    );
    server.listen(port === true ? 0 : port, '127.0.0.1', done);
  });
  // A run that fails is not kept from ending.
  server.unref();
  const { port: bound } = server.address() as AddressInfo;
  return {
    address: `http://127.0.0.1:${bound}/`,
    end: async () => {
      ended = true;
      const started = performance.now();
      // Who looks asks once more for the run, then for the pictures and the report that are new in it, and then no more.
      while (performance.now() - asked < lately && performance.now() - started < patience) await sleep(100);
      server.close();
      server.closeAllConnections();
    },
  };
}

/** The page's files: made with the package, or of their sources in a clone. */
async function pageFiles(): Promise<Readonly<Record<string, string>>> {
  const made = new URL('../watch/', import.meta.url);
  if (existsSync(made)) {
    const names = ['index.html', 'style.css', 'watch.js'];
    const texts = names.map(async (name) => [name, await readFile(new URL(name, made), 'utf8')] as const);
    return Object.fromEntries(await Promise.all(texts));
  }
  const script = new URL('../scripts/watch-page.js', import.meta.url);
  const { watchPage } = (await import(script.href)) as { watchPage(): Promise<Record<string, string>> };
  return watchPage();
}

/** The path of an address without its first slash; null where it is none. */
function pathOf(url = '/'): string | null {
  try {
    return decodeURIComponent(url.replace(/[?#].*$/, '')).slice(1);
  } catch {
    return null;
  }
}

/** The runs of a plan that have begun, with what can be looked at of each. */
async function begun({ folder, runs }: WatchPlan) {
  const all = runs.map(async (path) => ({ path, found: await viewableFiles(folderStore(join(folder, path))) }));
  return (await Promise.all(all)).flatMap(({ path, found }) => (found ? [{ path, ...found }] : []));
}

/** What there is to be seen now. */
async function seen(plan: WatchPlan, ended: boolean): Promise<Watched> {
  const runs = await Promise.all(
    (await begun(plan)).map(async ({ path, kind, steps, names }): Promise<WatchedRun> => {
      const files = await filesOf(join(plan.folder, path), names);
      return { path, kind, steps, files, changed: Math.max(0, ...files.map(({ changed }) => changed)) };
    }),
  );
  return { name: basename(resolve(plan.folder)), runs, files: await filesOf(plan.folder, plan.files ?? []), ended };
}

async function filesOf(folder: string, names: readonly string[]): Promise<WatchedFile[]> {
  const all = names.map(async (name) => {
    const file = await lstat(join(folder, name)).catch(() => null);
    return file?.isFile() ? [{ name, size: file.size, changed: Math.floor(file.mtimeMs) }] : [];
  });
  return (await Promise.all(all)).flat();
}

/**
 * Where a file of the plan lies: one that a run's mark or the plan names, and that no link leads away from it.
 * @returns null for every other path
 */
async function placeOf(plan: WatchPlan, path: string): Promise<string | null> {
  const names = (await begun(plan)).flatMap(({ path: run, names }) =>
    names.map((name) => (run ? `${run}/${name}` : name)),
  );
  if (![...names, ...(plan.files ?? []).filter(isViewable)].includes(path)) return null;
  const place = join(plan.folder, path);
  try {
    const [real, root] = await Promise.all([realpath(place), realpath(plan.folder)]);
    return real === join(root, path) && (await lstat(place)).isFile() ? place : null;
  } catch {
    return null;
  }
}
