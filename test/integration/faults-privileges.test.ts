// A role that may not see everything: the backup fails and names what it may not, rather than being short.

import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { expectSame } from '../support/fault-database.ts';
import { psql, type Server, startServer } from '../support/postgres-server.ts';
import { backUp, restoreInto } from '../support/round-trip.ts';
import { makeTempFolder } from '../support/temp-folder.ts';

let server: Server;

beforeAll(async () => {
  server = await startServer();
  await server.createDatabase('shop');
  await psql(
    server,
    'shop',
    `CREATE ROLE reader LOGIN; CREATE ROLE watcher LOGIN IN ROLE pg_read_all_data; CREATE ROLE seller LOGIN; CREATE ROLE auditor LOGIN BYPASSRLS IN ROLE pg_read_all_data;
     CREATE TABLE open AS SELECT i AS n FROM generate_series(1, 10) AS i;
     CREATE TABLE secret AS SELECT i AS n FROM generate_series(1, 10) AS i;
     CREATE TABLE parted (n int) PARTITION BY RANGE (n);
     CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (0) TO (10);
     CREATE SEQUENCE numbers; CREATE SEQUENCE secret_numbers;
     CREATE SCHEMA closed; CREATE TABLE closed.t AS SELECT 1 AS n; CREATE SEQUENCE closed.s;
     GRANT SELECT ON open, parted, parted_1, closed.t TO reader; GRANT SELECT ON numbers, closed.s TO reader`,
  );
  await server.createDatabase('hiding');
  await psql(
    server,
    'hiding',
    `CREATE TABLE sales AS SELECT i AS n, i % 2 = 0 AS even FROM generate_series(1, 100) AS i;
     CREATE TABLE "Forced" AS SELECT i AS n FROM generate_series(1, 100) AS i;
     CREATE TABLE shown AS SELECT 1 AS n;
     ALTER TABLE sales OWNER TO seller; ALTER TABLE "Forced" OWNER TO seller; ALTER TABLE shown OWNER TO seller;
     ALTER TABLE sales ENABLE ROW LEVEL SECURITY; CREATE POLICY evens ON sales USING (even);
     ALTER TABLE "Forced" ENABLE ROW LEVEL SECURITY; ALTER TABLE "Forced" FORCE ROW LEVEL SECURITY`,
  );
});
afterAll(async () => {
  await server[Symbol.asyncDispose]();
});

const as = (database: string, user: string) => ({ database: server.url(database, user) });

describe('a role without all privileges', () => {
  it('is told every table and sequence that it may not read, and nothing is written', async () => {
    await using folder = makeTempFolder('repository');
    const repository = join(folder.path, 'new');
    await expect(backUp(server, 'shop', repository, as('shop', 'reader'))).rejects.toMatchObject({
      code: 'DATABASE_PRIVILEGE',
      exitCode: 5,
      message: 'the role may not read closed.t, public.secret, closed.s, public.secret_numbers',
      hint: expect.stringMatching(/pg_read_all_data.*--skip-unreadable/),
      context: { tables: ['closed.t', 'public.secret', 'closed.s', 'public.secret_numbers'] },
    });
    expect(existsSync(repository)).toBe(false);
  });

  it('can leave out what it may not read', async () => {
    await using repository = makeTempFolder('repository');
    const backup = await backUp(server, 'shop', repository.path, {
      ...as('shop', 'reader'),
      excludeSchemas: ['closed'],
      excludeTables: ['secret*'],
    });
    expect(backup.leftOut.map(({ schema, name }) => `${schema}.${name}`).sort()).toEqual([
      'closed.s',
      'closed.t',
      'public.secret',
      'public.secret_numbers',
    ]);
    await restoreInto(server, 'restored', repository.path, { create: true });
    expect(await psql(server, 'restored', 'SELECT count(*) FROM open')).toBe('10\n');
    await server.dropDatabase('restored');
  });

  it('with pg_read_all_data backs up everything', async () => {
    await using repository = makeTempFolder('repository');
    await backUp(server, 'shop', repository.path, as('shop', 'watcher'));
    await restoreInto(server, 'restored', repository.path, { create: true });
    await expectSame(server, 'shop', 'restored');
    await server.dropDatabase('restored');
  });
});

describe('row-level security', () => {
  it.each([
    { user: 'watcher', named: ['public.Forced', 'public.sales'] },
    // The owner sees all rows, but of a table where it is forced upon owners.
    { user: 'seller', named: ['public.Forced'] },
  ])('that hides rows from $user fails the backup by the names of the tables', async ({ user, named }) => {
    await using folder = makeTempFolder('repository');
    const repository = join(folder.path, 'new');
    await expect(backUp(server, 'hiding', repository, as('hiding', user))).rejects.toMatchObject({
      code: 'ROW_SECURITY',
      exitCode: 6,
      message: `row-level security hides rows of ${named.join(', ')} from the role: the backup would be short`,
      hint: expect.stringContaining('BYPASSRLS'),
      context: { tables: named },
    });
    expect(existsSync(repository)).toBe(false);
  });

  it('does not hide rows from a role with BYPASSRLS', async () => {
    await using repository = makeTempFolder('repository');
    const backup = await backUp(server, 'hiding', repository.path, as('hiding', 'auditor'));
    expect(backup.rows).toBe(201);
    await restoreInto(server, 'restored', repository.path, { create: true });
    await expectSame(server, 'hiding', 'restored');
    await server.dropDatabase('restored');
  });

  it('does not matter for tables whose rows are left out', async () => {
    await using repository = makeTempFolder('repository');
    const backup = await backUp(server, 'hiding', repository.path, {
      ...as('hiding', 'watcher'),
      excludeTableData: ['sales', '"Forced"'],
    });
    expect(backup.rows).toBe(1);
    expect(backup.leftOut.map(({ name }) => name).sort()).toEqual(['Forced', 'sales']);
  });
});
