import type { Families } from '../protocol.js';

/** The part and the networks that the address names: `#operator/checkerboard`. */
export function named(): { part: string; family: string } {
  const [part = '', family = ''] = location.hash.slice(1).split('/');
  return { part, family };
}

/** The networks that can be chosen, which grow while the page is open. */
export class FamilyList {
  private readonly listeners: (() => void)[] = [];

  constructor(private list: Families) {}

  get all(): Families {
    return this.list;
  }

  /** Those of the address, or the first. */
  get first(): string {
    const { family } = named();
    return (this.list.find(({ id }) => id === family) ?? this.list[0]).id;
  }

  set(list: Families): void {
    this.list = list;
    for (const listener of this.listeners) listener();
  }

  onChange(listener: () => void): void {
    this.listeners.push(listener);
  }
}
