import { build, planProgram, type CompileOptions, type PlannedProgram, type Program } from '../src/autodiff/compile.js';
import { gradients } from '../src/autodiff/gradients.js';
import { DivergenceError, UserError } from '../src/errors.js';
import type { Device } from '../src/gpu/device.js';
import { alone } from '../src/gpu/group.js';
import type { KernelTime } from '../src/gpu/profiler.js';
import { Resource } from '../src/gpu/resource.js';
import { TensorStorage } from '../src/gpu/storage.js';
import { hostBytes, type MemoryNeeds } from '../src/flow/memory.js';
import { checksumPiece } from '../src/files/fingerprint.js';
import type { Profile } from '../src/gpu/profile.js';
import { sizeOf } from '../src/tensor/shape.js';
import type { ParameterLayout, Parameters } from '../src/nn/parameters.js';
import type { Weights } from '../src/nn/weights.js';
import { expand, sumOfSquares } from '../src/ops/broadcast.js';
import { concat, gather, iota, reshape, slice } from '../src/ops/movement.js';
import { adam, adamScalars, assign } from '../src/ops/optimizer.js';
import {
  add,
  div,
  equal,
  greater,
  maximum,
  minimum,
  mul,
  sqrt,
  sub,
  toFloat,
  toIndex,
  where,
} from '../src/ops/pointwise.js';
import { constant, fromStorage, tensor, type Tensor } from '../src/tensor/tensor.js';
import {
  allOf,
  bindLearner,
  lawsOf,
  packed,
  pageStorages,
  partsOf,
  round,
  savedArenas,
  storagesOf,
  type SavedArena,
  type Storages,
} from './learner-storages.js';
import { Exchange, pageFor, rowStorages, storagesOfParts, type PartStorages } from './exchange.js';
import { HalfSum } from './halves.js';
import { checkParts, Rows, rowsOfPart } from './rows.js';
import { biasCorrections, decayAt, rateAt, type AverageLaw, type RateSchedule } from './schedules.js';

/** What AdamW needs (Loshchilov and Hutter, 2019). */
export interface OptimizerOptions {
  rate: RateSchedule;
  beta1: number;
  beta2: number;
  epsilon: number;
  weightDecay: number;
  /** The largest norm of the whole gradient. */
  clipNorm: number;
}

/** A network that learns: its weights, what follows them, and the loss that they go down. */
export interface Learner {
  /** Its name in state files; with several learners also in front of its metrics, but for the first. */
  name: string;
  layout: ParameterLayout;
  /** Weights at the start; every average starts from them too. */
  initial: Weights;
  /** Moving averages of the weights, by name. */
  averages: Readonly<Record<string, AverageLaw>>;
  optimizer: OptimizerOptions;
  /** What its weights learn at, over the optimizer's rate: those that a teacher has too, and its own. By default 1 each. */
  rates?: { readonly inherited: number; readonly own: number };
  /** The mean loss of a batch, as a graph. */
  loss: (context: LossContext) => Loss;
  /** It moves at every step (1), every second (2), … */
  every?: number;
  /**
   * Rows of a step's batch by what they are for, where the loss is a mean over `context.rows`: then several devices may
   * share the batch, or one may compute it in parts, each with its share of every kind.
   */
  rows?: readonly number[];
  /** How often it moves within a step, each time with random numbers of their own; once by default. */
  turns?: number;
}

/** What is trained: one network, or several that take turns within a step, each seeing where the others are by then. */
export interface TrainerPlan {
  steps: number;
  seed: number;
  /** f16: weights and activations are stored in half, with a loss scale; sums, masters and moments stay f32. */
  precision: 'f32' | 'f16';
  learners: readonly Learner[];
  /** Numbers that losses see, by name, as functions of the steps done. */
  schedules?: Readonly<Record<string, (step: number) => number>>;
  /** Brings data that do not all lie on the device. */
  feed?: Feed;
  /** In how many parts, one after another, a device computes what it has of a batch; 1 by default. */
  accumulate?: number;
  /** What gradients travel in between ranks: f16 takes half the bytes, see `HalfSum`; f32 by default. */
  exchange?: 'f32' | 'f16';
}

/** Data that change while a run goes on. */
export interface Feed {
  /** Brings what a step (counted from 0) reads onto the device; undefined where it is there already. */
  before(step: number, device: Device): Promise<void> | undefined;
  /** Gives the memory of it back. */
  dispose(): void;
}

