/** The networks that the page works with: those shipped with it, read when they are first asked for, and what comes later. */
import {
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
import { nounOf } from '../../trainers/evaluation/words.js';
import type { Families, Family, Member } from '../protocol.js';

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

/** What a network is called among those of its family. */
export const memberName = (network: Network): string =>
  network.description.role === 'teacher' ? 'teacher' : nounOf(network).replace(' model', '');

/** Points that parts show: what a processor, or a GPU, moves while one drags. */
export const pointsShown = ({ profile }: Device): number => (profile.software ? 512 : 2048);
const picturesShown = 16;

interface Held {
  name: string;
  classNames?: readonly string[];
  networks: ReadonlyMap<string, Network>;
  runners: Map<string, Runner>;
}

export class Models {
  private readonly held = new Map<string, Promise<Held>>();
  /** Of families that were added. */
  private readonly names = new Map<string, string>();

  constructor(private readonly device: Device) {}

  /** What can be chosen. */
  get families(): Families {
    const own = Object.entries(shipped).map(([id, { name }]) => ({ id, name }));
    return [...own, ...[...this.names].map(([id, name]) => ({ id, name }))];
  }

  /** Takes up a family of one's own, in place of one with the same id. */
  add(id: string, name: string, networks: Held['networks'], classNames?: readonly string[]): void {
    void this.held.get(id)?.then(({ runners }) => {
      for (const runner of runners.values()) runner.dispose();
    });
    this.names.set(id, name);
    this.held.set(id, Promise.resolve({ name, networks, classNames, runners: new Map() }));
  }

  /** A member's network. @throws UserError where there is none of that name */
  async network(id: string, member: string): Promise<Network> {
    const network = (await this.opened(id)).networks.get(member);
    if (!network) throw new UserError(`${id} has no ${member}`);
    return network;
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
    return {
      id,
      name,
      kind,
      shape: sampleShape,
      range,
      classes: classList,
      nullClass,
      members,
      count: this.shown(first),
    };
  }

  /** A member ready to be asked, with the batch of all parts. @throws UserError where there is none of that name */
  async runner(id: string, member: string): Promise<Runner> {
    const network = await this.network(id, member);
    const { runners } = await this.opened(id);
    let runner = runners.get(member);
    if (!runner) runners.set(member, (runner = new Runner(this.device, network, this.shown(network))));
    return runner;
  }

  /** Samples that parts show, which is how many a program handles at a time: each sampler compiles once for all parts. */
  private shown({ model: { sampleShape } }: Network): number {
    return isPoints(sampleShape) ? pointsShown(this.device) : picturesShown;
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
