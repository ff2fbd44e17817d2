// Divides the rows of the tables into work: page ranges of large tables, and groups of small tables that share
// segments. Pure data, the same in every thread; work is taken from it by number.
import { crc32 } from 'node:zlib';
import type { Relation } from '../../postgres/catalog.ts';
import { quoteName, quoteQualified } from '../../postgres/identifiers.ts';

export interface PlannedTable {
  /** As SQL: the quoted, qualified name. */
  from: string;
  /** As SQL: the select list; empty for a table without columns. */
  columns: string;
  sizeBytes: number;
  /** Pages of a range; 0 reads the table as one. */
  rangePages: number;
  ranges: number;
}

export interface CopyPlan {
  /** The server's encoding: COPY text is kept in it, byte for byte. */
  encoding: string;
  tables: PlannedTable[];
  /** Tables by index; either one table in its ranges, or several tables with one range each. */
  groups: { tables: number[]; firstItem: number }[];
  items: number;
}

/** One COPY. */
export interface CopyTask {
  table: number;
  range: number;
  sql: string;
}

/** 8 MiB of heap: about 4 MB of COPY text, one segment. */
const basePages = 1024;
const maxRanges = 16_384;
/** Tables up to this size share segments with their neighbours. */
const smallBytes = 1024 * 1024;
const groupBytes = 8 * 1024 * 1024;
/** One in so many small tables ends a group, whatever its neighbours do: groups stay the same from run to run. */
const groupCut = 64;
const firstVersionWithTidRangeScan = 140000;

/**
 * @param relations the tables whose rows are read, with their sizes.
 * @param earlierRangePages what an earlier backup used for a table (`schema.name`, quoted): boundaries stay.
 */
export function planCopies(
  relations: readonly Relation[],
  encoding: string,
  versionNumber: number,
  earlierRangePages: ReadonlyMap<string, number>,
): CopyPlan {
  const tables = relations.map(relation => planTable(relation, versionNumber, earlierRangePages));
  const groups: { tables: number[]; sizeBytes: number }[] = [];
  let group: { tables: number[]; sizeBytes: number } | undefined;
  for (const [index, table] of tables.entries()) {
    if (table.ranges === 0) continue;
    if (table.ranges > 1 || table.sizeBytes > smallBytes) {
      groups.push({ tables: [index], sizeBytes: table.sizeBytes });
      continue;
    }
    group ??= { tables: [], sizeBytes: 0 };
    group.tables.push(index);
    group.sizeBytes += table.sizeBytes;
    if (group.sizeBytes >= groupBytes || crc32(table.from) % groupCut === 0) {
      groups.push(group);
      group = undefined;
    }
  }
  if (group !== undefined) groups.push(group);
  // The largest table first: what is left for the end is small, so the workers end together.
  groups.sort((a, b) => b.sizeBytes - a.sizeBytes);
  let items = 0;
  const numbered = groups.map(({ tables: members }) => {
    const firstItem = items;
    items += members.length > 1 ? 1 : (tables[members[0] ?? 0]?.ranges ?? 0);
    return { tables: members, firstItem };
  });
  return { encoding, tables, groups: numbered, items };
}

/** The COPYs of one item of the plan, in the order in which their bytes stand in the segments. */
export function tasksOf(plan: CopyPlan, item: number): CopyTask[] {
  let low = 0;
  let high = plan.groups.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if ((plan.groups[middle]?.firstItem ?? 0) <= item) low = middle;
    else high = middle - 1;
  }
  const group = plan.groups[low];
  if (group === undefined) return [];
  const range = item - group.firstItem;
  return group.tables.map(table => ({ table, range, sql: copySql(plan, table, range) }));
}

function planTable(
  relation: Relation,
  versionNumber: number,
  earlier: ReadonlyMap<string, number>,
): PlannedTable {
  const from = quoteQualified(relation.schema, relation.name);
  const columns = relation.columns.map(quoteName).join(', ');
  const base = { from, columns, sizeBytes: relation.sizeBytes };
  if (!relation.isHeap || versionNumber < firstVersionWithTidRangeScan)
    return { ...base, rangePages: 0, ranges: 1 };
  let rangePages = earlier.get(from) ?? 0;
  if (rangePages === 0) {
    rangePages = basePages;
    while (relation.pages / rangePages > maxRanges) rangePages *= 2;
  }
  // A heap without pages has no rows; the size is read after the snapshot was taken.
  return { ...base, rangePages, ranges: Math.ceil(relation.pages / rangePages) };
}

function copySql(plan: CopyPlan, index: number, range: number): string {
  const table = plan.tables[index];
  if (table === undefined) throw new RangeError(`no table ${index} in the plan`);
  const conditions: string[] = [];
  if (table.rangePages > 0 && range > 0) conditions.push(`ctid >= '(${range * table.rangePages},0)'`);
  // The last range is open: nothing is lost should the table have more pages than were counted.
  if (table.rangePages > 0 && range < table.ranges - 1)
    conditions.push(`ctid < '(${(range + 1) * table.rangePages},0)'`);
  const where = conditions.length > 0 ? ` WHERE ${conditions.join(' AND ')}` : '';
  return `COPY (SELECT ${table.columns} FROM ONLY ${table.from}${where}) TO STDOUT WITH (ENCODING '${plan.encoding}')`;
}
