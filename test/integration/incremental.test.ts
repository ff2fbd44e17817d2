// Backups that build on an earlier one: after every kind of change, on every kind of occasion, what is restored is what
// was there; and everything that casts doubt on the earlier backup makes the next one read in full.
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { packRanges } from '../../src/operations/table-index.ts';
import type { RangeEntry } from '../../src/repository/manifest.ts';
import { findBackup, Repository } from '../../src/repository/repository.ts';
import { SegmentIds } from '../../src/repository/segment-ids.ts';
import { openStorage } from '../../src/storage/open-storage.ts';
import { compareDatabases } from '../support/compare-databases.ts';
import { psql, type Server, startServer } from '../support/postgres-server.ts';
import { backUp, restoreInto, testKey } from '../support/round-trip.ts';
import { makeTempFolder } from '../support/temp-folder.ts';

/** As many rows as fill more than the 64 pages from which on ctids are kept. */
const rows = 8_000;

/** What is done to a table between two backups, and how the second one then has it. */
interface Case {
  table: string;
  /** More than the columns all have: id, v, n. */
  columns?: string;
  before?: string;
  change: string;
  expected: 'unread' | 'delta' | 'read';
}

const cases: Case[] = [
  { table: 'untouched', change: '', expected: 'unread' },
  {
    table: 'updated',
    before: 'CREATE INDEX ON updated (n)',
    change: 'UPDATE updated SET n = -n WHERE id % 97 = 0',
    expected: 'delta',
  },
  {
    table: 'updated_in_page',
    before: 'ALTER TABLE updated_in_page SET (fillfactor = 50); VACUUM FULL updated_in_page',
    change: `UPDATE updated_in_page SET v = 'hot' WHERE id % 97 = 0; UPDATE updated_in_page SET v = 'hotter' WHERE id % 194 = 0`,
    expected: 'delta',
  },
  { table: 'deleted', change: 'DELETE FROM deleted WHERE id % 97 = 0', expected: 'delta' },
  {
    table: 'appended',
    change: `INSERT INTO appended SELECT i, 'new', i FROM generate_series(100001, 100300) AS i`,
    expected: 'delta',
  },
  {
    table: 'space_used_again',
    change: `DELETE FROM space_used_again WHERE id BETWEEN 2000 AND 2400; VACUUM space_used_again;
      INSERT INTO space_used_again SELECT i, 'in the place of another', i FROM generate_series(100001, 100401) AS i`,
    expected: 'delta',
  },
  {
    table: 'one_transaction',
    change: `BEGIN; INSERT INTO one_transaction SELECT i, 'new', i FROM generate_series(100001, 100050) AS i;
      UPDATE one_transaction SET v = 'changed' WHERE id > 100000 OR id % 500 = 0; DELETE FROM one_transaction WHERE id = 100007; COMMIT`,
    expected: 'delta',
  },
  {
    table: 'subtransactions',
    change: `BEGIN; SAVEPOINT a; INSERT INTO subtransactions VALUES (100001, 'undone', 1); ROLLBACK TO a;
      SAVEPOINT b; INSERT INTO subtransactions VALUES (100002, 'kept', 2); RELEASE b;
      SAVEPOINT c; UPDATE subtransactions SET v = 'kept' WHERE id < 20; SAVEPOINT d; DELETE FROM subtransactions WHERE id < 10; ROLLBACK TO d; COMMIT`,
    expected: 'delta',
  },
  {
    table: 'rolled_back',
    change: `BEGIN; UPDATE rolled_back SET v = 'undone'; INSERT INTO rolled_back VALUES (100001, 'undone', 1); ROLLBACK`,
    expected: 'unread',
  },
  { table: 'locked_rows', change: 'BEGIN; SELECT * FROM locked_rows FOR UPDATE; COMMIT', expected: 'unread' },
  {
    table: 'truncated',
    change: `CREATE TABLE kept AS SELECT * FROM truncated; TRUNCATE truncated; INSERT INTO truncated SELECT * FROM kept; DROP TABLE kept`,
    expected: 'read',
  },
  {
    table: 'copied_frozen',
    change: `BEGIN; CREATE TEMP TABLE kept ON COMMIT DROP AS SELECT * FROM copied_frozen; TRUNCATE copied_frozen;
      INSERT INTO copied_frozen SELECT id, v || '!', n FROM kept; COMMIT; VACUUM FREEZE copied_frozen`,
    expected: 'read',
  },
  { table: 'vacuumed', change: 'DELETE FROM vacuumed WHERE id % 50 = 0; VACUUM vacuumed', expected: 'delta' },
  {
    table: 'cut_short',
    change: 'DELETE FROM cut_short WHERE id > 7000; VACUUM (TRUNCATE) cut_short',
    expected: 'delta',
  },
  { table: 'frozen', change: 'VACUUM FREEZE frozen', expected: 'unread' },
  {
    table: 'changed_then_frozen',
    change: `UPDATE changed_then_frozen SET v = 'frozen' WHERE id % 97 = 0; VACUUM FREEZE changed_then_frozen`,
    expected: 'delta',
  },
  {
    table: 'rewritten_by_vacuum',
    change: 'DELETE FROM rewritten_by_vacuum WHERE id < 3; VACUUM FULL rewritten_by_vacuum',
    expected: 'read',
  },
  {
    table: 'clustered',
    before: 'CREATE INDEX clustered_v ON clustered (v)',
    change: 'CLUSTER clustered USING clustered_v',
    expected: 'read',
  },
  { table: 'rewritten', change: 'ALTER TABLE rewritten ALTER n TYPE bigint', expected: 'read' },
  {
    table: 'wider',
    columns: 'c varchar(10) DEFAULT 1',
    change: 'ALTER TABLE wider ALTER c TYPE varchar(20)',
    expected: 'read',
  },
  { table: 'with_default', change: `ALTER TABLE with_default ADD d text DEFAULT 'seven'`, expected: 'read' },
  { table: 'without_column', change: 'ALTER TABLE without_column DROP n', expected: 'read' },
  { table: 'renamed_column', change: 'ALTER TABLE renamed_column RENAME n TO m', expected: 'read' },
  {
    table: 'column_replaced',
    change: 'ALTER TABLE column_replaced DROP n; ALTER TABLE column_replaced ADD n int DEFAULT 5',
    expected: 'read',
  },
  {
    table: 'with_enum',
    columns: `mood mood DEFAULT 'sad'`,
    change: `ALTER TYPE mood RENAME VALUE 'sad' TO 'gloomy'`,
    expected: 'read',
  },
  {
    table: 'with_domain',
    columns: `tones tone_list DEFAULT '{low}'`,
    change: `ALTER TYPE tone RENAME VALUE 'low' TO 'deep'`,
    expected: 'read',
  },
  {
    table: 'with_composite',
    columns: `place place DEFAULT '(here,5)'`,
    change: 'ALTER TYPE place DROP ATTRIBUTE floor',
    expected: 'read',
  },
  {
    table: 'with_row_type',
    columns: `of named DEFAULT '(a,b)'`,
    change: 'ALTER TABLE named DROP b',
    expected: 'read',
  },
  {
    table: 'with_range',
    columns: `moods mood_range DEFAULT '[grim,merry]'`,
    change: `ALTER TYPE range_mood RENAME VALUE 'grim' TO 'grave'`,
    expected: 'read',
  },
  // Labels of these two are renamed with the tables above.
  {
    table: 'with_ranges',
    columns: `moods mood_multirange DEFAULT '{[grim,merry]}'`,
    change: '',
    expected: 'read',
  },
  { table: 'with_member', columns: `held holder DEFAULT '(sad)'`, change: '', expected: 'read' },
  {
    table: 'named_back',
    columns: `temper temper DEFAULT 'calm'`,
    change: `ALTER TYPE temper RENAME VALUE 'calm' TO 'wild'; ALTER TYPE temper RENAME VALUE 'wild' TO 'calm'`,
    expected: 'read',
  },
  {
    table: 'with_names',
    columns: `of regclass DEFAULT 'to_be_renamed'::regclass`,
    change: 'ALTER TABLE to_be_renamed RENAME TO was_renamed',
    expected: 'read',
  },
  {
    table: 'with_rights',
    columns: `rights aclitem DEFAULT 'one=r/postgres'`,
    change: 'ALTER ROLE one RENAME TO other',
    expected: 'read',
  },
  {
    table: 'with_extension',
    columns: `tags hstore DEFAULT 'a=>b'`,
    change: 'ALTER EXTENSION hstore UPDATE',
    expected: 'read',
  },
  {
    table: 'not_generated',
    columns: `twice int GENERATED ALWAYS AS (n * 2) STORED`,
    change: 'ALTER TABLE not_generated ALTER twice DROP EXPRESSION',
    expected: 'read',
  },
  { table: 'renamed', change: 'ALTER TABLE renamed RENAME TO renamed_since', expected: 'unread' },
  {
    table: 'swapped',
    change: `ALTER TABLE swapped RENAME TO tmp; ALTER TABLE swapped_too RENAME TO swapped; ALTER TABLE tmp RENAME TO swapped_too;
      UPDATE swapped_too SET v = 'called swapped before' WHERE id < 5`,
    expected: 'delta',
  },
  { table: 'swapped_too', change: '', expected: 'unread' },
  {
    table: 'attached',
    change: 'ALTER TABLE whole ATTACH PARTITION attached FOR VALUES FROM (0) TO (200000)',
    expected: 'unread',
  },
  { table: 'detached', change: 'ALTER TABLE other_whole DETACH PARTITION detached', expected: 'unread' },
  {
    table: 'made_again',
    change: `CREATE TABLE again (LIKE made_again INCLUDING ALL); INSERT INTO again SELECT * FROM made_again; DROP TABLE made_again; ALTER TABLE again RENAME TO made_again`,
    expected: 'read',
  },
  {
    table: 'unlogged',
    before: 'ALTER TABLE unlogged SET UNLOGGED',
    change: 'DELETE FROM unlogged WHERE id % 97 = 0',
    expected: 'delta',
  },
  { table: 'emptied', change: 'DELETE FROM emptied WHERE id < 8000; VACUUM emptied', expected: 'read' },
  {
    table: 'mostly_changed',
    change: `UPDATE mostly_changed SET v = 'new' WHERE id % 2 = 0`,
    expected: 'read',
  },
  {
    table: 'odd_values',
    columns: `w text DEFAULT E'tab\\there\\nand a line \\\\. (1,2)'`,
    change: `UPDATE odd_values SET w = w || E'\\n(3,4)\\t\\\\N' WHERE id % 97 = 0; UPDATE odd_values SET w = NULL WHERE id % 101 = 0`,
    expected: 'delta',
  },
  {
    table: 'long_values',
    columns: 'w text',
    change: `UPDATE long_values SET w = repeat(md5(id::text), 300000) WHERE id = 4000; UPDATE long_values SET w = repeat(md5(id::text), 300) WHERE id % 500 = 0`,
    expected: 'delta',
  },
];

