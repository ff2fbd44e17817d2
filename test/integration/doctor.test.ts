// `pgkeep doctor` against what it is to find: real servers, poolers, roles and storages that lack something.

import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { runProgram } from '../../src/base/child-process.ts';
import { type CheckSetupOptions, checkSetup } from '../../src/operations/check-setup.ts';
import { serverProgramFailure } from '../../src/postgres/server-error.ts';
import { startPgbouncer } from '../support/pgbouncer.ts';
import { psql, type Server, startServer, startStandby, waitForReplay } from '../support/postgres-server.ts';
import { backUp, testKey } from '../support/round-trip.ts';
import { startTcpProxy } from '../support/tcp-proxy.ts';
import { makeTempFolder } from '../support/temp-folder.ts';

let server: Server;
const folder = makeTempFolder('doctor');

beforeAll(async () => {
  server = await startServer({ settings: { max_locks_per_transaction: '10', max_connections: '20' } });
  await server.createDatabase('shop');
  await psql(server, 'shop', 'CREATE TABLE t AS SELECT 1 AS n');
});
afterAll(async () => {
  await server[Symbol.asyncDispose]();
  await folder.remove();
});

/** The report by the names of its checks. */
async function check(options: Partial<CheckSetupOptions> = {}) {
  const result = await checkSetup({
    database: server.url('shop'),
    environment: { PATH: process.env.PATH },
    programs: server.binDir,
    encryptionKey: testKey,
    repository: join(folder.path, 'repository'),
    ...options,
  });
  const byName = Object.fromEntries(result.checks.map(found => [found.name, found]));
  expect(Object.keys(byName).sort()).toEqual(everyCheck);
  expect(result.ok).toBe(result.checks.every(({ status }) => status !== 'failure'));
  // Whatever fails says what to do about it; only what follows from it is skipped.
  for (const { status, remedy, name } of result.checks)
    if (status === 'warning' || status === 'failure') expect(remedy, name).toBeTruthy();
  return byName;
}

const everyCheck = [
  'node',
  'files',
  'pg_dump',
  'pg_restore',
  'psql',
  'database',
  'tls',
  'server-version',
  'program-versions',
  'pooler',
  'server-clock',
  'standby',
  'time-limits',
  'connections',
  'tables',
  'row-security',
  'locks',
  'large-objects',
  'roles',
  'subscriptions',
  'repository',
  'key',
  'storage',
  'storage-clock',
  'free-space',
  'newest-backup',
].sort();

test('where everything is in order, only the first backup is missing, and then nothing', async () => {
  const repository = join(folder.path, 'good');
  const before = await check({ repository });
  expect(Object.values(before).filter(({ status }) => status !== 'ok')).toMatchObject([
    { name: 'newest-backup', status: 'warning', remedy: 'pgkeep create' },
  ]);
  const { id } = await backUp(server, 'shop', repository);
  const after = await check({ repository });
  expect(Object.values(after).filter(({ status }) => status !== 'ok')).toEqual([]);
  expect(after['newest-backup']?.message).toContain(id);
  // Of what it tried the storage with nothing is left.
  expect(existsSync(join(repository, 'probe'))).toBe(false);
});

test('what an earlier doctor left when it was killed is removed once it is a day old', async () => {
  const repository = join(folder.path, 'probes');
  const probes = join(repository, 'probe');
  const [old, young] = ['1-00000000', '2-11111111'];
  for (const name of [old, young]) {
    mkdirSync(join(probes, name), { recursive: true });
    writeFileSync(join(probes, name, 'first'), 'probe');
  }
  utimesSync(join(probes, old, 'first'), 1, 1);
  await check({ repository });
  expect(readdirSync(probes)).toEqual([young]);
});

