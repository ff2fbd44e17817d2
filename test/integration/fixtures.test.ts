// The fixture databases hold what they claim, on every version, and survive PostgreSQL's own dump and restore: what
// does not is no measure for a backup.

import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { describe, expect, test } from 'vitest';
import { dropFixtureRoles, loadEverything, loadFixture } from '../fixtures/everything.ts';
import { compareDatabases } from '../support/compare-databases.ts';
import { testedVersions } from '../support/postgres-programs.ts';
import { type DatabaseOptions, psql, type Server, startServer } from '../support/postgres-server.ts';
import { makeTempFolder } from '../support/temp-folder.ts';

const run = promisify(execFile);

// Types whose values only the server itself makes.
const notStorable = ['pg_node_tree', 'gtsvector'];

describe.each(testedVersions)('everything, on PostgreSQL %i,', version => {
  test('has a value of every type and equals its dumped and restored copy', async () => {
    await using server = await startServer({ version });
    await server.createDatabase('everything');
    await loadEverything(server, 'everything');

    const missing = await psql(
      server,
      'everything',
      `SELECT typname FROM pg_type AS t
       WHERE typnamespace = 'pg_catalog'::regnamespace AND typtype IN ('b', 'r', 'm') AND typcategory <> 'Z'
         AND typname <> ALL ('{${notStorable.join()}}'::text[])
         AND NOT EXISTS (SELECT FROM pg_type AS element WHERE element.typarray = t.oid)
         AND NOT (EXISTS (SELECT FROM pg_attribute WHERE attrelid = 'types.every_type'::regclass AND atttypid = t.oid)
                  AND EXISTS (SELECT FROM pg_attribute WHERE attrelid = 'types.every_array'::regclass AND atttypid = t.typarray))`,
    );
    expect(missing).toBe('');

    const copy = await dumpAndRestore(server, 'everything');
    const { differences, tables, rows } = await compare(server, 'everything', copy);
    expect(differences).toEqual([]);
    expect(tables).toBeGreaterThan(110);
    expect(rows).toBeGreaterThan(90_000);
  });
});

test('everything equals its copy under settings that change how a session prints and waits', async () => {
  await using server = await startServer();
  await server.createDatabase('everything');
  await loadEverything(server, 'everything');
  await loadFixture(server, 'everything', 'hostile-settings.sql');
  const copy = await dumpAndRestore(server, 'everything');
  expect((await compare(server, 'everything', copy)).differences).toEqual([]);

  await server.dropDatabase('everything');
  await server.dropDatabase(copy);
  await dropFixtureRoles(server);
  expect(await psql(server, 'postgres', `SELECT rolname FROM pg_roles WHERE rolname ~ 'fixture'`)).toBe('');
});

test.each([
  { name: 'many', encoding: 'UTF8', files: ['many-tables.sql'], tables: 3000, rows: 10_795 },
  { name: 'latin', encoding: 'LATIN1', files: ['latin1.sql'], tables: 3, rows: 260 },
  {
    name: 'ascii',
    encoding: 'SQL_ASCII',
    files: ['sql-ascii.sql', 'sql-ascii-names.sql'],
    tables: 4,
    rows: 265,
  },
] as const)('a database in $encoding of $tables tables equals its copy', async fixture => {
  await using server = await startServer();
  const { name, encoding, files, tables, rows } = fixture;
  await server.createDatabase(name, { encoding });
  for (const file of files) await loadFixture(server, name, file);
  const copy = await dumpAndRestore(server, name, { encoding });
  expect(await compare(server, name, copy)).toEqual({ differences: [], tables, rows });
});

/** A copy made by PostgreSQL's own programs. */
async function dumpAndRestore(
  server: Server,
  database: string,
  options: DatabaseOptions = {},
): Promise<string> {
  await using folder = makeTempFolder('dump');
  const archive = join(folder.path, 'archive');
  const copy = await server.createDatabase(`${database}_copy`, { template: 'template0', ...options });
  await run(join(server.binDir, 'pg_dump'), ['-Fc', '-Z0', '-f', archive, '-d', server.url(database)]);
  await run(join(server.binDir, 'pg_restore'), ['--exit-on-error', '-j2', '-d', server.url(copy), archive]);
  return copy;
}

async function compare(server: Server, source: string, target: string) {
  return await compareDatabases(server.url(source), server.url(target), { binDir: server.binDir });
}
