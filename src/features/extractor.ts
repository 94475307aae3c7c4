import { compile, type Program } from '../autodiff/compile.js';
import { UserError } from '../errors.js';
import type { Device } from '../gpu/device.js';
import { Resource } from '../gpu/resource.js';
import { TensorStorage } from '../gpu/storage.js';
import { assign } from '../ops/optimizer.js';
import { bindNetwork } from '../flow/network.js';
import { Turns } from '../flow/turns.js';
import { sameShape, sizeOf, type Shape } from '../tensor/shape.js';
import { add, maximum, minimum, mul } from '../ops/pointwise.js';
import { fromStorage } from '../tensor/tensor.js';
import type { SampleFeatures } from '../metrics/metric.js';
import type { ClassifierNetwork } from './classifier-file.js';

/** Images that the device handles at a time. */
const batch = 128;

/** A classifier that judges images, compiled once. Whoever made it disposes of it. */
export class Extractor extends Resource {
  /** Calls share the storages: one runs after another. */
  private readonly turns = new Turns();

  private constructor(
    private readonly device: Device,
    private readonly network: ClassifierNetwork,
    private readonly images: TensorStorage,
    private readonly features: TensorStorage,
    private readonly logits: TensorStorage,
    private readonly program: Program,
  ) {
    super('this extractor');
  }

  /**
   * @param shape of an image, [channels, height, width]
   * @param range what black and white are in the images that it will be given
   * @throws UserError where the classifier takes other images
   */
  static async create(
    device: Device,
    network: ClassifierNetwork,
    shape: Shape,
    [black, white]: readonly [number, number],
  ): Promise<Extractor> {
    const { model, config } = network;
    if (!sameShape(model.imageShape, shape))
      throw new UserError(`the classifier takes images of shape [${model.imageShape}], these are [${shape}]`);
    const weights = bindNetwork(network, 'classifier', device.profile);
    const images = new TensorStorage('images', 'f32', batch * sizeOf(shape));
    const features = new TensorStorage('features', 'f32', batch * config.features);
    const logits = new TensorStorage('logits', 'f32', batch * model.classes);
    // Beyond black and white there is nothing to see, in files and on screens alike.
    const scaled = mul(add(fromStorage(images, [batch, ...shape]), -black), 1 / (white - black));
    const pixels = minimum(maximum(scaled, 0), 1);
    const seen = model.apply(weights, pixels);
    const effects = [assign(features, seen.features), assign(logits, seen.logits)];
    try {
      return new Extractor(device, network, images, features, logits, await compile(device, { effects }));
    } catch (error) {
      for (const storage of [images, features, logits]) storage.dispose();
      throw error;
    }
  }

  /** Features and classes of images [n, ...shape], which are clipped to black and white first. Calls at once are queued. */
  see(images: Float32Array): Promise<SampleFeatures> {
    return this.turns.take(() => this.inBatches(images));
  }

  private async inBatches(images: Float32Array): Promise<SampleFeatures> {
    this.assertUsable();
    const { config, model } = this.network;
    const [size, dim] = [sizeOf(model.imageShape), config.features];
    const count = images.length / size;
    if (!Number.isInteger(count))
      throw new UserError(`${images.length} values are no whole number of images of shape [${model.imageShape}]`);
    const values = new Float32Array(count * dim);
    const classes = new Uint32Array(count);
    for (let from = 0; from < count; from += batch) {
      const n = Math.min(batch, count - from);
      this.device.write(this.images, images.subarray(from * size, (from + n) * size));
      this.program.run();
      const [features, logits] = (await Promise.all([
        this.device.read(this.features),
        this.device.read(this.logits),
      ])) as Float32Array[];
      values.set(features.subarray(0, n * dim), from * dim);
      for (let i = 0; i < n; i++)
        classes[from + i] = largest(logits.subarray(i * model.classes, (i + 1) * model.classes));
    }
    return { values, dim, classes };
  }

  protected free(): void {
    for (const held of [this.images, this.features, this.logits, this.program]) held.dispose();
  }
}

const largest = (values: Float32Array): number =>
  values.reduce((best, value, i) => (value > values[best] ? i : best), 0);
