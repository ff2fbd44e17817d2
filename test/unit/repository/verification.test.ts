import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeEach, describe, expect, test } from 'vitest';
import { verifiedName } from '../../../src/repository/layout.ts';
import {
  countsAsVerified,
  parseVerification,
  type RememberedProblem,
  readVerification,
  readVerifications,
  type VerificationRecord,
  writeVerification,
} from '../../../src/repository/verification.ts';
import { LocalStorage } from '../../../src/storage/local/local-storage.ts';
import { makeTempFolder } from '../../support/temp-folder.ts';

const [first, second] = ['backup-1642684800000-a1b2c3d4', 'backup-1642684800001-a1b2c3d4'] as const;

const record: VerificationRecord = {
  backupId: first,
  checksum: 'ab'.repeat(32),
  level: 'data',
  valid: true,
  checksumValid: true,
  encryptionValid: true,
  sizeValid: true,
  rowsCompared: 17,
  sample: null,
  lastFull: { level: 'data', verifiedAt: '2022-01-21T03:00:00.000Z' },
  errorCount: 0,
  errors: [],
  verifiedAt: '2022-01-21T03:00:00.000Z',
  version: '1.0.0',
};
const problem: RememberedProblem = {
  code: 'OBJECT_DAMAGED',
  object: 'segments/ab/ab',
  tables: [
    { schema: 'public', name: 'order', ranges: [{ first: 3, last: 4, firstPage: 3072, lastPage: null }] },
  ],
};
const failed = { ...record, valid: false, lastFull: null, errorCount: 1, errors: [problem] };

const folder = makeTempFolder('verification');
afterAll(() => folder.remove());
let storage: LocalStorage;
let count = 0;
beforeEach(() => {
  storage = new LocalStorage(join(folder.path, String(count++)));
});

test('is read back as it was written, and replaced by the next', async () => {
  await writeVerification(storage, { ...record, rowsCompared: 1 });
  await writeVerification(storage, record);
  expect(await readVerification(storage, first)).toEqual({ record, damaged: undefined });
  expect(await readVerification(storage, second)).toEqual({ record: undefined, damaged: undefined });
});

test('all of a repository are read, or those asked for, and what is foreign is passed over', async () => {
  expect(await readVerifications(storage)).toEqual({ records: new Map(), damaged: [] });
  const other = { ...record, backupId: second };
  for (const one of [record, other]) await writeVerification(storage, one);
  await storage.put('verified/README', Buffer.from('not ours'));
  const { records, damaged } = await readVerifications(storage);
  expect(damaged).toEqual([]);
  expect(records).toEqual(new Map([record, other].map(one => [one.backupId, one])));
  expect([...(await readVerifications(storage, new Set([second]))).records.keys()]).toEqual([second]);
});

test('one that is damaged is named, and does not hide the others', async () => {
  await writeVerification(storage, record);
  await storage.put(verifiedName(second), Buffer.from('{"backupId'));
  const { records, damaged } = await readVerifications(storage);
  expect([...records.keys()]).toEqual([first]);
  const named = { code: 'OBJECT_DAMAGED', message: expect.stringContaining(verifiedName(second)) };
  expect(damaged).toMatchObject([named]);
  expect(await readVerification(storage, second)).toMatchObject({ record: undefined, damaged: named });
});

describe('is damaged', () => {
  const text = (value: object) => JSON.stringify(value);
  test.each([
    ['empty', ''],
    ['cut', text(record).slice(0, 100)],
    ['another backup’s', text({ ...record, backupId: second })],
    ['of an unknown level', text({ ...record, level: 'soul' })],
    ['with a flag that is no flag', text({ ...record, valid: 'yes' })],
    ['with a success that is no time', text({ ...record, lastFull: { level: 'data', verifiedAt: 'once' } })],
    ['with problems that are none', text({ ...failed, errors: [null] })],
    ['with ranges that are none', text({ ...failed, errors: [{ ...problem, tables: [{ name: 1 }] }] })],
  ])('when it is %s', async (_, contents) => {
    expect(() => parseVerification(first, Buffer.from(contents))).toThrow(/is damaged/);
  });
});

test('of a later version is read: unknown fields and codes are no damage', () => {
  const later = { ...failed, mood: 'good', errors: [{ ...problem, code: 'OBJECT_TIRED' }] };
  expect(parseVerification(first, Buffer.from(JSON.stringify(later)))).toEqual(later);
});

test('counts when all of the data was read or restored, nothing was found since, and it is of this manifest', () => {
  const metadata = { checksum: record.checksum ?? '' };
  expect(countsAsVerified(record, metadata)).toBe(true);
  const sample = { percent: 10, segments: 1, ofSegments: 9 };
  expect(countsAsVerified({ ...record, level: 'metadata' }, metadata)).toBe(true);
  expect(countsAsVerified({ ...record, sample, lastFull: null }, metadata)).toBe(false);
  expect(countsAsVerified({ ...record, level: 'metadata', lastFull: null }, metadata)).toBe(false);
  expect(countsAsVerified(failed, metadata)).toBe(false);
  expect(countsAsVerified(undefined, metadata)).toBe(false);
  expect(countsAsVerified(record, { checksum: 'cd'.repeat(32) })).toBe(false);
});

test('a storage that cannot be read is an error, not an absence', async () => {
  writeFileSync(storage.location, 'a file where the folder would be');
  await expect(readVerifications(storage)).rejects.toMatchObject({ code: 'STORAGE_UNREACHABLE' });
});
