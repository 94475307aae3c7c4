/** Runs jobs one after another in the order in which they were asked for, so that jobs over the same storages never mix. */
export class Turns {
  private last: Promise<unknown> = Promise.resolve();

  /** The job's result; one that fails does not keep those behind it from running. */
  take<T>(job: () => Promise<T>): Promise<T> {
    const result = this.last.then(job);
    this.last = result.catch(() => {});
    return result;
  }
}
