// Whether a connection pooler stands between us and the server, and whether a session keeps its server connection:
// without that there is no snapshot and no lock. Judged by what can be seen, as poolers do not introduce themselves.
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import { PgkeepError } from '../../base/errors.ts';
import { announcedProcessId, queryRows } from '../../postgres/client.ts';
import type { Checklist } from '../checklist.ts';

export type Pooling = 'none' | 'session' | 'transaction';

/** A pooler with no connection to spare lets the second session wait for the first one's transaction. */
const waitMs = 3_000;
const rounds = 3;
/** Of a pooler that gives a connection back after each statement. */
const statementPooling = /statement pooling/i;

/**
 * @param first a session, in no transaction. It sets something, and another session begins a transaction, for which a pooler in
 * transaction mode takes the connection that `first` gave back: then what was set is lost, or two sessions have one process.
 */
export async function detectPooling(first: pg.Client, second: pg.Client): Promise<Pooling> {
  const mark = randomUUID();
  const look = async (client: pg.Client) => {
    const [row] = await queryRows(
      client,
      "SELECT pg_catalog.pg_backend_pid() AS pid, current_setting('pgkeep.mark', true) AS mark",
      'looking at the session',
    );
    return { pid: row?.pid ?? '', mark: row?.mark ?? '' };
  };
  const [start] = await queryRows(
    first,
    `SELECT pg_catalog.pg_backend_pid() AS pid, set_config('pgkeep.mark', '${mark}', false)`,
    'marking the session',
  );
  const pid = start?.pid ?? '';
  try {
    for (let round = 0; round < rounds; round++) {
      try {
        await queryRows(second, 'BEGIN', 'beginning a transaction');
      } catch (error) {
        if (error instanceof PgkeepError && statementPooling.test(error.message)) return 'transaction';
        throw error;
      }
      const other = await look(second);
      const again = await Promise.race([look(first), sleep(waitMs, undefined, { ref: false })]);
      await queryRows(second, 'ROLLBACK', 'ending a transaction');
      const isShared = other.pid === pid || other.mark === mark;
      if (isShared || again === undefined || again.pid !== pid || again.mark !== mark) return 'transaction';
    }
  } finally {
    // A server connection that others use next is left as it was.
    for (const client of [first, second])
      await client.query("SELECT set_config('pgkeep.mark', '', false)").catch(() => undefined);
  }
  return announcedProcessId(first) === Number(pid) ? 'none' : 'session';
}

export function checkPooling(list: Checklist, pooling: Pooling): void {
  switch (pooling) {
    case 'none':
      list.ok('pooler', 'the connection is direct');
      return;
    case 'session':
      list.warn(
        'pooler',
        'a pooler in session mode stands before the server: backups work, restores may be refused their settings',
        'for restores name the server itself in RESTORE_DATABASE_URL (or --to)',
      );
      return;
    case 'transaction':
      list.fail(
        'pooler',
        'a pooler in transaction mode stands before the server: it holds neither snapshot nor locks',
        "name the server itself in DATABASE_URL (often another port or host, such as 5432 instead of 6543 or 6432), or a pooler's session mode",
      );
  }
}
