// verify --level restore: a backup is restored into a database made for it, every row is compared, and nothing is left.

import { cpSync, readdirSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { packRanges } from '../../src/operations/table-index.ts';
import { compareTables } from '../../src/operations/verify/compare-tables.ts';
import { closeClient, openClient } from '../../src/postgres/client.ts';
import { readTarget } from '../../src/postgres/target.ts';
import { invalidIndexes, unvalidatedConstraints } from '../../src/postgres/unfinished.ts';
import { findBackup, Repository } from '../../src/repository/repository.ts';
import { SegmentIds } from '../../src/repository/segment-ids.ts';
import { LocalStorage } from '../../src/storage/local/local-storage.ts';
import { startPgkeep } from '../support/pgkeep-process.ts';
import { psql, type Server, startServer } from '../support/postgres-server.ts';
import { filesIn, flipBit } from '../support/repository-files.ts';
import { backUp, restoreInto, testKey } from '../support/round-trip.ts';
import { serverAccount } from '../support/server-account.ts';
import { makeTempFolder } from '../support/temp-folder.ts';
import { makeVerifyDatabase, verify, verifyRows } from '../support/verify-database.ts';

let server: Server;
const repository = makeTempFolder('repository');
/** Where this process puts temporary files, so that what is left over shows. */
const temporary = makeTempFolder('tmp', serverAccount());
const usualTemporary = process.env.TMPDIR;

/** Things that are easily lost on the way: rows that move between partitions, and what is unfinished on purpose. */
const oddities = `
  CREATE ROLE "verify owner"; CREATE ROLE verify_reader;
  CREATE TYPE mood AS ENUM ('sad', 'fine', 'glad');
  CREATE TABLE moods (id integer, feeling mood, note text) PARTITION BY HASH (feeling);
  CREATE TABLE moods_0 PARTITION OF moods FOR VALUES WITH (MODULUS 3, REMAINDER 0);
  CREATE TABLE moods_1 (note text, gone integer, feeling mood, id integer);
  ALTER TABLE moods_1 DROP COLUMN gone;
  ALTER TABLE moods ATTACH PARTITION moods_1 FOR VALUES WITH (MODULUS 3, REMAINDER 1);
  CREATE TABLE moods_2 PARTITION OF moods FOR VALUES WITH (MODULUS 3, REMAINDER 2);
  INSERT INTO moods SELECT i, (ARRAY['sad', 'fine', 'glad', NULL])[i % 4 + 1]::mood, 'note' || E'\\t' || i FROM generate_series(1, 400) AS i;
  CREATE INDEX moods_only ON ONLY moods (id);
  CREATE TABLE odd (id integer, "a b" text, g integer GENERATED ALWAYS AS (id * 2) STORED);
  INSERT INTO odd SELECT i % 3, E'tab\\tline\\nback\\\\slash' FROM generate_series(1, 30) AS i;
  ALTER TABLE odd ADD CONSTRAINT "left open" CHECK (id < 2) NOT VALID;
  CREATE DOMAIN small_number AS integer;
  ALTER DOMAIN small_number ADD CONSTRAINT open_too CHECK (VALUE < 10) NOT VALID;
  ALTER TABLE odd OWNER TO "verify owner";
  GRANT SELECT ON odd TO verify_reader;
  ALTER TABLE odd ENABLE ROW LEVEL SECURITY;
  CREATE POLICY readers ON odd TO verify_reader USING (id = 1);`;
const oddRows = 400 + 30;

beforeAll(async () => {
  server = await startServer();
  await makeVerifyDatabase(server, 'shop');
  await psql(server, 'shop', oddities);
  await psql(
    server,
    'postgres',
    'ALTER DATABASE shop CONNECTION LIMIT 5; ALTER DATABASE shop OWNER TO "verify owner"',
  );
  await backUp(server, 'shop', repository.path);
});
afterAll(async () => {
  await server[Symbol.asyncDispose]();
});
beforeEach(() => {
  process.env.TMPDIR = temporary.path;
});
afterEach(() => {
  if (usualTemporary === undefined) delete process.env.TMPDIR;
  else process.env.TMPDIR = usualTemporary;
});

/** Without what the tests themselves have there. */
const leftOver = () =>
  readdirSync(temporary.path).filter(name => !/^pgkeep-(repository|programs|cwd|pg\d+)-/.test(name));
const databases = () => psql(server, 'postgres', 'SELECT datname FROM pg_database ORDER BY 1');

it('restores into a server started for it, compares every row, and leaves neither server nor files', async () => {
  const before = await databases();
  const { backups, warnings } = await verify(server, repository.path, { level: 'restore' });
  expect(backups).toMatchObject([
    { level: 'restore', valid: true, errors: [], rowsCompared: verifyRows + oddRows, sample: null },
  ]);
  expect(warnings).toEqual([]);
  expect(leftOver()).toEqual([]);
  expect(await databases()).toBe(before);
});

it('restores on a server that is given, and leaves there what was there', async () => {
  await using other = await startServer({ version: 17 });
  await psql(other, 'postgres', 'CREATE ROLE verify_reader; CREATE ROLE tester SUPERUSER LOGIN');
  const list = () =>
    psql(
      other,
      'postgres',
      'SELECT datname FROM pg_database UNION ALL SELECT rolname FROM pg_roles ORDER BY 1',
    );
  const before = await list();
  const { backups } = await verify(server, repository.path, {
    level: 'restore',
    scratch: other.url('postgres', 'tester'),
  });
  expect(backups).toMatchObject([{ valid: true, errors: [], rowsCompared: verifyRows + oddRows }]);
  expect(await list()).toBe(before);
});

it('does not restore what is damaged, and says so', async () => {
  await using copy = makeTempFolder('repository');
  cpSync(repository.path, copy.path, { recursive: true });
  flipBit(filesIn(copy.path, 'segments')[0] ?? '');
  const { backups, warnings } = await verify(server, copy.path, { level: 'restore' });
  expect(backups).toMatchObject([
    { level: 'restore', valid: false, rowsCompared: 0, errors: [{ code: 'OBJECT_DAMAGED' }] },
  ]);
  expect(warnings).toEqual([expect.stringContaining('was not restored')]);
  expect(leftOver()).toEqual([]);
});

it('says what to install where there are no server programs, before anything is verified', async () => {
  await using programs = makeTempFolder('programs');
  symlinkSync(join(server.binDir, 'pg_restore'), join(programs.path, 'pg_restore'));
  await expect(
    verify(server, repository.path, { level: 'restore', programs: programs.path }),
  ).rejects.toMatchObject({
    code: 'PROGRAM_MISSING',
    hint: expect.stringMatching(/apt-get install postgresql-\d+; or name one with --scratch/),
  });
  expect(leftOver()).toEqual([]);
});

it('a server that cannot take the backup is no verdict on it: it is said, and not remembered', async () => {
  await using copy = makeTempFolder('repository');
  await server.createDatabase('named');
  await psql(
    server,
    'named',
    'CREATE TABLE t (n integer); ALTER TABLE t ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON t TO verify_reader USING (true)',
  );
  await backUp(server, 'named', copy.path);
  await using other = await startServer();
  const scratch = other.url('postgres');
  const { valid, backups, warnings } = await verify(server, copy.path, { level: 'restore', scratch });
  expect({ valid, backups }).toMatchObject({
    valid: false,
    backups: [{ errors: [{ code: 'TARGET_UNFIT' }] }],
  });
  expect(warnings).toEqual([expect.stringContaining('could not be tried')]);
  expect(filesIn(copy.path, '.').filter(name => name.includes('verified'))).toEqual([]);
});

describe('ended half-way', () => {
  it.each(['scratch', 'pre-data', 'compare'] as const)('at the step %s it leaves nothing', async step => {
    const before = await databases();
    for (const scratch of [undefined, server.url('postgres')]) {
      const stop = new AbortController();
      const run = verify(server, repository.path, {
        level: 'restore',
        scratch,
        signal: stop.signal,
        onEvent: event => {
          if (event.type === 'phase' && event.phase === step) stop.abort();
        },
      });
      await expect(run).rejects.toMatchObject({ code: 'INTERRUPTED' });
      expect(leftOver()).toEqual([]);
      expect(await databases()).toBe(before);
    }
  });

  it('by kill -9, its server and files go too', async () => {
    const words = [
      'verify',
      '--level',
      'restore',
      '--repository',
      repository.path,
      '--programs',
      server.binDir,
    ];
    const run = startPgkeep(words, { env: { BACKUP_ENCRYPTION_KEY: testKey, TMPDIR: temporary.path } });
    while (!run.err().includes('comparing') && !run.err().includes('restoring the definitions'))
      await sleep(20);
    expect(leftOver().filter(name => name.startsWith('pgkeep-server-'))).toHaveLength(1);
    run.kill('SIGKILL');
    await run.ended;
    const deadline = Date.now() + 60_000;
    while (leftOver().some(name => name.startsWith('pgkeep-server-'))) {
      expect(Date.now()).toBeLessThan(deadline);
      await sleep(50);
    }
  });
});

describe('finds in a restored database', () => {
  async function compare(database: string) {
    const opened = await Repository.open(new LocalStorage(repository.path), testKey);
    const manifest = await opened.readManifest(await findBackup(opened.storage, 'latest'));
    const ranges = [];
    const ids = new SegmentIds();
    for (const table of manifest.tables) ranges.push(await packRanges(opened, manifest, table, ids));
    return await compareTables({
      target: readTarget(server.url(database), {}),
      repository: opened,
      manifest,
      ranges,
      jobs: 2,
      signal: undefined,
      onProgress: () => undefined,
    });
  }

  beforeAll(async () => {
    await restoreInto(server, 'restored', repository.path, { create: true });
  });

  it('nothing, when nothing was changed', async () => {
    expect(await compare('restored')).toEqual({ rows: verifyRows + oddRows, differences: [] });
  });

  it.each([
    ['a value that was changed', 'spread', "UPDATE spread SET payload = payload || ' ' WHERE id = 17"],
    ['a row too few', 'small', 'DELETE FROM notes; DELETE FROM small WHERE id = 3'],
    ['a row too many', 'nothing', 'INSERT INTO nothing DEFAULT VALUES'],
    [
      'a row that stands for another of the same',
      'odd',
      'UPDATE odd SET id = 1 WHERE ctid = (SELECT ctid FROM odd WHERE id = 2 LIMIT 1)',
    ],
    ['NULL for an empty text', 'notes', 'UPDATE notes SET note = NULL WHERE id = 1'],
    [
      'rows of partitions whose columns have another order',
      'moods_0',
      'UPDATE moods SET note = note || 1 WHERE id = 7',
    ],
  ])('%s', async (_, name, sql) => {
    const copy = await server.cloneDatabase('restored');
    await psql(server, copy, sql);
    const { differences } = await compare(copy);
    expect(differences.flatMap(({ tables }) => tables.map(table => table.name))).toContain(name);
    await server.dropDatabase(copy);
  });

  it('constraints that are not validated, and indexes that are not valid', async () => {
    const copy = await server.cloneDatabase('restored');
    await psql(
      server,
      copy,
      `SET allow_system_table_mods = on; UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'small_pkey'::regclass;
       CREATE INDEX moods_all ON moods (note); UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'moods_all'::regclass;
       ALTER TABLE notes ADD CONSTRAINT "new one" CHECK (id > 0) NOT VALID`,
    );
    const client = await openClient(readTarget(server.url(copy), {}));
    try {
      const schema = 'public';
      expect(await invalidIndexes(client)).toEqual([
        { name: 'moods_all', schema, of: 'moods' },
        { name: 'small_pkey', schema, of: 'small' },
      ]);
      expect(await unvalidatedConstraints(client)).toEqual([
        { name: 'new one', schema, of: 'notes' },
        { name: 'left open', schema, of: 'odd' },
        { name: 'open_too', schema, of: 'small_number' },
      ]);
    } finally {
      await closeClient(client);
    }
    await server.dropDatabase(copy);
  });
});
