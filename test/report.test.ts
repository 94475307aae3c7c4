import { decode } from 'fast-png';
import { PbfReader } from 'pbf';
import { describe, expect, it } from 'vitest';
import { Canvas, textWidth } from '../src/report/canvas.js';
import { glyph } from '../src/report/font.js';
import { heatMap } from '../src/report/heat-map.js';
import { escapeHtml, figureOr, renderReport } from '../src/report/html.js';
import { linePlot, lossSeries, renderSvg, type LinePlot } from '../src/report/plot.js';
import { imageGrid, panels } from '../src/report/png.js';
import { scatter } from '../src/report/scatter.js';
import { formatNumber, markdownTable, textTable } from '../src/report/table.js';
import {
  crc32c,
  encodeEvent,
  encodeFileVersion,
  encodeHyperparameters,
  encodePicture,
} from '../src/report/tensorboard.js';

const pixel = (canvas: Canvas, x: number, y: number): number[] => [
  ...canvas.data.subarray((y * canvas.width + x) * 3, (y * canvas.width + x) * 3 + 3),
];
const darkness = (canvas: Canvas): number => canvas.data.reduce((sum, v) => sum + (255 - v) / 255 / 3, 0);

describe('canvas', () => {
  it('leaves open what nothing covers, over light and dark alike', () => {
    const open = new Canvas(4, 2, null);
    open.fill(1, 0, 1, 1, '#204060');
    open.fill(2, 0, 1, 1, '#ff0000', 0.5);
    const { channels, data } = decode(open.toPng());
    expect(channels).toBe(4);
    expect([...data.subarray(0, 4)]).toEqual([0, 0, 0, 0]);
    expect([...data.subarray(4, 8)]).toEqual([0x20, 0x40, 0x60, 255]);
    expect([data[8], data[9], data[10]]).toEqual([255, 0, 0]);
    expect(Math.abs(data[11] - 127.5)).toBeLessThan(1);
    for (const background of ['#ffffff', '#101010']) {
      const page = new Canvas(4, 2, background);
      const drawn = new Canvas(4, 2, background);
      drawn.fill(1, 0, 1, 1, '#204060');
      drawn.fill(2, 0, 1, 1, '#ff0000', 0.5);
      page.paste(open, 0, 0);
      page.data.forEach((value, i) => expect(value).toBeCloseTo(drawn.data[i], 3));
    }
  });

  it('draws a dot with its area about its centre, wherever it lies between pixels', () => {
    for (const [x, y] of [
      [10, 10],
      [10.5, 10.5],
      [9.8, 10.3],
    ]) {
      const canvas = new Canvas(20, 20);
      canvas.dot(x, y, 4, '#000000');
      expect(darkness(canvas)).toBeCloseTo(Math.PI * 16, -0.5);
      let [mx, my] = [0, 0];
      canvas.data.forEach((v, k) => {
        const at = Math.floor(k / 3);
        mx += ((255 - v) / 255 / 3) * ((at % 20) + 0.5);
        my += ((255 - v) / 255 / 3) * (Math.floor(at / 20) + 0.5);
      });
      expect(mx / darkness(canvas)).toBeCloseTo(x, 1);
      expect(my / darkness(canvas)).toBeCloseTo(y, 1);
    }
  });

  it('lays crossing strokes once and stays inside its edges', () => {
    const canvas = new Canvas(11, 11);
    canvas.stroke(
      [
        [0, 5.5, 11, 5.5],
        [5.5, -40, 5.5, 40],
      ],
      1,
      '#000000',
      0.5,
    );
    expect(pixel(canvas, 5, 5)[0]).toBeCloseTo(127.5, 0);
    expect(pixel(canvas, 5, 0)[0]).toBeCloseTo(127.5, 0);
    expect(pixel(canvas, 0, 0)).toEqual([255, 255, 255]);
  });

  it('encodes what it holds: RGB, and one channel where all is grey', () => {
    const canvas = new Canvas(3, 2, '#336699');
    canvas.fill(1, 0, 1, 1, '#ff8000');
    const colour = decode(canvas.toPng());
    expect([colour.width, colour.height, colour.channels]).toEqual([3, 2, 3]);
    expect([...colour.data.subarray(0, 6)]).toEqual([0x33, 0x66, 0x99, 0xff, 0x80, 0x00]);
    const grey = decode(new Canvas(5, 1, '#808080').toPng());
    expect(grey.channels).toBe(1);
    expect([...grey.data]).toEqual([128, 128, 128, 128, 128]);
  });

  it('has a glyph for every printable ASCII character, each different', () => {
    const shapes = Array.from({ length: 95 }, (_, k) => JSON.stringify(glyph(String.fromCharCode(32 + k)).lines));
    expect(new Set(shapes).size).toBe(95);
    expect(shapes).not.toContain(JSON.stringify(glyph('\u{1f600}').lines));
    for (const { lines } of [...'gjpqyQAMW@'].map(glyph))
      for (const v of lines.flat()) expect(Number.isFinite(v) && Math.abs(v) < 10).toBe(true);
    expect(textWidth('student', 20)).toBeCloseTo(2 * textWidth('student', 10), 9);
  });
});

