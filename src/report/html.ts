import { UserError } from '../errors.js';
import { layOut, type Table } from './table.js';

/** A picture of a report. */
export interface ReportImage {
  png: Uint8Array;
  caption?: string;
  /** Small pictures are shown enlarged by whole pixels, never blurred. */
  pixelated?: boolean;
}

/** A plot of a report. */
export interface ReportPlot {
  svg: string;
  caption?: string;
}

/** Stands where a plot or picture would be that cannot be drawn. */
export interface MissingFigure {
  /** Why, in one line. */
  missing: string;
  caption?: string;
}

/**
 * A figure, or why there is none: data that cannot be shown, such as none that is finite, must never fail the run whose
 * report they are drawn for.
 */
export async function figureOr<F extends object>(
  draw: () => F | Promise<F>,
  caption?: string,
): Promise<(F & { caption?: string }) | MissingFigure> {
  const said = caption === undefined ? {} : { caption };
  try {
    return { ...(await draw()), ...said };
  } catch (error) {
    return { missing: `not drawn: ${(error as Error).message.split('\n')[0]}`, ...said };
  }
}

/** Pictures of one kind side by side, small and of one scale. */
export interface ReportStrip {
  heading: string;
  images: (ReportImage | MissingFigure)[];
}

/** A section of a report: its heading, and what stands beneath it. */
export interface ReportSection {
  heading: string;
  /** Paragraphs are parted by an empty line. */
  text?: string;
  strips?: ReportStrip[];
  table?: Table;
  /** What its columns mean, a line each, under the table. */
  about?: readonly string[];
  images?: (ReportImage | MissingFigure)[];
  svgs?: (ReportPlot | MissingFigure)[];
  /** Text whose lines and spaces mean something, such as YAML. */
  code?: string;
}

export interface Report {
  title: string;
  /** One line under the title. */
  subtitle?: string;
  /** What is to be known first, in sentences. */
  lead?: string;
  /** Names and values, such as when and on what it was made. */
  facts?: readonly (readonly [string, string])[];
  sections: ReportSection[];
}

/**
 * One HTML file that opens offline: pictures are inside it, there are no scripts, and its content policy forbids any
 * script or request. All text is escaped.
 * @throws UserError where a picture is not a PNG or a plot not an SVG
 */
