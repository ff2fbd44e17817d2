// Replication between two folders: what travels, and what is left when a run is killed, a storage fails, an object is damaged
// or somebody cleans up on either side.

import { cpSync, existsSync, rmSync, statfsSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { generateKey } from '../../src/crypto/key.ts';
import { cleanupRepository } from '../../src/operations/cleanup-repository.ts';
import { deleteBackup } from '../../src/operations/delete-backup.ts';
import { listBackups } from '../../src/operations/list-backups.ts';
import { type ReplicateBackupsOptions, replicateBackups } from '../../src/operations/replicate-backups.ts';
import { verifyBackups } from '../../src/operations/verify-backups.ts';
import { type Effect, FaultyStorage, interceptStorage, withFaults } from '../support/faulty-storage.ts';
import { psql, type Server, startServer } from '../support/postgres-server.ts';
import { backupsIn, neededObjects, objectsIn, readBackup, rowsOf } from '../support/repository-contents.ts';
import { filesIn, flipBit } from '../support/repository-files.ts';
import { backUp, restoreInto, testKey } from '../support/round-trip.ts';
import { runUnderFaults } from '../support/run-under-faults.ts';
import { mountSmallDisk } from '../support/small-disk.ts';
import { makeTempFolder } from '../support/temp-folder.ts';

let server: Server;
/** Holds two backups of `shop`, between which some rows changed; the newer one is tagged. */
const base = makeTempFolder('repository');
let older: string;
let newer: string;
let olderRows: Map<string, string>;
let newerRows: Map<string, string>;

beforeAll(async () => {
  server = await startServer();
  await server.createDatabase('shop');
  await psql(
    server,
    'shop',
    `CREATE TABLE customer (id serial PRIMARY KEY, name text NOT NULL);
     INSERT INTO customer (name) SELECT 'name ' || i FROM generate_series(1, 300) AS i;
     -- Of more than a mebibyte, so that it has segments of its own, and more ranges than a manifest holds.
     CREATE TABLE large (i integer, filler text) WITH (autovacuum_enabled = false);
     ALTER TABLE large ALTER filler SET STORAGE PLAIN;
     INSERT INTO large SELECT i, repeat(md5(i::text), 150) FROM generate_series(1, 600) AS i;`,
  );
  olderRows = await rowsOf(server, 'shop');
  older = (await backUp(server, 'shop', base.path)).id;
  await psql(server, 'shop', "UPDATE customer SET name = 'changed' WHERE id = 7");
  newerRows = await rowsOf(server, 'shop');
  newer = (await backUp(server, 'shop', base.path, { tags: ['kept'] })).id;
});
afterAll(async () => {
  await server[Symbol.asyncDispose]();
  await base.remove();
});

/** A copy of the base, and an empty place for its replica. */
function places() {
  const [source, target] = [makeTempFolder('repository'), makeTempFolder('replica')];
  cpSync(base.path, source.path, { recursive: true, preserveTimestamps: true });
  return {
    source: source.path,
    target: target.path,
    async [Symbol.asyncDispose]() {
      await source.remove();
      await target.remove();
    },
  };
}

function replicate(source: string, target: string, options: Partial<ReplicateBackupsOptions> = {}) {
  return replicateBackups({ repository: source, to: target, encryptionKey: testKey, ...options });
}

function withoutKit(folder: string): Map<string, string> {
  return new Map([...objectsIn(folder)].filter(([name]) => !name.startsWith('recovery/')));
}

/** The replica holds just what the source does, byte for byte, and both of its backups can be read whole. */
function expectWhole(source: string, target: string): void {
  expect(withoutKit(target)).toEqual(withoutKit(source));
  expect(backupsIn(target, testKey)).toEqual([newer, older]);
  expect(readBackup(target, testKey, newer).rows).toEqual(newerRows);
  expect(readBackup(target, testKey, older).rows).toEqual(olderRows);
}

/** Whatever the replica shows can be read whole. */
function expectNothingHalf(target: string): string[] {
  const shown = backupsIn(target, testKey);
  for (const id of shown) {
    expect(readBackup(target, testKey, id).rows).toEqual(id === newer ? newerRows : olderRows);
  }
  return shown;
}

test('all that is missing travels as it is, once; a second run sends nothing', async () => {
  await using place = places();
  const { source, target } = place;
  const planned = await replicate(source, target, { dryRun: true });
  expect(objectsIn(target).size).toBe(0);
  const result = await replicate(source, target);
  expectWhole(source, target);
  expect(result).toMatchObject({
    present: 0,
    backups: [
      { id: newer, state: 'copied' },
      { id: older, state: 'copied' },
    ],
  });
  // All but the descriptor and the recovery kit are counted, as planned.
  expect(result.objects).toBe(withoutKit(target).size - 1);
  expect([planned.objects, planned.bytes]).toEqual([result.objects, result.bytes]);
  expect(objectsIn(target).has('recovery/pgkeep-recover.mjs')).toBe(true);
  const [first, second] = result.backups;
  // What it shares with the newer one travelled with that.
  expect(second?.objects).toBeLessThan(first?.objects ?? 0);

  using requests = withFaults(target);
  const again = await replicate(source, target);
  expect(again).toMatchObject({ present: 2, backups: [], objects: 0, bytes: 0 });
  expect(requests.requests.filter(({ call }) => call === 'put' || call === 'remove')).toEqual([]);
  expect(again.traffic.target.sentBytes).toBe(0);

  const sums = await verifyBackups({ repository: target, encryptionKey: testKey, all: true, level: 'data' });
  expect(sums.valid).toBe(true);
  await restoreInto(server, 'restored', target, { create: true });
  expect(await rowsOf(server, 'restored')).toEqual(newerRows);
  await server.dropDatabase('restored');
});

test('backups are chosen by id, as the latest, by tag and by database; the replica says what is where', async () => {
  await using place = places();
  const { source, target } = place;
  expect((await replicate(source, target, { database: 'other' })).backups).toEqual([]);
  expect((await replicate(source, target, { tags: ['kept'] })).backups).toMatchObject([{ id: newer }]);
  expect((await replicate(source, target, { backups: ['latest'] })).backups).toMatchObject([
    { id: newer, state: 'present', objects: 0 },
  ]);
  const listed = await listBackups({ repository: source, replica: target });
  expect(listed).toMatchObject([
    { id: newer, inRepository: true, inReplica: true },
    { id: older, inRepository: true, inReplica: false },
  ]);
  await deleteBackup({ repository: source, backup: newer });
  expect(await listBackups({ repository: source, replica: target })).toMatchObject([
    { id: newer, inRepository: false, inReplica: true },
    { id: older },
  ]);
  await expect(replicate(source, target, { backups: [newer] })).rejects.toMatchObject({
    code: 'BACKUP_NOT_FOUND',
  });
});

test('another repository is no replica, nor is the repository itself; nothing is written to either', async () => {
  await using place = places();
  await using other = makeTempFolder('repository');
  await backUp(server, 'shop', other.path);
  const before = objectsIn(other.path);
  await expect(replicate(place.source, other.path)).rejects.toMatchObject({ code: 'REPOSITORY_MISMATCH' });
  const link = join(makeTempFolder('link').path, 'repository');
  symlinkSync(place.source, link);
  for (const itself of [place.source, `${place.source}/.`, `file://${place.source}`, link])
    await expect(replicate(place.source, itself)).rejects.toMatchObject({ code: 'OPTION_INVALID' });
  // Told before there is a backup whose copy could fail.
  const made = backUp(server, 'shop', place.source, { replicateTo: link });
  await expect(made).rejects.toMatchObject({ code: 'OPTION_INVALID' });
  expect(backupsIn(place.source, testKey)).toEqual([newer, older]);
  await expect(replicate(place.source, place.target, { encryptionKey: generateKey() })).rejects.toMatchObject(
    {
      code: 'KEY_WRONG',
    },
  );
  expect(objectsIn(other.path)).toEqual(before);
  expect(objectsIn(place.target).size).toBe(0);
});

test('a repository without encryption is copied without a key', async () => {
  await using source = makeTempFolder('repository');
  await using target = makeTempFolder('replica');
  await backUp(server, 'shop', source.path, { encryption: false, encryptionKey: undefined });
  await replicateBackups({ repository: source.path, to: target.path });
  expect(withoutKit(target.path)).toEqual(withoutKit(source.path));
  flipBit(filesIn(source.path, 'segments')[0] ?? '');
  await using second = makeTempFolder('replica');
  const { backups } = await replicateBackups({ repository: source.path, to: second.path });
  expect(backups).toMatchObject([{ state: 'failed', error: { code: 'OBJECT_DAMAGED' } }]);
  expect(backupsIn(second.path, testKey)).toEqual([]);
});

describe('a run that ends early', () => {
  /** One backup, with little under way. */
  const one = () => ({ backups: [newer], jobs: 1 });

  function expectOneWhole(target: string): void {
    expect(expectNothingHalf(target)).toEqual([newer]);
    expect([...withoutKit(target).keys()]).toEqual(neededObjects(target, testKey));
  }

  test('by kill -9 before any object is put leaves nothing half, and the next sends only what is missing', async () => {
    for (let nth = 1; ; nth++) {
      await using folder = makeTempFolder('replica');
      const target = folder.path;
      const options = { repository: base.path, to: target, encryptionKey: testKey, ...one() };
      const fault = { call: 'put', nth, do: 'die', when: 'before' } as const;
      const { isKilled } = await runUnderFaults('replicateBackups', options, [fault], {}, target);
      expectNothingHalf(target);
      if (!isKilled) {
        expect(nth).toBeGreaterThan(8);
        break;
      }
      const there = new Set(objectsIn(target).keys());
      using storage = withFaults(target);
      const { objects } = await replicate(base.path, target, one());
      const puts = storage.requests.filter(({ call }) => call === 'put').map(({ name }) => name);
      // A manifest is put again: then it is newer than a list of garbage that names it.
      expect(puts.filter(name => there.has(name) && !name.startsWith('backups/'))).toEqual([]);
      expect(objects).toBe(puts.filter(name => !/^(recovery|pgkeep)/.test(name)).length);
      expectOneWhole(target);
    }
  }, 120_000);

  const effects: readonly [string, Effect, 'source' | 'target', 'put' | undefined][] = [
    ['the replica does not answer', { do: 'fail', code: 'STORAGE_UNREACHABLE' }, 'target', undefined],
    ['an acknowledgement of the replica is lost', { do: 'lose-acknowledgement' }, 'target', 'put'],
    ['the source does not answer', { do: 'fail', code: 'STORAGE_UNREACHABLE' }, 'source', undefined],
  ];
  test.each(effects)(
    'as %s, at any request, leaves nothing half, and the next run completes it',
    async (_, effect, side, call) => {
      let nth = 1;
      for (let isPast = false; !isPast; nth++) {
        await using folder = makeTempFolder('replica');
        const target = folder.path;
        let isPut = false;
        {
          const fault = { nth, ...(call && { call }), ...effect };
          using storage = withFaults(side === 'target' ? target : base.path, [fault]);
          const outcome = await replicate(base.path, target, one()).catch(error => error);
          isPast = storage.happened.length === 0;
          isPut = side === 'target' && storage.requests.at(-1)?.call === 'put';
          // The backup is there when the recovery kit is looked after: it does not fail, and a warning tells.
          const isKit = !isPast && storage.requests.some(({ name }) => name.startsWith('recovery/'));
          if (isPast || isKit) expect(outcome.backups).toMatchObject([{ state: 'copied' }]);
          if (isKit) expect(outcome.warnings.join()).toContain('recovery kit');
        }
        expectNothingHalf(target);
        // What failed reading leaves what the put before it did.
        if (!isPast && !isPut) continue;
        await replicate(base.path, target, one());
        expectOneWhole(target);
      }
      expect(nth).toBeGreaterThan(8);
    },
    120_000,
  );

  test('as the disk of the replica is full fails with its code, and goes on from there on a larger one', async () => {
    await using place = places();
    await using disk = await mountSmallDisk(4 * 1024 * 1024);
    const target = join(disk.path, 'replica');
    const ballast = join(disk.path, 'ballast');
    const fill = (blocksLeft: number) => {
      const { bavail, bsize } = statfsSync(disk.path);
      writeFileSync(ballast, Buffer.alloc((bavail - blocksLeft) * bsize, 1));
    };
    fill(4);
    const full = { code: 'STORAGE_FULL', context: { freeBytes: expect.any(Number) } };
    await expect(replicate(place.source, target)).rejects.toMatchObject(full);
    // What clearly does not fit is not begun.
    expect([...objectsIn(target).keys()]).toEqual(['pgkeep.json']);
    rmSync(ballast);

    class Filling extends FaultyStorage {
      override async put(...args: Parameters<FaultyStorage['put']>) {
        if (args[0].startsWith('segments/') && !existsSync(ballast)) fill(0);
        return await super.put(...args);
      }
    }
    {
      using _ = interceptStorage(target, storage => new Filling(storage));
      await expect(replicate(place.source, target)).rejects.toMatchObject({ code: 'STORAGE_FULL' });
    }
    expect([...objectsIn(target).keys()].some(name => name.startsWith('keys/'))).toBe(true);
    expect(backupsIn(target, testKey)).toEqual([]);
    rmSync(ballast);
    await replicate(place.source, target);
    expectWhole(place.source, target);
  });
});

describe('damage', () => {
  test('of a segment of the source is named, its backup is not published, and the others are', async () => {
    await using place = places();
    const { source, target } = place;
    const onlyNewer = [...readBackup(source, testKey, newer).objects].filter(
      name => name.startsWith('segments/') && !readBackup(source, testKey, older).objects.has(name),
    );
    const [victim = ''] = onlyNewer;
    flipBit(join(source, victim));
    const { backups } = await replicate(source, target);
    expect(backups).toMatchObject([
      {
        id: newer,
        state: 'failed',
        error: { code: 'OBJECT_DAMAGED', message: expect.stringContaining(victim) },
      },
      { id: older, state: 'copied' },
    ]);
    expect(expectNothingHalf(target)).toEqual([older]);
    expect(objectsIn(target).has(victim)).toBe(false);
    rmSync(join(source, victim));
    expect((await replicate(source, target)).backups).toMatchObject([
      {
        id: newer,
        state: 'failed',
        error: { code: 'OBJECT_MISSING', message: expect.stringContaining(victim) },
      },
    ]);
    cpSync(join(base.path, victim), join(source, victim));
    await replicate(source, target);
    expectWhole(source, target);
  });

  test.each(['metadata', 'backups', 'keys'])(
    'of an object in %s of the source is named, and it does not travel',
    async kind => {
      await using place = places();
      const { source, target } = place;
      const file = filesIn(source, kind).find(name => kind === 'keys' || name.includes(newer)) ?? '';
      // In a key's JSON, the middle may be white space.
      if (kind === 'backups') flipBit(file);
      else writeFileSync(file, '{}');
      const { backups } = await replicate(source, target);
      const failed = backups.filter(({ state }) => state === 'failed');
      expect(failed.length).toBeGreaterThan(0);
      for (const { error } of failed) expect(error?.message).toContain(file.slice(source.length + 1));
      expectNothingHalf(target);
      expect(objectsIn(target).has(file.slice(source.length + 1))).toBe(false);
    },
  );

  test('of the replica is mended with --all: what is missing, cut short or of another size is copied again', async () => {
    await using place = places();
    const { source, target } = place;
    await replicate(source, target);
    const [first = '', second = ''] = filesIn(target, 'segments');
    rmSync(first);
    writeFileSync(second, 'cut short');
    rmSync(filesIn(target, 'backups')[0] ?? '');
    expect((await replicate(source, target)).backups).toEqual([]);
    const { backups, objects } = await replicate(source, target, { all: true });
    expect(backups).toMatchObject([{ state: 'present' }, { state: 'present' }]);
    expect(objects).toBe(3);
    expectWhole(source, target);
  });

  test('that was healed under another key travels with that key', async () => {
    await using place = places();
    const { source, target } = place;
    await replicate(source, target, { backups: [older] });
    // The next backup stores what was removed, under its own key, and older manifests name it still.
    const [victim = ''] = filesIn(source, 'segments');
    rmSync(victim);
    const healing = await backUp(server, 'shop', source);
    await deleteBackup({ repository: source, backup: healing.id });
    await using second = makeTempFolder('replica');
    for (const place of [target, second.path]) {
      await replicate(source, place);
      expect(expectNothingHalf(place)).toEqual([newer, older]);
      // Not even a cleanup takes the key away.
      for (let pass = 0; pass < 2; pass++)
        await cleanupRepository({ repository: place, encryptionKey: testKey, graceMs: 0 });
      expect(expectNothingHalf(place)).toEqual([newer, older]);
    }
  });
});

describe('either side in use', () => {
  test('deleting and cleaning up on one side leaves the other whole, and what was deleted can be copied again', async () => {
    await using place = places();
    const { source, target } = place;
    await replicate(source, target);
    const clean = async (repository: string) => {
      for (let pass = 0; pass < 2; pass++)
        await cleanupRepository({ repository, encryptionKey: testKey, graceMs: 0 });
    };
    await deleteBackup({ repository: target, backup: newer });
    await clean(target);
    expect(backupsIn(target, testKey)).toEqual([older]);
    expect([...withoutKit(target).keys()]).toEqual(neededObjects(target, testKey));
    expect(backupsIn(source, testKey)).toEqual([newer, older]);
    await replicate(source, target);
    expectWhole(source, target);
    await deleteBackup({ repository: source, backup: older });
    await clean(source);
    expect((await replicate(source, target)).backups).toEqual([]);
    expect(expectNothingHalf(target)).toEqual([newer, older]);
    expect(expectNothingHalf(source)).toEqual([newer]);
  });

  test('what a killed run left and a cleanup listed is used all the same, and cleanups keep it from then on', async () => {
    await using place = places();
    const { source, target } = place;
    const fault = { call: 'put', name: 'metadata/', do: 'fail', code: 'STORAGE_UNREACHABLE' } as const;
    {
      using _ = withFaults(target, [fault]);
      await expect(replicate(source, target)).rejects.toMatchObject({ code: 'STORAGE_UNREACHABLE' });
    }
    const listed = await cleanupRepository({
      repository: target,
      encryptionKey: testKey,
      graceMs: 3_600_000,
    });
    expect(listed.candidates.segments).toBeGreaterThan(1);
    const before = objectsIn(target);
    await replicate(source, target);
    const sent = [...objectsIn(target).keys()].filter(
      name => name.startsWith('segments/') && !before.has(name),
    );
    expect(sent.length).toBeLessThan(3);
    await cleanupRepository({ repository: target, encryptionKey: testKey, graceMs: 0 });
    await cleanupRepository({ repository: target, encryptionKey: testKey, graceMs: 0 });
    expectWhole(source, target);
  });

  test('a backup that is deleted and collected at the source while it is copied fails by name, and is not published', async () => {
    await using place = places();
    const { source, target } = place;
    let isDeleted = false;
    class Deleting extends FaultyStorage {
      override async put(...args: Parameters<FaultyStorage['put']>) {
        if (args[0].startsWith('keys/') && !isDeleted) {
          isDeleted = true;
          await deleteBackup({ repository: source, backup: newer });
          for (let pass = 0; pass < 2; pass++)
            await cleanupRepository({ repository: source, encryptionKey: testKey, graceMs: 0 });
        }
        return await super.put(...args);
      }
    }
    using _ = interceptStorage(target, storage => new Deleting(storage));
    const { backups } = await replicate(source, target);
    expect(backups).toMatchObject([
      {
        id: newer,
        state: 'failed',
        error: { code: 'OBJECT_MISSING', message: expect.stringContaining(source) },
      },
      { id: older, state: 'copied' },
    ]);
    expect(expectNothingHalf(target)).toEqual([older]);
  });

  test('two replications and a backup into the replica at once all succeed', async () => {
    await using place = places();
    const { source, target } = place;
    await replicate(source, target, { backups: [older] });
    const [one, other, made] = await Promise.all([
      replicate(source, target),
      replicate(source, target),
      backUp(server, 'shop', target),
    ]);
    for (const { backups } of [one, other]) {
      for (const { state } of backups) expect(state).not.toBe('failed');
    }
    expect(backupsIn(target, testKey)).toEqual([made.id, newer, older]);
    expect(readBackup(target, testKey, made.id).rows).toEqual(newerRows);
    expect(readBackup(target, testKey, newer).rows).toEqual(newerRows);
  });
});
