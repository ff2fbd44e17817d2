// Backups that nobody can delete, in buckets of a real server: in both modes, against whoever has every right but that to
// bypass, and as locks end.

import { existsSync, globSync, readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  DeleteObjectCommand,
  GetObjectRetentionCommand,
  ListObjectVersionsCommand,
  type ObjectVersion,
  PutObjectCommand,
} from '@aws-sdk/client-s3';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { cleanupRepository } from '../../src/operations/cleanup-repository.ts';
import { deleteBackup } from '../../src/operations/delete-backup.ts';
import { listBackups } from '../../src/operations/list-backups.ts';
import { verifyBackups } from '../../src/operations/verify-backups.ts';
import { S3Storage } from '../../src/storage/s3/s3-storage.ts';
import type { StorageOptions } from '../../src/storage/storage-options.ts';
import { names } from '../contract/storage-names.ts';
import { type CephGateway, cephStartMs, type S3Policy, startCephGateway } from '../support/ceph-gateway.ts';
import { runCli } from '../support/cli-io.ts';
import { ensureProgram } from '../support/debian-package.ts';
import { expectSame, makeFaultDatabase } from '../support/fault-database.ts';
import { type HttpFaults, s3Error, startHttpFaults } from '../support/http-faults.ts';
import { psql, type Server, startServer } from '../support/postgres-server.ts';
import { backUp, restoreInto, testKey } from '../support/round-trip.ts';
import { runUnderFaults } from '../support/run-under-faults.ts';
import { makeTempFolder } from '../support/temp-folder.ts';

let server: Server;
let ceph: CephGateway;
let between: HttpFaults;

beforeAll(async () => {
  [server, ceph] = await Promise.all([startServer(), startCephGateway()]);
  between = await startHttpFaults(ceph.port);
  await makeFaultDatabase(server, 'shop', 8_000);
}, cephStartMs);
afterAll(async () => {
  await between[Symbol.asyncDispose]();
  await ceph[Symbol.asyncDispose]();
  await server[Symbol.asyncDispose]();
});

const hourMs = 3_600_000;
const locked = { objectLock: true };

async function restoreAndCompare(
  repository: string,
  storage: StorageOptions,
  source = 'shop',
  backup = 'latest',
): Promise<void> {
  const target = `restored_${Math.random().toString(36).slice(2)}`;
  await restoreInto(server, target, repository, { storage, create: true, backup });
  await expectSame(server, source, target);
  await server.dropDatabase(target);
}

/** Every version there is, deletions apart. */
async function versionsIn(bucket: string, prefix = ''): Promise<ObjectVersion[]> {
  const { Versions = [], IsTruncated } = await ceph.client.send(
    new ListObjectVersionsCommand({ Bucket: bucket, Prefix: prefix }),
  );
  expect(IsTruncated).toBe(false);
  return Versions;
}

/** @returns the objects whose current version the bucket's owner can delete for good, and what else was not refused. */
async function deleteVersions(bucket: string, prefixes: readonly string[]): Promise<string[]> {
  const deleted: string[] = [];
  for (const prefix of prefixes) {
    const versions = (await versionsIn(bucket, prefix)).filter(version => version.IsLatest);
    expect([prefix, versions.length > 0]).toEqual([prefix, true]);
    for (const { Key = '', VersionId } of versions) {
      const outcome = await ceph.client
        .send(new DeleteObjectCommand({ Bucket: bucket, Key, VersionId }))
        .then(
          () => 'deleted',
          error => error.name,
        );
      if (outcome !== 'AccessDenied') deleted.push(`${Key}: ${outcome}`);
    }
  }
  return deleted;
}

