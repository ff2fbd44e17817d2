// Takes one backup of one database into a repository.
import type { RunOptions } from './events.ts';

export interface CreateBackupOptions extends RunOptions {
  /** A postgres:// URL. Without it libpq's PG* variables of `environment` are used. */
  database?: string | undefined;
  /** libpq's variables (PGHOST, PGPASSWORD, PGPASSFILE, PGSSLMODE, ...); process.env by default. */
  environment?: Readonly<Record<string, string | undefined>>;
  /** Where backups are kept: a folder path (later: s3://, azure://, ...). Made at first use. */
  repository: string;
  /** 64 hexadecimal digits. */
  encryptionKey?: string | undefined;
  /** `false` creates a new repository without encryption; an existing one must agree. */
  encryption?: boolean;
  /** Worker threads, each with its own connection. Default 2. */
  jobs?: number;
  /** Patterns as in pg_dump. */
  schemas?: readonly string[];
  excludeSchemas?: readonly string[];
  tables?: readonly string[];
  excludeTables?: readonly string[];
  excludeTableData?: readonly string[];
  schemaOnly?: boolean;
  tags?: readonly string[];
  reason?: string | undefined;
  /** zstd level, 1 to 19. Default 2. */
  compressionLevel?: number;
  /** How long to wait for each table's ACCESS SHARE lock. Default 60,000. */
  lockTimeoutMs?: number;
  /** How long another session may wait on this backup's locks before the backup gives way. Default 30,000. */
  maxBlockingMs?: number;
  /** Store password hashes of roles too; needs a superuser. */
  rolePasswords?: boolean;
  /** Keep table names out of the public metadata. */
  privateMetadata?: boolean;
  /** A folder with PostgreSQL's client programs; without it they are looked for in the usual places. */
  programs?: string | undefined;
}

/** A relation whose rows (or definition) are not in the backup, and why. */
export interface LeftOut {
  schema: string;
  name: string;
  kind: string;
  reason: string;
}

export interface CreateBackupResult {
  id: string;
  repository: string;
  database: string;
  startedAt: string;
  finishedAt: string;
  durationMs: number;
  tables: number;
  rows: number;
  /** Plain bytes: COPY text and the schema archive. */
  sizeBytes: number;
  /** Bytes of the objects this run added to the storage. */
  newBytes: number;
  /** Stored bytes this backup shares with what was there before. */
  reusedBytes: number;
  newSegments: number;
  reusedSegments: number;
  encrypted: boolean;
  leftOut: LeftOut[];
  globals: { included: boolean; reason?: string };
  warnings: string[];
}
