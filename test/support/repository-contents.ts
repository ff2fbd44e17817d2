// What a repository in a folder holds, looked at from outside: its objects byte by byte, and each backup read whole by
// the second reader, which shares no code with pgkeep.

import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { SecondReader, segmentsOf } from '../unit/repository/second-reader.ts';
import { psql, type Server } from './postgres-server.ts';

/** Digest of every object by name. Unfinished files, whose names begin with a dot, are none. */
export function objectsIn(folder: string): Map<string, string> {
  const files = readdirSync(folder, { recursive: true, withFileTypes: true }).filter(entry => entry.isFile());
  return new Map(
    files
      .map(entry => join(entry.parentPath.slice(folder.length), entry.name).replace(/^\//, ''))
      .filter(name => !name.split('/').some(part => part.startsWith('.')))
      .sort()
      .map(name => [
        name,
        createHash('sha256')
          .update(readFileSync(join(folder, name)))
          .digest('hex'),
      ]),
  );
}

/** Ids of the backups that show, newest first. */
export function backupsIn(folder: string, key: string): string[] {
  return objectsIn(folder).has('pgkeep.json') &&
    [...objectsIn(folder).keys()].some(name => name.startsWith('metadata/'))
    ? new SecondReader(folder, key).backups()
    : [];
}

export interface WholeBackup {
  /** The objects it needs; the descriptor is not among them. */
  objects: Set<string>;
  /** Digest of the rows of each table by `schema.name`, whatever their order. */
  rows: Map<string, string>;
}

/**
 * Reads every byte of a backup.
 * @throws Error when anything is missing or does not agree.
 */
export function readBackup(folder: string, key: string, backup: string): WholeBackup {
  const reader = new SecondReader(folder, key);
  const manifest = reader.manifest(backup);
  reader.archive(manifest);
  const references = [
    ...manifest.archive.segments,
    ...manifest.tables.flatMap(table => [
      ...(table.index ?? []),
      ...reader.ranges(table, manifest).flatMap(segmentsOf),
    ]),
  ];
  const segments = references.map(({ id }) => `segments/${id.slice(0, 2)}/${id}`);
  const sealed = [`backups/${backup}.backup`, ...segments];
  return {
    objects: new Set([`metadata/${backup}.json`, ...sealed, ...sealed.flatMap(name => keyOf(folder, name))]),
    rows: new Map(
      manifest.tables.map(table => [
        `${table.schema}.${table.name}`,
        digestOfRows(reader.rows(table, manifest).toString()),
      ]),
    ),
  };
}

/** The objects that a repository needs for the backups that show, and nothing else. */
export function neededObjects(folder: string, key: string): string[] {
  const needed = new Set(['pgkeep.json']);
  for (const backup of backupsIn(folder, key)) {
    for (const name of readBackup(folder, key, backup).objects) needed.add(name);
  }
  return [...needed].sort();
}

/** The digests of {@link WholeBackup.rows} for the tables of a database as it is now. */
export async function rowsOf(server: Server, database: string): Promise<Map<string, string>> {
  const tables = await psql(
    server,
    database,
    "SELECT format('%s.%s', schemaname, tablename) FROM pg_tables WHERE schemaname !~ '^pg_|^information_schema$' ORDER BY 1",
  );
  const rows = new Map<string, string>();
  for (const table of tables.split('\n').filter(Boolean)) {
    const settings = "SET extra_float_digits = 3; SET TimeZone = UTC; SET lc_monetary = 'C';";
    rows.set(table, digestOfRows(await psql(server, database, `${settings} COPY ${table} TO STDOUT`)));
  }
  return rows;
}

function keyOf(folder: string, name: string): string[] {
  const id = readFileSync(join(folder, name)).toString('hex', 9, 25);
  return /^0+$/.test(id) ? [] : [`keys/${id}.json`];
}

/** Rows are lines; their order means nothing. */
function digestOfRows(text: string): string {
  return createHash('sha256').update(text.split('\n').sort().join('\n')).digest('hex');
}
