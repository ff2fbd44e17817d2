// What page ranges hold, by what was counted of their segments, compared with what the manifest says of them.
import type { RangeEntry, Slice } from '../../repository/manifest.ts';
import { type CountedList, countNumbers } from './count-numbers.ts';
import type { SegmentChecks } from './segment-checks.ts';

export interface RangeContents {
  rows: number;
  /** What is not as it should be, to be said of the range. */
  faults: string[];
}

type Lists = CountedList[] | null | undefined;

/**
 * @param manifest what tells how many rows there are: for messages.
 * @returns `undefined` when not all of the range's segments were read.
 */
export async function checkContents(
  range: RangeEntry,
  checks: SegmentChecks,
  manifest: string,
): Promise<RangeContents | undefined> {
  const { base, slices, ctids, gone } = range;
  const baseLines = countLines(slices.slice(0, base?.slices), checks);
  const addedLines = countLines(base === undefined ? [] : slices.slice(base.slices), checks);
  const goneLists = gone && (await countLists(gone, checks));
  const baseCtids = ctids && (await countLists(ctids.slice(0, base?.ctids), checks));
  const addedCtids = base && ctids && (await countLists(ctids.slice(base.ctids), checks));
  const isUnread =
    (gone && goneLists === undefined) ||
    (ctids && baseCtids === undefined) ||
    (base && ctids && addedCtids === undefined);
  if (baseLines === undefined || addedLines === undefined || isUnread) return undefined;

  const faults: string[] = [];
  const lines = baseLines.rows + addedLines.rows;
  const rows = lines - total(goneLists);
  if (gone !== undefined) faults.push(...faultsOfGone(goneLists, lines));
  if (rows !== range.rows) faults.push(`holds ${rows} rows where ${manifest} counts ${range.rows}`);
  if (!(addedLines.isClosed ?? baseLines.isClosed ?? true)) faults.push('does not end with the end of a row');
  if (base !== undefined) {
    if (baseLines.rows !== base.rows)
      faults.push(`has ${baseLines.rows} lines in its base, not ${base.rows}`);
    if (addedLines.rows !== base.added)
      faults.push(`has ${addedLines.rows} lines in its deltas, not ${base.added}`);
  }
  if (ctids !== undefined) faults.push(...faultsOfCtids(baseCtids, baseLines.rows, 1, 'base'));
  if (base !== undefined && ctids !== undefined) {
    faults.push(...faultsOfCtids(addedCtids, addedLines.rows, base.deltas, 'deltas'));
  }
  return { rows, faults };
}

function countLines(
  slices: readonly Slice[],
  checks: SegmentChecks,
): { rows: number; isClosed: boolean | undefined } | undefined {
  let rows = 0;
  let isClosed: boolean | undefined;
  for (const slice of slices) {
    const counted = checks.countedText(slice);
    if (counted === undefined) return undefined;
    rows += counted.rows;
    if (slice.bytes > 0) isClosed = counted.isClosed;
  }
  return { rows, isClosed };
}

/** @returns `null` when the slices are no whole lists. */
async function countLists(slices: readonly Slice[], checks: SegmentChecks): Promise<Lists> {
  const found: CountedList[] = [];
  for (const slice of slices) {
    const lists = checks.countedLists(slice);
    if (lists === undefined) return undefined;
    // The first part of a list is never whole ones, so no part of one was taken for them so far.
    if (lists === null) return joinLists(slices, checks);
    found.push(...lists);
  }
  return found;
}

async function joinLists(slices: readonly Slice[], checks: SegmentChecks): Promise<Lists> {
  if (slices.length === 1) return null;
  const parts: Buffer[] = [];
  for (const { id, offset, bytes } of slices) {
    const plain = await checks.read(id);
    if (plain === undefined) return undefined;
    parts.push(Buffer.from(plain.subarray(offset, offset + bytes)));
  }
  return countNumbers(Buffer.concat(parts));
}

function faultsOfGone(lists: Lists, lines: number): string[] {
  const [list, ...more] = lists ?? [];
  if (list === undefined || more.length > 0)
    return ['has no list of ascending numbers for the lines that are gone'];
  return list.end > lines ? [`lacks line ${list.end - 1}, which is to be gone: it has ${lines}`] : [];
}

function faultsOfCtids(lists: Lists, lines: number, expected: number, part: 'base' | 'deltas'): string[] {
  if (lists?.length !== expected) {
    const what = lists ? `${lists.length} lists of ctids` : 'no lists of ascending ctids';
    return [`has ${what} for its ${part}, not ${expected}`];
  }
  const ctids = total(lists);
  return ctids === lines ? [] : [`has ${ctids} ctids for the ${lines} lines of its ${part}`];
}

function total(lists: Lists): number {
  return (lists ?? []).reduce((sum, { count }) => sum + count, 0);
}
