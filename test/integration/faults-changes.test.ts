// Other sessions drop, rename, alter, truncate and create tables while a backup begins and while it runs: the backup is
// whole and of one moment, or it fails by name. It is never short.

import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { PgkeepError } from '../../src/base/errors.ts';
import type { CreateBackupResult } from '../../src/operations/create-backup.ts';
import { expectSame, makeFaultDatabase } from '../support/fault-database.ts';
import { psql, type Server, startServer } from '../support/postgres-server.ts';
import { waitFor } from '../support/processes.ts';
import { backUp, restoreInto } from '../support/round-trip.ts';
import { startTcpProxy } from '../support/tcp-proxy.ts';
import { makeTempFolder } from '../support/temp-folder.ts';

/** SQLSTATE of a lock not granted in time. */
const lockNotAvailable = '55P03';

let server: Server;
const repository = makeTempFolder('repository');

beforeAll(async () => {
  server = await startServer();
  await makeFaultDatabase(server, 'template', 20_000);
  await makeFaultDatabase(server, 'tiny', 500);
});
afterAll(async () => {
  await server[Symbol.asyncDispose]();
  await repository.remove();
});

/**
 * Runs SQL again and again, `#` standing for the number of the try, until stopped. What has to wait for long gives up:
 * while a backup holds its locks nothing else would happen.
 */
async function repeat(database: string, sql: string): Promise<{ stop(): Promise<number> }> {
  const client = new pg.Client(server.url(database));
  await client.connect();
  await client.query("SET lock_timeout = '100ms'");
  let isDone = false;
  let runs = 0;
  let tries = 0;
  const ended = (async () => {
    while (!isDone) {
      try {
        await client.query(sql.replaceAll('#', String(++tries)));
        runs++;
      } catch (error) {
        if (!(error instanceof pg.DatabaseError) || error.code !== lockNotAvailable) throw error;
        await client.query('ROLLBACK');
      }
      await sleep(Math.random() * 10);
    }
  })();
  ended.catch(() => undefined);
  client.on('error', () => undefined);
  return {
    async stop() {
      isDone = true;
      await ended;
      await client.end();
      return runs;
    },
  };
}

