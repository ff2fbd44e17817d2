// Backups in remote storages by the built program, configured by its environment as the guide says: created, listed,
// restored row for row, checked and cleaned up. In Ceph, with more besides: s3.test.ts.

import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { listBackups } from '../../src/operations/list-backups.ts';
import type { StorageOptions } from '../../src/storage/storage-options.ts';
import { type Azurite, startAzurite } from '../support/azurite.ts';
import { type CephGateway, startCephGateway } from '../support/ceph-gateway.ts';
import { expectSame, makeFaultDatabase } from '../support/fault-database.ts';
import { type GcsServer, startGcsServer } from '../support/gcs-server.ts';
import { runPgkeep } from '../support/pgkeep-process.ts';
import { type Server, startServer } from '../support/postgres-server.ts';
import { backUp, restoreInto, testKey } from '../support/round-trip.ts';
import { type SftpServer, startSftpServer } from '../support/sftp-server.ts';
import { type SwiftServer, startSwiftServer } from '../support/swift-server.ts';

let server: Server;
let azurite: Azurite;
let sftp: SftpServer;
let swift: SwiftServer;
let bucket: string;
let ceph: CephGateway;
let gcs: GcsServer;
let googleBucket: string;

beforeAll(async () => {
  server = await startServer();
  await makeFaultDatabase(server, 'shop', 40_000);
  azurite = await startAzurite();
  await azurite.createContainer('backups');
  sftp = await startSftpServer();
  swift = await startSwiftServer();
  bucket = await swift.makeBucket();
  ceph = await startCephGateway();
  gcs = await startGcsServer(ceph);
  googleBucket = await gcs.makeBucket();
}, 300_000);
afterAll(async () => {
  for (const service of [server, azurite, sftp, swift, gcs, ceph]) await service[Symbol.asyncDispose]();
});

interface Place {
  repository: string;
  storage: StorageOptions;
  /** The same for the program. */
  env: Record<string, string>;
}

const places: readonly [string, (name: string) => Place][] = [
  [
    'S3 that lacks conditional puts: Swift',
    name => ({
      repository: `s3://${bucket}/${name}`,
      storage: { s3: swift.options() },
      env: {
        BACKUP_STORAGE_TYPE: 's3',
        S3_BACKUP_BUCKET: bucket,
        BACKUP_STORAGE_PATH: name,
        AWS_ENDPOINT_URL_S3: swift.endpoint,
        AWS_ACCESS_KEY_ID: swift.owner.accessKeyId,
        AWS_SECRET_ACCESS_KEY: swift.owner.secretAccessKey,
      },
    }),
  ],
  [
    'Google Cloud Storage, as documented',
    name => ({
      repository: `gs://${googleBucket}/${name}`,
      storage: { gcs: gcs.options },
      env: {
        BACKUP_STORAGE_TYPE: 'gcs',
        GCS_BACKUP_BUCKET: googleBucket,
        BACKUP_STORAGE_PATH: name,
        GCS_HMAC_ACCESS_ID: gcs.options.accessId,
        GCS_HMAC_SECRET: gcs.options.secret,
        PGKEEP_GCS_ENDPOINT: gcs.options.endpoint,
        PGKEEP_GCS_STORAGE_CLASS: 'nearline',
      },
    }),
  ],
  [
    'Azure',
    name => {
      const { account, key, endpoint } = azurite.login();
      return {
        repository: `azure://backups/${name}`,
        storage: { azure: azurite.login() },
        env: {
          BACKUP_STORAGE_TYPE: 'azure',
          AZURE_CONTAINER: 'backups',
          BACKUP_STORAGE_PATH: name,
          AZURE_STORAGE_ACCOUNT: account,
          AZURE_STORAGE_KEY: key,
          AZURE_STORAGE_SERVICE_ENDPOINT: endpoint,
          PGKEEP_LIMIT_REQUESTS: '2',
          PGKEEP_LIMIT_DOWNLOAD: '1GiB',
        },
      };
    },
  ],
  [
    'SFTP',
    name => ({
      repository: sftp.url(name),
      storage: { sftp: sftp.login },
      env: {
        BACKUP_STORAGE_TYPE: 'sftp',
        SFTP_HOST: `${sftp.user}@127.0.0.1:${sftp.port}`,
        BACKUP_STORAGE_PATH: `${sftp.folder}/${name}`,
        SFTP_KEY_FILE: sftp.login.keyFile,
        SFTP_KNOWN_HOSTS: sftp.login.knownHostsFile,
      },
    }),
  ],
];

/** What the program needs besides the storage. */
function surroundings(): Record<string, string> {
  return {
    BACKUP_ENCRYPTION_KEY: testKey,
    DATABASE_URL: server.url('shop'),
    PGKEEP_PROGRAMS: server.binDir,
  };
}

describe.each(places)('%s', (_, placeOf) => {
  test('what is needed is checked; a backup is created, listed, shown, verified, restored row for row, and cleaned up', async () => {
    const { env, repository, storage } = placeOf('round-trip');
    const pgkeep = async (...words: string[]) => {
      const target = { RESTORE_DATABASE_URL: server.url('restored') };
      const ending = await runPgkeep(words, { env: { ...surroundings(), ...target, ...env } });
      expect(ending).toMatchObject({ exitCode: 0 });
      return ending.out;
    };
    await pgkeep('doctor');
    const { id } = JSON.parse(await pgkeep('create', '--json'));
    const second = JSON.parse(await pgkeep('create', '--json'));
    expect(second.reusedSegments).toBeGreaterThan(0);
    expect(await pgkeep('list')).toContain(id);
    expect(await pgkeep('show', id)).toContain('big');
    await pgkeep('verify', id);
    await pgkeep('restore', id, '--create', '--yes');
    await expectSame(server, 'shop', 'restored');
    await server.dropDatabase('restored');
    await pgkeep('delete', id, '--yes');
    await pgkeep('cleanup', '--grace', '1s');
    // What was found to be needed by none is removed once it has been that for the grace.
    await sleep(2500);
    await pgkeep('cleanup', '--grace', '1s');
    expect(await listBackups({ repository, storage })).toMatchObject([{ id: second.id }]);
    await pgkeep('verify', second.id);
  });
});

test('a writer without the right to delete takes backups, and a reader restores them', async () => {
  const { endpoint } = azurite.login();
  const repository = 'azure://backups/least-rights';
  const as = (permissions: string) => ({ azure: { endpoint, sas: azurite.sas(permissions) } });
  await backUp(server, 'shop', repository, { storage: as('rcwl') });
  const second = await backUp(server, 'shop', repository, { storage: as('rcwl') });
  expect(second.reusedSegments).toBeGreaterThan(0);
  expect(await listBackups({ repository, storage: as('rl') })).toHaveLength(2);
  await restoreInto(server, 'restored_by_reader', repository, { storage: as('rl'), create: true });
  await expectSame(server, 'shop', 'restored_by_reader');
});

test('a writer to Google who may neither delete nor overwrite takes backups, which restore', async () => {
  await using strict = await startGcsServer(ceph);
  strict.forbidDeletion();
  const repository = `gs://${await strict.makeBucket()}`;
  const storage = { gcs: strict.options };
  await backUp(server, 'shop', repository, { storage });
  const second = await backUp(server, 'shop', repository, { storage });
  expect(second.reusedSegments).toBeGreaterThan(0);
  await restoreInto(server, 'restored_from_google', repository, { storage, create: true });
  await expectSame(server, 'shop', 'restored_from_google');
});
