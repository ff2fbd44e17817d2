// The one view of the database a backup is taken from. Tables are locked before the snapshot is taken (LOCK TABLE
// takes none), so nothing can be altered, truncated or dropped between what the snapshot sees and what is read.
import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import { PgkeepError, throwIfAborted } from '../base/errors.ts';
import { type Relation, type RelationKind, readIfAllowed, readRelations, type Selection } from './catalog.ts';
import { closeClient, openClient, queryRows } from './client.ts';
import { quoteLiteral, quoteQualified } from './identifiers.ts';
import { translateDatabaseError } from './server-error.ts';
import type { DatabaseTarget } from './target.ts';
import { type Dependent, markUnreadable } from './unreadable.ts';

export interface SourceSnapshot {
  /** For SET TRANSACTION SNAPSHOT and pg_dump --snapshot. */
  id: string;
  /** pg_current_snapshot(): xmin:xmax:xip-list, 64-bit ids. */
  xids: string;
  /** A WAL position from before it was taken (replayed, on a standby). */
  walBefore: string;
  /** One from right after. */
  walPosition: string;
  takenAt: Date;
  relations: Relation[];
  /** What cannot be restored, since it needs what is left out; only with `skip`. */
  dependents: Dependent[];
}

const lockedKinds: readonly RelationKind[] = ['r', 'p'];
const attempts = 10;
const tablesPerLock = 500;
const betweenAttemptsMs = 100;
/** Many times what a server takes that is asked for it, unless it is told to take its time. */
const flushWaitMs = 5_000;

/**
 * Locks every selected table ACCESS SHARE and takes the snapshot, in a transaction that stays open on `client`:
 * ending it ends the locks and the snapshot's use to others.
 * @param monitor another connection, without a transaction.
 * @param skip leave out what the role may not read, instead of failing over it; and whether rows are wanted.
 * @throws PgkeepError DATABASE_PRIVILEGE and ROW_SECURITY naming all tables concerned, LOCK_TIMEOUT, CATALOG_UNSTABLE.
 */
export async function takeSnapshot(
  client: pg.Client,
  monitor: pg.Client,
  target: DatabaseTarget,
  selection: Selection,
  lockTimeoutMs: number,
  isStandby: boolean,
  skip: { withRows: boolean } | undefined,
  signal: AbortSignal | undefined,
): Promise<SourceSnapshot> {
  let unsteady = '';
  for (let attempt = 1; attempt <= attempts; attempt++) {
    if (attempt > 1) await sleep(betweenAttemptsMs);
    throwIfAborted(signal);
    // The others are looked at in the snapshot, unless they may depend on what cannot be read.
    const found = await readRelations(client, selection, skip === undefined ? lockedKinds : undefined);
    if (skip !== undefined) await markUnreadable(client, found, skip.withRows);
    else if (found.some(isUnreadable) || found.some(hidesRows))
      requireReadable(await readRelations(client, selection));
    const wanted = found.filter(isLockable);
    const walBefore = await readWalPosition(monitor, isStandby);
    await queryRows(
      client,
      'BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY',
      'beginning the backup transaction',
    );
    const lost = await lockAll(client, target, wanted, lockTimeoutMs, signal);
    if (lost === undefined) {
      const snapshot = await exportSnapshot(client);
      const relations = await readRelations(client, selection);
      if (skip === undefined) requireReadable(relations);
      const dependents = skip === undefined ? [] : await markUnreadable(client, relations, skip.withRows);
      // By oid and name: of tables that changed names with each other, others were locked than those meant.
      const locked = new Set(wanted.map(identity));
      const unlocked = relations.filter(isLockable).find(relation => !locked.has(identity(relation)));
      if (unlocked === undefined) {
        const walPosition = await readWalPosition(monitor, isStandby);
        return { ...snapshot, walBefore, walPosition, relations, dependents };
      }
      unsteady = qualified(unlocked);
    } else {
      unsteady = lost;
    }
    await queryRows(client, 'ROLLBACK', 'beginning again');
  }
  throw new PgkeepError(
    'CATALOG_UNSTABLE',
    `tables were created, dropped or renamed at each of ${attempts} attempts to begin the backup (${unsteady})`,
    {
      hint: 'leave out the schema where that happens with --exclude-schema, or run at a quieter time',
    },
  );
}