describe('while other sessions change the database all the time', () => {
  interface Change {
    title: string;
    before?: string;
    /** Runs in a loop; one call is one transaction. */
    loop: string;
    /** Counts something in a restored database; one of `answers` at every moment. */
    check: string;
    answers: RegExp;
  }

  const changes: Change[] = [
    {
      title: 'a table truncated and filled again is never restored empty',
      loop: 'BEGIN; TRUNCATE small CASCADE; INSERT INTO small SELECT i, # FROM generate_series(1, 100 + # % 7) AS i; COMMIT',
      check:
        "SELECT count(*) = 100 + max(name::int) % 7, count(DISTINCT name) FROM small WHERE name !~ 'name'",
      answers: /^t\|1$/,
    },
    {
      title: 'a table dropped and made anew is restored whole',
      before: 'CREATE TABLE fleeting AS SELECT i, 0 AS run FROM generate_series(1, 50) AS i',
      loop: 'BEGIN; DROP TABLE fleeting; CREATE TABLE fleeting AS SELECT i, # AS run FROM generate_series(1, 50) AS i; COMMIT',
      check: 'SELECT count(*), count(DISTINCT run) FROM fleeting',
      answers: /^50\|1$/,
    },
    {
      title: 'two tables that change names are restored under the names of one moment',
      before:
        "CREATE TABLE a AS SELECT 'a' AS at_first, 0 AS run FROM generate_series(1, 30); CREATE TABLE b AS SELECT 'b' AS at_first, 0 AS run FROM generate_series(1, 40)",
      loop: 'BEGIN; ALTER TABLE a RENAME TO c; ALTER TABLE b RENAME TO a; ALTER TABLE c RENAME TO b; UPDATE a SET run = run + 1; UPDATE b SET run = run + 1; COMMIT',
      check:
        'SELECT (SELECT count(*) FROM a), (SELECT count(*) FROM b), (SELECT count(DISTINCT run) FROM (TABLE a UNION TABLE b) u), (SELECT min(run) % 2 FROM a)',
      answers: /^(30\|40\|1\|0|40\|30\|1\|1)$/,
    },
    {
      title: 'columns added, filled and dropped are restored with the rows of one moment',
      before: `CREATE FUNCTION columns() RETURNS text LANGUAGE sql AS $$
                 SELECT string_agg(attname, ',' ORDER BY attnum) FROM pg_attribute
                 WHERE attrelid = 'public.notes'::regclass AND attnum > 0 AND NOT attisdropped $$;
               UPDATE notes SET note = columns(); ALTER TABLE notes ADD COLUMN extra0 int; UPDATE notes SET note = columns()`,
      loop: `BEGIN; DO 'BEGIN EXECUTE (SELECT $s$ALTER TABLE notes DROP COLUMN $s$ || attname FROM pg_attribute
                                       WHERE attrelid = $s$notes$s$::regclass AND attname ~ $s$^extra$s$); END';
             ALTER TABLE notes ADD COLUMN extra# int DEFAULT #; UPDATE notes SET note = columns(); COMMIT`,
      check: 'SELECT count(DISTINCT note), min(note) = columns() FROM notes',
      answers: /^1\|t$/,
    },
    {
      title: 'tables that come and go are there with their rows, or not at all',
      before: 'CREATE TABLE run0 AS SELECT 0 AS n',
      loop: 'CREATE TABLE run##x AS SELECT # AS n; DROP TABLE IF EXISTS run##x',
      check: `SELECT coalesce(bool_and(query_to_xml('TABLE ' || oid::regclass, true, true, '')::text ~ '<n>'), true)
              FROM pg_class WHERE relname LIKE 'run%'`,
      answers: /^t$/,
    },
  ];

  it.each(changes)('$title', async ({ before, loop, check, answers }) => {
    const source = await server.cloneDatabase('tiny');
    if (before !== undefined) await psql(server, source, before);
    const changing = await repeat(source, loop);
    const outcomes: (CreateBackupResult | PgkeepError)[] = [];
    for (let run = 0; run < 3; run++) {
      outcomes.push(await backUp(server, source, repository.path).catch(error => error));
    }
    expect(await changing.stop()).toBeGreaterThan(5);
    expect(outcomes.some(outcome => !(outcome instanceof Error))).toBe(true);
    for (const outcome of outcomes) {
      if (outcome instanceof Error) {
        expect(outcome).toBeInstanceOf(PgkeepError);
        expect(outcome).toMatchObject({
          code: expect.stringMatching(/^(CATALOG_UNSTABLE|PROGRAM_FAILED|DATABASE_QUERY|BACKUP_INCOMPLETE)$/),
          message: expect.stringMatching(/small|fleeting|notes|run\d|\ba\b|\bb\b/),
        });
        continue;
      }
      await restoreInto(server, 'restored', repository.path, { create: true, backup: outcome.id });
      expect((await psql(server, 'restored', check)).trim()).toMatch(answers);
      await server.dropDatabase('restored');
    }
    await server.dropDatabase(source);
  });
});

