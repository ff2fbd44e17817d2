// Lists the backups of a repository from their public metadata; needs no key.
import type { RunOptions } from './events.ts';

export interface ListBackupsOptions extends RunOptions {
  repository: string;
  database?: string | undefined;
  /** Every tag must be on the backup. */
  tags?: readonly string[];
  /** Only backups taken at or after this time. */
  since?: Date | undefined;
  limit?: number | undefined;
}
