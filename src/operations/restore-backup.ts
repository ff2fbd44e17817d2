// Restores a backup into a new or empty database.
import type { RunOptions } from './events.ts';

export interface RestoreBackupOptions extends RunOptions {
  repository: string;
  encryptionKey?: string | undefined;
  /** A backup id or `latest`. */
  backup: string;
  /** Narrows `latest` to the backups of this database. */
  sourceDatabase?: string | undefined;
  /** postgres:// URL of the target; without it PG* of `environment`. */
  to?: string | undefined;
  environment?: Readonly<Record<string, string | undefined>>;
  /** Create the target database first; it must not exist. */
  create?: boolean;
  jobs?: number;
  /** Patterns as in pg_dump: only these tables, with what belongs to them. */
  tables?: readonly string[];
  schemaOnly?: boolean;
  dataOnly?: boolean;
  /** Objects belong to the restoring role. */
  noOwner?: boolean;
  /** Leave out GRANT and REVOKE. */
  noPrivileges?: boolean;
  /** Create the roles the backup names and the target lacks (without passwords unless stored). */
  createRoles?: boolean;
  /** Check everything, change nothing; the result says what would be done. */
  dryRun?: boolean;
  /** A folder with PostgreSQL's client programs. */
  programs?: string | undefined;
}

export interface RestoreBackupResult {
  backup: string;
  database: string;
  dryRun: boolean;
  tables: number;
  rows: number;
  bytes: number;
  durationMs: number;
  /** The steps, in order, in words; with dryRun what would be done. */
  plan: string[];
  warnings: string[];
}