describe('once the snapshot is taken', () => {
  /** Begins a backup that takes some seconds, and does something meanwhile. */
  async function whileReading(source: string, act: () => Promise<void>): Promise<CreateBackupResult> {
    await using proxy = await startTcpProxy(server.port, { bytesPerSecond: 1_000_000 });
    const backup = backUp(server, source, repository.path, {
      database: proxy.through(server.url(source)),
      jobs: 1,
    });
    backup.catch(() => undefined);
    // Before that, what it has not locked would wait behind whoever asks for more.
    const locked = `SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid)
      WHERE relation = 'small'::regclass AND granted AND query LIKE 'COPY %'`;
    await waitFor(
      'the worker to read the last table',
      async () => (await psql(server, source, locked)).trim() !== '0',
    );
    await act();
    return await backup;
  }

  it('dropping, truncating and altering wait until the backup has ended', async () => {
    const source = await server.cloneDatabase('template');
    const copy = await server.cloneDatabase('template');
    const ended: string[] = [];
    const statements = ['DROP TABLE notes', 'TRUNCATE big', 'ALTER TABLE small RENAME TO large'];
    let waiting: Promise<unknown> = Promise.resolve();
    const backup = await whileReading(source, async () => {
      waiting = Promise.all(statements.map(async sql => ended.push(sql + (await psql(server, source, sql)))));
      waiting.catch(() => undefined);
      const queued = 'SELECT count(*) FROM pg_locks WHERE NOT granted';
      await waitFor('them to queue', async () => (await psql(server, source, queued)).trim() === '3');
      await sleep(300);
      expect(ended).toEqual([]);
    });
    await waiting;
    await restoreInto(server, 'restored', repository.path, { create: true, backup: backup.id });
    await expectSame(server, copy, 'restored');
    for (const database of ['restored', source, copy]) await server.dropDatabase(database);
  });

  it('rows written meanwhile are not in the backup', async () => {
    const source = await server.cloneDatabase('template');
    const copy = await server.cloneDatabase('template');
    const backup = await whileReading(source, async () => {
      await psql(
        server,
        source,
        "DELETE FROM notes; INSERT INTO small (name) VALUES ('later'); UPDATE big SET payload = 'later'; SELECT lo_unlink(4711)",
      );
    });
    await restoreInto(server, 'restored', repository.path, { create: true, backup: backup.id });
    // The sequence is not of the snapshot, in no dump.
    await psql(server, copy, "SELECT setval('small_id_seq', 101)");
    await expectSame(server, copy, 'restored').catch(async () => {
      await psql(server, copy, "SELECT setval('small_id_seq', 100)");
      await expectSame(server, copy, 'restored');
    });
    for (const database of ['restored', source, copy]) await server.dropDatabase(database);
  });

  it('schemas that change names fail the backup, as names would lead to the other’s tables', async () => {
    const source = await server.cloneDatabase('template');
    await psql(
      server,
      source,
      `CREATE SCHEMA blue; CREATE TABLE blue.t AS SELECT 'blue' AS colour;
       CREATE SCHEMA green; CREATE TABLE green.t AS SELECT 'green' AS colour`,
    );
    const backup = whileReading(source, async () => {
      await psql(
        server,
        source,
        'ALTER SCHEMA blue RENAME TO red; ALTER SCHEMA green RENAME TO blue; ALTER SCHEMA red RENAME TO green',
      );
    });
    await expect(backup).rejects.toMatchObject({
      code: 'CATALOG_UNSTABLE',
      message: expect.stringMatching(/^the names of blue\.t, green\.t changed/),
    });
    await server.dropDatabase(source);
  });

  it('a sequence dropped meanwhile fails the backup by its name, or is in it', async () => {
    const source = await server.cloneDatabase('template');
    await psql(server, source, 'CREATE SEQUENCE alone START 7');
    await using held = await startTcpProxy(server.port);
    const outcome = await backUp(server, source, repository.path, {
      database: held.through(server.url(source)),
      onEvent: event => {
        // Between the snapshot and pg_dump's look at it.
        if (event.type === 'phase' && event.phase === 'data')
          void psql(server, source, 'DROP SEQUENCE alone');
      },
    }).catch(error => error);
    if (outcome instanceof Error) {
      expect(outcome).toMatchObject({ code: 'PROGRAM_FAILED', message: expect.stringContaining('alone') });
    } else {
      await restoreInto(server, 'restored', repository.path, { create: true, backup: outcome.id });
      expect((await psql(server, 'restored', "SELECT nextval('alone')")).trim()).toBe('7');
      await server.dropDatabase('restored');
    }
    await server.dropDatabase(source);
  });
});
