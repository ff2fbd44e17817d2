// Checks of how the server is set up: limits of time, connections and locks, and replay on a standby.
import type pg from 'pg';
import { formatDuration, formatQuantity } from '../../base/units.ts';
import type { Relation } from '../../postgres/catalog.ts';
import { queryRows } from '../../postgres/client.ts';
import { quoteName } from '../../postgres/identifiers.ts';
import { readLoad } from '../../postgres/server-load.ts';
import type { Checklist } from '../checklist.ts';
import { basePages, tablesPerTransaction } from '../create/copy-plan.ts';

const timeLimits = [
  'statement_timeout',
  'lock_timeout',
  'idle_in_transaction_session_timeout',
  'idle_session_timeout',
  'transaction_timeout',
];
/** Below this, connecting itself may not get through. */
const minStatementMs = 1_000;

/** The limits this role has when it connects; our sessions have lifted them by now. */
export async function checkTimeLimits(list: Checklist, client: pg.Client, role: string): Promise<void> {
  const rows = await queryRows(
    client,
    `SELECT name, reset_val AS value FROM pg_catalog.pg_settings WHERE name IN (${timeLimits.map(name => `'${name}'`).join(', ')}) ORDER BY 1`,
    'reading the time limits',
  );
  const set = rows.map(row => ({ name: row.name ?? '', ms: Number(row.value) })).filter(({ ms }) => ms > 0);
  const shown = set.map(({ name, ms }) => `${name} = ${formatDuration(ms)}`).join(', ');
  const statement = set.find(({ name }) => name === 'statement_timeout');
  if (set.length === 0) list.ok('time-limits', 'no time limits are set for this role');
  else if (statement !== undefined && statement.ms < minStatementMs)
    list.warn(
      'time-limits',
      `${shown}: so short that connecting may already fail`,
      `ALTER ROLE ${quoteName(role)} SET statement_timeout = 0`,
    );
  else list.ok('time-limits', `${shown}: lifted by create and restore in their own sessions`);
}

export interface ConnectionFacts {
  max: number;
  /** Kept for superusers and other privileged roles. */
  reserved: number;
  used: number;
  /** -1: no limit. */
  roleLimit: number;
  roleUsed: number;
  databaseLimit: number;
  databaseUsed: number;
  isSuperuser: boolean;
}

/** Leader, monitor and pg_dump. */
const besidesWorkers = 3;

/** How many connections this role can still open, and what limits them. */
export function connectionsLeft(facts: ConnectionFacts): { left: number; limit: string } {
  const server = {
    left: facts.max - facts.used - (facts.isSuperuser ? 0 : facts.reserved),
    limit: `max_connections = ${facts.max}`,
  };
  const limits = [server];
  // Superusers are not bound by the limits of role and database.
  if (facts.roleLimit >= 0 && !facts.isSuperuser)
    limits.push({
      left: facts.roleLimit - facts.roleUsed,
      limit: `the role's CONNECTION LIMIT ${facts.roleLimit}`,
    });
  if (facts.databaseLimit >= 0 && !facts.isSuperuser)
    limits.push({
      left: facts.databaseLimit - facts.databaseUsed,
      limit: `the database's CONNECTION LIMIT ${facts.databaseLimit}`,
    });
  return limits.reduce((least, other) => (other.left < least.left ? other : least));
}

/** @param applicationName of our own sessions, which will be gone. */
export async function checkConnections(
  list: Checklist,
  client: pg.Client,
  jobs: number,
  applicationName: string,
): Promise<void> {
  // The kind of a session is hidden from a role that may not look at it; what runs for the server has no user.
  const [row] = await queryRows(
    client,
    `WITH others AS (SELECT usename, datname FROM pg_catalog.pg_stat_activity
                     WHERE coalesce(backend_type, 'client backend') = 'client backend' AND usesysid IS NOT NULL
                       AND application_name IS DISTINCT FROM '${applicationName}')
     SELECT current_setting('max_connections') AS max,
       current_setting('superuser_reserved_connections')::int + coalesce(current_setting('reserved_connections', true)::int, 0) AS reserved,
       (SELECT count(*) FROM others) AS used,
       r.rolconnlimit AS role_limit, (SELECT count(*) FROM others WHERE usename = r.rolname) AS role_used,
       d.datconnlimit AS database_limit, (SELECT count(*) FROM others o WHERE o.datname = d.datname) AS database_used, r.rolsuper AS super
     FROM pg_catalog.pg_roles r, pg_catalog.pg_database d WHERE r.rolname = session_user AND d.datname = current_database()`,
    'counting the connections',
  );
  const { left, limit } = connectionsLeft({
    max: Number(row?.max),
    reserved: Number(row?.reserved),
    used: Number(row?.used),
    roleLimit: Number(row?.role_limit),
    roleUsed: Number(row?.role_used),
    databaseLimit: Number(row?.database_limit),
    databaseUsed: Number(row?.database_used),
    isSuperuser: row?.super === 't',
  });
  const needed = jobs + besidesWorkers;
  if (left >= needed)
    list.ok('connections', `${formatQuantity(left, 'connection')} left (${limit}); a backup opens ${needed}`);
  else
    list.fail(
      'connections',
      `${formatQuantity(Math.max(0, left), 'connection')} left (${limit}), and a backup with ${formatQuantity(jobs, 'job')} opens ${needed}`,
      'lower --jobs, or raise that limit',
    );
}