/** What a loss may be built from. */
export interface LossContext {
  /** The weights that are trained. */
  parameters: Parameters;
  /** Their moving averages, by name. No gradient flows into them. */
  averages: Readonly<Record<string, Parameters>>;
  /** The weights and averages of all learners, by name. */
  learners: Readonly<Record<string, Pick<LossContext, 'parameters' | 'averages'>>>;
  /** The rows of the batch that are computed, with random numbers for each; none of a learner without `rows`. */
  rows: Rows;
  /** u32 [3]: seed and step, the key of all random numbers. */
  key: Tensor;
  /** The scheduled numbers of this step, [1] each. */
  schedule: Readonly<Record<string, Tensor>>;
  /** What the device can. */
  profile: Profile;
}

/** The mean loss, and parts of it to be shown beside it. All scalars; of a learner with `rows` means over those of the batch. */
export interface Loss {
  total: Tensor;
  parts: Record<string, Tensor>;
}

/**
 * What one step reported: the loss and its parts, the gradient's norm before clipping; in f16 also the loss scale and how
 * many updates were skipped so far because a gradient did not fit in half.
 */
export type StepMetrics = { step: number; loss: number; gradientNorm: number } & Record<string, number>;

/** Numbers that are read a part at a time, as they are by then: on a device or in a file. */
export interface Arena {
  length: number;
  /** Elements `start` to before `end`. */
  read(start: number, end: number): Promise<Float32Array>;
}

/** Everything that a run needs to go on: the number of steps done, and arenas by `learner.arena`. */
export interface TrainerState {
  step: number;
  arenas: Readonly<Record<string, Arena>>;
}

/** Steps whose metrics stay on the device until they are read in one go. */
const ringLength = 64;
/** Where the number of a turn within a step begins in the random key. */
const turnBits = 26;

/**
 * The compiled steps of learners (forward, backward, clip, AdamW, averages), replayed. Learning rate, decays, schedules,
 * seed and step are data in small buffers: nothing that changes is ever part of a recording.
 */
export class Trainer extends Resource {
  private step = 0;
  private readonly exchanged = { bytes: 0, milliseconds: 0, steps: 0 };
  /** Steps of late in which this rank's part of a batch came to what is no number. */
  private readonly unsound = new Set<number>();
  private constructor(
    readonly device: Device,
    private readonly plan: TrainerPlan,
    private readonly shared: SharedStorages,
    private readonly members: readonly Member[],
    /** In half: rounds masters and averages. */
    private readonly rounding: Program | null,
  ) {
    super('this trainer');
  }

  /**
   * Compiles a step.
   * @param planned what `planTraining` made of the plan for this device
   * @throws UserError where the device has no f16 and it is asked for, or a kernel binds more than it allows
   */
  static async create(
    device: Device,
    plan: TrainerPlan,
    progress: Pick<CompileOptions, 'onProgress' | 'signal'> = {},
    planned: PlannedTraining = planTraining(device, plan),
  ): Promise<Trainer> {
    const { shared, members: all, rounding: rounds } = planned;
    const members: Member[] = [];
    // Whatever is there by the time that something fails is given back.
    const held: (Resource | undefined)[] = [
      ...Object.values(shared),
      ...all.flatMap(({ storages, ring, parts }) => [
        ...allOf(storages),
        ring,
        ...(parts ? storagesOfParts(parts) : []),
      ]),
    ];
    try {
      const compiled = async (planned: PlannedProgram) => {
        const program = await build(device, planned, progress);
        held.push(program);
        return program;
      };
      for (const { planned, parts, ...member } of all) {
        const computed = parts && {
          ...parts,
          ...halvesOf(device, plan, parts, member),
          program: await compiled(parts.planned),
        };
        members.push({ ...member, ...(computed && { parts: computed }), program: await compiled(planned) });
      }
      const rounding = rounds && (await build(device, rounds));
      rounding?.run();
      return new Trainer(device, plan, shared, members, rounding);
    } catch (error) {
      for (const resource of held) resource?.dispose();
      throw error;
    }
  }

  get stepsDone(): number {
    return this.step;
  }

  /** Bytes of memory that steps work in, beside weights and moments, and the least that any plan would need. */
  get memory(): Program['memory'] {
    const all = this.programs.map(({ memory }) => memory);
    return {
      bytes: all.reduce((sum, { bytes }) => sum + bytes, 0),
      lowerBound: all.reduce((sum, { lowerBound }) => sum + lowerBound, 0),
    };
  }

