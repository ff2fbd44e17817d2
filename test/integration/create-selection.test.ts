// What the patterns of create take and leave is what pg_dump takes and leaves with the same patterns.
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { showBackup } from '../../src/operations/show-backup.ts';
import { loadFixture } from '../fixtures/everything.ts';
import { compareDatabases } from '../support/compare-databases.ts';
import { copyByPlainDump } from '../support/plain-copy.ts';
import { psql, type Server, startServer } from '../support/postgres-server.ts';
import { backUp, restoreInto, testKey } from '../support/round-trip.ts';
import { makeTempFolder } from '../support/temp-folder.ts';

// What a dump of single tables needs and does not hold.
const prepare = `
  CREATE SCHEMA sales; CREATE SCHEMA audit; CREATE SCHEMA "Odd ""Schema""";
  CREATE TYPE sales.status AS ENUM ('new', 'paid', 'sent'); CREATE DOMAIN sales.amount AS numeric(12, 2) CHECK (VALUE >= 0);
  CREATE FUNCTION sales.touch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.touched := 'by trigger'; RETURN NEW; END $$;`;

let server: Server;
const folder = makeTempFolder('repository');
let runs = 0;

beforeAll(async () => {
  server = await startServer();
  await server.createDatabase('orders');
  await loadFixture(server, 'orders', 'orders.sql');
});
afterAll(async () => {
  await server[Symbol.asyncDispose]();
  await folder.remove();
});

interface Selection {
  schemas?: string[];
  excludeSchemas?: string[];
  tables?: string[];
  excludeTables?: string[];
  excludeTableData?: string[];
  schemaOnly?: boolean;
}

function dumpArguments(selection: Selection): string[] {
  const flags = {
    schemas: '--schema',
    excludeSchemas: '--exclude-schema',
    tables: '--table',
    excludeTables: '--exclude-table',
    excludeTableData: '--exclude-table-data',
  };
  const args = selection.schemaOnly ? ['--schema-only'] : [];
  for (const [option, flag] of Object.entries(flags)) {
    const patterns = selection[option as keyof typeof flags] ?? [];
    args.push(...patterns.map(pattern => `${flag}=${pattern}`));
  }
  return args;
}

/** Backs up and restores with a selection, and compares with what pg_dump makes of it. */
async function compareWithPlainDump(selection: Selection) {
  runs += 1;
  const isOfTables = selection.tables !== undefined;
  const copy = await copyByPlainDump(server, 'orders', `plain_${runs}`, {
    dump: dumpArguments(selection),
    // pg_dump writes CREATE SCHEMA for a schema that is asked for by name, also for public.
    prepare: isOfTables ? prepare : selection.schemas?.includes('publi*') ? 'DROP SCHEMA public' : '',
  });
  const backup = await backUp(server, 'orders', folder.path, selection);
  const restored = await server.createDatabase(`restored_${runs}`);
  if (isOfTables) await psql(server, restored, prepare);
  await restoreInto(server, restored, folder.path);
  const { differences, tables, rows } = await compareDatabases(server.url(copy), server.url(restored), {
    binDir: server.binDir,
  });
  const leftOut = backup.leftOut.map(({ schema, name, reason }) => `${schema}.${name}: ${reason}`);
  return { differences, tables, rows, backup, leftOut };
}

const byOptions = 'it is left out by the options';

describe('a backup of chosen schemas', () => {
  it('takes one schema', async () => {
    const { differences, rows, leftOut } = await compareWithPlainDump({ schemas: ['audit'] });
    expect(differences).toEqual([]);
    expect(rows).toBe(704);
    expect(leftOut).toContain(`sales.orders: ${byOptions}`);
    expect(leftOut.filter(line => line.startsWith('audit.'))).toEqual([]);
  });

  it('takes schemas by wildcard and by quoted name', async () => {
    const selection = { schemas: ['aud?t', '"Odd ""Schema"""', 'publi*'] };
    const { differences, rows } = await compareWithPlainDump(selection);
    // The copy's public schema is a new one and lacks what initdb grants to PUBLIC; the restored one is as the source's.
    const own = 'definition of SCHEMA public; Type: ACL; Schema: -: only in the source';
    expect(differences).toEqual([own]);
    expect(rows).toBe(704 + 6 + 5);
  });

  it('leaves schemas out', async () => {
    const { differences, leftOut, rows } = await compareWithPlainDump({
      excludeSchemas: ['"Odd*"*', 'audit'],
    });
    expect(differences).toEqual([]);
    expect(rows).toBeGreaterThan(1000);
    expect(leftOut).toContain(`audit.log_2024_even: ${byOptions}`);
  });

  it('leaves a table of a schema out', async () => {
    const { differences, leftOut } = await compareWithPlainDump({
      schemas: ['sales'],
      excludeTables: ['sales.order_*'],
    });
    expect(differences).toEqual([]);
    expect(leftOut).toEqual(
      expect.arrayContaining([`sales.order_lines: ${byOptions}`, `sales.order_archive: ${byOptions}`]),
    );
  });
});

