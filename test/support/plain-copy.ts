// A copy of a database by PostgreSQL's own pg_dump and pg_restore: what a backup with the same options must equal.

import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { psql, type Server } from './postgres-server.ts';
import { makeTempFolder } from './temp-folder.ts';

const run = promisify(execFile);

export interface PlainCopyOptions {
  /** Further arguments of pg_dump and of pg_restore. */
  dump?: readonly string[];
  restore?: readonly string[];
  /** SQL for the copy before it is filled: a dump of single tables lacks their schemas and types. */
  prepare?: string;
}

/**
 * Makes the copy as a new database of the same server; returns its name.
 * @throws Error with what the program said.
 */
export async function copyByPlainDump(
  server: Server,
  source: string,
  copy: string,
  options: PlainCopyOptions = {},
): Promise<string> {
  await using folder = makeTempFolder('dump');
  const archive = join(folder.path, 'archive');
  await run(join(server.binDir, 'pg_dump'), [
    ...['-Fc', '-Z0', '-f', archive, '-d', server.url(source)],
    ...(options.dump ?? []),
  ]);
  await server.createDatabase(copy, { template: 'template0' });
  if (options.prepare !== undefined) await psql(server, copy, options.prepare);
  const how = ['--exit-on-error', '-d', server.url(copy), ...(options.restore ?? [])];
  await run(join(server.binDir, 'pg_restore'), [...how, archive]);
  return copy;
}
