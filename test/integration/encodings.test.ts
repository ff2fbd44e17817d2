// Databases of other encodings and locales: every byte comes back, also where the target's encoding is another.
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type FixtureFile, loadFixture } from '../fixtures/everything.ts';
import { compareDatabases } from '../support/compare-databases.ts';
import { psql, type Server, startServer } from '../support/postgres-server.ts';
import { backUp, restoreInto } from '../support/round-trip.ts';
import { makeTempFolder } from '../support/temp-folder.ts';

let server: Server;
const folder = makeTempFolder('repository');

beforeAll(async () => {
  server = await startServer();
});
afterAll(async () => {
  await server[Symbol.asyncDispose]();
  await folder.remove();
});

async function makeSource(name: string, encoding: string, files: FixtureFile[]): Promise<void> {
  await server.createDatabase(name, { encoding });
  for (const file of files) await loadFixture(server, name, file);
}

// Digests are of bytes, which differ between encodings; the rows are compared as characters.
const ofEncoding = [/^property (encoding|locale)/, /^definition of the session/, /^rows of/];

const readAll = (database: string) =>
  psql(
    server,
    database,
    `SELECT t FROM "Größe" t ORDER BY "Straße" COLLATE "C"; SELECT code, c FROM every_character ORDER BY code;
     SELECT t FROM farben t ORDER BY f; SELECT t FROM "Übersicht" t ORDER BY 1`,
  );

const differences = async (source: string, target: string, ignore: RegExp[] = []) =>
  (
    await compareDatabases(server.url(source), server.url(target), {
      binDir: server.binDir,
      properties: true,
      ignore,
    })
  ).differences;

describe('a LATIN1 database', () => {
  let id: string;
  beforeAll(async () => {
    await makeSource('latin', 'LATIN1', ['latin1.sql']);
    id = (await backUp(server, 'latin', folder.path)).id;
  });

  it('comes back as LATIN1 when it is created', async () => {
    const { warnings } = await restoreInto(server, 'latin_new', folder.path, { backup: id, create: true });
    expect(warnings).toEqual([]);
    expect(await differences('latin', 'latin_new')).toEqual([]);
  });

  it('comes back into a UTF8 database, every character the same', async () => {
    await server.createDatabase('latin_utf8');
    await restoreInto(server, 'latin_utf8', folder.path, { backup: id });
    expect(await differences('latin', 'latin_utf8', ofEncoding)).toEqual([]);
    expect(await readAll('latin_utf8')).toBe(await readAll('latin'));
  });

  it('takes patterns of its own letters', async () => {
    const backup = await backUp(server, 'latin', folder.path, {
      excludeTables: ['"Größe"'],
      excludeTableData: ['farben'],
    });
    expect(backup.leftOut.map(({ name }) => name)).toEqual(['Größe', 'farben']);
    const only = await backUp(server, 'latin', folder.path, { tables: ['"Gr"??e'] });
    expect([only.tables, only.rows]).toEqual([1, 3]);
    await restoreInto(server, 'latin_some', folder.path, { backup: id, tables: ['"Größe"'], create: true });
    expect((await psql(server, 'latin_some', 'SELECT max("Straße" COLLATE "C") FROM "Größe"')).trim()).toBe(
      '£ § ¶',
    );
  });

  it('loads rows alone into UTF8', async () => {
    await server.createDatabase('latin_rows');
    await restoreInto(server, 'latin_rows', folder.path, { backup: id, schemaOnly: true });
    await restoreInto(server, 'latin_rows', folder.path, { backup: id, dataOnly: true });
    expect(await differences('latin', 'latin_rows', ofEncoding)).toEqual([]);
    expect(await readAll('latin_rows')).toBe(await readAll('latin'));
  });
});

