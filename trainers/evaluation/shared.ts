/**
 * Figures that several evaluations have in common, such as those of one teacher beside all of its students: whoever asks
 * first computes them. To be shared among evaluations of the same teacher, by the same data.
 */
export class SharedFigures {
  private readonly known = new Map<string, Promise<unknown>>();

  /** What is known by a key, or what is computed for it now. */
  once<T>(key: string, compute: () => Promise<T>): Promise<T> {
    let figures = this.known.get(key) as Promise<T> | undefined;
    if (!figures) {
      figures = compute();
      this.known.set(key, figures);
      // Who asks next may have more luck.
      figures.catch(() => this.known.delete(key));
    }
    return figures;
  }
}
