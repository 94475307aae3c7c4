import { h } from './dom.js';

/** Two times are never closer than this. */
const gap = 0.01;

export const clampTime = (time: number, low = 0, high = 1): number => Math.min(high, Math.max(low, time));

/** What an arrow or page key adds to a time; null for other keys. */
export function keyStep({ key, shiftKey }: KeyboardEvent): number | null {
  const small = shiftKey ? 0.1 : 0.01;
  if (key === 'ArrowRight' || key === 'ArrowUp') return small;
  if (key === 'ArrowLeft' || key === 'ArrowDown') return -small;
  if (key === 'PageUp') return 0.1;
  if (key === 'PageDown') return -0.1;
  return null;
}

/**
 * A line from noise (t = 1, left) to data (t = 0, right) with a handle for each stop on the way, to be dragged or moved by
 * arrow keys.
 * @param stops falling times strictly between 1 and 0
 * @param onChange hears the stops while they move
 */
export function timeLine(label: string, stops: readonly number[], onChange: (stops: number[]) => void): HTMLElement {
  const times = [...stops];
  const line = h('div', { class: 'timeline', role: 'group', 'aria-label': label });
  const handles = times.map((_, i) => {
    const handle = h('button', {
      type: 'button',
      role: 'slider',
      class: 'stop',
      'aria-label': `stop ${i + 1} of ${times.length}`,
      'aria-valuemin': 0,
      'aria-valuemax': 1,
    });
    const move = (time: number) => {
      const [before, after] = [times[i - 1] ?? 1, times[i + 1] ?? 0];
      times[i] = clampTime(time, after + gap, before - gap);
      place(i);
      onChange([...times]);
    };
    handle.addEventListener('pointerdown', (event) => {
      handle.setPointerCapture(event.pointerId);
      handle.focus();
      event.preventDefault();
    });
    handle.addEventListener('pointermove', (event) => {
      if (!handle.hasPointerCapture(event.pointerId)) return;
      const { left, width } = line.getBoundingClientRect();
      move(1 - (event.clientX - left) / width);
    });
    handle.addEventListener('keydown', (event) => {
      const step = keyStep(event);
      if (step === null) return;
      // To the right is towards data: a smaller time.
      const horizontal = event.key === 'ArrowRight' || event.key === 'ArrowLeft';
      move(times[i] + (horizontal ? -step : step));
      event.preventDefault();
    });
    return handle;
  });
  const place = (i: number) => {
    const [handle, time] = [handles[i], times[i]];
    handle.style.left = `${(1 - time) * 100}%`;
    handle.setAttribute('aria-valuenow', time.toFixed(2));
    handle.setAttribute('aria-valuetext', `t = ${time.toFixed(2)}`);
    handle.title = `t = ${time.toFixed(2)}`;
  };
  handles.forEach((_, i) => place(i));
  line.append(...handles);
  return line;
}

/** Times after equal steps, from 1 to 0. */
export const equalTimes = (steps: number): number[] => Array.from({ length: steps + 1 }, (_, i) => 1 - i / steps);
