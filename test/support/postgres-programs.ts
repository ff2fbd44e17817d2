// Which PostgreSQL server programs this machine has: those of the system's packages, those on PATH, and those
// that the tests unpacked into their cache. Nothing is installed here; test/services does that.

import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, realpathSync } from 'node:fs';
import { delimiter, dirname, join } from 'node:path';
import { closedFolder, serverAccount } from './server-account.ts';
import { testCache } from './test-cache.ts';

export interface ServerPrograms {
  majorVersion: number;
  /** As the server says it: "15.18". */
  version: string;
  /** The folder with postgres, initdb, psql, pg_dump, pg_basebackup. */
  binDir: string;
}

/** The versions every test of server behaviour runs against. */
export const testedVersions = [15, 17, 18] as const;

const needed = ['postgres', 'initdb', 'psql', 'pg_dump', 'pg_restore', 'pg_basebackup'];

/** Every complete set of programs, newest version first; of the same version the system's own comes first. */
export function findServerPrograms(): ServerPrograms[] {
  return inspectAll([...systemFolders(), ...cacheFolders()]);
}

/** As {@link findServerPrograms}, without those the tests unpacked for themselves. */
export function findSystemPrograms(): ServerPrograms[] {
  return inspectAll(systemFolders());
}

function inspectAll(binDirs: readonly string[]): ServerPrograms[] {
  const found: ServerPrograms[] = [];
  for (const binDir of new Set(binDirs)) {
    const programs = inspectPrograms(binDir);
    if (programs) found.push(programs);
  }
  return found.sort((a, b) => b.majorVersion - a.majorVersion);
}

/** The programs in that folder, or undefined when some are missing, do not run, or are closed to the servers' account. */
export function inspectPrograms(binDir: string): ServerPrograms | undefined {
  if (needed.some(name => !existsSync(join(binDir, name)))) return undefined;
  if (closedFolder(binDir, serverAccount())) return undefined;
  const run = spawnSync(join(binDir, 'postgres'), ['--version'], { encoding: 'utf8' });
  const version = run.status === 0 ? /\(PostgreSQL\) (\d+\S*)/.exec(run.stdout)?.[1] : undefined;
  return version ? { majorVersion: Number.parseInt(version, 10), version, binDir } : undefined;
}

/** Where the tests keep the programs of one unpacked version. */
export function unpackedFolder(majorVersion: number): string {
  return join(testCache(), `postgres-${majorVersion}`);
}

/** The programs' folder inside a tree of unpacked Debian packages. */
export function debianBinDir(root: string, majorVersion: number): string {
  return join(root, 'usr/lib/postgresql', String(majorVersion), 'bin');
}

function systemFolders(): string[] {
  const debian = '/usr/lib/postgresql';
  const versions = existsSync(debian) ? readdirSync(debian) : [];
  const onPath = (process.env.PATH ?? '')
    .split(delimiter)
    .map(folder => join(folder, 'postgres'))
    .filter(file => existsSync(file))
    .map(file => dirname(realpathSync(file)));
  return [...versions.map(version => join(debian, version, 'bin')), ...onPath];
}

function cacheFolders(): string[] {
  const cache = testCache();
  return readdirSync(cache).flatMap(name => {
    const version = /^postgres-(\d+)$/.exec(name)?.[1];
    return version ? [debianBinDir(join(cache, name), Number(version))] : [];
  });
}
