// Two creates, a cleanup and a restore at once on one repository, in processes of their own that are held up and killed at
// random: whatever is listed restores row for row.

import { afterAll, beforeAll, expect, it } from 'vitest';
import { cleanupRepository } from '../../src/operations/cleanup-repository.ts';
import { listBackups } from '../../src/operations/list-backups.ts';
import { type Fault, withFaults } from '../support/faulty-storage.ts';
import { psql, type Server, startServer } from '../support/postgres-server.ts';
import { backupsIn, neededObjects, objectsIn, readBackup, rowsOf } from '../support/repository-contents.ts';
import { backUp, restoreInto, testKey } from '../support/round-trip.ts';
import { type FaultyOutcome, runUnderFaults } from '../support/run-under-faults.ts';
import { below, chosenSeed, pick, type Random, seededRandom } from '../support/seeded-random.ts';
import { makeTempFolder } from '../support/temp-folder.ts';
import { isThorough } from '../support/thorough.ts';

const rounds = isThorough ? 50 : 25;
const databases = ['one', 'two'];

let server: Server;

beforeAll(async () => {
  server = await startServer();
  for (const database of databases) {
    await server.createDatabase(database);
    await psql(
      server,
      database,
      `CREATE TABLE account (id integer PRIMARY KEY, balance integer);
       INSERT INTO account SELECT i, i * 7 FROM generate_series(1, 200) AS i;
       CREATE TABLE entry (account integer REFERENCES account, amount integer, at integer);
       CREATE TABLE fixed AS SELECT i, md5(i::text) AS t FROM generate_series(1, 300) AS i;`,
    );
  }
});
afterAll(async () => {
  await server[Symbol.asyncDispose]();
});

