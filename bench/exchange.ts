// What the exchange of gradients costs, by the size of a network:
// `mpirun -n 2 --bind-to none node --import tsx bench/main.ts --exchange` (one rank prints).
import { loadDataset } from '../node/data.js';
import { openDevice } from '../node/device.js';
import { MpiGroup } from '../node/mpi.js';
import { parseDescription } from '../src/flow/description.js';
import { createNetwork } from '../src/flow/network.js';
import type { Group } from '../src/gpu/group.js';
import { TensorStorage } from '../src/gpu/storage.js';
import { textTable } from '../src/report/table.js';
import { teacherDefaults } from '../trainers/config.js';
import { pageFor } from '../trainers/exchange.js';
import { trainTeacher } from '../trainers/runs.js';

const group = await MpiGroup.join();
const device = await openDevice({ toggles: 'fast', group });
const print = (text: string) => group.rank || console.log(text);
const median = (values: number[]) => values.sort((a, b) => a - b)[values.length >> 1];
const timed = async (work: () => Promise<unknown>) => {
  const start = performance.now();
  await work();
  return performance.now() - start;
};
/** The slowest rank's time of what all begin together, the median of several. */
async function together(work: () => Promise<unknown>, times = 9): Promise<number> {
  const all: number[] = [];
  for (let i = 0; i < times; i++) {
    await group.gather(new Uint8Array());
    const each = await group.gather(new Uint8Array(Float64Array.of(await timed(work)).buffer));
    all.push(Math.max(...each.map((bytes) => new Float64Array(bytes.buffer)[0])));
  }
  return median(all);
}

print(`${group.size} ranks of ${device.profile.description}\n`);
const page = new TensorStorage('page', 'f32', 2 ** 22);
const values = new Float32Array(page.length);
device.write(page, values);
const ways: [string, () => Promise<unknown>][] = [
  ['device to host', () => device.readPart(page, 0, page.length)],
  ['sum over the ranks', () => group.sum(values)],
  ['host to device', () => (device.write(page, values), device.finished())],
];
for (const [way, work] of ways) {
  const milliseconds = await together(work);
  print(`16 MiB, ${way}: ${milliseconds.toFixed(1)} ms, ${(values.byteLength / 1e6 / milliseconds).toFixed(1)} GB/s`);
}

/** Ways to exchange: not at all, sums begun when the whole backward pass is over, and as it is. */
const summing = (sum: Group['sum']): Group => ({
  rank: group.rank,
  size: group.size,
  gather: (bytes) => group.gather(bytes),
  swap: (blocks) => group.swap(blocks),
  sum,
});
const groups = {
  none: summing(async () => {}),
  afterwards: summing(async (values) => {
    await device.finished();
    await group.sum(values);
  }),
  overlapped: group,
};
type Way = keyof typeof groups;
const data = await loadDataset('moons');
const rows: (string | number)[][] = [];
for (const [width, depth] of [
  [256, 5],
  [1024, 6],
  [2048, 7],
]) {
  const architecture = { kind: 'mlp', dim: 2, width, depth, activation: 'silu', time: 'features' };
  const teacher = createNetwork(parseDescription({ architecture, prediction: 'velocity' }, 'bench'), 1);
  const milliseconds: Partial<Record<Way, number>> = {};
  let bytes = 0;
  for (const [way, own] of Object.entries(groups) as [Way, Group][]) {
    const seen = Object.create(device, { group: { value: own } }) as typeof device;
    const recipe = { ...teacherDefaults([2]), batch: 32, steps: 100 };
    const { trainer } = await trainTeacher({ device: seen, teacher, data }, recipe);
    await trainer.advance(2);
    milliseconds[way] = await together(() => trainer.advance(1));
    ({ bytes } = trainer.exchange!);
    trainer.dispose();
  }
  const { overlapped, afterwards, none } = milliseconds as Record<Way, number>;
  const { layout } = teacher;
  rows.push([
    Number((layout.length / 1e6).toFixed(2)),
    Number((bytes / 1e6).toFixed(1)),
    layout.pages(pageFor(layout)).length,
    ...[none, afterwards, overlapped].map((value) => Math.round(value)),
    `${Math.round(100 * (1 - (overlapped - none) / (afterwards - none)))} %`,
  ]);
}
const headers = [
  'million weights',
  'MB a step',
  'pages',
  'ms without',
  'ms, sums afterwards',
  'ms, as it is',
  'hidden',
];
print(`\n${textTable({ columns: headers, rows })}`);
device.dispose();
await group.leave();
process.exit();
