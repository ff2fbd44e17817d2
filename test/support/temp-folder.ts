// Throwaway folders for tests and the demo, gone when the process that made them is.

import { chmodSync, chownSync, mkdtempSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { removeAfterExit } from './after-exit.ts';
import { closedFolder, type ServerAccount, serverAccount } from './server-account.ts';

export interface TempFolder extends AsyncDisposable {
  path: string;
  /** Removes the folder now rather than at the end of the process. A second call is harmless. */
  remove(): Promise<void>;
}

/** Makes a folder that only the current user (or the given account) can read. `purpose` becomes part of its name. */
export function makeTempFolder(purpose = 'test', owner?: ServerAccount): TempFolder {
  const path = mkdtempSync(join(temporaryBase(), `pgkeep-${purpose}-`));
  if (owner?.ids.uid !== undefined && owner.ids.gid !== undefined) {
    chownSync(path, owner.ids.uid, owner.ids.gid);
    chmodSync(path, 0o755);
  }
  const forget = removeAfterExit(path);
  const remove = async () => {
    await rm(path, { recursive: true, force: true, maxRetries: 3 });
    forget();
  };
  return { path, remove, [Symbol.asyncDispose]: remove };
}

// A socket's path may have 107 bytes, and the account of the servers must be able to reach it: a TMPDIR that
// is too deep or closed to that account is passed over.
function temporaryBase(): string {
  const chosen = tmpdir();
  return chosen.length <= 50 && closedFolder(chosen, serverAccount()) === undefined ? chosen : '/tmp';
}
