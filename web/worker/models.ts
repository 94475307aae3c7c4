/** The networks that the page works with: those shipped with it, read when they are first asked for, and what comes later. */
import {
  batchFor,
  loadNetwork,
  namedDataset,
  openSafetensors,
  blobSource,
  Runner,
  samplerOf,
  UserError,
  type Device,
  type Network,
} from '../../index.js';
import { isPoints } from '../../src/models/model.js';
import type { Family, Member } from '../protocol.js';

/** A family before its files are read. */
interface Shipped {
  name: string;
  classNames?: readonly string[];
  /** Names and files; the teacher is the last. */
  members: readonly (readonly [name: string, file: string])[];
}

const shipped: Readonly<Record<string, Shipped>> = {
  fashion: {
    name: 'Fashion-MNIST',
    classNames: ['T-shirt', 'trousers', 'pullover', 'dress', 'coat', 'sandal', 'shirt', 'sneaker', 'bag', 'ankle boot'],
    members: [
      ['flow map', 'flow-map-fashion-mnist'],
      ['consistency', 'consistency-fashion-mnist'],
      ['teacher', 'rf-fashion-mnist'],
    ],
  },
  checkerboard: {
    name: 'checkerboard',
    members: [
      ['flow map', 'flow-map-checkerboard'],
      ['teacher', 'rf-checkerboard'],
    ],
  },
};

/** How many samples a program handles at a time: what the parts show, so that each sampler compiles once. */
const batchOf = ({ model: { sampleShape } }: Network): number =>
  batchFor(sampleShape, isPoints(sampleShape) ? 2048 : 16);

interface Held {
  name: string;
  classNames?: readonly string[];
  networks: ReadonlyMap<string, Network>;
  runners: Map<string, Runner>;
}

export class Models {
  private readonly held = new Map<string, Promise<Held>>();

  constructor(private readonly device: Device) {}

  /** What can be chosen. */
  get families(): readonly Pick<Family, 'id' | 'name'>[] {
    return Object.entries(shipped).map(([id, { name }]) => ({ id, name }));
  }

  /** What a family is. @throws UserError where its files cannot be read */
  async family(id: string): Promise<Family> {
    const { name, networks, classNames } = await this.opened(id);
    const [[, { model }]] = networks;
    const members = [...networks].map(([member, network]): Member => {
      const { role } = network.description;
      return { name: member, role, sampler: samplerOf(network).name };
    });
    const { sampleShape, classes, nullClass } = model;
    const classList = Array.from({ length: classes }, (_, i) => classNames?.[i] ?? `class ${i}`);
    const kind = isPoints(sampleShape) ? 'points' : 'pictures';
    const [[, first]] = networks;
    const { dataRange = [-1, 1], data = '' } = first.description;
    const range = kind === 'pictures' ? dataRange : (namedDataset(data, { count: 1, heldOut: 1 })?.range ?? [-3, 3]);
    return { id, name, kind, shape: sampleShape, range, classes: classList, nullClass, members };
  }

  /** A member ready to be asked, with the batch of all parts. @throws UserError where there is none of that name */
  async runner(id: string, member: string): Promise<Runner> {
    const { networks, runners } = await this.opened(id);
    const network = networks.get(member);
    if (!network) throw new UserError(`${id} has no ${member}`);
    let runner = runners.get(member);
    if (!runner) runners.set(member, (runner = new Runner(this.device, network, batchOf(network))));
    return runner;
  }

  private opened(id: string): Promise<Held> {
    const { [id]: family } = shipped;
    let held = this.held.get(id);
    if (!held) {
      held = open(family);
      held.catch(() => this.held.delete(id));
      this.held.set(id, held);
    }
    return held;
  }
}

async function open({ name, classNames, members }: Shipped): Promise<Held> {
  const networks = await Promise.all(
    members.map(async ([member, file]) => [member, await fetched(`${file}.safetensors`)] as const),
  );
  return { name, classNames, networks: new Map(networks), runners: new Map() };
}

/** A checkpoint that lies beside the page. It is small, and read whole: not every server answers ranges. */
async function fetched(file: string): Promise<Network> {
  const answer = await fetch(new URL(`../checkpoints/${file}`, self.location.href)).catch(() => null);
  if (!answer?.ok)
    throw new UserError(`${file} cannot be fetched: serve the whole folder of the page, checkpoints too`);
  return loadNetwork(await openSafetensors(blobSource(await answer.blob(), file)));
}
