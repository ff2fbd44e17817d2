// Divides the rows of a backup into COPYs: runs of ranges of large tables, and small tables that share a segment
// together, so that a segment is fetched once.
import { quoteName, quoteQualified } from '../../postgres/identifiers.ts';
import type { RangeEntry, Ranges, Slice, TableEntry } from '../../repository/manifest.ts';
import { type RowText, rowTextOf } from '../row-text.ts';
import type { LoadedRanges } from './unfinished-restore.ts';

/** One COPY ... FROM STDIN; a task that waits is not told yet where its rows are. */
export interface PlannedLoad {
  /** Index into the tables given to {@link planLoads}. */
  table: number;
  /** As SQL, quoted: for messages. */
  into: string;
  sql: string;
  /** The ranges of the table that these rows are. */
  ranges: LoadedRanges;
  rows: number;
  bytes: number;
  text: () => RowText;
}

/** The same, for a thread that does it. */
export interface LoadTask extends Omit<PlannedLoad, 'text'> {
  text: RowText;
}

export function toTask(planned: PlannedLoad): LoadTask {
  return { ...planned, text: planned.text() };
}

/** Bytes of COPY text to send in one COPY: enough that commits do not count, little enough to share the work. */
const bytesPerCopy = 32 * 1024 * 1024;

/**
 * @param ranges of each table, in order.
 * @param encoding the backup's: COPY text is kept in the source's encoding.
 * @param loaded is there already and is passed over.
 * @returns items of work, largest tables first; the tasks of an item are done one after the other.
 */
export function planLoads(
  tables: readonly TableEntry[],
  ranges: readonly Ranges[],
  encoding: string,
  loaded: readonly LoadedRanges[] = [],
): PlannedLoad[][] {
  const loadedOf = Map.groupBy(loaded, entry => entry.tableOid);
  const large: PlannedLoad[] = [];
  const bySegment = new Map<string, PlannedLoad[]>();
  for (const [index, table] of tables.entries()) {
    const statement = copyInto(table, encoding);
    for (const run of runsOf(ranges[index] ?? [], loadedOf.get(table.oid) ?? [])) {
      const task = planRun(index, table, statement, run);
      const shared = run.only;
      if (shared === undefined) {
        large.push(task);
        continue;
      }
      const sharing = bySegment.get(shared.id);
      if (sharing === undefined) bySegment.set(shared.id, [task]);
      else sharing.push(task);
    }
  }
  const tableBytes = tables.map(table => table.bytes);
  large.sort((a, b) => (tableBytes[b.table] ?? 0) - (tableBytes[a.table] ?? 0));
  return [...large.map(task => [task]), ...bySegment.values()];
}

/** All rows of a table as one COPY, for this thread: its ranges stay packed until they are read. */
export function wholeTableTask(index: number, table: TableEntry, ranges: Ranges, encoding: string): LoadTask {
  const run = { ranges, first: 0, last: ranges.length - 1, rows: table.rows, bytes: table.bytes };
  const planned = planRun(index, table, copyInto(table, encoding), run);
  return { ...planned, text: { table: nameOf(table), first: 0, ranges } };
}

/** Neighbours with rows. */
interface Run {
  /** Those of the table. */
  ranges: Ranges;
  first: number;
  last: number;
  rows: number;
  bytes: number;
  /** The one slice that all rows are in, when it is a part of a segment. */
  only?: Slice | undefined;
}

function* runsOf(ranges: Ranges, loaded: readonly LoadedRanges[]): Iterable<Run> {
  const isLoaded = new Uint8Array(ranges.length);
  for (const { first, last } of loaded) isLoaded.fill(1, first, last + 1);
  let run: Run | undefined;
  let slices = 0;
  let at = 0;
  for (const range of ranges) {
    if (isLoaded[at] !== 1) {
      if (run === undefined) {
        run = { ranges, first: at, last: at, rows: 0, bytes: 0 };
        slices = 0;
      }
      run.last = at;
      run.rows += range.rows;
      run.bytes += range.bytes;
      slices += range.slices.length;
      const [slice] = range.slices;
      const isPart = slices === 1 && slice !== undefined && slice.bytes !== slice.plainBytes;
      if (range.slices.length > 0) run.only = isPart ? slice : undefined;
    }
    at++;
    // A COPY is of neighbours only, so that what it loads can be told by the first and the last.
    const isEnd = at === ranges.length || isLoaded[at] === 1;
    if (run === undefined || (run.bytes < bytesPerCopy && !isEnd)) continue;
    if (run.rows > 0) yield run;
    run = undefined;
  }
}

interface CopyStatement {
  into: string;
  sql: string;
}

function copyInto(table: TableEntry, encoding: string): CopyStatement {
  const target = table.loadVia ?? table;
  const into = quoteQualified(target.schema, target.name);
  const columns = table.columns.length > 0 ? ` (${table.columns.map(quoteName).join(', ')})` : '';
  return { into, sql: `COPY ${into}${columns} FROM STDIN WITH (ENCODING '${encoding}')` };
}

function planRun(
  index: number,
  table: TableEntry,
  statement: CopyStatement,
  { ranges, first, last, rows, bytes }: Run,
): PlannedLoad {
  return {
    table: index,
    ...statement,
    ranges: { tableOid: table.oid, first, last },
    rows,
    bytes,
    text: () => {
      const own: RangeEntry[] = [];
      for (let at = first; at <= last; at++) own.push(requireRange(ranges, at));
      return rowTextOf(nameOf(table), own, first);
    },
  };
}

/** For messages. */
function nameOf({ schema, name }: TableEntry): string {
  return `${schema}.${name}`;
}

function requireRange(ranges: Ranges, index: number): RangeEntry {
  const range = ranges.at(index);
  if (range === undefined) throw new RangeError(`there is no range ${index} of ${ranges.length}`);
  return range;
}
