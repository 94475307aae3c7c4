import { UserError } from '../errors.js';

/** What stands in a cell. */
export type Cell = string | number;

/** A column of a table. */
export interface Column {
  header: string;
  /** Significant digits of its numbers, default 3. */
  digits?: number;
}

/** Rows under columns, for terminals, files and pages. */
export interface Table {
  columns: (string | Column)[];
  rows: Cell[][];
}

/** A table whose cells are text, ready to be laid out; a column of numbers (or empty cells) is set to the right. */
export interface LaidOutTable {
  headers: string[];
  rows: string[][];
  right: boolean[];
}

/**
 * A number at `digits` significant digits as people write it: plain from 1e-4 to 1e6, with an exponent beyond, whole
 * numbers in full.
 */
export function formatNumber(value: number, digits = 3): string {
  if (!Number.isFinite(value)) return String(value).replace('Infinity', '∞');
  if (Number.isInteger(value) && Math.abs(value) < 1e9) return String(value);
  const rounded = Number(value.toPrecision(digits));
  const size = Math.abs(rounded);
  if (size < 1e-4 || size >= 1e6) return value.toExponential(digits - 1);
  return rounded.toFixed(Math.max(0, digits - 1 - Math.floor(Math.log10(size))));
}

/** A dash stands for a number that could not be measured, NaN. @throws UserError where a row is not as long as the header */
export function layOut({ columns, rows }: Table): LaidOutTable {
  const specs = columns.map((column) => (typeof column === 'string' ? { header: column } : column));
  for (const row of rows) {
    if (row.length !== specs.length)
      throw new UserError(`a table row has ${row.length} cells where ${specs.length} columns are`);
  }
  return {
    headers: specs.map((spec) => spec.header),
    rows: rows.map((row) =>
      row.map((cell, k) => {
        if (typeof cell !== 'number') return cell;
        return Number.isNaN(cell) ? '–' : formatNumber(cell, specs[k].digits);
      }),
    ),
    right: specs.map(
      (_, k) =>
        rows.some((row) => typeof row[k] === 'number') &&
        rows.every((row) => typeof row[k] === 'number' || isBlank(row[k])),
    ),
  };
}

const isBlank = (cell: Cell): boolean => cell === '' || cell === '–';

/** For a terminal: columns two spaces apart under a ruled header. */
export function textTable(table: Table): string {
  const { headers, rows, right } = layOut(table);
  const widths = headers.map((header, k) => Math.max(width(header), ...rows.map((row) => width(row[k]))));
  const line = (cells: string[]): string =>
    cells
      .map((cell, k) => pad(cell, widths[k], right[k]))
      .join('  ')
      .trimEnd();
  return [line(headers), widths.map((w) => '─'.repeat(w)).join('  '), ...rows.map(line)].join('\n');
}

/** For documents: a Markdown table, aligned as source too. */
export function markdownTable(table: Table): string {
  const laidOut = layOut(table);
  const { right } = laidOut;
  const escape = (cell: string): string => cell.replace(/\\/g, '\\\\').replace(/\|/g, '\\|').replace(/\r?\n/g, ' ');
  const headers = laidOut.headers.map(escape);
  const rows = laidOut.rows.map((row) => row.map(escape));
  const widths = headers.map((header, k) => Math.max(3, width(header), ...rows.map((row) => width(row[k]))));
  const line = (cells: string[]): string => `| ${cells.map((cell, k) => pad(cell, widths[k], right[k])).join(' | ')} |`;
  const rule = widths.map((w, k) => (right[k] ? `${'-'.repeat(w - 1)}:` : '-'.repeat(w)));
  return [line(headers), line(rule), ...rows.map(line)].join('\n');
}

/** In characters, not UTF-16 units; combining marks take no room. */
const width = (text: string): number => [...text.replace(/\p{M}/gu, '')].length;

function pad(text: string, size: number, right: boolean): string {
  const gap = ' '.repeat(Math.max(0, size - width(text)));
  return right ? gap + text : text + gap;
}
