// Restores a script as a user would: stock psql, a file, and no help from anything else.

import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { Server } from './postgres-server.ts';

/**
 * Runs a script by the server's psql as superuser, which stops at the first error.
 * @param further arguments of psql, such as `-1`.
 * @returns what psql said on stderr: nothing, when all is well.
 * @throws Error with what psql said.
 */
export async function psqlFile(
  server: Server,
  database: string,
  file: string,
  further: readonly string[] = [],
): Promise<string> {
  const login = ['-h', server.socketDir, '-p', String(server.port), '-U', 'postgres', '-d', database];
  const how = ['-X', '-q', '-o', '/dev/null', '-v', 'ON_ERROR_STOP=1', ...further, '-f', file];
  const env = { PATH: process.env.PATH, LC_ALL: 'C.UTF-8' };
  const { stderr } = await promisify(execFile)(join(server.binDir, 'psql'), [...login, ...how], { env });
  return stderr;
}
