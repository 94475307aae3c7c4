import { UserError } from '../errors.js';
import { readText, type Store } from '../files/store.js';

/** A store that keeps the finished parts of a long computation, so that an interrupted one goes on. */
export class Parts {
  private constructor(private readonly store: Store) {}

  /**
   * @param config everything that the parts depend on
   * @throws UserError where the store holds parts of another configuration, or cannot be written
   */
  static async open(store: Store, config: object): Promise<Parts> {
    const text = `${JSON.stringify(config, null, 2)}\n`;
    const before = await readText(store, 'config.json');
    if (before !== null && before !== text)
      throw new UserError(
        `${store.name} holds results of other settings (its config.json): choose another place for these`,
        'out',
      );
    await store.write('config.json', text);
    return new Parts(store);
  }

  /** Writes a result. */
  write(name: string, content: string | Uint8Array): Promise<void> {
    return this.store.write(name, content);
  }

  /** A part that was computed before, or is now; a file that cannot be read is computed anew. */
  async part<T>(name: string, compute: () => Promise<T>): Promise<T> {
    const file = `parts/${name.replace(/[^\w]+/g, '-')}.json`;
    const known = parsePart<T>(await readText(this.store, file));
    if (known !== null) return known;
    const value = await compute();
    await this.store.write(file, formatPart(value));
    return value;
  }
}

/** JSON would turn what is not finite into null, which later counts as 0. */
const formatPart = (value: unknown): string =>
  JSON.stringify(value, (_, item: unknown) =>
    typeof item === 'number' && !Number.isFinite(item) ? { number: String(item) } : item,
  );

function parsePart<T>(text: string | null): T | null {
  if (text === null) return null;
  try {
    return JSON.parse(text, (_, item: { number?: string } | null) =>
      typeof item === 'object' && typeof item?.number === 'string' ? Number(item.number) : item,
    ) as T;
  } catch {
    return null;
  }
}