/**
 * Renaming a schema waits for no lock, and from then on a name may lead to another table than the snapshot's.
 * @throws PgkeepError CATALOG_UNSTABLE naming the tables whose names lead elsewhere by now.
 */
export async function requireSameNames(client: pg.Client, relations: readonly Relation[]): Promise<void> {
  const tables = relations.filter(isLockable);
  const moved = await queryRows(
    client,
    // to_regclass looks into the catalog of the moment, whatever the transaction's snapshot.
    `SELECT oid FROM unnest(ARRAY[${tables.map(table => table.oid).join(',')}]::oid[],
                            ARRAY[${tables.map(table => quoteLiteral(quoteQualified(table.schema, table.name))).join(',')}]::text[]) AS t(oid, name)
     WHERE pg_catalog.to_regclass(name)::oid IS DISTINCT FROM oid`,
    'looking whether tables kept their names',
  );
  if (moved.length === 0) return;
  const oids = new Set(moved.map(row => row.oid));
  const names = tables.filter(table => oids.has(table.oid)).map(qualified);
  throw new PgkeepError('CATALOG_UNSTABLE', `the names of ${listNames(names)} changed during the backup`, {
    hint: 'run again when the renaming of schemas has ended',
    context: { tables: names },
  });
}

/** Whether it is a table to lock: what belongs to an extension is pg_dump's to read, where it has to be read at all. */
function isLockable({ isSelected, extension, missing, kind }: Relation): boolean {
  return isSelected && extension === null && missing?.lacks !== 'definition' && lockedKinds.includes(kind);
}

function isUnreadable({ isSelected, extension, kind, canRead }: Relation): boolean {
  return isSelected && extension === null && [...lockedKinds, 'S'].includes(kind) && !canRead;
}

function hidesRows(relation: Relation): boolean {
  return isLockable(relation) && relation.hidesRows && relation.isDataSelected;
}

/** @throws PgkeepError naming all that the role may not read. */
function requireReadable(relations: readonly Relation[]): void {
  const forbidden = relations.filter(isUnreadable);
  const tables = forbidden.filter(({ kind }) => kind !== 'S');
  const unreadable = [...tables, ...forbidden.filter(({ kind }) => kind === 'S')].map(qualified);
  if (unreadable.length > 0) {
    throw new PgkeepError('DATABASE_PRIVILEGE', `the role may not read ${listNames(unreadable)}`, {
      hint: 'GRANT USAGE on the schema and SELECT on the table to it (or pg_read_all_data); or leave them out with --exclude-table, or --skip-unreadable',
      context: { tables: unreadable },
    });
  }
  const hidden = relations.filter(hidesRows).map(qualified);
  if (hidden.length > 0) {
    throw new PgkeepError(
      'ROW_SECURITY',
      `row-level security hides rows of ${listNames(hidden)} from the role: the backup would be short`,
      {
        hint: 'connect as the owner of the tables or a role with BYPASSRLS; or leave their rows out with --exclude-table-data, or --skip-unreadable',
        context: { tables: hidden },
      },
    );
  }
}

/** @returns what was lost when a table was dropped or renamed since it was listed, or its lock in a deadlock. */
async function lockAll(
  client: pg.Client,
  target: DatabaseTarget,
  relations: readonly Relation[],
  lockTimeoutMs: number,
  signal: AbortSignal | undefined,
): Promise<string | undefined> {
  try {
    await client.query(`SET LOCAL lock_timeout = ${lockTimeoutMs}`);
    for (let first = 0; first < relations.length; first += tablesPerLock) {
      const names = relations
        .slice(first, first + tablesPerLock)
        .map(relation => `ONLY ${quoteQualified(relation.schema, relation.name)}`);
      await client.query(`LOCK TABLE ${names.join(', ')} IN ACCESS SHARE MODE`);
    }
    await client.query('SET LOCAL lock_timeout = 0');
    return undefined;
  } catch (error) {
    const failure = translateDatabaseError(error, 'locking the tables');
    switch (failure.context.sqlstate) {
      case '42P01':
      case '3F000':
      case '40P01':
        return failure.message;
      case '55P03':
        throw await lockTimeout(target, relations, lockTimeoutMs, signal);
      default:
        throw failure;
    }
  }
}