describe('image grids', () => {
  it('put every pixel of every image in its place', () => {
    const shape = [5, 3, 4, 6] as const;
    const images = Float32Array.from({ length: 5 * 3 * 4 * 6 }, (_, i) => ((i * 37) % 256) / 127.5 - 1);
    const grid = imageGrid(images, { shape, columns: 2, zoom: 3, padding: 1, background: '#102030' });
    const { width, height, data } = decode(grid.toPng());
    expect([width, height]).toEqual([2 * 18 + 1, 3 * 12 + 2]);
    for (let n = 0; n < 5; n++) {
      for (let y = 0; y < 4; y++) {
        for (let x = 0; x < 6; x++) {
          const row = Math.floor(n / 2) * 13 + y * 3;
          const column = (n % 2) * 19 + x * 3;
          for (let c = 0; c < 3; c++) {
            const value = (((n * 3 + c) * 24 + y * 6 + x) * 37) % 256;
            for (const [dy, dx] of [
              [0, 0],
              [2, 2],
            ])
              expect(data[((row + dy) * width + column + dx) * 3 + c]).toBe(value);
          }
        }
      }
    }
    // The padding and the empty sixth place.
    expect(pixel(grid, 18, 0)).toEqual([0x10, 0x20, 0x30]);
    expect(pixel(grid, 30, 30)).toEqual([0x10, 0x20, 0x30]);
  });

  it('clip to the range and show a value that is not finite in magenta', () => {
    const png = decode(imageGrid([-9, 0, 0.5, 1, 7, NaN], { shape: [1, 1, 1, 6], range: [0, 1], zoom: 1 }).toPng());
    expect([...png.data]).toEqual([0, 0, 0, 0, 0, 0, 128, 128, 128, 255, 255, 255, 255, 255, 255, 255, 0, 255]);
    expect(
      decode(imageGrid([0.2, 0.4], { shape: [2, 1, 1, 1], range: [0, 1], zoom: 1, padding: 0 }).toPng()).channels,
    ).toBe(1);
  });

  it('refuse a wrong shape', () => {
    expect(() => imageGrid(new Float32Array(8), { shape: [1, 2, 2, 2] })).toThrow(/2 channels/);
    expect(() => imageGrid(new Float32Array(7), { shape: [2, 1, 2, 2] })).toThrow(/asks for 8/);
    expect(() => imageGrid([], { shape: [0, 1, 2, 2] })).toThrow(/0 numbers/);
  });
});

