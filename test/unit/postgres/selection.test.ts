// Which relations patterns take: decided here in one query, and by pg_dump in its own way. Both must agree, or a backup
// has definitions without rows or rows without definitions. The judge is pg_dump.

import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import {
  patternsWithoutMatch,
  readDetails,
  readRelations,
  readSizes,
  type Selection,
} from '../../../src/postgres/catalog.ts';
import { openClient } from '../../../src/postgres/client.ts';
import { quoteName, quoteQualified } from '../../../src/postgres/identifiers.ts';
import { patternsForTables } from '../../../src/postgres/pattern.ts';
import { readTarget } from '../../../src/postgres/target.ts';
import { psql, type Server, startServer } from '../../support/postgres-server.ts';

const run = promisify(execFile);
const database = 'Odd "names"';

/** Names that mean something to shells, regular expressions, patterns, or case folding. */
const oddNames = [
  'plain',
  'Plain',
  'PLAIN',
  'plain2',
  'a.b',
  'a.b.c',
  'a b',
  'a"b',
  '"',
  "a'b",
  'a\\b',
  'a$b',
  'a$',
  'a*',
  'a?',
  'a|b',
  'a(b)',
  '(a)',
  'a[1]',
  'a[]',
  '[]',
  'a{2}',
  'aa',
  'a+',
  'a^',
  '^a',
  '.',
  'ärger',
  'Ärger',
  'ÄRGER',
  'straße',
  'ИМЯ',
  'имя',
  '漢字',
  '😀',
  'İ',
  '***=a',
  '(?i)plain',
  'a\nb',
  'tab\tbed',
  'x'.repeat(63),
  'select',
  '--a',
  '-t',
  'E',
  '%',
  '_',
];

/** Patterns of tables, without and with a schema. */
const tablePatterns = [
  'plain',
  'Plain',
  '"Plain"',
  'PLAIN',
  '"PL"ain',
  'plain*',
  'plain?',
  'p*n',
  '*',
  '?',
  'a?b',
  '"a.b"',
  'a.b',
  '"a.b.c"',
  'a"."b',
  'public.plain',
  'PUBLIC.Plain',
  '"Public".*',
  'public.*',
  '*.plain',
  '*.*',
  'p*.p*',
  'other.*',
  'other.plain',
  '"odd.schema".*',
  '"odd.schema"."a.b"',
  'odd?schema.*',
  'a$b',
  'a$',
  '"a$b"',
  '$',
  'a[]',
  '"a[]"',
  '[]',
  'a[1]',
  '"a[1]"',
  '[ap]*',
  '[^p]*',
  'plain[0-9]',
  '(plain|aa)',
  'plain|aa',
  'a{2}',
  '"a{2}"',
  'a+',
  '"a+"',
  'aa|"Plain"',
  '"a|b"',
  '"a(b)"',
  '"a\\b"',
  'a\\\\b',
  '\\w+',
  '\\d*',
  '"a""b"',
  '""""',
  'a""b',
  '"unfinished',
  "a'b",
  'ärger',
  'Ärger',
  'ÄRGER',
  '"Ärger"',
  'ä*',
  'STRASSE',
  'straße',
  'имя',
  'ИМЯ',
  '漢?',
  '?',
  'İ',
  'i̇',
  '"***=a"',
  '***=a',
  '(?i)plain',
  '"(?i)plain"',
  'a\nb',
  'a?b',
  'tab\tbed',
  '"."',
  '"^a"',
  '^a',
  'select',
  '--a',
  '-t',
  '%',
  '_',
  'pg_catalog.pg_class',
  'no_such_thing*',
  'hidden',
  'public.(plain|aa)',
  '(public|other).plain',
  'v',
  'm',
  'f',
  'part*',
  's*',
  'temp*',
];

const schemaPatterns = [
  'public',
  'PUBLIC',
  '"Public"',
  'other',
  'o*',
  '*',
  '?ther',
  '"odd.schema"',
  'odd?schema',
  '(public|other)',
  'pg_*',
  '[op]*',
];

