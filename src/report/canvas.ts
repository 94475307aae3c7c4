import { encode } from 'fast-png';
import { glyph } from './font.js';
import { hex, type Rgb } from './palette.js';

/**
 * A small antialiased raster, with a stroke font of its own (font.ts). Libraries that set text on pictures are native and
 * for Node alone, or the browser's; these 300 lines give the same bytes in both, from the same call.
 *
 * x to the right, y down, pixel (i, j) covers [i, i + 1) × [j, j + 1).
 */
export class Canvas {
  /**
   * RGB of 0 … 255, row-major, each as much as it covers. Floats, because many faint layers would be lost in the rounding
   * of bytes.
   */
  readonly data: Float32Array;
  /** What is covered, 0 … 1 a pixel; null where all is. */
  readonly cover: Float32Array | null;

  /** @param background a colour; null leaves the page to shine through, which may be light or dark */
  constructor(
    readonly width: number,
    readonly height: number,
    background: string | null = '#ffffff',
  ) {
    this.data = new Float32Array(width * height * 3);
    this.cover = background === null ? new Float32Array(width * height) : null;
    if (background !== null) this.fill(0, 0, width, height, background);
  }

  /** A rectangle of whole pixels. */
  fill(x: number, y: number, width: number, height: number, colour: string, alpha = 1): void {
    const rgb = hex(colour);
    for (let j = y; j < y + height; j++) for (let i = x; i < x + width; i++) this.#blend(i, j, rgb, alpha);
  }

  /** One pixel inside the picture, RGB of 0 … 255. */
  set(x: number, y: number, rgb: ArrayLike<number>): void {
    const at = y * this.width + x;
    this.data.set(rgb, at * 3);
    if (this.cover) this.cover[at] = 1;
  }

  /** A disc about (x, y). */
  dot(x: number, y: number, radius: number, colour: string, alpha = 1): void {
    const rgb = hex(colour);
    const reach = radius + 0.5;
    for (let j = Math.floor(y - reach); j < y + reach; j++) {
      for (let i = Math.floor(x - reach); i < x + reach; i++) {
        const distance = Math.hypot(i + 0.5 - x, j + 0.5 - y);
        // A dot smaller than a pixel keeps its area as a fainter pixel.
        this.#blend(i, j, rgb, alpha * clamp01(reach - distance) * Math.min(1, 2 * radius));
      }
    }
  }

  /** Polylines [x0, y0, x1, y1, …] with round ends and joints; where they cross the colour is laid once. */
  stroke(lines: number[][], width: number, colour: string, alpha = 1): void {
    const rgb = hex(colour);
    const reach = width / 2 + 0.5;
    const xs = lines.flatMap((line) => line.filter((_, k) => k % 2 === 0));
    const ys = lines.flatMap((line) => line.filter((_, k) => k % 2 === 1));
    for (let j = Math.floor(Math.min(...ys) - reach); j < Math.max(...ys) + reach; j++) {
      for (let i = Math.floor(Math.min(...xs) - reach); i < Math.max(...xs) + reach; i++) {
        const distance = Math.min(...lines.map((line) => distanceToLine(i + 0.5, j + 0.5, line)));
        this.#blend(i, j, rgb, alpha * clamp01(reach - distance) * Math.min(1, width));
      }
    }
  }

  /** One line of text from (x, baseline y); `size` is the em in pixels. */
  text(text: string, x: number, y: number, size: number, colour: string): void {
    const unit = size / 10;
    let pen = x;
    for (const character of text) {
      const { lines, advance } = glyph(character);
      const placed = lines.map((line) => line.map((v, k) => (k % 2 === 0 ? pen + v * unit : y - v * unit)));
      if (placed.length > 0) this.stroke(placed, 0.1 * size, colour);
      pen += advance * unit;
    }
  }

  /** Lays another canvas over this one at whole-pixel position (x, y). */
  paste(picture: Canvas, x: number, y: number): void {
    for (let j = 0; j < picture.height; j++) {
      for (let i = 0; i < picture.width; i++) {
        const [from, to] = [j * picture.width + i, (y + j) * this.width + x + i];
        const cover = picture.cover ? picture.cover[from] : 1;
        for (let k = 0; k < 3; k++)
          this.data[to * 3 + k] = picture.data[from * 3 + k] + (1 - cover) * this.data[to * 3 + k];
        if (this.cover) this.cover[to] = cover + (1 - cover) * this.cover[to];
      }
    }
  }

  /** The bytes of a PNG file: 8 bits, grey where the whole picture is, with alpha where not all is covered. */
  toPng(): Uint8Array {
    const { width, height, cover } = this;
    if (cover) {
      const rgba = new Uint8ClampedArray(width * height * 4);
      for (let at = 0; at < cover.length; at++) {
        for (let k = 0; k < 3; k++) rgba[at * 4 + k] = cover[at] ? this.data[at * 3 + k] / cover[at] : 0;
        rgba[at * 4 + 3] = 255 * cover[at];
      }
      return encode(
        { width, height, data: new Uint8Array(rgba.buffer), channels: 4, depth: 8 },
        { zlib: { level: 6 } },
      );
    }
    const rgb = Uint8ClampedArray.from(this.data);
    const grey = rgb.every((value, k) => value === rgb[k - (k % 3)]);
    const data = grey ? rgb.filter((_, k) => k % 3 === 0) : rgb;
    return encode(
      { width: this.width, height: this.height, data: new Uint8Array(data.buffer), channels: grey ? 1 : 3, depth: 8 },
      { zlib: { level: 6 } },
    );
  }

  #blend(x: number, y: number, rgb: Rgb, alpha: number): void {
    if (x < 0 || y < 0 || x >= this.width || y >= this.height || alpha <= 0) return;
    const at = (y * this.width + x) * 3;
    for (let k = 0; k < 3; k++) this.data[at + k] += alpha * (rgb[k] - this.data[at + k]);
    if (this.cover) this.cover[at / 3] += alpha * (1 - this.cover[at / 3]);
  }
}

/** Width in pixels of a line of text at `size`. */
export function textWidth(text: string, size: number): number {
  return [...text].reduce((sum, character) => sum + glyph(character).advance, 0) * (size / 10);
}

const clamp01 = (x: number): number => Math.min(1, Math.max(0, x));

function distanceToLine(x: number, y: number, line: number[]): number {
  let least = Infinity;
  for (let k = 0; k + 3 < line.length; k += 2) {
    const dx = line[k + 2] - line[k];
    const dy = line[k + 3] - line[k + 1];
    const length = dx * dx + dy * dy;
    const along = length === 0 ? 0 : clamp01(((x - line[k]) * dx + (y - line[k + 1]) * dy) / length);
    least = Math.min(least, Math.hypot(x - line[k] - along * dx, y - line[k + 1] - along * dy));
  }
  return least;
}