describe('without a database', () => {
  test('everything else is checked', async () => {
    const none = await check({ database: undefined });
    expect(none.database).toMatchObject({
      status: 'failure',
      remedy: expect.stringContaining('DATABASE_URL'),
    });
    const dead = await check({ database: 'postgres://user:hunter2@127.0.0.1:1/shop' });
    expect(dead.database).toMatchObject({ status: 'failure' });
    expect(dead.pooler).toMatchObject({
      status: 'skipped',
      message: expect.stringContaining('no connection'),
    });
    for (const name of ['node', 'pg_dump', 'repository', 'key', 'storage'])
      expect(dead[name]?.status).toBe('ok');
    expect(JSON.stringify(dead)).not.toContain('hunter2');
  });

  test('a server that takes the connection and then is silent does not hold it up', async () => {
    await using proxy = await startTcpProxy(server.port);
    proxy.stall();
    const startedAt = Date.now();
    const found = await check({ database: proxy.through(`${server.url('shop')}?connect_timeout=2`) });
    expect(found.database).toMatchObject({ status: 'failure' });
    expect(Date.now() - startedAt).toBeLessThan(60_000);
  });
});

test('a connection that is lost half-way ends the checks behind it, and no others', async () => {
  await using undisturbed = await startTcpProxy(server.port);
  await check({ database: undisturbed.through(server.url('shop')) });
  const resetAfterReceivedBytes = Math.floor(undisturbed.receivedBytes / 2);
  await using proxy = await startTcpProxy(server.port, { resetAfterReceivedBytes });
  const found = await check({ database: proxy.through(server.url('shop')) });
  const lost = Object.values(found).filter(
    ({ message }) => message === 'not checked: the connection was lost',
  );
  expect(lost.length).toBeGreaterThan(5);
  // The check under way, and the pooler's, which opens a connection of its own.
  const failed = Object.values(found).filter(({ status }) => status === 'failure');
  expect([1, 2]).toContain(failed.length);
  expect(found.storage).toMatchObject({ status: 'ok' });
});

describe('a pooler', () => {
  test.each([
    ['session', 10, 'warning'],
    ['transaction', 10, 'failure'],
    ['transaction', 2, 'failure'],
    ['transaction', 1, 'failure'],
    ['statement', 10, 'failure'],
  ] as const)('in %s mode with %i connections is a %s', async (mode, poolSize, status) => {
    await using pooler = await startPgbouncer(server, mode, poolSize);
    const { pooler: found, database } = await check({ database: pooler.through(server.url('shop')) });
    expect(database?.status).toBe('ok');
    expect(found).toMatchObject({ status });
    expect(found?.message).toContain(`a pooler in ${mode === 'session' ? 'session' : 'transaction'} mode`);
  });

  test('that has but one session to give lets nothing hang', async () => {
    await using pooler = await startPgbouncer(server, 'session', 1);
    const found = await check({ database: `${pooler.through(server.url('shop'))}?connect_timeout=3` });
    expect(found.pooler).toMatchObject({ status: 'failure' });
    expect(found.storage).toMatchObject({ status: 'ok' });
  });
});

