import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { readSafetensors } from '../node/files.js';
import type { SafetensorsFile } from '../src/checkpoint/safetensors.js';
import { samplerOfClass, samplers, schedulerFor, strengthOf, type SamplerName } from '../src/flow/samplers.js';
import { scheduleOf } from '../src/flow/schedulers/plan.js';
import { mixedAt, Trajectory, type Schedule } from '../src/flow/schedulers/schedule.js';
import { lawOf } from '../src/flow/scheduler-config.js';
import { random } from '../src/tensor/philox.js';

const folder = '../shared/fixtures/diffusers/schedulers';
const found = existsSync(folder);
if (!found) console.log(`skipped: the recorded traces of diffusers' schedulers are not here (${folder})`);
const names = found
  ? readdirSync(folder)
      .filter((name) => name.endsWith('.json') && existsSync(`${folder}/${name.replace(/json$/, 'safetensors')}`))
      .map((name) => name.replace(/\.json$/, ''))
  : [];

interface Trace {
  class: string;
  config: Record<string, unknown>;
  runs: Record<
    string,
    { init_noise_sigma: number; num_inference_steps: number; start_index: number; timesteps: number[] }
  >;
  step_kwargs: { eta?: number };
  /** Said beside the configuration, such as the timesteps that a network was distilled at. */
  set_timesteps_kwargs?: Record<string, unknown>;
}

async function doubles(io: SafetensorsFile, name: string): Promise<Float64Array> {
  if (io.tensors.get(name)!.dtype !== 'F64') return Float64Array.from(await io.readF32(name));
  const bytes = await io.read(name);
  return new Float64Array(bytes.slice().buffer);
}

/** The largest difference over the largest value of what is recorded. */
const apart = (values: ArrayLike<number>, recorded: ArrayLike<number>): number => {
  let [most, scale] = [0, 0];
  for (let i = 0; i < recorded.length; i++) {
    most = Math.max(most, Math.abs(values[i] - recorded[i]));
    scale = Math.max(scale, Math.abs(recorded[i]));
  }
  return most / scale;
};

/** The recorded stand-in for a network. */
const output = (x: ArrayLike<number>, t: number, a: Float64Array) =>
  Float64Array.from(x, (value, i) => 0.8 * Math.tanh(0.7 * value) + 0.3 * Math.sin(0.013 * t) * a[i]);

const planOf = (
  trace: Pick<Trace, 'class' | 'config' | 'set_timesteps_kwargs'>,
  steps: number,
  start: number,
  eta?: number,
): Schedule => {
  const config = { ...trace.config, ...trace.set_timesteps_kwargs, _class_name: trace.class };
  const law = lawOf(config, 'a trace');
  const name = samplerOfClass(trace.class)!;
  const { option } = samplers[name];
  const strength = strengthOf(option && eta !== undefined ? { name, [option.name]: eta } : { name });
  return scheduleOf(schedulerFor(name, law.path), law, config, { steps, start, strength });
};

describe.skipIf(!found)('recorded schedulers', () => {
  it.each(names)('%s', async (name) => {
    const trace = JSON.parse(readFileSync(`${folder}/${name}.json`, 'utf8').replace(/-?Infinity/g, 'null')) as Trace;
    const io = await readSafetensors(`${folder}/${name}.safetensors`);
    const a = await doubles(io, 'A');
    const start = await doubles(io, 'x_init');
    for (const [run, { num_inference_steps: steps, start_index: first, ...said }] of Object.entries(trace.runs)) {
      const schedule = planOf(trace, steps, first, trace.step_kwargs.eta);
      const times = schedule.steps.map(({ timestep }) => timestep);
      expect(times.length, run).toBe(said.timesteps.length);
      times.forEach((time, i) => expect(time, run).toBeCloseTo(said.timesteps[i], 9));
      expect(schedule.initial, run).toBeCloseTo(said.init_noise_sigma, 9);
      const noise = io.tensors.has(`${run}.noise`) ? await doubles(io, `${run}.noise`) : null;
      const size = start.length;
      const drawOf = (i: number) => () => noise!.subarray(i * size, (i + 1) * size);
      const from = run.includes('strength')
        ? mixedAt(schedule.steps[0], start, await doubles(io, `${run}.add_noise`))
        : start.map((value) => value * schedule.initial);

      const exact = await doubles(io, `f64.${run}.x`);
      const walk = new Trajectory(schedule, from);
      expect(apart(walk.x, exact.subarray(0, size)), run).toBeLessThan(1e-8);
      for (let i = 0; walk.step; i++) {
        const { timestep, signal, noise: held } = walk.step;
        const scale = schedule.straight ? 1 : 1 / Math.hypot(signal, held);
        const shown = walk.x.map((value) => value * scale);
        walk.advance(output(shown, timestep, a), drawOf(i));
        expect(apart(walk.x, exact.subarray((i + 1) * size, (i + 2) * size)), `${run} ${i}`).toBeLessThan(1e-8);
      }

      // As a network in f32 leads it: by what it was recorded to say.
      const [states, outputs] = [await doubles(io, `${run}.x`), await doubles(io, `${run}.model_out`)];
      const shown = io.tensors.has(`${run}.model_in`) ? await doubles(io, `${run}.model_in`) : states;
      const led = new Trajectory(schedule, states.slice(0, size));
      for (let i = 0; led.step; i++) {
        expect(apart(led.input(), shown.subarray(i * size, (i + 1) * size)), `${run} ${i}`).toBeLessThan(5e-5);
        led.advance(outputs.subarray(i * size, (i + 1) * size), drawOf(i));
        expect(apart(led.x, states.subarray((i + 1) * size, (i + 2) * size)), `${run} ${i}`).toBeLessThan(5e-5);
      }
    }
  });
});

