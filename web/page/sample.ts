/** Part *Sample*: the same noise through flow maps and their teacher, by the same number of calls. */
import type { SampleTile } from '../protocol.js';
import { chooser, Status, type Chosen } from './chosen.js';
import { h } from './dom.js';
import { newest } from './engine.js';
import type { Part } from './main.js';
import { drawSamples } from './pictures.js';
import { equalTimes, timeLine } from './times.js';

/** Calls of the network of each column. */
const budgets = [1, 2, 4, 8];
const columns = budgets.map((_, column) => column);

/** Samples of one member in one column. */
interface Tile {
  canvas: HTMLCanvasElement;
  time: HTMLElement;
  samples?: SampleTile;
}

export const samplePart: Part = {
  name: 'sample',
  title: 'Sample',
  lead: 'One call of a flow map jumps from noise to data; its teacher takes one small straight step. Here all of them get the same noise and the same number of calls. Drag the dots to choose the times between.',
  open(engine, section, { families }) {
    let chosen: Chosen;
    let schedules = budgets.map(equalTimes);
    const tiles = new Map<string, Tile>();
    const status = new Status();
    const grid = h('div', { class: 'budgets' });
    /** Columns that show samples of other settings. */
    const stale = new Set<number>();

    const draw = () => {
      for (const { canvas, samples } of tiles.values())
        if (samples) drawSamples(canvas, chosen.family, samples.x, samples.noise);
    };
    const work = newest(async () => {
      const now = [...stale];
      stale.clear();
      const { family, seed, label } = chosen;
      status.say('Sampling…');
      const request = { family: family.id, seed, label, count: family.count };
      try {
        const schedulesNow = now.map((column) => schedules[column]);
        const onPart = (samples: SampleTile) => {
          const tile = tiles.get(`${samples.member} ${now[samples.schedule]}`);
          if (!tile || chosen.family !== family) return;
          tile.samples = samples;
          tile.time.textContent = duration(samples.milliseconds);
          drawSamples(tile.canvas, family, samples.x, samples.noise);
        };
        await engine.call('sample', { ...request, schedules: schedulesNow }, { onPart });
        status.say('');
      } catch (error) {
        status.fail(error);
      }
    });
    const sample = (which: readonly number[]) => {
      for (const column of which) stale.add(column);
      work(null);
    };

    const build = () => {
      tiles.clear();
      grid.replaceChildren(...columns.map(article));
    };
    const article = (column: number): HTMLElement => {
      const title = `${budgets[column]} call${budgets[column] > 1 ? 's' : ''}`;
      const figures = chosen.family.members.map(({ name, role, sampler }) => {
        const label = `samples of the ${name} by ${title} of the network`;
        const canvas = h('canvas', { role: 'img', 'aria-label': label });
        const time = h('output', {}, '…');
        tiles.set(`${name} ${column}`, { canvas, time });
        const how = role === 'teacher' ? `${name}, ${sampler === 'euler' ? 'Euler' : sampler}` : name;
        return h(
          'figure',
          {},
          canvas,
          h('figcaption', {}, h('span', { class: `who ${colourOf(role, sampler)}` }, how), time),
        );
      });
      const line = timeLine(`times of ${title}`, schedules[column].slice(1, -1), (stops) => {
        schedules[column] = [1, ...stops, 0];
        sample([column]);
      });
      const ends = h('div', { class: 'ends', 'aria-hidden': 'true' }, h('span', {}, 'noise'), h('span', {}, 'data'));
      return h('article', { class: 'budget' }, h('h3', {}, title), line, ends, h('div', { class: 'row' }, ...figures));
    };

    const equal = () => {
      schedules = budgets.map(equalTimes);
      build();
      sample(columns);
    };
    section.append(
      chooser(
        engine,
        families,
        status,
        (now) => {
          chosen = now;
          build();
          sample(columns);
        },
        (now) => {
          chosen = now;
          sample(columns);
        },
        h('button', { type: 'button', onclick: equal }, 'Equal steps'),
      ),
      status.element,
      grid,
    );
    return draw;
  },
};

/** The colour of an operator, the same in all parts. */
const colourOf = (role: string, sampler: string): string =>
  role === 'teacher' ? 'euler' : sampler === 'jump' ? 'map' : 'endpoint';

const duration = (milliseconds: number): string =>
  milliseconds < 10 ? `${milliseconds.toFixed(1)} ms` : `${Math.round(milliseconds)} ms`;
