// Provides Ceph's S3 gateway, a real S3 server, unpacked from Debian's packages into the test cache. Run by itself, it
// does only that: npx node test/services/install-ceph.ts

import { existsSync, readdirSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { testCache } from '../support/test-cache.ts';
import { canUnpackDebianPackages, unpackDebianPackages } from './debian-packages.ts';

export interface CephPrograms {
  /** The unpacked tree. */
  folder: string;
  /** Its folder of libraries, which has the loader too. */
  libraries: string;
}

const suite = 'trixie';
const programs = [
  'ceph-mon',
  'ceph-osd',
  'ceph-authtool',
  'monmaptool',
  'osdmaptool',
  'radosgw',
  'radosgw-admin',
];

/**
 * Finds the programs in the cache, or fetches them there.
 * @throws Error where Debian's packages cannot be had.
 */
export async function ensureCeph(say: (line: string) => void = () => {}): Promise<CephPrograms> {
  const folder = join(testCache(), `ceph-${suite}`);
  const present = inspect(folder);
  if (present) return present;
  if (!canUnpackDebianPackages()) {
    throw new Error(
      `Ceph is missing, and only Debian's package archive has it: run these tests on Debian 12 or newer`,
    );
  }
  say(`fetching Ceph from Debian ${suite}; later runs find it in ${folder}`);
  await rm(folder, { recursive: true, force: true });
  await unpackDebianPackages({
    suite,
    packages: ['radosgw', 'ceph-mon', 'ceph-osd'],
    folder,
    // Its libraries name a folder of the system, which outranks what patchelf can write into the programs.
    programFolders: [],
    without: [
      'usr/share/doc',
      'usr/share/man',
      'usr/share/locale',
      'usr/share/perl',
      'usr/lib/python3*',
      'usr/lib/systemd',
    ],
  });
  const unpacked = inspect(folder);
  if (unpacked) return unpacked;
  throw new Error(`Ceph was unpacked to ${folder}, but some of its programs are missing there`);
}

function inspect(folder: string): CephPrograms | undefined {
  if (!programs.every(name => existsSync(join(folder, 'usr/bin', name)))) return undefined;
  const name = readdirSync(join(folder, 'usr/lib')).find(entry => entry.endsWith('-linux-gnu'));
  return name === undefined ? undefined : { folder, libraries: join(folder, 'usr/lib', name) };
}

if (import.meta.main) await ensureCeph(line => process.stderr.write(`${line}\n`));