describe('a backup of chosen tables', () => {
  it('takes tables by wildcard, with their sequences', async () => {
    const { differences, rows } = await compareWithPlainDump({ tables: ['sales.c*', 'sales.orders'] });
    expect(differences).toEqual([]);
    expect(rows).toBe(3 + 50 + 300);
  });

  it('takes tables of odd names', async () => {
    const tables = ['"Odd ""Schema"""."Mixed Case"', '"Odd ""Schema"""."dot.ted*"', '"Users"', 'settings'];
    const { differences, rows } = await compareWithPlainDump({ tables });
    expect(differences).toEqual([]);
    expect(rows).toBe(2 + 1 + 2 + 3);
  });

  it('folds unquoted names to lower case', async () => {
    const { differences, tables } = await compareWithPlainDump({ tables: ['SALES.Countries'] });
    expect(differences).toEqual([]);
    expect(tables).toBe(1);
  });

  it('takes one partition, which is restored as a table of its own', async () => {
    const backup = await backUp(server, 'orders', folder.path, {
      tables: ['audit.log_2023', 'audit.log_id_seq'],
    });
    const { warnings, rows } = await restoreInto(server, 'one_partition', folder.path, {
      backup: backup.id,
      create: true,
    });
    expect(rows).toBe(364);
    expect(warnings).toEqual([
      `${backup.id} holds a part of its database: it was made with --table audit.log_2023 --table audit.log_id_seq`,
      expect.stringContaining('TABLE ATTACH audit log_2023'),
      expect.stringContaining('INDEX ATTACH audit log_2023_at_idx'),
    ]);
    const count = await psql(
      server,
      'one_partition',
      'SELECT count(*) FROM audit.log_2023 WHERE at IS NOT NULL',
    );
    expect(count.trim()).toBe('364');
  });

  it('leaves out foreign keys to tables that it does not have, with a warning', async () => {
    const backup = await backUp(server, 'orders', folder.path, { excludeTables: ['sales.customers'] });
    const { warnings } = await restoreInto(server, 'without_customers', folder.path, {
      backup: backup.id,
      create: true,
    });
    expect(warnings).toEqual([
      expect.stringContaining('made with --exclude-table sales.customers'),
      expect.stringContaining('FK CONSTRAINT sales orders of_customer'),
    ]);
    const { differences } = await compareDatabases(server.url('orders'), server.url('without_customers'), {
      binDir: server.binDir,
    });
    expect(differences).not.toEqual([]);
    expect(differences.filter(line => !/customer.*: only in the source$/.test(line))).toEqual([]);
  });

  it('takes views and sequences alone', async () => {
    const { differences } = await compareWithPlainDump({
      tables: [
        'sales.countries',
        'sales.customers',
        'sales.orders',
        'sales.open_orders',
        'sales.totals',
        'sales.invoice_number',
      ],
    });
    expect(differences).toEqual([]);
  });

  it('leaves tables out again that another pattern took', async () => {
    const { differences, backup } = await compareWithPlainDump({
      tables: ['sales.*'],
      excludeTables: ['sales.o*', 'sales.totals'],
    });
    expect(differences).toEqual([]);
    expect(backup.tables).toBe(2);
  });

  it('restores into a new database, making the schemas of the tables', async () => {
    const backup = await backUp(server, 'orders', folder.path, {
      tables: ['sales.countries', 'audit.log', 'audit.log_*'],
    });
    await restoreInto(server, 'new_of_tables', folder.path, { backup: backup.id, create: true });
    expect((await psql(server, 'new_of_tables', 'SELECT count(*) FROM sales.countries')).trim()).toBe('3');
    expect((await psql(server, 'new_of_tables', 'SELECT count(*) FROM audit.log')).trim()).toBe('700');
  });

  it('is refused where a table is already, whatever else may be there', async () => {
    const backup = await backUp(server, 'orders', folder.path, { tables: ['sales.countries'] });
    await server.createDatabase('occupied');
    await psql(server, 'occupied', `${prepare} CREATE TABLE public.mine (id integer)`);
    await expect(restoreInto(server, 'occupied', folder.path, { backup: backup.id })).rejects.toMatchObject({
      code: 'TARGET_NOT_EMPTY',
      message: expect.stringMatching(/public\.mine/),
    });
  });
});

