// Divides the rows of a backup into COPYs: runs of ranges of large tables, and small tables that share a segment
// together, so that a segment is fetched once.
import { quoteName, quoteQualified } from '../../postgres/identifiers.ts';
import type { RangeEntry, Slice, TableEntry } from '../../repository/manifest.ts';

/** One COPY ... FROM STDIN. */
export interface LoadTask {
  /** Index into the tables given to {@link planLoads}. */
  table: number;
  /** As SQL, quoted: for messages. */
  into: string;
  sql: string;
  rows: number;
  bytes: number;
  slices: Slice[];
}

/** Bytes of COPY text to send in one COPY: enough that commits do not count, little enough to share the work. */
const bytesPerCopy = 32 * 1024 * 1024;

/**
 * @param ranges of each table, in order.
 * @param encoding the backup's: COPY text is kept in the source's encoding.
 * @returns items of work, largest tables first; the tasks of an item are done one after the other.
 */
export function planLoads(
  tables: readonly TableEntry[],
  ranges: readonly RangeEntry[][],
  encoding: string,
): LoadTask[][] {
  const large: LoadTask[] = [];
  const bySegment = new Map<string, LoadTask[]>();
  for (const [index, table] of tables.entries()) {
    for (const task of tasksOf(index, table, ranges[index] ?? [], encoding)) {
      const first = task.slices[0];
      if (first === undefined || first.bytes === first.plainBytes || task.slices.length > 1) {
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
  return mergeTask(index, table, ranges, encoding);
}

function* tasksOf(
  index: number,
  table: TableEntry,
  ranges: readonly RangeEntry[],
  encoding: string,
): Iterable<LoadTask> {
  let run: RangeEntry[] = [];
  let runBytes = 0;
  for (const range of ranges) {
    if (range.rows === 0) continue;
    run.push(range);
    runBytes += range.bytes;
    if (runBytes >= bytesPerCopy) {
      yield mergeTask(index, table, run, encoding);
      run = [];
      runBytes = 0;
    }
  }
  if (run.length > 0) yield mergeTask(index, table, run, encoding);
}

function mergeTask(
  index: number,
  table: TableEntry,
  ranges: readonly RangeEntry[],
  encoding: string,
): LoadTask {
  const target = table.loadVia ?? table;
  const into = quoteQualified(target.schema, target.name);
  const columns = table.columns.length > 0 ? ` (${table.columns.map(quoteName).join(', ')})` : '';
  return {
    table: index,
    into,
    sql: `COPY ${into}${columns} FROM STDIN WITH (ENCODING '${encoding}')`,
    rows: ranges.reduce((sum, range) => sum + range.rows, 0),
    bytes: ranges.reduce((sum, range) => sum + range.bytes, 0),
    slices: ranges.flatMap(range => range.slices),
  };
}