describe('scatter plots', () => {
  it('draw a point where it lies, y up, and leave out what lies beyond the range', () => {
    const canvas = scatter([1, 0.5, 30, 0, NaN, 0], {
      range: [-2, 2],
      size: 200,
      colour: '#ff0000',
      radius: 3,
      alpha: 1,
    });
    const blank = scatter([], { range: [-2, 2], size: 200 });
    // x = 1 is three quarters of 200, y = 0.5 is 75 from the top.
    expect(pixel(canvas, 150, 75)).toEqual([255, 0, 0]);
    let changed = 0;
    for (let k = 0; k < canvas.data.length; k += 3) if (canvas.data[k + 1] !== blank.data[k + 1]) changed++;
    expect(changed).toBeGreaterThan(20);
    expect(changed).toBeLessThan(60);
  });

  it('take a range that strays do not shrink', () => {
    const points = Float32Array.from({ length: 4000 }, (_, i) => Math.sin(i));
    points[7] = 1e6;
    const canvas = scatter(points, { size: 100, radius: 2, alpha: 1, colour: '#000000' });
    expect(darkness(canvas)).toBeGreaterThan(500);
    expect(() => scatter([1, 2, 3])).toThrow(/two coordinates/);
  });

  it.each([
    ['none', [], undefined],
    ['one', [3, 4], undefined],
    ['all alike', [2, 2, 2, 2], undefined],
    ['all alike at the origin', [0, 0, 0, 0], undefined],
    ['of a range of no length', [1, 1], [1, 1]],
    ['of a range backwards', [1, 2], [2, -2]],
    ['of a range that is no number', [1, 2], [NaN, NaN]],
    ['without a finite one', [NaN, NaN, Infinity, 1], undefined],
  ] as [string, number[], [number, number] | undefined][])('are drawn of points %s', (_, points, range) => {
    const canvas = scatter(points, { size: 60, range });
    expect(canvas.data.every(Number.isFinite)).toBe(true);
    const blank = scatter([], { size: 60, range: range ?? [-8, 8] });
    const drawn = points.some(Number.isFinite) && !points.includes(NaN) && !range?.includes(NaN);
    if (drawn) expect(darkness(canvas)).toBeGreaterThan(darkness(blank) + 1);
  });

  it('stand side by side under their titles', () => {
    const red = new Canvas(40, 30, '#ff0000');
    const blue = new Canvas(40, 20, '#0000ff');
    const sheet = panels(
      [
        { title: 'a', picture: red },
        { title: 'a much longer title', subtitle: 'SW2 0.01', picture: blue },
        { title: '', picture: red },
      ],
      { columns: 2 },
    );
    const count = (rgb: number[]): number => {
      let n = 0;
      for (let k = 0; k < sheet.data.length; k += 3) if (rgb.every((v, c) => sheet.data[k + c] === v)) n++;
      return n;
    };
    expect(count([255, 0, 0])).toBe(2 * 40 * 30);
    expect(count([0, 0, 255])).toBe(40 * 20);
    expect(sheet.width).toBeGreaterThan(2 * textWidth('a much longer title', 20));
    expect(() => panels([])).toThrow(/no pictures/);
  });
});