  /** What the plan changes from step to step, as it was in a step (counted from 1): the first learner's rate, and schedules. */
  scheduleOf(step: number): Record<string, number> {
    const { steps, schedules = {} } = this.plan;
    const { rate } = this.members[0].learner.optimizer;
    const scheduled = Object.entries(schedules).map(([name, at]) => [name, at(step - 1)]);
    return { learningRate: rateAt(rate, step - 1, steps), ...Object.fromEntries(scheduled) };
  }

  /** Dispatches of one step. */
  get dispatches(): number {
    const { accumulate = 1 } = this.plan;
    return this.members.reduce(
      (sum, { program, parts }) =>
        sum + program.dispatches.length + (parts ? accumulate * parts.program.dispatches.length : 0),
      0,
    );
  }

  /**
   * What a step so far gave to other ranks, in bytes, and how many milliseconds it went on waiting for them once its own
   * gradient was there; null of one rank alone.
   */
  get exchange(): { bytes: number; milliseconds: number } | null {
    const { bytes, milliseconds, steps } = this.exchanged;
    return this.device.group.size > 1 && steps ? { bytes: bytes / steps, milliseconds: milliseconds / steps } : null;
  }

  private get programs(): Program[] {
    return this.members.flatMap(({ program, parts }) => [...(parts ? [parts.program] : []), program]);
  }

  /**
   * Runs `count` steps (at most 64) and returns what each reported.
   * @throws DivergenceError with the step where a loss, or in f32 a gradient, is no finite number; in f16 where a gradient
   * overflows though the loss scale is 1 already. Weights are then as they were before that step
   */
  async advance(count: number): Promise<StepMetrics[]> {
    this.assertUsable();
    const steps = Math.min(count, ringLength, this.plan.steps - this.step);
    const first = this.step;
    this.unsound.clear();
    for (let i = 0; i < steps; i++) {
      await this.plan.feed?.before(this.step, this.device);
      for (const member of this.turns()) await this.turn(member, (program, after) => program.run(after));
      this.exchanged.steps++;
      this.step++;
    }
    const rings: Float32Array[] = [];
    for (const { ring } of this.members) rings.push((await this.device.read(ring)) as Float32Array);
    try {
      return Array.from({ length: steps }, (_, i) => this.metricsOf(first + i, rings));
    } catch (error) {
      throw error instanceof DivergenceError ? await this.located(error) : error;
    }
  }

  /** The same with the ranks whose rows it came from, where it was not those of all. All ranks come here alike. */
  private async located(error: DivergenceError): Promise<DivergenceError> {
    const { group } = this.device;
    const all = await group.gather(Uint8Array.of(Number(this.unsound.has(error.step ?? 0))));
    const at = all.flatMap(([unsound], rank) => (unsound ? [rank] : []));
    if (!at.length || at.length === all.length) return error;
    const where = at.length > 1 ? `ranks ${at.join(', ')}` : `rank ${at[0]}`;
    return new DivergenceError(`${error.message} on ${where}`, error.step);
  }

  /** The next step with timestamps around each kernel. It counts as a step. */
  async profileStep(): Promise<KernelTime[]> {
    const times: KernelTime[] = [];
    await this.plan.feed?.before(this.step, this.device);
    for (const member of this.turns())
      await this.turn(member, async (program, after) => {
        times.push(...(await program.profile()));
        after?.forEach((act) => act());
      });
    this.step++;
    return times;
  }

  protected free(): void {
    this.plan.feed?.dispose();
    for (const { storages, ring, parts } of this.members)
      for (const held of [...allOf(storages), ring, ...(parts ? storagesOfParts(parts) : [])]) held.dispose();
    for (const program of this.programs) program.dispose();
    for (const held of [...Object.values(this.shared), this.rounding]) held?.dispose();
  }

  /** An average of a learner's weights, as it is when it is read. */
  average(learner: string, name: string): Weights {
    this.assertUsable();
    const { learner: found, storages } = this.members.find((member) => member.learner.name === learner)!;
    const { layout, averages } = found;
    const start = Object.keys(averages).indexOf(name) * layout.length;
    return layout.weightsOf((from, to) => this.readArena(storages, 'averages', start + from, start + to));
  }

