import type { LibraryHandle } from 'koffi';
import { SemiflowError, UserError } from '../src/errors.js';
import type { Group } from '../src/gpu/group.js';

/** Variables of the environment: declarations of a package name nothing of Node's own types. */
type Environment = Readonly<Record<string, string | undefined>>;

/** Where mpirun and srun say which of the processes that they started this is, before MPI is asked. */
const ranksSaid = ['OMPI_COMM_WORLD_RANK', 'PMIX_RANK'];
const sizesSaid = ['OMPI_COMM_WORLD_SIZE', 'SLURM_STEP_NUM_TASKS'];

/**
 * What the environment says of the processes that were started together; null where this one was started alone. The size is
 * 0 where it is not said.
 */
export function startedAs(env: Environment = process.env): { rank: number; size: number } | null {
  const said = (names: readonly string[]) => names.map((name) => env[name]).find((text) => text !== undefined);
  const rank = said(ranksSaid);
  if (rank === undefined) {
    if (env.PMI_RANK !== undefined)
      throw new UserError(
        'this process was started by another MPI than Open MPI, or by srun without --mpi=pmix: start it by the mpirun of Open MPI',
      );
    return null;
  }
  return { rank: Number(rank), size: Number(said(sizesSaid) ?? 0) };
}

/** How many of the processes that were started together share this machine, as far as it is said. */
export const ranksHere = (env: Environment = process.env): number =>
  Math.max(1, Number(env.OMPI_COMM_WORLD_LOCAL_SIZE ?? 1) || 1);

/** Names of Open MPI 4's and 5's library. */
const libraries: Partial<Record<NodeJS.Platform, readonly string[]>> = {
  linux: ['libmpi.so.40', 'libmpi.so'],
  darwin: ['libmpi.40.dylib', '/opt/homebrew/lib/libmpi.40.dylib', '/usr/local/lib/libmpi.40.dylib'],
};

/** What is called of MPI. Handles are addresses: those of constants are what the library exports. */
const declarations = {
  libraryVersion: 'int MPI_Get_library_version(void *version, _Out_ int *length)',
  init: 'int MPI_Init_thread(void *argc, void *argv, int required, _Out_ int *provided)',
  rank: 'int MPI_Comm_rank(void *comm, _Out_ int *rank)',
  size: 'int MPI_Comm_size(void *comm, _Out_ int *size)',
  sum: 'int MPI_Iallreduce(void *send, void *receive, int count, void *type, void *op, void *comm, _Out_ void **request)',
  gather:
    'int MPI_Iallgatherv(void *send, int count, void *type, void *receive, int *counts, int *places, void *type2, void *comm, _Out_ void **request)',
  swap: 'int MPI_Ialltoall(void *send, int count, void *type, void *receive, int count2, void *type2, void *comm, _Out_ void **request)',
  test: 'int MPI_Test(_Inout_ void **request, _Out_ int *done, void *status)',
  abort: 'int MPI_Abort(void *comm, int code)',
  finalize: 'int MPI_Finalize()',
};
type Mpi = Record<keyof typeof declarations, (...given: unknown[]) => number> & {
  constant: Record<'world' | 'float' | 'byte' | 'add', unknown>;
};

/**
 * Open MPI's library.
 * @throws UserError where it, or what calls it, is not installed
 */
async function loadMpi(): Promise<Mpi> {
  const koffi = await import('koffi').catch(() => {
    throw new UserError('what calls MPI is not installed: npm install koffi');
  });
  const names = libraries[process.platform] ?? [];
  let library: LibraryHandle | undefined;
  for (const name of names) {
    try {
      library ??= koffi.default.load(name, { global: true });
    } catch {
      // The next one may be there.
    }
  }
  if (!library)
    throw new UserError(
      `Open MPI's library is not found (${names[0] ?? `none is known on ${process.platform}`}): install it (Debian, Ubuntu: openmpi-bin), or name its folder in LD_LIBRARY_PATH`,
    );
  const exported = (name: string): unknown => {
    try {
      return library.symbol(name);
    } catch {
      throw new UserError('the MPI library that is found is not Open MPI: put that in front of it in LD_LIBRARY_PATH');
    }
  };
  const constant = {
    world: exported('ompi_mpi_comm_world'),
    float: exported('ompi_mpi_float'),
    byte: exported('ompi_mpi_byte'),
    add: exported('ompi_mpi_op_sum'),
  };
  const functions = Object.entries(declarations).map(([name, text]) => [name, library.func(text)]);
  return { ...(Object.fromEntries(functions) as Omit<Mpi, 'constant'>), constant };
}

/** Which MPI there is, in a line. @throws UserError where there is none */
export async function mpiVersion(): Promise<string> {
  const { libraryVersion } = await loadMpi();
  const [text, length] = [Buffer.alloc(1024), [0]];
  libraryVersion(text, length);
  return text.toString('latin1', 0, length[0]).split(',')[0].replace(/\0.*/s, '');
}