// Pairs of what interacts; each pattern alone is compared as well.
const selections: Partial<Selection>[] = [
  { excludeTables: ['plain*'] },
  { excludeTables: ['*.plain', 'v'] },
  { excludeTables: ['no_such'] },
  { excludeSchemas: ['public'] },
  { excludeSchemas: ['o*', '"odd.schema"'] },
  { excludeSchemas: ['no_such'] },
  { schemas: ['public'], excludeTables: ['plain'] },
  { schemas: ['public', 'other'], excludeSchemas: ['other'] },
  { schemas: ['public'], tables: ['other.plain'] },
  { excludeSchemas: ['other'], tables: ['other.plain'] },
  { tables: ['plain', 'other.plain'], excludeTables: ['*.plain'] },
  { tables: ['plain*', 'aa'], excludeTables: ['plain2'] },
  { tables: ['serials'] },
  { tables: ['serials'], excludeTables: ['serials_id_seq'] },
  { tables: ['serials'], excludeTables: ['s_owned'] },
  { excludeTables: ['serials'] },
  { excludeTables: ['serials_id_seq'] },
  { tables: ['serials_id_seq'] },
  { tables: ['s_owned'] },
  { schemas: ['other'] },
  { schemas: ['public'] },
  { excludeSchemas: ['public'] },
  { tables: ['identities'] },
  { tables: ['identities'], excludeTables: ['identities_id_seq'] },
  { excludeTables: ['identities'] },
  { excludeTables: ['identities_id_seq'] },
  { tables: ['identities_id_seq'] },
  { tables: ['part'] },
  { tables: ['part_id_seq'] },
  { tables: ['part_1'] },
  { excludeTables: ['part'] },
  { excludeTables: ['part_1'] },
  { tables: ['child'] },
  { excludeTables: ['parent'] },
  { tables: ['defaults'] },
  { excludeTables: ['s_free'] },
  { excludeTableData: ['plain'] },
  { excludeTableData: ['*'] },
  { excludeTableData: ['*.*'] },
  { excludeTableData: ['part'] },
  { excludeTableData: ['part_1', 'other.part_2'] },
  { excludeTableData: ['serials'] },
  { excludeTableData: ['serials_id_seq'] },
  { excludeTableData: ['identities_id_seq', 's_free', 'other.s*'] },
  { excludeTableData: ['m'] },
  { excludeTableData: ['scratch', 'f', 'v'] },
  { excludeTableData: ['no_such'] },
  { tables: ['serials'], excludeTableData: ['serials*'] },
  { schemas: ['other'], excludeTableData: ['other.*'] },
  { tables: ['"DATA".*', '"SET".*'] },
  { excludeTableData: ['"SET".s', '"DATA".t'] },
];

const nothing: Selection = {
  schemas: [],
  excludeSchemas: [],
  tables: [],
  excludeTables: [],
  excludeTableData: [],
};

/** How a selection is said to pg_dump. */
function dumpOptions(selection: Selection): string[] {
  return [
    ...selection.schemas.map(pattern => `--schema=${pattern}`),
    ...selection.excludeSchemas.map(pattern => `--exclude-schema=${pattern}`),
    ...selection.tables.map(pattern => `--table=${pattern}`),
    ...selection.excludeTables.map(pattern => `--exclude-table=${pattern}`),
    ...selection.excludeTableData.map(pattern => `--exclude-table-data=${pattern}`),
  ];
}

const quote = (name: string) => `"${name.replaceAll('"', '""')}"`;

