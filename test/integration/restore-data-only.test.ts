// Rows without definitions go into tables that exist: all of them, or none.
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { loadFixture, offerFixtureExtension } from '../fixtures/everything.ts';
import { compareDatabases } from '../support/compare-databases.ts';
import { psql, type Server, startServer } from '../support/postgres-server.ts';
import { backUp, restoreInto } from '../support/round-trip.ts';
import { makeTempFolder } from '../support/temp-folder.ts';

const definitions = `
  CREATE TABLE public.hen (id integer PRIMARY KEY, egg integer NOT NULL);
  CREATE TABLE public.egg (id integer PRIMARY KEY, hen integer NOT NULL);
  ALTER TABLE public.hen ADD CONSTRAINT from_egg FOREIGN KEY (egg) REFERENCES public.egg;
  ALTER TABLE public.egg ADD CONSTRAINT of_hen FOREIGN KEY (hen) REFERENCES public.hen DEFERRABLE INITIALLY DEFERRED;
  CREATE TABLE public.three_a (id integer PRIMARY KEY, b integer);
  CREATE TABLE public.three_b (id integer PRIMARY KEY, c integer);
  CREATE TABLE public.three_c (id integer PRIMARY KEY, a integer REFERENCES public.three_a);
  ALTER TABLE public.three_a ADD CONSTRAINT to_b FOREIGN KEY (b) REFERENCES public.three_b;
  ALTER TABLE public.three_b ADD CONSTRAINT to_c FOREIGN KEY (c) REFERENCES public.three_c DEFERRABLE;
  CREATE TABLE public.tree (id integer PRIMARY KEY, parent integer REFERENCES public.tree);

  CREATE TABLE public.a_child (id integer, owner integer) PARTITION BY RANGE (id);
  CREATE TABLE public.a_child_1 PARTITION OF public.a_child FOR VALUES FROM (0) TO (10) PARTITION BY LIST (owner);
  CREATE TABLE public.a_child_1_x PARTITION OF public.a_child_1 DEFAULT;
  CREATE TABLE public.a_child_2 PARTITION OF public.a_child DEFAULT;
  CREATE TABLE public.z_parent (id integer PRIMARY KEY, child integer) PARTITION BY RANGE (id);
  CREATE TABLE public.z_parent_1 PARTITION OF public.z_parent FOR VALUES FROM (0) TO (100);
  ALTER TABLE public.a_child ADD CONSTRAINT to_parent FOREIGN KEY (owner) REFERENCES public.z_parent;
  CREATE TYPE public.mood AS ENUM ('a', 'b', 'c', 'd');
  CREATE TABLE public.by_mood (m public.mood, v integer) PARTITION BY HASH (m);
  CREATE TABLE public.by_mood_0 PARTITION OF public.by_mood FOR VALUES WITH (MODULUS 2, REMAINDER 0);
  CREATE TABLE public.by_mood_1 PARTITION OF public.by_mood FOR VALUES WITH (MODULUS 2, REMAINDER 1);

  CREATE TABLE public.always (id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY, twice integer GENERATED ALWAYS AS (n * 2) STORED, n integer);
  CREATE TABLE public.no_columns ();
  CREATE SEQUENCE public.counter;

  CREATE TABLE public.fired (what text);
  CREATE FUNCTION public.fire() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.fired VALUES (TG_NAME || ' on ' || TG_TABLE_NAME); RETURN NULL; END $$;
  CREATE TABLE public.triggered (id integer);
  CREATE TRIGGER enabled BEFORE INSERT ON public.triggered FOR EACH ROW EXECUTE FUNCTION public.fire();
  CREATE TRIGGER disabled BEFORE INSERT ON public.triggered FOR EACH ROW EXECUTE FUNCTION public.fire();
  CREATE TRIGGER for_replica BEFORE INSERT ON public.triggered FOR EACH ROW EXECUTE FUNCTION public.fire();
  CREATE TRIGGER "For Always" AFTER INSERT ON public.triggered FOR EACH STATEMENT EXECUTE FUNCTION public.fire();
  CREATE CONSTRAINT TRIGGER later AFTER INSERT ON public.triggered DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION public.fire();
  CREATE TRIGGER of_root AFTER INSERT ON public.a_child FOR EACH ROW EXECUTE FUNCTION public.fire();
  CREATE TRIGGER of_leaf AFTER INSERT ON public.a_child_2 FOR EACH ROW EXECUTE FUNCTION public.fire();
  CREATE TRIGGER of_moods AFTER INSERT ON public.by_mood FOR EACH ROW EXECUTE FUNCTION public.fire();
  CREATE RULE swallow AS ON INSERT TO public.no_columns DO INSTEAD NOTHING;
  ALTER TABLE public.triggered DISABLE TRIGGER disabled;
  ALTER TABLE public.triggered ENABLE REPLICA TRIGGER for_replica;
  ALTER TABLE public.triggered ENABLE ALWAYS TRIGGER "For Always";`;

