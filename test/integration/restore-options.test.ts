// Where a restore goes, which backup it takes, and what it refuses.
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { OperationEvent } from '../../src/operations/events.ts';
import { loadFixture } from '../fixtures/everything.ts';
import { compareDatabases } from '../support/compare-databases.ts';
import { copyByPlainDump } from '../support/plain-copy.ts';
import { psql, type Server, startServer } from '../support/postgres-server.ts';
import { waitFor } from '../support/processes.ts';
import { backUp, restoreInto } from '../support/round-trip.ts';
import { makeTempFolder } from '../support/temp-folder.ts';

let server: Server;
const folder = makeTempFolder('repository');
let backupId: string;

beforeAll(async () => {
  server = await startServer();
  await server.createDatabase('orders');
  await loadFixture(server, 'orders', 'orders.sql');
  backupId = (await backUp(server, 'orders', folder.path)).id;
});
afterAll(async () => {
  await server[Symbol.asyncDispose]();
  await folder.remove();
});

const restore = (database: string, options: Parameters<typeof restoreInto>[3] = {}) =>
  restoreInto(server, database, folder.path, { backup: backupId, ...options });

async function differences(database: string, source = 'orders'): Promise<string[]> {
  const comparison = await compareDatabases(server.url(source), server.url(database), {
    binDir: server.binDir,
    properties: true,
  });
  return comparison.differences;
}

async function databases(): Promise<string[]> {
  const names = await psql(server, 'postgres', 'SELECT datname FROM pg_database ORDER BY 1');
  return names.trim().split('\n');
}

describe('a restore', () => {
  it.each([1, 2, 4])('makes a new database over %i connections', async jobs => {
    const result = await restore(`new_${jobs}`, { create: true, jobs });
    expect(result).toMatchObject({ backup: backupId, database: `new_${jobs}`, dryRun: false, warnings: [] });
    expect(await differences(`new_${jobs}`)).toEqual([]);
    const sessions = "SELECT 1 FROM pg_stat_activity WHERE application_name ~ 'pgkeep'";
    await waitFor('the sessions to end', async () => (await psql(server, 'postgres', sessions)) === '');
  });

  it('makes a new database of an odd name', async () => {
    const name = `it's "odd" \\ höher`;
    await restore(name, { create: true });
    expect(await differences(name)).toEqual([]);
    await server.createDatabase(`${name} too`);
    await restore(`${name} too`);
    expect(await differences(`${name} too`)).toEqual([]);
  });

  it('fills an empty database', async () => {
    await server.createDatabase('empty');
    await restore('empty');
    expect(await differences('empty')).toEqual([]);
  });

  it('takes a database with nothing but an extension for empty', async () => {
    await server.createDatabase('extended');
    await psql(server, 'extended', 'CREATE EXTENSION hstore; CREATE EXTENSION pg_trgm');
    await restore('extended');
    const found = await differences('extended');
    expect(found).not.toEqual([]);
    expect(found.filter(line => !/EXTENSION.*: only in the target$/.test(line))).toEqual([]);
  });

  it('counts what it restored, and gathers statistics for the planner', async () => {
    const result = await restore('counted', { create: true });
    const count = await psql(
      server,
      'orders',
      `SELECT sum(n) FROM (
      SELECT count(*) AS n FROM sales.orders UNION ALL SELECT count(*) FROM sales.customers UNION ALL SELECT count(*) FROM sales.countries
      UNION ALL SELECT count(*) FROM sales.order_lines UNION ALL SELECT count(*) FROM sales.order_archive UNION ALL SELECT count(*) FROM audit.log
      UNION ALL SELECT count(*) FROM audit.events UNION ALL SELECT count(*) FROM public.settings UNION ALL SELECT count(*) FROM public."Users"
      UNION ALL SELECT 6) AS counts`,
    );
    expect(result.rows).toBe(Number(count));
    const analyzed = await psql(
      server,
      'counted',
      `SELECT reltuples FROM pg_class WHERE oid = 'sales.orders'::regclass`,
    );
    expect(analyzed.trim()).toBe('300');
  });

  it('of definitions alone leaves every table empty', async () => {
    await copyByPlainDump(server, 'orders', 'plain_definitions', { dump: ['--schema-only'] });
    const result = await restore('definitions', { create: true, schemaOnly: true });
    expect([result.rows, result.bytes]).toEqual([0, 0]);
    expect(await differences('definitions', 'plain_definitions')).toEqual([]);
  });
});

