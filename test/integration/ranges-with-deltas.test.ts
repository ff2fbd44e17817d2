// Backups whose ranges consist of a base and deltas, with lines that are gone, are read by everything as the rows they
// stand for.

import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { exportBackup } from '../../src/operations/export-backup.ts';
import { loadEverything } from '../fixtures/everything.ts';
import { storeChanged } from '../support/changed-backup.ts';
import { compareDatabases } from '../support/compare-databases.ts';
import { dieAt } from '../support/dying-restore.ts';
import { psql, type Server, startServer } from '../support/postgres-server.ts';
import { psqlFile } from '../support/psql-file.ts';
import { readBackup } from '../support/repository-contents.ts';
import { backUp, restoreInto, testKey } from '../support/round-trip.ts';
import { chosenSeed, seededRandom } from '../support/seeded-random.ts';
import { splitRanges } from '../support/split-ranges.ts';
import { makeTempFolder } from '../support/temp-folder.ts';
import { makeVerifyDatabase, verify } from '../support/verify-database.ts';

const seed = chosenSeed();
let server: Server;
const folder = makeTempFolder('repository');
let original: string;
let split: string;
let indexed: string;

beforeAll(async () => {
  server = await startServer({ settings: { wal_level: 'logical' } });
  await server.createDatabase('source');
  await loadEverything(server, 'source');
  await makeVerifyDatabase(server, 'shop');
  const random = seededRandom(seed);
  const divide = (backup: string) =>
    storeChanged(folder.path, backup, (manifest, store, repository) =>
      splitRanges(manifest, store, repository, random),
    );
  original = (await backUp(server, 'source', folder.path)).id;
  split = await divide(original);
  indexed = await divide((await backUp(server, 'shop', folder.path)).id);
});
afterAll(async () => {
  await server[Symbol.asyncDispose]();
  await folder.remove();
});

async function differences(source: string, target: string): Promise<string[]> {
  const options = { binDir: server.binDir };
  return (await compareDatabases(server.url(source), server.url(target), options)).differences;
}

it('the second reader finds the rows of the original in them', () => {
  const [before, after] = [original, split].map(id => readBackup(folder.path, testKey, id).rows);
  expect(after, `seed ${seed}`).toEqual(before);
});

it('they are restored, and level restore finds nothing', async () => {
  await restoreInto(server, 'restored', folder.path, { backup: split, create: true, jobs: 3 });
  expect(await differences('source', 'restored'), `seed ${seed}`).toEqual([]);
  const { backups } = await verify(server, folder.path, {
    backup: indexed,
    level: 'restore',
    scratch: server.url('postgres'),
  });
  expect(backups, `seed ${seed}`).toMatchObject([{ valid: true, errors: [] }]);
});

it('all rows are counted, also when lists are cut by the ends of segments, and a sample counts its share', async () => {
  const { backups } = await verify(server, folder.path, { all: true });
  expect(backups, `seed ${seed}`).toMatchObject(backups.map(() => ({ valid: true, errors: [] })));
  const rows = new Map(backups.map(({ backupId, rowsCompared }) => [backupId, rowsCompared]));
  expect(rows.get(split)).toBe(rows.get(original));
  const sampled = await verify(server, folder.path, { backup: indexed, sample: 0.4 });
  expect(sampled.backups).toMatchObject([{ valid: true }]);
  expect(sampled.backups[0]?.rowsCompared).toBeLessThan(rows.get(indexed) ?? 0);
});

it('they are exported, and recovered by the kit', async () => {
  const environment = { PATH: process.env.PATH };
  const output = join(folder.path, 'exported.sql');
  await exportBackup({
    repository: folder.path,
    encryptionKey: testKey,
    backup: split,
    output,
    environment,
    programs: server.binDir,
  });
  const recovered = join(folder.path, 'recovered.sql');
  const kit = join(folder.path, 'recovery/pgkeep-recover.mjs');
  await promisify(execFile)(process.execPath, [kit, '--backup', split, '--output', recovered], {
    env: { BACKUP_ENCRYPTION_KEY: testKey },
  });
  for (const [database, file] of [
    ['exported', output],
    ['recovered', recovered],
  ] as const) {
    await server.createDatabase(database, { template: 'template0' });
    expect(await psqlFile(server, database, file)).toBe('');
    expect(await differences('source', database), `seed ${seed}`).toEqual([]);
  }
});

it('chosen tables, and rows alone, are restored', async () => {
  await restoreInto(server, 'chosen', folder.path, {
    backup: indexed,
    create: true,
    tables: ['public.spread'],
  });
  const rows = 'SELECT count(*), sum(hashtext(spread::text)) FROM spread';
  expect(await psql(server, 'chosen', rows)).toBe(await psql(server, 'shop', rows));
  await restoreInto(server, 'rows', folder.path, { backup: indexed, create: true, schemaOnly: true });
  await restoreInto(server, 'rows', folder.path, { backup: indexed, dataOnly: true });
  expect(await psql(server, 'rows', rows)).toBe(await psql(server, 'shop', rows));
});

it('a restore that was killed between them is resumed', async () => {
  const options = (database: string) => ({
    repository: folder.path,
    encryptionKey: testKey,
    programs: server.binDir,
    backup: indexed,
    to: server.url(database),
    jobs: 1,
  });
  await server.createDatabase('counted');
  const { steps } = await dieAt({ options: options('counted') });
  const loads = steps.flatMap((name, index) => (name === 'rows loaded' ? [index + 1] : []));
  await server.createDatabase('resumed');
  expect(await dieAt({ options: options('resumed'), step: loads[1] ?? 0 })).toMatchObject({ isKilled: true });
  const result = await restoreInto(server, 'resumed', folder.path, { backup: indexed, resume: true });
  expect(result).toMatchObject({ resumed: true });
  expect(await differences('shop', 'resumed'), `seed ${seed}`).toEqual([]);
});
