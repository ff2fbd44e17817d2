// Sizes at the edges: tables of several page ranges and segments, single rows of many segments, thousands of tables.
import { readdirSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { listBackups } from '../../src/operations/list-backups.ts';
import { loadFixture } from '../fixtures/everything.ts';
import { compareDatabases } from '../support/compare-databases.ts';
import { psql, type Server, startServer } from '../support/postgres-server.ts';
import { backUp, restoreInto } from '../support/round-trip.ts';
import { makeTempFolder } from '../support/temp-folder.ts';

let server: Server;

beforeAll(async () => {
  server = await startServer();
});
afterAll(() => server[Symbol.asyncDispose]());

async function differences(source: string, target: string): Promise<string[]> {
  const comparison = await compareDatabases(server.url(source), server.url(target), {
    binDir: server.binDir,
  });
  return comparison.differences;
}

function countObjects(repository: string, folder: string): number {
  return readdirSync(`${repository}/${folder}`, { recursive: true, withFileTypes: true }).filter(entry =>
    entry.isFile(),
  ).length;
}

describe('a table of several page ranges', () => {
  const folder = makeTempFolder('repository');
  let first: Awaited<ReturnType<typeof backUp>>;
  afterAll(() => folder.remove());

  beforeAll(async () => {
    await server.createDatabase('ranges');
    // 60 MB of heap: eight ranges, some of their segments cut in the middle of a row.
    await psql(
      server,
      'ranges',
      `CREATE TABLE public.large (id integer PRIMARY KEY, v text, n integer) WITH (autovacuum_enabled = off);
       INSERT INTO public.large SELECT i, repeat(md5(i::text), 10), 0 FROM generate_series(1, 155000) AS i;
       CREATE TABLE public.small AS SELECT i FROM generate_series(1, 10) AS i;
       CREATE TABLE public.emptied AS SELECT i, repeat('x', 200) AS v FROM generate_series(1, 100000) AS i; DELETE FROM public.emptied;`,
    );
    first = await backUp(server, 'ranges', folder.path, { compressionLevel: 1 });
  });

  it('comes back, rows deleted and moved among them', async () => {
    expect(first.newSegments).toBeGreaterThanOrEqual(8);
    expect(first.rows).toBe(155_010);
    await restoreInto(server, 'ranges_1', folder.path, { create: true });
    expect(await differences('ranges', 'ranges_1')).toEqual([]);
  });

  it('is stored again only where it changed', async () => {
    // Moved to the end of the table, deleted from its middle, and space in the first range taken again.
    await psql(
      server,
      'ranges',
      `UPDATE public.large SET n = 1 WHERE id BETWEEN 100 AND 200; DELETE FROM public.large WHERE id BETWEEN 70000 AND 70050`,
    );
    const second = await backUp(server, 'ranges', folder.path, { compressionLevel: 1 });
    expect(second.newBytes).toBeLessThan(first.newBytes / 2);
    expect(second.reusedSegments).toBeGreaterThanOrEqual(4);
    await psql(
      server,
      'ranges',
      'VACUUM public.large; INSERT INTO public.large SELECT 200000 + i, repeat(md5(i::text), 10), 2 FROM generate_series(1, 100) AS i',
    );
    const third = await backUp(server, 'ranges', folder.path, { compressionLevel: 1, jobs: 4 });
    expect(third.newBytes).toBeLessThan(first.newBytes / 2);
    const fourth = await backUp(server, 'ranges', folder.path, { compressionLevel: 1 });
    expect(fourth.newBytes).toBeLessThan(first.newBytes / 50);
    // Each backup is complete in itself.
    const backups = await listBackups({ repository: folder.path });
    expect(backups.map(({ recordCount }) => recordCount)).toEqual([155_059, 155_059, 154_959, 155_010]);
    await restoreInto(server, 'ranges_4', folder.path, { create: true, jobs: 4 });
    expect(await differences('ranges', 'ranges_4')).toEqual([]);
    await restoreInto(server, 'ranges_first', folder.path, { create: true, backup: first.id });
    expect(await differences('ranges_1', 'ranges_first')).toEqual([]);
  });

  it('comes back over one connection and in one transaction too', async () => {
    await restoreInto(server, 'ranges_rows', folder.path, { create: true, schemaOnly: true });
    await restoreInto(server, 'ranges_rows', folder.path, { dataOnly: true });
    expect(await differences('ranges', 'ranges_rows')).toEqual([]);
  });

  it('is shared with a copy of its database in the same repository', async () => {
    // As a whole: a copy has no earlier backup, so its rows are not divided into old and new ones.
    await backUp(server, 'ranges', folder.path, { compressionLevel: 1, full: true });
    await server.cloneDatabase('ranges', 'ranges_clone');
    const clone = await backUp(server, 'ranges_clone', folder.path, { compressionLevel: 1 });
    expect(clone.newBytes).toBeLessThan(first.newBytes / 20);
    const other = await restoreInto(server, 'of_clone', folder.path, {
      create: true,
      sourceDatabase: 'ranges_clone',
    });
    expect(other.backup).toBe(clone.id);
    expect(await differences('ranges', 'of_clone')).toEqual([]);
    const before = await listBackups({ repository: folder.path, database: 'ranges' });
    expect(before).toHaveLength(5);
    await restoreInto(server, 'of_original', folder.path, {
      create: true,
      sourceDatabase: 'ranges',
      tables: ['small'],
    });
    expect((await psql(server, 'of_original', 'SELECT sum(i) FROM small')).trim()).toBe('55');
  });
});

describe('rows larger than a segment', () => {
  it('come back: 64 MB of text, 200 MB of bytes', async () => {
    await using folder = makeTempFolder('repository');
    await server.createDatabase('rows');
    await psql(
      server,
      'rows',
      `CREATE TABLE public.rows (id integer PRIMARY KEY, t text, b bytea); ALTER TABLE public.rows ALTER t SET STORAGE EXTERNAL, ALTER b SET STORAGE EXTERNAL;
       INSERT INTO public.rows VALUES (1, 'before', '\\x00'), (2, repeat(E'0123456789abcde\\n', 4 * 1024 * 1024), NULL), (4, '', ''), (5, NULL, NULL);
       INSERT INTO public.rows VALUES (3, NULL, decode(repeat(md5('x') || md5('y') || '5c0a0d00', 1024 * 1024 * 200 / 36), 'hex'))`,
    );
    const backup = await backUp(server, 'rows', folder.path);
    expect(backup.sizeBytes).toBeGreaterThan(64 * 1024 * 1024 + 400 * 1024 * 1024);
    await restoreInto(server, 'rows_restored', folder.path, { create: true });
    const digests = `SELECT id, length(t), md5(t), length(b), md5(b) FROM public.rows ORDER BY id`;
    expect(await psql(server, 'rows_restored', digests)).toBe(await psql(server, 'rows', digests));
  });
});

describe('three thousand tables', () => {
  /** How many tables' rows each transaction that joined a snapshot has read, by what the server logged. */
  function tablesPerTransaction(): number[] {
    const counts = new Map<string, number>();
    const transactions = new Map<string, number>();
    let pid = '';
    for (const line of server.log().split('\n')) {
      pid = /^\S+ \S+ \S+ \[(\d+)\] /.exec(line)?.[1] ?? pid;
      if (line.includes('SET TRANSACTION SNAPSHOT')) transactions.set(pid, (transactions.get(pid) ?? 0) + 1);
      const transaction = `${pid} ${transactions.get(pid) ?? 0}`;
      if (/COPY "many_\d"/.test(line)) counts.set(transaction, (counts.get(transaction) ?? 0) + 1);
    }
    return [...counts.values()];
  }

  it('share a few objects, and come back', async () => {
    await using folder = makeTempFolder('repository');
    await server.createDatabase('many');
    await loadFixture(server, 'many', 'many-tables.sql');
    await psql(server, 'many', "ALTER DATABASE many SET log_statement = 'all'");
    const backup = await backUp(server, 'many', folder.path);
    await psql(server, 'many', 'ALTER DATABASE many RESET log_statement');
    expect([backup.tables, backup.rows]).toEqual([3000, 10_795]);
    // All but the empty ones; and no transaction holds the locks of half of them.
    const read = tablesPerTransaction();
    expect(read.reduce((sum, count) => sum + count, 0)).toBe(2700);
    expect(Math.max(...read)).toBeLessThan(1000);
    expect(countObjects(folder.path, 'segments')).toBeLessThan(100);
    await psql(server, 'many', 'INSERT INTO many_0.t_3 VALUES (1)');
    const second = await backUp(server, 'many', folder.path);
    // The group of one table and the archive's segment may change, the others do not.
    expect(second.newSegments).toBeLessThanOrEqual(4);
    await restoreInto(server, 'many_restored', folder.path, { create: true });
    expect(await differences('many', 'many_restored')).toEqual([]);
    await restoreInto(server, 'many_one', folder.path, { create: true, tables: ['many_1.t_1'] });
    expect((await psql(server, 'many_one', 'SELECT count(*) FROM many_1.t_1')).trim()).toBe('2');
  });
});
