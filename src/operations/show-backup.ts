// Everything one backup's manifest says; needs the key of an encrypted repository.
import type { LeftOutEntry } from '../repository/manifest.ts';
import type { BackupMetadata } from '../repository/metadata.ts';
import { findBackup, Repository } from '../repository/repository.ts';
import { openStorage } from '../storage/open-storage.ts';
import type { StorageOptions } from '../storage/storage-options.ts';

export interface ShowBackupOptions {
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
  extensions: { name: string; version: string }[];
  /** Plain bytes, and bytes in the storage: added by this backup, shared with others, together. */
  sizeBytes: number;
  newBytes: number;
  reusedBytes: number;
  storedBytes: number;
}

/** @throws PgkeepError BACKUP_NOT_FOUND, KEY_MISSING, KEY_WRONG, OBJECT_MISSING, OBJECT_DAMAGED. */
export async function showBackup(options: ShowBackupOptions): Promise<ShownBackup> {
  const storage = await openStorage(options.repository, options.storage);
  try {
    const metadata = await findBackup(storage, options.backup, options.database);
    const repository = await Repository.open(storage, options.encryptionKey);
    const manifest = await repository.readManifest(metadata);
    return {
      metadata,
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
      extensions: manifest.extensions.map(({ name, version }) => ({ name, version })),
      sizeBytes: metadata.sizeBytes,
      newBytes: metadata.newBytes,
      reusedBytes: manifest.reusedBytes,
      storedBytes: metadata.storedBytes,
    };
  } finally {
    await storage.close();
  }
}