interface RecordedCase {
  class: string;
  config: Record<string, unknown>;
  steps: number;
  start: number;
  eta: number;
  timesteps: number[];
  initial: number;
  second: number[];
  last: number[];
}
const recorded = readFileSync('test/fixtures/schedulers.jsonl', 'utf8')
  .trim()
  .split('\n')
  .map((line) => JSON.parse(line) as RecordedCase);

describe("drawn configurations of diffusers' classes", () => {
  const three = (f: (k: number) => number) => Float64Array.from([0, 1, 2], f);
  const data = three((k) => Math.sin(1 + 3 * k));
  const z = three((k) => 1.4 * Math.cos(2 + 5 * k));
  const a = three((k) => Math.sin(4 + 7 * k));
  it.each([...new Set(recorded.map(({ class: name }) => name))])('%s', (name) => {
    for (const one of recorded.filter((each) => each.class === name)) {
      const said = JSON.stringify([one.config, one.steps, one.start, one.eta]);
      const schedule = planOf(one, one.steps, one.start, one.eta);
      expect(schedule.steps.length, said).toBe(one.timesteps.length);
      schedule.steps.forEach(({ timestep }, i) => expect(timestep, said).toBeCloseTo(one.timesteps[i], 6));
      if (!one.start) expect(schedule.initial / one.initial, said).toBeCloseTo(1, 9);
      const from = one.start ? mixedAt(schedule.steps[0], data, z) : z.map((value) => value * schedule.initial);
      const walk = new Trajectory(schedule, from);
      let draws = 0;
      const draw = () => {
        const i = draws++;
        return three((k) => 1.3 * Math.cos(1 + 7 * i + 5 * k));
      };
      for (let i = 0; walk.step; i++) {
        const { timestep, signal, noise } = walk.step;
        const scale = schedule.straight ? 1 : 1 / Math.hypot(signal, noise);
        walk.advance(
          output(
            walk.x.map((value) => value * scale),
            timestep,
            a,
          ),
          draw,
        );
        if (!i) expect(apart(walk.x, one.second), said).toBeLessThan(1e-8);
      }
      expect(apart(walk.x, one.last), said).toBeLessThan(1e-7);
    }
  });
});

const vp = { beta_start: 0.00085, beta_end: 0.012, beta_schedule: 'scaled_linear' };
const scheduled = Object.entries(samplers).flatMap(([name, { schedulers = [] }]) =>
  schedulers.map((scheduler) => [name as SamplerName, scheduler.className] as const),
);

