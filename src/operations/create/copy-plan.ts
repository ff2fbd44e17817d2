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
  /** Of heap. */
  pages: number;
  /** Whether later backups may build on its ranges: what its rows' text depends on is known. */
  isTraceable: boolean;
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

/** One range of one table. */
export interface CopyTask {
  table: number;
  range: number;
}

/** 8 MiB of heap: about 4 MB of COPY text, one segment. */
export const basePages = 1024;
const maxRanges = 16_384;
/** Tables up to this size share segments with their neighbours. */
const smallBytes = 1024 * 1024;
const groupBytes = 8 * 1024 * 1024;
/** One in so many small tables ends a group, whatever its neighbours do: groups stay the same from run to run. */
const groupCut = 64;
/**
 * A transaction keeps the locks of all that it has read, for which a server has little room. The coordinator's locks are what
 * protects the tables, and its snapshot can be joined anew: after about so many a worker begins another transaction.
 */
export const rangesPerTransaction = 500;
/** So many tables a worker holds locks on at a time, or some more: the last item that it takes may be a group. */
export const tablesPerTransaction = rangesPerTransaction + groupCut;
export const firstVersionWithTidRangeScan = 140000;
/** Ranges with fewer pages are read anew whenever they changed. */
const pagesWithCtids = 64;

/**
 * @param relations the tables whose rows are read, with their sizes.
 * @param earlierRangePages what an earlier backup used for a table (`schema.name`, quoted): boundaries stay.
 * @param traceable oids of tables that later backups may build on.
 */
export function planCopies(
  relations: readonly Relation[],
  encoding: string,
  versionNumber: number,
  earlierRangePages: ReadonlyMap<string, number>,
  traceable: Pick<ReadonlySet<string>, 'has'>,
): CopyPlan {
  return groupTables(
    encoding,
    relations.map(relation => planTable(relation, versionNumber, earlierRangePages, traceable)),
  );
}

/** The plan for tables that are planned already: the same for the same tables, in every process of this version. */
export function groupTables(encoding: string, tables: PlannedTable[]): CopyPlan {
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
  return group.tables.map(table => ({ table, range }));
}

/** The items that each of several processes does: each item is one's, and all have about as much to read. */
export function divideItems(plan: CopyPlan, shards: number): Uint32Array[] {
  const sizes = new Float64Array(plan.items);
  for (const { tables: members, firstItem } of plan.groups) {
    const bytes = members.reduce((sum, table) => sum + (plan.tables[table]?.sizeBytes ?? 0), 0);
    const items = members.length > 1 ? 1 : (plan.tables[members[0] ?? 0]?.ranges ?? 0);
    sizes.fill(bytes / Math.max(1, items), firstItem, firstItem + items);
  }
  const largestFirst = Uint32Array.from(sizes, (_, item) => item).sort(
    (a, b) => (sizes[b] ?? 0) - (sizes[a] ?? 0) || a - b,
  );
  const loads = new Float64Array(shards);
  const parts: number[][] = Array.from(loads, () => []);
  for (const item of largestFirst) {
    let least = 0;
    for (let shard = 1; shard < shards; shard++) {
      if ((loads[shard] ?? 0) < (loads[least] ?? 0)) least = shard;
    }
    // Items without bytes must not all go to one.
    loads[least] = (loads[least] ?? 0) + Math.max(1, sizes[item] ?? 0);
    parts[least]?.push(item);
  }
  return parts.map(items => Uint32Array.from(items).sort());
}

function planTable(
  relation: Relation,
  versionNumber: number,
  earlier: ReadonlyMap<string, number>,
  traceable: Pick<ReadonlySet<string>, 'has'>,
): PlannedTable {
  const from = quoteQualified(relation.schema, relation.name);
  const columns = relation.columns.map(quoteName).join(', ');
  const { sizeBytes, pages } = relation;
  if (!relation.isHeap || versionNumber < firstVersionWithTidRangeScan)
    return { from, columns, sizeBytes, pages, isTraceable: false, rangePages: 0, ranges: 1 };
  const isTraceable = traceable.has(relation.oid) && columns !== '';
  let rangePages = earlier.get(from) ?? 0;
  if (rangePages === 0) {
    rangePages = basePages;
    while (pages / rangePages > maxRanges) rangePages *= 2;
  }
  // A heap without pages has no rows; the size is read after the snapshot was taken.
  const ranges = Math.ceil(pages / rangePages);
  return { from, columns, sizeBytes, pages, isTraceable, rangePages, ranges };
}

