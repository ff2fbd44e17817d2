// The oracle of the restore tests must be able to fail: each sort of difference is planted once and has to be named.

import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { loadFixture, offerFixtureExtension } from '../fixtures/everything.ts';
import { type ComparisonOptions, compareDatabases } from '../support/compare-databases.ts';
import { psql, type Server, startServer } from '../support/postgres-server.ts';

async function compare(
  server: Server,
  source: string,
  target: string,
  options: Partial<ComparisonOptions> = {},
) {
  return await compareDatabases(server.url(source), server.url(target), {
    binDir: server.binDir,
    ...options,
  });
}

/** One planted change, and how each of the differences it makes has to begin; nothing else may be reported. */
const plantedDifferences: readonly { change: string; named: readonly RegExp[] }[] = [
  {
    change: 'DELETE FROM public.item WHERE id = 2',
    named: [/^rows of public\.item: source has 3 rows, target has 2; not in the target: \(2,two,\)$/],
  },
  {
    change: `INSERT INTO public.item VALUES (4, 'four')`,
    named: [/^rows of public\.item: source has 3 rows, target has 4; not in the source: \(4,four,\)$/],
  },
  {
    change: `UPDATE public.item SET note = '' WHERE id = 1`,
    named: [/^rows of public\.item: .*not in the target: \(1,one,\); not in the source: \(1,one,""\)$/],
  },
  {
    change: `INSERT INTO public.twins VALUES (1); DELETE FROM public.twins WHERE ctid = (SELECT min(ctid) FROM public.twins WHERE a = 2)`,
    named: [
      /^rows of public\.twins: source has 4 rows, target has 4; not in the target: \(2\); not in the source: \(1\)$/,
    ],
  },
  {
    change: `UPDATE public.numbers SET f = nextafter, n = 1.0 FROM (SELECT 0.30000000000000004::float8 AS nextafter) AS x`,
    named: [/^rows of public\.numbers: /],
  },
  { change: `UPDATE public.numbers SET b = set_byte(b, 999999, 1)`, named: [/^rows of public\.numbers: /] },
  {
    change: 'INSERT INTO public.no_columns DEFAULT VALUES',
    named: [/^rows of public\.no_columns: source has 1 rows, target has 2/],
  },
  {
    change: 'UPDATE public.parted SET id = 150 WHERE id = 50',
    named: [/^rows of public\.parted_0: /, /^rows of public\.parted_1: /],
  },
  {
    change: 'DELETE FROM public.unlogged',
    named: [/^rows of public\.unlogged: source has 1 rows, target has 0/],
  },
  {
    change: `INSERT INTO public.child VALUES (9, 'c')`,
    named: [/^rows of public\.child: source has 1 rows, target has 2/],
  },
  {
    change: `UPDATE public.by_enum SET v = v + 1 WHERE m = 'a'`,
    named: [/^rows of public\.by_enum: /],
  },
  {
    change: 'CREATE TABLE public.added (a integer)',
    named: [
      /^definition of added; Type: TABLE; .*: only in the target$/,
      /^rows of public\.added: only in the target$/,
    ],
  },
  {
    change: 'DROP TABLE public.unlogged',
    named: [
      /^definition of unlogged; Type: TABLE; .*: only in the source$/,
      /^rows of public\.unlogged: only in the source$/,
    ],
  },
  {
    change: 'ALTER TABLE public.other SET ACCESS METHOD other_heap',
    named: [
      /^definition of other; Type: TABLE; .*source has "-- stored by .* heap", target has "-- stored by .* other_heap"$/,
    ],
  },
  {
    change: 'ALTER TABLE public.item ALTER COLUMN name DROP NOT NULL',
    named: [/^definition of item; Type: TABLE; /],
  },
  {
    change: 'DROP INDEX public.item_name',
    named: [/^definition of item_name; Type: INDEX; .*: only in the source$/],
  },
  {
    change:
      'ALTER TABLE public.other DROP CONSTRAINT to_item, ADD CONSTRAINT to_item FOREIGN KEY (item_id) REFERENCES public.item NOT VALID',
    named: [
      /^definition of other to_item; Type: FK CONSTRAINT; .*source has ".*", target has ".* NOT VALID;"$/,
    ],
  },
  {
    change: 'ALTER TABLE public.other OWNER TO oracle_role',
    named: [
      /^definition of other; Type: TABLE; .*OWNER TO postgres;", target has ".*OWNER TO oracle_role;"$/,
    ],
  },
  {
    change: 'REVOKE SELECT ON public.item FROM oracle_role',
    named: [/^definition of TABLE item; Type: ACL; /],
  },
  {
    change: `COMMENT ON TABLE public.item IS 'another'`,
    named: [/^definition of TABLE item; Type: COMMENT; .*another/],
  },
  {
    change: 'ALTER TABLE public.item DISABLE TRIGGER watch',
    named: [/^definition of item watch; Type: TRIGGER; /],
  },
  {
    change: 'CREATE OR REPLACE FUNCTION public.reply() RETURNS integer LANGUAGE sql AS $$SELECT 43$$',
    named: [/^definition of reply\(\); Type: FUNCTION; .*42.*43/],
  },
  {
    change: `SELECT nextval('public.counter')`,
    named: [/^state of sequence public\.counter: source has "7, called", target has "8, called"$/],
  },
  {
    change: `SELECT setval('public.counter', 7, false)`,
    named: [/^state of sequence public\.counter: .*"7, not called"$/],
  },
  { change: 'SELECT lo_put(4711, 2, $$\\x00$$)', named: [/^large object 4711: source has "3 bytes, /] },
  { change: 'SELECT lo_unlink(4711)', named: [/^large object 4711: only in the source$/] },
  {
    change: 'ALTER LARGE OBJECT 4711 OWNER TO oracle_role',
    named: [/^large object 4711: .*owner oracle_role/],
  },
  {
    change: 'REVOKE SELECT ON LARGE OBJECT 4711 FROM oracle_role',
    named: [/^large object 4711: .*privileges /],
  },
  { change: `COMMENT ON LARGE OBJECT 4711 IS 'another'`, named: [/^large object 4711: .*comment 'another'/] },
  {
    change: 'REFRESH MATERIALIZED VIEW public.summary WITH NO DATA',
    named: [
      /^population of materialized view public\.summary: /,
      /^rows of public\.summary: only in the source$/,
    ],
  },
  {
    change: 'DELETE FROM public.item; REFRESH MATERIALIZED VIEW public.summary',
    named: [/^rows of public\.item: /, /^rows of public\.summary: /],
  },
  {
    change: `INSERT INTO public.settings VALUES ('mine', '2', false)`,
    named: [/^rows of public\.settings: source has 2 rows, target has 3/],
  },
];

describe('a planted difference', () => {
  let server: Server;
  beforeAll(async () => {
    server = await startServer();
    await loadSmallDatabase(server);
  });
  afterAll(async () => await server[Symbol.asyncDispose]());

  test.each(plantedDifferences)('is named: $change', async ({ change, named }) => {
    const target = await server.cloneDatabase('source');
    await psql(server, target, change);
    const { differences } = await compare(server, 'source', target);
    for (const pattern of named) expect(differences).toContainEqual(expect.stringMatching(pattern));
    expect(differences.filter(difference => !named.some(pattern => pattern.test(difference)))).toEqual([]);
    await server.dropDatabase(target);
  });

  test('is not reported when it is one to ignore', async () => {
    const target = await server.cloneDatabase('source');
    await psql(server, target, 'DELETE FROM public.item; DELETE FROM ONLY public.twins');
    const { differences } = await compare(server, 'source', target, { ignore: [/^rows of public\.item:/] });
    expect(differences).toHaveLength(1);
    expect(differences[0]).toMatch(/^rows of public\.twins:/);
  });

  test('of the database itself is reported only when asked for', async () => {
    const target = await server.cloneDatabase('source');
    await psql(server, target, `ALTER DATABASE ${target} SET work_mem = '9MB'`);
    expect((await compare(server, 'source', target)).differences).toEqual([]);
    expect((await compare(server, 'source', target, { properties: true })).differences).toEqual([
      'property settings: source has "none", target has "all: work_mem=9MB"',
    ]);
  });

  test('is told from the order of rows, which does not count', async () => {
    const target = await server.cloneDatabase('source');
    await psql(
      server,
      target,
      'CREATE TEMPORARY TABLE t AS SELECT * FROM public.item; DELETE FROM public.item; INSERT INTO public.item SELECT * FROM t ORDER BY id DESC',
    );
    expect((await compare(server, 'source', target)).differences).toEqual([]);
  });
});

test.each([
  {
    encoding: 'LATIN1',
    file: 'latin1.sql',
    change: `UPDATE public.every_character SET c = E'\\xfe' WHERE code = 255`,
    named: /^rows of public\.every_character: .*not in the target: \(ÿ,255\); not in the source: \(þ,255\)$/,
  },
  {
    encoding: 'SQL_ASCII',
    file: 'sql-ascii-names.sql',
    change: `DO $$ BEGIN EXECUTE E'UPDATE "sch\\xe9ma"."caf\\xe9" SET v = E''\\xe8'' WHERE v <> ''a'''; END $$`,
    named: /^rows of "sch\\351ma"\."caf\\351": .*not in the target: .*\\351.*; not in the source: .*\\350/,
  },
] as const)(
  'bytes of a database in $encoding count, whatever text they are',
  async ({ encoding, file, change, named }) => {
    await using server = await startServer();
    await server.createDatabase('source', { encoding });
    await loadFixture(server, 'source', file);
    const target = await server.cloneDatabase('source');
    await psql(server, target, `SET client_encoding = '${encoding}'; ${change}`);
    expect((await compare(server, 'source', target)).differences).toEqual([expect.stringMatching(named)]);
  },
);

test('a database that cannot be read is an error, not an equal one', async () => {
  await using server = await startServer();
  await expect(compare(server, 'postgres', 'missing')).rejects.toThrow('database "missing" does not exist');
});

async function loadSmallDatabase(server: Server): Promise<void> {
  await offerFixtureExtension(server);
  await server.createDatabase('source');
  await psql(
    server,
    'source',
    `CREATE ROLE oracle_role;
     CREATE ACCESS METHOD other_heap TYPE TABLE HANDLER heap_tableam_handler;
     CREATE TABLE public.item (id integer PRIMARY KEY, name text NOT NULL, note text);
     INSERT INTO public.item VALUES (1, 'one'), (2, 'two'), (3, 'three');
     CREATE INDEX item_name ON public.item (name);
     COMMENT ON TABLE public.item IS 'items';
     GRANT SELECT ON public.item TO oracle_role;
     CREATE TABLE public.other (item_id integer CONSTRAINT to_item REFERENCES public.item);
     CREATE FUNCTION public.watch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
     CREATE TRIGGER watch BEFORE INSERT ON public.item FOR EACH ROW EXECUTE FUNCTION public.watch();
     CREATE TABLE public.twins (a integer);
     INSERT INTO public.twins VALUES (1), (1), (2), (2);
     CREATE TABLE public.numbers (f float8, n numeric, b bytea);
     INSERT INTO public.numbers SELECT 0.3, 1.00, decode(repeat('00', 1000000), 'hex');
     CREATE TABLE public.no_columns ();
     INSERT INTO public.no_columns DEFAULT VALUES;
     CREATE TABLE public.parted (id integer) PARTITION BY RANGE (id);
     CREATE TABLE public.parted_0 PARTITION OF public.parted FOR VALUES FROM (0) TO (100);
     CREATE TABLE public.parted_1 PARTITION OF public.parted FOR VALUES FROM (100) TO (200);
     INSERT INTO public.parted VALUES (50), (60), (160);
     CREATE TYPE public.m AS ENUM ('a', 'b');
     CREATE TABLE public.by_enum (m public.m, v integer) PARTITION BY HASH (m);
     CREATE TABLE public.by_enum_0 PARTITION OF public.by_enum FOR VALUES WITH (MODULUS 1, REMAINDER 0);
     INSERT INTO public.by_enum VALUES ('a', 1), ('b', 2);
     CREATE UNLOGGED TABLE public.unlogged (a integer);
     INSERT INTO public.unlogged VALUES (1);
     CREATE TABLE public.child (extra text) INHERITS (public.twins);
     INSERT INTO public.child VALUES (8, 'c');
     CREATE FUNCTION public.reply() RETURNS integer LANGUAGE sql AS 'SELECT 42';
     CREATE SEQUENCE public.counter;
     SELECT setval('public.counter', 7);
     SELECT lo_from_bytea(4711, '\\x010203');
     COMMENT ON LARGE OBJECT 4711 IS 'a comment';
     GRANT SELECT ON LARGE OBJECT 4711 TO oracle_role;
     CREATE MATERIALIZED VIEW public.summary AS SELECT count(*) AS n FROM public.item;
     CREATE EXTENSION pgkeep_fixture;`,
  );
}
