// Backups of one version of PostgreSQL go into servers of others, by programs of others.
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { showBackup } from '../../src/operations/show-backup.ts';
import { loadEverything, loadFixture, offerFixtureExtension } from '../fixtures/everything.ts';
import { compareDatabases } from '../support/compare-databases.ts';
import { findServerPrograms } from '../support/postgres-programs.ts';
import { psql, type Server, startServer } from '../support/postgres-server.ts';
import { backUp, restoreInto, testKey } from '../support/round-trip.ts';
import { makeTempFolder } from '../support/temp-folder.ts';

let old: Server;
let newest: Server;
const folder = makeTempFolder('repository');

beforeAll(async () => {
  old = await startServer({ version: 15 });
  newest = await startServer({ version: 18 });
  await old.createDatabase('everything');
  await loadEverything(old, 'everything');
  await old.createDatabase('orders');
  await loadFixture(old, 'orders', 'orders.sql');
  await backUp(old, 'everything', folder.path);
});
afterAll(async () => {
  await old[Symbol.asyncDispose]();
  await newest[Symbol.asyncDispose]();
  await folder.remove();
});

/** Definitions are printed in each version's own way; rows, sequences and large objects must be equal. */
async function differencesOfContents(source: string, target: string, binDir: string): Promise<string[]> {
  const { differences, rows } = await compareDatabases(source, target, {
    binDir,
    ignore: [/^definition of/],
  });
  expect(rows).toBeGreaterThan(1000);
  return differences;
}

describe('a backup of PostgreSQL 15', () => {
  it.each([17, 18])('is restored into PostgreSQL %i', async version => {
    await using server = await startServer({ version });
    await offerFixtureExtension(server);
    const { warnings } = await restoreInto(server, 'restored', folder.path, {
      create: true,
      createRoles: true,
      sourceDatabase: 'everything',
    });
    expect(warnings.filter(line => line.includes('older'))).toEqual([]);
    expect(await differencesOfContents(old.url('everything'), server.url('restored'), server.binDir)).toEqual(
      [],
    );
  });

  it.each([17, 18])('made and restored by programs of %i is the same', async version => {
    const programs = findServerPrograms().find(({ majorVersion }) => majorVersion === version)?.binDir;
    await using own = makeTempFolder('repository');
    await backUp(old, 'orders', own.path, { programs });
    const shown = await showBackup({ repository: own.path, encryptionKey: testKey, backup: 'latest' });
    expect(shown.pgDumpVersion).toMatch(new RegExp(`^${version}\\.`));
    const { warnings } = await restoreInto(old, `by_${version}`, own.path, { create: true, programs });
    expect(warnings).toEqual([]);
    const { differences } = await compareDatabases(old.url('orders'), old.url(`by_${version}`), {
      binDir: old.binDir,
    });
    expect(differences).toEqual([]);
    await restoreInto(old, `rows_by_${version}`, own.path, { create: true, schemaOnly: true, programs });
    await restoreInto(old, `rows_by_${version}`, own.path, { dataOnly: true, programs });
    const rows = await compareDatabases(old.url('orders'), old.url(`rows_by_${version}`), {
      binDir: old.binDir,
    });
    expect(rows.differences.filter(line => !line.includes('sales.totals'))).toEqual([]);
  });

  it('fails by a newer program as by its own, and is taken back', async () => {
    const programs = newest.binDir;
    await old.cloneDatabase('orders', 'broken');
    await psql(
      old,
      'broken',
      `CREATE FUNCTION public.picky(integer) RETURNS integer IMMUTABLE LANGUAGE plpgsql AS $$
         BEGIN IF current_setting('application_name') = 'pgkeep' THEN RAISE 'refused by the index'; END IF; RETURN $1; END $$;
       CREATE INDEX picky ON sales.orders (public.picky(id))`,
    );
    await using own = makeTempFolder('repository');
    await backUp(old, 'broken', own.path, { programs });
    await expect(restoreInto(old, 'unlucky', own.path, { create: true, programs })).rejects.toMatchObject({
      code: 'PROGRAM_FAILED',
      message: expect.stringContaining('refused by the index'),
    });
    expect(await psql(old, 'postgres', `SELECT 1 FROM pg_database WHERE datname = 'unlucky'`)).toBe('');
  });
});

describe('a backup of a newer version', () => {
  it('is restored into an older one with a warning, where that knows all it holds', async () => {
    await newest.createDatabase('orders');
    await loadFixture(newest, 'orders', 'orders.sql');
    await using own = makeTempFolder('repository');
    await backUp(newest, 'orders', own.path);
    const { warnings } = await restoreInto(old, 'from_newer', own.path, {
      create: true,
      programs: newest.binDir,
    });
    expect(warnings).toEqual([expect.stringMatching(/older than the source's 18\./)]);
    expect(await differencesOfContents(newest.url('orders'), old.url('from_newer'), newest.binDir)).toEqual(
      [],
    );
  });

  it('is refused by programs that cannot read it, naming what to install', async () => {
    await using own = makeTempFolder('repository');
    await newest.createDatabase('small');
    await backUp(newest, 'small', own.path);
    await expect(restoreInto(old, 'unread', own.path, { create: true })).rejects.toMatchObject({
      code: 'PROGRAM_TOO_OLD',
      hint: expect.stringContaining('18'),
    });
    expect(await psql(old, 'postgres', `SELECT 1 FROM pg_database WHERE datname = 'unread'`)).toBe('');
  });

  it('fails where the older one does not know something, and leaves nothing', async () => {
    await newest.createDatabase('virtual');
    await psql(
      newest,
      'virtual',
      'CREATE TABLE public.v (a integer, b integer GENERATED ALWAYS AS (a * 2) VIRTUAL)',
    );
    await using own = makeTempFolder('repository');
    await backUp(newest, 'virtual', own.path);
    const failure = restoreInto(old, 'unknown', own.path, { create: true, programs: newest.binDir });
    await expect(failure).rejects.toMatchObject({
      code: 'PROGRAM_FAILED',
      message: expect.stringContaining('GENERATED ALWAYS'),
    });
    expect(await psql(old, 'postgres', `SELECT 1 FROM pg_database WHERE datname = 'unknown'`)).toBe('');
  });
});
