// What a GPU does with semiflow, within a time, step by step in processes of their own: bench/gpu.sh runs it. A step that
// fails or takes too long is told and the next one begins. $OUT gets gpu.md, gpu.json, gpu.log.
import { spawn } from 'node:child_process';
import { appendFileSync, existsSync, mkdirSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { shipped } from '../cli/shipped.js';

const budget = Number(process.argv[2] ?? 480);
const out = process.env.OUT ?? 'gpu-results';
mkdirSync(out, { recursive: true });
const scratch = mkdtempSync(join(tmpdir(), 'semiflow-gpu-'));
const log = join(out, 'gpu.log');
writeFileSync(log, '');
const start = performance.now();
const left = () => budget - (performance.now() - start) / 1000;

interface Step {
  name: string;
  seconds: number;
  /** Of the processor, user and system. */
  processor?: number;
  /** 0 where all went well; null where it took too long. */
  status: number | null;
  output: string;
}
const steps: Step[] = [];

/**
 * Runs a program for at most so many seconds.
 * @param signal that ends it then
 */
async function step(
  name: string,
  [command, ...args]: string[],
  most: number,
  { env = {}, signal = 'SIGKILL' as NodeJS.Signals } = {},
): Promise<Step> {
  // The last step has a tenth of the time, whatever came before it.
  const limit = Math.min(most, left() - (signal === 'SIGINT' ? 0 : 0.1 * budget));
  const from = performance.now();
  let output = '';
  let processor: number | undefined;
  const status = await new Promise<number | null>((resolve) => {
    if (limit < 5) return resolve(null);
    // Bash says how much of the processor it took.
    const child = spawn('bash', ['-c', 'TIMEFORMAT="processor %U %S"; time "$0" "$@"', command, ...args], {
      env: { ...process.env, XDG_RUNTIME_DIR: process.env.XDG_RUNTIME_DIR ?? tmpdir(), ...env },
      detached: true,
    });
    const timer = setTimeout(() => process.kill(-child.pid!, signal), 1000 * limit);
    const hear = (text: Buffer) => (output += text.toString());
    child.stdout.on('data', hear);
    child.stderr.on('data', hear);
    child.on('close', (code) => {
      clearTimeout(timer);
      resolve(code);
    });
  });
  const [, user, system] = /^processor ([\d.]+) ([\d.]+)$/m.exec(output) ?? [];
  if (user) processor = Number(user) + Number(system);
  const done = { name, seconds: (performance.now() - from) / 1000, processor, status, output };
  steps.push(done);
  const line = `${name}: ${status === 0 ? 'done' : status === null ? 'ended by its time' : `failed (${status})`}, ${done.seconds.toFixed(1)} s, ${processor?.toFixed(1) ?? '?'} s of processor`;
  console.log(line);
  appendFileSync(log, `\n=== ${line}\n${output}\n`);
  return done;
}

const semiflow = (...args: string[]) => [process.execPath, 'bin/semiflow.js', ...args];
const bench = (...args: string[]) => [process.execPath, '--import', 'tsx', 'bench/main.ts', ...args];
// Choices and shaders of this run alone: what is cold is cold.
process.env.SEMIFLOW_CACHE = join(scratch, 'choices');

const device = await step('doctor', semiflow('doctor'), 0.06 * budget);
const described = (name: string) => new RegExp(`^${name} +(.*)$`, 'm').exec(device.output)?.[1] ?? 'unknown';
const [adapter, driver] = [described('adapter'), described('driver')];
const software = adapter.includes('(software)');

const teacher = shipped('rf-fashion-mnist.safetensors');
const map = shipped('flow-map-fashion-mnist.safetensors');
const shaders = { XDG_CACHE_HOME: join(scratch, 'shaders'), __GL_SHADER_DISK_CACHE_PATH: join(scratch, 'shaders') };
const draw = (n: number) => semiflow('sample', '--model', map, '--n', String(n), '--out', join(scratch, 'samples.png'));
await step('sample 64, cold', draw(64), 0.07 * budget, { env: shaders });
await step('sample 64, warm', draw(64), 0.03 * budget, { env: shaders });
await step('sample 65, warm', draw(65), 0.03 * budget, { env: shaders });

// Families are forced within these; the hardware's own is what the rest of them opens.
const files = [
  'operations',
  'rows',
  'attention',
  'convolution',
  'optimizer',
  'random-graphs',
  'tuning',
  'tensor-family',
];
const vitest = [process.execPath, 'node_modules/vitest/vitest.mjs', 'run', '--reporter=dot', '--maxWorkers=4'];
const tested = await step('tests', [...vitest, ...files.map((name) => `test/${name}.test.ts`)], 0.26 * budget);

const precisions = /shader-f16/.test(device.output) ? (['f32', 'f16'] as const) : (['f32'] as const);
for (const precision of precisions) {
  const seconds = String(Math.max(5, Math.round((precision === 'f32' ? 0.1 : 0.06) * budget)));
  await step(
    `tune, ${precision}`,
    semiflow(
      'tune',
      '--model',
      teacher,
      '--precision',
      precision,
      '--batch',
      software ? '16' : '64',
      '--seconds',
      seconds,
    ),
    (precision === 'f32' ? 0.12 : 0.08) * budget,
  );
}

const kernels = join(scratch, 'kernels.md');
await step('kernels beside the ceilings', bench(kernels), 0.1 * budget);
const peers = join(scratch, 'peers');
const ways = ['cuda f32 eager', 'cuda f16 eager'].join(',');
const cases = software ? 'DiT 28x28/2, width 192, 4 blocks, batch 4' : 'batch,matmul 1024,attention';
await step(
  'training steps',
  bench('--peers', '--half', '--only', cases, '--rounds', '3', '--torch', ways, '--out', peers),
  0.16 * budget,
);

const run = join(scratch, 'run');
const training = await step(
  'distillation until the time is over',
  semiflow(
    'train',
    '--teacher',
    teacher,
    '--steps',
    '1000000',
    '--batch',
    software ? '8' : '64',
    '--no-evaluate',
    '--out',
    run,
  ),
  Math.max(10, left() - 10),
  { signal: 'SIGINT' },
);

const read = (path: string) => (existsSync(path) ? readFileSync(path, 'utf8') : 'nothing came of it\n');
const lastMetrics = read(join(run, 'metrics.jsonl')).trim().split('\n').at(-1);
const summary = steps.map(
  ({ name, seconds, processor, status }) =>
    `| ${name} | ${status === 0 ? 'yes' : status === null ? 'out of time' : `no (${status})`} | ${seconds.toFixed(1)} | ${processor?.toFixed(1) ?? ''} |`,
);
const block = (text: string) => `\`\`\`\n${text.replace(/^processor .*$/m, '').trim()}\n\`\`\`\n`;
const tail = (text: string, lines: number) => text.trim().split('\n').slice(-lines).join('\n');
writeFileSync(
  join(out, 'gpu.md'),
  `# ${adapter}

${driver}; Node ${process.versions.node}; ${new Date().toISOString()}; ${budget} s

| step | went well | s | s of processor |
| --- | --- | --: | --: |
${summary.join('\n')}

## Kernels beside the ceilings

${read(kernels)}
## Training steps, ms

${read(join(peers, 'peers.md'))}
## What \`tune\` found

${steps
  .filter(({ name }) => name.startsWith('tune'))
  .map(({ output }) => block(output))
  .join('\n')}
## Distillation

${block(`${lastMetrics ?? ''}\n${tail(training.output, 4)}`)}
## Tests

${block(tail(tested.output, 60))}
## Device

${block(device.output)}`,
);
const peersJson = join(peers, 'peers.json');
writeFileSync(
  join(out, 'gpu.json'),
  JSON.stringify(
    {
      adapter,
      driver,
      date: new Date().toISOString(),
      budget,
      steps: steps.map(({ output, ...rest }) => ({ ...rest, tail: tail(output, 5) })),
      peers: existsSync(peersJson) ? JSON.parse(readFileSync(peersJson, 'utf8')) : null,
      kernels: existsSync(kernels.replace(/md$/, 'json'))
        ? JSON.parse(readFileSync(kernels.replace(/md$/, 'json'), 'utf8'))
        : null,
      lastMetrics: lastMetrics?.startsWith('{') ? JSON.parse(lastMetrics) : null,
    },
    null,
    1,
  ),
);
console.log(`${out}/gpu.md, ${out}/gpu.json, ${out}/gpu.log`);
