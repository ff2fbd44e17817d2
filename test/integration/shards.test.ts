// One backup by several processes: whatever becomes of them, either it holds every row, or there is none.

import { execFileSync, spawnSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { cleanupRepository } from '../../src/operations/cleanup-repository.ts';
import { backupSessionName, shardSessionName } from '../../src/operations/create/shard-plan.ts';
import type { CreateBackupOptions, CreateBackupResult } from '../../src/operations/create-backup.ts';
import { type JoinBackupOptions, joinBackup } from '../../src/operations/join-backup.ts';
import { listBackups } from '../../src/operations/list-backups.ts';
import { findBackup, Repository } from '../../src/repository/repository.ts';
import { type ShardPart, type ShardRange, ShardsFolder } from '../../src/repository/shards.ts';
import { openStorage } from '../../src/storage/open-storage.ts';
import { storeChanged } from '../support/changed-backup.ts';
import { runCli } from '../support/cli-io.ts';
import { ensureProgram } from '../support/debian-package.ts';
import type { DyingCreate } from '../support/dying-create.ts';
import { expectSame, ownSessions } from '../support/fault-database.ts';
import { startModule, startPgkeep } from '../support/pgkeep-process.ts';
import { psql, type Server, startServer } from '../support/postgres-server.ts';
import { waitFor } from '../support/processes.ts';
import { ledgerSchema, startRandomWriter } from '../support/random-writer.ts';
import { backUp, restoreInto, testKey } from '../support/round-trip.ts';
import { seededRandom } from '../support/seeded-random.ts';
import { dumpSameSnapshot, requireSameAsDump } from '../support/snapshot-dump.ts';
import { makeTempFolder } from '../support/temp-folder.ts';

let server: Server;

beforeAll(async () => {
  // What was running when a snapshot was taken decides what is old in it.
  server = await startServer({ settings: { autovacuum: 'off' } });
  await server.createDatabase('shop');
  // Some tables that are items of their own, and many that are one together.
  await psql(
    server,
    'shop',
    `DO $$ BEGIN
       FOR n IN 1..5 LOOP EXECUTE format('CREATE TABLE middle_%s AS SELECT i, md5((i * %s)::text) AS text FROM generate_series(1, 18000) AS i', n, n); END LOOP;
       FOR n IN 1..20 LOOP EXECUTE format('CREATE TABLE small_%s AS SELECT i FROM generate_series(1, %s) AS i', n, n); END LOOP;
     END $$;
     CREATE ROLE stranger LOGIN`,
  );
  await server.cloneDatabase('shop', 'busy');
  await psql(server, 'busy', ledgerSchema);
});
afterAll(async () => {
  await server[Symbol.asyncDispose]();
});

/** A backup under way in this process, and the token that its shards join by. */
function coordinate(
  repository: string,
  shards: number,
  options: Partial<CreateBackupOptions> = {},
  database = 'shop',
) {
  const ready = Promise.withResolvers<string>();
  ready.promise.catch(() => undefined);
  const warnings: string[] = [];
  const backup = backUp(server, database, repository, {
    shards,
    ...options,
    onEvent: event => {
      if (event.type === 'shards') ready.resolve(event.join);
      if (event.type === 'warning') warnings.push(event.message);
    },
  });
  backup.catch(ready.reject);
  return { token: ready.promise, backup, warnings };
}

function doPart(
  repository: string,
  part: Pick<JoinBackupOptions, 'shard' | 'shards' | 'join'>,
  options: Partial<JoinBackupOptions> = {},
) {
  const joined = joinBackup({
    environment: { PATH: process.env.PATH },
    encryptionKey: testKey,
    database: server.url('shop'),
    repository,
    ...part,
    ...options,
  });
  joined.catch(() => undefined);
  return joined;
}

/** A whole backup by shards of this process. */
async function backUpInShards(
  repository: string,
  shards: number,
  database = 'shop',
): Promise<CreateBackupResult> {
  const { token, backup } = coordinate(repository, shards, {}, database);
  const by = await token;
  const parts = Array.from({ length: shards }, (_, index) =>
    doPart(repository, { shard: index + 1, shards, join: by }, { database: server.url(database) }),
  );
  const result = await backup;
  for (const part of await Promise.all(parts)) expect(part.backup).toBe(result.id);
  return result;
}

async function expectRestored(repository: string, name: string, database = 'shop'): Promise<void> {
  await restoreInto(server, name, repository, { create: true });
  await expectSame(server, database, name);
  await server.dropDatabase(name);
}

/** What the shards left for each other. */
function leftOf(repository: string): string[] {
  const folder = join(repository, 'shards');
  return existsSync(folder)
    ? readdirSync(folder, { recursive: true, withFileTypes: true })
        .filter(entry => entry.isFile() && !entry.name.startsWith('.'))
        .map(entry => entry.name)
    : [];
}

async function expectNothing(repository: string): Promise<void> {
  expect(await listBackups({ repository })).toEqual([]);
  await waitFor('the sessions to end', async () => (await ownSessions(server)) === 0);
}

/** Runs a process that kills itself. */
async function die(what: DyingCreate): Promise<void> {
  const script = resolve(import.meta.dirname, '../support/dying-create.ts');
  const { signal, err } = await startModule(script, what).ended;
  expect({ signal, err }).toEqual({ signal: 'SIGKILL', err: '' });
}

function dying(repository: string): DyingCreate['options'] {
  return {
    database: server.url('shop'),
    repository,
    encryptionKey: testKey,
    programs: server.binDir,
  };
}

test('processes that share a backup under a writer store one snapshot; the next backup builds on it in shards, too', async () => {
  await using folder = makeTempFolder('shards');
  const repository = join(folder.path, 'repository');
  const env = {
    DATABASE_URL: server.url('busy'),
    BACKUP_REPOSITORY: repository,
    BACKUP_ENCRYPTION_KEY: testKey,
    PGKEEP_PROGRAMS: server.binDir,
  };
  const dump = join(folder.path, 'shop.dump');
  {
    await using _writer = startRandomWriter(server.url('busy'), seededRandom(6), 500);
    const coordinator = startPgkeep(['create', '--shards', '3', '--json'], { env });
    const isDumped = dumpSameSnapshot(server.binDir, server.url('busy'), coordinator, dump);
    const line = await waitFor('the token', () => /^\{"type":"shards".*\}$/m.exec(coordinator.out())?.[0]);
    const { join: token, shards } = JSON.parse(line);
    expect(shards).toBe(3);
    // The rows wait until their snapshot is dumped.
    expect(await isDumped).toBe(true);
    const parts = [1, 2, 3].map(shard =>
      startPgkeep(['create', '--shard', `${shard}/3`, '--join', token, '--json'], { env }),
    );
    const ends = await Promise.all(parts.map(part => part.ended));
    expect(ends.map(({ exitCode }) => exitCode)).toEqual([0, 0, 0]);
    const { exitCode, out } = await coordinator.ended;
    expect(exitCode).toBe(0);
    const result = JSON.parse(out.slice(line.length));
    const did = ends.map(end => JSON.parse(end.out));
    expect(did.map(({ backup }) => backup)).toEqual([token, token, token]);
    expect(result).toMatchObject({ id: token, complete: true, mismatches: [] });
    expect(did.reduce((rows, part) => rows + part.rows, 0)).toBe(result.rows);
    for (const { rows } of did) expect(rows).toBeGreaterThan(result.rows / 12);
    await restoreInto(server, 'restored', repository, { create: true });
    await requireSameAsDump(server, 'restored', dump);
  }
  expect(leftOf(repository)).toEqual([]);
  // How much the writer has changed since then is a matter of how long all that took.
  const first = await backUp(server, 'busy', repository);
  await psql(server, 'busy', 'UPDATE ledger SET note = note WHERE id % 5000 = 0');
  const second = await backUpInShards(repository, 2, 'busy');
  expect(second.incremental).toMatchObject({ parent: first.id });
  expect(second.incremental.unread.ranges).toBeGreaterThan(20);
  expect(second.incremental.deltas.ranges).toBeGreaterThan(0);
  await expectRestored(repository, 'restored', 'busy');
});

test('the manifest for Kubernetes is YAML whose containers, run as it says, make a backup', async () => {
  const readsYaml = () => spawnSync('python3', ['-c', 'import yaml']).status === 0;
  await ensureProgram('python3', 'python3-yaml', readsYaml);
  await using folder = makeTempFolder('shards');
  const repository = join(folder.path, 'repository');
  const words = ['schedule', 'print', '--for', 'kubernetes', '--shards', '2', '--repository', repository];
  const print = async (...further: string[]) => {
    const { exitCode, out } = await runCli([...words, ...further]);
    expect(exitCode).toBe(0);
    const program = 'import json, sys, yaml; print(json.dumps(yaml.safe_load(sys.stdin)))';
    return JSON.parse(execFileSync('python3', ['-c', program], { input: out, encoding: 'utf8' }));
  };
  const nightly = await print('--cron', '0 2 * * *', '--image', 'registry.example/pgkeep:1');
  expect(nightly).toMatchObject({ kind: 'CronJob', spec: { schedule: '0 2 * * *' } });
  const job = await print('--image', 'registry.example/pgkeep:1', '--jobs', '1');
  expect(job).toMatchObject({ apiVersion: 'batch/v1', kind: 'Job' });
  expect({ ...nightly.spec.jobTemplate.spec, template: null }).toEqual({ ...job.spec, template: null });
  expect(job.spec).toMatchObject({ completionMode: 'Indexed', completions: 3, parallelism: 3 });
  expect(job.spec.podFailurePolicy.rules[0].onExitCodes.values).toEqual([10, 12, 13]);
  const { containers, volumes } = job.spec.template.spec;
  const [{ image, command, args, env, volumeMounts }] = containers;
  expect(image).toBe('registry.example/pgkeep:1');
  expect(command).toEqual(['pgkeep']);
  expect(volumeMounts).toEqual([{ name: 'repository', mountPath: repository }]);
  expect(volumes).toEqual([
    { name: 'repository', persistentVolumeClaim: { claimName: 'pgkeep-repository' } },
  ]);
  const secrets: Record<string, string> = {
    DATABASE_URL: server.url('shop'),
    BACKUP_ENCRYPTION_KEY: testKey,
  };
  const uid = randomUUID();
  interface Variable {
    name: string;
    value?: string;
    valueFrom?: { secretKeyRef?: { name: string; key: string }; fieldRef?: { fieldPath: string } };
  }
  const environment = (index: number) => {
    const variables = (env as Variable[]).map(({ name, value, valueFrom }) => {
      if (value !== undefined) return [name, value];
      if (valueFrom?.secretKeyRef !== undefined) return [name, secrets[valueFrom.secretKeyRef.key]];
      expect(valueFrom?.fieldRef?.fieldPath).toBe("metadata.labels['batch.kubernetes.io/controller-uid']");
      return [name, uid];
    });
    return { ...Object.fromEntries(variables), JOB_COMPLETION_INDEX: String(index) };
  };
  const pods = [1, 2, 0].map(index => {
    const variables: Record<string, string> = environment(index);
    const filled = args.map((arg: string) => arg.replace(/\$\((\w+)\)/g, (_, name) => variables[name] ?? ''));
    // The image has the programs where they are looked for.
    return startPgkeep(filled, { env: { ...variables, PGKEEP_PROGRAMS: server.binDir } });
  });
  const ends = await Promise.all(pods.map(pod => pod.ended));
  expect(ends.map(({ exitCode, err }) => (exitCode === 0 ? '' : err))).toEqual(['', '', '']);
  expect(leftOf(repository)).toEqual([]);
  await expectRestored(repository, 'restored');
});

test('the manifest takes secrets from a secret alone, and the settings of the storage from here', async () => {
  const words = [
    'schedule',
    'print',
    '--for',
    'kubernetes',
    '--shards',
    '4',
    '--repository',
    's3://backups/shop',
  ];
  const env = {
    AWS_ACCESS_KEY_ID: 'access-key-of-here',
    AWS_SECRET_ACCESS_KEY: 'secret-of-here',
    BACKUP_ENCRYPTION_KEY: testKey,
    DATABASE_URL: 'postgres://me:password-of-here@db/shop',
    AWS_REGION: 'eu-west-1',
    S3_BACKUP_BUCKET: 'another',
    AZURE_STORAGE_KEY: 'of-another-storage',
  };
  const { exitCode, out } = await runCli([...words, '--limit-upload', '10MiB'], { env });
  expect(exitCode).toBe(0);
  expect(out).not.toMatch(/of-here|another/);
  expect(out).not.toContain(testKey);
  expect(out).toContain('- name: BACKUP_REPOSITORY\n              value: "s3://backups/shop"\n');
  expect(out).toContain('- name: AWS_REGION\n              value: "eu-west-1"\n');
  expect(out).toContain('- name: PGKEEP_LIMIT_UPLOAD\n              value: "10485760"\n');
  for (const name of ['DATABASE_URL', 'BACKUP_ENCRYPTION_KEY', 'AWS_SECRET_ACCESS_KEY']) {
    expect(out).toContain(
      `- name: ${name}\n              valueFrom:\n                secretKeyRef:\n                  name: pgkeep\n                  key: ${name}\n`,
    );
  }
  const nothing = await runCli(['schedule', 'print']);
  expect(nothing).toMatchObject({
    exitCode: 2,
    err: expect.stringContaining('give --for kubernetes and --shards'),
  });
});

test('a shard that is killed, or fails twice, is begun again, and uses what it had stored', async () => {
  await using folder = makeTempFolder('repository');
  const repository = folder.path;
  const { token, backup } = coordinate(repository, 2);
  const by = await token;
  const part = { shard: 1, shards: 2, join: by };
  await die({ options: { ...dying(repository), jobs: 1 }, part, name: 'segments/', when: 'after', nth: 2 });
  for (const role of ['nobody', 'stranger']) {
    const database = server.url('shop', role);
    await expect(doPart(repository, { ...part, shard: 2 }, { database })).rejects.toThrow();
  }
  const again = doPart(repository, part);
  const other = doPart(repository, { ...part, shard: 2 });
  // The first may have been under way when the second was stored.
  expect((await again).reusedSegments).toBeGreaterThanOrEqual(1);
  expect((await backup).id).toBe((await other).backup);
  await expectRestored(repository, 'restored');
});

test('a shard that never comes ends the run with its number, and a shard that fails with what it failed with', async () => {
  await using folder = makeTempFolder('repository');
  const repository = folder.path;
  const waiting = coordinate(repository, 2, { shardTimeoutMs: 2_000 });
  const only = doPart(repository, { shard: 1, shards: 2, join: await waiting.token });
  await expect(waiting.backup).rejects.toMatchObject({
    code: 'SHARD_MISSING',
    message: expect.stringMatching(/^shards? (1, )?2 of 2 did not come/),
  });
  await expect(only).rejects.toMatchObject({ code: 'SHARDS_ENDED' });
  const failing = coordinate(repository, 1, { shardTimeoutMs: 2_000 });
  const part = { shard: 1, shards: 1, join: await failing.token };
  // However long it takes to fail, it is seen at work until it has.
  const atWork = new pg.Client({
    connectionString: server.url('shop'),
    application_name: shardSessionName(part.join, 1, 1),
  });
  await atWork.connect();
  const failed = doPart(repository, part, { database: server.url('shop', 'stranger') });
  await expect(failed).rejects.toThrow('permission denied');
  await atWork.end();
  await expect(failing.backup).rejects.toMatchObject({
    code: 'SHARD_MISSING',
    message: expect.stringMatching(/^shard 1 of 1 failed, .* permission denied/),
  });
  expect(failing.warnings).toEqual([expect.stringMatching(/^shard 1 of 1 failed: .* permission denied/)]);
  await expectNothing(repository);
});

test('a shard that fails three times, while it connects or later, ends the run with what it failed with last', async () => {
  await using folder = makeTempFolder('repository');
  const repository = folder.path;
  const { token, backup, warnings } = coordinate(repository, 2);
  const part = { shard: 2, shards: 2, join: await token };
  const attempts = ['postgres', 'postgres', 'postgres'].map(name => server.url(name));
  attempts.push(
    server.url('shop', 'stranger'),
    server.url('shop', 'nobody_1'),
    server.url('shop', 'nobody_2'),
  );
  for (const database of attempts) await expect(doPart(repository, part, { database })).rejects.toThrow();
  await expect(backup).rejects.toMatchObject({
    code: 'SHARD_FAILED',
    message: expect.stringMatching(/^shard 2 of 2 failed 3 times, at last: .*"nobody_2" does not exist/),
    context: { shards: ['2'] },
  });
  expect(warnings).toHaveLength(6);
  // Of these there may have been any number: what is begun in the wrong place says nothing of the part.
  expect(warnings.filter(text => text.includes('is not the database that'))).toHaveLength(3);
  await expectNothing(repository);
  expect(leftOf(repository)).toEqual([]);
});

test('a coordinator that is killed leaves no backup, and shards that wait for its token join its next attempt', async () => {
  await using folder = makeTempFolder('repository');
  const repository = folder.path;
  const named = (shard: number) => doPart(repository, { shard, shards: 2, join: 'night' });
  const options = { ...dying(repository), shards: 2, join: 'night' };
  const orphans = [named(1), named(2)];
  // All parts are done by then.
  await die({ options, name: 'backups/', when: 'before', nth: 1 });
  for (const orphan of orphans) await expect(orphan).rejects.toMatchObject({ code: 'SHARDS_ENDED' });
  await expectNothing(repository);
  expect(leftOf(repository).sort()).toEqual([
    expect.stringMatching(/^1-[0-9a-f]{16}-0$/),
    '1.done',
    expect.stringMatching(/^2-[0-9a-f]{16}-0$/),
    '2.done',
    'night.join',
    'plan',
  ]);
  await cleanupRepository({ repository, encryptionKey: testKey, graceMs: 0 });
  expect(leftOf(repository)).toEqual([]);
  // Now as soon as it can be joined.
  await die({ options, name: 'shards/', when: 'after', nth: 2 });
  await expectNothing(repository);
  const patient = [named(1), named(2)];
  const { id } = await coordinate(repository, 2, { join: 'night' }).backup;
  for (const part of await Promise.all(patient)) expect(part.backup).toBe(id);
  await expectRestored(repository, 'restored');
});

test('a coordinator that has lost its snapshot, and does not know it yet, is gone for its shards', async () => {
  await using folder = makeTempFolder('repository');
  const repository = folder.path;
  const coordinator = startPgkeep(['create', '--shards', '1', '--json'], {
    env: {
      DATABASE_URL: server.url('shop'),
      BACKUP_REPOSITORY: repository,
      BACKUP_ENCRYPTION_KEY: testKey,
      PGKEEP_PROGRAMS: server.binDir,
    },
  });
  const line = await waitFor('the token', () => /^\{"type":"shards".*\}$/m.exec(coordinator.out())?.[0]);
  const { join: token } = JSON.parse(line);
  coordinator.kill('SIGSTOP');
  const loseSnapshot = `SELECT count(pg_terminate_backend(pid, 10000)) FROM pg_stat_activity
    WHERE application_name = '${backupSessionName(token)}' AND state = 'idle in transaction'`;
  const part = { shard: 1, shards: 1, join: token };
  const joined = doPart(repository, part, {
    onEvent: event => {
      if (event.type !== 'phase' || event.phase !== 'data') return;
      // At once: the shard has joined by now, and its workers have not.
      const lost = execFileSync(
        join(server.binDir, 'psql'),
        ['-X', '-A', '-t', '-c', loseSnapshot, server.url('shop')],
        { encoding: 'utf8', env: { PATH: process.env.PATH } },
      );
      expect(lost).toBe('1\n');
    },
  });
  await expect(joined).rejects.toMatchObject({
    code: 'SHARDS_ENDED',
    message: `the coordinator of ${token} ended before this part was done`,
  });
  await expect(doPart(repository, part)).rejects.toMatchObject({
    code: 'SHARDS_ENDED',
    message: `the coordinator of ${token} is gone, and its snapshot with it`,
  });
  coordinator.kill('SIGCONT');
  const { exitCode, out } = await coordinator.ended;
  expect([JSON.parse(out.slice(line.length)).error.code, exitCode]).toEqual(['DATABASE_CONNECTION_LOST', 5]);
  await expectNothing(repository);
});

test('a shard that belongs elsewhere is told so, and disturbs nobody', async () => {
  await using folder = makeTempFolder('repository');
  await using other = await startServer();
  await other.createDatabase('shop');
  const repository = folder.path;
  const interruption = new AbortController();
  const { token, backup } = coordinate(repository, 2, { signal: interruption.signal });
  const part = { shard: 1, shards: 2, join: await token };
  const mismatch = { code: 'SHARD_MISMATCH' };
  await expect(doPart(repository, { ...part, shards: 3 })).rejects.toMatchObject(mismatch);
  const elsewhere = { database: other.url('shop') };
  await expect(doPart(repository, part, elsewhere)).rejects.toMatchObject(mismatch);
  const database = { database: server.url('postgres') };
  await expect(doPart(repository, part, database)).rejects.toMatchObject(mismatch);
  await expect(doPart(repository, { ...part, shard: 3 })).rejects.toMatchObject({ code: 'OPTION_INVALID' });
  await expect(doPart(repository, { ...part, join: '../shop' })).rejects.toMatchObject({
    code: 'OPTION_INVALID',
  });
  const wrongToken = { ...part, join: 'backup-1642684800000-a1b2c3d4' };
  await expect(doPart(repository, wrongToken)).rejects.toMatchObject({ code: 'SHARDS_ENDED' });
  const unknownName = doPart(repository, { ...part, join: 'nobody' }, { shardTimeoutMs: 0 });
  await expect(unknownName).rejects.toMatchObject({ code: 'SHARDS_ENDED' });
  const wrongKey = { encryptionKey: testKey.replace('0', 'f') };
  await expect(doPart(repository, part, wrongKey)).rejects.toMatchObject({ code: 'KEY_WRONG' });
  interruption.abort();
  await expect(backup).rejects.toMatchObject({ code: 'INTERRUPTED' });
  await expectNothing(repository);
});

/** What a shard tells instead. */
interface Told {
  ranges?: (ranges: ShardRange[]) => ShardRange[];
  part?: Partial<ShardPart>;
}

describe('a shard that tells', () => {
  test.each<[string, Told, RegExp]>([
    ['of too little', { ranges: all => all.slice(1) }, /^shard 1 of 1 left out 1 of its ranges/],
    [
      'of the same range twice, in the place of another',
      { ranges: all => [...all.slice(1), ...all.slice(1, 2)] },
      /^shard 1 of 1 told of range \d+ of "public"\."\w+", which it had told of before/,
    ],
    [
      'of what nobody asked for',
      { ranges: all => all.map(range => ({ ...range, range: range.range + 1000 })) },
      /^shard 1 of 1 told of range 1\d\d\d of .* or is not its part/,
    ],
    [
      'of all, by another plan than the coordinator made',
      { part: { plan: 'ab'.repeat(32) } },
      /^shard 1 of 1 worked by another plan/,
    ],
  ])('%s makes no backup', async (_, told, message) => {
    await using folder = makeTempFolder('repository');
    const repository = folder.path;
    const { putPiece, putPart } = ShardsFolder.prototype;
    ShardsFolder.prototype.putPiece = function (this: ShardsFolder, attempt, piece, ranges, key) {
      return putPiece.call(this, attempt, piece, told.ranges?.([...ranges]) ?? ranges, key);
    };
    ShardsFolder.prototype.putPart = function (this: ShardsFolder, part, key) {
      return putPart.call(this, { ...part, ...told.part }, key);
    };
    try {
      const { token, backup } = coordinate(repository, 1, { tables: ['middle_*'] });
      const part = doPart(repository, { shard: 1, shards: 1, join: await token });
      await expect(backup).rejects.toMatchObject({
        code: 'BACKUP_INCOMPLETE',
        message: expect.stringMatching(message),
      });
      await expect(part).rejects.toMatchObject({ code: 'SHARDS_ENDED' });
    } finally {
      Object.assign(ShardsFolder.prototype, { putPiece, putPart });
    }
    expect(await listBackups({ repository })).toEqual([]);
  });
});

test('rows that do not follow from the earlier backup make all shards’ rows be read again', async () => {
  await using folder = makeTempFolder('repository');
  const repository = folder.path;
  const { id } = await backUp(server, 'shop', repository);
  await psql(server, 'shop', "INSERT INTO middle_1 SELECT i, 'young' FROM generate_series(1, 10) AS i");
  const xids = (await psql(server, 'shop', 'SELECT pg_current_snapshot()')).trim();
  // What no guard can see: rows from after a backup look old.
  await storeChanged(repository, id, async ({ snapshot }) => ({ snapshot: { ...snapshot, xids } }));
  const { mismatches, incremental } = await backUpInShards(repository, 2);
  expect(mismatches).toEqual(['"public"."middle_1" has 10 old rows that the earlier backup does not know']);
  expect(incremental).toMatchObject({ parent: null, unread: { ranges: 0 }, deltas: { ranges: 0 } });
  await expectRestored(repository, 'restored');
});

test('a segment that one shard finds damaged serves no range of the others', async () => {
  await using folder = makeTempFolder('repository');
  const repository = folder.path;
  const tables = [1, 2, 3, 4, 5].map(n => `middle_${n}`);
  const change = (statement: (table: string) => string) =>
    psql(server, 'shop', tables.map(statement).join(';'));
  await backUp(server, 'shop', repository, { jobs: 1 });
  await change(table => `UPDATE ${table} SET text = 'changed' WHERE i = 7`);
  const { id } = await backUp(server, 'shop', repository, { jobs: 1 });
  const storage = await openStorage(repository);
  const manifest = await (await Repository.open(storage, testKey)).readManifest(
    await findBackup(storage, id),
  );
  await storage.close();
  const deltas = manifest.tables
    .filter(({ name }) => tables.includes(name))
    .map(({ ranges }) => ranges?.[0]?.slices.at(-1)?.id ?? '');
  expect(deltas).toHaveLength(5);
  expect(new Set(deltas).size).toBe(1);
  const [segment = ''] = deltas;
  const file = join(repository, 'segments', segment.slice(0, 2), segment);
  const bytes = readFileSync(file);
  bytes[bytes.length - 1] = (bytes.at(-1) ?? 0) ^ 1;
  rmSync(file);
  writeFileSync(file, bytes);
  await psql(server, 'shop', 'DELETE FROM middle_1 WHERE i = 8');
  const { incremental, warnings } = await backUpInShards(repository, 2);
  expect(warnings.join()).toContain(`${segment} is damaged`);
  expect(incremental.deltas.ranges).toBe(0);
  await expectRestored(repository, 'restored');
});