async function lockTimeout(
  target: DatabaseTarget,
  relations: readonly Relation[],
  lockTimeoutMs: number,
  signal: AbortSignal | undefined,
): Promise<PgkeepError> {
  const client = await openClient(target, { signal });
  try {
    const [holder] = await queryRows(
      client,
      `SELECT l.relation::regclass::text AS name, l.pid, coalesce(a.query, '') AS query
       FROM pg_catalog.pg_locks l LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
       WHERE l.mode = 'AccessExclusiveLock' AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
         AND l.relation IN (${relations.map(relation => relation.oid).join(',')})
       ORDER BY l.granted DESC LIMIT 1`,
      'looking for who holds the lock',
    );
    const who = holder ? `${holder.name}, held by process ${holder.pid} (${holder.query})` : 'a table';
    return new PgkeepError('LOCK_TIMEOUT', `could not lock ${who} within ${lockTimeoutMs} ms`, {
      hint: 'run again when that statement has ended, or raise --lock-timeout',
    });
  } finally {
    await closeClient(client);
  }
}

/** @returns nothing where providers keep it to themselves; a backup does not depend on it. */
async function readWalPosition(monitor: pg.Client, isStandby: boolean): Promise<string> {
  const position = isStandby ? 'pg_last_wal_replay_lsn()' : 'pg_current_wal_insert_lsn()';
  const lsn = await readIfAllowed(monitor, `SELECT pg_catalog.${position}::text AS value`);
  return lsn ?? '';
}

async function exportSnapshot(client: pg.Client) {
  const [row] = await queryRows(
    client,
    `SELECT pg_catalog.pg_export_snapshot() AS id, pg_catalog.pg_current_snapshot()::text AS xids`,
    'exporting the snapshot',
  );
  return { id: row?.id ?? '', xids: row?.xids ?? '', takenAt: new Date() };
}

/**
 * Waits until what a snapshot sees would survive a crash of the server. Idle servers leave WAL that no commit needs
 * unflushed for long: a transaction that only takes an id makes them flush it.
 * @param client without a transaction.
 * @param position of WAL, from after the snapshot, on a primary.
 * @returns whether WAL up to there has reached the disk within some seconds; `false` also when the server does not tell.
 */
export async function waitForFlush(
  client: pg.Client,
  position: string,
  signal: AbortSignal | undefined,
): Promise<boolean> {
  if (position === '') return false;
  const deadline = Date.now() + flushWaitMs;
  let isAsked = false;
  for (;;) {
    throwIfAborted(signal);
    const flushed = await readIfAllowed(
      client,
      `SELECT (pg_catalog.pg_current_wal_flush_lsn() >= '${position}')::text AS value`,
    );
    if (flushed === 'true') return true;
    if (flushed === null) return false;
    if (Date.now() > deadline) return false;
    // A server that is about to run out of transaction ids gives none; its backups must not fail for that.
    if (!isAsked) await readIfAllowed(client, 'SELECT pg_catalog.pg_current_xact_id()::text AS value');
    isAsked = true;
    await sleep(20);
  }
}

function identity(relation: Relation): string {
  return `${relation.oid} ${quoteQualified(relation.schema, relation.name)}`;
}

function qualified(relation: Relation): string {
  return `${relation.schema}.${relation.name}`;
}

function listNames(names: readonly string[]): string {
  const shown = names.slice(0, 10).join(', ');
  return names.length > 10 ? `${shown} and ${names.length - 10} more tables` : shown;
}
