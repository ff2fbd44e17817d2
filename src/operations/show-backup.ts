// Everything one backup's manifest says; needs the key of an encrypted repository.
import { backupLockedUntil } from '../repository/backup-lock.ts';
import type { IncrementalFacts, LeftOutEntry } from '../repository/manifest.ts';
import type { BackupMetadata } from '../repository/metadata.ts';
import { findBackup, Repository } from '../repository/repository.ts';
import { readVerification, type VerificationRecord } from '../repository/verification.ts';
import type { Traffic } from '../storage/counting-storage.ts';
import { openStorageToRead } from '../storage/open-storage.ts';
import type { StorageOptions } from '../storage/storage-options.ts';
import type { RunOptions } from './events.ts';

export interface ShowBackupOptions extends RunOptions {
  repository: string;
  /** How the storage is reached, where the address alone does not say it. */
  storage?: StorageOptions | undefined;
  encryptionKey?: string | undefined;
  /** A backup id or `latest`. */
  backup: string;
  /** Narrows `latest` to one database. */
  database?: string | undefined;
}

export interface ShownBackup {
  metadata: BackupMetadata;
  /** What its last verification found; `null` when there was none, or it was one of another manifest. */
  verified: VerificationRecord | null;
  /** Until when nobody can delete it, ISO 8601; `null` when nothing keeps it. */
  lockedUntil: string | null;
  repository: string;
  serverVersion: string;
  toolVersion: string;
  pgDumpVersion: string;
  snapshot: { takenAt: string; walPosition: string; timeline: string | null; standby: boolean };
  startedAt: string;
  finishedAt: string;
  durationMs: number;
  /** Largest first. `bytes` is COPY text. */
  tables: { schema: string; name: string; rows: number; bytes: number }[];
  leftOut: LeftOutEntry[];
  roles: { included: boolean; reason?: string };
  /** How the rows came into the backup. */
  incremental: IncrementalFacts;
  extensions: { name: string; version: string }[];
  /** Plain bytes, and bytes in the storage: added by this backup, shared with others, together. */
  sizeBytes: number;
  newBytes: number;
  reusedBytes: number;
  storedBytes: number;
  /** What the run had asked of the storage before it stored the manifest; `null` when it was not noted. */
  traffic: Traffic | null;
}

/** @throws PgkeepError BACKUP_NOT_FOUND, KEY_MISSING, KEY_WRONG, OBJECT_MISSING, OBJECT_DAMAGED. */
export async function showBackup(options: ShowBackupOptions): Promise<ShownBackup> {
  const storage = await openStorageToRead(options.repository, options.storage, options.signal);
  try {
    const warn = (message: string, hint?: string) =>
      options.onEvent?.({ type: 'warning', message, ...(hint !== undefined && { hint }) });
    const metadata = await findBackup(storage, options.backup, options.database, warn);
    const repository = await Repository.open(storage, options.encryptionKey);
    const manifest = await repository.readManifest(metadata);
    const { record, damaged } = await readVerification(storage, metadata.id);
    if (damaged !== undefined) warn(damaged.message, damaged.hint);
    return {
      metadata,
      verified: record?.checksum === metadata.checksum ? record : null,
      lockedUntil: (await backupLockedUntil(storage, metadata.id))?.toISOString() ?? null,
      repository: storage.location,
      serverVersion: manifest.server.version,
      toolVersion: manifest.tool,
      pgDumpVersion: manifest.archive.programVersion,
      snapshot: {
        takenAt: manifest.snapshot.takenAt,
        walPosition: manifest.snapshot.walPosition,
        timeline: manifest.server.timeline,
        standby: manifest.server.standby,
      },
      startedAt: manifest.startedAt,
      finishedAt: manifest.finishedAt,
      durationMs: metadata.durationMs,
      tables: manifest.tables
        .map(({ schema, name, rows, bytes }) => ({ schema, name, rows, bytes }))
        .sort((a, b) => b.bytes - a.bytes),
      leftOut: manifest.leftOut,
      roles:
        'missing' in manifest.globals
          ? { included: false, reason: manifest.globals.missing }
          : { included: true },
      incremental: manifest.incremental,
      extensions: manifest.extensions.map(({ name, version }) => ({ name, version })),
      sizeBytes: metadata.sizeBytes,
      newBytes: metadata.newBytes,
      reusedBytes: manifest.reusedBytes,
      storedBytes: metadata.storedBytes,
      traffic: manifest.traffic ?? null,
    };
  } finally {
    await storage.close();
  }
}
