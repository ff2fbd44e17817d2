// The lock on a database that is being restored into: it keeps a second restore out, and tells one that goes on from
// one that died. Its connection is also the one on which the server is asked whether it is there.
import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import { PgkeepError } from '../../base/errors.ts';
import { closeClient, openClient, queryRows } from '../../postgres/client.ts';
import { answerLimitMs, watchServer } from '../../postgres/server-watch.ts';
import { type DatabaseTarget, describeTarget } from '../../postgres/target.ts';

/** Key of the advisory lock: "pgkeep" in ASCII, in the two halves by which pg_locks shows it. */
const lockKey = { high: 0x7067, low: 0x6b656570 };
/** Of restores: their own sessions and those of pg_restore. */
const ownName = 'pgkeep restore';
const sessionNames = `'pgkeep', '${ownName}'`;
const endWithinMs = 15_000;
const lookAgainMs = 150;
const formerTries = 20;

export interface TargetLock {
  /** Holds the lock. For short statements: the server is watched through it. */
  readonly client: pg.Client;
  /** The server process that holds the lock. */
  readonly pid: string;
  /** Rejects with DATABASE_CONNECTION_LOST when the connection has ended or the server is silent; never resolves. */
  readonly lost: Promise<never>;
  /** Harmless when it is called again. */
  release(): Promise<void>;
}

/**
 * Locks a database.
 * @param signal ends the attempt, but not a lock that is held: what is taken back after an abort is still locked.
 * @param formerPid held the lock for this restore before its connection was lost.
 * @throws PgkeepError TARGET_UNFIT naming who holds it.
 */
export async function lockTarget(
  target: DatabaseTarget,
  signal: AbortSignal | undefined,
  formerPid?: string,
): Promise<TargetLock> {
  const cut = new AbortController();
  const onAbort = () => cut.abort(signal?.reason);
  if (signal?.aborted) onAbort();
  signal?.addEventListener('abort', onAbort, { once: true });
  const client = await openClient(target, { signal: cut.signal, applicationName: ownName }).finally(() =>
    signal?.removeEventListener('abort', onAbort),
  );
  try {
    if (!(await tryLock(client, formerPid))) {
      await requireUnlocked(client, target);
      throw underWay(target, undefined);
    }
    const [row] = await queryRows(client, 'SELECT pg_catalog.pg_backend_pid() AS pid', 'locking the target');
    const watch = watchServer(client, answerLimitMs(target));
    // Statements that wait for a silent server would wait for ever.
    watch.failure.catch(error => cut.abort(error));
    return {
      client,
      pid: row?.pid ?? '',
      lost: watch.failure,
      release: async () => {
        watch.stop();
        await closeClient(client);
      },
    };
  } catch (error) {
    await closeClient(client);
    throw error;
  }
}

async function tryLock(client: pg.Client, formerPid: string | undefined): Promise<boolean> {
  const sql = `SELECT pg_catalog.pg_try_advisory_lock((${lockKey.high}::bigint << 32) | ${lockKey.low}) AS locked`;
  for (let tries = formerPid === undefined ? 1 : formerTries; tries > 0; tries -= 1) {
    const [row] = await queryRows(client, sql, 'locking the target against other restores');
    if (row?.locked === 't') return true;
    if (formerPid === undefined) break;
    const end = `SELECT pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity WHERE pid = ${formerPid} AND application_name = '${ownName}'`;
    await queryRows(client, end, 'ending the connection that was lost');
    await sleep(lookAgainMs);
  }
  return false;
}

/** @throws PgkeepError TARGET_UNFIT when a restore into the database of the client is under way. */
export async function requireUnlocked(client: pg.Client, target: DatabaseTarget): Promise<void> {
  const [holder] = await queryRows(
    client,
    `SELECT l.pid, to_char(a.backend_start AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS "UTC"') AS since
     FROM pg_catalog.pg_locks l LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
     WHERE l.locktype = 'advisory' AND l.classid = ${lockKey.high} AND l.objid = ${lockKey.low} AND l.objsubid = 1 AND l.granted
       AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = current_database())`,
    'looking for restores that are under way',
  );
  if (holder !== undefined) throw underWay(target, { pid: holder.pid ?? '', since: holder.since ?? null });
}

/**
 * Ends what a restore that died has left at work in the database: sessions of pg_restore, which outlives it, and
 * sessions that have yet to read what it last sent.
 * @param client holds the lock.
 * @throws PgkeepError TARGET_UNFIT when they do not end.
 */
export async function endLeftSessions(client: pg.Client, target: DatabaseTarget): Promise<void> {
  const deadline = Date.now() + endWithinMs;
  // Twice none in a row: a program that was just started may not have connected yet.
  for (let quiet = 0; quiet < 2; ) {
    const left = await queryRows(
      client,
      `SELECT pid, pg_catalog.pg_terminate_backend(pid) AS told FROM pg_catalog.pg_stat_activity
       WHERE datname = current_database() AND application_name IN (${sessionNames}) AND pid <> pg_catalog.pg_backend_pid()`,
      'ending what the unfinished restore has left at work',
    );
    quiet = left.length === 0 ? quiet + 1 : 0;
    if (Date.now() > deadline) {
      throw new PgkeepError(
        'TARGET_UNFIT',
        `sessions of the unfinished restore in ${describeTarget(target)} do not end: server processes ${left.map(row => row.pid).join(', ')}`,
        { hint: 'end them with pg_terminate_backend, and try again' },
      );
    }
    if (quiet < 2) await sleep(lookAgainMs);
  }
}

function underWay(target: DatabaseTarget, holder: { pid: string; since: string | null } | undefined) {
  const who =
    holder === undefined
      ? ''
      : ` (server process ${holder.pid}${holder.since === null ? '' : `, since ${holder.since}`})`;
  return new PgkeepError('TARGET_UNFIT', `${describeTarget(target)} is being restored right now${who}`, {
    hint:
      holder === undefined
        ? 'wait for that to end, or restore into another database'
        : `wait for that to end, or restore into another database; if its machine is gone, end the session: SELECT pg_terminate_backend(${holder.pid})`,
    context: holder === undefined ? {} : { pid: Number(holder.pid) },
  });
}
