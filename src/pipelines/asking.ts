import { UserError } from '../errors.js';
import { excess, memoryLine, shortage, type AvailableMemory } from '../flow/memory.js';
import type { Network } from '../flow/network.js';
import { equalSteps, isGuided, Runner, type Batch, type ConditionValues } from '../flow/runner.js';
import type { Sampler } from '../flow/samplers.js';
import type { Device } from '../gpu/device.js';
import { Resource } from '../gpu/resource.js';

/** What a network is told of all samples, and how strongly. */
export interface Telling {
  readonly conditions: ConditionValues;
  /** What guidance leads away from. */
  readonly negative: ConditionValues;
  readonly guidance: number;
}

/** How a network is asked. */
export interface AskingOptions {
  /** Samples. */
  readonly count: number;
  /** Whether guidance asks with and without the text in one call, or in two that take half of the memory; by default as memory allows. */
  readonly calls?: 1 | 2;
  readonly available?: AvailableMemory;
}

/** A network that is ready to be asked for samples with everything that it is told, as far as memory allows at a time. */
export class Asking extends Resource {
  private constructor(
    private readonly runner: Runner,
    private readonly telling: Telling,
    private readonly apart: boolean,
    /** What it takes, in a line. */
    readonly memory: string,
  ) {
    super('this network');
  }

  /**
   * As many samples at a time as fit, and guidance in two calls where one does not.
   * @throws UserError where one sample at a time is too much
   */
  static fitting(
    device: Device,
    network: Network,
    telling: Telling,
    { count, calls, available = {} }: AskingOptions,
  ): Asking {
    const guided = isGuided(network, telling.guidance);
    const ways = [];
    for (let batch = count; batch >= 1; batch >>= 1) ways.push({ batch, apart: guided && calls === 2 });
    if (guided && calls === undefined) ways.push({ batch: 1, apart: true });
    let needs;
    for (const { batch, apart } of ways) {
      const runner = new Runner(device, network, batch, apart ? 1 : telling.guidance);
      needs = runner.needs({ name: network.description.role === 'flow-map' ? 'jump' : 'ddpm' });
      if (!excess(needs, available)) return new Asking(runner, telling, apart, memoryLine(needs));
      runner.dispose();
    }
    throw new UserError(`one sample at a time: ${shortage(needs!, available)}`, 'size');
  }

  get network(): Network {
    return this.runner.network;
  }

  /** What the network says of samples as it is shown them, at its own time, under guidance if that is wanted. */
  async output(x: Float32Array, timestep: number): Promise<Float32Array> {
    const { runner, apart } = this;
    const { conditions, negative, guidance } = this.telling;
    const t = new Float32Array(x.length / runner.sampleSize).fill(timestep);
    if (!apart) return runner.output({ x, t, conditions, negative });
    const free = await runner.output({ x, t, conditions: { ...conditions, ...negative } });
    const given = await runner.output({ x, t, conditions });
    return free.map((value, i) => value + guidance * (given[i] - value));
  }

  /** Values of one sample. */
  get sampleSize(): number {
    return this.runner.sampleSize;
  }

  /** As of a runner, told everything. @throws UserError where guidance takes two calls */
  follow(batch: Batch, grid: readonly number[], sampler: Sampler, seed = 0): Promise<Float32Array> {
    if (this.apart)
      throw new UserError(
        `${sampler.name} has guidance in one call, which does not fit: take euler or ddim, or smaller pictures`,
        'sampler',
      );
    const { conditions, negative } = this.telling;
    return this.runner.follow({ ...batch, conditions, negative }, grid, sampler, seed);
  }

  /** As of a runner: f(x, t, s) of a flow map. */
  jump(batch: Batch, hops = 1): Promise<Float32Array> {
    return this.follow(batch, equalSteps(hops), { name: 'jump' });
  }

  /** As of a runner: the flow from t to s in equal steps. */
  integrate(batch: Batch, steps: number, solver: Sampler['name']): Promise<Float32Array> {
    return this.follow(batch, equalSteps(steps), { name: solver });
  }

  protected free(): void {
    this.runner.dispose();
  }
}