describe('schedulers', () => {
  // A network that knows the data: every way from noise has to end there, up to the noise that its last timestep keeps.
  const spacings = ['linspace', 'leading', 'trailing'];
  type Case = [className: string, steps: number, config: Record<string, unknown>];
  const cases = scheduled.flatMap(([, className]): Case[] => {
    if (className.startsWith('FlowMatch')) return [1, 3].map((shift) => [className, 5, { shift }]);
    // This one takes no data.
    const predictions = ['epsilon', 'v_prediction', ...(className === 'PNDMScheduler' ? [] : ['sample'])];
    // The second call of this one is a step further along where timesteps are no whole steps apart.
    const spaced = className === 'PNDMScheduler' ? ['leading'] : spacings;
    // From noise alone, which a prediction of noise says nothing of.
    const whole = {
      ...vp,
      rescale_betas_zero_snr: true,
      timestep_spacing: 'trailing',
      prediction_type: 'v_prediction',
      clip_sample: false,
    };
    const fromNoise = className === 'PNDMScheduler' ? [] : [3, 10].map((steps): Case => [className, steps, whole]);
    return [
      ...fromNoise,
      ...spaced.flatMap((timestep_spacing) =>
        predictions.flatMap((prediction_type) =>
          [1, 3, 7, 20].map((steps): Case => [
            className,
            steps,
            { ...vp, timestep_spacing, prediction_type, skip_prk_steps: true, clip_sample: false },
          ]),
        ),
      ),
    ];
  });
  it.each(cases)('%s in %i steps by %j ends at the data that a network knows', (className, steps, config) => {
    const schedule = planOf({ class: className, config }, steps, 0);
    const draw = random(1);
    const [data, z] = [0, 1].map(() => Float64Array.from({ length: 6 }, () => draw.normal()));
    // What the network would say at a state if its noise were the rest.
    const walk = new Trajectory(schedule, mixedAt(schedule.steps[0], data, z));
    while (walk.step) {
      const { signal, noise } = walk.step;
      const norm = Math.hypot(signal, noise);
      const held = walk.x.map((x, i) => (x - signal * data[i]) / noise);
      const says = {
        noise: held,
        data,
        v: held.map((e, i) => (signal * e - noise * data[i]) / norm),
        velocity: held.map((e, i) => e - data[i]),
        edm: data,
      }[schedule.prediction];
      walk.advance(says, () => Float64Array.from(data, () => draw.normal()));
    }
    const left = walk.x.map((value, i) => Math.abs(value - data[i]));
    expect(Math.max(...left)).toBeLessThan(0.2);
  });

  // Data N(0, 0.5²): the ODE leads every state x to x s'/s with s² = (0.5 signal)² + noise², and x̂0 is known in closed form.
  it.each([
    ['DDIMScheduler', {}, 1],
    ['EulerDiscreteScheduler', { timestep_spacing: 'trailing' }, 1],
    ['DPMSolverMultistepScheduler', { solver_order: 1, lower_order_final: false }, 1],
    ['DPMSolverMultistepScheduler', { solver_order: 2, lower_order_final: false }, 2],
    ['DPMSolverMultistepScheduler', { solver_order: 2, solver_type: 'heun', lower_order_final: false }, 2],
    ['DPMSolverMultistepScheduler', { solver_order: 3, lower_order_final: false }, 2.5],
  ] as const)('%s with %j converges to the flow of Gaussian data with order %d', (className, options, order) => {
    const errorOf = (steps: number) => {
      const config = { ...vp, clip_sample: false, use_karras_sigmas: false, ...options };
      const schedule = planOf({ class: className, config }, steps, 0);
      const spread = ({ signal, noise }: { signal: number; noise: number }) => Math.hypot(0.5 * signal, noise);
      const walk = new Trajectory(schedule, Float64Array.of(spread(schedule.steps[0])));
      // Up to a level that all numbers of steps share.
      for (const step of schedule.steps) {
        if (step.timestep < 400) {
          return Math.abs(walk.x[0] - spread(step)) / spread(step);
        }
        const guess = (0.25 * step.signal * walk.x[0]) / spread(step) ** 2;
        walk.advance([(walk.x[0] - step.signal * guess) / step.noise], () => [0]);
      }
      throw new Error('no step there');
    };
    const [coarse, fine] = [errorOf(25), errorOf(200)];
    expect(Math.log2(coarse / fine) / 3).toBeGreaterThan(0.85 * order);
    expect(fine).toBeLessThan(order > 1 ? 2e-4 : 5e-3);
  });

  it('sampled by one name, whatever the path of the network', () => {
    expect(schedulerFor('euler', { kind: 'straight' }).className).toBe('FlowMatchEulerDiscreteScheduler');
    expect(() => schedulerFor('lcm', { kind: 'straight' })).toThrow(
      /no timesteps of its own on a straight path: take euler/,
    );
    expect(() => schedulerFor('heun', { kind: 'vp', schedule: 'linear', steps: 1000 })).toThrow(/take .*ddim.*lcm/);
  });

  it.each([
    [{ class: 'LCMScheduler', config: vp }, 51, /51 steps, and the network was distilled at 50/],
    [{ class: 'DDIMScheduler', config: vp }, 1001, /1001 steps, and the network was trained at 1000/],
    [{ class: 'DDIMScheduler', config: { ...vp, steps_offset: 1 } }, 1000, /1000 steps reach the timestep 1000/],
    [{ class: 'DDIMScheduler', config: { ...vp, thresholding: true } }, 4, /thresholding: true is not supported/],
    [{ class: 'PNDMScheduler', config: vp }, 4, /skip_prk_steps: false is not supported/],
    [
      { class: 'PNDMScheduler', config: { ...vp, skip_prk_steps: true, prediction_type: 'sample' } },
      4,
      /this one says the data: take ddim/,
    ],
    [{ class: 'EulerDiscreteScheduler', config: { ...vp, timestep_spacing: 'odd' } }, 4, /timestep_spacing/],
    [
      { class: 'DDIMScheduler', config: { ...vp, rescale_betas_zero_snr: true, timestep_spacing: 'trailing' } },
      4,
      /noise alone/,
    ],
    [
      { class: 'DPMSolverMultistepScheduler', config: { ...vp, algorithm_type: 'sde-dpmsolver++' } },
      4,
      /algorithm_type/,
    ],
  ])('%j with %i steps is refused in a line', (trace, steps, message) => {
    expect(() => planOf(trace, steps, 0)).toThrow(message);
  });
});
