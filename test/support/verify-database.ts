// The database that tests of verify back up: small, and yet with every kind of object: a table with an index of its
// own, several small ones that share a segment, and an archive with a large object.

import {
  type VerifyBackupsOptions,
  type VerifyBackupsResult,
  verifyBackups,
} from '../../src/operations/verify-backups.ts';
import { psql, type Server } from './postgres-server.ts';
import { testKey } from './round-trip.ts';

/** One row to a page, so that a few rows make more ranges than a manifest lists itself. */
export const spreadRows = 9500;
/** Pages of a range. */
export const rangePages = 1024;

export async function makeVerifyDatabase(server: Server, name: string): Promise<string> {
  await server.createDatabase(name);
  await psql(
    server,
    name,
    `CREATE TABLE spread (id integer, payload text) WITH (fillfactor = 10);
     INSERT INTO spread SELECT i, repeat(md5(i::text), 22) FROM generate_series(1, ${spreadRows}) AS i;
     CREATE TABLE small (id serial PRIMARY KEY, name text);
     INSERT INTO small (name) SELECT 'name ' || i || E'\\nwith a line feed' FROM generate_series(1, 100) AS i;
     CREATE TABLE notes (id integer PRIMARY KEY REFERENCES small, note text);
     INSERT INTO notes SELECT i, repeat('note ', i) FROM generate_series(1, 50) AS i;
     CREATE TABLE nothing ();
     INSERT INTO nothing DEFAULT VALUES; INSERT INTO nothing DEFAULT VALUES;
     SELECT lo_from_bytea(4711, convert_to(repeat('large object ', 30000), 'UTF8'));
     ANALYZE;`,
  );
  return name;
}

/** Rows of the database. */
export const verifyRows = spreadRows + 100 + 50 + 2;

/** Verifies with the server's own programs, and nothing of the machine's environment. */
export function verify(
  server: Server,
  repository: string,
  options: Partial<VerifyBackupsOptions> = {},
): Promise<VerifyBackupsResult> {
  return verifyBackups({
    repository,
    encryptionKey: testKey,
    programs: server.binDir,
    environment: { PATH: process.env.PATH },
    ...options,
  });
}
