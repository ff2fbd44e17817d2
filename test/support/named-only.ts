// Whether a repository holds exactly what its manifests name.

import { expect } from 'vitest';
import { sealedKeyId } from '../../src/crypto/seal.ts';
import { keyName, manifestName, metadataName, segmentPrefix } from '../../src/repository/layout.ts';
import { readNamedObjects } from '../../src/repository/named-objects.ts';
import { Repository, readAllMetadata } from '../../src/repository/repository.ts';
import { openStorage } from '../../src/storage/open-storage.ts';
import type { StorageOptions } from '../../src/storage/storage-options.ts';
import { testKey } from './round-trip.ts';

/** Fails when something is missing, or there is anything else than backups and what they need. */
export async function expectNamedOnly(address: string, options?: StorageOptions): Promise<void> {
  const storage = await openStorage(address, options);
  try {
    const repository = await Repository.open(storage, testKey);
    const { backups, damaged } = await readAllMetadata(storage);
    expect(damaged).toEqual([]);
    const named = await readNamedObjects(repository, undefined);
    expect(named.unreadable).toEqual([]);
    expect([...named.orphans]).toEqual([]);
    const found: string[] = [];
    let segments = 0;
    for await (const { name } of storage.list('')) {
      if (/^(verified|recovery)\//.test(name)) continue;
      if (!name.startsWith(segmentPrefix)) {
        found.push(name);
        continue;
      }
      expect(named.segments.has(name.slice(name.lastIndexOf('/') + 1)), `${name} is needed`).toBe(true);
      segments++;
      // Where a segment was replaced, its header alone names the key.
      const keyId = sealedKeyId(name, await storage.get(name));
      if (keyId !== null) named.keys.add(keyId);
    }
    expect(segments).toBe(named.segments.size);
    expect(found.sort()).toEqual(
      [
        'pgkeep.json',
        ...[...named.keys].map(keyName),
        ...backups.flatMap(({ id }) => [metadataName(id), manifestName(id)]),
      ].sort(),
    );
  } finally {
    await storage.close();
  }
}
