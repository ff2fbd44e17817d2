// Loads rows into tables that exist already, all in one transaction: either every row is there in the end, or none.
// User triggers are switched off meanwhile; foreign keys stay on, so tables are loaded in their order, and
// constraints of tables that refer to each other in a circle are checked at the end.
import { throwIfAborted } from '../../base/errors.ts';
import { quoteName, quoteQualified } from '../../postgres/identifiers.ts';
import type { DatabaseTarget } from '../../postgres/target.ts';
import { WireConnection } from '../../postgres/wire.ts';
import { load, loadSettings } from './load.ts';
import type { LoadTask } from './load-plan.ts';
import type { SegmentReader } from './segment-reader.ts';

export interface TransactionLoad {
  target: DatabaseTarget;
  applicationName: string;
  /** One task a table. */
  tasks: readonly LoadTask[];
  reader: SegmentReader;
  signal: AbortSignal | undefined;
  onProgress: (doneBytes: number, rows: number) => void;
  /** Runs when all rows are loaded and checked; what it throws rolls them back. */
  beforeCommit: () => Promise<void>;
}

interface ForeignKey {
  /** The table, perhaps a partition, whose rows refer, and the one they refer to. */
  table: string;
  references: string;
  /** The constraint to alter: of a partition's, the one it follows. */
  constraint: string;
  constraintTable: string;
  isDeferrable: boolean;
  isDeferred: boolean;
}

/** @throws PgkeepError what the server or the backup failed with; the target is then as it was. */
export async function loadInTransaction(options: TransactionLoad): Promise<void> {
  const wire = await WireConnection.open(options.target, options.applicationName);
  // A server that waits for a lock of somebody else reads nothing, not even a farewell.
  const onAbort = () => wire.destroy();
  options.signal?.addEventListener('abort', onAbort, { once: true });
  try {
    await wire.run(loadSettings, 'preparing the session');
    await wire.run('BEGIN', 'beginning the restore');
    const names = [...new Set(options.tasks.map(task => task.into))];
    const partitions = await readPartitions(wire);
    const triggers = await disableTriggers(
      wire,
      names.flatMap(name => [name, ...(partitions.get(name) ?? [])]),
    );
    const keys = await readForeignKeys(wire);
    const { order, circular } = orderByReferences(names, keys, partitions);
    for (const key of circular)
      await wire.run(alterKey(key, 'DEFERRABLE INITIALLY DEFERRED'), 'deferring foreign keys');
    // Several tables may be loaded through the same one: partitions whose rows may belong to others here.
    const byName = Map.groupBy(options.tasks, task => task.into);
    let bytes = 0;
    let rows = 0;
    for (const name of order) {
      for (const task of byName.get(name) ?? []) {
        throwIfAborted(options.signal);
        await load(wire, options.reader, task);
        bytes += task.bytes;
        rows += task.rows;
        options.onProgress(bytes, rows);
      }
    }
    await wire.run('SET CONSTRAINTS ALL IMMEDIATE', 'checking the foreign keys');
    for (const key of circular) {
      const before = `${key.isDeferrable ? '' : 'NOT '}DEFERRABLE INITIALLY ${key.isDeferred ? 'DEFERRED' : 'IMMEDIATE'}`;
      await wire.run(alterKey(key, before), 'restoring the foreign keys');
    }
    for (const statement of triggers) await wire.run(statement, 'switching the triggers on again');
    await options.beforeCommit();
    await wire.run('SET LOCAL synchronous_commit = on; COMMIT', 'committing the rows');
  } catch (error) {
    throwIfAborted(options.signal);
    throw error;
  } finally {
    options.signal?.removeEventListener('abort', onAbort);
    await wire.close();
  }
}

/** @returns the statements that bring each trigger back to how it was. */
async function disableTriggers(wire: WireConnection, tables: readonly string[]): Promise<string[]> {
  const words: Record<string, string> = {
    O: 'ENABLE',
    R: 'ENABLE REPLICA',
    A: 'ENABLE ALWAYS',
    D: 'DISABLE',
  };
  const found = await wire.run(
    `SELECT n.nspname, c.relname, t.tgname, t.tgenabled
     FROM pg_catalog.pg_trigger t JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
     WHERE NOT t.tgisinternal AND t.tgenabled <> 'D' ORDER BY 1, 2, 3`,
    'reading the triggers',
  );
  const wanted = new Set(tables);
  const again: string[] = [];
  for (const [schema = '', table = '', trigger = '', state = ''] of found) {
    const name = quoteQualified(schema ?? '', table ?? '');
    if (!wanted.has(name)) continue;
    await wire.run(
      `ALTER TABLE ONLY ${name} DISABLE TRIGGER ${quoteName(trigger ?? '')}`,
      `switching off the triggers of ${name}`,
    );
    again.push(
      `ALTER TABLE ONLY ${name} ${words[state ?? ''] ?? 'ENABLE'} TRIGGER ${quoteName(trigger ?? '')}`,
    );
  }
  return again;
}

