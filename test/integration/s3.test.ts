// Backups in S3, from create to restore, against a real server: as a user would, with the least rights, under faults of
// the network.

import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { ListObjectsV2Command } from '@aws-sdk/client-s3';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { PgkeepError } from '../../src/base/errors.ts';
import { listBackups } from '../../src/operations/list-backups.ts';
import { verifyBackups } from '../../src/operations/verify-backups.ts';
import { S3Storage } from '../../src/storage/s3/s3-storage.ts';
import type { StoredObject } from '../../src/storage/storage.ts';
import {
  type CephGateway,
  cephStartMs,
  type S3Policy,
  type S3User,
  startCephGateway,
} from '../support/ceph-gateway.ts';
import { expectSame, makeFaultDatabase } from '../support/fault-database.ts';
import { type HttpFaults, s3Error, startHttpFaults } from '../support/http-faults.ts';
import { type PgkeepProcess, runPgkeep, startPgkeep } from '../support/pgkeep-process.ts';
import { psql, type Server, startServer } from '../support/postgres-server.ts';
import { waitFor } from '../support/processes.ts';
import { backUp, restoreInto, testKey } from '../support/round-trip.ts';

let server: Server;
let ceph: CephGateway;
let between: HttpFaults;

beforeAll(async () => {
  [server, ceph] = await Promise.all([startServer(), startCephGateway()]);
  between = await startHttpFaults(ceph.port);
  await makeFaultDatabase(server, 'shop');
}, cephStartMs);
afterAll(async () => {
  await between[Symbol.asyncDispose]();
  await ceph[Symbol.asyncDispose]();
  await server[Symbol.asyncDispose]();
});

/** As a user's environment has it. */
function environment(bucket: string, user: S3User, port = ceph.port): Record<string, string> {
  return {
    DATABASE_URL: server.url('shop'),
    BACKUP_ENCRYPTION_KEY: testKey,
    BACKUP_STORAGE_TYPE: 's3',
    S3_BACKUP_BUCKET: bucket,
    AWS_ENDPOINT_URL_S3: `http://127.0.0.1:${port}`,
    AWS_ACCESS_KEY_ID: user.accessKeyId,
    AWS_SECRET_ACCESS_KEY: user.secretAccessKey,
  };
}

async function restoreAndCompare(repository: string, storage: object): Promise<void> {
  await restoreInto(server, 'restored', repository, { ...storage, create: true });
  await expectSame(server, 'shop', 'restored');
  await server.dropDatabase('restored');
}

test('the built program creates, lists and restores, with nothing but the environment', async () => {
  const bucket = await ceph.makeBucket();
  const env = environment(bucket, ceph.owner);
  const created = await runPgkeep(['create', '--json', '--programs', server.binDir], { env });
  expect(created.err + created.out).not.toContain(ceph.owner.secretAccessKey);
  expect(created.exitCode, created.err).toBe(0);
  expect(JSON.parse(created.out)).toMatchObject({
    repository: `s3://${bucket}`,
    database: 'shop',
    reusedSegments: 0,
  });
  const listed = await runPgkeep(['list', '--json'], { env });
  expect(JSON.parse(listed.out)).toMatchObject([{ id: JSON.parse(created.out).id }]);
  await server.createDatabase('restored');
  const restored = await runPgkeep(['restore', 'latest', '--programs', server.binDir], {
    env: { ...env, RESTORE_DATABASE_URL: server.url('restored') },
  });
  expect(restored.exitCode, restored.err).toBe(0);
  await expectSame(server, 'shop', 'restored');
  await server.dropDatabase('restored');
  const again = await runPgkeep(
    ['create', '--json', '--repository', `s3://${bucket}`, '--programs', server.binDir],
    { env },
  );
  expect(JSON.parse(again.out).reusedSegments).toBeGreaterThan(2);
});

/** A policy of docs/guide.md, by whom it is for. */
function guidePolicy(whom: 'Writer' | 'Reader' | 'Cleaner'): S3Policy {
  const guide = readFileSync(new URL('../../docs/guide.md', import.meta.url), 'utf8');
  const text = new RegExp(`\n${whom} \\(.*?\n\`\`\`json\n(.*?)\`\`\``, 's').exec(guide)?.[1];
  if (text === undefined) throw new Error(`docs/guide.md has no policy for a ${whom}`);
  return JSON.parse(text) as S3Policy;
}

