// Whatever casts doubt on the earlier backup makes the next one read everything: each test changes rows in a way that
// only the guard in question can see.
import { execFile } from 'node:child_process';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { cp, open, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import pg from 'pg';
import { afterEach, describe, expect, test } from 'vitest';
import type { CreateBackupResult } from '../../src/operations/create-backup.ts';
import { findBackup, Repository } from '../../src/repository/repository.ts';
import { openStorage } from '../../src/storage/open-storage.ts';
import { storeChanged } from '../support/changed-backup.ts';
import { compareDatabases } from '../support/compare-databases.ts';
import {
  psql,
  type Server,
  type ServerOptions,
  startServer,
  startStandby,
  waitForReplay,
} from '../support/postgres-server.ts';
import { waitFor } from '../support/processes.ts';
import { backUp, restoreInto, testKey } from '../support/round-trip.ts';
import { serverAccount } from '../support/server-account.ts';
import { makeTempFolder, type TempFolder } from '../support/temp-folder.ts';

const run = promisify(execFile);
const servers: Server[] = [];
const folders: TempFolder[] = [];

afterEach(async () => {
  for (const server of servers.splice(0).reverse()) await server[Symbol.asyncDispose]();
  for (const folder of folders.splice(0)) await folder.remove();
});

async function start(settings: ServerOptions['settings'] = {}): Promise<Server> {
  const server = await startServer({ settings: { autovacuum: 'off', ...settings }, initdb: [] });
  servers.push(server);
  await server.createDatabase('shop');
  // More than the 64 pages from which on ctids are kept.
  await psql(
    server,
    'shop',
    `CREATE TABLE t (id int, v text); INSERT INTO t SELECT i, md5(i::text) || repeat('.', 40) FROM generate_series(1, 8000) AS i; VACUUM t; CHECKPOINT`,
  );
  return server;
}

function makeRepository(): string {
  const folder = makeTempFolder('repository');
  folders.push(folder);
  return folder.path;
}

let restored = 0;

/** Backs up, restores into the first server and compares with the source. */
async function expectWhole(
  server: Server,
  repository: string,
  options: { fixedPoint?: Server } = {},
): Promise<CreateBackupResult> {
  const backup = await backUp(server, 'shop', repository);
  expect(backup.mismatches).toEqual([]);
  const target = options.fixedPoint ?? server;
  const name = `restored_${++restored}`;
  await restoreInto(target, name, repository, { create: true, backup: backup.id });
  const { differences } = await compareDatabases(server.url('shop'), target.url(name), {
    binDir: server.binDir,
  });
  expect(differences).toEqual([]);
  return backup;
}

/** As many rows go as come, in the places of those that went. */
const replaceRows = `DELETE FROM t WHERE id <= 100; VACUUM t; INSERT INTO t SELECT i, 'another' FROM generate_series(9001, 9100) AS i`;

describe('the server', () => {
  test('has been started anew', async () => {
    const server = await start();
    const repository = makeRepository();
    await backUp(server, 'shop', repository);
    expect((await backUp(server, 'shop', repository)).incremental.parent).not.toBeNull();
    await server.stop();
    await server.start();
    const { incremental } = await expectWhole(server, repository);
    expect(incremental).toMatchObject({
      parent: null,
      withoutParent: 'the server has been started anew since',
      equal: { ranges: 1 },
      stored: { ranges: 0 },
    });
  });

  test('was set back to an earlier state of its files, and other transactions have had the ids since', async () => {
    const server = await start();
    const repository = makeRepository();
    await server.stop();
    const before = makeTempFolder('before');
    folders.push(before);
    await run('cp', ['-a', `${server.dataDir}/.`, before.path]);
    await server.start();
    await psql(server, 'shop', replaceRows);
    await backUp(server, 'shop', repository);
    await server.stop();
    await run('rm', ['-rf', server.dataDir]);
    await cp(before.path, server.dataDir, { recursive: true, preserveTimestamps: true });
    await run('chown', ['-R', '--reference', before.path, server.dataDir]);
    await run('chmod', ['700', server.dataDir]);
    await server.start();
    await psql(
      server,
      'shop',
      replaceRows.replace('another', 'still another').replace('<= 100', 'BETWEEN 201 AND 300'),
    );
    const { incremental } = await expectWhole(server, repository);
    expect(incremental.parent).toBeNull();
  });

  test('crashed, lost transactions that the backup had seen, and used their ids again', async () => {
    const server = await start({ synchronous_commit: 'off' });
    // Nobody flushes WAL that no commit waits for.
    const walWriter = Number(
      await psql(server, 'postgres', "SELECT pid FROM pg_stat_activity WHERE backend_type = 'walwriter'"),
    );
    process.kill(walWriter, 'SIGSTOP');
    const repository = makeRepository();
    const session = new pg.Client({ connectionString: server.url('shop') });
    session.on('error', () => undefined);
    await session.connect();
    await psql(server, 'shop', 'DELETE FROM t WHERE id <= 100; VACUUM t; CHECKPOINT');
    await session.query(`INSERT INTO t SELECT i, 'lost' FROM generate_series(9001, 9100) AS i`);
    const { rows } = await session.query<{ id: string }>('SELECT txid_current() AS id');
    const seen = await backUp(server, 'shop', repository);
    expect(seen.rows).toBe(8000);
    const killed = session.query('SELECT pg_sleep(60)').catch(() => undefined);
    const pid = await backendOf(server, 'SELECT pg_sleep(60)');
    process.kill(pid, 'SIGKILL');
    await killed;
    await waitFor('the crash', () => server.log().includes('terminating any other active server processes'));
    // Stopped as it is, it does not hear that it is to end.
    process.kill(walWriter, 'SIGKILL');
    await waitFor('recovery', async () => (await psql(server, 'shop', 'SELECT 1').catch(() => '')) === '1\n');
    expect(await psql(server, 'shop', 'SELECT count(*) FROM t')).toBe('7900\n');
    await psql(server, 'shop', `INSERT INTO t SELECT i, 'others' FROM generate_series(9001, 9100) AS i`);
    const now = await psql(server, 'shop', 'SELECT max(xmin::text::int) FROM t');
    expect(Number(now)).toBeLessThan(Number(rows[0]?.id) + 1);
    // Past the place in the WAL that the backup noted: that the server has not come as far does not give it away.
    await psql(server, 'shop', 'SELECT pg_switch_wal(); CREATE TABLE more AS SELECT 1');
    const { incremental } = await expectWhole(server, repository);
    expect(incremental.withoutParent).toBe('its server had not flushed its WAL in time');
  });

  test('goes past the end of its 32-bit transaction ids', async () => {
    const server = await start();
    await psql(server, 'postgres', 'UPDATE pg_database SET datallowconn = true');
    await runProgram(
      server,
      'vacuumdb',
      '--all',
      '--freeze',
      '--quiet',
      '-h',
      server.socketDir,
      '-p',
      String(server.port),
      '-U',
      'postgres',
    );
    await server.stop();
    const next = 2 ** 32 - 5_000;
    await runProgram(
      server,
      'pg_resetwal',
      '-f',
      '-x',
      String(next),
      '-u',
      String(next - 10_000),
      server.dataDir,
    );
    // The commit log of ids that were never given out, all in the last of its files.
    await writeFile(join(server.dataDir, 'pg_xact', '0FFF'), Buffer.alloc(256 * 1024));
    await run('chown', ['--reference', server.dataDir, join(server.dataDir, 'pg_xact', '0FFF')]);
    await server.start();
    const repository = makeRepository();
    // Frozen rows keep the xmin they had, which could be of after the end: those are read once more, so others here.
    await psql(
      server,
      'shop',
      'CREATE TABLE again AS SELECT * FROM t; DROP TABLE t; ALTER TABLE again RENAME TO t',
    );
    const first = await expectWhole(server, repository);
    await psql(server, 'shop', `UPDATE t SET v = 'before the end' WHERE id % 97 = 0`);
    await psql(
      server,
      'shop',
      'CREATE TABLE used (id int); DO $$ BEGIN FOR i IN 1..6000 LOOP BEGIN INSERT INTO used VALUES (i); EXCEPTION WHEN OTHERS THEN NULL; END; END LOOP; END $$; DROP TABLE used',
    );
    await psql(
      server,
      'shop',
      `UPDATE t SET v = 'after the end' WHERE id % 97 = 1; DELETE FROM t WHERE id % 97 = 2`,
    );
    expect(
      Number(await psql(server, 'shop', 'SELECT pg_snapshot_xmin(pg_current_snapshot())')),
    ).toBeGreaterThan(2 ** 32);
    const second = await expectWhole(server, repository);
    expect(second.incremental).toMatchObject({ parent: first.id, deltas: { ranges: 1, rows: 165 } });
    expect((await expectWhole(server, repository)).incremental).toMatchObject({ unread: { ranges: 1 } });
  });
});

describe('transactions that the earlier backup did not see,', () => {
  test('open while it was taken, and prepared ones, come with the next', async () => {
    const server = await start({ max_prepared_transactions: '5' });
    const repository = makeRepository();
    const open = new pg.Client({ connectionString: server.url('shop') });
    await open.connect();
    await open.query(
      `BEGIN; UPDATE t SET v = 'open' WHERE id = 1; SAVEPOINT a; DELETE FROM t WHERE id = 2; RELEASE a`,
    );
    await psql(
      server,
      'shop',
      `BEGIN; UPDATE t SET v = 'prepared' WHERE id = 3; INSERT INTO t VALUES (9001, 'prepared'); PREPARE TRANSACTION 'p'`,
    );
    // Later ids that have ended.
    await psql(server, 'shop', `UPDATE t SET v = 'ended' WHERE id = 4; INSERT INTO t VALUES (9002, 'ended')`);
    const first = await expectWhole(server, repository);
    await psql(server, 'shop', `COMMIT PREPARED 'p'`);
    await open.query('COMMIT');
    await open.end();
    const { incremental } = await expectWhole(server, repository);
    // The two that had ended come again: their ids are above the open one's.
    expect(incremental).toMatchObject({ parent: first.id, deltas: { ranges: 1, rows: 5 } });
  });
});

describe('another server', () => {
  test('has taken over: a standby that had not received all', async () => {
    const primary = await start();
    const repository = makeRepository();
    const standby = await startStandby(primary);
    servers.push(standby);
    await waitForReplay(standby, primary);
    await psql(standby, 'shop', 'SELECT pg_wal_replay_pause()');
    await psql(primary, 'shop', replaceRows);
    await backUp(primary, 'shop', repository);
    await primary.stop('immediate');
    await psql(standby, 'postgres', 'SELECT pg_wal_replay_resume()').catch(() => undefined);
    await psql(standby, 'shop', 'SELECT pg_promote()');
    await psql(standby, 'shop', `UPDATE t SET v = 'after the failover' WHERE id <= 100`);
    const { incremental } = await expectWhole(standby, repository);
    expect(incremental.parent).toBeNull();
  });

  test('is a standby of the first, or the other way round', async () => {
    const primary = await start();
    const repository = makeRepository();
    const standby = await startStandby(primary);
    servers.push(standby);
    await backUp(primary, 'shop', repository);
    await psql(primary, 'shop', replaceRows);
    await waitForReplay(standby, primary);
    const onStandby = await expectWhole(standby, repository, { fixedPoint: primary });
    expect(onStandby.incremental).toMatchObject({ parent: null, withoutParent: 'it is of another server' });
    await psql(primary, 'shop', `UPDATE t SET v = 'since' WHERE id % 97 = 0`);
    await waitForReplay(standby, primary);
    const again = await expectWhole(standby, repository, { fixedPoint: primary });
    expect(again.incremental).toMatchObject({ parent: onStandby.id, deltas: { ranges: 1 } });
    const back = await expectWhole(primary, repository);
    expect(back.incremental.parent).not.toBe(again.id);
  });

  test('is a copy of the first, and both have gone on', async () => {
    const server = await start();
    const repository = makeRepository();
    await server.stop();
    const copy = await startServer({ settings: { autovacuum: 'off' }, initdb: [] });
    servers.push(copy);
    await copy.stop();
    await run('rm', ['-rf', copy.dataDir]);
    await run('cp', ['-a', server.dataDir, copy.dataDir]);
    await server.start();
    await copy.start();
    await psql(server, 'shop', replaceRows);
    await psql(copy, 'shop', replaceRows.replace('another', 'the copy'));
    await backUp(server, 'shop', repository);
    const { incremental } = await expectWhole(copy, repository);
    expect(incremental.parent).toBeNull();
  });
});

test.each([
  ['', false],
  [' and with its oid', true],
])('a database made anew under the name of another%s is another one', async (_, withOid) => {
  const server = await start();
  const repository = makeRepository();
  await server.cloneDatabase('shop', 'kept');
  await psql(server, 'shop', `UPDATE t SET v = 'not in the copy' WHERE id = 5`);
  await backUp(server, 'shop', repository);
  const oid = (await psql(server, 'postgres', `SELECT oid FROM pg_database WHERE datname = 'shop'`)).trim();
  await server.dropDatabase('shop');
  await psql(server, 'postgres', `CREATE DATABASE shop TEMPLATE kept ${withOid ? `OID = ${oid}` : ''}`);
  const { incremental } = await expectWhole(server, repository);
  expect(incremental.withoutParent).toBe('it is of another database of this name, or this one was altered');
});

test('a table that is no heap is read each time', async () => {
  const server = await start();
  const repository = makeRepository();
  await psql(
    server,
    'shop',
    'CREATE ACCESS METHOD other TYPE TABLE HANDLER heap_tableam_handler; CREATE TABLE o USING other AS SELECT * FROM t; DROP TABLE t',
  );
  await backUp(server, 'shop', repository);
  const { incremental } = await expectWhole(server, repository);
  expect(incremental).toMatchObject({ unread: { ranges: 0 }, deltas: { ranges: 0 }, equal: { ranges: 1 } });
});

describe('an earlier backup that cannot be read any more', () => {
  /** The range's segments: of its text, and of the ctids. */
  async function segmentsOf(repository: string, backup: string) {
    const storage = await openStorage(repository);
    const opened = await Repository.open(storage, testKey);
    const manifest = await opened.readManifest(await findBackup(storage, backup));
    await storage.close();
    const [range] = manifest.tables[0]?.ranges ?? [];
    return { text: range?.slices[0]?.id ?? '', ctids: range?.ctids?.[0]?.id ?? '' };
  }

  test.each([
    { of: 'ctids', options: {} },
    { of: 'ctids', options: { verifyIncremental: true } },
    { of: 'text', options: { verifyIncremental: true } },
  ] as const)(
    'in its $of is done without, with %o, and what is damaged is stored again',
    async ({ of, options }) => {
      const server = await start();
      const repository = makeRepository();
      const first = await backUp(server, 'shop', repository);
      const id = (await segmentsOf(repository, first.id))[of];
      const file = join(repository, 'segments', id.slice(0, 2), id);
      const bytes = readFileSync(file);
      bytes[100] = (bytes[100] ?? 0) ^ 1;
      rmSync(file);
      writeFileSync(file, bytes);
      await psql(server, 'shop', 'DELETE FROM t WHERE id = 5');
      const warnings: string[] = [];
      const second = await backUp(server, 'shop', repository, {
        ...options,
        onEvent: event => event.type === 'warning' && warnings.push(event.message),
      });
      expect(warnings.join()).toContain(`${id} is damaged`);
      expect(second).toMatchObject({
        mismatches: [],
        incremental: { parent: first.id, deltas: { ranges: 0 } },
      });
      await psql(server, 'shop', 'DELETE FROM t WHERE id = 6');
      const third = await expectWhole(server, repository);
      expect(third.incremental).toMatchObject({ parent: second.id, deltas: { ranges: 1 } });
    },
  );
});

test('a page that cannot be read ends the backup by its name, though what was asked for ahead of it fails as well', async () => {
  // So few buffers that reading another table leaves none of the pages that are damaged below.
  const server = await start({ shared_buffers: '1MB' });
  await psql(
    server,
    'shop',
    `CREATE TABLE large (id int, v text) WITH (autovacuum_enabled = off);
     INSERT INTO large SELECT i, repeat('.', 900) FROM generate_series(1, 30000) AS i;
     CREATE TABLE other AS SELECT * FROM large; VACUUM large; VACUUM other; CHECKPOINT`,
  );
  const repository = makeRepository();
  await backUp(server, 'shop', repository, { jobs: 1 });
  expect((await backUp(server, 'shop', repository, { jobs: 1 })).incremental.parent).not.toBeNull();
  // In the first range rows have gone and come, so that it is looked at, compared and read: two questions after the look.
  await psql(
    server,
    'shop',
    `DELETE FROM large WHERE id <= 50; VACUUM large; INSERT INTO large SELECT i, 'new' FROM generate_series(1, 50) AS i;
     CHECKPOINT`,
  );
  const file = (await psql(server, 'shop', "SELECT pg_relation_filepath('large')")).trim();
  const pages = await open(join(server.dataDir, file), 'r+');
  await pages.write(Buffer.alloc(8192, 0xff), 0, 8192, 1500 * 8192);
  await pages.close();
  await psql(server, 'shop', 'SELECT sum(length(v)) FROM other; SELECT sum(length(v)) FROM other');
  await expect(backUp(server, 'shop', repository, { jobs: 1 })).rejects.toMatchObject({
    code: 'DATABASE_QUERY',
    message: expect.stringMatching(/reading table "public"\."large".*invalid page in block 1500/s),
  });
  expect(server.log().match(/ERROR: .*invalid page in block 1500/g)).toHaveLength(1);
});

test.each(['t', 'u'])(
  'a segment that several tables need and that is damaged is found out by a change of %s, and serves none of them any more',
  async changed => {
    const server = await start();
    const repository = makeRepository();
    await psql(server, 'shop', 'CREATE TABLE u AS SELECT * FROM t');
    await backUp(server, 'shop', repository, { jobs: 1 });
    await psql(server, 'shop', `UPDATE t SET v = 'one' WHERE id = 5; UPDATE u SET v = 'two' WHERE id = 6`);
    const second = await backUp(server, 'shop', repository, { jobs: 1 });
    const storage = await openStorage(repository);
    const opened = await Repository.open(storage, testKey);
    const { tables } = await opened.readManifest(await findBackup(storage, second.id));
    await storage.close();
    const deltas = tables.map(({ ranges }) => ranges?.[0]?.slices.at(-1)?.id);
    expect(new Set(deltas).size).toBe(1);
    const id = deltas[0] ?? '';
    const file = join(repository, 'segments', id.slice(0, 2), id);
    const bytes = readFileSync(file);
    // Of the size and with the header that it had: only who reads it can tell.
    bytes[bytes.length - 1] = (bytes.at(-1) ?? 0) ^ 1;
    rmSync(file);
    writeFileSync(file, bytes);
    await psql(server, 'shop', `DELETE FROM ${changed} WHERE id = 7`);
    const third = await expectWhole(server, repository);
    expect(third.incremental).toMatchObject({ parent: second.id, unread: { ranges: 0 } });
  },
);

test('there is nothing to compare with when everything is to be read anyhow, or there is no earlier backup', async () => {
  const server = await start();
  const repository = makeRepository();
  await expect(
    backUp(server, 'shop', repository, { full: true, verifyIncremental: true }),
  ).rejects.toMatchObject({ code: 'OPTION_INVALID' });
  const { warnings } = await backUp(server, 'shop', repository, { verifyIncremental: true });
  expect(warnings.join()).toContain('there is nothing to compare with');
});

/**
 * What no guard can see, such as a server resumed from a copy of its memory: rows from after a backup look old.
 * @returns the backup that they look older than.
 */
async function makeRowsLookOld(server: Server, repository: string, backup: string): Promise<string> {
  const xids = (await psql(server, 'shop', 'SELECT pg_current_snapshot()')).trim();
  return storeChanged(repository, backup, async ({ snapshot }) => ({ snapshot: { ...snapshot, xids } }));
}

describe('rows that do not follow from the earlier backup', () => {
  test.each([
    ['with ctids', ''],
    ['without', 'DELETE FROM t WHERE id > 500; VACUUM FULL t'],
  ])('make it read everything, and say so, in a range %s', async (_, before) => {
    const server = await start();
    const repository = makeRepository();
    await psql(server, 'shop', before);
    const { id } = await backUp(server, 'shop', repository);
    await psql(server, 'shop', `INSERT INTO t SELECT i, 'young' FROM generate_series(9001, 9010) AS i`);
    await makeRowsLookOld(server, repository, id);
    const warnings: string[] = [];
    const backup = await backUp(server, 'shop', repository, {
      onEvent: event => event.type === 'warning' && warnings.push(event.message),
    });
    const message = '"public"."t" has 10 old rows that the earlier backup does not know';
    expect(backup.mismatches).toEqual([message]);
    expect(warnings).toEqual([`${message}: everything is read again`]);
    expect(backup.incremental).toMatchObject({ parent: null, stored: { ranges: 1 } });
    await expectWhole(server, repository);
  });

  test.each([
    ['when asked to read everything too', { verifyIncremental: true }],
    ['when everything was last read too long ago', { fullEveryMs: 0 }],
  ])('are told of %s, though there are as many of them', async (_, options) => {
    const server = await start();
    const repository = makeRepository();
    const { id } = await backUp(server, 'shop', repository);
    await psql(server, 'shop', replaceRows);
    const parent = await makeRowsLookOld(server, repository, id);
    const wrong = await backUp(server, 'shop', repository);
    expect(wrong.incremental.withoutParent).toBeUndefined();
    expect(wrong).toMatchObject({ mismatches: [], incremental: { parent, unread: { ranges: 1 } } });
    const checked = await backUp(server, 'shop', repository, options);
    expect(checked.mismatches).toEqual([
      'range 0 of "public"."t" has 8000 rows that are not the 8000 which follow from the earlier backup',
    ]);
    expect(Date.parse(checked.incremental.fullReadAt)).toBeGreaterThanOrEqual(Date.parse(checked.startedAt));
    const after = await expectWhole(server, repository);
    expect(after.incremental).toMatchObject({ parent: checked.id, unread: { ranges: 1 } });
  });
});

async function runProgram(server: Server, program: string, ...args: string[]): Promise<void> {
  await run(join(server.binDir, program), args, serverAccount().ids);
}

/** The process that runs a statement. */
async function backendOf(server: Server, query: string): Promise<number> {
  const pid = await waitFor(`a session that runs ${query}`, async () =>
    (await psql(server, 'postgres', `SELECT pid FROM pg_stat_activity WHERE query = '${query}'`)).trim(),
  );
  return Number(pid);
}