const rows = `
  BEGIN; SET LOCAL session_replication_role = replica;
  ALTER TABLE public.triggered DISABLE TRIGGER ALL;
  INSERT INTO public.hen SELECT i, 101 - i FROM generate_series(1, 100) AS i;
  INSERT INTO public.egg SELECT i, i FROM generate_series(1, 100) AS i;
  INSERT INTO public.three_a VALUES (1, 1), (2, NULL); INSERT INTO public.three_b VALUES (1, 1); INSERT INTO public.three_c VALUES (1, 2);
  INSERT INTO public.tree SELECT i, CASE WHEN i < 50 THEN i + 1 END FROM generate_series(1, 50) AS i;
  INSERT INTO public.a_child SELECT i, i % 5 FROM generate_series(0, 20) AS i;
  INSERT INTO public.z_parent SELECT i, i FROM generate_series(0, 4) AS i;
  INSERT INTO public.by_mood SELECT (enum_range(NULL::public.mood))[i % 4 + 1], i FROM generate_series(1, 40) AS i;
  INSERT INTO public.always (n) SELECT i FROM generate_series(1, 10) AS i;
  INSERT INTO public.triggered SELECT generate_series(1, 5);
  ALTER TABLE public.triggered ENABLE TRIGGER enabled, ENABLE REPLICA TRIGGER for_replica, ENABLE ALWAYS TRIGGER "For Always", ENABLE TRIGGER later;
  COMMIT;
  ALTER TABLE public.no_columns DISABLE RULE swallow; INSERT INTO public.no_columns DEFAULT VALUES; INSERT INTO public.no_columns DEFAULT VALUES;
  ALTER TABLE public.no_columns ENABLE RULE swallow;
  DELETE FROM public.fired; SELECT setval('public.counter', 42) \\g /dev/null
  SELECT lo_from_bytea(4711, '\\xdeadbeef') \\g /dev/null`;

let server: Server;
const folder = makeTempFolder('repository');
let backupId: string;
let runs = 0;

beforeAll(async () => {
  server = await startServer();
  await server.createDatabase('definitions');
  await psql(server, 'definitions', definitions);
  await server.cloneDatabase('definitions', 'source');
  await psql(server, 'source', rows);
  backupId = (await backUp(server, 'source', folder.path)).id;
});
afterAll(async () => {
  await server[Symbol.asyncDispose]();
  await folder.remove();
});

/** A database with the definitions and no rows, changed as the test needs it. */
async function makeTarget(sql = ''): Promise<string> {
  runs += 1;
  const target = await server.cloneDatabase('definitions', `target_${runs}`);
  await psql(server, target, sql);
  return target;
}

const load = (database: string, options: Parameters<typeof restoreInto>[3] = {}) =>
  restoreInto(server, database, folder.path, { backup: backupId, dataOnly: true, ...options });

async function differences(database: string, source = 'source'): Promise<string[]> {
  const comparison = await compareDatabases(server.url(source), server.url(database), {
    binDir: server.binDir,
  });
  return comparison.differences;
}

describe('rows alone', () => {
  it('fill empty tables: circles of keys, partitions, identity, generated columns, sequences, large objects', async () => {
    const target = await makeTarget();
    const result = await load(target);
    expect(result.warnings).toEqual([]);
    expect(result.rows).toBe(200 + 4 + 50 + 21 + 5 + 40 + 10 + 5 + 2);
    // Among the definitions compared: keys as deferrable as before, triggers in the state they had.
    expect(await differences(target)).toEqual([]);
  });

  it('fire no trigger', async () => {
    const target = await makeTarget();
    await load(target);
    expect(await psql(server, target, 'SELECT DISTINCT what FROM public.fired')).toBe('');
    expect((await psql(server, target, 'SELECT count(*) FROM public.triggered')).trim()).toBe('5');
    await psql(
      server,
      target,
      "INSERT INTO public.by_mood VALUES ('a', 1); INSERT INTO public.a_child VALUES (3, 1), (30, 1)",
    );
    const fired = await psql(server, target, 'SELECT what FROM public.fired ORDER BY what COLLATE "C"');
    expect(fired.trim().split('\n')).toEqual([
      'of_leaf on a_child_2',
      expect.stringMatching(/^of_moods on by_mood_[01]$/),
      'of_root on a_child_1_x',
      'of_root on a_child_2',
    ]);
  });

  it('of some tables leave the others empty', async () => {
    const target = await makeTarget();
    const result = await load(target, { tables: ['public.tree', 'z_parent', 'a_child'] });
    expect(result.rows).toBe(50 + 5 + 21);
    const counts = await psql(
      server,
      target,
      'SELECT count(*), (SELECT count(*) FROM public.hen) FROM public.a_child',
    );
    expect(counts.trim()).toBe('21|0');
  });

  it('keep out of tables they do not concern', async () => {
    const target = await makeTarget(
      'CREATE TABLE public.mine (id integer); INSERT INTO public.mine VALUES (1)',
    );
    await load(target);
    expect((await psql(server, target, 'SELECT id FROM public.mine')).trim()).toBe('1');
  });

  it('may miss columns that have a default', async () => {
    const target = await makeTarget(`ALTER TABLE public.tree ADD COLUMN added text DEFAULT 'new'`);
    await load(target);
    expect((await psql(server, target, 'SELECT count(*), min(added) FROM public.tree')).trim()).toBe(
      '50|new',
    );
  });

  it("of an extension's configuration are loaded too", async () => {
    await offerFixtureExtension(server);
    await server.createDatabase('configured');
    await psql(server, 'configured', 'CREATE EXTENSION pgkeep_fixture; CREATE TABLE public.t (id integer)');
    await server.cloneDatabase('configured', 'configured_target');
    await psql(
      server,
      'configured',
      `INSERT INTO settings VALUES ('mine', 'x', false); INSERT INTO public.t VALUES (1)`,
    );
    const backup = await backUp(server, 'configured', folder.path);
    await load('configured_target', { backup: backup.id });
    expect(await differences('configured_target', 'configured')).toEqual([]);
  });

  it('are planned without being loaded', async () => {
    const target = await makeTarget();
    const result = await load(target, { dryRun: true });
    expect(result.plan.join('\n')).toContain('in one transaction');
    expect(await differences(target, 'definitions')).toEqual([]);
  });
});

