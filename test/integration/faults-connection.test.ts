// Connections that end, fall silent or are cut while a backup runs: it fails soon, says why, and nothing shows in list.

import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { PgkeepError } from '../../src/base/errors.ts';
import type { CreateBackupOptions } from '../../src/operations/create-backup.ts';
import { listBackups } from '../../src/operations/list-backups.ts';
import { everybodyAtWork, heldBackBytes, makeFaultDatabase, ownSessions } from '../support/fault-database.ts';
import { startPgkeep } from '../support/pgkeep-process.ts';
import { psql, type Server, startServer } from '../support/postgres-server.ts';
import { waitFor } from '../support/processes.ts';
import { backUp, testKey } from '../support/round-trip.ts';
import { startTcpProxy, type TcpProxy } from '../support/tcp-proxy.ts';
import { makeTempFolder } from '../support/temp-folder.ts';

/** Rows and pg_dump cannot come to their end before the fault: the one worker asks for more once it has these. */
const held = { holdAfterReceivedBytes: heldBackBytes };
const soonMs = 30_000;

let server: Server;

beforeAll(async () => {
  server = await startServer();
  await makeFaultDatabase(server, 'shop');
});
afterAll(async () => {
  await server[Symbol.asyncDispose]();
});

/**
 * Begins a backup through a proxy that holds it back, does something to it while it reads rows, and looks at how it ends.
 * @returns how it failed, and how long after the fault.
 */
async function failDuringRows(
  fault: (proxy: TcpProxy) => void | Promise<void>,
  options: Partial<CreateBackupOptions> & { parameters?: string } = {},
): Promise<{ failure: PgkeepError; afterMs: number }> {
  await using repository = makeTempFolder('repository');
  await using proxy = await startTcpProxy(server.port, held);
  const backup = backUp(server, 'shop', repository.path, {
    jobs: 1,
    ...options,
    database: proxy.through(server.url('shop')) + (options.parameters ?? ''),
  });
  const ended = backup.then(
    () => expect.unreachable('the backup has not failed'),
    error => error,
  );
  await everybodyAtWork(server, 'shop');
  await fault(proxy);
  const faultAt = Date.now();
  proxy.release();
  const failure: PgkeepError = await ended;
  const afterMs = Date.now() - faultAt;
  expect(failure).toBeInstanceOf(PgkeepError);
  expect(await listBackups({ repository: repository.path })).toEqual([]);
  return { failure, afterMs };
}

async function expectNoSessions(): Promise<void> {
  await waitFor('the sessions to end', async () => (await ownSessions(server)) === 0);
}

describe('the server', () => {
  it.each(['fast', 'immediate'] as const)(
    'stopped (%s) while rows are read, fails the backup by that name',
    async mode => {
      const { failure, afterMs } = await failDuringRows(() => server.stop(mode));
      await server.start();
      expect(failure.code).toBe('DATABASE_CONNECTION_LOST');
      expect(failure.message).toMatch(/terminating connection|shutting down|lost|closed|terminated/);
      expect(afterMs).toBeLessThan(soonMs);
    },
  );

  it('stopped under the built program: that ends by itself, with the documented exit code', async () => {
    await using repository = makeTempFolder('repository');
    await using proxy = await startTcpProxy(server.port, held);
    const words = [
      'create',
      '--repository',
      repository.path,
      '--programs',
      server.binDir,
      '--jobs=1',
      '--json',
    ];
    const run = startPgkeep(words, {
      env: { DATABASE_URL: proxy.through(server.url('shop')), BACKUP_ENCRYPTION_KEY: testKey },
    });
    await everybodyAtWork(server, 'shop');
    await server.stop('immediate');
    const stoppedAt = Date.now();
    proxy.release();
    const { exitCode, out } = await run.ended;
    expect(Date.now() - stoppedAt).toBeLessThan(soonMs);
    expect([JSON.parse(out).error.code, exitCode]).toEqual(['DATABASE_CONNECTION_LOST', 5]);
    await server.start();
  });
});

