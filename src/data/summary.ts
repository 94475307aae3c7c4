import type { Dataset } from './dataset.js';

/** The data set with a paragraph that says what was read: how many, which shape, range and classes, and every note. */
export function summarize(set: Omit<Dataset, 'summary'>): Dataset {
  const { name, kind, shape, count, heldOut, classes, range, notes } = set;
  const what = kind === 'images' ? 'images' : 'points';
  const span = `${format(range[0])} … ${format(range[1])}`;
  const parts = [
    `${name}: ${count} ${what} [${shape.join(', ')}] to train on, ${heldOut.count} held out`,
    `values ${kind === 'images' ? 'stand for' : 'from'} ${span}`,
    set.labels ? `${classes} class${classes === 1 ? '' : 'es'}` : 'no labels',
    ...notes,
  ];
  return { ...set, summary: parts.join('; ') };
}

const format = (value: number) => String(Number(value.toPrecision(4)));
