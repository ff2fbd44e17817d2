// Damage to each kind of object, as docs/damage.md lists it: what restore, verify, show and list say to it, and that the target is left
// as it was.

import { cpSync } from 'node:fs';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { errorTable } from '../../src/base/errors.ts';
import { listBackups } from '../../src/operations/list-backups.ts';
import { showBackup } from '../../src/operations/show-backup.ts';
import { type VerifyBackupsResult, verifyBackups } from '../../src/operations/verify-backups.ts';
import { damages, type Outcome, type RepositoryToDamage } from '../support/damages.ts';
import { psql, type Server, startServer } from '../support/postgres-server.ts';
import { backUp, restoreInto, testKey } from '../support/round-trip.ts';
import { makeTempFolder } from '../support/temp-folder.ts';

let server: Server;
const whole = makeTempFolder('repository');
const foreign = makeTempFolder('repository');

beforeAll(async () => {
  server = await startServer();
  await server.createDatabase('shop');
  // One row a page and more than eight ranges of pages, so that the table has an index; most of its rows are gone again.
  await psql(
    server,
    'shop',
    `CREATE TABLE wide (i integer, filler text) WITH (autovacuum_enabled = false);
     ALTER TABLE wide ALTER filler SET STORAGE PLAIN;
     INSERT INTO wide SELECT i, repeat('x', 5000) FROM generate_series(1, 9000) AS i;
     DELETE FROM wide WHERE i % 30 > 0;
     CREATE TABLE small AS SELECT i, md5(i::text) AS t FROM generate_series(1, 500) AS i;
     SELECT lo_from_bytea(4711, convert_to('large object', 'UTF8'));`,
  );
  for (const folder of [whole, foreign]) {
    await backUp(server, 'shop', folder.path);
    await psql(
      server,
      'shop',
      `INSERT INTO small SELECT i, 'more' FROM generate_series(1, 10) AS i;
       UPDATE wide SET filler = repeat('y', 5000) WHERE i = 600; DELETE FROM wide WHERE i = 900;`,
    );
    await backUp(server, 'shop', folder.path, { tags: ['nightly'] });
  }
  await server.createDatabase('target');
});
afterAll(async () => {
  await server[Symbol.asyncDispose]();
  for (const folder of [whole, foreign]) await folder.remove();
});

it.each(damages)('$object, $what: found, and the target is left as it was', async damage => {
  await using copy = makeTempFolder('repository');
  cpSync(whole.path, copy.path, { recursive: true });
  const [newest] = await listBackups({ repository: whole.path });
  const backup = newest?.id ?? '';
  const repository: RepositoryToDamage = { folder: copy.path, key: testKey, foreign: foreign.path };
  damage.do(repository);
  const before = await contents();
  const warnings: string[] = [];
  // What is found before the target is touched is found in the same place for both.
  for (const create of damage.show === 'nothing' ? [true, false] : [true]) {
    if (damage.restore === 'nothing' && !create) continue;
    const restored = restoreInto(server, create ? 'new' : 'target', copy.path, { create, backup });
    expect(await outcomeOf(restored)).toBe(damage.restore);
    if (damage.restore === 'nothing') await server.dropDatabase('new');
    expect(await contents()).toBe(before);
  }
  const verified = verifyBackups({
    repository: copy.path,
    encryptionKey: testKey,
    backup,
    programs: server.binDir,
  });
  expect(await codesOf(verified)).toEqual([damage.verify]);
  expect(await outcomeOf(showBackup({ repository: copy.path, encryptionKey: testKey, backup }))).toBe(
    damage.show,
  );
  let outcome = await outcomeOf(
    listBackups({
      repository: copy.path,
      onEvent: event => {
        if (event.type === 'warning') warnings.push(event.message);
      },
    }),
  );
  if (warnings.length > 0) outcome = 'a warning';
  expect(outcome).toBe(damage.list);
});

it('without damage nothing is found', async () => {
  await restoreInto(server, 'new', whole.path, { create: true });
  await server.dropDatabase('new');
  for (const { restore, verify, show, list } of damages) {
    expect(Object.keys(errorTable)).toContain(verify);
    for (const outcome of [restore, show, list])
      expect(['nothing', 'a warning', ...Object.keys(errorTable)]).toContain(outcome);
  }
});

async function outcomeOf(run: Promise<unknown>): Promise<Outcome> {
  return await run.then(
    () => 'nothing',
    error => error.code,
  );
}

/** The codes of all that a verification finds, or of its failure. */
async function codesOf(run: Promise<VerifyBackupsResult>): Promise<string[]> {
  return await run.then(
    ({ backups }) => [...new Set(backups.flatMap(({ errors }) => errors.map(({ code }) => code)))],
    error => [error.code],
  );
}

async function contents(): Promise<string> {
  const names = await psql(server, 'postgres', 'SELECT datname FROM pg_database ORDER BY 1');
  const relations = "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace";
  const objects = 'SELECT count(*) FROM pg_largeobject_metadata';
  return names + (await psql(server, 'target', `${relations}; ${objects}`));
}
