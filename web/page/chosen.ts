import type { Family } from '../protocol.js';
import { choice, field, h, number } from './dom.js';
import type { Engine } from './engine.js';
import { named, type FamilyList } from './families.js';

/** What samples are drawn of: chosen in every part that draws some. */
export interface Chosen {
  family: Family;
  seed: number;
  /** Null: classes take turns. */
  label: number | null;
}

/** A line in which a part says what it is doing, or what went wrong. */
export class Status {
  readonly element = h('p', { class: 'status', role: 'status' });

  say(text: string): void {
    this.element.textContent = text;
    this.element.classList.remove('alarm');
  }

  fail(error: unknown): void {
    this.element.textContent = (error as Error).message;
    this.element.classList.add('alarm');
  }
}

/**
 * The controls of what is chosen: networks, class and seed.
 * @param onFamily hears of other networks, and at first
 * @param onChange hears of another class or seed
 * @param more further controls
 */
export function chooser(
  engine: Engine,
  families: FamilyList,
  status: Status,
  onFamily: (chosen: Chosen) => void,
  onChange: (chosen: Chosen) => void,
  ...more: HTMLElement[]
): HTMLElement {
  let chosen: Chosen | undefined;
  let seed = 0;
  const labels = h('span', { hidden: true });
  const change = (over: Partial<Chosen>) => {
    if (chosen) onChange((chosen = { ...chosen, ...over }));
  };
  const choose = async (id: string) => {
    status.say('Reading the networks…');
    try {
      const family = await engine.call('family', id);
      // Others were chosen while these were read.
      if (networks.value !== id) return;
      chosen = { family, seed, label: null };
      const options = [['', 'in turn'], ...family.classes.map((name, i) => [String(i), name])] as [string, string][];
      const select = choice(options, '', (value) => change({ label: value === '' ? null : Number(value) }));
      labels.replaceChildren(field('Class', select));
      labels.hidden = !family.classes.length;
      status.say('');
      onFamily(chosen);
    } catch (error) {
      status.fail(error);
    }
  };
  const seeds = number(seed, { min: 0, max: 2 ** 32, step: 1 }, (value) => change({ seed: (seed = value) }));
  const other = () => {
    seeds.value = String(++seed);
    change({ seed });
  };
  const networks = h('select', {
    onchange: () => {
      history.replaceState(null, '', `#${named().part || 'sample'}/${networks.value}`);
      void choose(networks.value);
    },
  });
  const list = () => {
    const { value } = networks;
    networks.replaceChildren(...families.all.map(({ id, name }) => h('option', { value: id }, name)));
    networks.value = value || families.first;
  };
  list();
  // A family that came later may have taken the place of the one that is shown.
  families.onChange(() => {
    list();
    if (/^(opened|distilled|taught-)/.test(networks.value)) void choose(networks.value);
  });
  addEventListener('hashchange', () => {
    const { part, family } = named();
    const here = networks.closest('section')?.id === part;
    if (!here || family === networks.value || !families.all.some(({ id }) => id === family)) return;
    networks.value = family;
    void choose(family);
  });
  void choose(networks.value);
  return h(
    'div',
    { class: 'controls' },
    field('Networks', networks),
    labels,
    field('Seed of the noise', seeds),
    h('button', { type: 'button', class: 'strong', onclick: other }, 'Other noise'),
    ...more,
  );
}
