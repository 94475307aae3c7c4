import { Canvas, textWidth } from './canvas.js';
import { imageGrid } from './png.js';

export interface LabelledGrid {
  /** Names above the columns. */
  columns: readonly string[];
  /** A name and one image a column, [channels, height, width] each. */
  rows: readonly { name: string; images: readonly ArrayLike<number>[] }[];
  shape: readonly [number, number, number];
  range: readonly [number, number];
  zoom?: number;
}

const letters = 15;
const gap = 6;

/** Images as a table: rows are methods, columns what they were given. */
export function labelledGrid({ columns, rows, shape, range, zoom }: LabelledGrid): Canvas {
  const tile = (image: ArrayLike<number>) => imageGrid(image, { shape: [1, ...shape], range, columns: 1, zoom });
  const pictures = rows.map(({ images }) => images.map(tile));
  const [{ width, height }] = pictures[0];
  const columnWidth = Math.max(width, ...columns.map((name) => Math.ceil(textWidth(name, letters)))) + gap;
  const left = Math.ceil(Math.max(...rows.map(({ name }) => textWidth(name, letters)))) + 2 * gap;
  const top = letters + 2 * gap;
  const canvas = new Canvas(left + columns.length * columnWidth, top + rows.length * (height + gap));
  const ink = '#1d2430';
  columns.forEach((name, k) => {
    const x = left + k * columnWidth + (columnWidth - gap - textWidth(name, letters)) / 2;
    canvas.text(name, x, top - gap, letters, ink);
  });
  rows.forEach(({ name }, i) => {
    const y = top + i * (height + gap);
    canvas.text(name, left - gap - textWidth(name, letters), y + height / 2 + letters / 3, letters, ink);
    pictures[i].forEach((picture, k) =>
      canvas.paste(picture, left + k * columnWidth + Math.floor((columnWidth - gap - width) / 2), y),
    );
  });
  return canvas;
}
