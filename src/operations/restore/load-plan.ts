// Divides the rows of a backup into COPYs: runs of ranges of large tables, and small tables that share a segment
// together, so that a segment is fetched once.
import { quoteName, quoteQualified } from '../../postgres/identifiers.ts';
import type { RangeEntry, TableEntry } from '../../repository/manifest.ts';
import { type RowText, rowTextOf } from '../row-text.ts';
import type { LoadedRanges } from './unfinished-restore.ts';

/** One COPY ... FROM STDIN. */
export interface LoadTask {
  /** Index into the tables given to {@link planLoads}. */
  table: number;
  /** As SQL, quoted: for messages. */
  into: string;
  sql: string;
  /** The ranges of the table that these rows are. */
  ranges: LoadedRanges;
  rows: number;
  bytes: number;
  text: RowText;
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
  ranges: readonly RangeEntry[][],
  encoding: string,
  loaded: readonly LoadedRanges[] = [],
): LoadTask[][] {
  const loadedOf = Map.groupBy(loaded, entry => entry.tableOid);
  const large: LoadTask[] = [];
  const bySegment = new Map<string, LoadTask[]>();
  for (const [index, table] of tables.entries()) {
    for (const task of tasksOf(index, table, ranges[index] ?? [], encoding, loadedOf.get(table.oid) ?? [])) {
      const [first, ...more] = task.text.ranges.flatMap(({ slices }) => slices);
      if (first === undefined || first.bytes === first.plainBytes || more.length > 0) {
        large.push(task);
        continue;
      }
      const sharing = bySegment.get(first.id);
      if (sharing === undefined) bySegment.set(first.id, [task]);
      else sharing.push(task);
    }
  }
  const tableBytes = tables.map(table => table.bytes);
  large.sort((a, b) => (tableBytes[b.table] ?? 0) - (tableBytes[a.table] ?? 0));
  return [...large.map(task => [task]), ...bySegment.values()];
}

/** All rows of a table as one COPY. */
export function wholeTableTask(
  index: number,
  table: TableEntry,
  ranges: readonly RangeEntry[],
  encoding: string,
): LoadTask {
  return mergeTask(index, table, ranges, 0, encoding);
}

function* tasksOf(
  index: number,
  table: TableEntry,
  ranges: readonly RangeEntry[],
  encoding: string,
  loaded: readonly LoadedRanges[],
): Iterable<LoadTask> {
  const isLoaded = new Uint8Array(ranges.length);
  for (const { first, last } of loaded) isLoaded.fill(1, first, last + 1);
  let first = 0;
  let run: RangeEntry[] = [];
  let rows = 0;
  let bytes = 0;
  for (const [at, range] of ranges.entries()) {
    if (isLoaded[at] !== 1) {
      if (run.length === 0) first = at;
      run.push(range);
      rows += range.rows;
      bytes += range.bytes;
    }
    // A COPY is of neighbours only, so that what it loads can be told by the first and the last.
    const isEnd = at === ranges.length - 1 || isLoaded[at + 1] === 1;
    if (bytes < bytesPerCopy && !isEnd) continue;
    if (rows > 0) yield mergeTask(index, table, run, first, encoding);
    run = [];
    rows = 0;
    bytes = 0;
  }
}

function mergeTask(
  index: number,
  table: TableEntry,
  ranges: readonly RangeEntry[],
  first: number,
  encoding: string,
): LoadTask {
  const target = table.loadVia ?? table;
  const into = quoteQualified(target.schema, target.name);
  const columns = table.columns.length > 0 ? ` (${table.columns.map(quoteName).join(', ')})` : '';
  return {
    table: index,
    into,
    sql: `COPY ${into}${columns} FROM STDIN WITH (ENCODING '${encoding}')`,
    ranges: { tableOid: table.oid, first, last: first + ranges.length - 1 },
    rows: ranges.reduce((sum, range) => sum + range.rows, 0),
    bytes: ranges.reduce((sum, range) => sum + range.bytes, 0),
    text: rowTextOf(`${table.schema}.${table.name}`, ranges, first),
  };
}
