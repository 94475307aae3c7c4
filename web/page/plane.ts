/** The plane of times: every jump t → s is a place in it, below the diagonal, and a chain of jumps a staircase along it. */
import { gridTimes, type ViolationCell } from '../../src/experiments/violation.js';
import { ramp } from './colours.js';
import { h, svg } from './dom.js';
import { clampTime, keyStep } from './times.js';

/** The violations that the two ends of the ramp stand for. */
const violationRange = [1e-6, 1e-1] as const;

/** Times of one chain are never closer than this. */
const gap = 0.02;

/** Where times 0 and 1 lie in the drawing, 100 units wide and high; s grows upwards. */
const [low, high] = [11, 97];
const across = (t: number) => low + t * (high - low);
const upwards = (s: number) => 100 - across(s);
const place = (t: number, s: number) => `${across(t)} ${upwards(s)}`;

export class Plane {
  readonly element: HTMLElement;
  private readonly heat = h('canvas', { class: 'heat', width: 160, height: 160, 'aria-hidden': 'true' });
  private readonly drawing = svg('svg', { viewBox: '0 0 100 100' });
  private readonly path = svg('g');
  private readonly handles = svg('g');
  private readonly nodes = svg('g', { class: 'nodes' });
  private cells: ViolationCell[] = [];
  private times: readonly number[] = [];
  private dragged: number | null = null;

  /**
   * @param operator whose chain it shows
   * @param focusable whether its handles can be reached by keyboard; of planes that move together one is enough
   * @param onChange hears the times while they move
   */
  constructor(
    operator: string,
    private readonly focusable: boolean,
    private readonly onChange: (times: number[]) => void,
  ) {
    const label = `plane of times of the ${operator}: the violation of the semigroup law, and the chain of jumps`;
    const ticks = [0, 0.5, 1].flatMap((time) => [
      svg('text', { x: across(time), y: 98, 'text-anchor': time ? 'middle' : 'start' }, text(String(time))),
      svg('text', { x: 6, y: upwards(time) + 1.5, 'text-anchor': 'end' }, text(String(time))),
    ]);
    this.drawing.append(
      svg('path', { class: 'diagonal', d: `M${place(0, 0)} L${place(1, 1)}` }),
      svg('path', { class: 'frame', d: `M${place(0, 0)} H${across(1)} V${upwards(1)}` }),
      ...ticks,
      svg('text', { class: 'axis', x: across(0.75), y: 98, 'text-anchor': 'middle' }, text('from t')),
      svg('text', { class: 'axis', x: 6, y: upwards(0.75) + 1.5, 'text-anchor': 'end' }, text('to s')),
      this.nodes,
      this.path,
      this.handles,
    );
    this.drawing.setAttribute('role', focusable ? 'group' : 'img');
    this.drawing.setAttribute('aria-label', label);
    this.element = h('div', { class: 'plane' }, this.heat, this.drawing);
    this.drawing.addEventListener('pointerdown', (event) => this.grab(event));
    this.drawing.addEventListener('pointermove', (event) => this.drag(event));
    for (const end of ['pointerup', 'pointercancel'] as const)
      this.drawing.addEventListener(end, () => (this.dragged = null));
  }

  /** The chain, from start to end. */
  show(times: readonly number[]): void {
    const count = this.times.length;
    this.times = times;
    const [start, end] = [times[0], times[times.length - 1]];
    const stairs = times.slice(1).map((time, i) => ({ from: times[i], to: time }));
    const steps = stairs.map(({ to }) => `V${upwards(to)} H${across(to)}`).join(' ');
    this.path.replaceChildren(
      svg('path', { class: 'direct', d: `M${place(start, start)} V${upwards(end)} H${across(end)}` }),
      svg('path', { class: 'halo', d: `M${place(start, start)} ${steps}` }),
      svg('path', { class: 'chain', d: `M${place(start, start)} ${steps}` }),
      ...stairs.map(({ from, to }) => svg('circle', { class: 'hop', cx: across(from), cy: upwards(to), r: 1.5 })),
      svg('rect', { class: 'corner', x: across(start) - 2, y: upwards(end) - 2, width: 4, height: 4 }),
    );
    if (count !== times.length) this.handles.replaceChildren(...times.map((_, i) => this.handle(i)));
    times.forEach((time, i) => {
      const handle = this.handles.children[i];
      handle.setAttribute('transform', `translate(${place(time, time)})`);
      handle.setAttribute('aria-valuenow', time.toFixed(2));
      handle.setAttribute('aria-valuetext', `t = ${time.toFixed(2)}`);
    });
  }

  /** Forgets what is known of the law. */
  clear(): void {
    this.cells = [];
    this.nodes.replaceChildren();
    this.paint();
  }