it('a UTF8 database that LATIN1 cannot hold is refused by the server, and the target left empty', async () => {
  await server.createDatabase('utf8');
  await psql(server, 'utf8', `CREATE TABLE public.t (v text); INSERT INTO public.t VALUES ('ok'), ('日本')`);
  const backup = await backUp(server, 'utf8', folder.path);
  await server.createDatabase('too_small', { encoding: 'LATIN1' });
  await server.cloneDatabase('too_small', 'too_small_before');
  await expect(restoreInto(server, 'too_small', folder.path, { backup: backup.id })).rejects.toThrow(
    /no equivalent in encoding "LATIN1"/,
  );
  expect(await differences('too_small_before', 'too_small')).toEqual([]);
});

describe('an SQL_ASCII database', () => {
  it('comes back byte for byte, whatever its bytes', async () => {
    await makeSource('ascii', 'SQL_ASCII', ['sql-ascii.sql']);
    const backup = await backUp(server, 'ascii', folder.path);
    expect(backup.rows).toBe(262);
    await restoreInto(server, 'ascii_new', folder.path, { backup: backup.id, create: true });
    expect(await differences('ascii', 'ascii_new')).toEqual([]);
    await server.createDatabase('ascii_there', { encoding: 'SQL_ASCII' });
    await restoreInto(server, 'ascii_there', folder.path, { backup: backup.id, jobs: 1 });
    expect(await differences('ascii', 'ascii_there')).toEqual([]);
  });

  it('with names that are not UTF-8 is refused, naming one of them, and not stored in part', async () => {
    await makeSource('ascii_names', 'SQL_ASCII', ['sql-ascii-names.sql']);
    await expect(backUp(server, 'ascii_names', folder.path)).rejects.toThrow(
      /sch\\xe9ma\.caf\\xe8,.*not UTF-8/,
    );
    await expect(
      restoreInto(server, 'unused', folder.path, { sourceDatabase: 'ascii_names', create: true }),
    ).rejects.toMatchObject({ code: 'BACKUP_NOT_FOUND' });
  });
});

describe('a database of a locale of its own', () => {
  it.each([
    {
      version: 15,
      locale: `LOCALE_PROVIDER icu ICU_LOCALE 'de-u-kn-true' LC_COLLATE 'C' LC_CTYPE 'C.UTF-8'`,
    },
    { version: 17, locale: `LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8' LC_COLLATE 'C' LC_CTYPE 'C'` },
    {
      version: 18,
      locale: `LOCALE_PROVIDER icu ICU_LOCALE 'sv-SE' ICU_RULES '&a < g' LC_COLLATE 'C' LC_CTYPE 'C'`,
    },
    { version: 18, locale: `LOCALE_PROVIDER libc LC_COLLATE 'C' LC_CTYPE 'C.UTF-8'` },
  ])('keeps it when it is created: $version, $locale', async ({ version, locale }) => {
    await using other = await startServer({ version });
    await psql(other, 'postgres', `CREATE DATABASE source TEMPLATE template0 ENCODING 'UTF8' ${locale}`);
    await psql(
      other,
      'source',
      `CREATE TABLE public.t (v text PRIMARY KEY); INSERT INTO public.t VALUES ('a10'), ('a9'), ('Ä'), ('z'), ('g'), ('b')`,
    );
    await using own = makeTempFolder('repository');
    await backUp(other, 'source', own.path);
    await restoreInto(other, 'restored', own.path, { create: true });
    const { differences: found } = await compareDatabases(other.url('source'), other.url('restored'), {
      binDir: other.binDir,
      properties: true,
    });
    expect(found).toEqual([]);
    const rules = version >= 16 ? ', daticurules' : '';
    const facts = await psql(
      other,
      'postgres',
      `SELECT DISTINCT datlocprovider, datcollate, datctype${rules} FROM pg_database WHERE datname IN ('source', 'restored')`,
    );
    expect(facts.trim().split('\n')).toHaveLength(1);
    const order = (name: string) => psql(other, name, 'SELECT v FROM public.t ORDER BY v');
    expect(await order('restored')).toBe(await order('source'));
  });
});
