// What a backup's locks do to others, and theirs to it: it gives way in time, tries again where it can, and says who.

import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { PgkeepError } from '../../src/base/errors.ts';
import type { CreateBackupOptions, CreateBackupResult } from '../../src/operations/create-backup.ts';
import { listBackups } from '../../src/operations/list-backups.ts';
import {
  everybodyAtWork,
  expectSame,
  heldBackBytes,
  makeFaultDatabase,
  ownSessions,
} from '../support/fault-database.ts';
import { psql, type Server, startServer } from '../support/postgres-server.ts';
import { waitFor } from '../support/processes.ts';
import { backUp, restoreInto } from '../support/round-trip.ts';
import { startTcpProxy } from '../support/tcp-proxy.ts';
import { makeTempFolder, type TempFolder } from '../support/temp-folder.ts';

let server: Server;

beforeAll(async () => {
  server = await startServer({ settings: { log_min_error_statement: 'error' } });
  await makeFaultDatabase(server, 'template', 40_000);
});
afterAll(async () => {
  await server[Symbol.asyncDispose]();
});

/** A database of the test's own, a repository, and a session in that database. */
async function prepare(): Promise<
  AsyncDisposable & { source: string; repository: TempFolder; session: pg.Client; pid: number }
> {
  const source = await server.cloneDatabase('template');
  const repository = makeTempFolder('repository');
  const session = new pg.Client(server.url(source));
  await session.connect();
  // A test that fails leaves it to the server.
  session.on('error', () => undefined);
  const { rows } = await session.query<{ pid: number }>('SELECT pg_backend_pid() AS pid');
  return {
    source,
    repository,
    session,
    pid: rows[0]?.pid ?? 0,
    async [Symbol.asyncDispose]() {
      await session.end();
      await repository.remove();
      await server.dropDatabase(source);
    },
  };
}

/** Begins a backup that is held back, and does something once rows are on their way and pg_dump has its locks. */
async function whileReading(
  source: string,
  repository: TempFolder,
  options: Partial<CreateBackupOptions>,
  act: () => Promise<void>,
): Promise<CreateBackupResult> {
  await using proxy = await startTcpProxy(server.port, { holdAfterReceivedBytes: heldBackBytes });
  const backup = backUp(server, source, repository.path, {
    jobs: 1,
    ...options,
    database: proxy.through(server.url(source)),
  });
  backup.catch(() => undefined);
  await everybodyAtWork(server, source);
  await act();
  return await backup;
}

async function expectRestores(source: string, repository: TempFolder): Promise<void> {
  await restoreInto(server, 'restored', repository.path, { create: true });
  await expectSame(server, source, 'restored');
  await server.dropDatabase('restored');
}

const waiting =
  'SELECT count(*) FROM pg_locks WHERE NOT granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database())';

