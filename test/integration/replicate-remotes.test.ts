// Replicas in S3 and Azure, made as the guide says: a backup goes from a folder to S3 and from there to Azure, and is restored
// from Azure alone; each side by credentials of its own; and what becomes of a backup whose replica fails.

import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { cleanupRepository } from '../../src/operations/cleanup-repository.ts';
import { deleteBackup } from '../../src/operations/delete-backup.ts';
import { listBackups } from '../../src/operations/list-backups.ts';
import { replicateBackups } from '../../src/operations/replicate-backups.ts';
import { openStorage } from '../../src/storage/open-storage.ts';
import { names } from '../contract/storage-names.ts';
import { type Azurite, startAzurite } from '../support/azurite.ts';
import { type CephGateway, cephStartMs, type S3User, startCephGateway } from '../support/ceph-gateway.ts';
import { runCli } from '../support/cli-io.ts';
import { expectSame, makeFaultDatabase } from '../support/fault-database.ts';
import { freePort } from '../support/free-port.ts';
import { psql, type Server, startServer } from '../support/postgres-server.ts';
import { backUp, testKey } from '../support/round-trip.ts';
import { makeTempFolder } from '../support/temp-folder.ts';

let server: Server;
let ceph: CephGateway;
let azurite: Azurite;

beforeAll(async () => {
  [server, ceph, azurite] = await Promise.all([startServer(), startCephGateway(), startAzurite()]);
  await azurite.createContainer('backups');
  await makeFaultDatabase(server, 'shop', 40_000);
}, cephStartMs);
afterAll(async () => {
  for (const service of [server, ceph, azurite]) await service[Symbol.asyncDispose]();
});

function s3Environment(user: S3User, prefix = ''): Record<string, string> {
  return {
    [`${prefix}AWS_ENDPOINT_URL_S3`]: ceph.endpoint,
    [`${prefix}AWS_ACCESS_KEY_ID`]: user.accessKeyId,
    [`${prefix}AWS_SECRET_ACCESS_KEY`]: user.secretAccessKey,
  };
}

function azureEnvironment(): Record<string, string> {
  const { account, key, endpoint } = azurite.login();
  return {
    AZURE_STORAGE_ACCOUNT: account,
    AZURE_STORAGE_KEY: key,
    AZURE_STORAGE_SERVICE_ENDPOINT: endpoint,
  };
}

/** Runs a command line as a user has it set up, and gives its JSON. */
async function pgkeep(words: readonly string[], env: Record<string, string>, exitCode = 0, cwd = '/nowhere') {
  const surroundings = {
    PATH: process.env.PATH ?? '',
    BACKUP_ENCRYPTION_KEY: testKey,
    DATABASE_URL: server.url('shop'),
    PGKEEP_PROGRAMS: server.binDir,
  };
  const ending = await runCli([...words, '--json'], { env: { ...surroundings, ...env }, cwd, now: Date.now });
  expect(ending.exitCode, ending.err + ending.out).toBe(exitCode);
  return { result: JSON.parse(ending.out), err: ending.err };
}

