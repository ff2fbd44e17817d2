// The format document is enough to read what the code writes: a reader made from it alone gives back every row.

import { execFile } from 'node:child_process';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { generateKey } from '../../../src/crypto/key.ts';
import { createBackup } from '../../../src/operations/create-backup.ts';
import { psql, type Server, startServer } from '../../support/postgres-server.ts';
import { makeTempFolder } from '../../support/temp-folder.ts';
import { SecondReader, segmentsOf } from './second-reader.ts';

const key = generateKey();
const folder = makeTempFolder('second-reader');
let server: Server;

beforeAll(async () => {
  server = await startServer();
  await server.createDatabase('shop');
  await psql(server, 'shop', fixture);
});
afterAll(async () => {
  await server?.[Symbol.asyncDispose]();
  await folder.remove();
});

// Many ranges (an index), one row larger than a segment, tables that share segments, none, and odd ones.
const fixture = `
  CREATE TABLE large (n int, t text); ALTER TABLE large ALTER t SET STORAGE PLAIN;
  INSERT INTO large SELECT n, repeat(md5(n::text), 120) FROM generate_series(1, 20000) AS n;
  DELETE FROM large WHERE n BETWEEN 1000 AND 19500;
  CREATE TABLE long_row (n int, t text); INSERT INTO long_row VALUES (1, repeat('0123456789', 1000000)), (2, 'short');
  CREATE TABLE empty (n int); CREATE TABLE no_columns (); INSERT INTO no_columns SELECT FROM generate_series(1, 3);
  CREATE TABLE "Odd ""name" ("a.b" text, generated int GENERATED ALWAYS AS (1) STORED, c bytea, d timestamptz, e interval, f float8);
  INSERT INTO "Odd ""name" VALUES (E'tab\\t, line\\nfeed, \\\\N, ü', DEFAULT, '\\x00ff', 'infinity', '1 mon -2 days', 'NaN'), (NULL, DEFAULT, '', now(), NULL, 0.1);
  SELECT format('CREATE TABLE small_%s AS SELECT n, md5(n::text) FROM generate_series(1, %s) AS n', i, i) FROM generate_series(1, 60) AS i \\gexec
  CREATE TABLE parts (n int) PARTITION BY RANGE (n); CREATE TABLE part PARTITION OF parts FOR VALUES FROM (0) TO (9);
  INSERT INTO parts VALUES (1), (2); CREATE SEQUENCE s; SELECT setval('s', 77);`;

const settings = `SET DateStyle = ISO; SET IntervalStyle = postgres; SET extra_float_digits = 3; SET bytea_output = hex; SET TimeZone = UTC;`;
const quote = (name: string) => `"${name.replaceAll('"', '""')}"`;

