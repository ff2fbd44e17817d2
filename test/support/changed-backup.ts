// Stores another backup whose manifest is that of an earlier one, changed: for what create would not write.

import { newBackupId } from '../../src/repository/backup-id.ts';
import type { Manifest, TableEntry } from '../../src/repository/manifest.ts';
import { findBackup, Repository } from '../../src/repository/repository.ts';
import { SegmentStore } from '../../src/repository/segment-store.ts';
import { LocalStorage } from '../../src/storage/local/local-storage.ts';
import { testKey } from './round-trip.ts';

/** @param change gets a copy of the manifest, whose segments are known to the store. @returns the id of the new backup. */
export async function storeChanged(
  folder: string,
  original: string,
  change: (manifest: Manifest, store: SegmentStore, repository: Repository) => Promise<Partial<Manifest>>,
): Promise<string> {
  const repository = await Repository.open(new LocalStorage(folder), testKey);
  const metadata = await findBackup(repository.storage, original);
  const manifest = await repository.readManifest(metadata);
  const key = await repository.newDataKey();
  const store = new SegmentStore(repository, key, 1);
  const id = newBackupId(new Date());
  const changed = await change(structuredClone(manifest), store, repository);
  const whole = { ...manifest, backup: id, ...changed };
  const { checksum, storedBytes } = await repository.writeManifest(whole, key);
  const sum = (value: (table: TableEntry) => number) =>
    whole.tables.reduce((total, one) => total + value(one), 0);
  await repository.writeMetadata({
    ...metadata,
    id,
    checksum,
    tables: whole.tables.map(table => `${table.schema}.${table.name}`),
    tableCount: whole.tables.length,
    recordCount: sum(table => table.rows),
    sizeBytes: whole.archive.bytes + sum(table => table.bytes),
    storedBytes: whole.newBytes + whole.reusedBytes + storedBytes,
    newBytes: whole.newBytes + storedBytes,
  });
  return id;
}