  /**
   * The state with what each rank keeps for itself, on the first one; all ask for it after the same step. Where gradients
   * travel in f32 nobody keeps anything.
   */
  async wholeState(): Promise<TrainerState> {
    const { group } = this.device;
    const state = this.state();
    const arenas = { ...state.arenas };
    for (const { learner, parts } of this.members) {
      if (!parts?.left) continue;
      const { buffer, byteOffset, byteLength } = parts.left;
      const all = await group.gather(new Uint8Array(buffer, byteOffset, byteLength));
      const { length } = parts.left;
      arenas[leftOf(learner)] = {
        length: length * group.size,
        read: async (start, end) => {
          const values = new Float32Array(end - start);
          for (let at = start; at < end;) {
            const rank = Math.floor(at / length);
            const last = Math.min(end, (rank + 1) * length);
            const { buffer, byteOffset } = all[rank];
            values.set(new Float32Array(buffer, byteOffset + 4 * (at - rank * length), last - at), at - start);
            at = last;
          }
          return values;
        },
      };
    }
    return { ...state, arenas };
  }

  /** Everything that is needed to go on to the bit, as it is when it is read: before the next step. */
  state(): TrainerState {
    this.assertUsable();
    const arenas: Record<string, Arena> = {};
    for (const { name, storages, arena, length } of this.arenas())
      arenas[name] = { length, read: (start, end) => this.readArena(storages, arena, start, end) };
    return { step: this.step, arenas };
  }

  /**
   * Goes on from a state, to the bit.
   * @returns what is not as it was, in words; null where all is
   * @throws UserError where it is none of this plan
   */
  async restore({ step, arenas: saved }: TrainerState): Promise<string | null> {
    const lefts = this.members.map(({ learner }) => leftOf(learner));
    const arenas = Object.fromEntries(Object.entries(saved).filter(([name]) => !lefts.includes(name)));
    if (!Number.isInteger(step) || step < 0) throw new UserError(`the saved state is of step ${step}, which cannot be`);
    if (step > this.plan.steps)
      throw new UserError(`${step} steps are done already: ask for at least as many, not ${this.plan.steps}`, 'steps');
    const wanted = [...this.arenas()];
    const unknown = Object.keys(arenas).find((name) => !wanted.some((other) => other.name === name));
    if (unknown) throw new UserError(`the saved state holds ${unknown}, which this run does not have`);
    for (const { name, length } of wanted)
      if (arenas[name]?.length !== length)
        throw new UserError(
          `the saved ${name} has ${arenas[name]?.length ?? 0} values, this run needs ${length}: resume with the recipe it was started with`,
        );
    for (const { name, storages, arena } of wanted) {
      for (const { storage, offset, start, end } of partsOf(storages, arena)) {
        const values = await arenas[name].read(start, end);
        const wrong = values.findIndex((value) => !Number.isFinite(value));
        if (wrong >= 0)
          throw new UserError(`the saved ${name} holds ${values[wrong]} at ${start + wrong}: the state is damaged`);
        this.device.write(storage, values, offset);
        // What waits to be written is held twice.
        await this.device.finished();
      }
    }
    this.rounding?.run();
    this.step = step;
    return this.restoreLeft(saved);
  }

  /** What rounding of gradients took away goes on where as many ranks kept it. @returns as `restore` */
  private async restoreLeft(saved: TrainerState['arenas']): Promise<string | null> {
    const { rank, size } = this.device.group;
    let dropped: string | null = null;
    for (const { learner, parts } of this.members) {
      const { length } = learner.layout;
      const arena = saved[leftOf(learner)];
      const same = parts?.left && arena?.length === size * length;
      parts?.left?.set(same ? await arena.read(rank * length, (rank + 1) * length) : new Float32Array(length));
      if (arena && !same)
        dropped = `gradients went in f16 between ${arena.length / length} ranks: what rounding took from those of the last steps is dropped`;
    }
    return dropped;
  }

  /** The arenas that a state holds. */
  private *arenas(): Iterable<{ name: string; storages: Storages; arena: SavedArena; length: number }> {
    for (const { learner, storages } of this.members)
      for (const arena of savedArenas) {
        const length = partsOf(storages, arena).at(-1)!.end;
        yield { name: `${learner.name}.${arena}`, storages, arena, length };
      }
  }

  /** Elements of an arena, from the pages that it lies in. */
  private async readArena(storages: Storages, arena: SavedArena, from: number, to: number): Promise<Float32Array> {
    const values = new Float32Array(to - from);
    for (const { storage, offset, start, end } of partsOf(storages, arena)) {
      const [first, last] = [Math.max(from, start), Math.min(to, end)];
      if (first < last)
        values.set(await this.device.readPart(storage, offset + first - start, last - first), first - from);
    }
    return values;
  }