it('every backup listed after rounds of random interleaving with random kills restores row for row', {
  timeout: 1_800_000,
}, async () => {
  const seed = chosenSeed();
  console.info(`PGKEEP_TEST_SEED=${seed}`);
  const random = seededRandom(seed);
  await using folder = makeTempFolder('repository');
  const repository = folder.path;
  const common = { repository, encryptionKey: testKey };
  /** Rows of the database when each backup was taken. */
  const expected = new Map<string, Map<string, string>>();
  const met = { killed: 0, conflicts: 0, restored: 0 };

  const judge = (outcome: FaultyOutcome, allowed: readonly string[]) => {
    if (outcome.isKilled) met.killed++;
    if (outcome.error?.code === 'CLEANUP_CONFLICT') met.conflicts++;
    if (outcome.error !== undefined) expect(allowed, outcome.error.message).toContain(outcome.error.code);
  };

  for (const database of databases) {
    expected.set((await backUp(server, database, repository)).id, await rowsOf(server, database));
  }
  for (let round = 1; round <= rounds; round++) {
    const now = new Map<string, Map<string, string>>();
    for (const database of databases) {
      const account = 1 + below(random, 200);
      await psql(
        server,
        database,
        // Some rounds give a segment back that an earlier backup had and a cleanup may be about to delete.
        `UPDATE account SET balance = ${below(random, 3)} WHERE id = ${account};
         INSERT INTO entry VALUES (${account}, 1, ${round}); DELETE FROM entry WHERE at < ${round - below(random, 3)}`,
      );
      now.set(database, await rowsOf(server, database));
    }
    const chosen = pick(random, backupsIn(repository, testKey));
    const target = `restored_${round}`;
    const grace = pick(random, [0, 0, 100, 1_000]);
    const [first, second, cleanup, restore] = await Promise.all([
      ...databases.map(database =>
        runUnderFaults(
          'createBackup',
          { ...common, database: server.url(database), programs: server.binDir, jobs: 1 },
          trouble(random),
        ),
      ),
      runUnderFaults(
        'cleanupRepository',
        { ...common, keepDays: 0, keepLast: 3, graceMs: grace },
        trouble(random),
      ),
      runUnderFaults(
        'restoreBackup',
        { ...common, backup: chosen, to: server.url(target), create: true, programs: server.binDir, jobs: 1 },
        trouble(random),
      ),
    ]);
    const listed = await listBackups({ repository });
    for (const outcome of [first, second, cleanup]) if (outcome) judge(outcome, ['CLEANUP_CONFLICT']);
    const isThere = listed.some(({ id }) => id === chosen);
    // A backup that was deleted meanwhile cannot be restored to the end.
    const gone = ['BACKUP_NOT_FOUND', 'OBJECT_MISSING', 'REPOSITORY_MISMATCH'];
    if (restore) judge(restore, isThere ? [] : gone);
    if (restore?.result !== undefined) {
      expect(await rowsOf(server, target)).toEqual(expected.get(chosen));
      met.restored++;
    }
    await server.dropDatabase(target);
    for (const { id, database } of listed) {
      // Of one that was killed once its metadata was there nobody was told.
      if (!expected.has(id)) expected.set(id, now.get(database) ?? new Map());
      expect(readBackup(repository, testKey, id).rows, `round ${round}, ${id}`).toEqual(expected.get(id));
    }
  }
  const listed = backupsIn(repository, testKey);
  expect(listed.length).toBeGreaterThanOrEqual(databases.length);
  for (const backup of listed) {
    await restoreInto(server, 'restored', repository, { create: true, backup });
    expect(await rowsOf(server, 'restored')).toEqual(expected.get(backup));
    await server.dropDatabase('restored');
  }
  expect(met.killed).toBeGreaterThan(rounds * 0.4);
  expect(met.restored).toBeGreaterThan(rounds * 0.2);
  // Nobody writes any more: what the killed left goes, and nothing else.
  for (let pass = 0; pass < 3; pass++) {
    const { error } = await runUnderFaults('cleanupRepository', { ...common, keepLast: 1_000, graceMs: 0 });
    expect(error).toBeUndefined();
  }
  expect([...objectsIn(repository).keys()].filter(name => !/^(verified|recovery)\//.test(name))).toEqual(
    neededObjects(repository, testKey),
  );
});

it('a storage whose listings lag behind costs no backup: what a cleanup did not see it does not delete within the grace', async () => {
  await using folder = makeTempFolder('repository');
  const repository = folder.path;
  const common = { repository, encryptionKey: testKey };
  await backUp(server, 'one', repository);
  await psql(server, 'one', 'UPDATE account SET balance = -1 WHERE id < 50');
  const { id } = await backUp(server, 'one', repository);
  const before = objectsIn(repository);
  {
    const hide = { call: 'list', do: 'hide', withinMs: 600_000 } as const;
    using storage = withFaults(repository, [
      { ...hide, name: 'metadata/' },
      { ...hide, name: 'backups/' },
    ]);
    expect(await listBackups({ repository })).toEqual([]);
    const { deleted, candidates } = await cleanupRepository({ ...common, keepLast: 1, keepDays: 0 });
    expect(deleted.segments).toBe(0);
    // To this cleanup nothing was needed.
    expect(candidates.segments).toBeGreaterThan(1);
    expect(storage.happened.length).toBeGreaterThan(1);
  }
  const after = objectsIn(repository);
  for (const [name, digest] of before) expect([name, after.get(name)]).toEqual([name, digest]);
  // By the end of the grace listings are complete again.
  await cleanupRepository({ ...common, keepLast: 2, graceMs: 0 });
  expect(backupsIn(repository, testKey)).toHaveLength(2);
  expect(readBackup(repository, testKey, id).rows).toEqual(await rowsOf(server, 'one'));
  expect(
    await runUnderFaults('restoreBackup', {
      ...common,
      backup: 'latest',
      to: server.url('after_lag'),
      create: true,
      programs: server.binDir,
    }),
  ).toMatchObject({ result: { backup: id } });
  await server.dropDatabase('after_lag');
});

/** Some requests take long, and one in three processes is killed at one of them. */
function trouble(random: Random): Fault[] {
  const faults: Fault[] = Array.from({ length: 4 }, () => ({
    number: 1 + below(random, 40),
    do: 'delay',
    ms: below(random, 120),
  }));
  const when = pick(random, ['before', 'after'] as const);
  const number = 1 + below(random, 30);
  return random() < 0.33 ? [...faults, { number, do: 'die', when }] : faults;
}