function fixture(): string {
  const tables = oddNames.map(name => `CREATE TABLE public.${quote(name)} (n int);`);
  return `
    CREATE SCHEMA other; CREATE SCHEMA "Public"; CREATE SCHEMA "odd.schema"; CREATE SCHEMA "DATA"; CREATE SCHEMA "SET";
    ${tables.join('\n')}
    CREATE TABLE other.plain (n int); CREATE TABLE other.hidden (n int); CREATE TABLE "Public".plain (n int);
    CREATE TABLE "odd.schema"."a.b" (n int); CREATE TABLE "odd.schema".plain (n int);
    CREATE TABLE "DATA".t (n int); CREATE SEQUENCE "SET".s;
    CREATE TABLE serials (id serial, big bigserial); CREATE TABLE identities (id int GENERATED ALWAYS AS IDENTITY);
    CREATE SEQUENCE s_free; CREATE SEQUENCE s_owned OWNED BY serials.id;
    CREATE TABLE other.serials (id serial);
    CREATE TABLE defaults (n int DEFAULT nextval('s_free'));
    CREATE VIEW v AS SELECT 1 AS n; CREATE MATERIALIZED VIEW m AS SELECT 1 AS n;
    CREATE FOREIGN DATA WRAPPER w; CREATE SERVER w FOREIGN DATA WRAPPER w; CREATE FOREIGN TABLE f (n int) SERVER w;
    CREATE TABLE part (n int, id int GENERATED BY DEFAULT AS IDENTITY) PARTITION BY RANGE (n);
    CREATE TABLE part_1 PARTITION OF part FOR VALUES FROM (0) TO (10);
    CREATE TABLE other.part_2 PARTITION OF part FOR VALUES FROM (10) TO (20);
    CREATE TABLE parent (n int); CREATE TABLE child (m serial) INHERITS (parent);
    CREATE UNLOGGED TABLE scratch (n int); CREATE TYPE composite AS (n int); CREATE INDEX ON plain (n);`;
}

