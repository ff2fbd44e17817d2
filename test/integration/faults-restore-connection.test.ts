// Connections that end, fall silent or are cut while a restore runs: it fails soon, says why, leaves the target as it
// was or marked as unfinished, and the next run works.

import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { PgkeepError } from '../../src/base/errors.ts';
import type { RestoreBackupOptions } from '../../src/operations/restore-backup.ts';
import { expectSame, makeFaultDatabase, ownSessions } from '../support/fault-database.ts';
import { psql, type Server, startServer } from '../support/postgres-server.ts';
import { waitFor } from '../support/processes.ts';
import { backUp, restoreInto } from '../support/round-trip.ts';
import { startTcpProxy, type TcpProxy } from '../support/tcp-proxy.ts';
import { makeTempFolder } from '../support/temp-folder.ts';

const soonMs = 60_000;
/** More than pg_restore sends, and less than the rows that a worker loads: they do not end before the fault. */
const held = { holdAfterSentBytes: 1_000_000 };
let server: Server;
const folder = makeTempFolder('repository');
let targets = 0;

beforeAll(async () => {
  server = await startServer();
  await makeFaultDatabase(server, 'shop');
  await backUp(server, 'shop', folder.path);
});
afterAll(async () => {
  await server[Symbol.asyncDispose]();
  await folder.remove();
});

interface Failed {
  failure: PgkeepError;
  afterMs: number;
  target: string;
  warnings: string[];
}

/** Begins a restore through a proxy, does something to it at a phase or once rows are on their way, and looks at how it ends. */
async function failDuring(
  when: string,
  fault: (proxy: TcpProxy, target: string) => void | Promise<void>,
  options: Partial<RestoreBackupOptions> = {},
): Promise<Failed> {
  targets += 1;
  const target = `target_${targets}`;
  if (!options.create) await server.createDatabase(target);
  if (options.dataOnly) await restoreInto(server, target, folder.path, { schemaOnly: true });
  await using proxy = await startTcpProxy(server.port, when === 'data' ? held : {});
  const warnings: string[] = [];
  let faultAt = 0;
  let happening: Promise<void> | undefined;
  const failure = await restoreInto(server, target, folder.path, {
    jobs: 1,
    ...options,
    to: `${proxy.through(server.url(target))}?connect_timeout=5`,
    onEvent: event => {
      if (event.type === 'warning') warnings.push(event.message);
      if (event.type !== 'phase' || event.phase !== when) return;
      faultAt = Date.now();
      happening = Promise.resolve(fault(proxy, target)).finally(() => proxy.release());
    },
  }).then(
    () => expect.unreachable('the restore has not failed'),
    error => error,
  );
  const afterMs = Date.now() - faultAt;
  await happening;
  expect(failure).toBeInstanceOf(PgkeepError);
  return { failure, afterMs, target, warnings };
}

async function isEmpty(target: string): Promise<boolean> {
  const objects = `SELECT (SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace)
    + (SELECT count(*) FROM pg_largeobject_metadata) + (SELECT count(*) FROM pg_namespace WHERE nspname = 'pgkeep_restore')`;
  return (await psql(server, target, objects)).trim() === '0';
}

/** Whatever is left, the same command goes on or begins anew. */
async function expectNextWorks(target: string, options: Partial<RestoreBackupOptions> = {}): Promise<void> {
  await restoreInto(server, target, folder.path, { resume: true, ...options });
  await expectSame(server, 'shop', target);
  await waitFor('the sessions to end', async () => (await ownSessions(server)) === 0);
  await server.dropDatabase(target);
}

const loading = (target: string) =>
  `FROM pg_stat_activity WHERE datname = '${target}' AND query ~ '^COPY' AND state = 'active'`;

/** Waits until the one worker is in the middle of rows. */
async function waitForRows(target: string): Promise<void> {
  const sql = `SELECT 1 ${loading(target)}`;
  await waitFor('rows on their way', () => psql(server, 'postgres', sql));
}

describe('the server', () => {
  it.each(['fast', 'immediate'] as const)(
    'restarted (%s) while rows are loaded, fails the restore',
    async mode => {
      const { failure, target } = await failDuring('data', async (_, into) => {
        await waitForRows(into);
        await server.stop(mode);
        await server.start();
      });
      expect(failure.code).toBe('DATABASE_CONNECTION_LOST');
      await expectNextWorks(target);
    },
  );

  it('gone for good while rows are loaded, leaves a target that says it is unfinished', async () => {
    const { failure, target, warnings } = await failDuring('data', async (_, into) => {
      await waitForRows(into);
      await server.stop('fast');
    });
    expect(failure.code).toBe('DATABASE_CONNECTION_LOST');
    expect(warnings.at(-1)).toContain('could not be emptied again');
    await server.start();
    await expect(restoreInto(server, target, folder.path)).rejects.toMatchObject({
      code: 'TARGET_UNFINISHED',
    });
    await expectNextWorks(target);
  });

  it('gone while a database is created for the restore, leaves one that says it is unfinished', async () => {
    const { target } = await failDuring('post-data', () => server.stop('immediate'), { create: true });
    await server.start();
    await expect(restoreInto(server, target, folder.path, { create: true })).rejects.toMatchObject({
      code: 'TARGET_UNFINISHED',
    });
    await expectNextWorks(target, { create: true });
  });
});