test('a backup goes from a folder to S3 as it is made, from there to Azure, and is restored from Azure alone', async () => {
  const bucket = await ceph.makeBucket();
  const folder = makeTempFolder('repository');
  const inS3 = `s3://${bucket}/replica`;
  const inAzure = 'azure://backups/replica';
  const create = {
    ...s3Environment(ceph.owner),
    BACKUP_STORAGE_PATH: folder.path,
    BACKUP_REPLICATE_TO: inS3,
  };
  const { result: first } = await pgkeep(['create'], create);
  expect(first.replica).toMatchObject({ to: inS3, copied: true });
  const { result: second, err } = await pgkeep(['create', '--tag', 'nightly'], create);
  // Of the second only what changed travels.
  expect(second.replica.bytes).toBeLessThan(first.replica.bytes / 4);
  expect(err).toContain('copying to the replica');
  const { result: listed } = await pgkeep(['list'], create);
  expect(listed).toMatchObject([
    { id: second.id, inRepository: true, inReplica: true },
    { id: first.id, inRepository: true, inReplica: true },
  ]);
  await folder.remove();

  const onward = { ...s3Environment(ceph.owner), ...azureEnvironment(), BACKUP_REPOSITORY: inS3 };
  const { result: planned } = await pgkeep(['replicate', '--to', inAzure, '--dry-run'], onward);
  const { result: copied } = await pgkeep(['replicate', '--to', inAzure], onward);
  expect([planned.objects, planned.bytes]).toEqual([copied.objects, copied.bytes]);
  expect(copied).toMatchObject({
    repository: inS3,
    to: inAzure,
    backups: [{ id: second.id }, { id: first.id }],
  });
  const { result: again } = await pgkeep(['replicate', '--to', inAzure], onward);
  expect(again).toMatchObject({ present: 2, objects: 0, traffic: { target: { sentBytes: 0 } } });
  await pgkeep(['replicate', '--to', inS3, '--tag', 'nightly', '--repository', inAzure], onward);

  const alone = { ...azureEnvironment(), BACKUP_REPOSITORY: inAzure };
  const { result: verified } = await pgkeep(['verify', '--all', '--level', 'data'], alone);
  expect(verified).toMatchObject({ valid: true, backups: [{}, {}] });
  const storage = await openStorage(inAzure, { azure: azurite.login() });
  expect(await names(storage, 'recovery/')).toHaveLength(2);
  await storage.close();
  const target = { RESTORE_DATABASE_URL: server.url('restored') };
  await pgkeep(['restore', 'latest', '--create'], { ...alone, ...target });
  await expectSame(server, 'shop', 'restored');
  await server.dropDatabase('restored');

  // What is deleted and collected in S3 stays in Azure.
  const s3 = { s3: ceph.options() };
  await deleteBackup({ repository: inS3, storage: s3, backup: first.id });
  for (let pass = 0; pass < 2; pass++)
    await cleanupRepository({ repository: inS3, storage: s3, encryptionKey: testKey, graceMs: 0 });
  const { result: still } = await pgkeep(['verify', first.id, '--level', 'data'], alone);
  expect(still.valid).toBe(true);
  const { result: left } = await pgkeep(['verify', '--all', '--level', 'data'], { ...onward });
  expect(left).toMatchObject({ valid: true, backups: [{ backupId: second.id }] });
});

test('each side has endpoint and credentials of its own, from the environment or the configuration file', async () => {
  const readable = await ceph.makeBucket(['s3:ListBucket', 's3:GetObject']);
  const hidden = await ceph.makeBucket();
  const { id } = await backUp(server, 'shop', `s3://${readable}`, { storage: { s3: ceph.options() } });
  const guest = { ...s3Environment(ceph.guest), BACKUP_REPOSITORY: `s3://${readable}` };
  // The guest may read the one and do nothing in the other.
  const { result: refused } = await pgkeep(['replicate', '--to', `s3://${hidden}/a`], guest, 4);
  expect(refused.error.code).toBe('STORAGE_DENIED');
  const both = { ...guest, ...s3Environment(ceph.owner, 'REPLICA_') };
  const { result, err } = await pgkeep(['replicate', '--to', `s3://${hidden}/a`], both);
  expect(result.backups).toMatchObject([{ id, state: 'copied' }]);
  expect(JSON.stringify(result) + err).not.toContain(ceph.owner.secretAccessKey);

  const cwd = makeTempFolder('config').path;
  const replica = { repository: `s3://${hidden}/b`, s3Endpoint: ceph.endpoint, s3StorageClass: 'STANDARD' };
  writeFileSync(join(cwd, 'backup.config.json'), JSON.stringify({ replica }));
  const { REPLICA_AWS_ENDPOINT_URL_S3: _, ...keys } = s3Environment(ceph.owner, 'REPLICA_');
  const configured = await pgkeep(['replicate'], { ...guest, ...keys }, 0, cwd);
  expect(configured.result).toMatchObject({ to: replica.repository, backups: [{ id }] });
  expect((await pgkeep(['list'], { ...guest, ...keys }, 0, cwd)).result).toMatchObject([{ inReplica: true }]);
});