// How pg_dump reads patterns has hardly changed since 15; of the newest a sample tells.
describe.each([
  [15, 1],
  [18, 6],
])('PostgreSQL %i', (version, step) => {
  const sampled = <T>(list: readonly T[]) => list.filter((_, i) => i % step === 0);
  let server: Server;
  let client: Awaited<ReturnType<typeof openClient>>;
  beforeAll(async () => {
    server = await startServer({ version });
    await server.createDatabase(database);
    await psql(server, database, fixture());
    client = await openClient(readTarget(server.url(database), {}));
  });
  afterAll(async () => {
    await client?.end();
    await server?.[Symbol.asyncDispose]();
  });

  /** Oids of the relations whose definitions, and whose rows or values, pg_dump takes; a reason when it refuses. */
  async function byPgDump(selection: Selection): Promise<{ defined: string[]; data: string[] } | string> {
    const program = (name: string) => join(server.binDir, name);
    const env = { LC_ALL: 'C.UTF-8' };
    const options = { env, encoding: 'latin1', maxBuffer: 1 << 26 } as const;
    try {
      const dump = [...dumpOptions(selection), '-Fc', '-Z0', `--dbname=${server.url(database)}`];
      const { stdout: archive } = await run(program('pg_dump'), dump, options);
      const listing = run(program('pg_restore'), ['--list', '--verbose'], options);
      listing.child.stdin?.on('error', () => undefined);
      listing.child.stdin?.end(Buffer.from(archive, 'latin1'));
      return parseOids((await listing).stdout);
    } catch (error) {
      return error instanceof Error && 'stderr' in error ? String(error.stderr) : String(error);
    }
  }

  async function ours(selection: Selection) {
    const relations = await readRelations(client, selection);
    const selected = relations.filter(relation => relation.isSelected);
    const withData = selected.filter(
      relation => relation.isDataSelected && ['r', 'S', 'm'].includes(relation.kind),
    );
    return {
      defined: selected.map(({ oid }) => oid).sort(),
      data: withData.map(({ oid }) => oid).sort(),
      names: new Map(relations.map(({ oid, schema, name }) => [oid, `${schema}.${name}`])),
    };
  }

  async function expectAgreement(selection: Selection): Promise<number> {
    const dumped = await byPgDump(selection);
    if (typeof dumped === 'string') {
      // Refused by pg_dump: then it must not pass here in silence either.
      const refused = await ours(selection).then(
        async ({ defined }) => {
          const unmatched = await patternsWithoutMatch(client, selection);
          return unmatched.length > 0 || defined.length === 0 ? undefined : defined.length;
        },
        () => undefined,
      );
      expect(refused, dumped).toBeUndefined();
      return 0;
    }
    const { defined, data, names } = await ours(selection);
    // Relations of the system's schemas, which pg_dump dumps when a pattern names them, are none of ours.
    const known = (oid: string) => names.has(oid);
    const called = (oids: readonly string[]) => oids.map(oid => names.get(oid) ?? oid).sort();
    expect(called(defined)).toEqual(called(dumped.defined.filter(known)));
    expect(called(data)).toEqual(called(dumped.data.filter(known)));
    return defined.length;
  }

  test('without patterns everything is taken', async () => {
    expect(await expectAgreement(nothing)).toBeGreaterThan(oddNames.length + 20);
  });

  test('one --table takes what pg_dump takes', async () => {
    let taken = 0;
    for (const pattern of sampled(tablePatterns))
      taken += await expectAgreement({ ...nothing, tables: [pattern] }).catch(error => {
        throw new Error(`with --table=${JSON.stringify(pattern)}`, { cause: error });
      });
    expect(taken).toBeGreaterThan(100 / step);
  });

  test('one --schema takes what pg_dump takes', async () => {
    for (const pattern of sampled(schemaPatterns))
      await expectAgreement({ ...nothing, schemas: [pattern] }).catch(error => {
        throw new Error(`with --schema=${JSON.stringify(pattern)}`, { cause: error });
      });
  });

  test.each(sampled(selections))('%j takes what pg_dump takes', async partial => {
    await expectAgreement({ ...nothing, ...partial });
  });

  test('patterns made for tables name exactly those tables', async () => {
    const all = await readRelations(client, nothing);
    const relations = all.filter(({ kind }) => kind === 'r');
    expect(relations.length).toBeGreaterThan(oddNames.length);
    const excluded = patternsForTables(
      relations,
      all.filter(({ kind }) => kind !== 'r'),
    );
    const everything = await byPgDump({ ...nothing, excludeTableData: excluded });
    if (typeof everything === 'string') throw new Error(everything);
    const tables = new Set(relations.map(({ oid }) => oid));
    expect(everything.data.filter(oid => tables.has(oid))).toEqual([]);
    // And each alone takes nothing from any other.
    for (const relation of relations) {
      const [pattern = ''] = patternsForTables([relation], []);
      const taken = await readRelations(client, { ...nothing, excludeTableData: [pattern] });
      expect(taken.filter(({ isDataSelected }) => !isDataSelected).map(({ oid }) => oid)).toEqual([
        relation.oid,
      ]);
    }
  });

  test('patterns made for many tables name none of the others, whatever these are called', async () => {
    const schema = 'many "of.them"';
    const name = (number: number) =>
      `${['a', 'é', '$', '|', '*', 'Q', 'seq', '_id_seq', 'x\ny', '"'][number % 10]}_${number}${['', 'q', 'é', '"', '.', 'eq', 'Q', 'xseq', '', '|'][(number >> 2) % 10]}`;
    const names = [...Array(400).keys()].map(name);
    await client.query(
      `BEGIN; CREATE SCHEMA ${quoteName(schema)}; ${names.map((table, n) => `CREATE TABLE ${quoteQualified(schema, table)} (${n % 3 === 0 ? 'id serial' : 'i int'});`).join('')}`,
    );
    try {
      const all = (await readRelations(client, nothing)).filter(relation => relation.schema === schema);
      const isExcluded = (relation: (typeof all)[number]) =>
        relation.kind === 'r' && !relation.name.includes('7');
      const excluded = all.filter(isExcluded);
      const excludeTableData = patternsForTables(
        excluded,
        all.filter(relation => !isExcluded(relation)),
      );
      expect(excludeTableData.length).toBeLessThan(8);
      expect(excludeTableData.some(pattern => pattern.includes('.*'))).toBe(true);
      const taken = await readRelations(client, { ...nothing, excludeTableData });
      expect(taken.filter(({ isDataSelected }) => !isDataSelected).map(({ oid }) => oid)).toEqual(
        excluded.map(({ oid }) => oid),
      );
    } finally {
      await client.query('ROLLBACK');
    }
  });

  test('columns and sizes are those of the table, with its TOAST', async () => {
    await client.query(
      `BEGIN; CREATE TABLE sized (id int PRIMARY KEY, t text); ALTER TABLE sized ALTER t SET STORAGE EXTERNAL;
       INSERT INTO sized VALUES (1, repeat('x', 2000000)); CREATE TABLE bare (i int)`,
    );
    try {
      const all = await readRelations(client, nothing);
      const [bare, sized] = ['bare', 'sized'].map(name => all.find(relation => relation.name === name));
      if (bare === undefined || sized === undefined) throw new Error('the tables are not listed');
      await readDetails(client, [sized, bare]);
      await readSizes(client, [sized, bare]);
      expect([sized.columns, bare.columns]).toEqual([['id', 't'], ['i']]);
      expect(bare).toMatchObject({ pages: 0, sizeBytes: 0 });
      expect(sized.pages).toBe(1);
      expect(sized.sizeBytes).toBeGreaterThan(2_000_000);
      expect(sized.sizeBytes).toBeLessThan(2_200_000);
    } finally {
      await client.query('ROLLBACK');
    }
  });

  test('names patterns that match nothing', async () => {
    const selection = {
      ...nothing,
      schemas: ['public', 'no_such', '"PUBLIC"'],
      tables: ['plain', 'missing', 'other.missing', 'hidden', '"a.b"'],
    };
    expect(await patternsWithoutMatch(client, selection)).toEqual([
      'no_such',
      '"PUBLIC"',
      'missing',
      'other.missing',
      'hidden',
    ]);
  });

  test.each(['(', '[', '*a*('])('a pattern %j that is no regular expression is refused', async pattern => {
    const failure = { code: expect.stringMatching(/OPTION_INVALID|DATABASE_QUERY/) };
    await expect(patternsWithoutMatch(client, { ...nothing, tables: [pattern] })).rejects.toMatchObject(
      failure,
    );
  });

  test.each([
    [{ tables: ['a.b.c.d'] }, 'a.b.c.d'],
    [{ schemas: ['a.b'] }, 'a.b'],
    [{ excludeSchemas: ['other.plain'] }, 'other.plain'],
  ])('%j has too many dots and is refused', async (partial, pattern) => {
    await expect(readRelations(client, { ...nothing, ...partial })).rejects.toMatchObject({
      code: 'OPTION_INVALID',
      message: expect.stringContaining(pattern),
    });
  });
});

/** Reads `pg_restore --list --verbose`. The value of a sequence is an entry without oid that depends on the sequence. */
function parseOids(listing: string): { defined: string[]; data: string[] } {
  const defined = new Map<string, string>();
  const data = new Set<string>();
  const entry = /^(\d+); (\d+) (\d+) (.*)\n(?:;\tdepends on: ([\d ]+)\n)?/gm;
  for (const [, id = '', catalog, oid = '', text = '', needs = ''] of listing.matchAll(entry)) {
    if (catalog === '1259' && /^(TABLE|VIEW|MATERIALIZED VIEW|FOREIGN TABLE|SEQUENCE) /.test(text))
      defined.set(id, oid);
    if (catalog === '0' && /^(TABLE DATA|MATERIALIZED VIEW DATA) /.test(text)) data.add(oid);
    if (catalog === '0' && text.startsWith('SEQUENCE SET '))
      for (const need of needs.split(' ')) data.add(defined.get(need) ?? `entry ${need}`);
  }
  return { defined: [...defined.values()].sort(), data: [...data].sort() };
}
