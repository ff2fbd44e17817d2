// A run that ends before its time: kill -9 at every stage, Ctrl-C, a request to end.

import { chmodSync, existsSync, readdirSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { listBackups } from '../../src/operations/list-backups.ts';
import type { DyingCreate } from '../support/dying-create.ts';
import { expectSame, makeFaultDatabase, ownSessions } from '../support/fault-database.ts';
import { startModule, startPgkeep } from '../support/pgkeep-process.ts';
import { psql, type Server, startServer } from '../support/postgres-server.ts';
import { descendants, isRunning, waitFor } from '../support/processes.ts';
import { backUp, restoreInto, testKey } from '../support/round-trip.ts';
import { startTcpProxy } from '../support/tcp-proxy.ts';
import { makeTempFolder, type TempFolder } from '../support/temp-folder.ts';

/** Well within the minute that a backup waits for a lock, or leaves others waiting. */
const soonMs = 40_000;

let server: Server;

beforeAll(async () => {
  server = await startServer();
  await makeFaultDatabase(server, 'shop');
  await server.createDatabase('old');
  await psql(server, 'old', 'CREATE TABLE kept AS SELECT 1 AS n');
});
afterAll(async () => {
  await server[Symbol.asyncDispose]();
});

/** A repository that holds one backup, of another database: nothing of it can be shared. */
async function repositoryWithOld(): Promise<TempFolder & { oldId: string }> {
  const folder = makeTempFolder('repository');
  const { id } = await backUp(server, 'old', folder.path);
  return { ...folder, oldId: id };
}

async function expectOnlyOld(repository: TempFolder & { oldId: string }, restored: string): Promise<void> {
  const listed = await listBackups({ repository: repository.path });
  expect(listed.map(backup => backup.id)).toEqual([repository.oldId]);
  await restoreInto(server, restored, repository.path, { create: true });
  await expectSame(server, 'old', restored);
  await server.dropDatabase(restored);
}

async function dieAt(repository: TempFolder, where: Omit<DyingCreate, 'options'>): Promise<void> {
  const options: DyingCreate['options'] = {
    database: server.url('shop'),
    repository: repository.path,
    encryptionKey: testKey,
    programs: server.binDir,
  };
  const script = resolve(import.meta.dirname, '../support/dying-create.ts');
  const { signal, err } = await startModule(script, { options, ...where }).ended;
  expect({ signal, err }).toEqual({ signal: 'SIGKILL', err: '' });
}

async function expectNextRunReuses(repository: TempFolder, restored: string, leastSegments: number) {
  const backup = await backUp(server, 'shop', repository.path);
  expect(backup.reusedSegments).toBeGreaterThanOrEqual(leastSegments);
  expect(backup.reusedBytes).toBeGreaterThan(0);
  await restoreInto(server, restored, repository.path, { create: true });
  await expectSame(server, 'shop', restored);
  await server.dropDatabase(restored);
}

async function expectNothingLeft(children: readonly number[]): Promise<void> {
  await waitFor('the programs to end', () => !children.some(isRunning), soonMs);
  await waitFor('the sessions to end', async () => (await ownSessions(server)) === 0, soonMs);
}

describe('killed with kill -9', () => {
  // Three segments of rows at least, and two of the schema archive, which is another each time.
  it.each([
    { name: 'segments/', nth: 4, when: 'after', least: 2 },
    { name: 'backups/', nth: 1, when: 'before', least: 3 },
    { name: 'metadata/', nth: 1, when: 'before', least: 3 },
  ] as const)(
    '$when storing $name… ($nth), leaves the old backups and no half one, and the next run uses what is there',
    async ({ least, ...where }) => {
      await using repository = await repositoryWithOld();
      await dieAt(repository, where);
      await expectNothingLeft([]);
      await expectOnlyOld(repository, 'restored');
      await expectNextRunReuses(repository, 'restored', least);
    },
  );

  it('when the metadata was stored, has made a whole backup', async () => {
    await using repository = await repositoryWithOld();
    await dieAt(repository, { name: 'metadata/', nth: 1, when: 'after' });
    expect((await listBackups({ repository: repository.path })).length).toBe(2);
    await restoreInto(server, 'restored', repository.path, { create: true, sourceDatabase: 'shop' });
    await expectSame(server, 'shop', 'restored');
    await server.dropDatabase('restored');
  });

  it('while pg_dump waits for a lock, leaves neither pg_dump nor locks behind', async () => {
    await using repository = await repositoryWithOld();
    await using programs = heldPgDump(server);
    const run = startPgkeep(['create', '--repository', repository.path, '--programs', programs.path], {
      env: { DATABASE_URL: server.url('shop'), BACKUP_ENCRYPTION_KEY: testKey },
    });
    await waitFor('pg_dump', () => descendants(run.pid).find(child => child.command.includes('--snapshot')));
    // The workers have ended, and nobody but pg_dump will ask for a lock.
    await waitFor('the rows', async () => countSegments(repository) > 2 && (await ownSessions(server)) === 2);
    const client = new pg.Client(server.url('shop'));
    await client.connect();
    try {
      const altered = client.query(
        'ALTER TABLE small ADD COLUMN later integer; ALTER TABLE small DROP COLUMN later',
      );
      await waitFor(
        'the DDL to queue',
        async () => (await psql(server, 'shop', 'SELECT count(*) FROM pg_locks WHERE NOT granted')) === '1\n',
      );
      programs.release();
      await waitFor(
        'pg_dump to queue',
        async () => (await psql(server, 'shop', 'SELECT count(*) FROM pg_locks WHERE NOT granted')) === '2\n',
      );
      const children = descendants(run.pid).map(child => child.pid);
      expect(children.length).toBeGreaterThan(0);
      run.kill('SIGKILL');
      await run.ended;
      await altered;
      await expectNothingLeft(children);
    } finally {
      await client.end();
    }
    await expectOnlyOld(repository, 'restored');
    await expectNextRunReuses(repository, 'restored', 1);
  });

  it('while it waits for a lock itself, gives back those it holds long before the lock timeout', async () => {
    await using repository = await repositoryWithOld();
    const client = new pg.Client(server.url('shop'));
    await client.connect();
    try {
      await client.query('BEGIN; LOCK TABLE small IN ACCESS EXCLUSIVE MODE');
      const run = startPgkeep(['create', '--repository', repository.path, '--programs', server.binDir], {
        env: { DATABASE_URL: server.url('shop'), BACKUP_ENCRYPTION_KEY: testKey },
      });
      await waitFor(
        'the backup to queue',
        async () => (await psql(server, 'shop', 'SELECT count(*) FROM pg_locks WHERE NOT granted')) === '1\n',
      );
      run.kill('SIGKILL');
      await run.ended;
      await expectNothingLeft([]);
    } finally {
      await client.end();
    }
  });
});

describe('asked to end', () => {
  it('by SIGINT during create, ends with 130 and leaves nothing that shows', async () => {
    await using repository = await repositoryWithOld();
    await using programs = heldPgDump(server);
    const run = startPgkeep(['create', '--repository', repository.path, '--programs', programs.path], {
      env: { DATABASE_URL: server.url('shop'), BACKUP_ENCRYPTION_KEY: testKey },
    });
    await waitFor('pg_dump', () => descendants(run.pid).find(child => child.command.includes('--snapshot')));
    await waitFor('a segment', () => countSegments(repository) > 0);
    const children = descendants(run.pid).map(child => child.pid);
    run.kill('SIGINT');
    const { exitCode, out, err } = await run.ended;
    expect(exitCode).toBe(130);
    expect(out).toBe('');
    expect(err).toContain('[INTERRUPTED]');
    await expectNothingLeft(children);
    await expectOnlyOld(repository, 'restored');
  });

  it('by SIGTERM while waiting for a lock, ends without waiting on', async () => {
    await using repository = makeTempFolder('repository');
    const client = new pg.Client(server.url('shop'));
    await client.connect();
    try {
      await client.query('BEGIN; LOCK TABLE small IN ACCESS EXCLUSIVE MODE');
      const target = join(repository.path, 'new');
      const run = startPgkeep(['create', '--repository', target, '--programs', server.binDir], {
        env: { DATABASE_URL: server.url('shop'), BACKUP_ENCRYPTION_KEY: testKey },
      });
      await waitFor(
        'the backup to queue',
        async () => (await psql(server, 'shop', 'SELECT count(*) FROM pg_locks WHERE NOT granted')) === '1\n',
      );
      const asked = Date.now();
      run.kill('SIGTERM');
      const { exitCode, err } = await run.ended;
      expect(Date.now() - asked).toBeLessThan(soonMs);
      expect(err).toContain('[INTERRUPTED]');
      expect(exitCode).toBe(130);
      expect(existsSync(target)).toBe(false);
      await expectNothingLeft([]);
    } finally {
      await client.end();
    }
  });

  it('by SIGTERM during restore, ends with 130 and leaves the server as it was', async () => {
    await using repository = makeTempFolder('repository');
    await backUp(server, 'shop', repository.path);
    await server.createDatabase('empty');
    await using temporary = makeTempFolder('tmp');
    const before = await databases();
    for (const database of ['made', 'empty']) {
      // More than pg_restore sends, and less than the rows: they do not end before the signal.
      await using proxy = await startTcpProxy(server.port, { holdAfterSentBytes: 1_000_000 });
      const to = ['--to', proxy.through(server.url(database))];
      const into = database === 'made' ? ['--create', ...to] : to;
      const words = ['restore', 'latest', '--repository', repository.path, '--programs', server.binDir];
      const run = startPgkeep([...words, ...into], {
        env: { BACKUP_ENCRYPTION_KEY: testKey, TMPDIR: temporary.path },
      });
      await waitFor('a session that loads', async () => {
        const sql = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'COPY %FROM STDIN%'";
        return Number(await psql(server, 'postgres', sql)) > 0;
      });
      const children = descendants(run.pid).map(child => child.pid);
      run.kill('SIGTERM');
      proxy.release();
      const { exitCode, err } = await run.ended;
      expect(err).toContain('[INTERRUPTED]');
      expect(exitCode).toBe(130);
      await expectNothingLeft(children);
      expect(await databases()).toBe(before);
    }
    await server.dropDatabase('empty');
    // Where the schema archive was meanwhile.
    // Node keeps its compile cache there.
    expect(readdirSync(temporary.path).filter(name => name !== 'node-compile-cache')).toEqual([]);
  });
});

it('ends at once at the second signal', async () => {
  await using repository = makeTempFolder('repository');
  // Deaf to SIGTERM: the first signal alone would wait for it.
  await using programs = heldPgDump(server, "trap '' TERM");
  const run = startPgkeep(['create', '--repository', repository.path, '--programs', programs.path], {
    env: { DATABASE_URL: server.url('shop'), BACKUP_ENCRYPTION_KEY: testKey },
  });
  await waitFor('pg_dump', () => descendants(run.pid).find(child => child.command.includes('--snapshot')));
  const children = descendants(run.pid).map(child => child.pid);
  run.kill('SIGINT');
  await waitFor('the answer', () => run.err().includes('second Ctrl-C'));
  run.kill('SIGINT');
  const { exitCode } = await run.ended;
  expect(exitCode).toBe(130);
  // It has not waited for what the first signal would have had to kill.
  expect(children.some(isRunning)).toBe(true);
  programs.release();
  await expectNothingLeft(children);
  expect(await listBackups({ repository: repository.path })).toEqual([]);
});

async function databases(): Promise<string> {
  const names = await psql(server, 'postgres', 'SELECT datname FROM pg_database ORDER BY 1');
  const contents = await psql(
    server,
    'empty',
    "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace",
  );
  const objects = await psql(server, 'empty', 'SELECT count(*) FROM pg_largeobject_metadata');
  return names + contents + objects;
}

function countSegments(repository: TempFolder): number {
  const names = readdirSync(repository.path, { recursive: true }).map(String);
  return names.filter(name => /^segments\/..\/[0-9a-f]{64}$/.test(name)).length - 2;
}

/** A folder of programs whose pg_dump waits, before it begins, until it is released. */
function heldPgDump(of: Server, first = ':'): TempFolder & { release(): void } {
  const folder = makeTempFolder('programs');
  const gate = join(folder.path, 'go');
  const waiting = `case "$*" in *--snapshot*) ${first}; while [ ! -e '${gate}' ]; do [ -d '${folder.path}' ] || exit 1; sleep 0.05; done;; esac`;
  writeScript(join(folder.path, 'pg_dump'), `${waiting}\nexec '${join(of.binDir, 'pg_dump')}' "$@"`);
  writeScript(join(folder.path, 'pg_restore'), `exec '${join(of.binDir, 'pg_restore')}' "$@"`);
  return { ...folder, release: () => writeFileSync(gate, '') };
}

function writeScript(file: string, text: string): void {
  writeFileSync(file, `#!/bin/sh\n${text}\n`);
  chmodSync(file, 0o755);
}
