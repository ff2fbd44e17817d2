import { describe, expect, test } from 'vitest';
import { generateKey } from '../../../src/crypto/key.ts';
import { Repository } from '../../../src/repository/repository.ts';
import {
  isJoinToken,
  putJoin,
  readJoin,
  removeShards,
  type ShardPart,
  type ShardPlan,
  type ShardRange,
  ShardsFolder,
} from '../../../src/repository/shards.ts';
import { MemoryStorage } from '../../support/memory-storage.ts';

const backup = 'backup-1642684800000-a1b2c3d4';
const segment = 'ab'.repeat(32);

async function makeFolder(keyText: string | null = null) {
  const storage = new MemoryStorage();
  const repository = await Repository.create(storage, keyText);
  return {
    storage,
    repository,
    key: await repository.newDataKey(),
    folder: new ShardsFolder(repository, backup),
  };
}

function samplePlan(repository: string, change: object = {}): ShardPlan {
  return {
    format: 1,
    repository,
    backup,
    tool: 'pgkeep 1',
    shards: 2,
    coordinatorPid: 42,
    server: {
      systemIdentifier: '7',
      timeline: '1',
      versionNumber: 150000,
      startedAt: '1.5',
      isStandby: false,
    },
    database: { oid: '5', xmin: '730', name: 'shop' },
    snapshot: { id: '00000003-0000001B-1', xids: '740:740:' },
    key: null,
    compressionLevel: 2,
    lockedUntil: null,
    encoding: 'UTF8',
    tables: [sampleTable()],
    parent: null,
    isVerified: false,
    known: [],
    ...change,
  };
}

function sampleTable(change: object = {}) {
  return {
    oid: '16384',
    schema: 'public',
    name: 'te"st',
    columns: ['id'],
    sizeBytes: 30_000_000,
    pages: 3000,
    isTraceable: true,
    rangePages: 1024,
    ranges: 3,
    isBuiltOn: false,
    ...change,
  };
}

const part: ShardPart = {
  format: 1,
  backup,
  shard: 1,
  plan: segment,
  attempt: '0123456789abcdef',
  pieces: 1,
  ranges: 1,
  keys: [],
  mismatches: [],
  damaged: [],
  warnings: [],
  traffic: { requests: 1, sentBytes: 2, receivedBytes: 3 },
};

function sampleRange(change: object = {}): ShardRange {
  const slice = { id: segment, key: -1, plainBytes: 10, storedBytes: 20, offset: 0, bytes: 10 };
  const entry = { rows: 2, bytes: 10, slices: [slice], ...change };
  return { table: 0, range: 2, kind: 'read', entry, stored: [0] };
}

async function toArray<T>(items: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const item of items) all.push(item);
  return all;
}

describe.each([
  ['with encryption', generateKey()],
  ['without encryption', null],
])('%s', (_, keyText) => {
  test('what is left for others is read as it was written, until all is removed', async () => {
    const { storage, repository, key, folder } = await makeFolder(keyText);
    expect(await folder.readPlan()).toBeUndefined();
    const plan = samplePlan(repository.id, { key: key?.id ?? null });
    const digest = await folder.putPlan(plan, key);
    expect(await folder.readPlan()).toEqual({ plan, digest });
    const range = sampleRange();
    for (const slice of range.entry.slices) slice.key = key === null ? -1 : 0;
    const own = { ...part, keys: key === null ? [] : [key.id] };
    await folder.putPiece(part, 0, [range], key);
    await folder.putFailure(2, { code: 'STORAGE_DENIED', message: 'refused' }, key);
    await folder.putFailure(2, { code: 'STORAGE_FULL', message: 'no space' }, key);
    await folder.putPart(own, key);
    await folder.putPart({ ...own, attempt: 'fedcba9876543210' }, key);
    const { done, failed } = await folder.look();
    expect([[...done], failed.map(({ shard }) => shard)]).toEqual([[1], [2, 2]]);
    expect(await folder.readPart(1)).toEqual(own);
    expect(await toArray(folder.readRanges(own))).toEqual([[range]]);
    const told = await Promise.all(failed.map(attempt => folder.readFailure(attempt)));
    expect(told.map(error => error?.message).sort()).toEqual(['no space', 'refused']);
    await removeShards(storage, backup);
    for (const attempt of failed) expect(await folder.readFailure(attempt)).toBeUndefined();
    expect(await toArray(storage.list('shards/'))).toEqual([]);
  });
});

describe('what is not what it should be is refused', () => {
  test.each<[string, object]>([
    ['a statement in the place of a snapshot', { snapshot: { id: "1'; DROP TABLE t; --", xids: '1:1:' } }],
    ['a statement in the place of an encoding', { encoding: "UTF8')" }],
    ['more ranges than a table has pages for', { tables: [sampleTable({ ranges: 4 })] }],
    [
      'more ranges than there is memory for',
      { tables: [sampleTable({ pages: 2 ** 40, rangePages: 1, ranges: 2 ** 40 })] },
    ],
    ['no shards', { shards: 0 }],
  ])('in a plan: %s', async (_, change) => {
    const { repository, folder } = await makeFolder();
    await folder.putPlan(samplePlan(repository.id, change), null);
    await expect(folder.readPlan()).rejects.toMatchObject({ code: 'OBJECT_DAMAGED' });
  });

  test('a plan of another repository', async () => {
    const { folder } = await makeFolder();
    await folder.putPlan(samplePlan('another'), null);
    await expect(folder.readPlan()).rejects.toMatchObject({ code: 'REPOSITORY_MISMATCH' });
  });

  test('ranges with keys that their part does not name, or that do not add up', async () => {
    const { folder } = await makeFolder();
    const [slice] = sampleRange().entry.slices;
    for (const change of [{ slices: [{ ...slice, key: 0 }] }, { bytes: 11 }, { rows: -1 }]) {
      await folder.putPiece(part, 0, [sampleRange(change)], null);
      await expect(toArray(folder.readRanges(part))).rejects.toMatchObject({ code: 'OBJECT_DAMAGED' });
    }
  });
});

test('a token leads to the backup it was last given for, and only that one’s end has it lead nowhere', async () => {
  const { storage } = await makeFolder();
  const later = 'backup-1642684800001-a1b2c3d4';
  expect(await readJoin(storage, 'night')).toBeUndefined();
  await putJoin(storage, 'night', backup);
  await putJoin(storage, 'night', later);
  await removeShards(storage, backup, 'night');
  expect(await readJoin(storage, 'night')).toBe(later);
  await removeShards(storage, later, 'night');
  expect(await readJoin(storage, 'night')).toBeUndefined();
  for (const token of ['night', backup, '7c9e6679-7425-40de-944b-e07fc1f90ae7', 'a.b_c'])
    expect(isJoinToken(token)).toBe(true);
  for (const token of ['', '.night', '-x', 'a/b', '..', 'a b', 'x'.repeat(101)])
    expect(isJoinToken(token)).toBe(false);
});
