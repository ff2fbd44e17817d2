// A backup that goes easy: fewer workers while others keep the server busy, and a lower priority of its own.

import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { lowerPriority } from '../../src/cli/cpu-priority.ts';
import { checkSetup } from '../../src/operations/check-setup.ts';
import type { CreateBackupOptions, CreateBackupResult } from '../../src/operations/create-backup.ts';
import type { OperationEvent } from '../../src/operations/events.ts';
import { runCli } from '../support/cli-io.ts';
import { expectSame } from '../support/fault-database.ts';
import { startPgkeep } from '../support/pgkeep-process.ts';
import { psql, type Server, startServer } from '../support/postgres-server.ts';
import { descendants, waitFor } from '../support/processes.ts';
import { backUp, restoreInto, testKey } from '../support/round-trip.ts';
import { type ProxyOptions, startTcpProxy } from '../support/tcp-proxy.ts';
import { makeTempFolder, type TempFolder } from '../support/temp-folder.ts';

/** Each is one item of work: beyond the size of tables that share segments, with few rows on many pages. */
const tables = 24;
const slow = 50_000;

let server: Server;

beforeAll(async () => {
  server = await startServer({ version: 18, settings: { log_statement: 'all', log_line_prefix: '%p %u ' } });
  await server.createDatabase('shop');
  await psql(
    server,
    'shop',
    `CREATE ROLE keeper LOGIN IN ROLE pg_read_all_data;
     SELECT format('CREATE TABLE t%s WITH (fillfactor = 10) AS SELECT j AS id,
       (SELECT string_agg(md5((%s + j * k)::text), '''') FROM generate_series(1, 22) AS k) AS text FROM generate_series(1, 150) AS j', i, i)
     FROM generate_series(1, ${tables}) AS i \\gexec`,
  );
});
afterAll(async () => {
  await server[Symbol.asyncDispose]();
});

let groups = 0;

/** Sessions of another role, in another database, that run a statement until they are ended. */
async function busySessions(
  count: number,
  before = 'SELECT 1',
): Promise<AsyncDisposable & { end(): Promise<void> }> {
  const name = `busy ${++groups}`;
  const sessions = await Promise.all(
    Array.from({ length: count }, async () => {
      const session = new pg.Client({ connectionString: server.url('postgres'), application_name: name });
      session.on('error', () => undefined);
      await session.connect();
      await session.query(before);
      session.query('SELECT pg_sleep(3600)').catch(() => undefined);
      return session;
    }),
  );
  const end = async () => {
    await psql(
      server,
      'postgres',
      `SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE application_name = '${name}'`,
    );
    await Promise.all(sessions.map(session => session.end().catch(() => undefined)));
  };
  const waiting = `SELECT count(*) FROM pg_stat_activity WHERE application_name = '${name}' AND wait_event = 'PgSleep'`;
  await waitFor(
    'the sessions to be busy',
    async () => (await psql(server, 'postgres', waiting)).trim() === String(count),
  );
  return { end, [Symbol.asyncDispose]: end };
}

/**
 * Backs up `shop` as the role keeper, so slowly while rows are read that it does not end before `until` has seen what it
 * waits for among the numbers of workers that were reading: each change of them.
 */
async function backUpSlowly(
  repository: TempFolder,
  options: Partial<CreateBackupOptions>,
  until: (readers: readonly (number | 'all')[], warnings: readonly string[]) => boolean,
): Promise<{ result: CreateBackupResult; readers: (number | 'all')[]; warnings: string[] }> {
  const pace: ProxyOptions = {};
  await using proxy = await startTcpProxy(server.port, pace);
  const readers: (number | 'all')[] = ['all'];
  const warnings: string[] = [];
  const onEvent = (event: OperationEvent): void => {
    if (event.type === 'phase' && event.phase === 'data') pace.bytesPerSecond = slow;
    if (event.type === 'warning') warnings.push(event.message);
    if (event.type !== 'progress') return;
    const now = event.heldBack?.workers ?? 'all';
    if (now !== readers.at(-1)) readers.push(now);
    if (until(readers, warnings)) delete pace.bytesPerSecond;
  };
  const database = proxy.through(server.url('shop', 'keeper'));
  const result = await backUp(server, 'shop', repository.path, { database, ...options, onEvent });
  return { result, readers, warnings };
}