test('an incomplete backup whose replica fails gives the exit code of an incomplete one', async () => {
  await using folder = makeTempFolder('repository');
  const source = await server.createDatabase('part');
  await psql(
    server,
    source,
    'CREATE ROLE reader LOGIN; CREATE TABLE secret (n integer); CREATE TABLE open (n integer); GRANT SELECT ON open TO reader',
  );
  const env = { DATABASE_URL: server.url(source, 'reader'), BACKUP_STORAGE_PATH: folder.path };
  const noPlace = ['--replicate-to', '/dev/null/replica'];
  const { result, err } = await pgkeep(['create', '--skip-unreadable', ...noPlace], env, 10);
  expect(result).toMatchObject({ complete: false, replica: { copied: false } });
  expect(err).toContain('[REPLICA_FAILED]');
  expect(err).toContain('[BACKUP_PARTIAL]');
});

test('a bucket is no replica of itself, and under two names of its server it is warned of', async () => {
  const bucket = await ceph.makeBucket();
  const repository = `s3://${bucket}/n`;
  await backUp(server, 'shop', repository, { storage: { s3: ceph.options() } });
  const env = { ...s3Environment(ceph.owner), ...s3Environment(ceph.owner, 'REPLICA_') };
  const itself = await pgkeep(['replicate', '--to', repository, '--repository', repository], env, 2);
  expect(itself.result.error.code).toBe('OPTION_INVALID');
  const byName = ceph.endpoint.replace('127.0.0.1', 'localhost');
  const aliased = { ...env, REPLICA_AWS_ENDPOINT_URL_S3: byName };
  const { result } = await pgkeep(['replicate', '--to', repository, '--repository', repository], aliased);
  expect(result).toMatchObject({
    present: 1,
    warnings: [expect.stringContaining('one place under two names')],
  });
  // A copy made here has times of its own.
  const to = ['replicate', '--repository', repository, '--to', `s3://${bucket}/other`];
  await pgkeep(to, env);
  expect((await pgkeep(to, env)).result).toMatchObject({ present: 1, warnings: [], backups: [] });
});

test('whoever copies needs to read the one side and to put, get and list on the other, not to delete', async () => {
  const folder = makeTempFolder('repository');
  await backUp(server, 'shop', folder.path);
  const bucket = await ceph.makeBucket(['s3:ListBucket', 's3:GetObject', 's3:PutObject']);
  const place = { to: `s3://${bucket}`, toStorage: { s3: ceph.options(ceph.guest) } };
  const { backups } = await replicateBackups({ repository: folder.path, encryptionKey: testKey, ...place });
  expect(backups).toMatchObject([{ state: 'copied' }]);
  await folder.remove();
});

test('a backup whose replica fails counts: exit code 12 says so, and a later run copies it', async () => {
  const folder = makeTempFolder('repository');
  const bucket = await ceph.makeBucket();
  const to = `s3://${bucket}/late`;
  const down = { AWS_ENDPOINT_URL_S3: `http://127.0.0.1:${await freePort()}` };
  const env = { ...s3Environment(ceph.owner), BACKUP_STORAGE_PATH: folder.path, BACKUP_REPLICATE_TO: to };
  const { result, err } = await pgkeep(['create'], { ...env, ...down }, 12);
  expect(result).toMatchObject({ replica: { to, copied: false, error: { code: 'STORAGE_UNREACHABLE' } } });
  expect(err).toContain(`${result.id} is stored in ${folder.path}, but not in ${to}`);
  expect(err).toContain('[REPLICA_FAILED]');
  expect(await listBackups({ repository: folder.path })).toMatchObject([{ id: result.id }]);
  // The list tells what it can.
  const listed = await pgkeep(['list'], { ...env, ...down });
  expect(listed.result).toMatchObject([{ id: result.id, inReplica: null }]);
  expect(listed.err).toContain('the replica could not be listed');
  // A place that is none is told before anything is done.
  await pgkeep(['create', '--replicate-to', 'ftp://nowhere'], env, 2);
  const { result: copied } = await pgkeep(['replicate'], env);
  expect(copied.backups).toMatchObject([{ id: result.id, state: 'copied' }]);

  // A damaged segment of the source: the backup that needs it is named, with the same exit code.
  const second = await pgkeep(['create'], { ...env, BACKUP_REPLICATE_TO: '' });
  expect(second.result.replica).toBeNull();
  rmSync(join(folder.path, 'backups', `${second.result.id}.backup`));
  const failed = await pgkeep(['replicate'], env, 12);
  expect(failed.result.backups).toMatchObject([{ state: 'failed', error: { code: 'OBJECT_MISSING' } }]);
  expect(failed.err).toContain(second.result.id);
  await folder.remove();
});