describe('DDL that waits for the backup', () => {
  it('longer than --max-blocking ends the backup, which says what waited; the DDL and the readers behind it go on', async () => {
    await using test = await prepare();
    const { source, repository, session, pid } = test;
    let altered: Promise<unknown> = Promise.resolve();
    let read: Promise<pg.QueryResult<{ count: string }>> | undefined;
    const reader = new pg.Client(server.url(source));
    await reader.connect();
    const failure: PgkeepError = await whileReading(
      source,
      repository,
      { maxBlockingMs: 3_000 },
      async () => {
        altered = session.query('ALTER TABLE big ADD COLUMN later integer');
        altered.catch(() => undefined);
        await waitFor('the DDL to queue', async () => (await psql(server, source, waiting)).trim() === '1');
        read = reader.query('SELECT count(*) FROM big');
        read.catch(() => undefined);
      },
    ).then(
      () => expect.unreachable('the backup has not given way'),
      error => error,
    );
    expect(failure.message).toMatch(
      new RegExp(
        `^process ${pid}( \\(and 1 others\\))? waited ([3-9]|\\d\\d+) s for the backup's lock on big: ALTER TABLE big ADD COLUMN later integer$`,
      ),
    );
    expect(failure.code).toBe('BLOCKING_OTHERS');
    expect(failure.exitCode).toBe(6);
    expect(failure.hint).toContain('--max-blocking');
    // The backup, held back as it was, would not have ended by itself.
    await altered;
    expect((await read)?.rows).toEqual([{ count: '40000' }]);
    await reader.end();
    expect(await listBackups({ repository: repository.path })).toEqual([]);
    await waitFor('the sessions to end', async () => (await ownSessions(server)) === 0);
  });

  it('and gives up by itself does not end the backup, whose worker tries again for the lock it lost', async () => {
    await using test = await prepare();
    const { source, repository, session, pid } = test;
    const logBefore = server.log().length;
    const lostLock = /canceling statement due to lock timeout[^\n]*\n(.*\n)?.*STATEMENT: {2}COPY ["(]/;
    let refused: Promise<unknown> = Promise.resolve();
    let cancelled: Promise<unknown> = Promise.resolve();
    await backUp(server, source, repository.path, {
      maxBlockingMs: 600_000,
      onEvent: event => {
        // The snapshot is taken, and neither the workers nor pg_dump are there yet.
        if (event.type !== 'phase' || event.phase !== 'data') return;
        refused = session.query('ALTER TABLE notes ADD COLUMN later integer').catch(error => error.code);
        cancelled = waitFor('a worker to lose its lock', () =>
          lostLock.test(server.log().slice(logBefore)),
        ).then(() => psql(server, source, `SELECT pg_cancel_backend(${pid})`));
      },
    });
    await cancelled;
    expect(await refused).toBe('57014');
    await expectRestores(source, repository);
  });
});

describe('a table locked by somebody else', () => {
  it('for longer than --lock-timeout fails the backup, which says by whom and how', async () => {
    await using test = await prepare();
    const { source, repository, session, pid } = test;
    await session.query('BEGIN; LOCK TABLE small IN ACCESS EXCLUSIVE MODE');
    await expect(backUp(server, source, repository.path, { lockTimeoutMs: 500 })).rejects.toMatchObject({
      code: 'LOCK_TIMEOUT',
      exitCode: 6,
      message: `could not lock small, held by process ${pid} (BEGIN; LOCK TABLE small IN ACCESS EXCLUSIVE MODE) within 500 ms`,
      hint: expect.stringContaining('--lock-timeout'),
    });
    await session.query('ROLLBACK');
    // Nothing was written before the lock was had.
    await expect(listBackups({ repository: repository.path })).rejects.toMatchObject({
      code: 'REPOSITORY_NOT_FOUND',
    });
  });

  it('and left out of the backup is not waited for', async () => {
    await using test = await prepare();
    const { source, repository, session } = test;
    await session.query('BEGIN; LOCK TABLE notes IN ACCESS EXCLUSIVE MODE');
    const backup = await backUp(server, source, repository.path, { excludeTables: ['notes'] });
    expect(backup.leftOut.map(({ name }) => name)).toEqual(['notes']);
  });

  it('for a shorter time is waited for', async () => {
    await using test = await prepare();
    const { source, repository, session } = test;
    await session.query('BEGIN; LOCK TABLE small IN ACCESS EXCLUSIVE MODE');
    const backup = backUp(server, source, repository.path, { lockTimeoutMs: 20_000 });
    await waitFor('the backup to queue', async () => (await psql(server, source, waiting)).trim() === '1');
    await session.query("INSERT INTO small (name) VALUES ('while it waited'); COMMIT");
    await backup;
    await expectRestores(source, repository);
  });

  it('while others wait for what the backup holds already, is given up at --max-blocking', async () => {
    await using test = await prepare();
    const { source, repository, session } = test;
    await session.query('BEGIN; LOCK TABLE small IN ACCESS EXCLUSIVE MODE');
    const backup = backUp(server, source, repository.path, { maxBlockingMs: 1_000 });
    backup.catch(() => undefined);
    await waitFor('the backup to queue', async () => (await psql(server, source, waiting)).trim() === '1');
    const altered = psql(server, source, 'ALTER TABLE big ADD COLUMN later integer');
    await expect(backup).rejects.toMatchObject({
      code: 'BLOCKING_OTHERS',
      message: expect.stringContaining('ALTER TABLE big ADD COLUMN later integer'),
    });
    await altered;
    await session.query('ROLLBACK');
  });

  it('in a deadlock with the backup, which begins anew', async () => {
    await using test = await prepare();
    const { source, repository, session } = test;
    // The backup is to find the deadlock, and not the other: it is the one that closes the circle, when a third lets it.
    await session.query("SET deadlock_timeout = '10min'; BEGIN; LOCK TABLE small IN ACCESS EXCLUSIVE MODE");
    const third = new pg.Client(server.url(source));
    await third.connect();
    await third.query('BEGIN; LOCK TABLE notes IN ACCESS EXCLUSIVE MODE');
    const backup = backUp(server, source, repository.path);
    backup.catch(() => undefined);
    await waitFor('the backup to queue', async () => (await psql(server, source, waiting)).trim() === '1');
    const locked = session.query('LOCK TABLE big IN ACCESS EXCLUSIVE MODE');
    await waitFor('the other to queue', async () => (await psql(server, source, waiting)).trim() === '2');
    await third.end();
    await locked;
    await session.query('COMMIT');
    await backup;
    await expectRestores(source, repository);
  });
});

describe('large objects locked by somebody else', () => {
  it('while they are read are waited for, without queueing for long', async () => {
    await using repository = makeTempFolder('repository');
    await server.createDatabase('pictures');
    await psql(
      server,
      'pictures',
      `SELECT count(lo_from_bytea(0, convert_to('picture ' || i, 'UTF8'))) FROM generate_series(1, 600) AS i`,
    );
    const logBefore = server.log().length;
    const words = ['-X', '-q', '-v', 'ON_ERROR_STOP=1', server.url('pictures'), '-c'];
    const run = { env: { PATH: process.env.PATH } };
    const program = join(server.binDir, 'psql');
    let unlocked: Promise<unknown> = Promise.resolve();
    await backUp(server, 'pictures', repository.path, {
      onEvent: event => {
        if (event.type !== 'phase' || event.phase !== 'large-objects') return;
        // Other processes, waited for at once: no worker has begun by the time the lock is there.
        const lock = 'BEGIN; LOCK TABLE pg_largeobject IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep(600)';
        const locker = spawn(program, [...words, lock], { ...run, stdio: 'ignore' });
        const isLocked = `DO $$ BEGIN
          WHILE NOT EXISTS (SELECT FROM pg_locks WHERE relation = 'pg_largeobject'::regclass AND mode = 'AccessExclusiveLock' AND granted)
          LOOP PERFORM pg_sleep(0.01); END LOOP; END $$`;
        execFileSync(program, [...words, isLocked], run);
        const lostLock = () =>
          /canceling statement due to lock timeout[^\n]*\n(.*\n)*?.*lo_open/.test(
            server.log().slice(logBefore),
          );
        unlocked = waitFor('a worker to lose its lock', lostLock).finally(() => {
          const ended = once(locker, 'close');
          return psql(
            server,
            'pictures',
            "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE relation = 'pg_largeobject'::regclass AND mode = 'AccessExclusiveLock'",
          ).then(() => ended);
        });
      },
    });
    await unlocked;
    await restoreInto(server, 'restored', repository.path, { create: true });
    await expectSame(server, 'pictures', 'restored');
    await server.dropDatabase('restored');
  });
});