describe('rows alone are refused', () => {
  it.each([
    ['a table is missing', 'DROP TABLE public.tree', /public\.tree does not exist/],
    [
      'a column is missing',
      'ALTER TABLE public.tree DROP COLUMN parent',
      /public\.tree has no column parent/,
    ],
    [
      'a column is generated there',
      'ALTER TABLE public.tree DROP COLUMN parent, ADD COLUMN parent integer GENERATED ALWAYS AS (1) STORED',
      /public\.tree has no column parent/,
    ],
    ['a table holds rows', 'INSERT INTO public.tree VALUES (1, NULL)', /public\.tree holds rows/],
    [
      'a partition holds rows',
      'INSERT INTO public.z_parent VALUES (1); DELETE FROM public.z_parent_1 WHERE false',
      /public\.z_parent_1 holds rows/,
    ],
  ])('when %s', async (_, sql, message) => {
    const target = await makeTarget(sql);
    const copy = await server.cloneDatabase(target);
    await expect(load(target)).rejects.toMatchObject({
      code: 'TARGET_UNFIT',
      message: expect.stringMatching(message),
    });
    expect(await differences(target, copy)).toEqual([]);
  });
});

describe('all tables stay empty, keys and triggers as they were,', () => {
  it.each([
    [
      'when a row of the last table breaks a constraint',
      'ALTER TABLE public.tree ADD CHECK (id < 50)',
      /violates check constraint/,
    ],
    [
      'when a row breaks a foreign key of the target',
      'CREATE TABLE public.more (id integer PRIMARY KEY); ALTER TABLE public.egg ADD FOREIGN KEY (hen) REFERENCES public.more',
      /violates foreign key constraint/,
    ],
    [
      'when a value does not fit',
      'ALTER TABLE public.always DROP COLUMN twice, DROP COLUMN n; ALTER TABLE public.always ADD COLUMN n date',
      /invalid input syntax for type date/,
    ],
    ['when a sequence is missing', 'DROP SEQUENCE public.counter', /counter/],
    ['when a large object is there already', 'SELECT lo_create(4711) \\g /dev/null', /4711/],
  ])('%s', async (_, sql, message) => {
    const target = await makeTarget(sql);
    const copy = await server.cloneDatabase(target);
    await expect(load(target)).rejects.toThrow(message);
    expect(await differences(target, copy)).toEqual([]);
  });

  it('when it is interrupted', async () => {
    const target = await makeTarget();
    const stop = new AbortController();
    const onEvent = (event: { type: string; rows?: number }) => {
      if (event.type === 'progress' && (event.rows ?? 0) > 100) stop.abort();
    };
    await expect(load(target, { signal: stop.signal, onEvent })).rejects.toMatchObject({
      code: 'INTERRUPTED',
    });
    expect(await differences(target, 'definitions')).toEqual([]);
  });
});

it('rows alone of the shop go into a copy of its definitions', async () => {
  await server.createDatabase('orders');
  await loadFixture(server, 'orders', 'orders.sql');
  const backup = await backUp(server, 'orders', folder.path);
  await restoreInto(server, 'orders_copy', folder.path, {
    backup: backup.id,
    create: true,
    schemaOnly: true,
  });
  await load('orders_copy', { backup: backup.id });
  const notRefreshed = /sales\.totals/;
  expect((await differences('orders_copy', 'orders')).filter(line => !notRefreshed.test(line))).toEqual([]);
});
