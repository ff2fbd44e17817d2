// Everything one backup's manifest says; needs the key of an encrypted repository.
import type { RunOptions } from './events.ts';

export interface ShowBackupOptions extends RunOptions {
  repository: string;
  encryptionKey?: string | undefined;
  /** A backup id or `latest`. */
  backup: string;
  /** Narrows `latest` to one database. */
  database?: string | undefined;
}
