// How much of so many devices' speed is left beside the exchange of gradients, on paper: the formula and tables of
// docs/scaling.md. `npm run bench -- --scaling`
import { textTable } from '../src/report/table.js';

/** What is trained: weights, seconds of a step on one device, and the pages that gradients go in. */
interface Case {
  name: string;
  weights: number;
  seconds: number;
  pages: number;
}
const cases: Case[] = [
  { name: 'DiT-B, 0.3 s a step (assumed)', weights: 130e6, seconds: 0.3, pages: 31 },
  { name: 'DiT-B, 1 s a step (assumed)', weights: 130e6, seconds: 1, pages: 31 },
  { name: 'DiT, 192 wide, 4 blocks, batch 32, 5.58 s (measured)', weights: 2.7e6, seconds: 5.58, pages: 8 },
  { name: 'distilling Fashion-MNIST, 0.4 s (measured)', weights: 337e3, seconds: 0.4, pages: 2 },
];
/** Bytes a second between a device and its host. */
const bus = 12e9;
/** Of a step the share that is the backward pass. */
const backward = 2 / 3;
/** Seconds in which the host rounds and adds up each weight in f16, as measured beside other programs. */
const packing = 17e-9;

const links = [1, 10, 25, 100, 400];
const counts = [8, 64, 512];

/** Seconds that a step waits for. */
function exposed({ weights, seconds, pages }: Case, gigabits: number, ranks: number, half: boolean): number {
  const latency = gigabits > 25 ? 3e-6 : 20e-6;
  const bytes = weights * (half ? 2 : 4);
  const ring = ((2 * (ranks - 1)) / ranks) * (bytes / ((gigabits * 1e9) / 8)) + 2 * (ranks - 1) * pages * latency;
  const all = ring + (half ? packing * weights : 0);
  return Math.max(all / pages, all - backward * seconds) + (2 * 4 * weights) / pages / bus;
}

for (const one of cases) {
  const efficiency = (gigabits: number, ranks: number, half: boolean) =>
    `${Math.round((100 * one.seconds) / (one.seconds + exposed(one, gigabits, ranks, half)))} %`;
  const columns = ['Gbit/s', ...counts.map((ranks) => `${ranks} ranks`), ...counts.map((ranks) => `${ranks} in f16`)];
  const rows = links.map((link) => [
    link,
    ...[false, true].flatMap((half) => counts.map((ranks) => efficiency(link, ranks, half))),
  ]);
  console.log(`${one.name}\n${textTable({ columns, rows })}\n`);
}