describe('the role', () => {
  test('is told what it may not read, each with the statement that lets it', async () => {
    await server.createDatabase('guarded');
    await psql(
      server,
      'guarded',
      `CREATE ROLE "The reader" LOGIN; CREATE TABLE secret (id serial); CREATE TABLE hidden AS SELECT 1 AS n;
       ALTER TABLE hidden ENABLE ROW LEVEL SECURITY; GRANT SELECT ON hidden TO "The reader";
       SELECT lo_from_bytea(77, '\\x00'); ALTER ROLE "The reader" SET statement_timeout = '200ms'`,
    );
    const reader = { database: server.url('guarded', 'The reader') };
    const found = await check(reader);
    expect(found.tables).toMatchObject({
      status: 'failure',
      message: 'the role may not read public.secret, public.secret_id_seq',
      remedy: expect.stringContaining('GRANT pg_read_all_data TO "The reader"'),
    });
    expect(found['row-security']).toMatchObject({
      status: 'failure',
      message: expect.stringContaining('public.hidden'),
      remedy: expect.stringContaining('ALTER ROLE "The reader" BYPASSRLS'),
    });
    expect(found['large-objects']).toMatchObject({
      status: 'failure',
      remedy: expect.stringContaining('GRANT SELECT ON LARGE OBJECT 77 TO "The reader"'),
    });
    expect(found['time-limits']).toMatchObject({
      status: 'warning',
      message: expect.stringContaining('200 ms'),
    });
    // What the lines say does mend it.
    const remedies = [
      'GRANT pg_read_all_data TO "The reader"',
      'ALTER ROLE "The reader" BYPASSRLS',
      'GRANT SELECT ON LARGE OBJECT 77 TO "The reader"',
      'ALTER ROLE "The reader" SET statement_timeout = 0',
    ];
    await psql(server, 'guarded', remedies.join(';'));
    const mended = await check(reader);
    expect(Object.values(mended).filter(({ status }) => status === 'failure')).toEqual([]);
    expect(mended['time-limits']?.status).toBe('ok');
    await psql(server, 'guarded', `ALTER ROLE "The reader" SET statement_timeout = '5min'`);
    expect((await check(reader))['time-limits']).toMatchObject({
      status: 'ok',
      message: 'statement_timeout = 5 min 00 s: lifted by create and restore in their own sessions',
    });
    await psql(server, 'guarded', 'ALTER ROLE "The reader" CONNECTION LIMIT 3');
    expect((await check(reader)).connections).toMatchObject({
      status: 'failure',
      message: "3 connections left (the role's CONNECTION LIMIT 3), and a backup with 2 jobs opens 5",
    });
  });

  test('is told which functions it lacks that read large objects, if there are any', async () => {
    await server.createDatabase('objects');
    const functions = 'lo_get(oid, bigint, integer), lo_lseek64(integer, bigint, integer)';
    await psql(
      server,
      'objects',
      `CREATE ROLE painter LOGIN; REVOKE EXECUTE ON FUNCTION ${functions} FROM PUBLIC`,
    );
    const asPainter = { database: server.url('objects', 'painter') };
    const largeObjects = async () => (await check(asPainter))['large-objects'];
    expect(await largeObjects()).toMatchObject({ status: 'ok', message: 'there are no large objects' });
    // pg_dump reads these, and needs neither.
    await psql(server, 'objects', 'SELECT lo_create(0)', { user: 'painter' });
    expect(await largeObjects()).toMatchObject({ status: 'ok' });
    await psql(server, 'objects', 'SELECT count(lo_create(0)) FROM generate_series(1, 500)', {
      user: 'painter',
    });
    const repository = join(folder.path, 'objects');
    await expect(backUp(server, 'objects', repository, asPainter)).rejects.toThrow(
      'permission denied for function lo_',
    );
    const remedy = `GRANT EXECUTE ON FUNCTION pg_catalog.lo_lseek64(integer, bigint, integer), pg_catalog.lo_get(oid, bigint, integer) TO "painter"`;
    expect(await largeObjects()).toMatchObject({
      status: 'failure',
      message: expect.stringContaining('may not execute lo_lseek64(integer, bigint, integer), lo_get(oid'),
      remedy,
    });
    await psql(server, 'objects', remedy);
    expect(await largeObjects()).toMatchObject({
      status: 'ok',
      message: 'the role may read all 501 of them',
    });
    await backUp(server, 'objects', repository, asPainter);
  });

  test('is told how many connections are left, also where it may not look at those of others', async () => {
    await psql(server, 'shop', 'CREATE ROLE blind LOGIN');
    const others = Array.from({ length: 4 }, () => new pg.Client(server.url('shop')));
    await Promise.all(others.map(other => other.connect()));
    const { connections } = await check({ database: server.url('shop', 'blind') });
    await Promise.all(others.map(other => other.end()));
    expect(Number.parseInt(connections?.message ?? '', 10)).toBeLessThanOrEqual(20 - 3 - others.length);
  });

  test('is warned of subscriptions that only a superuser can back up', async () => {
    await server.createDatabase('subscribed');
    await psql(
      server,
      'subscribed',
      `CREATE ROLE plain LOGIN IN ROLE pg_read_all_data;
       CREATE SUBSCRIPTION s CONNECTION 'host=127.0.0.1' PUBLICATION p WITH (connect = false, slot_name = NONE)`,
    );
    const asPlain = await check({ database: server.url('subscribed', 'plain') });
    expect(asPlain.subscriptions).toMatchObject({ status: 'warning' });
    expect((await check({ database: server.url('subscribed') })).subscriptions).toMatchObject({
      status: 'ok',
    });
  });
});

