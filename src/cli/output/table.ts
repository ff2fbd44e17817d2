// Rows of text as aligned columns.
import type { Style } from './style.ts';

export interface Column<Row> {
  title: string;
  /** Numbers stand right. */
  align?: 'left' | 'right';
  text: (row: Row) => string;
}

/** The table with its title line. A column whose cells are all empty is left out. */
export function renderTable<Row>(
  columns: readonly Column<Row>[],
  rows: readonly Row[],
  style: Style,
): string {
  const filled = columns
    .map(column => ({ column, cells: rows.map(row => singleLine(column.text(row))) }))
    .filter(({ cells }) => cells.some(cell => cell !== ''));
  const widths = filled.map(({ column, cells }) =>
    Math.max(...[column.title, ...cells].map(cell => cell.length)),
  );
  const line = (cellOf: (index: number) => string) =>
    filled
      .map(({ column }, index) => {
        const width = widths[index] ?? 0;
        return column.align === 'right' ? cellOf(index).padStart(width) : cellOf(index).padEnd(width);
      })
      .join('  ')
      .trimEnd();
  const header = style.bold(line(index => filled[index]?.column.title ?? ''));
  const body = rows.map((_, rowIndex) => line(index => filled[index]?.cells[rowIndex] ?? ''));
  return [header, ...body].map(text => `${text}\n`).join('');
}

/** Names may hold line breaks and worse; what a terminal would obey is shown as an escape. */
export function singleLine(text: string): string {
  return text.replaceAll(/\p{Cc}/gu, character => {
    if (character === '\n') return '\\n';
    if (character === '\t') return '\\t';
    return `\\x${(character.codePointAt(0) ?? 0).toString(16).padStart(2, '0')}`;
  });
}
