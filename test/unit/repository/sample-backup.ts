// A small backup made without a database: what repository tests put into a repository.

import { newBackupId } from '../../../src/repository/backup-id.ts';
import type { Manifest } from '../../../src/repository/manifest.ts';
import type { BackupMetadata } from '../../../src/repository/metadata.ts';
import type { Repository } from '../../../src/repository/repository.ts';

export interface SampleOptions {
  database?: string;
  takenAt?: Date;
  change?: Partial<Manifest>;
}

const noShare = { ranges: 0, rows: 0, bytes: 0 };

/** A manifest with every field, without tables. */
export function sampleManifest(repository: Repository, options: SampleOptions = {}): Manifest {
  const takenAt = (options.takenAt ?? new Date()).toISOString();
  return {
    format: 1,
    requires: [],
    repository: repository.id,
    backup: newBackupId(new Date(takenAt)),
    tool: 'pgkeep test',
    server: {
      version: '15.0',
      versionNumber: 150000,
      systemIdentifier: null,
      timeline: null,
      standby: false,
      startedAt: '1600000000.000001',
    },
    database: {
      oid: '16384',
      xmin: '700',
      name: options.database ?? 'shop',
      encoding: 'UTF8',
      collate: 'C',
      ctype: 'C',
      localeProvider: 'libc',
      locale: null,
      icuRules: null,
      comment: null,
      settings: [],
      owner: 'postgres',
      connectionLimit: -1,
      privileges: null,
    },
    snapshot: { id: '1-1', xids: '1:1:', walPosition: '0/0', walFlushed: true, takenAt },
    startedAt: takenAt,
    finishedAt: takenAt,
    options: {
      schemas: [],
      excludeSchemas: [],
      tables: [],
      excludeTables: [],
      excludeTableData: [],
      schemaOnly: false,
    },
    keys: [],
    archive: { programVersion: '15.0', bytes: 0, segments: [] },
    roles: [],
    extensions: [],
    globals: { roles: [], memberships: [] },
    tables: [],
    partitioned: [],
    leftOut: [],
    incremental: {
      parent: null,
      fullReadAt: takenAt,
      unread: noShare,
      deltas: noShare,
      equal: noShare,
      stored: noShare,
    },
    newBytes: 0,
    reusedBytes: 0,
    ...options.change,
  };
}

/** The metadata of a manifest. */
export function sampleMetadata(
  manifest: Manifest,
  object: { checksum: string; storedBytes: number; encrypted: boolean },
): BackupMetadata {
  return {
    id: manifest.backup,
    timestamp: manifest.snapshot.takenAt,
    version: 'test',
    type: 'database',
    database: manifest.database.name,
    server: manifest.server.systemIdentifier,
    tableCount: manifest.tables.length,
    recordCount: manifest.tables.reduce((sum, table) => sum + table.rows, 0),
    ...object,
    compressed: true,
    sizeBytes: manifest.archive.bytes + manifest.tables.reduce((sum, table) => sum + table.bytes, 0),
    storedBytes: manifest.newBytes + manifest.reusedBytes + object.storedBytes,
    newBytes: manifest.newBytes + object.storedBytes,
    durationMs: 1,
    tags: [],
    reason: null,
    complete: true,
  };
}

/** Stores a backup: manifest, then metadata. */
export async function storeSample(
  repository: Repository,
  options: SampleOptions = {},
): Promise<{ manifest: Manifest; metadata: BackupMetadata }> {
  const manifest = sampleManifest(repository, options);
  const object = await repository.writeManifest(manifest, await repository.newDataKey());
  const metadata = sampleMetadata(manifest, { ...object, encrypted: repository.encrypted });
  await repository.writeMetadata(metadata);
  return { manifest, metadata };
}
