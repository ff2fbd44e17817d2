// The folder of what is expensive to make and good for many runs: unpacked PostgreSQL versions, and a prepared
// data directory of each. It may be deleted at any time.

import { chmodSync, mkdirSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { closedFolder, serverAccount } from './server-account.ts';

/**
 * PGKEEP_TEST_CACHE if set, else `.cache` of the checkout; where the servers' account cannot reach the checkout
 * (as under /root), a folder beside the temporary files.
 * @throws Error when PGKEEP_TEST_CACHE is closed to that account, or somebody else made the folder beside the temporary files.
 */
export function testCache(): string {
  const account = serverAccount();
  const chosen = process.env.PGKEEP_TEST_CACHE;
  if (chosen) {
    const folder = makeFolder(resolve(chosen));
    const closed = closedFolder(folder, account);
    if (!closed) return folder;
    throw new Error(
      `PGKEEP_TEST_CACHE is ${folder}, but ${closed} is closed to the account ${account.name} that servers run as; choose another folder`,
    );
  }
  const checkout = resolve(import.meta.dirname, '../..');
  const inCheckout = join(checkout, '.cache');
  if (!closedFolder(checkout, account) && !closedFolder(makeFolder(inCheckout), account)) return inCheckout;

  const self = process.getuid?.() ?? 0;
  const folder = makeFolder(
    join(closedFolder(tmpdir(), account) ? '/tmp' : tmpdir(), `pgkeep-cache-${self}`),
  );
  // Programs are run from here, and anybody could have put something in this place first.
  if (statSync(folder).uid === self) return folder;
  throw new Error(`${folder} belongs to another user; remove it or set PGKEEP_TEST_CACHE`);
}

function makeFolder(folder: string): string {
  const first = mkdirSync(folder, { recursive: true });
  // Open to the servers' account whatever the umask.
  for (let made = folder; first !== undefined && made.startsWith(first); made = dirname(made))
    chmodSync(made, 0o755);
  return folder;
}
