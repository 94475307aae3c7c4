import { UserError } from '../errors.js';
import { Canvas, textWidth } from './canvas.js';

export interface ImageGridOptions {
  /** [n, channels, height, width]; 1 channel is grey, 3 are RGB. */
  shape: readonly [number, number, number, number];
  /** The values drawn black and white, default [−1, 1]; what lies beyond is clipped. */
  range?: readonly [number, number];
  /** Images a row, default the smallest square that holds them. */
  columns?: number;
  /** Each pixel is drawn as zoom × zoom; default brings small images to about 56 pixels. */
  zoom?: number;
  /** Pixels between images, default 2. */
  padding?: number;
  /** What lies between images; null leaves it open. */
  background?: string | null;
}

/** Images in a grid, row by row. A value that is not finite is painted magenta: a diverged model must not pass for a dark one. */
export function imageGrid(images: ArrayLike<number>, options: ImageGridOptions): Canvas {
  const [n, channels, height, width] = options.shape;
  const {
    range: [low, high] = [-1, 1],
    columns = Math.ceil(Math.sqrt(n)),
    padding = 2,
    background = '#ffffff',
  } = options;
  const zoom = options.zoom ?? Math.max(1, Math.round(56 / height));
  if (channels !== 1 && channels !== 3)
    throw new UserError(`images of ${channels} channels cannot be drawn, only grey (1) and RGB (3)`);
  if (n < 1 || images.length !== n * channels * height * width) {
    throw new UserError(
      `the images hold ${images.length} numbers, their shape [${options.shape.join(', ')}] asks for ${n * channels * height * width}`,
    );
  }
  const rows = Math.ceil(n / columns);
  const canvas = new Canvas(
    columns * (width * zoom + padding) - padding,
    rows * (height * zoom + padding) - padding,
    background,
  );
  const area = height * width;
  for (let image = 0; image < n; image++) {
    const left = (image % columns) * (width * zoom + padding);
    const top = Math.floor(image / columns) * (height * zoom + padding);
    for (let y = 0; y < height * zoom; y++) {
      for (let x = 0; x < width * zoom; x++) {
        const pixel = Math.floor(y / zoom) * width + Math.floor(x / zoom);
        const values = [0, 1, 2].map((k) => images[(image * channels + (k % channels)) * area + pixel]);
        const levels = values.every(Number.isFinite)
          ? values.map((v) => Math.round((255 * (v - low)) / (high - low)))
          : [255, 0, 255];
        canvas.set(left + x, top + y, levels);
      }
    }
  }
  return canvas;
}

export interface Panel {
  title: string;
  /** A smaller grey line under the title: a figure, say. */
  subtitle?: string;
  picture: Canvas;
}

export interface PanelOptions {
  /** Panels a row, default all in one. */
  columns?: number;
  /** Height of the title's letters in pixels, em; default 20. */
  titleSize?: number;
}

/** Pictures side by side, each under its centred title. */
export function panels(items: readonly Panel[], { columns = items.length, titleSize = 20 }: PanelOptions = {}): Canvas {
  if (items.length === 0) throw new UserError('there are no pictures to set side by side');
  const small = Math.round(titleSize * 0.8);
  const margin = Math.round(titleSize * 0.8);
  const subtitled = items.some((item) => item.subtitle !== undefined);
  const head = Math.round(titleSize * 1.3) + (subtitled ? Math.round(small * 1.3) : 0);
  const cellWidth = Math.ceil(
    Math.max(
      ...items.map((item) =>
        Math.max(item.picture.width, textWidth(item.title, titleSize), textWidth(item.subtitle ?? '', small)),
      ),
    ),
  );
  const cellHeight = head + Math.max(...items.map((item) => item.picture.height));
  const rows = Math.ceil(items.length / columns);
  const canvas = new Canvas(margin + columns * (cellWidth + margin), margin + rows * (cellHeight + margin));
  items.forEach(({ title, subtitle = '', picture }, k) => {
    const left = margin + (k % columns) * (cellWidth + margin);
    const top = margin + Math.floor(k / columns) * (cellHeight + margin);
    const centred = (text: string, size: number, baseline: number, colour: string): void =>
      canvas.text(text, left + (cellWidth - textWidth(text, size)) / 2, top + baseline, size, colour);
    centred(title, titleSize, titleSize * 0.75, '#1d2430');
    centred(subtitle, small, titleSize * 1.3 + small * 0.75, '#5b6675');
    canvas.paste(picture, left + Math.floor((cellWidth - picture.width) / 2), top + head);
  });
  return canvas;
}