/** The objects that are locked until then at least. */
async function lockedFor(
  bucket: string,
  prefix: string,
  mode: string,
  until: string | null,
): Promise<string[]> {
  const lockedKeys: string[] = [];
  for (const { Key = '', IsLatest } of await versionsIn(bucket, prefix)) {
    if (!IsLatest) continue;
    const { Retention } = await ceph.client.send(new GetObjectRetentionCommand({ Bucket: bucket, Key }));
    if (Retention?.Mode !== mode.toUpperCase()) continue;
    if ((Retention.RetainUntilDate ?? 0) >= new Date(until ?? Number.NaN)) lockedKeys.push(Key);
  }
  return lockedKeys;
}

const whatABackupNeeds = ['pgkeep.json', 'keys/', 'segments/', 'backups/', 'metadata/', 'recovery/'];

describe.concurrent.each(['compliance', 'governance'] as const)('in %s mode', lockMode => {
  test('a backup can be deleted by nobody, stays whole when no rule keeps it, and its lock lends time to what it reuses', async () => {
    const source = `kept_${lockMode}`;
    await server.cloneDatabase('shop', source);
    const bucket = await ceph.makeBucket([], locked);
    const repository = `s3://${bucket}`;
    const storage = { s3: { ...ceph.options(), lockMode } };
    const common = { repository, storage };
    const one = await backUp(server, source, repository, { storage, lockForMs: hourMs });
    expect(await listBackups(common)).toMatchObject([{ id: one.id, lockedUntil: one.lockedUntil }]);
    expect(await deleteVersions(bucket, whatABackupNeeds)).toEqual([]);
    await expect(deleteBackup({ ...common, backup: one.id, force: true })).rejects.toMatchObject({
      code: 'OBJECT_LOCKED',
      message: expect.stringContaining(one.lockedUntil ?? 'a time'),
    });

    await psql(server, source, "UPDATE big SET payload = 'changed' WHERE id = 1");
    const two = await backUp(server, source, repository, { storage, lockForMs: 2 * hourMs });
    expect(two.reusedSegments).toBeGreaterThan(0);
    expect(two.newSegments).toBeGreaterThan(0);
    const extended = await lockedFor(bucket, 'segments/', lockMode, two.lockedUntil);
    expect(extended).toHaveLength(two.reusedSegments + two.newSegments);
    const all = await lockedFor(bucket, 'segments/', lockMode, one.lockedUntil);
    expect(all.length).toBeGreaterThan(extended.length);
    // Both keys are needed by the second.
    expect(await lockedFor(bucket, 'keys/', lockMode, two.lockedUntil)).toHaveLength(2);

    const cleanup = { ...common, encryptionKey: testKey, keepDays: 0, keepLast: 1 };
    for (const dryRun of [true, false]) {
      const { backups, problems } = await cleanupRepository({ ...cleanup, dryRun });
      expect(problems).toEqual([]);
      expect(backups.find(({ id }) => id === one.id)).toMatchObject({
        stays: true,
        lockedUntil: one.lockedUntil,
        reason: expect.stringContaining('locked until'),
      });
    }
    expect(await deleteVersions(bucket, whatABackupNeeds)).toEqual([]);
    await restoreAndCompare(repository, storage, source);
    await server.dropDatabase(source);
  });

  test('cleanup removes a backup and what it alone needed once its lock is over', async () => {
    const source = `gone_${lockMode}`;
    await server.cloneDatabase('shop', source);
    const repository = `s3://${await ceph.makeBucket([], locked)}`;
    const storage = { s3: { ...ceph.options(), lockMode } };
    const change = (to: string) => psql(server, source, `UPDATE big SET payload = '${to}' WHERE id = 1`);
    const { durationMs } = await backUp(server, source, repository, { storage });
    await change('one');
    const lockForMs = 3_000 + 3 * durationMs;
    const one = await backUp(server, source, repository, { storage, lockForMs });
    await change('two');
    const two = await backUp(server, source, repository, { storage, lockForMs: hourMs });
    // What backups share is locked an eighth longer.
    await sleep(Date.parse(one.lockedUntil ?? '') + lockForMs / 8 + 1_500 - Date.now());
    const cleanup = { repository, storage, encryptionKey: testKey, keepDays: 0, keepLast: 1, graceMs: 1_000 };
    const { backups, candidates } = await cleanupRepository(cleanup);
    expect(backups.filter(({ stays }) => stays)).toMatchObject([{ id: two.id }]);
    expect(backups).toContainEqual(expect.objectContaining({ id: one.id, stays: false }));
    expect(candidates.segments).toBeGreaterThan(1);
    await sleep(2_500);
    const { deleted, locked: kept } = await cleanupRepository(cleanup);
    expect(deleted).toEqual(candidates);
    expect(kept).toMatchObject({ segments: 0, until: null });
    const contents = new S3Storage(repository, ceph.options());
    expect(await names(contents, 'segments/')).toHaveLength(two.reusedSegments + two.newSegments);
    await contents.close();
    await restoreAndCompare(repository, storage, source);
    await server.dropDatabase(source);
  });
});

