// kill -9 at any moment of a backup to S3, to Azure and to an SFTP server, again and again in one repository. The moment
// is a byte of what the run sends, chosen by chance that can be repeated: how fast the machine is plays no part.

import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { cleanupRepository } from '../../src/operations/cleanup-repository.ts';
import { listBackups } from '../../src/operations/list-backups.ts';
import { verifyBackups } from '../../src/operations/verify-backups.ts';
import { metadataPrefix, segmentPrefix } from '../../src/repository/layout.ts';
import { openStorage } from '../../src/storage/open-storage.ts';
import type { StorageOptions } from '../../src/storage/storage-options.ts';
import { names } from '../contract/storage-names.ts';
import { type Azurite, startAzurite } from '../support/azurite.ts';
import { type CephGateway, cephStartMs, startCephGateway } from '../support/ceph-gateway.ts';
import { expectSame, makeFaultDatabase } from '../support/fault-database.ts';
import { expectNamedOnly } from '../support/named-only.ts';
import { runPgkeep, startPgkeep } from '../support/pgkeep-process.ts';
import { psql, type Server, startServer } from '../support/postgres-server.ts';
import { backUp, restoreInto, testKey } from '../support/round-trip.ts';
import { below, seededRandom } from '../support/seeded-random.ts';
import { type SftpServer, startSftpServer } from '../support/sftp-server.ts';
import { startTcpProxy } from '../support/tcp-proxy.ts';
import { isThorough } from '../support/thorough.ts';

let server: Server;
let ceph: CephGateway;
let azurite: Azurite;
let sftp: SftpServer;

beforeAll(async () => {
  [server, ceph, azurite, sftp] = await Promise.all([
    startServer(),
    startCephGateway(),
    startAzurite(),
    startSftpServer(),
  ]);
  await Promise.all([azurite.createContainer('backups'), ceph.makeBucket()]);
}, cephStartMs);
afterAll(async () => {
  for (const service of [server, ceph, azurite, sftp]) await service[Symbol.asyncDispose]();
});

interface Place {
  repository: string;
  storage: StorageOptions;
  /** The same for the program. */
  env: Record<string, string>;
}

interface Remote {
  kind: string;
  kills: number;
  serverPort(): number;
  /** A repository, reached through a port. */
  place(port: number): Place;
}

const seed = 20261121;
/** Before the database changes. */
const killsPerVersion = 10;
/** So many of them when everything but the manifest and the metadata is there already. */
const killsAtTheEnd = 2;
const tables = 8;
/** More than what is sent around the bytes of one object. */
const putBytes = 2_000;
/** Less than the last put, and more than what two equal runs differ by. */
const lastBytes = 500;
/** About what is sent for the manifest and the metadata. */
const publishingBytes = 4_000;

const remotes: Remote[] = [
  {
    kind: 'S3',
    kills: isThorough ? 50 : 10,
    serverPort: () => ceph.port,
    place: port => ({
      repository: 's3://bucket-1',
      storage: { s3: ceph.options(ceph.owner, port) },
      env: {
        AWS_ENDPOINT_URL_S3: `http://127.0.0.1:${port}`,
        AWS_ACCESS_KEY_ID: ceph.owner.accessKeyId,
        AWS_SECRET_ACCESS_KEY: ceph.owner.secretAccessKey,
      },
    }),
  },
  {
    kind: 'Azure',
    kills: isThorough ? 50 : 10,
    serverPort: () => azurite.port,
    place: port => {
      const { account, key, endpoint } = azurite.login(port);
      return {
        repository: 'azure://backups/killed',
        storage: { azure: azurite.login(port) },
        env: {
          AZURE_STORAGE_ACCOUNT: account,
          AZURE_STORAGE_KEY: key,
          AZURE_STORAGE_SERVICE_ENDPOINT: endpoint,
        },
      };
    },
  },
  {
    kind: 'SFTP',
    kills: 10,
    serverPort: () => sftp.port,
    place: port => ({
      repository: sftp.url('killed', port),
      storage: { sftp: sftp.login },
      env: { SFTP_KEY_FILE: sftp.login.keyFile, SFTP_KNOWN_HOSTS: sftp.login.knownHostsFile },
    }),
  },
];