  /**
   * A turn of a learner: forward, backward and update at once, or the parts of a batch one after another, then what other
   * devices computed, and the update.
   */
  private async turn(
    { learner, parts, program }: Member,
    run: (program: Program, after?: Exchange['after']) => Promise<void> | void,
  ): Promise<void> {
    if (parts) {
      const { device } = this;
      const { accumulate = 1 } = this.plan;
      const { rank, size } = device.group;
      const exchange = new Exchange(device, parts, parts.halves);
      for (let k = 0; k < accumulate; k++) {
        const { numbers, counted } = rowsOfPart(learner.rows!, size * accumulate, rank * accumulate + k);
        device.write(parts.numbers, numbers);
        device.write(parts.counted, counted);
        device.write(parts.fresh, Float32Array.of(Number(k === 0)));
        await run(parts.program, k + 1 === accumulate ? exchange.after : undefined);
      }
      if (size > 1) {
        const computed = await exchange.finish();
        this.exchanged.bytes += exchange.bytes;
        this.exchanged.milliseconds += performance.now() - computed;
        if (!exchange.sound) this.unsound.add(this.step + 1);
      }
    }
    await run(program);
  }

  /** The learners that have a turn in the next step, one after another, the scalars of each set when it is asked for. */
  private *turns(): Iterable<Member> {
    const { plan, step, device, shared } = this;
    const schedule = Object.values(plan.schedules ?? {}).map((at) => at(step));
    if (schedule.length) device.write(shared.schedule, Float32Array.from(schedule));
    device.write(shared.slot, Float32Array.of(step % ringLength));
    for (const member of this.members) {
      const { learner, storages } = member;
      const { every = 1, turns = 1, averages, optimizer, rates = { inherited: 1, own: 1 } } = learner;
      if (step % every) continue;
      const { rate, beta1, beta2, epsilon, weightDecay, clipNorm } = optimizer;
      for (let turn = 0; turn < turns; turn++) {
        // Turns stand in bits of the step's word that no run's steps reach.
        const word = step + turn * 2 ** turnBits;
        device.write(shared.key, Uint32Array.of(plan.seed >>> 0, Math.floor(plan.seed / 2 ** 32), word));
        const decays = lawsOf(averages).map((law) => decayAt(law, Math.floor(step / every) * turns + turn));
        const learningRate = rateAt(rate, step, plan.steps);
        const both = [rates.inherited * learningRate, rates.own * learningRate];
        const scalars = [...both, beta1, beta2, epsilon, weightDecay, clipNorm, ...decays];
        device.write(storages.scalars, Float32Array.from(scalars));
        yield member;
      }
    }
  }

  /** What a step (counted from 0) left in the rings. A learner that had no turn reports what it did last. */
  private metricsOf(step: number, rings: readonly Float32Array[]): StepMetrics {
    const half = this.plan.precision === 'f16';
    const report: Record<string, number> = { step: step + 1 };
    this.members.forEach(({ learner: { name, every = 1, turns = 1 }, metrics }, m) => {
      if (step % every) return;
      const row = (step % ringLength) * metrics.length;
      const { taken, ...values } = Object.fromEntries(metrics.map((metric, k) => [metric, rings[m][row + k]]));
      const of = m ? `${name}: ` : '';
      const diverged = (what: string) => new DivergenceError(`${of}${what} at step ${step + 1}`, step + 1);
      if (!Number.isFinite(values.loss)) throw diverged(`the loss became ${values.loss}`);
      const skipped = !Number.isFinite(values.gradientNorm);
      if (skipped && !half) throw diverged(`the gradient became ${values.gradientNorm}`);
      if (skipped && values.lossScale <= 1)
        throw diverged('the gradient overflows half precision however small the loss scale is');
      if (half) values.skipped = (Math.floor(step / every) + 1) * turns - taken - (skipped ? 0 : 1);
      for (const [metric, value] of Object.entries(values)) report[m ? `${name}.${metric}` : metric] = value;
    });
    return report as StepMetrics;
  }
}

/** A step of all learners as it will run, and what it needs: nothing of it is on a device yet. */
export interface PlannedTraining {
  shared: SharedStorages;
  members: readonly (Omit<Member, 'program' | 'parts'> & {
    planned: PlannedProgram;
    parts?: PartStorages & { planned: PlannedProgram };
  })[];
  rounding: PlannedProgram | null;
  /** Kernels of a step, the memory that they work in, and the least that any plan would need. */
  kernels: number;
  bytes: number;
  lowerBound: number;
  needs: MemoryNeeds;
}

/**
 * Traces and plans a step, for a device or what is known of one.
 * @throws UserError as `Trainer.create`
 */
