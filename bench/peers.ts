// semiflow beside other WebGPU engines on the same adapter: `npm run bench -- --peers`. Every engine runs in a process of
// its own; a result is held against float64 before its time counts; rounds are interleaved and medians compared.
import { fork, spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { availableParallelism, cpus } from 'node:os';
import { createInterface } from 'node:readline';
import { parseArgs } from 'node:util';
import { openDevice } from '../node/device.js';
import { markdownTable, textTable, type Table } from '../src/report/table.js';
import { cases, flopsOf, inputsOf, modesOf, type Case, type Mode } from './peers/cases.js';
import { reference } from './peers/float64.js';
import { networks } from './peers/networks.js';
import type { Reply, Request } from './peers/worker.js';

const everyMode: readonly Mode[] = ['forward', 'forward+backward', 'step'];
const folder = new URL('./peers/', import.meta.url);
const tolerance = 2e-4;
/** A whole network may take minutes to compile. */
const patience = (request: Request) => (request.mode === 'step' ? 400_000 : 120_000);

interface Peer {
  name: string;
  /** Answers one request, or says why it cannot. */
  ask(request: Request, c: Case): Promise<Reply>;
  /** onnxruntime-web has no gradients. */
  modes: readonly Mode[];
  /** Whether its results can be read: only times of a yardstick are. */
  checked: boolean;
  stop(): void;
}

async function webgpuPeer(name: string, file: string, modes = everyMode, env = {}): Promise<Peer> {
  const start = async () => {
    const options = { execArgv: ['--import', 'tsx'], silent: true, env: { ...process.env, ...env } };
    const started = fork(new URL(file, folder), [], options);
    await answerOf(started);
    started.kill('SIGSTOP');
    return started;
  };
  let child = await start();
  return {
    name,
    modes,
    checked: true,
    ask: async (request) => {
      child.kill('SIGCONT');
      child.send(request);
      try {
        const reply = (await answerOf(child, patience(request))) as Reply;
        if (reply.error) throw new Error(reply.error);
        // Some engines keep a core busy while they wait: whoever is not asked stands still.
        child.kill('SIGSTOP');
        return reply;
      } catch (error) {
        // What failed once may stay broken, or answer late.
        child.kill('SIGKILL');
        child = await start();
        throw error;
      }
    },
    stop: () => child.kill('SIGKILL'),
  };
}

function answerOf(child: ChildProcess, milliseconds = 120_000): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(
      () => done(() => reject(new Error(`no answer in ${milliseconds / 1000} s`))),
      milliseconds,
    );
    const onMessage = (message: unknown) => done(() => resolve(message));
    const onExit = () => done(() => reject(new Error('the process ended')));
    const done = (then: () => void) => {
      clearTimeout(timer);
      child.off('message', onMessage).off('exit', onExit);
      then();
    };
    child.on('message', onMessage).on('exit', onExit);
  });
}

/** PyTorch in one of its ways: `cpu f32 eager`, `cuda f16 compiled`. */
async function torchPeer(way: string): Promise<Peer> {
  const hasTorch = (python: string) => spawnSync(python, ['-c', 'import torch']).status === 0;
  const interpreter = ['python3', '/usr/bin/python3'].find(hasTorch);
  if (!interpreter) throw new Error('no python3 here has torch (apt-get install python3-torch)');
  const python = spawn(interpreter, ['torch_peer.py', ...way.split(' ')], { cwd: folder });
  let complaint = '';
  python.stderr.on('data', (text: Buffer) => (complaint = text.toString().trim().split('\n').at(-1)!));
  const lines = createInterface({ input: python.stdout })[Symbol.asyncIterator]();
  if ((await lines.next()).done) throw new Error(complaint);
  return {
    name: `PyTorch ${way}`,
    modes: everyMode,
    checked: false,
    ask: async (request, c) => {
      const shapes = inputsOf(c).map(({ shape }) => shape);
      const names = c.kind === 'step' ? Object.keys(networks[c.network].parameters) : [];
      python.stdin.write(`${JSON.stringify({ ...request, case: c, shapes, names })}\n`);
      const { done, value } = await lines.next();
      return done ? ({ error: complaint } as Reply) : ({ values: [], ...JSON.parse(value as string) } as Reply);
    },
    stop: () => python.kill(),
  };
}

const median = (values: number[]) => [...values].sort((a, b) => a - b)[values.length >> 1];
const sampled = (size: number) =>
  Array.from({ length: 48 }, (_, i) => Math.floor(((i + 0.5) * 0.61803398875 * size) % size));

interface Cell {
  peer: string;
  milliseconds?: number;
  processor?: number;
  error?: string;
}

const truths = new Map<string, Float64Array>();