test('what somebody overwrote or deleted who may do everything is there as of an earlier time: listed, verified, restored', async () => {
  const bucket = await ceph.makeBucket([], locked);
  const repository = `s3://${bucket}`;
  const storage = { s3: ceph.options() };
  const copy = makeTempFolder('copy').path;
  const { id, replica, warnings } = await backUp(server, 'shop', repository, {
    storage,
    lockForMs: hourMs,
    replicateTo: copy,
  });
  expect([replica?.copied, warnings]).toEqual([true, [`the copy in ${copy} is not locked`]]);
  const asOf = new Date();
  await sleep(10);
  for (const [index, { Key = '' }] of (await versionsIn(bucket)).entries()) {
    if (index % 3 !== 0) {
      await ceph.client.send(new PutObjectCommand({ Bucket: bucket, Key, Body: Buffer.from('ransom') }));
    }
    if (index % 3 !== 1) await ceph.client.send(new DeleteObjectCommand({ Bucket: bucket, Key }));
  }
  await expect(restoreInto(server, 'none', repository, { storage, create: true })).rejects.toMatchObject({
    exitCode: 4,
  });

  const env = {
    PATH: process.env.PATH ?? '',
    BACKUP_ENCRYPTION_KEY: testKey,
    BACKUP_REPOSITORY: repository,
    AWS_ENDPOINT_URL_S3: ceph.endpoint,
    AWS_ACCESS_KEY_ID: ceph.owner.accessKeyId,
    AWS_SECRET_ACCESS_KEY: ceph.owner.secretAccessKey,
  };
  const cwd = makeTempFolder('cwd').path;
  const then = ['--as-of', asOf.toISOString()];
  const list = await runCli(['list', '--json', ...then], { env, cwd });
  expect(JSON.parse(list.out)).toMatchObject([{ id, lockedUntil: expect.any(String) }]);
  const verify = await runCli(['verify', id, '--json', '--programs', server.binDir, ...then], { env, cwd });
  expect(verify.exitCode, verify.err).toBe(0);
  expect(JSON.parse(verify.out)).toMatchObject({ valid: true, backups: [{ level: 'data' }] });
  const to = ['--to', server.url('then'), '--create', '--programs', server.binDir];
  const restore = await runCli(['restore', id, ...to, ...then], { env, cwd });
  expect(restore.exitCode, restore.err).toBe(0);
  await expectSame(server, 'shop', 'then');
  await server.dropDatabase('then');
  // Before the backup there was nothing.
  const earlier = new Date(asOf.getTime() - hourMs);
  await expect(listBackups({ repository, storage: { ...storage, asOf: earlier } })).rejects.toMatchObject({
    code: 'REPOSITORY_NOT_FOUND',
  });
  const past = new S3Storage(repository, ceph.options(), undefined, undefined, undefined, asOf);
  await expect(past.put('object', Buffer.alloc(1))).rejects.toMatchObject({ code: 'STORAGE_DENIED' });
  await expect(past.remove(['pgkeep.json'])).rejects.toMatchObject({ code: 'STORAGE_DENIED' });
  await past.close();
});

