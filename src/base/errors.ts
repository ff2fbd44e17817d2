// Every failure of pgkeep is a PgkeepError with a code of the table below; docs/errors.md lists the same table
// and a test compares the two. Foreign errors (errno, SQLSTATE, exit status) are translated once, where they arise.
// Voice of a message: which thing, what happened; lower case, no final period. The hint says what to do next.

/** Exit codes of the command line, by the kind of failure. */
export const exitCodes = {
  success: 0,
  internal: 1,
  usage: 2,
  key: 3,
  repository: 4,
  database: 5,
  backup: 6,
  program: 7,
  restore: 8,
  verification: 9,
  partial: 10,
  doctor: 11,
  replica: 12,
  mismatch: 13,
  interrupted: 130,
} as const;

export type FailureKind = keyof typeof exitCodes;

/** Code -> kind (which gives the exit code) and the one-line meaning that the documentation prints. */
export const errorTable = {
  INTERNAL: { kind: 'internal', meaning: 'a fault in pgkeep itself; please report it with the message' },
  INTERRUPTED: { kind: 'interrupted', meaning: 'the run was ended by a signal (Ctrl-C) or by the caller' },

  OPTION_INVALID: {
    kind: 'usage',
    meaning: 'a command, flag, argument or environment value cannot be used as given',
  },
  CONFIG_INVALID: {
    kind: 'usage',
    meaning: 'the configuration file cannot be read or holds something unknown or wrong',
  },

  KEY_MISSING: { kind: 'key', meaning: 'the repository needs a key and none was given' },
  KEY_MALFORMED: { kind: 'key', meaning: 'the key is not 64 hexadecimal digits' },
  KEY_WRONG: { kind: 'key', meaning: 'the key is well formed, but not a key of this repository' },
  RECIPIENT_UNSUPPORTED: {
    kind: 'key',
    meaning: 'the key is wrapped in a way this version of pgkeep does not know',
  },

  REPOSITORY_NOT_FOUND: { kind: 'repository', meaning: 'there is no repository at the given place' },
  REPOSITORY_UNSUPPORTED: { kind: 'repository', meaning: 'the repository or backup needs a newer pgkeep' },
  REPOSITORY_MISMATCH: {
    kind: 'repository',
    meaning: 'an object belongs to another repository, or encryption differs from what was asked',
  },
  BACKUP_NOT_FOUND: { kind: 'repository', meaning: 'no backup with that id, or none at all' },
  LAST_GOOD_BACKUP: {
    kind: 'repository',
    meaning:
      'the last good backup of its series (one database of one server, whole or the same part) is not deleted without --force',
  },
  OBJECT_MISSING: { kind: 'repository', meaning: 'an object that a backup names is not in the storage' },
  OBJECT_DAMAGED: {
    kind: 'repository',
    meaning: 'an object was read, but its contents are not what was written',
  },
  CONTENT_MISMATCH: {
    kind: 'repository',
    meaning: 'objects are whole, but what they hold is not what the manifest counts',
  },
  OBJECT_LOCKED: {
    kind: 'repository',
    meaning: 'nobody can delete it before its lock in the storage is over (--lock-days)',
  },
  OBJECT_EXISTS: { kind: 'repository', meaning: 'an object that must be new exists already' },
  STORAGE_UNREACHABLE: {
    kind: 'repository',
    meaning: 'the storage did not answer, or failed for a reason of its own',
  },
  STORAGE_NOT_FOUND: {
    kind: 'repository',
    meaning: 'the bucket, the container or the account that should hold the repository does not exist',
  },
  STORAGE_CREDENTIALS: {
    kind: 'repository',
    meaning: 'the storage does not accept the credentials, or none were found',
  },
  STORAGE_DENIED: { kind: 'repository', meaning: 'the storage refused access' },
  STORAGE_FULL: { kind: 'repository', meaning: 'the storage has no space left' },
  STORAGE_UNFIT: { kind: 'repository', meaning: 'the storage cannot do what a repository needs' },
  HOST_KEY_UNKNOWN: {
    kind: 'repository',
    meaning: 'the key of an SFTP server is not among the known hosts, so it may be any server',
  },
  HOST_KEY_CHANGED: {
    kind: 'repository',
    meaning: 'an SFTP server has shown another key than the one it is known by, or a revoked one',
  },

  DATABASE_NOT_GIVEN: {
    kind: 'database',
    meaning: 'no database was named: neither DATABASE_URL nor PG* are set',
  },
  DATABASE_UNREACHABLE: { kind: 'database', meaning: 'the server did not answer at that host and port' },
  DATABASE_AUTHENTICATION: { kind: 'database', meaning: 'the server refused the user or password' },
  DATABASE_NOT_FOUND: { kind: 'database', meaning: 'the server has no database of that name' },
  DATABASE_TLS: {
    kind: 'database',
    meaning: 'the encrypted connection could not be made as sslmode demands',
  },
  DATABASE_UNSUPPORTED: {
    kind: 'database',
    meaning: 'the server is of a version that pgkeep does not work with',
  },
  DATABASE_PRIVILEGE: { kind: 'database', meaning: 'the role may not do what the run needs' },
  DATABASE_CONNECTION_LOST: {
    kind: 'database',
    meaning: 'the connection or the server ended during the run',
  },
  DATABASE_QUERY: { kind: 'database', meaning: 'the server refused a statement' },

  LOCK_TIMEOUT: { kind: 'backup', meaning: 'a table could not be locked within --lock-timeout' },
  BLOCKING_OTHERS: {
    kind: 'backup',
    meaning: 'other sessions waited on the backup for longer than --max-blocking',
  },
  CATALOG_UNSTABLE: {
    kind: 'backup',
    meaning: 'tables kept being created or dropped while the backup tried to begin',
  },
  ROW_SECURITY: {
    kind: 'backup',
    meaning: 'row-level security hides rows from the role, so the backup would be short',
  },
  STANDBY_CONFLICT: { kind: 'backup', meaning: 'the hot standby cancelled the backup in favour of replay' },
  CLEANUP_CONFLICT: {
    kind: 'backup',
    meaning: 'a cleanup was deleting objects that the run needs, or two cleanups met; run again',
  },
  SHARD_MISSING: {
    kind: 'backup',
    meaning: 'a shard of the backup neither did its part nor was at work for longer than --shard-timeout',
  },
  SHARD_FAILED: {
    kind: 'backup',
    meaning: 'a shard of the backup failed three times; the message has what it failed with last',
  },
  SHARDS_ENDED: {
    kind: 'backup',
    meaning: 'the run that a shard belongs to has ended without a backup, or is not to be found',
  },
  SHARD_MISMATCH: {
    kind: 'backup',
    meaning: 'a shard was given another server, database, number of shards or version than its backup',
  },
  BACKUP_INCOMPLETE: { kind: 'backup', meaning: 'what was stored does not match the catalog' },

  INCREMENTAL_MISMATCH: {
    kind: 'mismatch',
    meaning:
      'what was read does not follow from the backup that it was to build on; this backup was read in full and is right, earlier ones may not be',
  },

  VERIFICATION_FAILED: { kind: 'verification', meaning: 'a backup failed its verification' },

  BACKUP_PARTIAL: {
    kind: 'partial',
    meaning:
      'the backup was stored, but tables the role may not read are missing from it (--skip-unreadable)',
  },

  REPLICA_FAILED: {
    kind: 'replica',
    meaning: 'backups are stored where they were made, but not all of them in the second repository',
  },

  CHECK_FAILED: { kind: 'doctor', meaning: 'at least one check of doctor or storage probe failed' },

  PROGRAM_MISSING: { kind: 'program', meaning: 'a PostgreSQL client program was not found' },
  PROGRAM_TOO_OLD: { kind: 'program', meaning: 'every PostgreSQL client program found is older than needed' },
  PROGRAM_FAILED: { kind: 'program', meaning: 'a PostgreSQL client program ended with an error' },

  TARGET_NOT_EMPTY: { kind: 'restore', meaning: 'the database to restore into holds something of its own' },
  TARGET_EXISTS: { kind: 'restore', meaning: 'the database to create exists already' },
  TARGET_UNFINISHED: {
    kind: 'restore',
    meaning: 'the target holds a restore that was cut short; it can be gone on with, or begun anew',
  },
  TARGET_UNFIT: {
    kind: 'restore',
    meaning: 'the target lacks what the backup needs (roles, extensions, tables, version)',
  },
  TABLE_NOT_IN_BACKUP: { kind: 'restore', meaning: 'a table asked for is not in the backup' },
  RESTORE_INCOMPLETE: { kind: 'restore', meaning: 'what was restored is not all that the backup holds' },
} as const satisfies Record<string, { kind: FailureKind; meaning: string }>;