const types = `
  CREATE TYPE mood AS ENUM ('sad', 'glad'); CREATE TYPE tone AS ENUM ('low', 'high'); CREATE DOMAIN tone_list AS tone[];
  CREATE TYPE place AS (street text, floor int); CREATE TABLE named (a text, b text);
  CREATE TYPE range_mood AS ENUM ('grim', 'merry'); CREATE TYPE mood_range AS RANGE (subtype = range_mood);
  CREATE TYPE holder AS (mood mood); CREATE TYPE temper AS ENUM ('calm', 'cross');
  CREATE TABLE to_be_renamed (id int); CREATE ROLE one; CREATE EXTENSION hstore VERSION '1.7';
  CREATE TABLE whole (id int NOT NULL, v text, n int) PARTITION BY RANGE (id);
  CREATE TABLE other_whole (id int NOT NULL, v text, n int) PARTITION BY RANGE (id);`;

function tableSql({ table, columns, before = '' }: Case): string {
  const more = columns === undefined ? '' : `, ${columns}`;
  return `CREATE TABLE ${table} (id int NOT NULL, v text, n int${more});
    INSERT INTO ${table} (id, v, n) SELECT i, md5(i::text) || repeat('.', 40), i % 100 FROM generate_series(1, ${rows}) AS i; ${before};\n`;
}

