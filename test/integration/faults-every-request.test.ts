// What happens at every single request to the storage: the process is killed there, or the request fails, or its answer is
// lost. Enumerated: each test goes on to the next request until a run has no more of them.

import { cpSync, rmSync, statfsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { PgkeepError } from '../../src/base/errors.ts';
import { cleanupRepository } from '../../src/operations/cleanup-repository.ts';
import { listBackups } from '../../src/operations/list-backups.ts';
import { type Effect, withFaults } from '../support/faulty-storage.ts';
import { psql, type Server, startServer } from '../support/postgres-server.ts';
import { backupsIn, neededObjects, objectsIn, readBackup, rowsOf } from '../support/repository-contents.ts';
import { backUp, restoreInto, testKey } from '../support/round-trip.ts';
import { runUnderFaults } from '../support/run-under-faults.ts';
import { mountSmallDisk } from '../support/small-disk.ts';
import { makeTempFolder } from '../support/temp-folder.ts';

let server: Server;
/** Holds one backup of `shop`, made before some of its rows changed. */
const base = makeTempFolder('repository');
let oldId: string;
let oldObjects: Map<string, string>;
/** Rows of `shop` as they are now. */
let rowsNow: Map<string, string>;

beforeAll(async () => {
  server = await startServer();
  await server.createDatabase('shop');
  await psql(
    server,
    'shop',
    `CREATE TABLE customer (id serial PRIMARY KEY, name text NOT NULL);
     INSERT INTO customer (name) SELECT 'name ' || i FROM generate_series(1, 300) AS i;
     CREATE TABLE purchase (customer integer REFERENCES customer, made date, total numeric);
     INSERT INTO purchase SELECT i % 300 + 1, date '2024-01-01' + i, i / 7.0 FROM generate_series(1, 900) AS i;
     -- Of more than a mebibyte, so that it has a segment of its own; most of its rows are gone again.
     CREATE TABLE large (i integer, a text, filler text) WITH (autovacuum_enabled = false);
     ALTER TABLE large ALTER filler SET STORAGE PLAIN;
     INSERT INTO large SELECT i, md5(i::text), repeat('x', 5000) FROM generate_series(1, 150) AS i;
     DELETE FROM large WHERE i % 15 > 0;
     SELECT lo_from_bytea(4711, convert_to('large object', 'UTF8'));`,
  );
  oldId = (await backUp(server, 'shop', base.path, { jobs: 1 })).id;
  oldObjects = objectsIn(base.path);
  await psql(
    server,
    'shop',
    "UPDATE large SET a = 'changed' WHERE i = 150; DELETE FROM purchase WHERE customer = 7",
  );
  rowsNow = await rowsOf(server, 'shop');
});
afterAll(async () => {
  await server[Symbol.asyncDispose]();
  await base.remove();
});

const createOptions = (repository: string) => ({
  database: server.url('shop'),
  repository,
  encryptionKey: testKey,
  programs: server.binDir,
  jobs: 1,
});

/** Whether a run got past the place where its fault was planned: there is no such request any more. */
type IsPast = boolean;

/** Does `attempt` for 1, 2, 3 … until it says that there are no more requests; names the request when a check fails. */
async function atEveryRequest(least: number, attempt: (number: number) => Promise<IsPast>): Promise<void> {
  let number = 1;
  for (; ; number++) {
    const isPast = await attempt(number).catch((error: unknown) => {
      throw new Error(`at request ${number}: ${error instanceof Error ? error.message : String(error)}`, {
        cause: error,
      });
    });
    if (isPast) break;
  }
  expect(number).toBeGreaterThan(least);
}

/** What holds in a copy of the base after a create, however it ended: what was there is untouched, nothing half shows. */
async function expectOldWhole(repository: string): Promise<void> {
  const found = objectsIn(repository);
  for (const [name, digest] of oldObjects) expect([name, found.get(name)]).toEqual([name, digest]);
  const listed = (await listBackups({ repository })).map(({ id }) => id);
  expect(listed).toEqual(backupsIn(repository, testKey));
  for (const id of listed) {
    const { rows } = readBackup(repository, testKey, id);
    if (id !== oldId) expect(rows).toEqual(rowsNow);
  }
  expect(listed.at(-1)).toBe(oldId);
  expect(listed.length).toBeLessThanOrEqual(2);
}

/** The next run needs nobody's help, and stores no segment that is there. */
async function expectNextRunReuses(repository: string): Promise<void> {
  const before = objectsIn(repository);
  using storage = withFaults(repository);
  const { id } = await backUp(server, 'shop', repository, { jobs: 1 });
  const putAgain = storage.requests.filter(({ call, name }) => call === 'put' && before.has(name));
  expect(putAgain).toEqual([]);
  expect(readBackup(repository, testKey, id).rows).toEqual(rowsNow);
}

/** What the killed run left goes, and nothing else. */
async function expectCleanupLeavesNamed(repository: string): Promise<void> {
  // The first lists what nothing names, the second deletes it.
  for (let pass = 0; pass < 2; pass++)
    await cleanupRepository({ repository, encryptionKey: testKey, graceMs: 0 });
  const left = [...objectsIn(repository).keys()].filter(name => !name.startsWith('recovery/'));
  expect(left).toEqual(neededObjects(repository, testKey));
}

describe('create', () => {
  it.each(['before', 'after'] as const)(
    'killed %s any request leaves the old backup and no half one; the next run uses what is there, cleanup takes the rest',
    { timeout: 900_000 },
    async when => {
      await atEveryRequest(when === 'before' ? 15 : 4, async number => {
        await using repository = makeTempFolder('repository');
        cpSync(base.path, repository.path, { recursive: true, preserveTimestamps: true });
        // After a request that only reads is before the next one.
        const where = when === 'before' ? { number } : ({ call: 'put', nth: number } as const);
        const outcome = await runUnderFaults('createBackup', createOptions(repository.path), [
          { ...where, do: 'die', when },
        ]);
        await expectOldWhole(repository.path);
        if (outcome.isKilled) {
          await expectNextRunReuses(repository.path);
          await expectCleanupLeavesNamed(repository.path);
        }
        return !outcome.isKilled;
      });
    },
  );

  const effects: { title: string; effect: Effect; code: string; ofPuts: boolean }[] = [
    {
      title: 'a storage that does not answer',
      effect: { do: 'fail', code: 'STORAGE_UNREACHABLE' },
      code: 'STORAGE_UNREACHABLE',
      ofPuts: false,
    },
    {
      title: 'a full storage',
      effect: { do: 'fail', code: 'STORAGE_FULL' },
      code: 'STORAGE_FULL',
      ofPuts: true,
    },
    {
      title: 'an acknowledgement that is lost',
      effect: { do: 'lose-acknowledgement' },
      code: 'STORAGE_UNREACHABLE',
      ofPuts: true,
    },
  ];
  it.each(effects)(
    '$title at any request fails the run with its code, leaves no half backup, and the next run is as usual',
    { timeout: 900_000 },
    async ({ effect, code, ofPuts }) => {
      await atEveryRequest(ofPuts ? 4 : 15, async number => {
        await using repository = makeTempFolder('repository');
        cpSync(base.path, repository.path, { recursive: true, preserveTimestamps: true });
        const where = ofPuts ? ({ call: 'put', nth: number } as const) : { number };
        let error: PgkeepError | undefined;
        {
          using storage = withFaults(repository.path, [{ ...where, ...effect }]);
          const run = backUp(server, 'shop', repository.path, { jobs: 1 });
          error = await run.then(
            () => undefined,
            failure => failure,
          );
          if (storage.happened.length === 0) {
            expect(error).toBeUndefined();
            return true;
          }
          // The backup is there when the recovery kit is looked after: it does not fail, and a warning tells.
          if (storage.requests.some(({ name }) => name.startsWith('recovery/'))) {
            expect((await run).warnings.join()).toContain('the recovery kit');
            await expectOldWhole(repository.path);
            return false;
          }
        }
        expect(error?.code).toBe(code);
        await expectOldWhole(repository.path);
        await expectNextRunReuses(repository.path);
        return false;
      });
    },
  );

  it('a disk that is full at any stage fails the run, leaves no half backup, and the next run is as usual', async () => {
    await using disk = await mountSmallDisk(8 * 1024 * 1024);
    const repository = join(disk.path, 'backups');
    const ballast = join(disk.path, 'ballast');
    const page = statfsSync(disk.path).bsize;
    let isStored = false;
    for (let free = 0; !isStored; free++) {
      cpSync(base.path, repository, { recursive: true, preserveTimestamps: true });
      const { bavail } = statfsSync(disk.path);
      writeFileSync(ballast, Buffer.alloc((bavail - free) * page, 1));
      expect(statfsSync(disk.path).bavail).toBe(free);
      const error = await backUp(server, 'shop', repository, { jobs: 1 }).then(
        () => undefined,
        failure => failure,
      );
      rmSync(ballast);
      isStored = error === undefined;
      if (!isStored) {
        expect([free, error.code]).toEqual([free, 'STORAGE_FULL']);
        await expectOldWhole(repository);
        expect(backupsIn(repository, testKey)).toEqual([oldId]);
        await expectNextRunReuses(repository);
      }
      rmSync(repository, { recursive: true });
    }
  }, 900_000);
});

describe('restore', () => {
  it('killed at any request leaves the repository as it was', { timeout: 900_000 }, async () => {
    await atEveryRequest(10, async number => {
      const outcome = await runUnderFaults(
        'restoreBackup',
        {
          repository: base.path,
          backup: 'latest',
          encryptionKey: testKey,
          to: server.url('restored'),
          create: true,
          programs: server.binDir,
          jobs: 1,
        },
        [{ number, do: 'die', when: 'before' }],
      );
      expect(objectsIn(base.path)).toEqual(oldObjects);
      expect(outcome.error).toBeUndefined();
      await server.dropDatabase('restored');
      return !outcome.isKilled;
    });
    await restoreInto(server, 'restored', base.path, { create: true });
    expect(await rowsOf(server, 'restored')).toEqual(readBackup(base.path, testKey, oldId).rows);
    await server.dropDatabase('restored');
  });

  it('with a storage that does not answer, at any request, fails with that code and takes back what it made', {
    timeout: 900_000,
  }, async () => {
    await atEveryRequest(10, async number => {
      using storage = withFaults(base.path, [{ number, do: 'fail', code: 'STORAGE_UNREACHABLE' }]);
      const error = await restoreInto(server, 'restored', base.path, { create: true, jobs: 1 }).then(
        () => undefined,
        failure => failure,
      );
      if (storage.happened.length === 0) {
        expect(error).toBeUndefined();
        await server.dropDatabase('restored');
        return true;
      }
      expect(error?.code).toBe('STORAGE_UNREACHABLE');
      expect(await psql(server, 'postgres', "SELECT 1 FROM pg_database WHERE datname = 'restored'")).toBe('');
      return false;
    });
    expect(objectsIn(base.path)).toEqual(oldObjects);
  });
});

describe('verify', () => {
  it('killed at any request changes nothing but its own record', { timeout: 900_000 }, async () => {
    await using repository = makeTempFolder('repository');
    cpSync(base.path, repository.path, { recursive: true });
    await atEveryRequest(8, async number => {
      const outcome = await runUnderFaults(
        'verifyBackups',
        { repository: repository.path, encryptionKey: testKey },
        [{ number, do: 'die', when: 'before' }],
      );
      const found = [...objectsIn(repository.path)].filter(([name]) => !name.startsWith('verified/'));
      expect(new Map(found)).toEqual(oldObjects);
      expect(outcome.error).toBeUndefined();
      return !outcome.isKilled;
    });
    expect(await listBackups({ repository: repository.path })).toMatchObject([
      { id: oldId, verified: { valid: true } },
    ]);
  });
});
