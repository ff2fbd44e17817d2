// Sees sessions that wait on the backup's locks: DDL queued behind our ACCESS SHARE, and readers queued behind that
// DDL, which is how a dump stalls production.
import type pg from 'pg';
import { PgkeepError } from '../base/errors.ts';
import { queryRows } from './client.ts';
import { type ServerWatch, watch } from './server-watch.ts';

const lookEveryMs = 1_000;

export interface WatchBlockingOptions {
  /** The backend that holds the locks. */
  pid: string;
  /** Of the backup's own sessions, whose waiting does not count. */
  applicationName: string;
  maxBlockingMs: number;
  /** How long the server may take to answer a look; a silent one counts as lost. */
  answerWithinMs: number;
  /** Comes before each look; what it throws is the failure. It may ask for something else on the same connection. */
  beforeLook: () => Promise<void>;
}

/** Watches until stopped. */
export function watchBlocking(
  client: pg.Client,
  { pid, applicationName, maxBlockingMs, answerWithinMs, beforeLook }: WatchBlockingOptions,
): ServerWatch {
  const since = new Map<string, number>();
  return watch(async () => {
    await beforeLook();
    const waiting = await readWaiting(client, pid, applicationName);
    const now = Date.now();
    for (const key of since.keys()) if (!waiting.some(session => session.pid === key)) since.delete(key);
    for (const session of waiting) {
      const first = since.get(session.pid) ?? now;
      since.set(session.pid, first);
      if (now - first >= maxBlockingMs) throw blockingError(session, waiting.length, now - first);
    }
    return Math.min(lookEveryMs, Math.max(50, maxBlockingMs / 4));
  }, answerWithinMs);
}

interface WaitingSession {
  pid: string;
  query: string;
  relation: string;
}

async function readWaiting(
  client: pg.Client,
  pid: string,
  applicationName: string,
): Promise<WaitingSession[]> {
  // pg_locks is open to every role; the text of another role's statement may not be. The locks of the workers and of
  // pg_dump count as well: pg_dump locks tables that the session of the backup's own transaction does not.
  const rows = await queryRows(
    client,
    `SELECT l.pid, coalesce(a.query, '') AS query, coalesce(l.relation::regclass::text, '') AS relation
     FROM pg_catalog.pg_locks l LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
     WHERE NOT l.granted AND a.application_name IS DISTINCT FROM '${applicationName}' 
       AND pg_catalog.pg_blocking_pids(l.pid) &&
         (SELECT pg_catalog.array_append(pg_catalog.array_agg(o.pid), ${pid}) FROM pg_catalog.pg_stat_activity o
          WHERE o.application_name = '${applicationName}')`,
    'watching for sessions that wait on the backup',
  );
  return rows.map(row => ({ pid: row.pid ?? '', query: row.query ?? '', relation: row.relation ?? '' }));
}

function blockingError(session: WaitingSession, count: number, waitedMs: number): PgkeepError {
  const seconds = Math.round(waitedMs / 1000);
  const others = count > 1 ? ` (and ${count - 1} others)` : '';
  return new PgkeepError(
    'BLOCKING_OTHERS',
    `process ${session.pid}${others} waited ${seconds} s for the backup's lock on ${session.relation}: ${session.query.slice(0, 200)}`,
    { hint: 'the backup gave way; run it at another time than such statements, or raise --max-blocking' },
  );
}