async function expectRestores(repository: TempFolder): Promise<void> {
  await restoreInto(server, 'restored', repository.path, { create: true });
  await expectSame(server, 'shop', 'restored');
  await server.dropDatabase('restored');
}

/** How many tables each session has read since the log had so many characters. */
function copiesBySession(logBefore: number): number[] {
  const copies = server
    .log()
    .slice(logBefore)
    .matchAll(/^(\d+) keeper LOG: {2}statement: COPY "\w+"."\w+" \("id"/gm);
  const counts = new Map<string, number>();
  for (const [, pid = ''] of copies) counts.set(pid, (counts.get(pid) ?? 0) + 1);
  return [...counts.values()];
}

/** The report of doctor on what --max-load counts. */
async function checkLoad(maxLoad: number | undefined) {
  await using repository = makeTempFolder('repository');
  const { checks } = await checkSetup({
    database: server.url('shop', 'keeper'),
    environment: { PATH: process.env.PATH },
    programs: server.binDir,
    encryptionKey: testKey,
    repository: repository.path,
    maxLoad,
  });
  return checks.find(({ name }) => name === 'load');
}

describe('a role that does not see what sessions of others do', () => {
  it('is warned once that they are not counted, and by doctor; its own sessions count for nothing', async () => {
    await using repository = makeTempFolder('repository');
    await using _ = await busySessions(2);
    const { result, readers, warnings } = await backUpSlowly(
      repository,
      { maxLoad: 0 },
      (_, warned) => warned.length > 0,
    );
    const warning =
      'the state of 2 other sessions is hidden from the role, and --max-load does not count what is hidden';
    expect(warnings).toEqual([warning]);
    expect(result).toMatchObject({ warnings: [warning], heldBackMs: 0 });
    expect(readers).toEqual(['all']);
    expect(await checkLoad(0)).toEqual({
      name: 'load',
      status: 'warning',
      message:
        'the role keeper does not see whether sessions of other roles are active: --max-load 0 does not count them',
      remedy: 'GRANT pg_read_all_stats TO "keeper"',
    });
    expect(await checkLoad(undefined)).toBeUndefined();
  });
});

describe('a role that sees them', () => {
  beforeAll(async () => {
    await psql(server, 'postgres', 'GRANT pg_read_all_stats TO keeper');
  });

  it('is told by doctor how many are active, and of those that hide it all the same', async () => {
    await using _ = await busySessions(2);
    expect(await checkLoad(4)).toMatchObject({
      status: 'ok',
      message: '2 other sessions active now (--max-load 4)',
    });
    await using _hidden = await busySessions(1, 'SET track_activities = off');
    expect(await checkLoad(4)).toMatchObject({
      status: 'warning',
      message: 'track_activities is off in 1 other session, which --max-load 4 does not count',
      remedy: expect.stringContaining('track_activities'),
    });
  });

  it('reads with one worker fewer from look to look while more are active, and with more again once they are not', async () => {
    await using repository = makeTempFolder('repository');
    await using busy = await busySessions(3);
    let ended: Promise<void> | undefined;
    const { result, readers, warnings } = await backUpSlowly(repository, { jobs: 3, maxLoad: 2 }, seen => {
      if (seen.at(-1) === 1) ended ??= busy.end();
      return seen.length > 1 && seen.at(-1) === 'all';
    });
    expect(readers).toEqual(['all', 2, 1, 2, 'all']);
    expect(result.heldBackMs).toBeGreaterThan(0);
    expect(result.heldBackMs).toBeLessThan(result.durationMs);
    expect(warnings).toEqual([]);
    await ended;
    await expectRestores(repository);
  });

  it('ends the backup with one worker when they stay active for ever', async () => {
    await using repository = makeTempFolder('repository');
    await using _ = await busySessions(1);
    const logBefore = server.log().length;
    const { result, readers } = await backUpSlowly(
      repository,
      { jobs: 2, maxLoad: 0 },
      seen => seen.at(-1) === 1,
    );
    expect(readers).toEqual(['all', 1]);
    expect(result.heldBackMs).toBeGreaterThan(0);
    const copies = copiesBySession(logBefore);
    expect(copies.reduce((sum, count) => sum + count, 0)).toBe(tables);
    expect(Math.max(...copies)).toBeGreaterThan((2 / 3) * tables);
    await expectRestores(repository);
  });

  it('is told that one worker cannot be held back', async () => {
    await using repository = makeTempFolder('repository');
    const { warnings } = await backUp(server, 'shop', repository.path, { jobs: 1, maxLoad: 0 });
    expect(warnings).toEqual(['one worker reads however busy the server is']);
  });
});

describe('--nice', () => {
  /** The nice value of a process or thread. */
  function niceOf(folder: string): number {
    // The name in parentheses may hold anything; what follows begins with the third field, and this is the nineteenth.
    const [, fields = ''] = /.*\) (.*)/s.exec(readFileSync(`${folder}/stat`, 'utf8')) ?? [];
    return Number(fields.split(' ')[16]);
  }

  it('lowers the priority of pgkeep, all its threads and pg_dump, and of no other', async () => {
    await using repository = makeTempFolder('repository');
    const pace: ProxyOptions = { bytesPerSecond: 200_000 };
    await using proxy = await startTcpProxy(server.port, pace);
    const run = startPgkeep(['create', '--nice', '7', '--repository', repository.path], {
      env: {
        DATABASE_URL: proxy.through(server.url('shop')),
        BACKUP_ENCRYPTION_KEY: testKey,
        PGKEEP_PROGRAMS: server.binDir,
      },
    });
    const reading = `SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'pgkeep backup-%' AND query LIKE 'COPY %'`;
    const dump = await waitFor('two workers and pg_dump', async () => {
      if ((await psql(server, 'postgres', reading)).trim() !== '2') return undefined;
      return descendants(run.pid).find(({ command }) => command.includes('--snapshot'));
    });
    const threads = readdirSync(`/proc/${run.pid}/task`);
    expect(threads.length).toBeGreaterThan(3);
    const priorities = threads.map(id => niceOf(`/proc/${run.pid}/task/${id}`));
    expect(new Set(priorities)).toEqual(new Set([7]));
    expect(dump.command).toContain('pg_dump');
    expect(niceOf(`/proc/${dump.pid}`)).toBe(7);
    expect(niceOf('/proc/self')).not.toBe(7);
    delete pace.bytesPerSecond;
    expect(await run.ended).toMatchObject({ exitCode: 0 });
    await expectRestores(repository);
  });

  it('never raises a priority that is lower already', () => {
    const script = `
      const { getPriority, setPriority } = await import('node:os');
      const { lowerPriority } = await import(${JSON.stringify(resolve(import.meta.dirname, '../../src/cli/cpu-priority.ts'))});
      setPriority(12);
      lowerPriority(7, process.platform);
      console.log(getPriority());`;
    const { stdout, stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', script], {
      encoding: 'utf8',
    });
    expect(stdout, stderr).toBe('12\n');
  });

  it.each(['-5', '20', '1.5'])('of %s is refused', async value => {
    const { exitCode, err } = await runCli(['create', `--nice=${value}`]);
    expect(exitCode).toBe(2);
    expect(err).toContain(`--nice: '${value}' is not a whole number from 0 to 19`);
  });

  it('is refused on Windows, which has no such priorities', () => {
    expect(() => lowerPriority(1, 'win32')).toThrow('--nice: Windows has classes of priority');
    lowerPriority(0, 'win32');
  });
});
