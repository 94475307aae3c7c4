import type { OnWork } from '../src/gpu/device.js';

/**
 * What a command is at while one waits. On a terminal it is a line of stderr that changes; elsewhere a line of stdout where
 * something takes longer than a moment, and again every few seconds, so that nothing looks like a hang.
 */
interface Phase {
  what: string;
  /** How far it is as a whole, and what the device is at in one piece of it. */
  detail: string;
  piece: string;
  since: number;
  timer: NodeJS.Timeout;
}

let phase: Phase | null = null;
/** When the last phase ended, and when something was last said elsewhere than on a terminal. */
let [ended, told] = [-Infinity, -Infinity];

const terminal = () => process.stderr.isTTY;
/** Milliseconds between two drawings of the line, and between two lines of a log: silence is shorter than 5 s. */
const [redraw, repeat] = [250, 2500];
/** Milliseconds of work that are not worth a line of a log. */
const moment = 1000;

/** Something else is done from now on, such as `compiling`. */
export function begin(what: string): void {
  done();
  const timer = setInterval(show, terminal() ? redraw : moment);
  // What waits must not keep the process.
  timer.unref();
  const now = performance.now();
  phase = { what, detail: '', piece: '', since: now, timer };
  // A moment passes before anything is said; of short phases that follow each other none puts it off.
  if (now - ended >= moment) told = Math.max(told, now - repeat + moment);
  show();
}

/** How far it is, such as `12 of 80 kernels`. */
export function detail(text: string): void {
  if (phase) [phase.detail, phase.piece] = [text, ''];
}

/** How far the device is in a piece of it, of which there may be many: a share is said where nothing is known of the whole. */
export const piece: OnWork = (done, total, of) => {
  if (!phase) return;
  if (done >= total) phase.piece = '';
  else if (of === 'kernels') phase.piece = `compiling ${done} of ${total} kernels`;
  else phase.piece = phase.detail ? '' : `${Math.floor((100 * done) / total)} %`;
};

/** Nothing is waited for any longer. */
export function done(): void {
  if (!phase) return;
  clearInterval(phase.timer);
  [phase, ended] = [null, performance.now()];
  if (terminal()) process.stderr.write('\r\x1b[K');
}

/** A line that stays, above what is being done. */
export function say(line: string): void {
  if (phase && terminal()) process.stderr.write('\r\x1b[K');
  console.log(line);
  told = performance.now();
}

function show(): void {
  if (!phase) return;
  const seconds = Math.round((performance.now() - phase.since) / 1000);
  const text = `${[phase.what, phase.detail, phase.piece].filter(Boolean).join(', ')}${seconds ? `, ${seconds}s` : ''}`;
  if (terminal()) process.stderr.write(`\r\x1b[K${text.slice(0, (process.stderr.columns || 80) - 1)}`);
  else if (performance.now() - told >= repeat) {
    told = performance.now();
    console.log(text);
  }
}

/** What hears how far work is that has several parts, and shows it: a part, and how much of it is done. */
export function following(): (what: string, count?: number, total?: number) => void {
  let now = '';
  return (what, count, total) => {
    if (what !== now) begin((now = what));
    if (total !== undefined) detail(`${count} of ${total}`);
  };
}
