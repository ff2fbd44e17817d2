// The database that fault tests back up: one table of several segments, a few of a few rows, a sequence, a large object.

import { expect } from 'vitest';
import { compareDatabases } from './compare-databases.ts';
import { psql, type Server } from './postgres-server.ts';
import { waitFor } from './processes.ts';

/** Rows of the big table: about 22 MB of heap and 18 MB of COPY text, three ranges. */
export const bigRows = 150_000;

/** Creates and fills a database. */
export async function makeFaultDatabase(server: Server, name: string, rows = bigRows): Promise<string> {
  await server.createDatabase(name);
  await psql(
    server,
    name,
    `CREATE TABLE big (id integer PRIMARY KEY, payload text NOT NULL, more text);
     INSERT INTO big SELECT i, md5(i::text) || md5((i * 7)::text), md5((i * 13)::text) FROM generate_series(1, ${rows}) AS i;
     CREATE TABLE small (id serial PRIMARY KEY, name text);
     INSERT INTO small (name) SELECT 'name ' || i FROM generate_series(1, 100) AS i;
     CREATE TABLE notes (id integer PRIMARY KEY REFERENCES small, note text);
     INSERT INTO notes SELECT i, repeat('note ', i) FROM generate_series(1, 50) AS i;
     CREATE VIEW names AS SELECT name FROM small;
     SELECT lo_from_bytea(4711, convert_to(repeat('large object ', 30000), 'UTF8'));
     ANALYZE;
     -- A crash has the sequence skip numbers that it has drawn since the last one.
     CHECKPOINT;`,
  );
  return name;
}

/** Fails unless the two databases of the server hold the same. */
export async function expectSame(server: Server, source: string, restored: string): Promise<void> {
  const { differences } = await compareDatabases(server.url(source), server.url(restored), {
    binDir: server.binDir,
  });
  expect(differences).toEqual([]);
}

/** Sessions of pgkeep that the server has now, and of the programs it runs. */
export async function ownSessions(server: Server): Promise<number> {
  return Number(
    await psql(
      server,
      'postgres',
      "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'pgkeep%' AND backend_type = 'client backend'",
    ),
  );
}

/** For a proxy's holdAfterReceivedBytes: neither the rows of the big table nor what pg_dump reads come through, all else does. */
export const heldBackBytes = 200_000;

/**
 * Waits until a backup of such a database with one job, read through a proxy that holds back {@link heldBackBytes}, is in the
 * middle of rows and pg_dump in possession of its locks. Neither ends before the proxy lets it.
 */
export async function everybodyAtWork(server: Server, database: string): Promise<void> {
  // What the server has sent may wait on the way, and the session be idle again.
  const sql = `SELECT EXISTS (SELECT 1 FROM pg_stat_activity
      WHERE datname = current_database() AND application_name LIKE 'pgkeep%' AND query LIKE 'COPY%')
    -- Of the session with the snapshot, of the worker, and of pg_dump.
    AND (SELECT count(DISTINCT pid) FROM pg_locks
      WHERE relation = 'big'::regclass AND mode = 'AccessShareLock' AND granted
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())) = 3`;
  await waitFor(
    'worker and pg_dump to be at work',
    async () => (await psql(server, database, sql)) === 't\n',
  );
}
