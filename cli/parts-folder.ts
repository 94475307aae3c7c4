import { existsSync, mkdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { writeFileAtomic } from '../node/files.js';
import { UserError } from '../src/errors.js';

/** A folder that keeps the finished parts of a long computation, so that an interrupted one goes on. */
export class PartsFolder {
  private constructor(private readonly path: string) {}

  /**
   * @param config everything that the parts depend on
   * @throws UserError where the folder holds parts of another configuration, or cannot be written
   */
  static async open(path: string, config: object): Promise<PartsFolder> {
    const file = join(path, 'config.json');
    const text = `${JSON.stringify(config, null, 2)}\n`;
    if (existsSync(file) && readFileSync(file, 'utf8') !== text)
      throw new UserError(`${path} holds results of other settings (its config.json): choose another --out`);
    try {
      mkdirSync(join(path, 'parts'), { recursive: true });
    } catch (error) {
      throw new UserError(`${path} cannot be written (${(error as NodeJS.ErrnoException).code}): choose another --out`);
    }
    await writeFileAtomic(file, text);
    return new PartsFolder(path);
  }

  file(name: string): string {
    return join(this.path, name);
  }

  /** Writes a result; folders in its name are made. */
  async write(name: string, content: string | Uint8Array): Promise<void> {
    mkdirSync(dirname(this.file(name)), { recursive: true });
    await writeFileAtomic(this.file(name), content);
  }

  /** A part that was computed before, or is now. */
  async part<T>(name: string, compute: () => Promise<T>): Promise<T> {
    const file = join('parts', `${name.replace(/[^\w]+/g, '-')}.json`);
    if (existsSync(this.file(file))) return JSON.parse(readFileSync(this.file(file), 'utf8')) as T;
    const value = await compute();
    await this.write(file, JSON.stringify(value));
    return value;
  }
}
