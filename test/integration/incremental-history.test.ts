// Long histories of backups that build on each other: after random statements, also concurrent and undone ones, each
// restored backup is what the database was; whatever backups are deleted, the others stay whole.
import { afterAll, beforeAll, expect, test } from 'vitest';
import { cleanupRepository } from '../../src/operations/cleanup-repository.ts';
import { deleteBackup } from '../../src/operations/delete-backup.ts';
import { psql, type Server, startServer } from '../support/postgres-server.ts';
import { backUp, restoreInto, testKey } from '../support/round-trip.ts';
import { below, chosenSeed, pick, type Random, seededRandom } from '../support/seeded-random.ts';
import { makeTempFolder } from '../support/temp-folder.ts';

let server: Server;
let restored = 0;

beforeAll(async () => {
  server = await startServer({ settings: { max_prepared_transactions: '10' } });
});
afterAll(() => server[Symbol.asyncDispose]());

/** Rows that fill several page ranges, and one range. */
const tables = { wide: 20_000, narrow: 4_000 };
const filler = "repeat('.', 400)";

async function makeDatabase(name: string): Promise<void> {
  await server.createDatabase(name);
  for (const [table, rows] of Object.entries(tables)) {
    await psql(
      server,
      name,
      `CREATE TABLE ${table} (id int PRIMARY KEY, v text, n int) WITH (fillfactor = 90);
       INSERT INTO ${table} SELECT i, md5(i::text) || ${filler}, i FROM generate_series(1, ${rows}) AS i`,
    );
  }
}

/** Every row of every table, as one hash a table. */
async function fingerprint(database: string): Promise<string> {
  const hashes = Object.keys(tables).map(
    table => `SELECT '${table}', count(*), sum(hashtextextended(t::text, 0)) FROM ${table} AS t`,
  );
  return psql(server, database, hashes.join(' UNION ALL '));
}

async function expectRestored(repository: string, backup: string, expected: string): Promise<void> {
  const name = `restored_${++restored}`;
  await restoreInto(server, name, repository, { create: true, backup });
  expect(await fingerprint(name)).toBe(expected);
  await server.dropDatabase(name);
}

/** One transaction of a few statements. */
function randomTransaction(random: Random, session: number): string {
  const statements = Array.from({ length: 1 + below(random, 4) }, () => {
    const [table, rows] = pick(random, Object.entries(tables));
    const id = 1 + below(random, rows);
    const mine = `id % 2 = ${session % 2}`;
    return pick(random, [
      `UPDATE ${table} SET v = 'changed ${below(random, 1e9)}' WHERE id = ${id} AND ${mine}`,
      `UPDATE ${table} SET n = n + 1 WHERE id BETWEEN ${id} AND ${id + 5} AND ${mine}`,
      `DELETE FROM ${table} WHERE id BETWEEN ${id} AND ${id + below(random, 10)} AND ${mine}`,
      `INSERT INTO ${table} SELECT i, 'came ${below(random, 1e9)}', 0 FROM generate_series(${id}, ${id + 20}) AS i WHERE i % 2 = ${session % 2} ON CONFLICT DO NOTHING`,
      `INSERT INTO ${table} SELECT i, 'again', 1 FROM generate_series(${id}, ${id + 3}) AS i WHERE i % 2 = ${session % 2} ON CONFLICT (id) DO UPDATE SET v = 'upserted', n = ${table}.n + 1`,
      `SAVEPOINT s; UPDATE ${table} SET v = 'undone' WHERE id = ${id} AND ${mine}; ROLLBACK TO s`,
      `SAVEPOINT s; UPDATE ${table} SET v = 'kept' WHERE id = ${id} AND ${mine}; RELEASE s`,
      `SELECT count(*) FROM (SELECT 1 FROM ${table} WHERE id = ${id} AND ${mine} FOR UPDATE) AS locked`,
    ]);
  });
  const end = pick(random, ['COMMIT', 'COMMIT', 'COMMIT', 'COMMIT', 'ROLLBACK']);
  return `BEGIN; ${statements.join('; ')}; ${end};`;
}

async function change(database: string, random: Random, transactions: number): Promise<void> {
  const sessions = Array.from({ length: 3 }, (_, session) =>
    Array.from({ length: transactions }, () => randomTransaction(random, session)).join('\n'),
  );
  // Two sessions that work on the same rows wait for each other, in the order of the tables or not.
  const [first = '', second = '', third = ''] = sessions;
  const retry = (sql: string) => psql(server, database, `\\set ON_ERROR_STOP off\n${sql}`);
  await Promise.all([retry(first), retry(second), retry(third)]);
  const table = pick(random, Object.keys(tables));
  const upkeep = pick(random, ['', '', `VACUUM ${table}`, `VACUUM FREEZE ${table}`, `ANALYZE`, 'CHECKPOINT']);
  if (upkeep !== '') await psql(server, database, upkeep);
  if (random() < 0.1) await psql(server, database, `VACUUM FULL ${table}`);
}

test('after thousands of random statements, restored backups are what the database was, and a full read agrees', async () => {
  const seed = chosenSeed();
  console.info(`seed ${seed}`);
  const random = seededRandom(seed);
  await makeDatabase('random');
  await using folder = makeTempFolder('repository');
  const history: { id: string; expected: string }[] = [];
  const ways = { unread: 0, deltas: 0, read: 0 };
  for (let round = 0; round < 16; round++) {
    if (round > 0) await change('random', random, 10 + below(random, 60));
    const { id, incremental, mismatches } = await backUp(server, 'random', folder.path, {
      jobs: 1 + below(random, 3),
      verifyIncremental: random() < 0.15,
    });
    expect(mismatches).toEqual([]);
    history.push({ id, expected: await fingerprint('random') });
    ways.unread += incremental.unread.ranges;
    ways.deltas += incremental.deltas.ranges;
    ways.read += incremental.equal.ranges + incremental.stored.ranges;
  }
  console.info(ways);
  expect(ways.deltas).toBeGreaterThan(20);
  for (const { id, expected } of [
    ...history.slice(0, 20).filter(() => random() < 0.25),
    ...history.slice(20),
  ]) {
    await expectRestored(folder.path, id, expected);
  }
}, 300_000);

test('whatever backups are deleted and cleaned up, in any order, the others are restored row for row', async () => {
  const seed = chosenSeed();
  console.info(`seed ${seed}`);
  const random = seededRandom(seed);
  await makeDatabase('deleted');
  await using folder = makeTempFolder('repository');
  const repository = folder.path;
  const there = new Map<string, string>();
  for (let step = 0; step < 24; step++) {
    const action = step < 3 ? 'create' : pick(random, ['create', 'create', 'delete', 'cleanup']);
    if (action === 'create') {
      await change('deleted', random, 5);
      const { id } = await backUp(server, 'deleted', repository);
      there.set(id, await fingerprint('deleted'));
    } else if (action === 'delete' && there.size > 1) {
      const backup = pick(random, [...there.keys()]);
      await deleteBackup({ repository, backup, force: true });
      there.delete(backup);
    } else {
      await cleanupRepository({ repository, encryptionKey: testKey, keepDays: 3650, graceMs: 0 });
    }
  }
  for (let time = 0; time < 2; time++)
    await cleanupRepository({ repository, encryptionKey: testKey, keepDays: 3650, graceMs: 0 });
  for (const [id, expected] of there) await expectRestored(repository, id, expected);
}, 300_000);
