/** The page of `--watch`: a run, or the runs of a study, as their files grow; it reads them and asks for nothing else. */
import { drawChart } from '../page/chart.js';
import { h } from '../page/dom.js';
import { themeButton } from '../page/theme.js';
import { Metrics } from './metrics.js';
import type { Watched, WatchedFile, WatchedRun } from '../../trainers/watched.js';

/** Milliseconds between two looks. */
const every = 1000;
/** Seconds over which the rate of steps is taken. */
const rateSeconds = 15;

const state = document.getElementById('state')!;
const section = document.getElementById('run')!;
const title = document.getElementById('title')!;

const figureOf = (label: string) => {
  const output = h('output', { class: 'figure' }, '–');
  return { output, element: h('div', {}, output, h('span', {}, label)) };
};
const step = figureOf('steps');
const loss = figureOf('loss');
const rate = figureOf('steps a second');
const left = figureOf('left');
const runs = h('nav', { class: 'runs', 'aria-label': 'Runs of the study', hidden: true });
const charts = h('div', { class: 'charts' });
const pictures = h('div', { class: 'pictures' });
const report = h('div', { class: 'report' });
section.append(
  runs,
  h('div', { class: 'figures' }, ...[step, loss, rate, left].map(({ element }) => element)),
  charts,
  pictures,
  report,
);

/** Metrics of every run, by its path. */
const known = new Map<string, Metrics>();
/** The run that is shown; null follows the one that changed last. */
let chosen: string | null = null;
let watched: Watched | null = null;
/** Steps of the shown run with when they were seen, for the rate. */
let seen: { path: string; step: number; at: number }[] = [];
const canvases = new Map<string, HTMLCanvasElement>();

const addressOf = (path: string, { name, changed }: WatchedFile) => `files/${path ? `${path}/` : ''}${name}?${changed}`;
const shownRun = ({ runs: all }: Watched): WatchedRun | undefined => {
  const newest = [...all].sort((a, b) => b.changed - a.changed)[0];
  return all.find(({ path }) => path === chosen) ?? newest;
};

/** Looks again; false where there will be nothing more to see. */
async function look(): Promise<boolean> {
  const answer = await fetch('run').catch(() => null);
  if (!answer?.ok) {
    state.textContent = 'The command has ended; this is what was seen last.';
    return false;
  }
  watched = (await answer.json()) as Watched;
  const run = shownRun(watched);
  if (run) {
    const file = run.files.find(({ name }) => name === 'metrics.jsonl');
    const metrics = known.get(run.path) ?? new Metrics();
    known.set(run.path, metrics);
    if (file) await metrics.read(addressOf(run.path, file), file.size);
  }
  draw();
  return !watched.ended;
}

function draw(): void {
  if (!watched) return;
  const run = shownRun(watched);
  title.textContent = watched.name;
  document.title = `${watched.name} · semiflow`;
  state.textContent = watched.ended ? 'The run has ended.' : 'Watching; what comes is drawn.';
  drawRuns(watched, run);
  if (!run) return;
  const metrics = known.get(run.path) ?? new Metrics();
  const last = metrics.step[metrics.step.length - 1] ?? 0;
  drawFigures(run, metrics, last);
  drawCharts(metrics);
  drawPictures(run);
  drawReport(watched, run);
}

function drawRuns({ runs: all }: Watched, run: WatchedRun | undefined): void {
  runs.hidden = all.length < 2;
  if (runs.hidden) return;
  const button = ({ path, files }: WatchedRun) => {
    const done = files.some(({ name }) => name === 'evaluation.json');
    const metrics = known.get(path);
    const now = metrics?.step.length ? ` · step ${metrics.step[metrics.step.length - 1]}` : '';
    return h(
      'button',
      {
        type: 'button',
        'aria-pressed': String(path === run?.path),
        onclick: () => {
          chosen = path;
          seen = [];
          void look();
        },
      },
      `${path}${done ? ' · done' : now}`,
    );
  };
  const focused = [...runs.children].indexOf(document.activeElement!);
  runs.replaceChildren(...all.map(button));
  (runs.children[focused] as HTMLElement | undefined)?.focus();
}

function drawFigures(run: WatchedRun, metrics: Metrics, last: number): void {
  const now = performance.now();
  if (seen[0]?.path !== run.path) seen = [];
  if (seen[seen.length - 1]?.step !== last) seen.push({ path: run.path, step: last, at: now });
  while (seen.length > 2 && now - seen[0].at > 1000 * rateSeconds) seen.shift();
  const [first, newest] = [seen[0], seen[seen.length - 1]];
  const pace = newest.at > first.at ? (1000 * (newest.step - first.step)) / (newest.at - first.at) : 0;
  step.output.textContent = `${last} of ${run.steps}`;
  loss.output.textContent = metrics.values.get('loss')?.at(-1)?.toPrecision(3) ?? '–';
  rate.output.textContent = pace > 0 && !watched?.ended ? pace.toPrecision(3) : '–';
  left.output.textContent = pace > 0 && last < run.steps && !watched?.ended ? duration((run.steps - last) / pace) : '–';
}

/** The loss large, and everything else that is logged below it. */
function drawCharts(metrics: Metrics): void {
  for (const [name, y] of metrics.values) {
    if (!y.some((value) => value > 0)) continue;
    let canvas = canvases.get(name);
    if (!canvas) {
      canvas = h('canvas', { class: 'chart', role: 'img', 'aria-label': `${name} over the steps` });
      canvases.set(name, canvas);
      charts.append(h('figure', { class: name === 'loss' ? 'wide' : '' }, canvas, h('figcaption', {}, name)));
    }
    drawChart(canvas, [{ name, colour: name === 'loss' ? '--map' : '--endpoint', x: metrics.step, y, noisy: true }]);
  }
  for (const [name, canvas] of canvases) canvas.closest('figure')!.hidden = !metrics.values.has(name);
}

function drawPictures(run: WatchedRun): void {
  const wanted = run.files.filter(({ name }) => name.endsWith('.png'));
  const addresses = wanted.map((file) => addressOf(run.path, file));
  const shown = [...pictures.querySelectorAll('img')].map((image) => image.getAttribute('src'));
  if (addresses.join() === shown.join()) return;
  pictures.replaceChildren(
    ...wanted.map(({ name }, i) =>
      h(
        'figure',
        {},
        h('img', { src: addresses[i], alt: `${name.replace(/\.png$/, '')}, as it is now` }),
        h('figcaption', {}, name.replace(/\.png$/, '')),
      ),
    ),
  );
}

/** The report, which comes last: that of the study, or of the run. */
function drawReport({ files }: Watched, run: WatchedRun): void {
  const isReport = ({ name }: WatchedFile) => name.endsWith('.html');
  const own = run.files.find(isReport);
  const whole = files.find(isReport);
  const address = whole ? addressOf('', whole) : own && addressOf(run.path, own);
  if (!address || report.dataset.address === address) return;
  report.dataset.address = address;
  report.replaceChildren(
    h('h3', {}, 'The report'),
    h('p', {}, h('a', { href: address }, 'Open it alone')),
    h('iframe', { src: address, title: 'the report', sandbox: '' }),
  );
}

const duration = (seconds: number): string =>
  seconds < 90
    ? `${Math.round(seconds)} s`
    : seconds < 5400
      ? `${Math.round(seconds / 60)} min`
      : `${(seconds / 3600).toFixed(1)} h`;

themeButton(document.getElementById('theme')!, draw);
addEventListener('resize', draw);
while (await look()) await new Promise((done) => setTimeout(done, every));
