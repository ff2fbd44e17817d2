// Connections that end, fall silent or are cut while a backup runs: it fails soon, says why, and nothing shows in list.

import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type ErrorCode, PgkeepError } from '../../src/base/errors.ts';
import type { CreateBackupOptions } from '../../src/operations/create-backup.ts';
import { listBackups } from '../../src/operations/list-backups.ts';
import { makeFaultDatabase, ownSessions } from '../support/fault-database.ts';
import { startPgkeep } from '../support/pgkeep-process.ts';
import { psql, type Server, startServer } from '../support/postgres-server.ts';
import { waitFor } from '../support/processes.ts';
import { backUp, testKey } from '../support/round-trip.ts';
import { startTcpProxy, type TcpProxy } from '../support/tcp-proxy.ts';
import { makeTempFolder } from '../support/temp-folder.ts';

/** Slow enough that the rows of the big table take some seconds. */
const bytesPerSecond = 2_000_000;
const soonMs = 20_000;
const lost: readonly ErrorCode[] = ['DATABASE_CONNECTION_LOST', 'PROGRAM_FAILED'];

let server: Server;

beforeAll(async () => {
  server = await startServer();
  await makeFaultDatabase(server, 'shop');
});
afterAll(async () => {
  await server[Symbol.asyncDispose]();
});

/**
 * Begins a backup through a slow proxy, does something to it while it reads rows, and looks at how it ends.
 * @returns how it failed, and how long after the fault.
 */
async function failDuringRows(
  fault: (proxy: TcpProxy) => void | Promise<void>,
  options: Partial<CreateBackupOptions> & { parameters?: string } = {},
): Promise<{ failure: PgkeepError; afterMs: number }> {
  await using repository = makeTempFolder('repository');
  await using proxy = await startTcpProxy(server.port, { bytesPerSecond });
  const backup = backUp(server, 'shop', repository.path, {
    ...options,
    database: proxy.through(server.url('shop')) + (options.parameters ?? ''),
  });
  const ended = backup.then(
    () => expect.unreachable('the backup has not failed'),
    error => error,
  );
  await waitFor('rows on their way', () => proxy.receivedBytes > 1_500_000);
  await fault(proxy);
  const faultAt = Date.now();
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
      expect(lost).toContain(failure.code);
      expect(failure.message).toMatch(/terminating connection|shutting down|lost|closed|terminated/);
      expect(afterMs).toBeLessThan(soonMs);
    },
  );

  it('stopped under the built program: that ends by itself, with the documented exit code', async () => {
    await using repository = makeTempFolder('repository');
    await using proxy = await startTcpProxy(server.port, { bytesPerSecond });
    const words = ['create', '--repository', repository.path, '--programs', server.binDir, '--json'];
    const run = startPgkeep(words, {
      env: { DATABASE_URL: proxy.through(server.url('shop')), BACKUP_ENCRYPTION_KEY: testKey },
    });
    await waitFor('rows on their way', () => proxy.receivedBytes > 1_500_000);
    await server.stop('immediate');
    const stoppedAt = Date.now();
    const { exitCode, out } = await run.ended;
    expect(Date.now() - stoppedAt).toBeLessThan(soonMs);
    const { code } = JSON.parse(out).error;
    expect([code, exitCode]).toEqual(code === 'PROGRAM_FAILED' ? [code, 7] : ['DATABASE_CONNECTION_LOST', 5]);
    await server.start();
  });
});

describe('a single connection terminated by an administrator', () => {
  it.each([
    { title: 'of a worker', where: "query LIKE 'COPY%'", codes: ['DATABASE_CONNECTION_LOST'] },
    { title: 'that holds the snapshot', where: 'pid = ANY (holders)', codes: ['DATABASE_CONNECTION_LOST'] },
    { title: 'that watches', where: "query LIKE '%pg_blocking_pids%'", codes: ['DATABASE_CONNECTION_LOST'] },
  ])('$title fails the backup', async ({ where, codes }) => {
    const { failure, afterMs } = await failDuringRows(async () => {
      const sql = `WITH ours AS (
           SELECT a.pid, a.query, ARRAY(SELECT s.pid FROM pg_stat_activity s WHERE s.state = 'idle in transaction') AS holders
           FROM pg_stat_activity a WHERE a.application_name LIKE 'pgkeep%')
         SELECT count(pg_terminate_backend(pid)) FROM ours WHERE ${where}`;
      await waitFor('the connection', async () => Number(await psql(server, 'shop', sql)) > 0);
    });
    expect(codes).toContain(failure.code);
    expect(afterMs).toBeLessThan(soonMs);
    await expectNoSessions();
  });

  it('of pg_dump fails the backup', async () => {
    await using repository = makeTempFolder('repository');
    // The large object makes pg_dump take its time.
    await server.createDatabase('objects');
    await psql(
      server,
      'objects',
      "SELECT lo_from_bytea(0, convert_to(repeat(md5(i::text), 40000), 'UTF8')) FROM generate_series(1, 10) AS i",
    );
    await using proxy = await startTcpProxy(server.port, { bytesPerSecond });
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
    const failure: PgkeepError = await ended;
    expect(failure.code).toBe('PROGRAM_FAILED');
    expect(failure.message).toMatch(/^pg_dump failed while dumping the schema/);
    expect(await listBackups({ repository: repository.path })).toEqual([]);
    await expectNoSessions();
  });
});

describe('the network', () => {
  it('cut while rows are read, fails the backup', async () => {
    const { failure, afterMs } = await failDuringRows(proxy => proxy.cut());
    expect(lost).toContain(failure.code);
    expect(afterMs).toBeLessThan(soonMs);
  });

  it('silent while rows are read, fails the backup after ten seconds, or connect_timeout', async () => {
    const { failure, afterMs } = await failDuringRows(proxy => proxy.stall(), {
      parameters: '?connect_timeout=3',
    });
    expect(failure.code).toBe('DATABASE_CONNECTION_LOST');
    expect(failure.message).toBe('the server has not answered for 10 s');
    expect(afterMs).toBeGreaterThan(1_000);
    expect(afterMs).toBeLessThan(soonMs);
  });

  it('silent under the built program: that ends by itself', async () => {
    await using repository = makeTempFolder('repository');
    await using proxy = await startTcpProxy(server.port, { bytesPerSecond });
    const words = ['create', '--repository', repository.path, '--programs', server.binDir];
    const run = startPgkeep(words, {
      env: {
        DATABASE_URL: `${proxy.through(server.url('shop'))}?connect_timeout=2`,
        BACKUP_ENCRYPTION_KEY: testKey,
      },
    });
    await waitFor('rows on their way', () => proxy.receivedBytes > 1_500_000);
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
