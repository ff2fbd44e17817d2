// Compares a backup's public metadata, which anybody may have edited, with its manifest.
import type { Manifest } from '../../repository/manifest.ts';
import type { BackupMetadata } from '../../repository/metadata.ts';

/**
 * The fields of the metadata that are not as the manifest has them.
 * @param manifestBytes size of the manifest object.
 */
export function changedFields(metadata: BackupMetadata, manifest: Manifest, manifestBytes: number): string[] {
  const expected: Partial<BackupMetadata> = {
    timestamp: manifest.snapshot.takenAt,
    version: manifest.tool.replace(/^pgkeep /, ''),
    type: 'database',
    database: manifest.database.name,
    tableCount: manifest.tables.length,
    recordCount: sum(manifest.tables, table => table.rows),
    encrypted: manifest.keys.length > 0,
    sizeBytes: manifest.archive.bytes + sum(manifest.tables, table => table.bytes),
    storedBytes: manifest.newBytes + manifest.reusedBytes + manifestBytes,
    newBytes: manifest.newBytes + manifestBytes,
  };
  // Missing when they were to be kept private.
  if (metadata.tables !== undefined)
    expected.tables = manifest.tables.map(table => `${table.schema}.${table.name}`);
  return Object.entries(expected)
    .filter(([name, value]) => !isSame(metadata[name as keyof BackupMetadata], value))
    .map(([name]) => name);
}

function isSame(left: unknown, right: unknown): boolean {
  return JSON.stringify(left) === JSON.stringify(right);
}

function sum<T>(items: readonly T[], value: (item: T) => number): number {
  return items.reduce((total, item) => total + value(item), 0);
}
