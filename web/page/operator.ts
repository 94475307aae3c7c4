/** Part *Operator*: a jump from t to s beside the same way in several, for three kinds of jumps. */
import { formatNumber } from '../../src/report/table.js';
import type { OperatorName, Walk } from '../protocol.js';
import { chooser, Status, type Chosen } from './chosen.js';
import { ramp, signed } from './colours.js';
import { field, h, number } from './dom.js';
import { Cancelled, newest } from './engine.js';
import { named } from './families.js';
import type { Part } from './main.js';
import { drawMosaic, drawSamples, plot } from './pictures.js';
import { Plane } from './plane.js';
import { isDark } from './theme.js';

const operators: readonly (readonly [OperatorName, string, string])[] = [
  ['map', 'Flow map', 'f(x, t, s), learned for every t and s'],
  ['endpoint', 'Endpoint jump', 'to the data, and back to s by noise'],
  ['euler', 'Euler step', 'straight along the velocity of t'],
];

/** Pictures that are shown of those worked with. */
const shownPictures = 4;
/** By how much differences of pictures are amplified. */
const gain = 2;

export const operatorPart: Part = {
  name: 'operator',
  title: 'Operator',
  lead: 'A flow map is an operator with a law: the jump from t to s is the jump from t to u, and then from u to s. Each jump is a place in the plane below. Drag the start, the end and the stops along the diagonal, or the jump itself; the darker the ground, the better the law holds there.',
  open(engine, section, { families }) {
    let chosen: Chosen;
    let times = [1, 0.6, 0.3, 0];
    let mapping: AbortController | undefined;
    const walks = new Map<OperatorName, Walk>();
    const status = new Status();

    const planes = new Map(operators.map(([name, title], i) => [name, new Plane(title, i === 0, (now) => move(now))]));
    const strips = new Map(operators.map(([name]) => [name, h('div', { class: 'strip', tabindex: 0, role: 'group' })]));
    const drifts = new Map(operators.map(([name]) => [name, h('output', { class: 'drift' }, '…')]));

    const work = newest(async () => {
      const { family, seed, label } = chosen;
      const request = { family: family.id, seed, label, count: family.count, times };
      try {
        const onPart = (walk: Walk) => {
          if (chosen.family !== family) return;
          walks.set(walk.operator, walk);
          drawStrip(walk.operator);
        };
        await engine.call('walk', request, { onPart });
      } catch (error) {
        status.fail(error);
      }
    });
    const move = (now: number[]) => {
      times = now;
      for (const plane of planes.values()) plane.show(times);
      work(null);
    };
    const map = async () => {
      mapping?.abort();
      const { signal } = (mapping = new AbortController());
      for (const plane of planes.values()) plane.clear();
      const { family, seed, label } = chosen;
      const subject = { family: family.id, seed, label, count: family.count };
      try {
        let tried = 0;
        status.say('Trying the law over the planes…');
        await engine.call('violations', subject, {
          signal,
          onPart: ({ operator, ...cell }) => {
            if (signal.aborted) return;
            planes.get(operator)!.add(cell);
            status.say(`Trying the law over the planes: ${++tried} places so far…`);
          },
        });
        status.say('');
      } catch (error) {
        if (!(error instanceof Cancelled)) status.fail(error);
      }
    };

    const drawStrip = (name: OperatorName) => {
      const walk = walks.get(name);
      const strip = strips.get(name)!;
      if (!walk) return strip.replaceChildren();
      const { stops, direct, drift, noise } = walk;
      const hops = stops.length - 1;
      drifts.get(name)!.textContent = `Δ${subscript(hops)} = ${formatNumber(drift, 2)}`;
      const panel = (title: string, draw: (canvas: HTMLCanvasElement) => void, role = '') => {
        const canvas = h('canvas', { role: 'img', 'aria-label': title });
        return { figure: h('figure', { class: role }, canvas, h('figcaption', {}, title)), draw: () => draw(canvas) };
      };
      const shown = (x: Float32Array) => (canvas: HTMLCanvasElement) =>
        drawSamples(canvas, chosen.family, firstOf(x), noise);
      const panels = [
        ...stops.map((x, i) =>
          panel(`t = ${times[i]?.toFixed(2) ?? ''}${i === hops ? `, ${hops} jumps` : ''}`, shown(x)),
        ),
        panel('in one jump', shown(direct), 'apart'),
        panel('difference', (canvas) => drawDifference(canvas, stops[hops], direct), 'apart'),
      ];
      strip.replaceChildren(...panels.map(({ figure }) => figure));
      for (const { draw } of panels) draw();
    };
    const firstOf = (x: Float32Array) => {
      const { kind, shape } = chosen.family;
      const size = shape.reduce((product, extent) => product * extent, 1);
      return kind === 'points' ? x : x.subarray(0, shownPictures * size);
    };
    const drawDifference = (canvas: HTMLCanvasElement, composed: Float32Array, direct: Float32Array) => {
      const { family } = chosen;
      const [black, white] = family.range;
      if (family.kind === 'points') return drawGaps(canvas, white, composed, direct);
      const difference = firstOf(composed).map((value, i) => (gain * (value - direct[i])) / (white - black));
      drawMosaic(canvas, { shape: [1, ...family.shape.slice(-2)], range: [0, 1] }, difference, signed);
    };
    const redraw = () => operators.forEach(([name]) => drawStrip(name));

    const hops = number(times.length - 2, { min: 0, max: 6, step: 1 }, (stops) => {
      const [start, end] = [times[0], times[times.length - 1]];
      move(Array.from({ length: stops + 2 }, (_, i) => start + ((end - start) * i) / (stops + 1)));
    });
    for (const plane of planes.values()) plane.show(times);
    const start = (now: Chosen) => {
      chosen = now;
      walks.clear();
      redraw();
      work(null);
      void map();
    };
    section.append(
      chooser(engine, families, status, start, start, field('Stops between', hops)),
      status.element,
      h(
        'div',
        { class: 'planes' },
        ...operators.map(([name, title, how]) =>
          h(
            'article',
            {},
            h('h3', { class: `who ${name}` }, title),
            h('p', { class: 'note' }, how),
            planes.get(name)!.element,
          ),
        ),
      ),
      legend(),
      h(
        'div',
        { class: 'strips' },
        ...operators.map(([name, title]) => {
          const strip = strips.get(name)!;
          strip.setAttribute('aria-label', `${title}: samples at every stop`);
          return h('article', {}, h('div', {}, h('h3', { class: `who ${name}` }, title), drifts.get(name)!), strip);
        }),
      ),
      h(
        'p',
        { class: 'note' },
        `Δₖ is the mean squared difference between k jumps and one. Differences of pictures are drawn ${gain} times as large; of points, each line leads from one jump to where the chain arrived.`,
      ),
    );
    // What nobody looks at does not keep the device from other parts; it is begun anew on return.
    addEventListener('hashchange', () => {
      if (named().part !== 'operator') mapping?.abort();
    });
    return () => {
      redraw();
      if (mapping?.signal.aborted) void map();
    };
  },
};