/** Times of one case on every peer; a peer that is wrong or fails says so in place of a time. */
async function measure(c: Case, mode: Mode, peers: Peer[], rounds: number): Promise<Cell[]> {
  const truth = truths.get(c.name) ?? reference(c);
  truths.set(c.name, truth);
  const indices = sampled(truth.length);
  const expected = indices.map((index) => truth[index]);
  const scale = Math.max(...expected.map(Math.abs));
  const running: { peer: Peer; repeats: number; times: number[]; processor: number[]; error?: string }[] = [];
  for (const peer of peers) {
    if (!peer.modes.includes(mode)) {
      running.push({ peer, repeats: 0, times: [], processor: [], error: '' });
      continue;
    }
    const entry = { peer, repeats: 1, times: [] as number[], processor: [] as number[] };
    const asked = { name: c.name, mode, repeats: 1, indices: peer.checked ? indices : [] };
    const reply = await peer.ask(asked, c).catch((error: Error) => ({ error: error.message }) as Reply);
    const worst = Math.max(0, ...(reply.values ?? []).map((value, i) => Math.abs(value - expected[i]))) / scale;
    // What cannot do a case is left out of it.
    const error = reply.error ?? (worst < tolerance ? undefined : `wrong by ${worst.toExponential(1)}`);
    running.push({ ...entry, repeats: Math.max(1, Math.min(50, Math.round(100 / reply.milliseconds))), error });
  }
  for (let round = 0; round < rounds; round++) {
    for (const entry of running) {
      if (entry.error !== undefined) continue;
      const reply = await entry.peer.ask({ name: c.name, mode, repeats: entry.repeats, indices: [] }, c);
      entry.times.push(reply.milliseconds);
      entry.processor.push(reply.processor);
    }
  }
  return running.map(({ peer, times, processor, error }) =>
    error !== undefined
      ? { peer: peer.name, error }
      : { peer: peer.name, milliseconds: median(times), processor: median(processor) },
  );
}

const { values: flags } = parseArgs({
  options: {
    peers: { type: 'boolean' },
    half: { type: 'boolean', default: false },
    only: { type: 'string', default: '' },
    torch: { type: 'string', default: 'cpu f32 eager' },
    rounds: { type: 'string', default: '5' },
    out: { type: 'string', default: 'bench/results' },
  },
});
const installed = existsSync(new URL('node_modules', folder));
if (!installed) console.log('the other engines are not installed: npm install --prefix bench/peers');
const device = await openDevice({ toggles: 'fast' });
const { description } = device.profile;
device.dispose();

const peers: Peer[] = [await webgpuPeer('semiflow', 'semiflow.ts')];
// Its results are those of f32, which have been checked: steps in half are for their time.
if (flags.half) peers.push(await webgpuPeer('semiflow f16', 'semiflow.ts', ['step'], { PRECISION: 'f16' }));
for (const [name, file, modes] of [
  ['jax-js', 'jax.ts', everyMode],
  ['tfjs', 'tfjs.ts', everyMode],
  ['onnxruntime-web', 'ort.ts', ['forward'] as Mode[]],
] as const) {
  if (!installed) break;
  await webgpuPeer(name, file, modes).then(
    (peer) => peers.push(peer),
    (error: Error) => console.log(`${name} does not run here: ${error.message}`),
  );
}
for (const way of flags.torch.split(',').filter(Boolean)) {
  await torchPeer(way).then(
    (peer) => peers.push(peer),
    (error: Error) => console.log(`PyTorch ${way} does not run here: ${error.message}`),
  );
}

const wanted = cases.filter(({ name }) => flags.only.split(',').some((part) => name.includes(part)));
const rivals = peers
  .map(({ name }) => name)
  .filter((name) => !name.startsWith('semiflow') && !name.startsWith('PyTorch'));
const rows: string[][] = [];
const results: object[] = [];
const ratios: number[] = [];
for (const mode of everyMode) {
  for (const c of wanted.filter((each) => modesOf(each).includes(mode))) {
    const cells = await measure(c, mode, peers, Number(flags.rounds));
    const [own] = cells;
    const flops = flopsOf(c, mode);
    const best = Math.min(
      ...cells.filter(({ peer }) => rivals.includes(peer)).map(({ milliseconds }) => milliseconds ?? Infinity),
    );
    const ratio = own.milliseconds ? best / own.milliseconds : NaN;
    if (Number.isFinite(ratio)) ratios.push(ratio);
    const text = ({ milliseconds, error }: Cell) => error ?? `${milliseconds!.toPrecision(3)}`;
    const speed = flops && own.milliseconds ? (flops / own.milliseconds / 1e6).toFixed(1) : '';
    rows.push([`${c.name}, ${mode}`, ...cells.map(text), speed, Number.isFinite(ratio) ? `${ratio.toFixed(1)}x` : '']);
    results.push({ case: c.name, mode, flops, cells, ratioToBestWebGpuPeer: ratio });
    console.log(rows.at(-1)!.join('  '));
  }
}
peers.forEach((peer) => peer.stop());

const mean = Math.exp(ratios.reduce((sum, ratio) => sum + Math.log(ratio), 0) / ratios.length);
const table: Table = {
  columns: ['case', ...peers.map(({ name }) => `${name}, ms`), 'semiflow GFLOP/s', 'ahead of the best WebGPU peer'],
  rows,
};
const compared = ratios.length
  ? `ahead of the best of ${rivals.join(' and ')} by ${mean.toFixed(1)}x in the geometric mean, ${Math.min(...ratios).toFixed(1)}x at least`
  : 'no other WebGPU engine is installed';
const summary = `${description}, ${cpus()[0].model}, ${availableParallelism()} cores, ${new Date().toISOString().slice(0, 10)}: ${compared}.`;
console.log(`\n${textTable(table)}\n${summary}`);
mkdirSync(flags.out, { recursive: true });
writeFileSync(
  `${flags.out}/peers.md`,
  `${summary} Medians of ${flags.rounds} interleaved rounds, wall clock.\n\n${markdownTable(table)}\n`,
);
writeFileSync(
  `${flags.out}/peers.json`,
  JSON.stringify({ adapter: description, date: new Date().toISOString(), mean, results }, null, 1),
);