test('a writer without the right to delete backs up, again and again; a reader restores, and writes nothing', async () => {
  const bucket = await ceph.makeBucket(guidePolicy('Writer'));
  const repository = `s3://${bucket}/nightly`;
  const storage = { s3: ceph.options(ceph.guest) };
  await backUp(server, 'shop', repository, { storage });
  const second = await backUp(server, 'shop', repository, { storage });
  expect(second.reusedSegments).toBeGreaterThan(2);
  await restoreAndCompare(repository, { storage });
  expect(await listBackups({ repository, storage })).toHaveLength(2);
  const doctor = await runPgkeep(['doctor', '--json', '--programs', server.binDir], {
    env: { ...environment(bucket, ceph.guest), BACKUP_STORAGE_PATH: 'nightly' },
  });
  expect(doctor.exitCode, doctor.out).toBe(0);
  expect(JSON.parse(doctor.out).checks).toContainEqual(
    expect.objectContaining({
      name: 'storage',
      status: 'warning',
      message: expect.stringContaining('may not be removed'),
    }),
  );

  const readable = await ceph.makeBucket(guidePolicy('Reader'));
  await backUp(server, 'shop', `s3://${readable}`, { storage: { s3: ceph.options() } });
  await restoreAndCompare(`s3://${readable}`, { storage });
  await expect(backUp(server, 'shop', `s3://${readable}`, { storage })).rejects.toMatchObject({
    code: 'STORAGE_DENIED',
  });
  expect(await listBackups({ repository: `s3://${readable}`, storage })).toHaveLength(1);
});

test('what was changed in the bucket is found, and stored anew by the next backup once it has been removed', async () => {
  const bucket = await ceph.makeBucket();
  const repository = `s3://${bucket}`;
  const verify = { repository, storage: { s3: ceph.options() }, encryptionKey: testKey };
  await backUp(server, 'shop', repository, { storage: verify.storage });
  expect(await verifyBackups(verify)).toMatchObject({ valid: true });
  const storage = new S3Storage(repository, ceph.options());
  const segments: StoredObject[] = [];
  for await (const object of storage.list('segments/')) segments.push(object);
  const { name } = segments.sort((a, b) => b.sizeBytes - a.sizeBytes)[0] ?? { name: '' };
  const bytes = await storage.get(name);
  bytes[bytes.length >> 1] = (bytes[bytes.length >> 1] ?? 0) ^ 1;
  await storage.put(name, bytes);
  await storage.close();
  expect(await verifyBackups({ ...verify, repair: true })).toMatchObject({
    valid: false,
    repaired: [expect.any(String)],
  });
  await backUp(server, 'shop', repository, { storage: verify.storage });
  expect(await verifyBackups({ ...verify, all: true })).toMatchObject({ valid: true });
  await restoreAndCompare(repository, { storage: verify.storage });
});

test('a cleaner may remove what a writer may not', async () => {
  for (const [whom, isAllowed] of [
    ['Writer', false],
    ['Cleaner', true],
  ] as const) {
    const bucket = await ceph.makeBucket(guidePolicy(whom));
    const storage = new S3Storage(`s3://${bucket}`, ceph.options(ceph.guest));
    await storage.put('garbage/object', Buffer.from('x'));
    const removed = await storage.remove(['garbage/object']).then(
      () => true,
      error => error.code,
    );
    expect(removed).toBe(isAllowed || 'STORAGE_DENIED');
    expect((await storage.stat('garbage/object')) === undefined).toBe(isAllowed);
    await storage.close();
  }
});

test('one table out of a hundred is restored by reading little more than what is stored of it', async () => {
  const database = await server.createDatabase('hundred');
  const tables = Array.from(
    { length: 99 },
    (_, i) => `CREATE TABLE t${i} AS SELECT md5((n * ${i + 2})::text) AS x FROM generate_series(1, 500) n;`,
  );
  await psql(
    server,
    database,
    `${tables.join('\n')} CREATE TABLE wanted AS SELECT n, md5(n::text) AS x FROM generate_series(1, 200000) n`,
  );
  await psql(server, database, 'ANALYZE');
  const repository = `s3://${await ceph.makeBucket()}`;
  const storage = { s3: ceph.options() };
  const wanted = (await backUp(server, database, `${repository}/alone`, { storage, tables: ['wanted'] }))
    .newBytes;
  const all = await backUp(server, database, `${repository}/all`, { storage });
  expect(all.newBytes).toBeGreaterThan(wanted * 1.1);
  const { traffic } = await restoreInto(server, 'restored', `${repository}/all`, {
    storage,
    create: true,
    tables: ['wanted'],
  });
  expect(traffic.receivedBytes).toBeGreaterThan(wanted * 0.8);
  expect(traffic.receivedBytes).toBeLessThan(1.1 * wanted + 1024 * 1024);
  await server.dropDatabase('restored');
});