export function planTraining(
  device: Pick<Device, 'profile' | 'pageBytes'> & { group?: Device['group'] },
  plan: TrainerPlan,
): PlannedTraining {
  const { profile, pageBytes, group = alone } = device;
  const { accumulate = 1 } = plan;
  const count = group.size * accumulate;
  const half = plan.precision === 'f16';
  if (half && !profile.f16) throw new UserError('this adapter has no f16 (shader-f16): f32 works on all', 'precision');
  const names = Object.keys(plan.schedules ?? {});
  const shared: SharedStorages = {
    schedule: new TensorStorage('schedule', 'f32', Math.max(1, names.length)),
    key: new TensorStorage('random key', 'u32', 3),
    slot: new TensorStorage('slot', 'f32', 1),
  };
  const all = plan.learners.map((learner) => ({
    learner,
    storages: storagesOf(learner, half, pageBytes, group.size > 1 ? pageFor(learner.layout) : undefined),
  }));
  const learners = Object.fromEntries(
    all.map(({ learner, storages }) => [learner.name, bindLearner(learner, storages)]),
  );
  const context = {
    learners,
    profile,
    key: fromStorage(shared.key),
    schedule: Object.fromEntries(names.map((name, i) => [name, slice(fromStorage(shared.schedule), 0, i, i + 1)])),
  };
  const members = all.map(({ learner, storages }): PlannedTraining['members'][number] => {
    checkParts(learner.rows, count, accumulate > 1 ? 'accumulate' : undefined);
    const parts = count > 1 ? rowStorages(learner.rows!, count) : undefined;
    const rows = new Rows(
      context.key,
      learner.rows ?? [],
      count,
      parts && {
        numbers: fromStorage(parts.numbers),
        counted: fromStorage(parts.counted),
      },
    );
    const traced = trace(learner, storages, { ...context, ...learners[learner.name], rows }, half);
    const planned = (effects: Tensor[]) => planProgram(profile, { effects, half });
    const update = (gradient: Gradient) => updateOf(learner, storages, gradient, shared.slot, plan);
    if (!parts) {
      const { effects, ...rest } = update(traced);
      return { learner, storages, ...rest, planned: planned(effects) };
    }
    const {
      effects: collected,
      gradient,
      ...kept
    } = collect(traced, accumulate, group.size > 1 ? storages.pages : null);
    const { effects, ...rest } = update(gradient);
    const computed = { ...parts, ...kept, planned: planned(collected) };
    return { learner, storages, ...rest, planned: planned(effects), parts: computed };
  });
  const effects = half ? all.flatMap(({ storages }) => storages.pages.map(round)) : [];
  const programs = members.flatMap(({ planned, parts }) => [...(parts ? [parts.planned] : []), planned]);
  const arenas = programs.map(({ arena }) => arena);
  const bytes = arenas.reduce((sum, arena) => sum + arena.bytes, 0);
  return {
    shared,
    members,
    rounding: half ? planProgram(profile, { effects, half }) : null,
    kernels: programs.reduce((sum, { tasks }) => sum + tasks.length, 0),
    bytes,
    lowerBound: arenas.reduce((sum, arena) => sum + arena.lowerBound, 0),
    needs: needsOf(members, programs, bytes),
  };
}

/** What a training needs, by what it is for. */
function needsOf(
  members: PlannedTraining['members'],
  programs: readonly PlannedProgram[],
  working: number,
): MemoryNeeds {
  const storages = new Set(programs.flatMap((planned) => [...planned.storages]));
  const pages = members.flatMap(({ storages: own }) => own.pages);
  const bytesOf = (all: Iterable<TensorStorage | undefined>) =>
    [...all].reduce((sum, storage) => sum + (storage?.bytes ?? 0), 0);
  const summed = members.flatMap(({ parts }) => parts?.gradients.flatMap((gradient) => gradient ?? []) ?? []);
  const learned = new Set([...pages.flatMap(pageStorages), ...summed]);
  const others = [...storages].filter((storage) => !learned.has(storage));
  const layouts = members.map(({ learner }) => learner.layout);
  const largest = layouts.flatMap(({ parameters }) => parameters.map(({ shape }) => 4 * sizeOf(shape)));
  return {
    device: {
      weights: bytesOf(pages.map(({ parameters }) => parameters)),
      moments: bytesOf(pages.flatMap(({ firstMoment, secondMoment }) => [firstMoment, secondMoment])),
      averages: bytesOf(pages.map(({ averages }) => averages)),
      'weights and averages in half': bytesOf(pages.map(({ rounded }) => rounded)),
      'fixed weights': bytesOf(others.filter(({ filler }) => filler)),
      data: bytesOf(others.filter(({ filler }) => !filler)),
      'gradients and activations': working + bytesOf(summed),
    },
    // A few copies of a tensor, or of a checkpoint's piece under its checksum, or the average that pictures are drawn from.
    host: hostBytes(
      storages,
      Math.max(
        4 * largest.reduce((most, size) => Math.max(most, size), 0),
        3 * Math.min(checksumPiece, bytesOf(learned)),
        4 * layouts.reduce((sum, { length }) => sum + length, 0),
      ),
    ),
  };
}