let server: Server;
let restored = 0;

beforeAll(async () => {
  // What autovacuum does meanwhile is no part of the cases.
  server = await startServer({ settings: { max_prepared_transactions: '5', autovacuum: 'off' } });
});
afterAll(() => server[Symbol.asyncDispose]());

async function expectRestored(database: string, repository: string, backup = 'latest'): Promise<void> {
  const name = `restored_${++restored}`;
  await restoreInto(server, name, repository, { create: true, backup });
  const { differences } = await compareDatabases(server.url(database), server.url(name), {
    binDir: server.binDir,
  });
  expect(differences).toEqual([]);
  await server.dropDatabase(name);
}

/** How a backup has a table, by the name it has in it. */
async function rangesOf(repository: string, backup: string): Promise<Map<string, RangeEntry[]>> {
  const storage = await openStorage(repository);
  const opened = await Repository.open(storage, testKey);
  const manifest = await opened.readManifest(await findBackup(storage, backup, undefined, () => undefined));
  const ranges = new Map<string, RangeEntry[]>();
  for (const table of manifest.tables)
    ranges.set(table.name, [...(await packRanges(opened, manifest, table, new SegmentIds()))]);
  await storage.close();
  return ranges;
}

describe('between two backups', () => {
  let first: Map<string, RangeEntry[]>;
  let second: Map<string, RangeEntry[]>;
  /** Tables are called by other names by then. */
  const laterNames = new Map([
    ['renamed', 'renamed_since'],
    ['swapped', 'swapped_too'],
    ['swapped_too', 'swapped'],
  ]);

  beforeAll(async () => {
    await server.createDatabase('cases');
    await psql(server, 'cases', types);
    await psql(server, 'cases', cases.map(tableSql).join(''));
    await psql(
      server,
      'cases',
      'ALTER TABLE other_whole ATTACH PARTITION detached FOR VALUES FROM (0) TO (200000)',
    );
    await using folder = makeTempFolder('repository');
    const before = await backUp(server, 'cases', folder.path);
    first = await rangesOf(folder.path, before.id);
    for (const { table, change } of cases) {
      // Renamed tables are changed under their new names, so the order of the cases matters.
      await psql(server, 'cases', change).catch(error => {
        throw new Error(`${table}: ${error.message}`);
      });
    }
    const after = await backUp(server, 'cases', folder.path);
    expect(after.incremental).toMatchObject({ parent: before.id });
    expect(after.mismatches).toEqual([]);
    second = await rangesOf(folder.path, after.id);
    await expectRestored('cases', folder.path);
    const checked = await backUp(server, 'cases', folder.path, { verifyIncremental: true });
    expect(checked.mismatches).toEqual([]);
  });

  test.each(cases)('$table: $expected', ({ table, expected }) => {
    const then = first.get(table);
    const now = second.get(laterNames.get(table) ?? table);
    expect(then).toHaveLength(1);
    expect(now).toHaveLength(1);
    const isDelta = now?.[0]?.base !== undefined;
    const isSame = JSON.stringify(ids(then)) === JSON.stringify(ids(now));
    expect(isDelta ? 'delta' : isSame ? 'unread' : 'read').toBe(expected);
  });
});

/** What a range consists of; keys are numbered in another way in each backup. */
function ids(ranges: RangeEntry[] = []) {
  return ranges.map(({ slices, ctids = [] }) => [...slices, ...ctids].map(({ id, offset }) => [id, offset]));
}