export function renderReport({ title, subtitle, lead, facts = [], sections }: Report): string {
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>${escapeHtml(title)}</title>
<style>${STYLE}</style>
</head>
<body>
<header>
<h1>${escapeHtml(title)}</h1>
${subtitle === undefined ? '' : `<p>${escapeHtml(subtitle)}</p>\n`}</header>
<main>
${lead === undefined ? '' : `<div class="lead">${paragraphs(lead)}</div>\n`}${renderFacts(facts)}${sections.map(renderSection).join('\n')}
</main>
</body>
</html>
`;
}

const paragraphs = (text: string): string =>
  text
    .split(/\n\s*\n/)
    .filter((paragraph) => paragraph.trim() !== '')
    .map((paragraph) => `<p>${escapeHtml(paragraph.trim())}</p>`)
    .join('\n');

function renderFacts(facts: NonNullable<Report['facts']>): string {
  if (!facts.length) return '';
  const rows = facts.map(([name, value]) => `<div><dt>${escapeHtml(name)}</dt><dd>${escapeHtml(value)}</dd></div>`);
  return `<dl class="facts">\n${rows.join('\n')}\n</dl>\n`;
}

function renderSection(section: ReportSection): string {
  const { heading, text = '', strips = [], table, about = [], images = [], svgs = [], code } = section;
  const figures = [...svgs.map(renderPlot), ...images.map(renderImage)];
  return [
    '<section>',
    `<h2>${escapeHtml(heading)}</h2>`,
    paragraphs(text),
    ...strips.map(renderStrip),
    ...(table ? [renderTable(table)] : []),
    ...(about.length ? ['<ul class="about">', ...about.map((line) => `<li>${escapeHtml(line)}</li>`), '</ul>'] : []),
    ...(figures.length > 0 ? ['<div class="figures">', ...figures, '</div>'] : []),
    ...(code === undefined ? [] : [`<pre>${escapeHtml(code.trimEnd())}</pre>`]),
    '</section>',
  ]
    .filter(Boolean)
    .join('\n');
}

const renderStrip = ({ heading, images }: ReportStrip): string =>
  [
    '<div class="strip">',
    `<h3>${escapeHtml(heading)}</h3>`,
    '<div>',
    ...images.map(renderImage),
    '</div>',
    '</div>',
  ].join('\n');

function renderTable(table: Table): string {
  const { headers, rows, right } = layOut(table);
  const cells = (tag: string, row: string[]): string =>
    `<tr>${row.map((cell, k) => `<${tag}${right[k] ? ' class="number"' : ''}>${escapeHtml(cell)}</${tag}>`).join('')}</tr>`;
  return `<div class="table"><table>
<thead>${cells('th', headers)}</thead>
<tbody>
${rows.map((row) => cells('td', row)).join('\n')}
</tbody>
</table></div>`;
}

const figure = (content: string, caption: string | undefined): string =>
  `<figure>${content}${caption === undefined ? '' : `<figcaption>${escapeHtml(caption)}</figcaption>`}</figure>`;

const renderMissing = ({ missing, caption }: MissingFigure): string => figure(`<p>${escapeHtml(missing)}</p>`, caption);

function renderPlot(plot: ReportPlot | MissingFigure): string {
  if ('missing' in plot) return renderMissing(plot);
  const { svg, caption } = plot;
  if (!/^<svg[\s>]/.test(svg.trimStart())) throw new UserError('a plot of the report is not an SVG picture');
  return figure(svg, caption);
}

function renderImage(image: ReportImage | MissingFigure): string {
  if ('missing' in image) return renderMissing(image);
  const { png, caption, pixelated } = image;
  if (PNG_SIGNATURE.some((byte, i) => png[i] !== byte))
    throw new UserError('a picture of the report is not a PNG file');
  const style = pixelated ? ' class="pixelated"' : '';
  return figure(`<img${style} src="data:image/png;base64,${base64(png)}" alt="${escapeHtml(caption ?? '')}">`, caption);
}

const PNG_SIGNATURE = [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a];

function base64(bytes: Uint8Array): string {
  let binary = '';
  // An argument list has a limit, so the bytes go in pieces.
  for (let at = 0; at < bytes.length; at += 8192) binary += String.fromCharCode(...bytes.subarray(at, at + 8192));
  return btoa(binary);
}

const ENTITIES: Record<string, string> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' };

export const escapeHtml = (text: string): string => text.replace(/[&<>"']/g, (character) => ENTITIES[character]);

const STYLE = `
:root { color-scheme: light dark; --text: #1d2430; --soft: #5b6675; --line: #dde2e9; --page: #fff; --card: #f7f8fa; }
@media (prefers-color-scheme: dark) {
  :root { --text: #e4e8ee; --soft: #97a3b4; --line: #2c3440; --page: #12161c; --card: #191f27; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 3rem 1.5rem 5rem; max-width: 64rem; background: var(--page); color: var(--text);
  font: 16px/1.55 system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', sans-serif; }
h1 { margin: 0; font-size: 1.9rem; line-height: 1.2; letter-spacing: -0.015em; text-wrap: balance; }
header p { margin: .4rem 0 0; color: var(--soft); }
section { margin-top: 2.75rem; }
h2 { margin: 0 0 .75rem; padding-bottom: .35rem; border-bottom: 1px solid var(--line); font-size: 1.2rem; }
p { margin: 0 0 .9rem; max-width: 46rem; white-space: pre-line; overflow-wrap: anywhere; }
.table { overflow-x: auto; margin: 0 0 1.25rem; }
table { border-collapse: collapse; font-size: .92rem; font-variant-numeric: tabular-nums; }
th, td { padding: .38rem 1.1rem .38rem 0; text-align: left; border-bottom: 1px solid var(--line); }
th { color: var(--soft); font-weight: 600; vertical-align: bottom; }
.number { text-align: right; }
.lead { margin-top: 1.5rem; padding: 1rem 1.25rem .15rem; background: var(--card); border-left: 4px solid #3f74d8; border-radius: 4px; }
.lead p { max-width: none; font-size: 1.05rem; }
.facts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(15rem, 46%), 1fr)); gap: .5rem 1.5rem; margin: 1.5rem 0 0; font-size: .9rem; }
.facts dt { color: var(--soft); }
.facts dd { margin: 0; overflow-wrap: anywhere; }
.about { margin: -.4rem 0 1.25rem; padding-left: 1.1rem; max-width: 46rem; color: var(--soft); font-size: .9rem; }
.strip { margin-bottom: 1.25rem; }
.strip > div { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(13rem, 46%), 1fr)); gap: .75rem; }
.strip figure { padding: .6rem; }
.strip figure img { width: 100%; }
h3 { margin: 0 0 .5rem; font-size: 1rem; font-weight: 600; }
pre { overflow-x: auto; margin: 0; padding: 1rem; background: var(--card); border: 1px solid var(--line); border-radius: 10px;
  font: .85rem/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
.figures { display: flex; flex-wrap: wrap; gap: 1.25rem; align-items: flex-start; }
figure { margin: 0; padding: 1rem; max-width: 100%; background: var(--card); border: 1px solid var(--line); border-radius: 10px; }
figure img, figure svg { display: block; max-width: 100%; height: auto; color: var(--text); border-radius: 4px; }
.pixelated { image-rendering: pixelated; }
figcaption { margin-top: .6rem; max-width: 46rem; color: var(--soft); font-size: .88rem; }
@media print { figure { break-inside: avoid; } }
`;