describe('the server', () => {
  test('whose lock table is too small for the number of tables is found out before it fails', async () => {
    await server.createDatabase('many');
    await psql(
      server,
      'many',
      "SELECT format('CREATE TABLE t%s (id int PRIMARY KEY)', i) FROM generate_series(1, 400) AS i \\gexec",
    );
    const { locks } = await check({ database: server.url('many') });
    expect(locks).toMatchObject({
      status: 'failure',
      message: expect.stringContaining('400 tables by 2 jobs'),
      remedy: expect.stringMatching(/max_locks_per_transaction = (64|128)/),
    });
  });

  test('whose lock table is too small for a backup is named by whichever of its sessions finds out', async () => {
    await server.createDatabase('crowded');
    await psql(
      server,
      'crowded',
      "SELECT format('CREATE TABLE t%s (id int)', i) FROM generate_series(1, 1500) AS i \\gexec",
    );
    const named = {
      code: 'DATABASE_QUERY',
      hint: expect.stringContaining('raise max_locks_per_transaction'),
    };
    const repository = makeTempFolder('repository');
    await expect(backUp(server, 'crowded', repository.path)).rejects.toMatchObject(named);
    await repository.remove();
    const file = join(server.binDir, 'pg_dump');
    const args = ['--schema-only', server.url('crowded')];
    const result = await runProgram({ file, args, env: { PATH: process.env.PATH ?? '' } });
    expect(serverProgramFailure(file, result, 'dumping the schema')).toMatchObject(named);
  });

  test('whose lock table is too small for so many workers is told apart from one for fewer', async () => {
    const percent = async (jobs: number) => {
      const { locks } = await check({ database: server.url('large'), jobs });
      return Number(/takes about (\d+) %/.exec(locks?.message ?? '')?.[1]);
    };
    await server.createDatabase('large');
    // As ANALYZE would find them: large enough for each worker to read of each.
    await psql(
      server,
      'large',
      `SELECT format('CREATE TABLE t%s (id int PRIMARY KEY)', i) FROM generate_series(1, 10) AS i \\gexec
       UPDATE pg_class SET relpages = 100000 WHERE relkind = 'r' AND relname ~ '^t[0-9]'`,
    );
    // Locks of the backup's own transaction and of pg_dump; and of each worker on tables and indexes; for two holders each.
    expect(await percent(1)).toBe(Math.ceil(((2 * 10 + 1 * 20) / 2 / 200) * 100));
    expect(await percent(9)).toBe(Math.ceil(((2 * 10 + 9 * 20) / 2 / 200) * 100));
  });

  test('that is a standby is asked whether it lets long backups end', async () => {
    await using primary = await startServer({ settings: { wal_level: 'replica', max_wal_senders: '4' } });
    await primary.createDatabase('shop');
    await using standby = await startStandby(primary);
    await waitForReplay(standby, primary);
    const found = await check({ database: standby.url('shop') });
    expect(found.standby).toMatchObject({ status: 'warning', message: expect.stringContaining('30s') });
    await standby.stop();
    await standby.start({ hot_standby_feedback: 'on' });
    expect((await check({ database: standby.url('shop') })).standby).toMatchObject({ status: 'ok' });
  });
});

describe('programs', () => {
  test('that are missing, or older than the server, fail', async () => {
    await using empty = makeTempFolder('programs');
    const missing = await check({ programs: empty.path });
    expect(missing.pg_dump).toMatchObject({ status: 'failure' });
    expect(missing.psql).toMatchObject({ status: 'warning' });
    expect(missing['program-versions']).toMatchObject({ status: 'failure' });
    const script = (name: string) => {
      writeFileSync(join(empty.path, name), `#!/bin/sh\necho '${name} (PostgreSQL) 12.1'\n`, { mode: 0o755 });
    };
    for (const name of ['pg_dump', 'pg_restore', 'psql']) script(name);
    const old = await check({ programs: empty.path });
    expect(old.pg_dump).toMatchObject({ status: 'ok', message: expect.stringContaining('12.1') });
    expect(old['program-versions']).toMatchObject({
      status: 'failure',
      message: expect.stringContaining('no pg_dump found is of version'),
      remedy: expect.stringContaining('postgresql-client'),
    });
  });
});

