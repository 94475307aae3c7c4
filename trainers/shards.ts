import { shardRows, type StoredSamples } from '../src/data/shards.js';
import type { Samples } from '../src/data/dataset.js';
import type { Device } from '../src/gpu/device.js';
import type { Feed } from './trainer.js';

/** Where the samples of a shard go. */
export interface ShardTarget {
  /** Puts a shard on the device, in place of the last. */
  write(device: Device, shard: Samples): void;
  /** Gives what it lies in back. */
  dispose(): void;
}

/**
 * Brings the samples that a step draws from: a shard stays for as many steps as draw about as many samples as it has, while
 * the next one is read. Which it is follows from seed and step alone.
 * @param size samples of a shard
 * @param batch samples that a step draws
 */
export function shardFeed(
  stored: StoredSamples,
  { size, batch, seed }: { size: number; batch: number; seed: number },
  target: ShardTarget,
): Feed {
  const stepsEach = Math.max(1, Math.ceil(size / batch));
  const read = (shard: number) => ({ shard, samples: stored.read(shardRows(stored.count, size, seed, shard)) });
  let resident = -1;
  let next: ReturnType<typeof read> | null = null;
  const bring = async (shard: number, device: Device) => {
    const wanted = next?.shard === shard ? next : read(shard);
    target.write(device, await wanted.samples);
    resident = shard;
    next = read(shard + 1);
    // Whoever wants it is told what is wrong with it.
    next.samples.catch(() => {});
  };
  return {
    before: (step, device) => {
      const shard = Math.floor(step / stepsEach);
      return shard === resident ? undefined : bring(shard, device);
    },
    dispose: () => target.dispose(),
  };
}
