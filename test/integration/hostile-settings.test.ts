// Whatever database and roles have set for every session, neither backup nor restore is changed or ended by it.
import { afterAll, beforeAll, expect, it } from 'vitest';
import { loadEverything, loadFixture } from '../fixtures/everything.ts';
import { compareDatabases } from '../support/compare-databases.ts';
import { psql, type Server, startServer } from '../support/postgres-server.ts';
import { backUp, restoreInto } from '../support/round-trip.ts';
import { makeTempFolder } from '../support/temp-folder.ts';

// Beyond those of the fixture, which also end a session that waits and change how values are printed and read.
const further = `
  ALTER DATABASE everything SET default_transaction_read_only = on;
  ALTER DATABASE everything SET row_security = on;
  ALTER DATABASE everything SET temp_tablespaces = '';
  ALTER DATABASE everything SET "app.tenant" = 'a, "b"';
  ALTER ROLE postgres IN DATABASE everything SET search_path = '';
  ALTER ROLE postgres IN DATABASE everything SET lc_numeric = 'C';`;

let server: Server;
const folder = makeTempFolder('repository');

beforeAll(async () => {
  server = await startServer();
  await server.createDatabase('everything');
  await loadEverything(server, 'everything');
  await psql(
    server,
    'everything',
    `CREATE TABLE public.nulls (id integer, a integer[] DEFAULT '{1,NULL}', b text[] DEFAULT '{NULL,"NULL"}', d date DEFAULT '2024-02-01', i interval DEFAULT '-1 day 02:03', check (a IS DISTINCT FROM NULL));
     INSERT INTO public.nulls VALUES (1); INSERT INTO public.nulls VALUES (2, '{NULL,2}', '{"null",NULL,x}', '2024-12-11', '-1 mon +2 days -03:04:05')`,
  );
  await loadFixture(server, 'everything', 'hostile-settings.sql');
  await psql(server, 'postgres', further);
});
afterAll(async () => {
  await server[Symbol.asyncDispose]();
  await folder.remove();
});

it('one of everything comes back the same, with the settings, into a database that has them from the beginning', async () => {
  await backUp(server, 'everything', folder.path);
  const { warnings } = await restoreInto(server, 'restored', folder.path, { create: true });
  // Some statistics cannot be gathered where a type of the fixture refuses.
  expect(warnings.filter(line => !line.includes('ANALYZE') && !line.includes('analyzing'))).toEqual([]);
  const { differences } = await compareDatabases(server.url('everything'), server.url('restored'), {
    binDir: server.binDir,
    properties: true,
  });
  expect(differences).toEqual([]);
});

it('rows and chosen tables come back the same too', async () => {
  await restoreInto(server, 'chosen', folder.path, {
    create: true,
    tables: ['public.nulls', 'values.*'],
    schemaOnly: true,
  });
  await restoreInto(server, 'chosen', folder.path, { dataOnly: true, tables: ['public.nulls', 'values.*'] });
  const { differences } = await compareDatabases(server.url('everything'), server.url('chosen'), {
    binDir: server.binDir,
  });
  expect(differences.filter(line => !line.endsWith(': only in the source'))).toEqual([]);
});