describe('line plots', () => {
  const plot: LinePlot = { xLabel: 'x', yLabel: 'y', width: 300, height: 200, series: [] };
  const lines = (svg: string): number[][][] =>
    [...svg.matchAll(/aria-roledescription="line mark" d="([^"]*)"/g)].map(([, d]) =>
      d
        .slice(1)
        .split('L')
        .map((p) => p.split(',').map(Number)),
    );
  const near = (found: number[][], truth: number[][]): void => {
    expect(found.length).toBe(truth.length);
    found.forEach((point, i) => point.forEach((v, k) => expect(v).toBeCloseTo(truth[i][k], 1)));
  };

  it('put points where the data says, on linear axes', async () => {
    const { svg, dropped } = await linePlot({
      ...plot,
      series: [{ name: 'a', x: [0, 5, 10], y: [0, 4, 10], marked: true }],
    });
    expect(dropped).toBe(0);
    near(lines(svg)[0], [
      [0, 200],
      [150, 120],
      [300, 0],
    ]);
    expect(svg.match(/aria-roledescription="point"/g)).toHaveLength(3);
    expect(svg).toContain('translate(150,120)');
  });

  it('put points where the data says, on logarithmic axes', async () => {
    const x = [1, 2, 4, 8, 16];
    const { svg } = await linePlot({
      ...plot,
      xLog: true,
      yLog: true,
      xTicks: x,
      series: [{ name: 'a', x, y: x.map((n) => 1 / n) }],
    });
    const room = Math.log(1.25);
    const full = Math.log(16) + 2 * room;
    near(
      lines(svg)[0],
      x.map((n, k) => [75 * k, (200 * (Math.log(n) + room)) / full]),
    );
    const labels = [...svg.matchAll(/>([\d.]+)<\/text>/g)].map(([, text]) => text);
    for (const n of x) expect(labels).toContain(String(n));
    expect(labels).toContain('0.1');
  });

  it('keep the order of the series, their colours, dashes and names', async () => {
    const { svg } = await linePlot({
      ...plot,
      title: 'a < b & "c"',
      series: [
        { name: 'zebra', x: [0, 1], y: [1, 1], colour: '#112233' },
        { name: '<script>alert(1)</script>', x: [0, 1], y: [2, 2], dashed: true },
        { name: 'faint', x: [0, 1], y: [3, 3], colour: '#0a0b0c', faint: true },
      ],
    });
    expect(lines(svg)).toHaveLength(3);
    expect(lines(svg)[0][0][1]).toBeGreaterThan(lines(svg)[1][0][1]);
    expect(svg).toMatch(/line mark" d="[^"]*" stroke="#112233"/);
    expect(svg).toContain('stroke="rgba(10,11,12,0.35)"');
    expect(svg).toContain('stroke-dasharray="5,4"');
    expect(svg).not.toContain('<script');
    expect(svg).toContain('&lt;script&gt;alert(1)&lt;/script&gt;</text>');
    expect(svg).toContain('a &lt; b &amp; "c"');
    expect(svg.indexOf('>zebra<')).toBeLessThan(svg.indexOf('>faint<'));
  });

  it('drop what an axis cannot show, and say how many', async () => {
    const { svg, dropped } = await linePlot({
      ...plot,
      yLog: true,
      series: [{ name: 'a', x: [0, 1, 2, 3, 4], y: [1, 0, -1, NaN, 10] }],
    });
    expect(dropped).toBe(3);
    expect(svg).toContain('3 of 5 points not drawn: not finite or not positive');
    expect(lines(svg)[0]).toHaveLength(2);
    const linear = await linePlot({ ...plot, series: [{ name: 'a', x: [0, 1, Infinity], y: [-1, 0, 1] }] });
    expect(linear.dropped).toBe(1);
    expect(lines(linear.svg)[0]).toHaveLength(2);
    await expect(
      linePlot({ ...plot, title: 'T', yLog: true, series: [{ name: 'a', x: [1, 2], y: [0, -1] }] }),
    ).rejects.toThrow(/"T" has no point to draw among 2/);
    await expect(linePlot({ ...plot, series: [{ name: 'a', x: [1, 2], y: [0] }] })).rejects.toThrow(
      /2 values of x and 1 of y/,
    );
  });

  it('survive a single point and a constant, on every axis', async () => {
    for (const log of [false, true]) {
      const { svg } = await linePlot({
        ...plot,
        xLog: log,
        yLog: log,
        series: [
          { name: 'a', x: [3], y: [0.5], marked: true },
          { name: 'b', x: [3, 3], y: [0.5, 0.5] },
        ],
      });
      expect(svg).not.toMatch(/NaN|Infinity/);
      expect(svg.match(/aria-roledescription="point"/g)).toHaveLength(1);
    }
  });

  it('never fail a report: what cannot be drawn says why', async () => {
    const nothing = await figureOr(() => linePlot({ ...plot, series: [{ name: 'a', x: [1], y: [NaN] }] }), 'losses');
    expect(nothing).toEqual({ missing: expect.stringMatching(/^not drawn: .*no point to draw/), caption: 'losses' });
    const html = renderReport({
      title: '',
      sections: [{ heading: '', svgs: [nothing], images: [{ missing: '<b>' }] }],
    });
    expect(html).toContain('no point to draw');
    expect(html).toContain('<p>&lt;b&gt;</p><');
    const some = await figureOr(() => linePlot({ ...plot, series: [{ name: 'a', x: [1], y: [2] }] }));
    expect(some).toHaveProperty('svg');
  });

  it('a heat map shows zeros, values that are all alike, and what is no number', async () => {
    for (const values of [
      [0, 0, 0, 0],
      [1, 1, 1, 1],
      [NaN, 0, 0.5, Infinity],
      [NaN, NaN, NaN, NaN],
      [-1, 0, 1, 2],
    ]) {
      const cells = values.map((value, i) => ({ x: i % 2, y: i >> 1, value }));
      const svg = await heatMap({ title: '', xLabel: 't', yLabel: 's', cells });
      expect(svg).not.toMatch(/NaN|undefined/);
      expect(svg.match(/aria-roledescription="rect mark"/g)).toHaveLength(4);
      expect(svg.match(/>–</g) ?? []).toHaveLength(values.filter(Number.isNaN).length);
    }
  });

  it('with a budget have its scale, whatever else is in the map', async () => {
    const colourOf = async (values: number[]) => {
      const cells = values.map((value, x) => ({ x, y: 0, value }));
      const svg = await heatMap({ title: '', xLabel: 't', yLabel: 's', cells, budget: 1e-2 });
      return [...svg.matchAll(/aria-roledescription="rect mark"[^>]*fill="([^"]+)"/g)].map(([, fill]) => fill);
    };
    const alone = await colourOf([1e-4]);
    const wide = await colourOf([1e-4, 3e-3, 1e-2, 3e-2, 10, 1e9]);
    expect(wide[0]).toBe(alone[0]);
    expect(wide[4]).toBe(wide[5]);
    const redness = (fill: string) => {
      const [red, , blue] = fill.match(/\d+/g)!.map(Number);
      return red - blue;
    };
    for (const within of wide.slice(0, 2)) expect(redness(within)).toBeLessThan(-10);
    for (const over of wide.slice(3)) expect(redness(over)).toBeGreaterThan(10);
  });

  it('take what Vega only warns of as an error', async () => {
    const zeroOnLog = {
      data: { values: [{ y: 0 }, { y: 1 }] },
      mark: 'point' as const,
      encoding: { y: { field: 'y', type: 'quantitative' as const, scale: { type: 'log' as const } } },
    };
    await expect(renderSvg(zeroOnLog)).rejects.toThrow(/Vega cannot draw the plot: .*[Ll]og/);
  });

  it('thin a long loss into means', () => {
    const steps = Array.from({ length: 6001 }, (_, i) => i);
    const [raw, mean] = lossSeries(
      'loss',
      steps,
      steps.map((s) => 2 * s + (s % 2)),
    );
    expect(raw.x.length).toBeLessThanOrEqual(600);
    expect(mean.x.length).toBeLessThanOrEqual(60);
    expect(mean.y[0]).toBeCloseTo(2 * mean.x[0] + 0.5, 1);
    const last = mean.x.length - 1;
    expect(Math.abs(mean.y[last] - 2 * mean.x[last])).toBeLessThanOrEqual(1);
    const [short] = lossSeries('loss', [0, 10], [3, 2]);
    expect([short.x, short.y]).toEqual([
      [0, 10],
      [3, 2],
    ]);
  });
});