test('processes that meet in the bucket make one backup, and leave nothing for each other there, also after Ctrl-C', async () => {
  const bucket = await ceph.makeBucket();
  const env = { ...environment(bucket, ceph.owner), PGKEEP_PROGRAMS: server.binDir };
  const start = (...words: string[]) => startPgkeep(['create', '--json', ...words], { env });
  const tokenOf = async ({ out }: PgkeepProcess): Promise<string> =>
    JSON.parse(await waitFor('the token', () => /^\{"type":"shards".*\}$/m.exec(out())?.[0])).join;
  const left = async () => {
    const storage = new S3Storage(`s3://${bucket}`, ceph.options());
    const names = [];
    for await (const { name } of storage.list('shards/')) names.push(name);
    await storage.close();
    return names;
  };
  const coordinator = start('--shards', '2');
  const token = await tokenOf(coordinator);
  const shards = ['1/2', '2/2'].map(shard => start('--shard', shard, '--join', token));
  const ends = await Promise.all([...shards, coordinator].map(({ ended }) => ended));
  expect(ends.map(({ exitCode, err }) => (exitCode === 0 ? '' : err))).toEqual(['', '', '']);
  const rows = ends.slice(0, 2).map(({ out }) => JSON.parse(out).rows);
  expect(Math.min(...rows)).toBeGreaterThan(0);
  expect(await left()).toEqual([]);
  await restoreAndCompare(`s3://${bucket}`, { storage: { s3: ceph.options() } });
  const waiting = start('--shards', '1', '--join', 'night');
  expect(await tokenOf(waiting)).toBe('night');
  expect(await left()).toEqual([expect.stringMatching(/^shards\/backup-.*\/plan$/), 'shards/night.join']);
  waiting.kill('SIGINT');
  expect((await waiting.ended).exitCode).toBe(130);
  expect(await left()).toEqual([]);
});

describe('a run goes on', () => {
  test('through connections that are cut, lost acknowledgements, storms and requests to slow down', async () => {
    const bucket = await ceph.makeBucket();
    const storage = { s3: ceph.options(ceph.owner, between.port) };
    const faults = [
      s3Error(503, 'SlowDown', { 'retry-after': '1' }),
      'lose-answer',
      { cutRequestAfter: 10_000 },
      s3Error(500, 'InternalError'),
      { cutAnswerAfter: 100 },
      { answer: 503 },
    ] as const;
    let met = 0;
    // Every third request meets with something.
    between.decide(() => (++met % 3 === 0 ? (faults[(met / 3) % faults.length] ?? 'forward') : 'forward'));
    const { newSegments, traffic } = await backUp(server, 'shop', `s3://${bucket}`, { storage });
    expect(newSegments).toBeGreaterThan(2);
    expect(met / 3).toBeGreaterThan(faults.length);
    expect(traffic.requests).toBeGreaterThan(10);
    await restoreAndCompare(`s3://${bucket}`, { storage });
    between.decide(() => 'forward');
    const again = await backUp(server, 'shop', `s3://${bucket}`, { storage });
    expect(again.newSegments).toBeLessThanOrEqual(2);
  });
});

async function hasSegments(bucket: string, count: number): Promise<boolean> {
  const listing = new ListObjectsV2Command({ Bucket: bucket, Prefix: 'segments/' });
  return ((await ceph.client.send(listing)).KeyCount ?? 0) >= count;
}

describe('a run ends', () => {
  test.each([
    ['whose credentials are no longer good', () => s3Error(400, 'ExpiredToken'), 'STORAGE_CREDENTIALS'],
    ['whose bucket is taken away', () => s3Error(404, 'NoSuchBucket'), 'STORAGE_NOT_FOUND'],
    ['whose storage is full', () => s3Error(403, 'QuotaExceeded'), 'STORAGE_FULL'],
  ] as const)(
    '%s in the middle, no backup shows, and the next one reuses what it stored',
    async (_, fault, code) => {
      const bucket = await ceph.makeBucket();
      const repository = `s3://${bucket}`;
      const storage = { s3: ceph.options(ceph.owner, between.port) };
      let puts = 0;
      between.decide(async ({ method, path }) => {
        if (method !== 'PUT' || !path.includes('/segments/') || ++puts <= 3) return 'forward';
        // Several are on their way at once, and what fails ends the others; of three, two may be of the schema archive.
        await waitFor('stored segments', () => hasSegments(bucket, 3));
        return fault();
      });
      const failure: PgkeepError = await backUp(server, 'shop', repository, { storage }).then(
        () => expect.unreachable('the backup has not failed'),
        error => error,
      );
      expect(failure).toMatchObject({ code, exitCode: 4 });
      between.decide(() => 'forward');
      expect(await listBackups({ repository, storage })).toEqual([]);
      const next = await backUp(server, 'shop', repository, { storage });
      expect(next.reusedSegments).toBeGreaterThan(0);
      await restoreAndCompare(repository, { storage });
    },
  );

  test('at the first signal, also while it waits for a storage that has stalled', async () => {
    const bucket = await ceph.makeBucket();
    let isStalled = false;
    between.decide(({ path }) => {
      isStalled ||= path.includes('/segments/');
      return isStalled ? 'hang' : 'forward';
    });
    const run = startPgkeep(['create', '--programs', server.binDir], {
      env: environment(bucket, ceph.owner, between.port),
    });
    while (!isStalled) await sleep(20);
    run.kill('SIGINT');
    const asked = Date.now();
    const { exitCode, err } = await run.ended;
    expect(err).toContain('[INTERRUPTED]');
    expect(exitCode).toBe(130);
    expect(Date.now() - asked).toBeLessThan(25_000);
    between.decide(() => 'forward');
  });
});
