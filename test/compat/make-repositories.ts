// Makes the repositories that later versions must be able to read, once for each format: node test/compat/make-repositories.ts
// Never made again for a format that was released: what is there was written by the version of that time.
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { verifyBackups } from '../../src/operations/verify-backups.ts';
import { psql, startServer } from '../support/postgres-server.ts';
import { backUp, testKey } from '../support/round-trip.ts';
import { compatFolder, fingerprint } from './fingerprint.ts';

const schema = `
  CREATE TYPE mood AS ENUM ('glad', 'so-so');
  CREATE TABLE customer (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL, mood mood, tags text[], more jsonb, twice int GENERATED ALWAYS AS (length(name) * 2) STORED);
  INSERT INTO customer (name, mood, tags, more) SELECT 'customer ' || i || E' \\t\\n\\\\ é', 'glad', ARRAY[i::text, NULL], jsonb_build_object('n', i) FROM generate_series(1, 300) AS i;
  CREATE TABLE event (id int, at timestamptz, what text) PARTITION BY RANGE (id);
  CREATE TABLE event_1 PARTITION OF event FOR VALUES FROM (1) TO (20000);
  CREATE TABLE event_2 PARTITION OF event FOR VALUES FROM (20000) TO (40000);
  INSERT INTO event SELECT i, '2026-01-01 00:00Z'::timestamptz + i * '1 min'::interval, repeat('event ', 15) FROM generate_series(1, 5000) AS i;
  CREATE TABLE "odd ""name""" ("select" int, "Ü" bytea);
  INSERT INTO "odd ""name""" VALUES (1, '\\x00ff'), (NULL, NULL);
  CREATE TABLE empty (id int);
  CREATE VIEW glad AS SELECT * FROM customer WHERE mood = 'glad';
  CREATE MATERIALIZED VIEW names AS SELECT name FROM customer;
  CREATE SEQUENCE counter START 7; SELECT nextval('counter'), nextval('counter');
  SELECT lo_from_bytea(4711, 'a large object');`;

/** What makes deltas, lines that are gone, and more than one of them. */
const changes = [
  `UPDATE event SET what = 'changed' WHERE id % 100 = 0; DELETE FROM event WHERE id % 101 = 0; INSERT INTO event SELECT i, now(), 'later' FROM generate_series(20001, 20100) AS i`,
  `UPDATE event SET what = 'changed twice' WHERE id % 200 = 0; UPDATE customer SET mood = 'so-so' WHERE id = 1`,
];

await using server = await startServer({ version: 15 });
for (const [name, encryption] of [
  ['encrypted', true],
  ['plain', false],
] as const) {
  const folder = join(compatFolder, 'format-1', name);
  if (existsSync(folder)) throw new Error(`${folder} exists: what a released version wrote stays as it is`);
  mkdirSync(folder, { recursive: true });
  const database = await server.createDatabase(`shop_${name}`);
  await psql(server, database, schema);
  const expected: Record<string, string> = {};
  const repository = join(folder, 'repository');
  const options = {
    encryption,
    ...(!encryption && { encryptionKey: undefined }),
    tags: ['compat'],
    reason: name,
  };
  for (const change of ['', ...changes]) {
    await psql(server, database, change);
    const { id } = await backUp(server, database, repository, options);
    expected[id] = await fingerprint(server, database);
  }
  await verifyBackups({
    repository,
    all: true,
    level: 'data',
    ...(encryption && { encryptionKey: testKey }),
  });
  writeFileSync(join(folder, 'expected.json'), `${JSON.stringify(expected, null, 2)}\n`);
}