describe('a connection terminated by an administrator', () => {
  it('that loads, fails the restore and empties the target again', async () => {
    const { failure, target } = await failDuring('data', async (_, into) => {
      await waitForRows(into);
      await psql(server, 'postgres', `SELECT pg_terminate_backend(pid) ${loading(into)} LIMIT 1`);
    });
    expect(failure.code).toBe('DATABASE_CONNECTION_LOST');
    expect(await isEmpty(target)).toBe(true);
    await expectNextWorks(target);
  });

  it('that holds the lock, fails the restore and empties the target again', async () => {
    const { failure, target, afterMs } = await failDuring('data', async (_, into) => {
      await waitForRows(into);
      await psql(
        server,
        'postgres',
        "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND objid = 1801807216",
      );
    });
    expect(failure.code).toBe('DATABASE_CONNECTION_LOST');
    expect(afterMs).toBeLessThan(soonMs);
    expect(await isEmpty(target)).toBe(true);
    await expectNextWorks(target);
  });
});

describe('the network', () => {
  it('cut while rows are loaded, leaves a target that says it is unfinished', async () => {
    const { failure, target } = await failDuring('data', async (proxy, into) => {
      await waitForRows(into);
      proxy.cut();
    });
    expect(failure.code).toBe('DATABASE_CONNECTION_LOST');
    await expect(restoreInto(server, target, folder.path)).rejects.toMatchObject({
      code: 'TARGET_UNFINISHED',
    });
    await expectNextWorks(target);
  });

  it.each(['pre-data', 'data', 'post-data'])(
    'silent from phase %s on, fails the restore in bounded time',
    async phase => {
      const { failure, target, afterMs } = await failDuring(phase, proxy => proxy.stall());
      expect(failure.code).toBe('DATABASE_CONNECTION_LOST');
      expect(failure.message).toBe('the server has not answered for 10 s');
      // The answer that does not come, pg_restore that does not listen, a connection to take back that is not made.
      expect(afterMs).toBeLessThan(soonMs);
      await expectNextWorks(target);
    },
  );

  it('silent while rows are loaded in one transaction, fails that, and the tables stay empty', async () => {
    const { failure, target } = await failDuring(
      'data',
      async (proxy, into) => {
        await waitForRows(into);
        proxy.stall();
      },
      { dataOnly: true },
    );
    expect(failure.code).toBe('DATABASE_CONNECTION_LOST');
    await waitFor('the sessions to end', async () => (await ownSessions(server)) === 0);
    await restoreInto(server, target, folder.path, { dataOnly: true });
    await expectSame(server, 'shop', target);
    await server.dropDatabase(target);
  });

  it('slow, delays a restore and does not fail it', async () => {
    await using proxy = await startTcpProxy(server.port, { bytesPerSecond: 200_000 });
    await server.createDatabase('slow');
    await restoreInto(server, 'slow', folder.path, {
      to: `${proxy.through(server.url('slow'))}?connect_timeout=5`,
    });
    await expectSame(server, 'shop', 'slow');
    await server.dropDatabase('slow');
  });
});

it('a statement timeout of the role or the database does not end a restore', async () => {
  await server.createDatabase('limited');
  await psql(server, 'limited', "ALTER DATABASE limited SET statement_timeout = '20ms'");
  await restoreInto(server, 'limited', folder.path);
  await expectSame(server, 'shop', 'limited');
  await server.dropDatabase('limited');
});

it('an interruption while the database is created does not wait for that, and leaves nothing', async () => {
  const stop = new AbortController();
  const holder = psql(server, 'template1', 'SELECT pg_sleep(60)').catch((error: Error) => error.message);
  const creating = `SELECT pid FROM pg_stat_activity WHERE query LIKE 'CREATE DATABASE%interrupted%' AND pid <> pg_backend_pid()`;
  const restore = restoreInto(server, 'interrupted', folder.path, {
    create: true,
    signal: stop.signal,
  }).catch(error => error);
  await waitFor('the database to be created', async () => {
    const [exists, busy] = [
      await psql(server, 'postgres', "SELECT 1 FROM pg_database WHERE datname = 'interrupted'"),
      await psql(server, 'postgres', creating),
    ];
    return exists + busy;
  });
  const askedAt = Date.now();
  stop.abort();
  expect(await restore).toMatchObject({ code: 'INTERRUPTED' });
  expect(Date.now() - askedAt).toBeLessThan(soonMs);
  await waitFor('the session to end', async () => (await psql(server, 'postgres', creating)) === '');
  expect(await psql(server, 'postgres', "SELECT 1 FROM pg_database WHERE datname = 'interrupted'")).toBe('');
  await psql(
    server,
    'postgres',
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(60)%' AND pid <> pg_backend_pid()",
  );
  await holder;
});
