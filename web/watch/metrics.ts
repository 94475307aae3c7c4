/** What a run logged, from its `metrics.jsonl`: a line a step, of which only what is new is asked for. */
export class Metrics {
  readonly step: number[] = [];
  /** Every other number by its name; NaN where a step has none. */
  readonly values = new Map<string, number[]>();
  private bytes = 0;
  private rest = '';

  /** @param size of the file as it is now: a shorter one was cut back, and is read anew */
  async read(address: string, size: number): Promise<void> {
    if (size === this.bytes) return;
    if (size < this.bytes) this.forget();
    const answer = await fetch(address, { headers: { Range: `bytes=${this.bytes}-${size - 1}` } });
    if (!answer.ok) return;
    const text = await answer.text();
    this.bytes = size;
    const lines = (this.rest + text).split('\n');
    this.rest = lines.pop()!;
    for (const line of lines) this.add(line);
  }

  private forget(): void {
    this.step.length = this.bytes = 0;
    this.values.clear();
    this.rest = '';
  }

  private add(line: string): void {
    let metrics: Record<string, unknown>;
    try {
      metrics = JSON.parse(line) as Record<string, unknown>;
    } catch {
      return;
    }
    if (typeof metrics.step !== 'number') return;
    const before = this.step.length;
    this.step.push(metrics.step);
    for (const [name, value] of Object.entries(metrics)) {
      if (name === 'step' || typeof value !== 'number') continue;
      if (!this.values.has(name))
        this.values.set(
          name,
          Array.from({ length: before }, () => NaN),
        );
      this.values.get(name)!.push(value);
    }
    for (const list of this.values.values()) if (list.length === before) list.push(NaN);
  }
}
