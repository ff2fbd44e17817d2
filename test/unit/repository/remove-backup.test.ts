import { existsSync, mkdirSync, truncateSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { manifestName, metadataName } from '../../../src/repository/layout.ts';
import { removeBackup } from '../../../src/repository/remove-backup.ts';
import { LocalStorage } from '../../../src/storage/local/local-storage.ts';
import { makeTempFolder } from '../../support/temp-folder.ts';

const [damaged, other] = ['backup-1642684800000-a1b2c3d4', 'backup-1642684900000-a1b2c3d5'];

describe('a backup of which metadata or manifest cannot be read whole', () => {
  const names = { metadata: metadataName(damaged), manifest: manifestName(damaged) };

  test.each([
    { grown: names.metadata, others: [] },
    { grown: names.metadata, others: [other] },
    { grown: names.manifest, others: [] },
  ])('is removed all the same: $grown, with $others', async ({ grown, others }) => {
    await using folder = makeTempFolder('repository');
    const path = (name: string) => join(folder.path, name);
    for (const name of Object.values(names)) {
      mkdirSync(dirname(path(name)), { recursive: true });
      writeFileSync(path(name), '{}');
    }
    truncateSync(path(grown), 200 * 1024 * 1024);
    await removeBackup(new LocalStorage(folder.path), damaged, others);
    expect(Object.values(names).filter(name => existsSync(path(name)))).toEqual([]);
  });
});