/** A learner as it lives on the device. */
export interface Member {
  learner: Learner;
  storages: Storages;
  /** The update; where a batch is computed at once, all that comes before it as well. */
  program: Program;
  /** Where it is computed in parts: the gradient of one. */
  parts?: PartStorages & Halves & { program: Program };
  /** What a row of `ring` holds. */
  metrics: readonly string[];
  /** Metrics of the last steps. */
  ring: TensorStorage;
}

/** The name in a state of what each rank keeps of a learner where gradients travel in half, one after another. */
const leftOf = ({ name }: Learner) => `${name}.left`;

/** Where gradients travel in half. */
export interface Halves {
  /** What sums them, by their storages. */
  halves?: ReadonlyMap<TensorStorage, HalfSum>;
  /** What rounding took away so far, as the arena lies. */
  left?: Float32Array;
}

/** How a learner's gradients are summed, where that is in half. */
function halvesOf(
  { group }: Device,
  { exchange }: TrainerPlan,
  { gradients }: PartStorages,
  { learner, storages }: Pick<Member, 'learner' | 'storages'>,
): Halves {
  if (exchange !== 'f16' || group.size === 1) return {};
  const left = new Float32Array(learner.layout.length);
  const halves = gradients.flatMap((gradient, i): [TensorStorage, HalfSum][] => {
    const { start, end } = storages.pages[i];
    return gradient ? [[gradient, new HalfSum(group, left.subarray(start, end))]] : [];
  });
  return { halves: new Map(halves), left };
}

/** Numbers of a step that all learners read. */
export interface SharedStorages {
  schedule: TensorStorage;
  key: TensorStorage;
  slot: TensorStorage;
}

/** The gradient of a batch, and what is reported of it. */
interface Gradient {
  /** As each page of parameters lies, times the loss scale; null where a page has none. */
  pages: readonly (Tensor | null)[];
  /** The loss and its parts by name, scalars. */
  reported: Readonly<Record<string, Tensor>>;
}

/** The gradient of a learner's loss, by the weights that learn. */
function trace({ layout, loss, rates }: Learner, storages: Storages, context: LossContext, half: boolean): Gradient {
  const { total, parts } = loss(context);
  const fixed = rates?.inherited === 0;
  const wanted = layout.parameters.flatMap(({ frozen, student }, i) => (frozen || (fixed && !student) ? [] : [i]));
  const slopes = gradients(
    total,
    wanted.map((i) => context.parameters(layout.parameters[i].name)),
    half ? reshape(slice(fromStorage(storages.progress), 0, 0, 1), total.shape) : undefined,
  );
  const pages = packed(layout, new Map(wanted.map((i, k) => [i, slopes[k]])), storages.pages);
  return { pages, reported: { loss: total, ...parts } };
}

/**
 * Effects that add the gradient of a part of a batch to that of those before it, and the gradient that comes of it.
 * @param judged the pages, where the gradient's own norm goes behind the sums: it says who gave what is no number
 */
function collect({ pages, reported }: Gradient, accumulate: number, judged: Storages['pages'] | null) {
  const fresh = new TensorStorage('first part', 'f32', 1);
  const isFirst = greater(fromStorage(fresh), 0);
  const effects: Tensor[] = [];
  const kept = (name: string, value: Tensor): TensorStorage => {
    const storage = new TensorStorage(name, 'f32', value.size);
    const before = fromStorage(storage);
    const sum = accumulate > 1 ? where(expand(isFirst, value.shape), value, add(before, value)) : value;
    effects.push(assign(storage, sum));
    return storage;
  };
  const gradients = pages.map((page) => page && kept('gradient', page));
  const names = Object.keys(reported);
  const scalars = names.map((name) => reshape(reported[name], [1]));
  const sums = kept('loss', concat(judged ? [...scalars, squaredNormOf(pages, judged)] : scalars, 0));
  const gradient: Gradient = {
    pages: gradients.map((storage) => storage && fromStorage(storage)),
    reported: Object.fromEntries(names.map((name, i) => [name, slice(fromStorage(sums), 0, i, i + 1)])),
  };
  return { effects, gradient, gradients, sums, fresh };
}

