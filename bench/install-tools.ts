// Provides the backup tools that pgkeep is compared with, unpacked from Debian's packages into the test cache. Run by
// itself, it does only that: npx node bench/install-tools.ts

import { execFile } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { canUnpackDebianPackages, unpackDebianPackages } from '../test/services/debian-packages.ts';
import { testCache } from '../test/support/test-cache.ts';

export interface Tool {
  /** The path of an ordinary program. */
  program: string;
  /** Its name and version, such as "restic 0.18.0". */
  version: string;
}

export type Tools = Record<'restic' | 'borg' | 'pgbackrest' | 'rclone', Tool>;

/** The oldest release whose pgBackRest has block-incremental backups. */
const suite = 'trixie';

/**
 * Finds the tools in the cache, or fetches them there.
 * @throws Error where Debian's packages cannot be had, or with what a tool said that does not run.
 */
export async function ensureTools(say: (line: string) => void = () => {}): Promise<Tools> {
  const folder = join(testCache(), `backup-tools-${suite}`);
  const found = await inspect(folder).catch(() => undefined);
  if (found !== undefined) return found;
  if (!canUnpackDebianPackages()) {
    throw new Error(
      "restic, borg, pgBackRest and rclone come from Debian's package archive: run this on Debian 12 or newer",
    );
  }
  say(`fetching restic, borg, pgBackRest and rclone from Debian ${suite}; later runs find them in ${folder}`);
  // What is there did not run: the cache was moved, or an earlier run was cut short.
  await rm(folder, { recursive: true, force: true });
  await unpackDebianPackages({
    suite,
    packages: ['restic', 'borgbackup', 'pgbackrest', 'rclone'],
    folder,
    // Python does not survive being changed; and pgBackRest starts itself, by the name it was started by.
    programFolders: [],
    without: ['usr/share', 'usr/include', 'usr/sbin', 'usr/lib/systemd', 'usr/lib/x86_64-linux-gnu/perl*'],
  });
  await writeStarters(folder);
  return await inspect(folder);
}

/** Makes programs in the folder that start the unpacked ones by their own loader. */
async function writeStarters(folder: string): Promise<void> {
  const architecture = readdirSync(join(folder, 'usr/lib')).find(name => name.endsWith('-linux-gnu')) ?? '';
  const libraries = join(folder, 'usr/lib', architecture);
  const loader = readdirSync(libraries).find(name => /^ld-linux[^/]*\.so\.\d$/.test(name)) ?? '';
  const start = (program: string) =>
    `exec '${join(libraries, loader)}' --library-path '${libraries}' --argv0 "$0" '${folder}/usr/bin/${program}'`;
  const python = `PYTHONHOME='${folder}/usr' PYTHONPATH='${folder}/usr/lib/python3/dist-packages'`;
  const scripts = {
    restic: start('restic'),
    rclone: start('rclone'),
    pgbackrest: start('pgbackrest'),
    borg: `export ${python}\n${start('python3')} '${folder}/usr/bin/borg'`,
  };
  for (const [name, script] of Object.entries(scripts)) {
    await writeFile(join(folder, name), `#!/bin/sh\n${script} "$@"\n`, { mode: 0o755 });
  }
}

async function inspect(folder: string): Promise<Tools> {
  const ask = async (name: string, argument: string): Promise<Tool> => {
    const program = join(folder, name);
    const { stdout } = await promisify(execFile)(program, [argument]);
    return { program, version: /^\S+ v?[\d.]+/.exec(stdout)?.[0] ?? stdout.trim() };
  };
  return {
    restic: await ask('restic', 'version'),
    borg: await ask('borg', '--version'),
    pgbackrest: await ask('pgbackrest', 'version'),
    rclone: await ask('rclone', 'version'),
  };
}

if (import.meta.main) {
  const tools = await ensureTools(line => process.stderr.write(`${line}\n`));
  for (const { version } of Object.values(tools)) process.stdout.write(`${version}\n`);
}
