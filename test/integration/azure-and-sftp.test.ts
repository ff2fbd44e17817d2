// Backups in Azure and on an SFTP server by the built program, configured as the guide says: created, listed, restored
// row for row, and killed with kill -9 at any moment.

import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { listBackups } from '../../src/operations/list-backups.ts';
import { openStorage } from '../../src/storage/open-storage.ts';
import type { StorageOptions } from '../../src/storage/storage-options.ts';
import { names } from '../contract/storage-names.ts';
import { type Azurite, startAzurite } from '../support/azurite.ts';
import { expectSame, makeFaultDatabase } from '../support/fault-database.ts';
import { runPgkeep, startPgkeep } from '../support/pgkeep-process.ts';
import { type Server, startServer } from '../support/postgres-server.ts';
import { backUp, restoreInto, testKey } from '../support/round-trip.ts';
import { type SftpServer, startSftpServer } from '../support/sftp-server.ts';

let server: Server;
let azurite: Azurite;
let sftp: SftpServer;

beforeAll(async () => {
  server = await startServer();
  await makeFaultDatabase(server, 'shop', 40_000);
  azurite = await startAzurite();
  await azurite.createContainer('backups');
  sftp = await startSftpServer();
}, 300_000);
afterAll(async () => {
  for (const service of [server, azurite, sftp]) await service[Symbol.asyncDispose]();
});

interface Place {
  repository: string;
  storage: StorageOptions;
  /** The same for the program. */
  env: Record<string, string>;
}

const places: readonly [string, (name: string) => Place][] = [
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
        BACKUP_REPOSITORY: sftp.url(name),
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

describe.each(places)('%s', (kind, placeOf) => {
  test('what is needed is checked; a backup is created, listed, shown, verified, restored row for row, and cleaned up', async () => {
    const { env, repository, storage } = placeOf('round-trip');
    const pgkeep = async (...words: string[]) => {
      const target = { RESTORE_DATABASE_URL: server.url(`restored_from_${kind}`) };
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
    await expectSame(server, 'shop', `restored_from_${kind}`);
    await pgkeep('delete', id, '--yes');
    await pgkeep('cleanup', '--grace', '1s');
    // What was found to be needed by none is removed once it has been that for the grace.
    await sleep(2500);
    await pgkeep('cleanup', '--grace', '1s');
    expect(await listBackups({ repository, storage })).toMatchObject([{ id: second.id }]);
    await pgkeep('verify', second.id);
  });

  test('killed with kill -9 at 10 moments, it leaves no half backup, and the next run uses what is there', async () => {
    const undisturbed = placeOf('undisturbed');
    const began = Date.now();
    const { exitCode } = await runPgkeep(['create'], { env: { ...surroundings(), ...undisturbed.env } });
    expect(exitCode).toBe(0);
    const wholeMs = Date.now() - began;
    const random = seeded(kind === 'Azure' ? 20251121 : 20251122);
    let killed = 0;
    let found = 0;
    for (let run = 0; run < 10; run++) {
      const { repository, storage, env } = placeOf(`killed-${run}`);
      const dying = startPgkeep(['create'], { env: { ...surroundings(), ...env } });
      // The first third is starting up, when nothing is stored yet.
      const timer = setTimeout(() => dying.kill('SIGKILL'), wholeMs * (0.3 + 0.7 * random()));
      const { signal } = await dying.ended;
      clearTimeout(timer);
      if (signal === 'SIGKILL') killed++;
      const opened = await openStorage(repository, storage);
      const segments = await names(opened, 'segments/');
      const complete = await names(opened, 'metadata/');
      await opened.close();
      found += segments.length;
      const next = await backUp(server, 'shop', repository, { storage });
      // The schema archive is another one each time: all others are taken over.
      expect(next.reusedSegments).toBeGreaterThanOrEqual(segments.length - 1);
      expect(await listBackups({ repository, storage })).toHaveLength(complete.length + 1);
      if (run !== 9) continue;
      await restoreInto(server, `after_kill_${kind}`, repository, { storage, create: true });
      await expectSame(server, 'shop', `after_kill_${kind}`);
    }
    expect(killed).toBeGreaterThan(3);
    expect(found).toBeGreaterThan(0);
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

/** Numbers from 0 to 1 that are the same in every run (mulberry32). */
function seeded(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
