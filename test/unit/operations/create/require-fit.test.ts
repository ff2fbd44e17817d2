import { expect, test } from 'vitest';
import type { CopyPlan } from '../../../../src/operations/create/copy-plan.ts';
import { requireFit } from '../../../../src/operations/create/require-fit.ts';
import { costOfJson, maxJsonCost } from '../../../../src/repository/checked-json.ts';
import { parseManifest, type TableEntry } from '../../../../src/repository/manifest.ts';
import { Repository } from '../../../../src/repository/repository.ts';
import { MemoryStorage } from '../../../support/memory-storage.ts';
import { sampleManifest } from '../../repository/sample-backup.ts';

const fiveColumns = ['id', 'taken_at', 'sensor', 'value', 'comment'];
/** As many as a table can have. */
const manyColumns = Array.from({ length: 1600 }, (_, n) => n.toString(36));

function namesOf(count: number, columns: string[]) {
  return Array.from({ length: count }, (_, n) => ({ schema: 'public', name: `measurement_${n}`, columns }));
}

/** Of small tables. */
function planOf(count: number): CopyPlan {
  const table = { from: '', columns: '', sizeBytes: 8192, pages: 1, isTraceable: true, rangePages: 1024 };
  return {
    encoding: 'UTF8',
    tables: Array.from({ length: count }, () => ({ ...table, ranges: 1 })),
    groups: [],
    items: 0,
  };
}

function fits(count: number, columns: string[]): void {
  requireFit(namesOf(count, columns), planOf(count));
}

test('the tables of a large database fit into a manifest, and far more than it can name are refused', () => {
  expect(() => fits(100_000, fiveColumns)).not.toThrow();
  expect(() => fits(200_000, fiveColumns)).toThrow(
    expect.objectContaining({ code: 'OPTION_INVALID', message: expect.stringContaining('200,000 tables') }),
  );
});

test('tables with so many columns that no reader would take their list are refused before they are read, and no others', async () => {
  const repository = await Repository.create(new MemoryStorage(), null);
  const manifestOf = (count: number) => {
    const slice = { id: 'ab'.repeat(32), key: -1, plainBytes: 900, storedBytes: 500, offset: 0, bytes: 10 };
    const tables: TableEntry[] = namesOf(count, manyColumns).map((names, n) => ({
      oid: String(16384 + n),
      ...names,
      parents: [],
      rows: 2,
      bytes: 10,
      rangePages: 1024,
      source: { fileNode: '16384', context: 'cd'.repeat(32) },
      ranges: [{ rows: 2, bytes: 10, slices: [slice] }],
    }));
    return Buffer.from(JSON.stringify(sampleManifest(repository, { change: { tables } })));
  };
  const [few, many] = [3_660, 3_680];
  fits(few, manyColumns);
  expect(costOfJson(manifestOf(few))).toBeLessThanOrEqual(maxJsonCost);
  expect(() => fits(many, manyColumns)).toThrow(expect.objectContaining({ code: 'OPTION_INVALID' }));
  expect(() => parseManifest('it', manifestOf(many))).toThrow('not JSON that pgkeep writes');
});