describe.each([
  ['encrypted', key],
  ['not encrypted', undefined],
])('a repository that is %s', (kind, encryptionKey) => {
  const repository = join(folder.path, kind);
  let backup = '';
  beforeAll(async () => {
    const encryption = encryptionKey !== undefined;
    const options = { repository, encryptionKey, encryption, environment: { PATH: process.env.PATH } };
    await createBackup({ ...options, database: server.url('shop') });
    backup = (await createBackup({ ...options, database: server.url('shop'), jobs: 1 })).id;
  });

  test('gives every row of every table, as the server prints them', async () => {
    const reader = new SecondReader(repository, encryptionKey);
    expect(reader.backups()).toHaveLength(2);
    expect(reader.backups()[0]).toBe(backup);
    const manifest = reader.manifest(backup);
    expect(manifest.tables.map(({ name }) => name)).toEqual(
      expect.arrayContaining(['large', 'long_row', 'empty', 'no_columns', 'Odd "name', 'small_60', 'part']),
    );
    for (const table of manifest.tables) {
      const rows = reader.rows(table, manifest);
      if (/^small_\d*[1-9]$/.test(table.name)) continue;
      const from = `${quote(table.schema)}.${quote(table.name)}`;
      const columns = table.columns.map(quote).join(', ');
      const printed = await psql(
        server,
        'shop',
        `${settings} COPY (SELECT ${columns} FROM ONLY ${from}) TO STDOUT`,
      );
      expect(rows.equals(Buffer.from(printed)), from).toBe(true);
    }
  });

  test('has an index for many ranges, shared segments for small tables, several for a long row', () => {
    const reader = new SecondReader(repository, encryptionKey);
    const manifest = reader.manifest(backup);
    const { tables } = manifest;
    const ranges = (name: string) => {
      const table = tables.find(candidate => candidate.name === name);
      if (table === undefined) throw new Error(`no table ${name}`);
      return { isIndexed: table.index !== undefined, list: reader.ranges(table, manifest) };
    };
    expect(ranges('large')).toMatchObject({ isIndexed: true });
    expect(ranges('large').list.length).toBeGreaterThan(8);
    expect(ranges('long_row').list[0]?.slices.length).toBeGreaterThan(1);
    expect(ranges('empty')).toEqual({ isIndexed: false, list: [] });
    const small = tables.filter(({ name }) => name.startsWith('small_'));
    const segments = new Set(
      small.flatMap(table =>
        reader.ranges(table, manifest).flatMap(range => range.slices.map(({ id }) => id)),
      ),
    );
    expect(segments.size).toBeLessThan(small.length / 2);
  });

  test('holds an archive that pg_restore reads, without the rows', async () => {
    const reader = new SecondReader(repository, encryptionKey);
    const file = join(folder.path, `${kind}.dump`);
    writeFileSync(file, reader.archive(reader.manifest(backup)));
    const { stdout } = await promisify(execFile)(join(server.binDir, 'pg_restore'), ['--list', file]);
    expect(stdout).toMatch(/ TABLE public large /);
    expect(stdout).toMatch(/ SEQUENCE SET public s /);
    expect(stdout).not.toMatch(/ TABLE DATA /);
  });

  test('names all it needs, and has nothing besides what two backups need', () => {
    const reader = new SecondReader(repository, encryptionKey);
    const needed = new Set(['pgkeep.json']);
    for (const id of reader.backups()) {
      const manifest = reader.manifest(id);
      needed.add(`metadata/${id}.json`).add(`backups/${id}.backup`);
      const references = [
        ...manifest.archive.segments,
        ...manifest.tables.flatMap(table => [
          ...(table.index ?? []),
          ...reader.ranges(table, manifest).flatMap(segmentsOf),
        ]),
      ];
      const keys = new Set<string>();
      for (const { id: segment, key: index, storedBytes } of references) {
        const name = `segments/${segment.slice(0, 2)}/${segment}`;
        const object = readFileSync(join(repository, name));
        needed.add(name);
        expect(object.length).toBe(storedBytes);
        if (encryptionKey === undefined) expect(index).toBe(-1);
        else expect(manifest.keys[index]).toBe(object.toString('hex', 9, 25));
        if (index >= 0) keys.add(manifest.keys[index] ?? '');
      }
      expect([...keys].sort()).toEqual(manifest.keys.toSorted());
    }
    const found = readdirSync(repository, { recursive: true, withFileTypes: true })
      .filter(entry => entry.isFile())
      .map(entry => relative(repository, join(entry.parentPath, entry.name)));
    // The recovery kit is for people, and no reader needs it.
    const objects = found.filter(name => !/^(keys|recovery)\//.test(name));
    expect(objects.sort()).toEqual([...needed].sort());
    expect(found.filter(name => name.startsWith('keys/'))).toHaveLength(encryptionKey === undefined ? 0 : 2);
  });

  test('does not open for the second reader either when a byte of the manifest is changed', () => {
    const file = join(repository, `backups/${backup}.backup`);
    const object = readFileSync(file);
    const changed = Buffer.from(object);
    changed[200] = (changed[200] ?? 0) ^ 1;
    writeFileSync(file, changed);
    expect(() => new SecondReader(repository, encryptionKey).manifest(backup)).toThrow('checksum');
    writeFileSync(file, object);
  });
});

test('the second reader knows a wrong key', () => {
  expect(() => new SecondReader(join(folder.path, 'encrypted'), generateKey())).toThrow('wrong key');
});
