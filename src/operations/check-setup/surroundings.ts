// Checks of this machine: Node, PostgreSQL's programs, and who else may read files that hold secrets.
import { stat } from 'node:fs/promises';
import { foreignCode } from '../../base/errors.ts';
import { findPgDump, findPgRestore, findPrograms } from '../../postgres/programs.ts';
import type { Environment } from '../../postgres/target.ts';
import type { Checklist } from '../checklist.ts';

/** A file whose permissions matter, if it exists. */
export interface SetupFile {
  path: string;
  /** Secrets are nobody else's to read, settings nobody else's to change. */
  holds: 'secrets' | 'settings';
}

const oldestNode = [22, 18] as const;

export function checkNode(list: Checklist, version = process.version): void {
  const [major = 0, minor = 0] = version.replace(/^v/, '').split('.').map(Number);
  const isSupported = major > oldestNode[0] || (major === oldestNode[0] && minor >= oldestNode[1]);
  if (isSupported) list.ok('node', `Node ${version.replace(/^v/, '')}`);
  else
    list.fail(
      'node',
      `Node ${version.replace(/^v/, '')} is older than ${oldestNode.join('.')}`,
      `install Node ${oldestNode.join('.')} or newer`,
    );
}

export async function checkFiles(list: Checklist, files: readonly SetupFile[]): Promise<void> {
  const seen: string[] = [];
  let isFine = true;
  for (const { path, holds } of files) {
    let mode: number;
    try {
      const found = await stat(path);
      // Sockets, pipes and what the shell makes of <(…) are not kept.
      if (!found.isFile()) continue;
      mode = found.mode;
    } catch (error) {
      // One that cannot be read is the matter of who needs it.
      if (foreignCode(error) === undefined) throw error;
      continue;
    }
    seen.push(path);
    const problem = openTo(mode, holds);
    if (problem === undefined) continue;
    isFine = false;
    const command = holds === 'secrets' ? 'chmod 600' : 'chmod go-w';
    list.warn('files', `${path} ${problem}`, `${command} ${quoteForShell(path)}`);
  }
  if (isFine)
    list.ok(
      'files',
      seen.length === 0
        ? 'no configuration or key file is in use'
        : `only you can read secrets in, and change, ${seen.join(', ')}`,
    );
}

function openTo(mode: number, holds: SetupFile['holds']): string | undefined {
  const shown = `(mode ${(mode & 0o777).toString(8).padStart(4, '0')})`;
  if (holds === 'secrets' && (mode & 0o077) !== 0)
    return `may hold secrets and is open to other users ${shown}`;
  if ((mode & 0o022) !== 0) return `can be changed by other users ${shown}`;
  return undefined;
}

function quoteForShell(path: string): string {
  return /^[\w./-]+$/.test(path) ? path : `'${path.replaceAll("'", "'\\''")}'`;
}

/** What there is of PostgreSQL's programs, whatever the server. */
export async function checkPrograms(
  list: Checklist,
  folder: string | undefined,
  environment: Environment,
): Promise<void> {
  for (const name of ['pg_dump', 'pg_restore', 'psql'] as const) {
    const found = await findPrograms(name, folder, environment);
    const where = folder === undefined ? '' : ` in ${folder}`;
    const remedy =
      'install the client programs, as in: apt-get install postgresql-client; or name their folder with --programs';
    if (found.length > 0)
      list.ok(name, `${name} ${found.map(({ version, file }) => `${version} (${file})`).join(', ')}`);
    else if (name === 'psql')
      list.warn(name, `psql was not found${where}: exports of backups are loaded by it`, remedy);
    else list.fail(name, `${name} was not found${where}`, remedy);
  }
}

/** Whether they suit the server. */
export async function checkProgramsForServer(
  list: Checklist,
  serverVersionNumber: number,
  folder: string | undefined,
  environment: Environment,
): Promise<void> {
  const name = 'program-versions';
  try {
    const pgDump = await findPgDump(serverVersionNumber, folder, environment);
    const pgRestore = await findPgRestore(pgDump.version, folder, environment);
    list.ok(
      name,
      `pg_dump ${pgDump.version} and pg_restore ${pgRestore.version} suit a server of version ${Math.floor(serverVersionNumber / 10000)}`,
    );
  } catch (error) {
    list.failWith(
      name,
      error,
      "install the client programs of the server's version, or name their folder with --programs",
    );
  }
}
