// Commands that read, and dry runs, ask nothing of a storage that would change it: neither of a bucket, as the requests
// on their way to it show, nor of a folder.

import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type CephGateway, cephStartMs, startCephGateway } from '../support/ceph-gateway.ts';
import { runCli } from '../support/cli-io.ts';
import { expectSame, makeFaultDatabase } from '../support/fault-database.ts';
import { type HttpFaults, startHttpFaults } from '../support/http-faults.ts';
import { type Server, startServer } from '../support/postgres-server.ts';
import { backUp, restoreInto, testKey } from '../support/round-trip.ts';
import { makeTempFolder } from '../support/temp-folder.ts';

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

/** Every command that only reads; `cleanup` and `delete` would remove everything if it were not for `--dry-run`. */
async function readInEveryWay(repository: string, id: string, more: Record<string, string>): Promise<void> {
  const env = { PATH: process.env.PATH ?? '', BACKUP_ENCRYPTION_KEY: testKey, ...more };
  const cwd = makeTempFolder('read').path;
  for (const argv of [
    ['list'],
    ['show', id],
    ['export', id, '--programs', server.binDir],
    ['restore', id, '--to', server.url('new'), '--create', '--dry-run', '--programs', server.binDir],
    ['cleanup', '--keep-days', '0', '--grace', '1s', '--dry-run'],
    ['delete', id, '--force', '--dry-run'],
  ]) {
    const { exitCode, err } = await runCli([...argv, '--repository', repository], { env, cwd });
    expect([argv[0], exitCode], err).toEqual([argv[0], 0]);
  }
}

test('a user who may only list and get reads in every way and restores, and nobody asks for more', async () => {
  const bucket = await ceph.makeBucket(['s3:ListBucket', 's3:GetObject']);
  const repository = `s3://${bucket}`;
  await backUp(server, 'shop', repository, { storage: { s3: ceph.options() } });
  const { id } = await backUp(server, 'shop', repository, { storage: { s3: ceph.options() } });
  between.requests.length = 0;
  await readInEveryWay(repository, id, {
    AWS_ENDPOINT_URL_S3: `http://127.0.0.1:${between.port}`,
    AWS_ACCESS_KEY_ID: ceph.guest.accessKeyId,
    AWS_SECRET_ACCESS_KEY: ceph.guest.secretAccessKey,
  });
  const storage = { s3: ceph.options(ceph.guest, between.port) };
  await restoreInto(server, 'restored', repository, { storage, create: true });
  await expectSame(server, 'shop', 'restored');
  await server.dropDatabase('restored');
  const methods = new Set(between.requests.map(({ method }) => method));
  expect([...methods].sort()).toEqual(['GET', 'HEAD']);
});

test('of a folder nothing changes, not even a time', async () => {
  await using folder = makeTempFolder('repository');
  await backUp(server, 'shop', folder.path);
  const { id } = await backUp(server, 'shop', folder.path);
  const look = () =>
    readdirSync(folder.path, { recursive: true, encoding: 'utf8' })
      .sort()
      .map(name => [
        name,
        statSync(join(folder.path, name)).mtimeMs,
        statSync(join(folder.path, name)).ctimeMs,
      ]);
  const before = look();
  await readInEveryWay(folder.path, id, {});
  expect(look()).toEqual(before);
});
