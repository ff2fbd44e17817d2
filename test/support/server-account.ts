// The account that test servers run as. PostgreSQL refuses to run as root, so root hands its servers to
// `postgres`, or to `nobody` where no PostgreSQL package has made that account; everybody else runs their own.

import { accessSync, constants, readFileSync, statSync } from 'node:fs';
import { dirname, resolve } from 'node:path';

export interface ServerAccount {
  name: string;
  /** For the options of spawn: the ids to drop to, or nothing when no drop is needed. */
  ids: { uid?: number; gid?: number };
}

/** @throws Error when running as root on a machine that has neither account. */
export function serverAccount(): ServerAccount {
  const uid = process.getuid?.();
  if (uid !== 0) return { name: uid === undefined ? 'self' : `uid${uid}`, ids: {} };
  const accounts = readFileSync('/etc/passwd', 'utf8')
    .split('\n')
    .map(line => line.split(':'));
  for (const name of ['postgres', 'nobody']) {
    const fields = accounts.find(account => account[0] === name);
    if (fields) return { name, ids: { uid: Number(fields[2]), gid: Number(fields[3]) } };
  }
  throw new Error(
    'servers cannot run as root, and /etc/passwd has neither postgres nor nobody; add one of them',
  );
}

/** The first folder on the way to `path` that the account may not pass through, if there is one. */
export function closedFolder(path: string, account: ServerAccount): string | undefined {
  const folders: string[] = [];
  for (let folder = resolve(path); ; folder = dirname(folder)) {
    folders.unshift(folder);
    if (folder === dirname(folder)) break;
  }
  return folders.find(folder => !mayPass(folder, account));
}

function mayPass(folder: string, account: ServerAccount): boolean {
  if (account.ids.uid === undefined) {
    try {
      accessSync(folder, constants.X_OK);
      return true;
    } catch {
      return false;
    }
  }
  const found = statSync(folder, { throwIfNoEntry: false });
  if (!found) return false;
  // Only the classes that matter for a dropped root: owner, group, others.
  if (found.uid === account.ids.uid) return (found.mode & 0o100) !== 0;
  if (found.gid === account.ids.gid) return (found.mode & 0o010) !== 0;
  return (found.mode & 0o001) !== 0;
}
