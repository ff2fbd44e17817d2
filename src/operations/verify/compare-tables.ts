// Compares every table of a restored database with the backup, each as a multiset of rows.
import { closeClient, openClient, queryRows } from '../../postgres/client.ts';
import { quoteLiteral, quoteName, quoteQualified } from '../../postgres/identifiers.ts';
import type { DatabaseTarget } from '../../postgres/target.ts';
import type { Manifest, Ranges, TableEntry } from '../../repository/manifest.ts';
import type { Repository } from '../../repository/repository.ts';
import { planLoads } from '../restore/load-plan.ts';
import { handOver } from '../thread-segment.ts';
import { toThread } from '../thread-target.ts';
import { runWorkers } from '../worker-pool.ts';
import type { CompareHost, CompareTask, CompareWorkerData } from './compare-worker.ts';
import { addDigests, type DigestedRows, isSameRows, noRows } from './row-digest.ts';

export interface CompareTablesOptions {
  target: DatabaseTarget;
  repository: Repository;
  manifest: Manifest;
  /** Of each table of the manifest. */
  ranges: readonly Ranges[];
  jobs: number;
  signal: AbortSignal | undefined;
  onProgress: (rows: number) => void;
}

/** Tables compared together: one, or all partitions of a tree in which rows may move from one to another. */
interface Group {
  tables: TableEntry[];
  /** Columns in the order in which both sides are digested. */
  columns: string[];
  backup: DigestedRows;
  database: DigestedRows;
}

export interface TableDifference {
  tables: TableEntry[];
  backupRows: number;
  databaseRows: number;
}

/**
 * Reads both sides whole.
 * @returns the rows of the backup, and the tables that differ.
 * @throws PgkeepError what storage or server failed with.
 */
export async function compareTables(
  options: CompareTablesOptions,
): Promise<{ rows: number; differences: TableDifference[] }> {
  const { manifest, repository } = options;
  const groups = groupTables(manifest.tables);
  const waiting = [
    ...databaseTasks(groups, await readLeaves(options.target, groups), manifest),
    ...backupTasks(groups, options),
  ].reverse();
  let rows = 0;
  const host: CompareHost = {
    next: () => waiting.pop()?.(),
    fetch: async id => handOver(await repository.fetchSegment(id), {}),
    done: ({ group: index, side, ...digest }) => {
      const group = groups[index];
      if (group !== undefined) group[side] = addDigests(group[side], digest);
      if (side === 'backup') rows += digest.rows;
      options.onProgress(rows);
    },
  };
  const workerData: CompareWorkerData = {
    target: toThread(options.target),
    applicationName: 'pgkeep verify',
    secret: repository.secret,
  };
  if (waiting.length > 0) {
    await runWorkers({
      module: new URL('./compare-worker', import.meta.url),
      count: Math.min(options.jobs, waiting.length),
      workerData,
      plannedTables: 0,
      methods: host,
      signal: options.signal,
    });
  }
  const differences = groups
    .filter(group => !isSameRows(group.backup, group.database))
    .map(({ tables, backup, database }) => ({
      tables,
      backupRows: backup.rows,
      databaseRows: database.rows,
    }));
  return { rows, differences };
}

function groupTables(tables: readonly TableEntry[]): Group[] {
  const groups = new Map<string, Group>();
  for (const table of tables) {
    const { schema, name } = table.loadVia ?? table;
    const key = quoteQualified(schema, name);
    const group = groups.get(key);
    if (group !== undefined) group.tables.push(table);
    else groups.set(key, { tables: [table], columns: table.columns, backup: noRows, database: noRows });
  }
  return [...groups.values()];
}

/** The partitions that are there now, of groups that are trees; by group. */
async function readLeaves(target: DatabaseTarget, groups: readonly Group[]): Promise<Map<Group, string[]>> {
  const leaves = new Map<Group, string[]>();
  const trees = groups.filter(group => group.tables[0]?.loadVia !== undefined);
  if (trees.length === 0) return leaves;
  const client = await openClient(target);
  try {
    for (const group of trees) {
      const { schema = '', name = '' } = group.tables[0]?.loadVia ?? {};
      const found = await queryRows(
        client,
        `SELECT n.nspname AS schema, c.relname AS name
         FROM pg_catalog.pg_partition_tree(${quoteLiteral(quoteQualified(schema, name))}) AS t
         JOIN pg_catalog.pg_class AS c ON c.oid = t.relid JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
         WHERE t.isleaf AND c.relkind = 'r'`,
        `reading the partitions of ${name}`,
      );
      leaves.set(
        group,
        found.map(row => quoteQualified(row.schema ?? '', row.name ?? '')),
      );
    }
    return leaves;
  } finally {
    await closeClient(client);
  }
}

function* databaseTasks(
  groups: readonly Group[],
  leaves: ReadonlyMap<Group, string[]>,
  manifest: Manifest,
): Iterable<() => CompareTask[]> {
  for (const [index, group] of groups.entries()) {
    const [table] = group.tables;
    if (table === undefined) continue;
    const columns = group.columns.map(quoteName).join(', ');
    for (const from of leaves.get(group) ?? [quoteQualified(table.schema, table.name)]) {
      const sql = `COPY (SELECT ${columns} FROM ONLY ${from}) TO STDOUT WITH (ENCODING '${manifest.database.encoding}')`;
      yield () => [{ side: 'database', group: index, order: null, sql, of: from }];
    }
  }
}

/** Made when they are asked for: where rows are is told of what is under way. */
function backupTasks(
  groups: readonly Group[],
  { manifest, ranges }: CompareTablesOptions,
): (() => CompareTask[])[] {
  const groupOf = new Map(
    groups.flatMap((group, index) => group.tables.map(table => [table, index] as const)),
  );
  return planLoads(manifest.tables, ranges, manifest.database.encoding).map(
    item => () =>
      item.flatMap(({ table: tableIndex, text }): CompareTask[] => {
        const table = manifest.tables[tableIndex];
        const index = table && groupOf.get(table);
        const group = index === undefined ? undefined : groups[index];
        if (table === undefined || index === undefined || group === undefined) return [];
        return [{ side: 'backup', group: index, order: orderOf(table.columns, group.columns), text: text() }];
      }),
  );
}

/** Where each of the wanted columns is among those there are. */
function orderOf(columns: readonly string[], wanted: readonly string[]): number[] | null {
  const order = wanted.map(column => columns.indexOf(column));
  return order.every((place, index) => place === index) ? null : order;
}