async function readForeignKeys(wire: WireConnection): Promise<ForeignKey[]> {
  // Partitions have constraints of their own, which follow that of the partitioned table.
  const rows = await wire.run(
    `WITH RECURSIVE family AS (
       SELECT oid, oid AS top FROM pg_catalog.pg_constraint WHERE contype = 'f' AND conparentid = 0
       UNION ALL SELECT k.oid, f.top FROM pg_catalog.pg_constraint k JOIN family f ON k.conparentid = f.oid WHERE k.contype = 'f')
     SELECT n.nspname, c.relname, rn.nspname, r.relname, t.conname, tn.nspname, tc.relname, t.condeferrable, t.condeferred
     FROM family f JOIN pg_catalog.pg_constraint k ON k.oid = f.oid JOIN pg_catalog.pg_constraint t ON t.oid = f.top
     JOIN pg_catalog.pg_class c ON c.oid = k.conrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
     JOIN pg_catalog.pg_class r ON r.oid = k.confrelid JOIN pg_catalog.pg_namespace rn ON rn.oid = r.relnamespace
     JOIN pg_catalog.pg_class tc ON tc.oid = t.conrelid JOIN pg_catalog.pg_namespace tn ON tn.oid = tc.relnamespace
     ORDER BY 1, 2, 5`,
    'reading the foreign keys',
  );
  return rows.map(
    ([schema, table, refSchema, refTable, constraint, topSchema, topTable, deferrable, deferred]) => ({
      table: quoteQualified(schema ?? '', table ?? ''),
      references: quoteQualified(refSchema ?? '', refTable ?? ''),
      constraint: constraint ?? '',
      constraintTable: quoteQualified(topSchema ?? '', topTable ?? ''),
      isDeferrable: deferrable === 't',
      isDeferred: deferred === 't',
    }),
  );
}

/** The partitions of each partitioned table, at every level. */
async function readPartitions(wire: WireConnection): Promise<Map<string, string[]>> {
  const rows = await wire.run(
    `SELECT n.nspname, c.relname, pn.nspname, p.relname
     FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace,
       LATERAL pg_catalog.pg_partition_tree(c.oid) t
       JOIN pg_catalog.pg_class p ON p.oid = t.relid JOIN pg_catalog.pg_namespace pn ON pn.oid = p.relnamespace
     WHERE c.relkind = 'p' AND p.oid <> c.oid ORDER BY 1, 2, 3, 4`,
    'reading the partitions',
  );
  const partitions = new Map<string, string[]>();
  for (const [schema, table, partSchema, part] of rows) {
    const name = quoteQualified(schema ?? '', table ?? '');
    const members = partitions.get(name) ?? [];
    members.push(quoteQualified(partSchema ?? '', part ?? ''));
    partitions.set(name, members);
  }
  return partitions;
}

/**
 * Referenced tables first. A reference back to a table that is being visited closes a circle: its constraint is
 * among `circular` and does not count for the order. A table that refers to itself needs nothing: a COPY checks
 * at its end.
 * @param partitions of partitioned tables: rows referred to are in these, and their keys concern what is loaded
 * through the whole.
 */
export function orderByReferences(
  tables: readonly string[],
  keys: readonly ForeignKey[],
  partitions: ReadonlyMap<string, readonly string[]>,
): { order: string[]; circular: ForeignKey[] } {
  const withPartitions = (table: string) => [table, ...(partitions.get(table) ?? [])];
  const from = Map.groupBy(keys, key => key.table);
  const state = new Map<string, 'visiting' | 'done'>();
  const order: string[] = [];
  const circular = new Map<string, ForeignKey>();
  const visit = (table: string): void => {
    state.set(table, 'visiting');
    for (const key of withPartitions(table).flatMap(member => from.get(member) ?? [])) {
      for (const referenced of withPartitions(key.references)) {
        if (referenced === table) continue;
        const seen = state.get(referenced);
        if (seen === 'visiting') circular.set(`${key.constraintTable} ${key.constraint}`, key);
        else if (seen === undefined) visit(referenced);
      }
    }
    state.set(table, 'done');
    order.push(table);
  };
  for (const table of tables) if (!state.has(table)) visit(table);
  return { order, circular: [...circular.values()] };
}

function alterKey(key: ForeignKey, timing: string): string {
  return `ALTER TABLE ${key.constraintTable} ALTER CONSTRAINT ${quoteName(key.constraint)} ${timing}`;
}