test('as of a time is for storages that keep versions', async () => {
  const folder = makeTempFolder('repository').path;
  await expect(listBackups({ repository: folder, storage: { asOf: new Date() } })).rejects.toMatchObject({
    code: 'OPTION_INVALID',
  });
});

test('what a run that failed stored under lock is counted as kept, by cleanup after cleanup, and used by the next run', async () => {
  const bucket = await ceph.makeBucket([], locked);
  const repository = `s3://${bucket}`;
  const storage = { s3: ceph.options() };
  between.decide(({ method, path }) =>
    method === 'PUT' && path.includes('/backups/') ? s3Error(403, 'AccessDenied') : 'forward',
  );
  const throughFaults = { s3: ceph.options(ceph.owner, between.port) };
  await expect(
    backUp(server, 'shop', repository, { storage: throughFaults, lockForMs: hourMs }),
  ).rejects.toMatchObject({ code: 'STORAGE_DENIED' });
  const cleanup = { repository, storage, encryptionKey: testKey, graceMs: 1_000 };
  // What is as old as the list, by the storage's whole seconds, is not deleted by it.
  await sleep(1_100);
  const found = await cleanupRepository(cleanup);
  expect(found.candidates.segments).toBeGreaterThan(1);
  await sleep(2_500);
  const planned = await cleanupRepository({ ...cleanup, dryRun: true });
  const second = await cleanupRepository(cleanup);
  for (const { deleted, locked: kept, problems } of [planned, second]) {
    expect({ deleted: deleted.segments, problems }).toEqual({ deleted: 0, problems: [] });
    expect(kept).toEqual({ ...found.candidates, until: expect.any(String) });
  }
  expect(Date.parse(second.locked.until ?? '') - Date.now()).toBeGreaterThan(hourMs * 0.9);
  const contents = new S3Storage(repository, ceph.options());
  expect(await names(contents, 'garbage/')).toEqual([]);
  expect((await cleanupRepository(cleanup)).candidates).toEqual(found.candidates);
  await contents.close();
  const next = await backUp(server, 'shop', repository, { storage, lockForMs: hourMs });
  expect(next.reusedSegments).toBeGreaterThan(1);
  await restoreAndCompare(repository, storage);
});

test('a lock that cannot be extended ends the backup, by the name of the object, and what was there stays', async () => {
  const bucket = await ceph.makeBucket([], locked);
  const repository = `s3://${bucket}`;
  const { id } = await backUp(server, 'shop', repository, { storage: { s3: ceph.options() } });
  between.decide(({ method, path }) =>
    method === 'PUT' && path.includes('/segments/') && path.includes('retention')
      ? s3Error(403, 'AccessDenied')
      : 'forward',
  );
  const storage = { s3: ceph.options(ceph.owner, between.port) };
  await expect(backUp(server, 'shop', repository, { storage, lockForMs: hourMs })).rejects.toMatchObject({
    code: 'STORAGE_DENIED',
    message: expect.stringMatching(/^locking segments\/../),
    hint: expect.stringContaining('s3:PutObjectRetention'),
  });
  expect(await listBackups({ repository, storage })).toMatchObject([{ id }]);
});