describe('HTML report', () => {
  const png = new Canvas(2, 2).toPng();

  it('escapes all text and holds no script', () => {
    const evil = `</title><script>alert("x")</script><img src=x onerror='y'>&`;
    const html = renderReport({
      title: evil,
      subtitle: evil,
      sections: [
        { heading: evil, text: evil, table: { columns: [evil], rows: [[evil]] }, images: [{ png, caption: evil }] },
      ],
    });
    expect(html).not.toContain('<script');
    expect(html).not.toContain('<img src=x');
    expect(html.split(escapeHtml(evil))).toHaveLength(10);
    expect(html).toContain("default-src 'none'");
    expect(html).not.toMatch(/https?:|src="(?!data:)|url\(|@import|<link/);
  });

  it('holds the very bytes of its pictures, plots and tables in order', async () => {
    const large = new Uint8Array(50_000).map((_, i) => (i < png.length ? png[i] : i % 251));
    const { svg } = await linePlot({ xLabel: 'x', yLabel: 'y', series: [{ name: 'a', x: [1, 2], y: [1, 2] }] });
    const html = renderReport({
      title: 'Report',
      sections: [
        { heading: 'One', text: 'first\n\nsecond', svgs: [{ svg, caption: 'a plot' }] },
        {
          heading: 'Two',
          images: [{ png: large, pixelated: true }],
          table: {
            columns: ['steps', 'what'],
            rows: [
              [1, 'x'],
              [16, 'y'],
            ],
          },
        },
      ],
    });
    const [, base64] = /data:image\/png;base64,([^"]+)/.exec(html)!;
    expect(Uint8Array.from(Buffer.from(base64, 'base64'))).toEqual(large);
    expect(html).toContain(svg);
    expect(html).toContain('<p>first</p>\n<p>second</p>');
    expect(html).toContain('<tr><td class="number">16</td><td>y</td></tr>');
    expect(html.indexOf('<h2>One')).toBeLessThan(html.indexOf('<h2>Two'));
  });

  it('opens with what is to be known first, keeps the spaces of code, and escapes all of it', () => {
    const evil = '<b>&';
    const code = `recipe:\n  steps: 3 # ${evil}\n    deep: true\n`;
    const html = renderReport({
      title: 'Report',
      lead: `first ${evil}`,
      facts: [['date', evil]],
      sections: [
        {
          heading: 'One',
          strips: [{ heading: evil, images: [{ png, caption: 'a' }, { missing: evil }] }],
          table: { columns: ['a'], rows: [['b']] },
          about: [`a: ${evil}`],
          code,
        },
      ],
    });
    expect(html).not.toContain('<b>');
    expect(html).toContain(`<pre>${escapeHtml(code.trimEnd())}</pre>`);
    const places = ['class="lead"', 'class="facts"', '<h2>One', 'class="strip"', '<table>', 'class="about"', '<pre>'];
    const found = places.map((place) => html.indexOf(place));
    expect(found).toEqual(found.toSorted((a, b) => a - b));
    expect(found[0]).toBeGreaterThan(0);
  });

  it('refuses pictures that are none', () => {
    expect(() => renderReport({ title: '', sections: [{ heading: '', images: [{ png: png.subarray(1) }] }] })).toThrow(
      /not a PNG/,
    );
    expect(() => renderReport({ title: '', sections: [{ heading: '', svgs: [{ svg: '<script>' }] }] })).toThrow(
      /not an SVG/,
    );
  });
});

describe('TensorBoard events', () => {
  it('crc32c agrees with RFC 3720', () => {
    expect(crc32c(new TextEncoder().encode('123456789'))).toBe(0xe3069283);
    expect(crc32c(new Uint8Array(32))).toBe(0x8a9136aa);
    expect(crc32c(new Uint8Array(32).fill(0xff))).toBe(0x62a8ab43);
    expect(crc32c(Uint8Array.from({ length: 32 }, (_, i) => i))).toBe(0x46dd794e);
    expect(crc32c([])).toBe(0);
  });

  const bytes = (text: string): Uint8Array => Uint8Array.from(Buffer.from(text.replace(/\s/g, ''), 'hex'));

  it('agree with bytes that TensorBoard 2.21 reads', () => {
    expect(encodeFileVersion(1700000000.25)).toEqual(
      bytes('1800000000000000 a37f4b22 09 0000 1040 fc54 d941 1a 0d 627261696e2e4576656e743a32 338d2fe9'),
    );
    expect(encodeEvent({ wallTime: 1700000000.5, step: 0, tag: 'loss/é', value: 1.5 })).toEqual(
      bytes(
        '1d00000000000000 602fdf23 09 0000 2040 fc54 d941 10 00 2a 10 0a 0e 0a 07 6c6f73732fc3a9 15 0000c03f 3db29aef',
      ),
    );
  });

  it('write pictures and hyperparameters as TensorBoard reads them', () => {
    type Fields = [number: number, value: unknown][];
    const fieldsOf = (data: Uint8Array): Fields => {
      const reader = new PbfReader(data);
      return reader.readFields<Fields>((field, all, pbf) => {
        if (pbf.type === 2) all.push([field, pbf.readBytes()]);
        else all.push([field, pbf.type === 1 ? pbf.readDouble() : pbf.readVarint()]);
      }, []);
    };
    const child = (data: unknown, number: number) =>
      fieldsOf(data as Uint8Array).find(([field]) => field === number)![1];
    const textOf = (data: unknown) => Buffer.from(data as Uint8Array).toString();
    const valueOf = (record: Uint8Array) => child(child(record.subarray(12, record.length - 4), 5), 1);

    const png = new Canvas(5, 3).toPng();
    const picture = encodePicture(1, 70, 'samples', png);
    expect(child(picture.subarray(12, picture.length - 4), 2)).toBe(70);
    expect(textOf(child(valueOf(picture), 1))).toBe('samples');
    const image = child(valueOf(picture), 4);
    expect([child(image, 1), child(image, 2)]).toEqual([3, 5]);
    expect(Buffer.from(child(image, 4) as Uint8Array)).toEqual(Buffer.from(png));

    const given = { 'optimizer.rate': 0.5, method: 'fmap', checkpointBlocks: true };
    const table = valueOf(encodeHyperparameters(1, Object.entries(given)));
    expect(textOf(child(table, 1))).toBe('_hparams_/session_start_info');
    const plugin = child(child(table, 9), 1);
    expect(textOf(child(plugin, 1))).toBe('hparams');
    const session = child(child(plugin, 2), 3);
    const read = fieldsOf(session as Uint8Array).map(([, entry]) => {
      const [[kind, value]] = fieldsOf(child(entry, 2) as Uint8Array);
      return [textOf(child(entry, 1)), kind === 3 ? textOf(value) : kind === 4 ? value === 1 : value];
    });
    expect(Object.fromEntries(read)).toEqual(given);
  });

  it('write a step as a varint, beyond 32 bits too, and refuse what is none', () => {
    const stepOf = (step: number): number[] => {
      const event = encodeEvent({ wallTime: 0, step, tag: 'a', value: 0 });
      // length 8, crc 4, wall_time 9, the field's key 1; after the step the summary begins with 0x2a and its 10 bytes.
      return [...event.subarray(22, event.length - 4 - 12)];
    };
    expect(stepOf(1)).toEqual([1]);
    expect(stepOf(127)).toEqual([127]);
    expect(stepOf(300)).toEqual([0xac, 0x02]);
    expect(stepOf(2 ** 35 + 1)).toEqual([0x81, 0x80, 0x80, 0x80, 0x80, 0x01]);
    expect(() => stepOf(-1)).toThrow(/step/);
    expect(() => stepOf(0.5)).toThrow(/step/);
  });
});

describe('tables', () => {
  it('write numbers as people do', () => {
    const cases: [number, string][] = [
      [0, '0'],
      [16, '16'],
      [1234567, '1234567'],
      [0.0355, '0.0355'],
      [0.03551, '0.0355'],
      [0.05, '0.0500'],
      [1.0004, '1.00'],
      [-2.345, '-2.35'],
      [99.96, '100'],
      [0.9996, '1.00'],
      [1234.5, '1230'],
      [1e-5, '1.00e-5'],
      [2.5e7 + 0.5, '2.50e+7'],
      [NaN, 'NaN'],
      [-Infinity, '-∞'],
    ];
    for (const [value, text] of cases) expect(formatNumber(value)).toBe(text);
    expect(formatNumber(0.123456, 5)).toBe('0.12346');
  });

  const table = {
    columns: ['method', { header: 'RMSE', digits: 2 }, 'steps', 'Δ₄'],
    rows: [
      ['Euler', 0.793, 1, '–'],
      ['student, é', 0.0356, 16, 0.0015],
    ],
  };

  it('are aligned for a terminal: numbers to the right, text to the left', () => {
    expect(textTable(table)).toBe(
      [
        'method       RMSE  steps       Δ₄',
        '──────────  ─────  ─────  ───────',
        'Euler        0.79      1        –',
        'student, é  0.036     16  0.00150',
      ].join('\n'),
    );
  });

  it('are valid Markdown, whatever the cells hold', () => {
    expect(markdownTable(table).split('\n')[1]).toBe('| ---------- | ----: | ----: | ------: |');
    const escaped = markdownTable({ columns: ['a|b'], rows: [['x | y\nz'], ['\\|']] }).split('\n');
    expect(escaped).toHaveLength(4);
    expect(escaped[0]).toBe('| a\\|b     |');
    expect(escaped[2]).toBe('| x \\| y z |');
    expect(escaped[3]).toBe('| \\\\\\|     |');
    expect(() => textTable({ columns: ['a', 'b'], rows: [[1]] })).toThrow(/1 cells where 2 columns/);
    expect(textTable({ columns: ['a'], rows: [] })).toBe('a\n─');
  });
});
