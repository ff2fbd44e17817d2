// Provides PostgreSQL programs: whichever version is there for the demo, all tested versions for the tests. Run by itself,
// it provides the latter: npx node test/services/install-postgres.ts

import { existsSync } from 'node:fs';
import { chmod, mkdir, rm, writeFile } from 'node:fs/promises';
import {
  debianBinDir,
  findServerPrograms,
  findSystemPrograms,
  inspectPrograms,
  type ServerPrograms,
  testedVersions,
  unpackedFolder,
} from '../support/postgres-programs.ts';
import { canUnpackDebianPackages, runProgram, unpackDebianPackages } from './debian-packages.ts';

type Say = (line: string) => void;

const oldestUseful = 14;
const installCommand = 'apt-get update && apt-get install -y --no-install-recommends postgresql';

/** The Debian release that has the version in its main archive. */
const suites: Readonly<Record<(typeof testedVersions)[number], string>> = {
  15: 'bookworm',
  17: 'trixie',
  18: 'forky',
};

/**
 * Finds the system's server and client programs of PostgreSQL 14 or newer; where there are none, root on Debian or Ubuntu gets
 * the system's package installed, without a database cluster or a running service.
 * @throws Error naming the one command that installs them, when this cannot be done here.
 */
export async function ensureServerPrograms(say: Say = () => {}): Promise<ServerPrograms> {
  const present = findUseful();
  if (present) return present;
  if (!existsSync('/usr/bin/apt-get')) {
    throw new Error(
      `PostgreSQL ${oldestUseful} or newer is missing; install its server and client programs and put them on PATH`,
    );
  }
  if (process.getuid?.() !== 0) {
    throw new Error(`PostgreSQL is missing; install it with: sudo sh -c '${installCommand}'`);
  }
  say('installing the package postgresql, which is missing here');
  await installSystemPackage();
  const installed = findUseful();
  if (installed) return installed;
  throw new Error(
    `the package postgresql was installed, but no PostgreSQL ${oldestUseful} or newer is found`,
  );
}

/**
 * Provides every version of `testedVersions`: the system's where it has them, the others unpacked from Debian's
 * packages into the test cache, where later runs find them.
 * @throws Error naming what to install, when a version is missing and cannot be unpacked here.
 */
export async function ensureTestServers(say: Say = () => {}): Promise<void> {
  await ensureServerPrograms(say);
  const present = new Set(findServerPrograms().map(programs => programs.majorVersion));
  for (const version of testedVersions.filter(tested => !present.has(tested))) {
    if (!canUnpackDebianPackages()) {
      throw new Error(
        `PostgreSQL ${version} is missing; add the packages of apt.postgresql.org, then: apt-get install -y postgresql-${version}`,
      );
    }
    say(
      `fetching PostgreSQL ${version} from Debian ${suites[version]}; later runs find it in ${unpackedFolder(version)}`,
    );
    await unpackServer(version);
  }
}

function findUseful(): ServerPrograms | undefined {
  return findSystemPrograms().find(programs => programs.majorVersion >= oldestUseful);
}

async function unpackServer(version: (typeof testedVersions)[number]): Promise<void> {
  const folder = unpackedFolder(version);
  const home = `usr/lib/postgresql/${version}`;
  // What is there did not run: the cache was moved, or an earlier run unpacked something else.
  await rm(folder, { recursive: true, force: true });
  await unpackDebianPackages({
    suite: suites[version],
    packages: [`postgresql-${version}`, `postgresql-client-${version}`],
    folder,
    programFolders: [`${home}/bin`],
    // Just-in-time compilation is half of the size; a server without it does without.
    without: [
      `${home}/lib/bitcode`,
      `${home}/lib/llvmjit*`,
      'usr/share/doc',
      'usr/share/man',
      'usr/share/perl',
      ...llvm,
    ],
  });
  if (inspectPrograms(debianBinDir(folder, version))) return;
  await runProgram(`${folder}/${home}/bin/postgres`, ['--version']);
  throw new Error(
    `PostgreSQL ${version} was unpacked to ${folder}, but some of its programs are missing there`,
  );
}

const llvm = ['x86_64', 'aarch64'].flatMap(cpu => [
  `usr/lib/${cpu}-linux-gnu/libLLVM*`,
  `usr/lib/${cpu}-linux-gnu/libz3*`,
]);

async function installSystemPackage(): Promise<void> {
  const quietly = { DEBIAN_FRONTEND: 'noninteractive' };
  const undo = [await avoidDefaultCluster(), await refuseServiceStart()];
  try {
    await runProgram('apt-get', ['update', '-q'], quietly);
    const options = [
      '-o',
      'DPkg::Lock::Timeout=120',
      '-o',
      'Dpkg::Options::=--force-confold',
      '-o',
      'Acquire::Retries=3',
    ];
    const install = ['install', '-y', '-q', '--no-install-recommends', ...options, 'postgresql'];
    await runProgram('apt-get', install, quietly);
  } finally {
    for (const step of undo) await step();
  }
}

// Both files make the package leave the machine as it is: programs, but no cluster and nothing started.
async function avoidDefaultCluster(): Promise<() => Promise<void>> {
  const folder = '/etc/postgresql-common/createcluster.d';
  const file = `${folder}/pgkeep-programs-only.conf`;
  await mkdir(folder, { recursive: true });
  await writeFile(file, 'create_main_cluster = false\n');
  return () => rm(file, { force: true });
}

async function refuseServiceStart(): Promise<() => Promise<void>> {
  const file = '/usr/sbin/policy-rc.d';
  if (existsSync(file)) return async () => {};
  await writeFile(file, '#!/bin/sh\nexit 101\n');
  await chmod(file, 0o755);
  return () => rm(file, { force: true });
}

if (import.meta.main) await ensureTestServers(line => process.stderr.write(`${line}\n`));