describe.concurrent.each(remotes)('$kind', ({ kind, kills, serverPort, place }) => {
  test(`killed with kill -9 at ${kills} moments, it leaves no half backup, the next run stores only what is not there, and a cleanup leaves what the manifests name`, async () => {
    const database = `shop_${kind.toLowerCase()}`;
    await makeFaultDatabase(server, database, 500);
    await using proxy = await startTcpProxy(serverPort());
    const { repository, storage } = place(serverPort());
    const proxied = place(proxy.port);
    const surroundings = {
      ...proxied.env,
      BACKUP_REPOSITORY: proxied.repository,
      BACKUP_ENCRYPTION_KEY: testKey,
      DATABASE_URL: server.url(database),
      PGKEEP_PROGRAMS: server.binDir,
    };
    /** What `pgkeep` sends to the storage, and what it prints. */
    const run = async (...words: string[]) => {
      const before = proxy.sentBytes;
      const ending = await runPgkeep(words, { env: surroundings });
      expect(ending).toMatchObject({ exitCode: 0 });
      return { sentBytes: proxy.sentBytes - before, ...JSON.parse(ending.out) };
    };
    const opened = await openStorage(repository, storage);
    const segments = async () => {
      const sizes = new Map<string, number>();
      for await (const { name, sizeBytes } of opened.list(segmentPrefix)) sizes.set(name, sizeBytes);
      return sizes;
    };

    await fill(database, 0);
    await run('create', '--json');
    await fill(database, 1);
    const whole = await run('create', '--json');
    const repeated = await run('create', '--json');
    expect(repeated.newSegments).toBe(1);
    expect(whole.newSegments).toBeGreaterThan(tables);
    // Until a run knows what is there, it stores nothing, just as a listing.
    const looking = (await run('list', '--json')).sentBytes;

    const random = seededRandom(seed);
    let complete = 3;
    let killed = 0;
    const killAt = async (sentBytes: number) => {
      const dying = startPgkeep(['create'], { env: surroundings });
      proxy.resetAfterSent(sentBytes, () => dying.kill('SIGKILL'));
      expect(await dying.ended).toMatchObject({ signal: 'SIGKILL' });
      killed++;
      expect(await names(opened, metadataPrefix)).toHaveLength(complete);
    };
    let found = 0;
    for (let version = 2; killed < kills; version++) {
      await fill(database, version);
      const before = await segments();
      const left = async () => [...(await segments())].filter(([name]) => !before.has(name));
      for (let kill = 0; kill < killsPerVersion - killsAtTheEnd; kill++) {
        // What is there already is not sent again, except for the schema archive, which is another one each time.
        const spared = (await left()).reduce((sum, [, sizeBytes]) => sum + sizeBytes + putBytes, 0);
        const least = Math.max(whole.sentBytes - spared, repeated.sentBytes);
        await killAt(looking + below(random, least - looking - lastBytes));
      }
      const stored = (await left()).length;
      found += stored;
      const next = await backUp(server, database, repository, { storage });
      complete++;
      expect(next.newSegments).toBeLessThanOrEqual(whole.newSegments - Math.max(0, stored - killsPerVersion));
      expect(await listBackups({ repository, storage })).toHaveLength(complete);
      for (let kill = 0; kill < killsAtTheEnd; kill++) {
        await killAt(repeated.sentBytes - lastBytes - below(random, publishingBytes));
      }
    }
    expect(found).toBeGreaterThan(kills);

    // Garbage is older than the list of it by more than a tick of the storage's clock.
    await sleep(1_100);
    const cleanup = { repository, storage, encryptionKey: testKey, keepLast: complete, graceMs: 0 };
    const { candidates } = await cleanupRepository(cleanup);
    const { deleted, problems } = await cleanupRepository(cleanup);
    expect({ deleted, problems }).toEqual({ deleted: candidates, problems: [] });
    expect(deleted.manifests).toBeGreaterThan(0);
    await expectNamedOnly(repository, storage);
    expect(await verifyBackups({ repository, storage, encryptionKey: testKey, all: true })).toMatchObject({
      valid: true,
    });
    await restoreInto(server, `${database}_restored`, repository, { storage, create: true });
    await expectSame(server, database, `${database}_restored`);
    await opened.close();
  }, 900_000);
});

/** New rows for all large tables: each is larger than those that share segments, as its pages are mostly empty. */
async function fill(database: string, version: number): Promise<void> {
  const statements = Array.from(
    { length: tables },
    (_, i) => `DROP TABLE IF EXISTS t${i}; CREATE TABLE t${i} (n int, x text) WITH (fillfactor = 10);
      INSERT INTO t${i} SELECT n, md5(n || 'of table ${i}, ${version}') FROM generate_series(1, 1800) AS n;`,
  );
  await psql(server, database, statements.join('\n'));
}
