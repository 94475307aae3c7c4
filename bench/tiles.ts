// Times every tile that each matmul kernel can take, in the families that this adapter runs: `npm run bench -- --tiles`.
// The winners are kept in src/ops/matmul.ts.
import { compile } from '../src/autodiff/compile.js';
import { openDevice } from '../node/device.js';
import type { DeviceOptions } from '../src/gpu/device.js';
import { TensorStorage } from '../src/gpu/storage.js';
import { matmul, tiles, type Tile } from '../src/ops/matmul.js';
import { textTable } from '../src/report/table.js';
import { fromStorage } from '../src/tensor/tensor.js';

/** What a kernel is written for; the mapping of the others fixes their tile. */
const candidates: Partial<Record<keyof typeof tiles, Tile[]>> = {
  'matmul-subgroup': [16, 32].map((rows) => ({ rows, columns: 32 })),
};
const sizes = [
  [256, 256, 256],
  [512, 512, 512],
  [1024, 1024, 1024],
  [784, 192, 768],
  [4096, 256, 256],
];
const ways: DeviceOptions[] = [{}, { without: ['subgroups'] }, { family: 'tiled' }, { family: 'tensor' }];
const median = (values: number[]) => values.sort((a, b) => a - b)[values.length >> 1];

const rows: (string | number)[][] = [];
for (const options of ways) {
  // What the adapter cannot run is left out.
  const device = await openDevice({ toggles: 'fast', ...options }).catch(() => null);
  if (!device) continue;
  const half = device.profile.family === 'tensor';
  for (const [m, k, n] of sizes) {
    const [a, b] = [m * k, k * n].map((size) => new TensorStorage('input', 'f32', size));
    const build = () =>
      compile(device, { outputs: { y: matmul(fromStorage(a, [m, k]), fromStorage(b, [k, n])) }, half });
    const source = (await build()).dispatches.at(-1)!.label as keyof typeof tiles;
    const chosen = tiles[source];
    for (const tile of candidates[source] ?? [chosen(m, 2 * m * k * n)]) {
      tiles[source] = () => tile;
      const program = await build();
      tiles[source] = chosen;
      const times: number[] = [];
      for (let i = 0; i < 9; i++) {
        const start = performance.now();
        program.run();
        await device.finished();
        times.push(performance.now() - start);
      }
      const rate = (2 * m * k * n) / median(times) / 1e6;
      const own = chosen(m, 2 * m * k * n);
      const isChosen = own.rows === tile.rows && own.columns === tile.columns;
      rows.push([source, `${m}x${k}x${n}`, `${tile.rows}x${tile.columns}`, rate, isChosen ? 'chosen' : '']);
      program.dispose();
    }
  }
  device.dispose();
}
console.log(textTable({ columns: ['kernel', 'matmul', 'tile', 'GFLOP/s', ''], rows }));