describe('the repository', () => {
  test('with another key, no key, or none wanted', async () => {
    const repository = join(folder.path, 'keyed');
    await backUp(server, 'shop', repository);
    const other = 'f'.repeat(64);
    expect((await check({ repository, encryptionKey: other })).key).toMatchObject({ status: 'failure' });
    expect((await check({ repository, encryptionKey: undefined })).key).toMatchObject({ status: 'failure' });
    const unreadable = await check({
      repository,
      encryptionKey: () => {
        throw new Error('the file is gone');
      },
    });
    expect(unreadable.key?.status).toBe('failure');
    expect(unreadable.storage?.status).toBe('ok');
    const plain = join(folder.path, 'plain');
    await backUp(server, 'shop', plain, { encryption: false, encryptionKey: undefined });
    expect((await check({ repository: plain })).key).toMatchObject({ status: 'failure' });
    expect((await check({ repository: plain, encryption: false })).key).toMatchObject({ status: 'ok' });
    const unborn = join(folder.path, 'unborn');
    expect((await check({ repository: unborn, encryptionKey: 'short' })).key).toMatchObject({
      status: 'failure',
    });
    expect((await check({ repository: unborn, encryptionKey: undefined })).key).toMatchObject({
      status: 'failure',
      remedy: expect.stringContaining('pgkeep key generate'),
    });
  });

  test('of an unknown kind, of a newer format, or in the place of a file', async () => {
    const unknown = await check({ repository: 'ftp://host/backups' });
    expect(unknown.repository).toMatchObject({ status: 'failure' });
    expect(unknown.storage).toMatchObject({ status: 'skipped' });

    const newer = join(folder.path, 'newer');
    mkdirSync(newer);
    writeFileSync(join(newer, 'pgkeep.json'), '{"format": 2, "requires": []}');
    const ofNewer = await check({ repository: newer });
    expect(ofNewer.repository).toMatchObject({
      status: 'failure',
      remedy: expect.stringContaining('newer pgkeep'),
    });
    expect(ofNewer.key).toMatchObject({ status: 'skipped' });
    expect(ofNewer.storage).toMatchObject({ status: 'ok' });

    const file = join(folder.path, 'file');
    writeFileSync(file, '');
    expect((await check({ repository: file })).storage).toMatchObject({ status: 'failure' });
  });
});

test('a newest backup that is old, or not complete, is a warning', async () => {
  const repository = join(folder.path, 'old');
  const { id } = await backUp(server, 'shop', repository);
  const change = (fields: object) => {
    const path = join(repository, 'metadata', `${id}.json`);
    writeFileSync(path, JSON.stringify({ ...JSON.parse(readFileSync(path, 'utf8')), ...fields }));
  };
  change({ timestamp: new Date(Date.now() - 72 * 3_600_000).toISOString() });
  expect((await check({ repository }))['newest-backup']).toMatchObject({
    status: 'warning',
    message: expect.stringMatching(/ 7[12] h \d\d min old$/),
  });
  change({ timestamp: new Date().toISOString(), complete: false });
  expect((await check({ repository }))['newest-backup']).toMatchObject({
    status: 'warning',
    message: 'there is no complete backup of shop yet',
  });
});

test('files that hold secrets and that others may read are named with the command that closes them', async () => {
  await using place = makeTempFolder('files');
  const files = [
    { path: join(place.path, '.env'), holds: 'secrets' as const },
    { path: join(place.path, 'a key'), holds: 'secrets' as const },
    { path: join(place.path, 'config.json'), holds: 'settings' as const },
    { path: join(place.path, 'none'), holds: 'secrets' as const },
  ];
  for (const { path } of files.slice(0, 3)) writeFileSync(path, '', { mode: 0o600 });
  expect((await check({ files })).files).toMatchObject({ status: 'ok' });
  for (const { path } of files.slice(0, 3)) chmodSync(path, 0o644);
  const { checks } = await checkSetup({ repository: folder.path, environment: {}, files });
  const found = checks.filter(({ name }) => name === 'files');
  expect(found).toEqual([
    {
      name: 'files',
      status: 'warning',
      message: `${place.path}/.env may hold secrets and is open to other users (mode 0644)`,
      remedy: `chmod 600 ${place.path}/.env`,
    },
    {
      name: 'files',
      status: 'warning',
      message: `${place.path}/a key may hold secrets and is open to other users (mode 0644)`,
      remedy: `chmod 600 '${place.path}/a key'`,
    },
  ]);
  chmodSync(join(place.path, 'config.json'), 0o666);
  expect((await check({ files: files.slice(2) })).files).toMatchObject({
    status: 'warning',
    message: expect.stringContaining('can be changed by other users'),
  });
});