describe('a single connection terminated by an administrator', () => {
  it.each([
    { title: 'of a worker', where: "query LIKE 'COPY%'" },
    { title: 'that holds the snapshot', where: 'pid = ANY (holders)' },
    { title: 'that watches', where: "query LIKE '%pg_blocking_pids%'" },
  ])('$title fails the backup', async ({ where }) => {
    const { failure, afterMs } = await failDuringRows(async () => {
      const sql = `WITH ours AS (
           SELECT a.pid, a.query, ARRAY(SELECT s.pid FROM pg_stat_activity s WHERE s.state = 'idle in transaction') AS holders
           FROM pg_stat_activity a WHERE a.application_name LIKE 'pgkeep%')
         SELECT count(pg_terminate_backend(pid)) FROM ours WHERE ${where}`;
      await waitFor('the connection', async () => Number(await psql(server, 'shop', sql)) > 0);
    });
    expect(failure.code).toBe('DATABASE_CONNECTION_LOST');
    expect(afterMs).toBeLessThan(soonMs);
    await expectNoSessions();
  });

  it('of pg_dump fails the backup', async () => {
    await using repository = makeTempFolder('repository');
    // More than the proxy lets through.
    await server.createDatabase('objects');
    await psql(
      server,
      'objects',
      "SELECT lo_from_bytea(0, convert_to(repeat(md5(i::text), 40000), 'UTF8')) FROM generate_series(1, 10) AS i",
    );
    await using proxy = await startTcpProxy(server.port, { holdAfterReceivedBytes: 2_000_000 });
    const ended = backUp(server, 'objects', repository.path, {
      database: proxy.through(server.url('objects')),
    }).then(
      () => expect.unreachable('the backup has not failed'),
      error => error,
    );
    await waitFor('pg_dump to read the objects', async () => {
      const sql =
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE query LIKE '%loread%' AND pid <> pg_backend_pid()";
      return Number(await psql(server, 'objects', sql)) > 0;
    });
    proxy.release();
    const failure: PgkeepError = await ended;
    expect(failure.code).toBe('DATABASE_CONNECTION_LOST');
    expect(failure.message).toMatch(/^pg_dump failed while dumping the schema/);
    expect(await listBackups({ repository: repository.path })).toEqual([]);
    await expectNoSessions();
  });
});

describe('the network', () => {
  it('cut while rows are read, fails the backup', async () => {
    const { failure, afterMs } = await failDuringRows(proxy => proxy.cut());
    expect(failure.code).toBe('DATABASE_CONNECTION_LOST');
    expect(afterMs).toBeLessThan(soonMs);
  });

  it('silent while rows are read, fails the backup after ten seconds, or connect_timeout', async () => {
    const { failure, afterMs } = await failDuringRows(proxy => proxy.stall(), {
      parameters: '?connect_timeout=5',
    });
    expect(failure.code).toBe('DATABASE_CONNECTION_LOST');
    expect(failure.message).toBe('the server has not answered for 10 s');
    expect(afterMs).toBeGreaterThan(1_000);
    expect(afterMs).toBeLessThan(soonMs);
  });

  it('silent under the built program: that ends by itself', async () => {
    await using repository = makeTempFolder('repository');
    await using proxy = await startTcpProxy(server.port, held);
    const words = ['create', '--repository', repository.path, '--programs', server.binDir, '--jobs=1'];
    const run = startPgkeep(words, {
      env: {
        DATABASE_URL: `${proxy.through(server.url('shop'))}?connect_timeout=5`,
        BACKUP_ENCRYPTION_KEY: testKey,
      },
    });
    await everybodyAtWork(server, 'shop');
    proxy.stall();
    const stalledAt = Date.now();
    const { exitCode, err } = await run.ended;
    expect(Date.now() - stalledAt).toBeLessThan(soonMs);
    expect(err).toContain('the server has not answered for 10 s [DATABASE_CONNECTION_LOST]');
    expect(exitCode).toBe(5);
  });

  it('silent from the start, fails the backup after connect_timeout', async () => {
    await using repository = makeTempFolder('repository');
    await using proxy = await startTcpProxy(server.port);
    proxy.stall();
    const began = Date.now();
    await expect(
      backUp(server, 'shop', repository.path, {
        database: `${proxy.through(server.url('shop'))}?connect_timeout=2`,
      }),
    ).rejects.toMatchObject({ code: 'DATABASE_UNREACHABLE' });
    expect(Date.now() - began).toBeLessThan(soonMs);
  });
});