/** Whether the range keeps the ctids of its rows, so that a later backup can tell what has changed in it. */
export function keepsCtids(plan: CopyPlan, { table: index, range }: CopyTask): boolean {
  const table = tableOf(plan, index);
  return (
    table.isTraceable && Math.min(table.rangePages, table.pages - range * table.rangePages) >= pagesWithCtids
  );
}

/** COPY of the rows' text, in the order of pages and line pointers. */
export function textSql(plan: CopyPlan, task: CopyTask): string {
  const { columns, from } = tableOf(plan, task.table);
  const condition = where(plan, task);
  // Of a whole table without a query, which would cost more than the rows of a small one. It never takes rows of children.
  if (condition === '' && columns !== '') return copyText(plan, `${from} (${columns})`);
  return copyText(plan, `(SELECT ${columns} FROM ONLY ${from}${condition})`);
}

/** COPY, in binary, of one row: the ctids of all rows, packed. */
export function ctidsSql(plan: CopyPlan, task: CopyTask): string {
  return copyBinary(`SELECT ${packed('')} FROM ONLY ${tableOf(plan, task.table).from}${where(plan, task)}`);
}

/**
 * How many rows there are, and how many of them are young.
 * @param age of the oldest transaction of which rows count as young.
 */
export function lookSql(plan: CopyPlan, task: CopyTask, age: number): string {
  const { from } = tableOf(plan, task.table);
  return `SELECT count(*), count(*) FILTER (WHERE ${isYoung(age)}) FROM ONLY ${from}${where(plan, task)}`;
}

/** COPY, in binary, of one row: the ctids of the old rows, and those of the young ones. */
export function changesSql(plan: CopyPlan, task: CopyTask, age: number): string {
  const columns = [` FILTER (WHERE NOT ${isYoung(age)})`, ` FILTER (WHERE ${isYoung(age)})`].map(packed);
  return copyBinary(
    `SELECT ${columns.join(', ')} FROM ONLY ${tableOf(plan, task.table).from}${where(plan, task)}`,
  );
}

/** COPY of the text of young rows, each with its ctid in front. */
export function youngSql(plan: CopyPlan, task: CopyTask, age: number): string {
  const { columns, from } = tableOf(plan, task.table);
  return copyText(plan, `(SELECT ctid, ${columns} FROM ONLY ${from}${where(plan, task, isYoung(age))})`);
}

/** The same, of the rows with these ctids, as SQL writes them. */
export function rowsSql(plan: CopyPlan, task: CopyTask, ctids: readonly string[]): string {
  const { columns, from } = tableOf(plan, task.table);
  const list = ctids.map(ctid => `"${ctid}"`).join(',');
  // With the bounds of the range, as the server may prefer to scan.
  const condition = where(plan, task, `ctid = ANY ('{${list}}'::tid[])`);
  return copyText(plan, `(SELECT ctid, ${columns} FROM ONLY ${from}${condition})`);
}

function tableOf(plan: CopyPlan, index: number): PlannedTable {
  const table = plan.tables[index];
  if (table === undefined) throw new RangeError(`no table ${index} in the plan`);
  return table;
}

function where(plan: CopyPlan, { table: index, range }: CopyTask, also?: string): string {
  const table = tableOf(plan, index);
  const conditions: string[] = [];
  if (table.rangePages > 0 && range > 0) conditions.push(`ctid >= '(${range * table.rangePages},0)'`);
  // The last range is open: nothing is lost should the table have more pages than were counted.
  if (table.rangePages > 0 && range < table.ranges - 1)
    conditions.push(`ctid < '(${(range + 1) * table.rangePages},0)'`);
  if (also !== undefined) conditions.push(also);
  return conditions.length > 0 ? ` WHERE ${conditions.join(' AND ')}` : '';
}

function isYoung(age: number): string {
  return `age(xmin) <= ${age}`;
}

function packed(filter: string): string {
  return `string_agg(tidsend(ctid), ''::bytea)${filter}`;
}

/** @param what a table with its columns, or a query in parentheses. */
function copyText(plan: CopyPlan, what: string): string {
  return `COPY ${what} TO STDOUT WITH (ENCODING '${plan.encoding}')`;
}

function copyBinary(query: string): string {
  return `COPY (${query}) TO STDOUT WITH (FORMAT binary)`;
}