describe('which backup', () => {
  it('is the latest of all, the latest of one database, or the one named', async () => {
    await server.createDatabase('other');
    await psql(server, 'other', 'CREATE TABLE public.t (id integer); INSERT INTO public.t VALUES (1)');
    const begun: OperationEvent[] = [];
    const other = await backUp(server, 'other', folder.path, { onEvent: event => begun.push(event) });
    expect(begun).toContainEqual({ type: 'phase', phase: 'data', detail: '1 table' });
    await psql(server, 'other', 'INSERT INTO public.t VALUES (2)');
    const latest = await backUp(server, 'other', folder.path);
    const choices = [
      { backup: 'latest', expected: latest.id },
      { backup: 'latest', sourceDatabase: 'orders', expected: backupId },
      { backup: 'latest', sourceDatabase: 'other', expected: latest.id },
      { backup: other.id, expected: other.id },
    ];
    for (const { expected, ...choice } of choices) {
      expect((await restore('unused', { ...choice, create: true, dryRun: true })).backup).toBe(expected);
    }
    const details: (string | undefined)[] = [];
    const { plan } = await restore('unused', { backup: other.id, create: true, dryRun: true, jobs: 1 });
    expect(plan).toContain('load 1 row of 1 table over 1 connection, and sequences and large objects');
    await restore('older', {
      backup: other.id,
      create: true,
      onEvent: event => event.type === 'phase' && event.phase === 'data' && details.push(event.detail),
    });
    expect(details).toEqual(['1 table']);
    expect((await psql(server, 'older', 'SELECT * FROM public.t')).trim()).toBe('1');
    await restore('newer', { backup: latest.id, create: true });
    expect(await differences('newer', 'other')).toEqual([]);
  });

  it.each([
    { backup: 'backup-1642684800000-a1b2c3d4' },
    { backup: '../../etc/passwd' },
    { backup: 'latest', sourceDatabase: 'nowhere' },
  ])('is refused when it is not there: %o', async choice => {
    await expect(restore('unused', { ...choice, create: true })).rejects.toMatchObject({
      code: 'BACKUP_NOT_FOUND',
    });
    expect(await databases()).not.toContain('unused');
  });
});

