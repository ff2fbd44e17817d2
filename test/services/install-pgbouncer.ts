// Provides PgBouncer, unpacked from Debian's packages into the test cache. Run by itself, it does only that:
// npx node test/services/install-pgbouncer.ts

import { existsSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { testCache } from '../support/test-cache.ts';
import { canUnpackDebianPackages, unpackDebianPackages } from './debian-packages.ts';

const suite = 'trixie';

/**
 * Finds the program in the cache, or fetches it there.
 * @throws Error where Debian's packages cannot be had.
 */
export async function ensurePgbouncer(say: (line: string) => void = () => {}): Promise<string> {
  const folder = join(testCache(), `pgbouncer-${suite}`);
  const program = join(folder, 'usr/sbin/pgbouncer');
  if (existsSync(program)) return program;
  if (!canUnpackDebianPackages()) {
    throw new Error(
      `PgBouncer is missing, and only Debian's package archive has it: run these tests on Debian 12 or newer`,
    );
  }
  say(`fetching PgBouncer from Debian ${suite}; later runs find it in ${folder}`);
  await rm(folder, { recursive: true, force: true });
  await unpackDebianPackages({
    suite,
    packages: ['pgbouncer'],
    folder,
    programFolders: ['usr/sbin'],
    without: ['usr/share', 'usr/lib/systemd', 'usr/bin/perl*', 'usr/lib/python3*'],
  });
  return program;
}

if (import.meta.main) await ensurePgbouncer(line => process.stderr.write(`${line}\n`));
