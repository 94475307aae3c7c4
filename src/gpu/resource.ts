/// <reference lib="esnext.disposable" preserve="true" />
import { UserError } from '../errors.js';

/** What holds memory of a device until whoever made it disposes of it: a program, a runner, the device itself. */
export abstract class Resource {
  private gone = false;

  /** @param what it is, for messages */
  protected constructor(private readonly what: string) {}

  /** Whether its memory was given back. */
  get disposed(): boolean {
    return this.gone;
  }

  /** Gives its memory back; it cannot be used after that. A second time does no harm. */
  dispose(): void {
    if (this.gone) return;
    this.gone = true;
    this.free();
  }

  /** For `using`. */
  [Symbol.dispose](): void {
    this.dispose();
  }

  /** @throws UserError where it was disposed */
  assertUsable(): void {
    if (this.gone) throw new UserError(`${this.what} was disposed and cannot be used any more: make a new one`);
  }

  /** Gives back what was taken; called once. */
  protected abstract free(): void;
}