/** The scale of the violation. */
function legend(): HTMLElement {
  const canvas = h('canvas', { width: 120, height: 1, 'aria-hidden': 'true' });
  const context = canvas.getContext('2d')!;
  for (let x = 0; x < canvas.width; x++) {
    context.fillStyle = `rgb(${ramp(x / (canvas.width - 1)).join(' ')})`;
    context.fillRect(x, 0, 1, 1);
  }
  const said =
    'Two jumps against one, mean square over the variance of the data, measured at the dots; less and more look like the ends of the scale.';
  return h(
    'div',
    { class: 'legend' },
    h('span', {}, '10⁻⁶'),
    canvas,
    h('span', {}, '10⁻¹'),
    h('span', { class: 'note' }, said),
  );
}

/** Lines from where one jump leads to where a chain arrives. */
function drawGaps(canvas: HTMLCanvasElement, extent: number, composed: Float32Array, direct: Float32Array): void {
  const { context, at, scale } = plot(canvas, extent);
  context.strokeStyle = isDark() ? '#ff9d5c' : '#b3541a';
  context.globalAlpha = 0.7;
  context.lineWidth = scale;
  context.beginPath();
  for (let i = 0; i + 1 < direct.length; i += 2) {
    context.moveTo(...at(direct[i], direct[i + 1]));
    context.lineTo(...at(composed[i], composed[i + 1]));
  }
  context.stroke();
}

const subscript = (count: number): string => String.fromCharCode(0x2080 + count);
