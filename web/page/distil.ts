/** Part *Distil*: a teacher in the plane, shipped or trained here, becomes a flow map while one looks and turns the knobs. */
import type { DistilMenu, DistilNews, Knobs, TeacherNews } from '../protocol.js';
import { drawChart, type Curve } from './chart.js';
import { Status } from './chosen.js';
import { choice, field, h, number } from './dom.js';
import type { Part } from './main.js';
import { drawSamples } from './pictures.js';

type Look = Extract<DistilNews, { look: unknown }>['look'];

const points = (range: Look['range']) => ({ kind: 'points', shape: [2], range }) as const;
/** What is said before anything is begun. */
const invitation = 'Start distils this teacher by the method and knobs of now.';
/** Milliseconds in which points move to where a later student sends them. */
const moving = 500;

export const distilPart: Part = {
  name: 'distil',
  title: 'Distil',
  lead: 'A teacher in the plane becomes a flow map here, in this tab: the checkerboard’s, or one that is trained first, in seconds. The points are one jump of the student from a fixed noise, beside them is where the teacher’s true flow leads. Every knob can be turned on the way.',
  open(engine, section, { families }) {
    let knobs: Knobs;
    let running: Promise<void> | undefined;
    let started = false;
    let file: File | null = null;
    let teacher: string;
    /** Data sets whose teacher is there. */
    const taught = new Set<string>();
    let teaching = false;
    /** The teacher on its way. */
    let glance: Extract<TeacherNews, { samples: unknown }>['samples'] | null = null;
    let [look, before] = [null, null] as [Look | null, Look | null];
    let arrived = 0;
    const losses: { x: number[]; y: number[] } = { x: [], y: [] };
    const worths: { x: number[]; y: number[] } = { x: [], y: [] };
    const marks: number[] = [];
    const status = new Status();

    const map = h('canvas', { role: 'img', 'aria-label': 'points of one jump of the student' });
    const truth = h('canvas', { role: 'img', 'aria-label': 'points of the teacher’s true flow' });
    const lossChart = h('canvas', { class: 'chart', role: 'img', 'aria-label': 'the loss over the steps' });
    const worthChart = h('canvas', {
      class: 'chart',
      role: 'img',
      'aria-label': 'how many Euler steps of the teacher one jump is worth, over the steps',
    });
    const truthName = h('span', { class: 'who euler' }, 'the teacher’s true flow');
    const worth = h('output', { class: 'figure' }, '–');
    const error = h('output', { class: 'figure' }, '–');
    const step = h('output', { class: 'figure' }, '0');
    const loss = h('output', { class: 'figure' }, '–');

    const curves = (): [Curve[], Curve[]] => [
      [{ name: 'loss', colour: '--map', ...losses, noisy: true }],
      [{ name: 'worth', colour: '--endpoint', ...worths }],
    ];
    const drawCharts = () => {
      const [lossCurves, worthCurves] = curves();
      drawChart(lossChart, lossCurves, marks);
      drawChart(worthChart, worthCurves, marks);
    };
    /** Points on their way from the look before to the last one. */
    const drawPoints = () => {
      if (!look) return;
      const done = Math.min(1, (performance.now() - arrived) / moving);
      const eased = done * done * (3 - 2 * done);
      const { x, noise, range } = look;
      const from = before?.x ?? noise;
      drawSamples(
        map,
        points(range),
        x.map((value, i) => from[i] + eased * (value - from[i])),
        noise,
      );
      if (done < 1 && !section.hidden) requestAnimationFrame(drawPoints);
    };
    const drawTruth = () => {
      if (look) drawSamples(truth, points(look.range), look.truth, look.noise);
      else if (glance) drawSamples(truth, points(glance.range), glance.x, glance.noise);
      truthName.textContent = look || !glance ? 'the teacher’s true flow' : 'the teacher, as it learns';
    };
    const draw = () => {
      drawCharts();
      drawPoints();
      drawTruth();
    };
    /** Forgets what was seen of another training. */
    const clear = () => {
      for (const list of [losses.x, losses.y, worths.x, worths.y, marks]) list.length = 0;
      before = look = glance = null;
      for (const output of [worth, error, loss]) output.textContent = '–';
      step.textContent = '0';
      for (const canvas of [map, truth]) canvas.getContext('2d')!.clearRect(0, 0, canvas.width, canvas.height);
      drawCharts();
    };
    const addLosses = (news: Extract<DistilNews, { losses: unknown }>, steps: number) => {
      for (const metrics of news.losses) {
        losses.x.push(metrics.step);
        losses.y.push(metrics.loss);
      }
      const last = news.losses[news.losses.length - 1];
      step.textContent = `${last.step} of ${steps}`;
      loss.textContent = last.loss.toPrecision(3);
      drawCharts();
    };

    const hear = (news: DistilNews) => {
      if ('text' in news) status.say(news.text);
      else if ('losses' in news) {
        status.say('Training…');
        addLosses(news, knobs.steps);
      } else {
        [before, look, arrived] = [look, news.look, performance.now()];
        const { relation, steps } = look.worth;
        worth.textContent = `${relation === '=' ? '' : `${relation} `}${steps < 10 ? steps.toFixed(1) : Math.round(steps)}`;
        error.textContent = look.error.toPrecision(3);
        worths.x.push(look.step);
        worths.y.push(steps);
        if (!before) drawTruth();
        drawPoints();
        drawCharts();
      }
    };

    const run = () => {
      running = engine
        .call('distilRun', null, { onPart: hear })
        .then((done) => status.say(done ? `Done: ${knobs.steps} steps. Ask for more, and it goes on.` : 'Paused.'))
        .catch((failure: unknown) => status.fail(failure))
        .finally(() => {
          running = undefined;
          show();
        });
      show();
    };
    const pause = async () => {
      if (running) await engine.call('distilPause', null);
      await running;
    };
    /** Trains the teacher of the chosen data. */
    const teach = async () => {
      await pause();
      teaching = true;
      started = false;
      clear();
      show();
      status.say(`Making the kernels of the teacher of ${teacher}…`);
      const hearTeacher = (news: TeacherNews) => {
        status.say(`Training the teacher of ${teacher}…`);
        if ('losses' in news) return addLosses(news, teacherSteps);
        glance = news.samples;
        drawTruth();
      };
      try {
        families.set(await engine.call('distilTeach', { data: teacher, steps: teacherSteps }, { onPart: hearTeacher }));
        taught.add(teacher);
        status.say(`The teacher of ${teacher} is trained, and can be chosen in the other parts. Start distils it.`);
      } catch (failure) {
        status.fail(failure);
      } finally {
        teaching = false;
        show();
      }
    };
    const begin = async () => {
      await pause();
      status.say('Making the kernels of a step…');
      try {
        await engine.call('distilBegin', { knobs, teacher, file });
      } catch (failure) {
        status.fail(failure);
        return;
      }
      started = true;
      clear();
      run();
    };
    /** The same training by other knobs. */
    const turn = async () => {
      if (!started) return;
      const going = running !== undefined;
      await pause();
      try {
        status.say('Making the kernels of a step…');
        await engine.call('distilTurn', knobs);
        const last = losses.x[losses.x.length - 1];
        if (last) marks.push(last);
        status.say('Turned.');
        if (going) run();
      } catch (failure) {
        status.fail(failure);
      }
    };
    let waiting: ReturnType<typeof setTimeout> | undefined;
    const set = (over: Partial<Knobs>) => {
      knobs = { ...knobs, ...over };
      clearTimeout(waiting);
      waiting = setTimeout(() => void turn(), 250);
    };

    const main = h('button', { type: 'button', class: 'strong' }, 'Start');
    main.addEventListener('click', () => {
      if (teaching) void engine.call('distilEnough', null);
      else if (running) void pause();
      else if (started) run();
      else if (taught.has(teacher)) void begin();
      else void teach();
    });
    const anew = h('button', { type: 'button', disabled: true, onclick: () => void begin() }, 'Begin anew');
    const save = h('button', { type: 'button', disabled: true, onclick: () => void download() }, 'Save');
    const share = async () => {
      const going = running !== undefined;
      await pause();
      try {
        families.set(await engine.call('distilShare', null));
        status.say('The student can be chosen in the other parts, as “distilled here”.');
      } catch (failure) {
        status.fail(failure);
      }
      if (going) run();
    };
    const other = h(
      'button',
      { type: 'button', disabled: true, onclick: () => void share() },
      'Use in the other parts',
    );
    const show = () => {
      main.textContent = teaching
        ? 'Enough'
        : running
          ? 'Pause'
          : started
            ? 'Go on'
            : taught.has(teacher)
              ? 'Start'
              : 'Train the teacher';
      anew.disabled = save.disabled = other.disabled = !started;
      load.disabled = teachers.disabled = teaching;
    };
    const download = async () => {
      const going = running !== undefined;
      await pause();
      const url = URL.createObjectURL(await engine.call('distilFile', null));
      if (going) run();
      h('a', { href: url, download: 'student.safetensors' }).click();
      setTimeout(() => URL.revokeObjectURL(url), 10_000);
    };
    const load = h('input', {
      type: 'file',
      accept: '.safetensors,.pt,.pth',
      onchange: () => {
        file = load.files?.[0] ?? null;
        if (file) void begin();
      },
    });

    let teacherSteps = 0;
    const teachers = h('select', {
      onchange: () => void chooseTeacher(teachers.value),
    });
    /** Another teacher: what was distilled of the one before is over. */
    const chooseTeacher = async (name: string) => {
      await pause();
      [teacher, started, file] = [name, false, null];
      load.value = '';
      clear();
      status.say(taught.has(name) ? invitation : `A teacher of ${name} is to be trained first.`);
      show();
    };

    const controls = h('div', { class: 'knobs' });
    const build = ({ methods, objectives }: DistilMenu) => {
      /** What a method is, with λ_L as it is printed. */
      const summary = () =>
        methods
          .find(({ name }) => name === knobs.method)!
          .summary.split(/_(\w)/)
          .map((text, i) => (i % 2 ? h('sub', {}, text) : text));
      const hint = h('small', {}, ...summary());
      const method = choice(
        methods.map(({ name }) => [name, name] as const),
        knobs.method,
        (value) =>
          void engine.call('distilKnobs', value).then(({ lambda, epsilon, rate }) => {
            set({ method: value, lambda, epsilon, rate });
            hint.replaceChildren(...summary());
            fill();
          }),
      );
      const turned = h('div', { class: 'knobs' });
      const fill = () => {
        const { lambda, epsilon, rate } = knobs;
        const weight = ({ name, summary: help }: DistilMenu['objectives'][number]) => {
          const value = h('output', {}, String(round(lambda[name])));
          const slider = h('input', {
            type: 'range',
            min: 0,
            max: 1,
            step: 0.05,
            value: lambda[name],
            title: help,
            'aria-label': `weight of ${name}`,
            oninput: () => {
              value.textContent = slider.value;
            },
            onchange: () => set({ lambda: { ...knobs.lambda, [name]: slider.valueAsNumber } }),
          });
          const symbol = (letter: string, rest: string) =>
            h('span', {}, 'λ', h('sub', {}, letter), `, ${rest} `, value);
          const title =
            name === 'lmd'
              ? symbol('L', 'Lagrangian')
              : name === 'emd'
                ? symbol('E', 'Eulerian')
                : h('span', {}, `λ of ${name} `, value);
          return h('label', { class: 'field' }, title, slider);
        };
        const [main, others] = [0, 1].map((other) =>
          objectives.filter(({ name }) => Number(name !== 'lmd' && name !== 'emd') === other),
        );
        const law = choice(
          [
            ['anneal', 'falls from … to …'],
            ['constant', 'constant'],
            ['uniform', 'drawn in (0, 1)'],
          ],
          epsilon.kind,
          (kind) => {
            set({ epsilon: { ...knobs.epsilon, kind: kind as Knobs['epsilon']['kind'] } });
            fill();
          },
        );
        const epsilonAt = (name: 'from' | 'to' | 'until', label: string) =>
          field(
            label,
            number(epsilon[name], { min: 0.001, max: 1, step: 0.001 }, (value) =>
              set({ epsilon: { ...knobs.epsilon, [name]: value } }),
            ),
          );
        const shownRate = h('output', {}, rate.toExponential(1));
        const rates = h('input', {
          type: 'range',
          min: -5,
          max: -1.5,
          step: 0.1,
          value: Math.log10(rate),
          'aria-label': 'rate of learning, as a power of ten',
          oninput: () => {
            shownRate.textContent = (10 ** rates.valueAsNumber).toExponential(1);
          },
          onchange: () => set({ rate: 10 ** rates.valueAsNumber }),
        });
        turned.replaceChildren(
          ...main.map(weight),
          h('details', {}, h('summary', {}, 'Other objectives'), h('div', { class: 'knobs' }, ...others.map(weight))),
          h(
            'div',
            { class: 'pair' },
            field('Law of ε', law),
            ...(epsilon.kind === 'anneal'
              ? [epsilonAt('from', 'ε from'), epsilonAt('to', 'to'), epsilonAt('until', 'by share of steps')]
              : epsilon.kind === 'constant'
                ? [epsilonAt('to', 'ε')]
                : []),
          ),
          h('label', { class: 'field' }, h('span', {}, 'Rate ', shownRate), rates),
        );
      };
      fill();
      controls.replaceChildren(
        h('label', { class: 'field' }, h('span', {}, 'Method'), method, hint),
        turned,
        h(
          'div',
          { class: 'pair' },
          field(
            'Steps',
            number(knobs.steps, { min: 1, max: 1e6, step: 1 }, (steps) => set({ steps })),
          ),
          field(
            'Batch',
            number(knobs.batch, { min: 8, max: 8192, step: 1 }, (batch) => set({ batch })),
          ),
          field(
            'Seed',
            number(knobs.seed, { min: 0, max: 2 ** 32, step: 1 }, (seed) => set({ seed })),
          ),
        ),
      );
    };

    const figure = (label: string, output: HTMLElement) => h('div', {}, output, h('span', {}, label));
    section.append(
      h(
        'div',
        { class: 'controls' },
        field('Teacher', teachers),
        main,
        anew,
        save,
        other,
        field('Go on from a flow map', load),
      ),
      status.element,
      h(
        'div',
        { class: 'distil' },
        controls,
        h(
          'div',
          { class: 'live' },
          h(
            'div',
            { class: 'figures' },
            figure('Euler steps is one jump worth', worth),
            figure('RMSE of one jump', error),
            figure('steps', step),
            figure('loss', loss),
          ),
          h(
            'div',
            { class: 'pictures' },
            h('figure', {}, map, h('figcaption', {}, h('span', { class: 'who map' }, 'one jump of the student'))),
            h('figure', {}, truth, h('figcaption', {}, truthName)),
          ),
          h('figure', {}, lossChart, h('figcaption', {}, 'loss; dashed where a knob was turned')),
          h('figure', {}, worthChart, h('figcaption', {}, 'Euler steps of the teacher that one jump is worth')),
        ),
      ),
    );
    void engine.call('distilMenu', null).then((menu) => {
      ({ knobs, teacherSteps } = menu);
      [teacher] = menu.teachers;
      taught.add(teacher);
      teachers.replaceChildren(...menu.teachers.map((name) => h('option', { value: name }, name)));
      build(menu);
      status.say(invitation);
    });
    return draw;
  },
};

const round = (value: number): number => Number(value.toPrecision(2));
