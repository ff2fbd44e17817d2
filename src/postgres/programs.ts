// Finds PostgreSQL's client programs among the versions installed, and picks one that suits a server or an archive.
import { existsSync, readdirSync, realpathSync } from 'node:fs';
import path from 'node:path';
import { runProgram } from '../base/child-process.ts';
import { PgkeepError } from '../base/errors.ts';
import { type Environment, localEnvironment } from './target.ts';

export interface Program {
  file: string;
  /** As the program prints it, such as 15.18. */
  version: string;
  major: number;
}

/** Folders in which packagers put one version each; `*` stands for the version. */
const versionedFolders = [
  '/usr/lib/postgresql/*/bin',
  '/usr/pgsql-*/bin',
  '/usr/libexec/postgresql*',
  '/usr/local/pgsql/bin',
  '/opt/homebrew/opt/postgresql@*/bin',
  '/opt/homebrew/opt/libpq/bin',
  '/usr/local/opt/postgresql@*/bin',
  '/usr/local/opt/libpq/bin',
  '/Library/PostgreSQL/*/bin',
  '/Applications/Postgres.app/Contents/Versions/*/bin',
];

/**
 * Every installed version of a program, newest first; of one version, those in versioned folders come before those on PATH.
 * @param folder look only there, when it is given.
 */
export async function findPrograms(
  name: string,
  folder: string | undefined,
  environment: Environment,
): Promise<Program[]> {
  const folders =
    folder === undefined
      ? [...versionedFolders.flatMap(expand), ...(environment.PATH ?? '').split(path.delimiter)]
      : [folder];
  // Run by the name found, since a wrapper goes by it; the real path only tells which are the same.
  const files = new Map<string, string>();
  for (const candidate of folders) {
    const file = path.resolve(candidate, name);
    if (candidate === '' || !existsSync(file)) continue;
    const real = realpathSync(file);
    if (!files.has(real)) files.set(real, file);
  }
  const found = await Promise.all([...files.values()].map(file => readVersion(file, name, environment)));
  return found.filter(program => program !== undefined).sort((a, b) => b.major - a.major);
}

/**
 * The newest pg_dump that may dump a server of this version.
 * @throws PgkeepError PROGRAM_MISSING, PROGRAM_TOO_OLD naming what was found and what to install.
 */
export async function findPgDump(
  serverVersionNumber: number,
  folder: string | undefined,
  environment: Environment,
): Promise<Program> {
  const needed = Math.floor(serverVersionNumber / 10000);
  const found = await findPrograms('pg_dump', folder, environment);
  const newest = found[0];
  if (newest === undefined) throw missing('pg_dump', needed, folder);
  if (newest.major < needed) throw tooOld('pg_dump', found, needed, `the server is ${needed}`);
  return newest;
}

/**
 * The pg_restore that reads an archive of the given pg_dump version: the oldest that can, since newer ones write
 * settings that older servers refuse.
 * @throws PgkeepError PROGRAM_MISSING, PROGRAM_TOO_OLD.
 */
export async function findPgRestore(
  dumpVersion: string,
  folder: string | undefined,
  environment: Environment,
): Promise<Program> {
  const needed = Number.parseInt(dumpVersion, 10);
  const found = await findPrograms('pg_restore', folder, environment);
  if (found.length === 0) throw missing('pg_restore', needed, folder);
  const oldest = found.findLast(program => program.major >= needed)?.major;
  const suitable = found.find(program => program.major === oldest);
  if (suitable === undefined)
    throw tooOld('pg_restore', found, needed, `the backup was made with pg_dump ${dumpVersion}`);
  return suitable;
}

function expand(pattern: string): string[] {
  const [before, after] = pattern.split('*');
  if (before === undefined || after === undefined) return [pattern];
  const parent = path.dirname(`${before}x`);
  const prefix = before.slice(parent.length + 1);
  try {
    return readdirSync(parent)
      .filter(entry => entry.startsWith(prefix))
      .map(entry => path.join(parent, entry) + after);
  } catch {
    return [];
  }
}

async function readVersion(
  file: string,
  name: string,
  environment: Environment,
): Promise<Program | undefined> {
  try {
    const { stdout } = await runProgram({ file, args: ['--version'], env: localEnvironment(environment) });
    const version = new RegExp(`^${name} \\(PostgreSQL\\) (\\d+[^\\s]*)`).exec(stdout)?.[1];
    return version === undefined ? undefined : { file, version, major: Number.parseInt(version, 10) };
  } catch {
    // A file that cannot be run is as good as none.
    return undefined;
  }
}

function missing(name: string, major: number, folder: string | undefined): PgkeepError {
  return new PgkeepError(
    'PROGRAM_MISSING',
    `${name} was not found${folder === undefined ? '' : ` in ${folder}`}`,
    {
      hint: installHint(major),
    },
  );
}

function tooOld(name: string, found: readonly Program[], needed: number, why: string): PgkeepError {
  const versions = found.map(program => `${program.version} (${program.file})`).join(', ');
  return new PgkeepError(
    'PROGRAM_TOO_OLD',
    `no ${name} found is of version ${needed} or newer, and ${why}: found ${versions}`,
    {
      hint: installHint(needed),
    },
  );
}

function installHint(major: number): string {
  return `install PostgreSQL's client programs of version ${major} or newer, as in: apt-get install postgresql-client-${major}; or name their folder with --programs`;
}