test('a lock in governance mode is not taken for one in compliance mode; the stronger one stays', async () => {
  const governance = { s3: { ...ceph.options(), lockMode: 'governance' as const } };
  const compliance = { s3: ceph.options() };
  const weak = `s3://${await ceph.makeBucket([], locked)}`;
  await backUp(server, 'shop', weak, { storage: governance, lockForMs: hourMs });
  await expect(
    backUp(server, 'shop', weak, { storage: compliance, lockForMs: 2 * hourMs }),
  ).rejects.toMatchObject({
    code: 'STORAGE_DENIED',
    message: expect.stringContaining('pgkeep.json is locked in governance mode until'),
  });
  const bucket = await ceph.makeBucket([], locked);
  const strong = `s3://${bucket}`;
  await backUp(server, 'shop', strong, { storage: compliance, lockForMs: hourMs });
  await psql(server, 'shop', "UPDATE big SET payload = 'changed' WHERE id = 1");
  const longer = await backUp(server, 'shop', strong, { storage: governance, lockForMs: 2 * hourMs });
  // What was locked in the stronger mode has the longer time now, and its mode.
  const lockedInFull = (prefix: string) => lockedFor(bucket, prefix, 'compliance', longer.lockedUntil);
  expect(await lockedInFull('pgkeep.json')).toHaveLength(1);
  expect(await lockedInFull('segments/')).toHaveLength(longer.reusedSegments);
  // A shorter lock leaves the longer ones alone, but does not rest on one that is longer and weaker.
  await expect(
    backUp(server, 'shop', strong, { storage: compliance, lockForMs: 60_000 }),
  ).rejects.toMatchObject({
    code: 'STORAGE_DENIED',
    message: expect.stringMatching(/^segments\/.* is locked in governance mode until/),
  });
  expect(await listBackups({ repository: strong, storage: compliance })).toHaveLength(2);
  await backUp(server, 'shop', strong, { storage: governance, lockForMs: 60_000 });
  await restoreAndCompare(strong, compliance);
});

describe('where nothing can be locked, the run ends before anything is stored', () => {
  test('in a bucket made without Object Lock', async () => {
    const bucket = await ceph.makeBucket();
    const storage = { s3: ceph.options() };
    await expect(
      backUp(server, 'shop', `s3://${bucket}`, { storage, lockForMs: hourMs }),
    ).rejects.toMatchObject({
      code: 'STORAGE_UNFIT',
      hint: expect.stringContaining('when a bucket is made'),
    });
    expect(await versionsIn(bucket)).toEqual([]);
  });

  test('in a folder', async () => {
    const folder = makeTempFolder('repository').path;
    await expect(backUp(server, 'shop', folder, { lockForMs: hourMs })).rejects.toMatchObject({
      code: 'STORAGE_UNFIT',
    });
    expect(globSync(`${folder}/**`).filter(path => path !== folder)).toEqual([]);
  });

  test('in a store that takes locks and forgets them', async () => {
    const bucket = await ceph.makeBucket([], locked);
    between.decide(({ method, path }) =>
      method === 'GET' && path.includes('?retention')
        ? s3Error(404, 'NoSuchObjectLockConfiguration')
        : 'forward',
    );
    const storage = { s3: ceph.options(ceph.owner, between.port) };
    await expect(
      backUp(server, 'shop', `s3://${bucket}`, { storage, lockForMs: hourMs }),
    ).rejects.toMatchObject({ code: 'STORAGE_UNFIT', message: expect.stringContaining('without the lock') });
    expect(await versionsIn(bucket, 'segments/')).toEqual([]);
  });
});

/** A policy of docs/guide.md, by whom it is for. */
function guidePolicy(whom: 'Locking writer' | 'Cleaner'): S3Policy {
  const guide = readFileSync(new URL('../../docs/guide.md', import.meta.url), 'utf8');
  const text = new RegExp(`\n${whom} \\(.*?\n\`\`\`json\n(.*?)\`\`\``, 's').exec(guide)?.[1];
  if (text === undefined) throw new Error(`docs/guide.md has no policy for a ${whom}`);
  return JSON.parse(text) as S3Policy;
}