describe('a backup without rows', () => {
  it('of some tables leaves their rows out and says so', async () => {
    const { differences, leftOut } = await compareWithPlainDump({
      excludeTableData: ['sales.order*', 'audit.log_2024*', '"Odd ""Schema"""."mixed case"', 'settings'],
      excludeTables: ['"Users"'],
    });
    expect(differences).toEqual([]);
    const reason = 'its rows are left out by --exclude-table-data';
    for (const name of [
      'sales.orders',
      'sales.order_lines',
      'audit.log_2024_odd',
      'Odd "Schema".mixed case',
      'public.settings',
    ]) {
      expect(leftOut).toContain(`${name}: ${reason}`);
    }
    expect(leftOut).toContain(`public.Users: ${byOptions}`);
  });

  it('of any table has the definitions alone', async () => {
    const { differences, rows, backup, leftOut } = await compareWithPlainDump({ schemaOnly: true });
    expect(differences).toEqual([]);
    expect([rows, backup.rows, backup.tables]).toEqual([0, 0, 0]);
    expect(leftOut).toContain('sales.orders: its rows are left out by --schema-only');
    expect(leftOut).toContain('sales.invoice_number: its value is left out by --schema-only');
  });
});

describe('a backup by patterns', () => {
  it.each([
    { schemas: ['audit', 'nowhere*'] },
    { tables: ['sales.orders', 'sales.nothing'] },
    { tables: ['Sales."Orders"'] },
    { tables: ['orders'] },
  ])('ends when one matches nothing: %o', async selection => {
    const before = await showBackup({ ...show, backup: 'latest' });
    await expect(backUp(server, 'orders', folder.path, selection)).rejects.toMatchObject({
      code: 'OPTION_INVALID',
      message: expect.stringContaining((selection.schemas ?? selection.tables).at(-1) ?? ''),
    });
    expect((await showBackup({ ...show, backup: 'latest' })).metadata.id).toBe(before.metadata.id);
  });

  it.each(['a.b.c', 'a."b".c.d'])('ends when one has too many parts: %s', async pattern => {
    for (const option of ['tables', 'excludeTables', 'excludeTableData'] as const) {
      await expect(backUp(server, 'orders', folder.path, { [option]: [pattern] })).rejects.toMatchObject({
        code: 'OPTION_INVALID',
      });
    }
  });

  it('ends when one is no regular expression, naming it', async () => {
    await expect(backUp(server, 'orders', folder.path, { tables: ['sales.(orders'] })).rejects.toMatchObject({
      code: 'OPTION_INVALID',
      message: expect.stringContaining('sales.(orders'),
    });
  });

  it('is described by show: what was left out, each with the reason', async () => {
    await backUp(server, 'orders', folder.path, { excludeTables: ['audit.log*'] });
    const shown = await showBackup({ ...show, backup: 'latest' });
    expect(shown.leftOut).toContainEqual({
      schema: 'audit',
      name: 'log_2023',
      kind: 'table',
      reason: byOptions,
    });
    expect(shown.leftOut.find(entry => entry.name === 'log')?.kind).toBe('partitioned table');
    expect(shown.tables.some(table => table.name.startsWith('log'))).toBe(false);
  });
});

const show = { repository: folder.path, encryptionKey: testKey };
