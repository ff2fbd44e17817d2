// The folder of what is expensive to make and good for many runs: unpacked PostgreSQL versions, and a prepared
// data directory of each. It may be deleted at any time.

import { mkdirSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { closedFolder, serverAccount } from './server-account.ts';

/**
 * PGKEEP_TEST_CACHE if set, else `.cache` of the checkout; where the servers' account cannot reach the checkout
 * (as under /root), a folder beside the temporary files.
 * @throws Error when PGKEEP_TEST_CACHE is closed to that account, or the folder belongs to somebody else.
 */
export function testCache(): string {
  const account = serverAccount();
  const chosen = process.env.PGKEEP_TEST_CACHE;
  if (chosen) {
    const folder = ownFolder(resolve(chosen));
    const closed = closedFolder(folder, account);
    if (!closed) return folder;
    throw new Error(
      `PGKEEP_TEST_CACHE is ${folder}, but ${closed} is closed to the account ${account.name} that servers run as; choose another folder`,
    );
  }
  const checkout = resolve(import.meta.dirname, '../..');
  if (!closedFolder(checkout, account)) return ownFolder(join(checkout, '.cache'));
  const base = closedFolder(tmpdir(), account) ? '/tmp' : tmpdir();
  return ownFolder(join(base, `pgkeep-cache-${process.getuid?.() ?? 0}`));
}

// Programs are run from here, so a folder that somebody else put in place is not used.
function ownFolder(folder: string): string {
  mkdirSync(folder, { recursive: true, mode: 0o755 });
  const owner = statSync(folder).uid;
  const self = process.getuid?.() ?? owner;
  if (owner !== self && self !== 0) {
    throw new Error(`${folder} belongs to another user (uid ${owner}); remove it or set PGKEEP_TEST_CACHE`);
  }
  if (owner !== self && folder.startsWith(tmpdir())) {
    throw new Error(`${folder} belongs to another user (uid ${owner}); remove it or set PGKEEP_TEST_CACHE`);
  }
  return folder;
}