/** `MPI_IN_PLACE` and `MPI_THREAD_FUNNELED` of Open MPI. */
const inPlace = 1n;
const oneThread = 1;
/** Bytes of all ranks that are gathered at a time: counts and places are 32 bits. */
const gatheredAtOnce = 2 ** 30;
/** Milliseconds in which a call is expected to be done: until then it is asked for without a pause. */
const soon = 4;
/** How often it is asked for at a time: Open MPI moves data on only while it is asked. */
const burst = 16;

/** The ranks that mpirun started. Calls do not block: timers, signals and the device go on while one waits. */
export class MpiGroup implements Group {
  private readonly waiting: { request: unknown[]; done: () => void; keep: unknown }[] = [];
  private polling = false;
  readonly rank: number;
  readonly size: number;

  private constructor(private readonly mpi: Mpi) {
    const [rank, size] = [[0], [0]];
    mpi.rank(mpi.constant.world, rank);
    mpi.size(mpi.constant.world, size);
    [this.rank, this.size] = [rank[0], size[0]];
  }

  /**
   * Joins the other ranks; returns once all are there.
   * @throws UserError where MPI is missing or refuses
   */
  static async join(): Promise<MpiGroup> {
    const mpi = await loadMpi();
    if (mpi.init(null, null, oneThread, [0]))
      throw new SemiflowError('device', 'MPI does not start: look at what mpirun says');
    return new MpiGroup(mpi);
  }

  async sum(values: Float32Array): Promise<void> {
    const { mpi } = this;
    const { world, float, add } = mpi.constant;
    await this.done(values, (request) => mpi.sum(inPlace, pinned(values), values.length, float, add, world, request));
  }

  async gather(bytes: Uint8Array): Promise<Uint8Array[]> {
    const mine = new Uint8Array(Float64Array.of(bytes.length).buffer);
    const lengths = new Float64Array((await this.gatherOnce(mine, new Array<number>(this.size).fill(8))).buffer);
    const most = Math.floor(gatheredAtOnce / this.size);
    const all = Array.from(lengths, (length) => new Uint8Array(length));
    for (let from = 0; all.some(({ length }) => from < length); from += most) {
      const counts = all.map(({ length }) => Math.max(0, Math.min(most, length - from)));
      const received = await this.gatherOnce(bytes.subarray(from, from + counts[this.rank]), counts);
      let at = 0;
      counts.forEach((count, rank) => {
        all[rank].set(received.subarray(at, (at += count)), Math.min(from, all[rank].length));
      });
    }
    return all;
  }

  async swap(blocks: Uint8Array): Promise<Uint8Array> {
    const { mpi, size } = this;
    const { world, byte } = mpi.constant;
    const each = blocks.length / size;
    const received = new Uint8Array(blocks.length);
    await this.done([blocks, received], (request) =>
      mpi.swap(pinned(blocks), each, byte, pinned(received), each, byte, world, request),
    );
    return received;
  }

  /** Ends all ranks at once. */
  abort(code: number): void {
    this.mpi.abort(this.mpi.constant.world, code);
  }

  /** Leaves once all ranks do. */
  async leave(): Promise<void> {
    await this.gather(new Uint8Array());
    this.mpi.finalize();
  }

  private async gatherOnce(bytes: Uint8Array, counts: readonly number[]): Promise<Uint8Array> {
    const { mpi } = this;
    const { world, byte } = mpi.constant;
    let end = 0;
    const places = Int32Array.from(counts, (count) => (end += count) - count);
    const [sent, received, lengths] = [bytes.slice(), new Uint8Array(end), Int32Array.from(counts)];
    await this.done([sent, received, places, lengths], (request) =>
      mpi.gather(
        pinned(sent),
        sent.length,
        byte,
        pinned(received),
        pinned(lengths),
        pinned(places),
        byte,
        world,
        request,
      ),
    );
    return received;
  }

  /** @param keep memory that MPI reads and writes until the call is done */
  private done(keep: unknown, start: (request: unknown[]) => number): Promise<void> {
    const request: unknown[] = [null];
    const code = start(request);
    if (code) throw new SemiflowError('device', `MPI failed with code ${code}: look at what mpirun says`);
    return new Promise((done) => {
      this.waiting.push({ request, done, keep });
      if (!this.polling) void this.poll();
    });
  }

  /** Asks for calls that wait, until none does: eagerly at first, then once a millisecond. */
  private async poll(): Promise<void> {
    this.polling = true;
    let since = performance.now();
    while (this.waiting.length) {
      if (this.progress()) since = performance.now();
      else await new Promise<void>((go) => (performance.now() - since < soon ? setImmediate(go) : setTimeout(go, 1)));
    }
    this.polling = false;
  }

  /** Whether some call is done now. */
  private progress(): boolean {
    const flag = [0];
    for (let i = 0; i < burst; i++)
      for (const [k, { request, done }] of this.waiting.entries()) {
        if (this.mpi.test(request, flag, null))
          throw new SemiflowError('device', 'MPI failed: look at what mpirun says');
        if (!flag[0]) continue;
        this.waiting.splice(k, 1);
        done();
        return true;
      }
    return false;
  }
}

/** Values whose memory stays where it is: JavaScript moves small arrays until their buffer is asked for. */
function pinned<T extends Uint8Array | Float32Array | Int32Array>(values: T): T {
  void values.buffer;
  return values;
}
