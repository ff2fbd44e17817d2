// Provides OpenStack Swift, an S3 server that lacks some of what S3 has, unpacked from Debian's packages into the test
// cache. Run by itself, it does only that: npx node test/services/install-swift.ts

import { existsSync, readdirSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { testCache } from '../support/test-cache.ts';
import { canUnpackDebianPackages, unpackDebianPackages } from './debian-packages.ts';

export interface SwiftPrograms {
  /** Swift is a set of Python modules: runs the unpacked Python, whose words follow these. */
  python: readonly string[];
  /** What it finds its modules by. */
  pythonEnvironment: Readonly<Record<string, string>>;
  memcached: readonly string[];
}

const suite = 'trixie';

/**
 * Finds Swift in the cache, or fetches it there.
 * @throws Error where Debian's packages cannot be had.
 */
export async function ensureSwift(say: (line: string) => void = () => {}): Promise<SwiftPrograms> {
  const folder = join(testCache(), `swift-${suite}`);
  const present = inspect(folder);
  if (present) return present;
  if (!canUnpackDebianPackages()) {
    throw new Error(
      "Swift is missing, and only Debian's package archive has it: run these tests on Debian 12 or newer, or elsewhere in a container of it: docker run debian:bookworm",
    );
  }
  say(`fetching Swift from Debian ${suite}; later runs find it in ${folder}`);
  await rm(folder, { recursive: true, force: true });
  await unpackDebianPackages({
    suite,
    packages: ['python3-swift', 'memcached'],
    folder,
    // Modules of Python find their libraries by the loader's path alone.
    programFolders: [],
    without: [
      'usr/share',
      'usr/include',
      'usr/sbin',
      'usr/lib/systemd',
      'usr/lib/x86_64-linux-gnu/perl*',
      'usr/lib/x86_64-linux-gnu/gconv',
      'usr/lib/x86_64-linux-gnu/systemd',
    ],
  });
  const unpacked = inspect(folder);
  if (unpacked) return unpacked;
  throw new Error(`Swift was unpacked to ${folder}, but some of it is missing there`);
}

function inspect(folder: string): SwiftPrograms | undefined {
  const modules = join(folder, 'usr/lib/python3/dist-packages');
  const programs = join(folder, 'usr/bin');
  if (!existsSync(join(modules, 'swift')) || !existsSync(join(programs, 'memcached'))) return undefined;
  const pythonName = readdirSync(programs).find(name => /^python3\.\d+$/.test(name));
  const architecture = readdirSync(join(folder, 'usr/lib')).find(name => name.endsWith('-linux-gnu'));
  if (pythonName === undefined || architecture === undefined) return undefined;
  const libraries = join(folder, 'usr/lib', architecture);
  const loader = readdirSync(libraries).find(name => /^ld-linux[^/]*\.so\.\d$/.test(name));
  if (loader === undefined) return undefined;
  const run = (program: string) => [
    ...[join(libraries, loader), '--library-path', libraries, '--argv0', program, join(programs, program)],
  ];
  return {
    python: run(pythonName),
    pythonEnvironment: { PYTHONHOME: join(folder, 'usr'), PYTHONPATH: modules },
    memcached: run('memcached'),
  };
}

if (import.meta.main) await ensureSwift(line => process.stderr.write(`${line}\n`));