describe('a target', () => {
  it.each([
    ['table', 'CREATE TABLE public.mine (id integer)', 'public.mine'],
    ['partitioned table', 'CREATE TABLE public.mine (id integer) PARTITION BY LIST (id)', 'public.mine'],
    ['view', 'CREATE VIEW public.mine AS SELECT 1 AS one', 'public.mine'],
    ['materialized view', 'CREATE MATERIALIZED VIEW public.mine AS SELECT 1 AS one', 'public.mine'],
    ['sequence', 'CREATE SEQUENCE public.mine', 'public.mine'],
    ['function', `CREATE FUNCTION public.mine() RETURNS integer LANGUAGE sql AS 'SELECT 1'`, 'public.mine()'],
    ['type', `CREATE TYPE public.mine AS ENUM ('a')`, 'public.mine'],
    ['type', 'CREATE DOMAIN public.mine AS text', 'public.mine'],
    ['schema', 'CREATE SCHEMA mine', 'mine'],
    ['large object', 'SELECT lo_create(4242) \\g /dev/null', '4242'],
    ['collation', `CREATE COLLATION public.mine FROM "C"`, 'public.mine'],
    [
      'operator',
      'CREATE OPERATOR public.=== (leftarg = integer, rightarg = integer, function = int4eq)',
      'public.===',
    ],
    [
      'text search configuration',
      'CREATE TEXT SEARCH CONFIGURATION public.mine (copy = simple)',
      'public.mine',
    ],
    ['foreign-data wrapper', 'CREATE FOREIGN DATA WRAPPER mine', 'mine'],
    ['publication', 'SET client_min_messages = error; CREATE PUBLICATION mine', 'mine'],
    [
      'event trigger',
      `CREATE FUNCTION public.on_event() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';
       CREATE EVENT TRIGGER mine ON sql_drop EXECUTE FUNCTION public.on_event()`,
      'mine',
    ],
    ['cast', 'CREATE CAST (text AS bytea) WITHOUT FUNCTION', 'pg_catalog.text AS pg_catalog.bytea'],
    ['default acl', 'ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO PUBLIC', 'postgres'],
    ['access method', 'CREATE ACCESS METHOD mine TYPE TABLE HANDLER heap_tableam_handler', 'mine'],
    ['language', 'CREATE LANGUAGE mine HANDLER plpgsql_call_handler', 'mine'],
  ])('with a %s of its own is refused by name and stays as it was', async (type, sql, name) => {
    const database = `own ${type}`;
    await server.dropDatabase(database);
    await server.createDatabase(database);
    await psql(server, database, sql);
    const copy = await server.cloneDatabase(database);
    const failure = restore(database);
    await expect(failure).rejects.toMatchObject({
      code: 'TARGET_NOT_EMPTY',
      message: expect.stringContaining(type),
    });
    await expect(failure).rejects.toThrow(name);
    expect(await differences(database, copy)).toEqual([]);
  });

  it('that exists is not created again', async () => {
    await expect(restore('orders', { create: true })).rejects.toMatchObject({
      code: 'TARGET_EXISTS',
      message: expect.stringContaining('orders'),
    });
  });

  it('that does not exist is not created unasked', async () => {
    await expect(restore('absent')).rejects.toMatchObject({ code: 'DATABASE_NOT_FOUND' });
    expect(await databases()).not.toContain('absent');
  });

  it('is refused when the role may not create it', async () => {
    await psql(server, 'postgres', 'CREATE ROLE plain LOGIN');
    const failure = restore('not_allowed', { create: true, to: server.url('not_allowed', 'plain') });
    await expect(failure).rejects.toMatchObject({
      code: 'DATABASE_PRIVILEGE',
      message: expect.stringContaining('plain'),
    });
  });
});

describe('a dry run', () => {
  it('prints the plan and creates nothing', async () => {
    const before = await databases();
    const result = await restore('dry', { create: true, dryRun: true });
    expect(result.dryRun).toBe(true);
    expect(result.plan.join('\n')).toMatch(
      /create the database dry[\s\S]*definitions[\s\S]*load 1,988 rows[\s\S]*indexes/,
    );
    expect(await databases()).toEqual(before);
  });

  it('changes nothing in an empty database', async () => {
    await server.createDatabase('dry_empty');
    const copy = await server.cloneDatabase('dry_empty');
    await restore('dry_empty', { dryRun: true });
    await restore('dry_empty', { dryRun: true, schemaOnly: true, tables: ['sales.orders'] });
    expect(await differences('dry_empty', copy)).toEqual([]);
  });

  it('finds what the restore would be refused for', async () => {
    await expect(restore('orders', { dryRun: true })).rejects.toMatchObject({ code: 'TARGET_NOT_EMPTY' });
  });
});

it.each([
  { schemaOnly: true, dataOnly: true },
  { dataOnly: true, create: true },
  { dataOnly: true, createRoles: true },
  { jobs: 0 },
  { jobs: 1.5 },
  { jobs: 65 },
  { jobs: Number.NaN },
])('options that cannot be are refused: %o', async options => {
  await expect(restore('unused', options)).rejects.toMatchObject({ code: 'OPTION_INVALID' });
});