  /** Another place where the law was tried. */
  add(cell: ViolationCell): void {
    this.cells.push(cell);
    const node = svg('circle', { cx: across(cell.t), cy: upwards(cell.s), r: 0.7 });
    node.append(svg('title', {}, text(`t = ${cell.t}, s = ${cell.s}: ${cell.violation.toExponential(1)}`)));
    this.nodes.append(node);
    this.paint();
  }

  private handle(i: number): SVGGElement {
    const last = this.times.length - 1;
    const name = i === 0 ? 'start' : i === last ? 'end' : `stop ${i} of ${last - 1}`;
    const handle = svg(
      'g',
      {
        class: `handle ${i === 0 || i === last ? 'end' : 'between'}`,
        'data-index': i,
        ...(this.focusable
          ? { role: 'slider', tabindex: 0, 'aria-label': name, 'aria-valuemin': 0, 'aria-valuemax': 1 }
          : { 'aria-hidden': 'true' }),
      },
      svg('circle', { class: 'reach', r: 6 }),
      svg('circle', { class: 'knob', r: 2.4 }),
    );
    handle.addEventListener('keydown', (event) => {
      const step = keyStep(event);
      if (step === null) return;
      this.move(i, this.times[i] + step);
      event.preventDefault();
    });
    return handle;
  }

  private move(i: number, time: number): void {
    const [before, after] = [this.times[i - 1] ?? 1 + gap, this.times[i + 1] ?? -gap];
    this.onChange(this.times.map((own, k) => (k === i ? clampTime(time, after + gap, before - gap) : own)));
  }

  /** Takes the handle under the pointer; anywhere else below the diagonal, the jump itself: its corner is (t, s). */
  private grab(event: PointerEvent): void {
    const handle = (event.target as Element).closest('.handle');
    this.dragged = handle ? Number(handle.getAttribute('data-index')) : -1;
    this.drawing.setPointerCapture(event.pointerId);
    if (handle && this.focusable) (handle as SVGGElement).focus();
    event.preventDefault();
    this.drag(event);
  }

  private drag(event: PointerEvent): void {
    if (this.dragged === null) return;
    const { left, top, width, height } = this.drawing.getBoundingClientRect();
    const t = ((100 * (event.clientX - left)) / width - low) / (high - low);
    const s = (100 - (100 * (event.clientY - top)) / height - low) / (high - low);
    if (this.dragged >= 0) this.move(this.dragged, (t + s) / 2);
    else this.stretch(clampTime(t), clampTime(s));
  }

  /** Puts the corner of the direct jump at (t, s); the stops keep their places between. */
  private stretch(t: number, s: number): void {
    const hops = this.times.length - 1;
    if (t - s < gap * hops) return;
    const [start, end] = [this.times[0], this.times[hops]];
    this.onChange(this.times.map((time) => s + ((time - end) / (start - end)) * (t - s)));
  }

  /** The field between the places that are known, linear along both times. */
  private paint(): void {
    const { width, height } = this.heat;
    const context = this.heat.getContext('2d')!;
    const image = context.createImageData(width, height);
    const steps = gridTimes.length - 1;
    const key = (i: number, j: number) => i * (steps + 1) + j;
    const node = (time: number) => Math.round(time * steps);
    const levels = new Map(this.cells.map(({ t, s, violation }) => [key(node(t), node(s)), levelOf(violation)]));
    /** At a node; on the diagonal, where every jump stands still, what its neighbours say. */
    const at = (i: number, j: number): number => {
      const own = levels.get(key(i, j));
      if (own !== undefined || i > j) return own ?? NaN;
      const near = [levels.get(key(i + 1, j)), levels.get(key(i, j - 1))].filter((level) => level !== undefined);
      return near.length ? near.reduce((sum, level) => sum + level, 0) / near.length : NaN;
    };
    for (let y = 0; levels.size && y < height; y++) {
      for (let x = 0; x < width; x++) {
        const [t, s] = [((x + 0.5) / width) * steps, (1 - (y + 0.5) / height) * steps];
        if (s > t) continue;
        const [i, j] = [Math.floor(t), Math.floor(s)];
        const [dt, ds] = [t - i, s - j];
        // Above the diagonal there is nothing: a cell that it cuts is a triangle.
        const level =
          i === j
            ? at(i, i) + dt * (at(i + 1, i) - at(i, i)) + ds * (at(i + 1, i + 1) - at(i + 1, i))
            : (1 - dt) * ((1 - ds) * at(i, j) + ds * at(i, j + 1)) +
              dt * ((1 - ds) * at(i + 1, j) + ds * at(i + 1, j + 1));
        if (!Number.isNaN(level)) image.data.set([...ramp(level), 255], 4 * (y * width + x));
      }
    }
    context.putImageData(image, 0, 0);
  }
}

const text = (content: string) => document.createTextNode(content);

/** A violation's place on the ramp. */
function levelOf(violation: number): number {
  const [least, most] = violationRange;
  return Math.log(Math.max(violation, least) / least) / Math.log(most / least);
}