/** Whether --max-load sees what it is to count. @param applicationName of our own sessions, which do not count. */
export async function checkLoad(
  list: Checklist,
  client: pg.Client,
  maxLoad: number,
  role: string,
  applicationName: string,
): Promise<void> {
  // As the view itself asks; until PostgreSQL 14 a membership without its inheritance was enough.
  const [row] = await queryRows(
    client,
    `SELECT pg_catalog.pg_has_role('pg_read_all_stats',
       CASE WHEN current_setting('server_version_num')::int < 150000 THEN 'MEMBER' ELSE 'USAGE' END) AS sees`,
    'asking what the role sees of other sessions',
  );
  const { active, hidden } = await readLoad(client, applicationName);
  if (row?.sees !== 't') {
    list.warn(
      'load',
      `the role ${role} does not see whether sessions of other roles are active: --max-load ${maxLoad} does not count them`,
      `GRANT pg_read_all_stats TO ${quoteName(role)}`,
    );
  } else if (hidden > 0) {
    list.warn(
      'load',
      `track_activities is off in ${formatQuantity(hidden, 'other session')}, which --max-load ${maxLoad} does not count`,
      'ALTER SYSTEM SET track_activities = on; then SELECT pg_reload_conf(); and see that no role or database has it off',
    );
  } else {
    list.ok('load', `${formatQuantity(active, 'other session')} active now (--max-load ${maxLoad})`);
  }
}

export interface LockFacts {
  tables: number;
  indexes: number;
  /** Of each table by how many workers it is read, at most; of all of them together. */
  readings: number;
  jobs: number;
  /** What the server has room for: max_locks_per_transaction for each possible session. */
  capacity: number;
}

/**
 * The share of the server's lock table that a backup takes. The backup's own transaction and pg_dump lock every table, and
 * each worker those that it reads in a transaction, with their indexes; there is room for two holders of each lock.
 */
export function lockShare({ tables, indexes, readings, jobs, capacity }: LockFacts): number {
  if (tables === 0) return 0;
  const read = Math.min(readings, jobs * Math.min(tables, tablesPerTransaction));
  const readIndexes = read * (indexes / tables);
  const locked = tables + Math.min(indexes, readIndexes);
  const holdings = 2 * tables + read + readIndexes;
  return Math.max(locked, holdings / 2) / capacity;
}

const warnShare = 0.5;

export async function checkLocks(
  list: Checklist,
  client: pg.Client,
  relations: readonly Relation[],
  jobs: number,
): Promise<void> {
  const [row] = await queryRows(
    client,
    `SELECT current_setting('max_locks_per_transaction')::bigint AS per_transaction,
       current_setting('max_connections')::bigint + current_setting('max_prepared_transactions')::bigint AS sessions,
       (SELECT count(*) FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema') AS indexes,
       -- A table without statistics has -1 page.
       (SELECT sum(least(${jobs}, greatest(1, ceil(c.relpages / ${basePages}.0)))) FROM pg_catalog.pg_class c
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relkind = 'r' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema') AS readings`,
    'reading the limit of locks',
  );
  const tables = relations.filter(({ kind }) => kind === 'r' || kind === 'p').length;
  const perTransaction = Number(row?.per_transaction);
  const sessions = Number(row?.sessions);
  const share = lockShare({
    tables,
    indexes: Number(row?.indexes),
    readings: Number(row?.readings),
    jobs,
    capacity: perTransaction * sessions,
  });
  const percent = Math.ceil(share * 100);
  const message = `a backup of ${formatQuantity(tables, 'table')} by ${formatQuantity(jobs, 'job')} takes about ${percent} % of the server's locks (max_locks_per_transaction = ${perTransaction})`;
  const enough = Math.max(64, 2 ** Math.ceil(Math.log2((perTransaction * share) / warnShare)));
  const remedy = `ALTER SYSTEM SET max_locks_per_transaction = ${enough}, and restart the server; or lower --jobs, or back up fewer schemas at once with --schema`;
  if (share > 1) list.fail('locks', message, remedy);
  else if (share > warnShare) list.warn('locks', message, remedy);
  else list.ok('locks', message);
}

export async function checkStandby(list: Checklist, client: pg.Client, isStandby: boolean): Promise<void> {
  if (!isStandby) {
    list.ok('standby', 'the server is a primary');
    return;
  }
  const [row] = await queryRows(
    client,
    "SELECT current_setting('hot_standby_feedback') AS feedback, current_setting('max_standby_streaming_delay') AS delay",
    'reading the settings of the standby',
  );
  if (row?.feedback === 'on' || row?.delay === '-1') {
    list.ok('standby', 'a hot standby that lets long backups end; rows of unlogged tables are not there');
    return;
  }
  list.warn(
    'standby',
    `the server is a hot standby that cancels what stands in the way of replay for ${row?.delay}`,
    'on the standby: ALTER SYSTEM SET hot_standby_feedback = on, or max_standby_streaming_delay = -1; then SELECT pg_reload_conf()',
  );
}