export type ErrorCode = keyof typeof errorTable;

export interface ErrorDetails {
  /** What the reader should do next, as a sentence without final period. */
  hint?: string;
  /** Machine-readable facts, printed by --json; never secrets. */
  context?: Readonly<Record<string, string | number | boolean | readonly string[]>>;
  cause?: unknown;
}

export class PgkeepError extends Error {
  override readonly name = 'PgkeepError';
  readonly code: ErrorCode;
  readonly hint: string | undefined;
  readonly context: NonNullable<ErrorDetails['context']>;

  constructor(code: ErrorCode, message: string, details: ErrorDetails = {}) {
    super(message, details.cause === undefined ? {} : { cause: details.cause });
    this.code = code;
    this.hint = details.hint;
    this.context = details.context ?? {};
  }

  /** The exit status of a command that ends with this error. */
  get exitCode(): number {
    return exitCodes[errorTable[this.code].kind];
  }
}

/** The error as plain data that survives a thread boundary and JSON; the inverse is {@link errorFromData}. */
export interface ErrorData {
  code: ErrorCode;
  message: string;
  hint?: string;
  context?: ErrorDetails['context'];
}

export function errorToData(error: unknown): ErrorData {
  if (!(error instanceof PgkeepError)) {
    return {
      code: 'INTERNAL',
      message: error instanceof Error ? (error.stack ?? error.message) : String(error),
    };
  }
  const data: ErrorData = { code: error.code, message: error.message };
  if (error.hint !== undefined) data.hint = error.hint;
  if (Object.keys(error.context).length > 0) data.context = error.context;
  return data;
}

export function errorFromData(data: ErrorData): PgkeepError {
  const details: ErrorDetails = {};
  if (data.hint !== undefined) details.hint = data.hint;
  if (data.context !== undefined) details.context = data.context;
  return new PgkeepError(data.code, data.message, details);
}

/** The errno or SQLSTATE of a foreign error, if it has one. */
export function foreignCode(error: unknown): string | undefined {
  if (typeof error !== 'object' || error === null || !('code' in error)) return undefined;
  return typeof error.code === 'string' ? error.code : undefined;
}

/** @throws PgkeepError INTERRUPTED when the signal has been aborted. */
export function throwIfAborted(signal: AbortSignal | undefined): void {
  if (!signal?.aborted) return;
  if (signal.reason instanceof PgkeepError) throw signal.reason;
  throw new PgkeepError('INTERRUPTED', 'the run was interrupted', { cause: signal.reason });
}