test('a writer has the rights that the guide names, and the cleaner too, who else refuses to remove what may be locked', async () => {
  const writable = await ceph.makeBucket(guidePolicy('Locking writer'), locked);
  const guest = { s3: ceph.options(ceph.guest) };
  await backUp(server, 'shop', `s3://${writable}`, { storage: guest, lockForMs: 60_000 });
  const { reusedSegments } = await backUp(server, 'shop', `s3://${writable}`, {
    storage: guest,
    lockForMs: hourMs,
  });
  expect(reusedSegments).toBeGreaterThan(1);
  await restoreAndCompare(`s3://${writable}`, guest);

  const policies = [
    [guidePolicy('Cleaner'), true],
    [['s3:ListBucket', 's3:GetObject', 's3:PutObject', 's3:DeleteObject'], false],
    [
      [
        's3:ListBucket',
        's3:GetObject',
        's3:PutObject',
        's3:DeleteObject',
        's3:GetBucketObjectLockConfiguration',
      ],
      false,
    ],
  ] as const;
  const bucket = await ceph.makeBucket([], locked);
  const repository = `s3://${bucket}`;
  const { id } = await backUp(server, 'shop', repository, {
    storage: { s3: ceph.options() },
    lockForMs: hourMs,
  });
  for (const [policy, mayLook] of policies) {
    await ceph.allowGuest(bucket, policy);
    const deletion = deleteBackup({ repository, storage: guest, backup: id, force: true });
    await expect(deletion).rejects.toMatchObject(
      mayLook
        ? { code: 'OBJECT_LOCKED' }
        : { code: 'STORAGE_DENIED', hint: expect.stringContaining('s3:GetObjectRetention') },
    );
    expect(await listBackups({ repository, storage: guest })).toMatchObject([{ id }]);
  }
});

test('a damaged segment is replaced although it is locked', async () => {
  const bucket = await ceph.makeBucket([], locked);
  const repository = `s3://${bucket}`;
  const storage = { s3: ceph.options() };
  await backUp(server, 'shop', repository, { storage, lockForMs: hourMs });
  const contents = new S3Storage(repository, ceph.options());
  // That of the rows: the archive of the definitions is another one each time.
  const segments = await versionsIn(bucket, 'segments/');
  const segment = segments.toSorted((a, b) => (b.Size ?? 0) - (a.Size ?? 0))[0]?.Key ?? '';
  const bytes = await contents.get(segment);
  bytes[bytes.length - 20] = (bytes[bytes.length - 20] ?? 0) ^ 1;
  await contents.put(segment, bytes, { lockedUntil: new Date(Date.now() + hourMs) });
  await contents.close();
  const verify = { repository, storage, encryptionKey: testKey, programs: server.binDir };
  expect(await verifyBackups({ ...verify, backup: 'latest', repair: true })).toMatchObject({
    valid: false,
    repaired: [segment],
  });
  await backUp(server, 'shop', repository, { storage, lockForMs: hourMs });
  expect(await verifyBackups({ ...verify, all: true })).toMatchObject({ valid: true });
  await restoreAndCompare(repository, storage);
});

test('a clock that is a day ahead locks nothing for longer than it should', async () => {
  await ensureProgram('faketime');
  const library = globSync('/usr/lib/*/faketime/libfaketime.so.1')[0] ?? '/usr/lib/faketime/libfaketime.so.1';
  expect(existsSync(library)).toBe(true);
  const wrongClock = { LD_PRELOAD: library, FAKETIME: '+1d', FAKETIME_DONT_FAKE_MONOTONIC: '1' };
  const repository = `s3://${await ceph.makeBucket([], locked)}`;
  const create = {
    repository,
    storage: { s3: ceph.options() },
    database: server.url('shop'),
    programs: server.binDir,
    encryptionKey: testKey,
    lockForMs: hourMs,
  };
  const { error, result } = await runUnderFaults('createBackup', create, [], wrongClock);
  expect(error).toBeUndefined();
  const { startedAt, lockedUntil } = result as { startedAt: string; lockedUntil: string };
  expect(Date.parse(startedAt) - Date.now()).toBeGreaterThan(23 * hourMs);
  expect(Math.abs(Date.parse(lockedUntil) - Date.now() - hourMs)).toBeLessThan(60_000);
});
