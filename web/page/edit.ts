/** Part *Edit*: what a brush hides is filled by four paradigms, and rounds of noise and back wear a picture down. */
import type { Edited, Picture } from '../protocol.js';
import { namedMask, type MaskName } from '../../src/experiments/masks.js';
import { chooser, Status, type Chosen } from './chosen.js';
import { field, h } from './dom.js';
import { newest } from './engine.js';
import type { Part } from './main.js';
import { drawMosaic, readPicture } from './pictures.js';

/** Fillings shown of each paradigm. */
const shown = 4;
const roundCount = 4;

export const editPart: Part = {
  name: 'edit',
  title: 'Edit',
  lead: 'Brush over the picture to hide a region, and four ways from noise to data fill it with the same number of calls, each from the same four noises. Below, a picture goes to noise and back, again and again.',
  open(engine, section, { families }) {
    let chosen: Chosen;
    let picture: Picture | null = null;
    let [height, width] = [28, 28];
    let hidden = new Uint8Array(height * width);
    let calls = 4;
    let time = 0.5;
    let radius = 3;
    let cursor = { x: 14, y: 14 };
    const status = new Status();
    const fillings = h('div', { class: 'fillings' });
    const table = h('div', { class: 'rounds' });
    /** All that is about a picture. */
    const body = h('div', { class: 'editing' });
    const results = new Map<string, Edited>();

    const canvas = h('canvas', {
      class: 'brush',
      tabindex: 0,
      role: 'application',
      'aria-label':
        'the picture: brush to hide; by keyboard, arrows move the brush, space hides, backspace shows again',
    });

    const subject = () => {
      const { family, seed, label } = chosen;
      return { family: family.id, seed, label, count: shown };
    };

    const drawCanvas = () => {
      if (!picture) return;
      drawMosaic(canvas, chosen.family, picture.x);
      const context = canvas.getContext('2d')!;
      context.fillStyle = 'rgb(226 113 29 / 0.72)';
      hidden.forEach((value, i) => value && context.fillRect(i % width, Math.floor(i / width), 1, 1));
      if (document.activeElement !== canvas) return;
      context.strokeStyle = '#7aa5ff';
      context.strokeRect(cursor.x + 0.5 - radius, cursor.y + 0.5 - radius, 2 * radius, 2 * radius);
    };
    const drawFillings = () => {
      fillings.replaceChildren(
        ...[...results.values()].map(({ name, x }) => {
          const mosaic = h('canvas', { role: 'img', 'aria-label': `filled by ${name}` });
          drawMosaic(mosaic, chosen.family, x, undefined, shown);
          return h('figure', {}, h('figcaption', {}, h('span', { class: `who ${colourOf(name)}` }, name)), mosaic);
        }),
      );
    };
    const draw = () => {
      drawCanvas();
      drawFillings();
    };

    const work = newest(async () => {
      if (!picture || !hidden.some(Boolean)) return;
      const { family } = chosen;
      status.say(`Filling by ${calls} call${calls > 1 ? 's' : ''} each…`);
      try {
        await engine.call(
          'fill',
          { ...subject(), ...picture, hidden: hidden.slice(), calls },
          {
            onPart: (edited) => {
              if (chosen.family !== family) return;
              results.set(edited.name, edited);
              drawFillings();
            },
          },
        );
        status.say('');
      } catch (error) {
        status.fail(error);
      }
    });
    const wear = newest(async () => {
      if (!picture) return;
      status.say('Noise and back…');
      const rows = new Map<string, HTMLElement>();
      table.replaceChildren();
      const before = picture.x;
      const panel = (title: string, values: Float32Array, role = '') => {
        const canvas = h('canvas', { role: 'img', 'aria-label': title });
        drawMosaic(canvas, chosen.family, values);
        return h('figure', { class: role }, canvas, h('figcaption', {}, title));
      };
      try {
        await engine.call(
          'rounds',
          { ...subject(), ...picture, count: 1, time, rounds: roundCount },
          {
            onPart: ({ name, x, round }) => {
              let row = rows.get(name);
              if (!row) {
                rows.set(
                  name,
                  (row = h('div', {
                    class: 'strip',
                    tabindex: 0,
                    role: 'group',
                    'aria-label': `${name}, round by round`,
                  })),
                );
                row.append(panel('before', before));
                table.append(h('article', {}, h('h4', { class: `who ${colourOf(name)}` }, name), row));
              }
              row.append(panel(`round ${round! + 1}`, x, round ? '' : 'apart'));
            },
          },
        );
        status.say('');
      } catch (error) {
        status.fail(error);
      }
    });

    const forget = () => {
      picture = null;
      results.clear();
      fillings.replaceChildren();
      table.replaceChildren();
    };
    const start = async (now: Chosen) => {
      chosen = now;
      own.value = '';
      forget();
      status.say('Drawing a picture…');
      try {
        const drawn = await engine.call('picture', subject());
        if (chosen === now) take(drawn);
      } catch (error) {
        if (chosen !== now) return;
        body.hidden = true;
        status.fail(error);
      }
    };
    /** Another picture, of which nothing has been made yet. */
    const take = (found: Picture) => {
      forget();
      picture = found;
      const [rows, columns] = chosen.family.shape.slice(-2);
      if (rows !== height || columns !== width || !hidden.some(Boolean)) {
        [height, width] = [rows, columns];
        hidden = Uint8Array.from(namedMask('centre', height, width, 0).hidden);
      }
      body.hidden = false;
      status.say('');
      draw();
      work(null);
    };
    const own = h('input', {
      type: 'file',
      accept: 'image/*',
      onchange: async () => {
        const file = own.files?.[0];
        const now = chosen;
        if (!file) return;
        try {
          const x = await readPicture(file, now.family);
          if (chosen === now) take({ x, label: now.label });
        } catch (error) {
          status.fail(error);
        }
      },
    });

    const paint = (x: number, y: number, value: number) => {
      cursor = { x, y };
      for (let i = 0; i < hidden.length; i++)
        if (Math.hypot((i % width) - x, Math.floor(i / width) - y) < radius) hidden[i] = value;
      drawCanvas();
    };
    let brushing: number | null = null;
    const brush = (event: PointerEvent) => {
      const { left, top, width: wide, height: tall } = canvas.getBoundingClientRect();
      const x = Math.floor(((event.clientX - left) / wide) * width);
      const y = Math.floor(((event.clientY - top) / tall) * height);
      if (brushing !== null) paint(x, y, brushing);
    };
    canvas.addEventListener('pointerdown', (event) => {
      brushing = event.button === 2 || event.shiftKey ? 0 : 1;
      canvas.setPointerCapture(event.pointerId);
      brush(event);
    });
    canvas.addEventListener('pointermove', brush);
    canvas.addEventListener('contextmenu', (event) => event.preventDefault());
    for (const end of ['pointerup', 'pointercancel'] as const)
      canvas.addEventListener(end, () => {
        if (brushing !== null) work(null);
        brushing = null;
      });
    canvas.addEventListener('keydown', (event) => {
      const moves: Record<string, [number, number]> = {
        ArrowLeft: [-1, 0],
        ArrowRight: [1, 0],
        ArrowUp: [0, -1],
        ArrowDown: [0, 1],
      };
      const move = moves[event.key];
      if (move) {
        const inside = (at: number, extent: number) => Math.min(extent - 1, Math.max(0, at));
        cursor = { x: inside(cursor.x + move[0], width), y: inside(cursor.y + move[1], height) };
        drawCanvas();
      } else if (event.key === ' ' || event.key === 'Backspace') {
        paint(cursor.x, cursor.y, event.key === ' ' ? 1 : 0);
        work(null);
      } else return;
      event.preventDefault();
    });
    for (const name of ['focus', 'blur']) canvas.addEventListener(name, drawCanvas);

    const preset = (name: MaskName, title: string) =>
      h(
        'button',
        {
          type: 'button',
          onclick: () => {
            hidden = Uint8Array.from(namedMask(name, height, width, chosen.seed).hidden);
            drawCanvas();
            work(null);
          },
        },
        title,
      );
    const clear = () => {
      hidden.fill(0);
      results.clear();
      draw();
    };
    section.append(
      chooser(
        engine,
        families,
        status,
        (now) => void start(now),
        (now) => void start(now),
        field('A picture of your own', own),
      ),
      status.element,
      body,
    );
    body.append(
      h(
        'div',
        { class: 'edit' },
        h(
          'div',
          { class: 'knobs' },
          h('figure', {}, canvas),
          h(
            'div',
            { class: 'presets' },
            preset('centre', 'Centre'),
            preset('half', 'Half'),
            preset('strokes', 'Strokes'),
            h('button', { type: 'button', onclick: clear }, 'Clear'),
          ),
          slider('Brush', 1, 8, radius, (value) => (radius = value)),
          slider('Calls of the network', 1, 30, calls, (value) => {
            calls = value;
            work(null);
          }),
        ),
        fillings,
      ),
      h('h3', {}, 'Noise and back'),
      h(
        'div',
        { class: 'controls' },
        slider('To the time t', 0.1, 1, time, (value) => (time = value), 0.05),
        h('button', { type: 'button', class: 'strong', onclick: () => wear(null) }, `${roundCount} rounds`),
      ),
      table,
    );
    return draw;
  },
};

/** A slider that shows its value. */
function slider(
  label: string,
  min: number,
  max: number,
  value: number,
  onChange: (value: number) => void,
  step = 1,
): HTMLElement {
  const shownValue = h('output', {}, String(value));
  const input = h('input', {
    type: 'range',
    min,
    max,
    step,
    value,
    'aria-label': label,
    oninput: () => (shownValue.textContent = input.value),
    onchange: () => onChange(input.valueAsNumber),
  });
  return h('label', { class: 'field' }, h('span', {}, `${label} `, shownValue), input);
}

/** The colour of an operator, the same in all parts. */
const colourOf = (name: string): string =>
  name.startsWith('flow map') ? 'map' : /consistency|endpoint/.test(name) ? 'endpoint' : 'euler';
