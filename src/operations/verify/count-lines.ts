// Counts the rows in a piece of row text: rows are line feeds, as those inside values are escaped.

const lineFeed = 0x0a;

export interface CountedSlice {
  rows: number;
  /** Whether it ends with a row's end: the last slice of a range does. */
  isClosed: boolean;
}

export function countLines(text: Buffer): CountedSlice {
  let rows = 0;
  for (let at = text.indexOf(lineFeed); at >= 0; at = text.indexOf(lineFeed, at + 1)) rows++;
  return { rows, isClosed: text.at(-1) === lineFeed };
}
