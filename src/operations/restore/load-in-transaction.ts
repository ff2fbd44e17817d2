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
  const onAbort = () => wire.close();
  options.signal?.addEventListener('abort', onAbort, { once: true });
  try {
    await wire.run(loadSettings, 'preparing the session');
    await wire.run('BEGIN', 'beginning the restore');
    const names = options.tasks.map(task => task.into);
    const triggers = await disableTriggers(wire, names);
    const keys = await readForeignKeys(wire);
    const { order, circular } = orderByReferences(names, keys);
    for (const key of circular)
      await wire.run(alterKey(key, 'DEFERRABLE INITIALLY DEFERRED'), 'deferring foreign keys');
    const byName = new Map(options.tasks.map(task => [task.into, task]));
    let bytes = 0;
    let rows = 0;
    for (const name of order) {
      throwIfAborted(options.signal);
      const task = byName.get(name);
      if (task === undefined) continue;
      await load(wire, options.reader, task);
      bytes += task.bytes;
      rows += task.rows;
      options.onProgress(bytes, rows);
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
    wire.close();
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
    `SELECT pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname), n.nspname, c.relname, t.tgname, t.tgenabled
     FROM pg_catalog.pg_trigger t JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
     WHERE NOT t.tgisinternal AND t.tgenabled <> 'D' ORDER BY 1, t.tgname`,
    'reading the triggers',
  );
  const wanted = new Set(tables);
  const again: string[] = [];
  for (const [, schema = '', table = '', trigger = '', state = ''] of found) {
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

/**
 * Referenced tables first. A reference back to a table that is being visited closes a circle: its constraint is
 * among `circular` and does not count for the order. A table that refers to itself needs nothing: a COPY checks
 * at its end.
 */
export function orderByReferences(
  tables: readonly string[],
  keys: readonly ForeignKey[],
): { order: string[]; circular: ForeignKey[] } {
  const from = Map.groupBy(keys, key => key.table);
  const state = new Map<string, 'visiting' | 'done'>();
  const order: string[] = [];
  const circular = new Map<string, ForeignKey>();
  const visit = (table: string): void => {
    state.set(table, 'visiting');
    for (const key of from.get(table) ?? []) {
      if (key.references === table) continue;
      const seen = state.get(key.references);
      if (seen === 'visiting') circular.set(`${key.constraintTable} ${key.constraint}`, key);
      else if (seen === undefined) visit(key.references);
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