/** One norm over all pages; what has no gradient adds nothing to it. */
const squaredNormOf = (pages: Gradient['pages'], storages: Storages['pages']) =>
  sumOfSquares(pages.map((page, i) => page ?? constant(0, [storages[i].parameters.length])));

/** A learner's update as effects, a row in its ring, its progress. */
function updateOf(
  { layout, optimizer, turns = 1 }: Learner,
  storages: Storages,
  { pages, reported: { loss, ...parts } }: Gradient,
  slot: TensorStorage,
  { precision, steps }: TrainerPlan,
): { effects: Tensor[]; metrics: string[]; ring: TensorStorage } {
  const half = precision === 'f16';
  const progress = fromStorage(storages.progress);
  const [scale, , taken] = [0, 1, 2].map((i) => slice(progress, 0, i, i + 1));
  const squaredNorm = squaredNormOf(pages, storages.pages);
  const scalars = scalarsOf(storages.scalars, taken, optimizer, steps * turns);
  const { studentSpan } = layout;
  const updates = pages.flatMap((gradient, i) => {
    const { start, end } = storages.pages[i];
    const within = (at: number) => Math.min(Math.max(at, start), end) - start;
    const own = { start: within(studentSpan.start), end: within(studentSpan.end) };
    const state = { ...storages.pages[i], own };
    return gradient ? [adam(gradient, squaredNorm, scalars, state, half ? scale : undefined)] : [];
  });
  const reported: Record<string, Tensor> = {
    loss,
    gradientNorm: half ? div(sqrt(squaredNorm), scale) : sqrt(squaredNorm),
    ...parts,
    ...(half && { lossScale: scale, taken }),
  };
  const metrics = Object.keys(reported);
  const ring = new TensorStorage('recent metrics', 'f32', ringLength * metrics.length);
  const shape = [ringLength, metrics.length];
  const rows = expand(reshape(toFloat(iota([ringLength])), [ringLength, 1]), shape);
  const values = Object.values(reported).map((value) => reshape(value, [1, 1]));
  const record = where(equal(rows, fromStorage(slot)), expand(concat(values, 1), shape), fromStorage(ring, shape));
  // Effects run in the order in which they are made: the row tells of the progress before this step.
  const recorded = assign(ring, record);
  const next = assign(storages.progress, nextProgress(progress, squaredNorm, half));
  return { effects: [...updates, recorded, next], metrics, ring };
}

/** The scalars of `adam`: the step's own, and the bias corrections of the update that is taken next. */
function scalarsOf(given: TensorStorage, taken: Tensor, { beta1, beta2 }: OptimizerOptions, steps: number): Tensor {
  const table = biasCorrections(beta1, beta2, steps);
  const rows = table.length / 2;
  const corrections = reshape(gather(tensor(table, [rows, 2]), toIndex(minimum(taken, rows - 1))), [2]);
  const [before, all] = [adamScalars.length - 2, fromStorage(given)];
  const parts = [slice(all, 0, 0, before), corrections];
  return concat([...parts, slice(all, 0, before, given.length)], 0);
}

/**
 * Loss scale, steps since it changed, updates taken. The scale is doubled after many steps without overflow and halved by
 * an overflow (Micikevicius et al., 2018), whose update Adam leaves out; in f32 it stays 1.
 */
function nextProgress(progress: Tensor, squaredNorm: Tensor, half: boolean): Tensor {
  const [scale, steps, taken] = [0, 1, 2].map((i) => slice(progress, 0, i, i + 1));
  // As `adam` decides: the largest number is finite, NaN equals and exceeds nothing.
  const finite = maximum(greater(largest, squaredNorm), equal(squaredNorm, largest));
  const counted = add(taken, finite);
  if (!half) return concat([scale, steps, counted], 0);
  const grow = mul(finite, greater(steps, stepsToGrow));
  const next = where(finite, where(grow, minimum(mul(scale, 2), largestScale), scale), maximum(mul(scale, 0.5), 1));
  return concat([next, where(mul(finite, sub(1, grow)), add(steps, 1), 0), counted], 0);
}
const stepsToGrow = 1000;
const largestScale = 2 ** 24;
/** The largest f32. */
const largest = (2 - 2 ** -23) * 2 ** 127;
