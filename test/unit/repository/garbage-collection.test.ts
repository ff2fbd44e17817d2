import { randomBytes } from 'node:crypto';
import { utimesSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { generateKey } from '../../../src/crypto/key.ts';
import { storeRanges } from '../../../src/operations/table-index.ts';
import {
  findGarbage,
  GarbageMark,
  readGarbageList,
  storageNow,
  writeGarbageList,
} from '../../../src/repository/garbage.ts';
import { collectGarbage } from '../../../src/repository/garbage-collection.ts';
import { segmentName } from '../../../src/repository/layout.ts';
import type { RangeEntry, SegmentRef } from '../../../src/repository/manifest.ts';
import { Repository } from '../../../src/repository/repository.ts';
import { SegmentStore } from '../../../src/repository/segment-store.ts';
import { LocalStorage } from '../../../src/storage/local/local-storage.ts';
import { names } from '../../contract/storage-names.ts';
import { makeTempFolder } from '../../support/temp-folder.ts';
import { storeSample } from './sample-backup.ts';

const userKey = generateKey();
const folder = makeTempFolder('garbage');
afterAll(() => folder.remove());
let count = 0;
const newRepository = () => Repository.create(new LocalStorage(join(folder.path, String(count++))), userKey);
const nothing = { segments: [], keys: [], manifests: [], verified: [] };
const aList = { ...nothing, segments: ['ab'.repeat(32)] };

async function collect(repository: Repository, graceMs = 0) {
  const nowMs = await storageNow(repository.storage);
  return await collectGarbage(repository, {
    nowMs,
    graceMs,
    dryRun: false,
    without: new Set(),
    signal: undefined,
  });
}

/** The one list there is, as a cleanup finds it. */
async function theList(repository: Repository) {
  const [list] = (await findGarbage(repository.storage)).lists;
  if (list === undefined) throw new Error('there is no list');
  return list;
}

test('keeps the segments of a table index, and those that only the index names', async () => {
  const repository = await newRepository();
  const key = await repository.newDataKey();
  const store = new SegmentStore(repository, key, 1);
  const ranges: RangeEntry[] = [];
  const refs: SegmentRef[] = [];
  for (let n = 0; n < 20; n++) {
    const rows = Buffer.from(`${n}\n`);
    const ref = await store.store(rows);
    refs.push(ref);
    ranges.push({ rows: 1, bytes: rows.length, slices: [{ ...ref, offset: 0, bytes: rows.length }] });
  }
  const entry = await storeRanges(store, ranges);
  expect(entry.index).toHaveLength(1);
  const bytes = ranges.reduce((sum, range) => sum + range.bytes, 0);
  const table = {
    oid: '1',
    schema: 'public',
    name: 't',
    parents: [],
    columns: ['n'],
    rows: 20,
    bytes,
    rangePages: 1,
  };
  await storeSample(repository, { change: { keys: store.keys, tables: [{ ...table, ...entry }] } });
  const spare = await new SegmentStore(repository, key, 1).store(randomBytes(100));
  expect((await collect(repository)).candidates).toMatchObject({ segments: 1, keys: 0 });
  expect((await collect(repository)).deleted).toMatchObject({ segments: 1, keys: 0 });
  const left = await names(repository.storage, 'segments/');
  expect(left).toEqual([...refs, ...(entry.index ?? [])].map(ref => segmentName(ref.id)).sort());
  expect(left).not.toContain(segmentName(spare.id));
});

test('leaves a list to the cleanup that has marked it, and takes it over once the mark is older than the grace', async () => {
  const repository = await newRepository();
  const { storage } = repository;
  const name = await writeGarbageList(storage, aList);
  const hourAgo = Date.now() / 1000 - 3600;
  utimesSync(join(storage.location, name), hourAgo, hourAgo);
  const mark = await GarbageMark.put(storage, await theList(repository), 60_000);
  expect((await collect(repository, 60_000)).busyLists).toEqual([name]);
  await mark?.require();
  utimesSync(join(storage.location, name.replace('.json', '.deleting')), hourAgo, hourAgo);
  expect((await collect(repository, 60_000)).busyLists).toEqual([]);
  await expect(mark?.require()).rejects.toMatchObject({ code: 'CLEANUP_CONFLICT' });
  await mark?.remove();
  expect(await names(storage, 'garbage/')).toEqual([]);
});

test.each([
  [60, { deleted: 1, candidates: 0 }],
  [10, { deleted: 0, candidates: 1 }],
])(
  'of what several lists name the youngest counts: an object of %d minutes ago',
  async (minutes, expected) => {
    const repository = await newRepository();
    const { storage } = repository;
    const { id } = await new SegmentStore(repository, await repository.newDataKey(), 1).store(
      randomBytes(100),
    );
    const age = (name: string, by: number) => {
      const then = Date.now() / 1000 - by * 60;
      utimesSync(join(storage.location, name), then, then);
    };
    age(segmentName(id), minutes);
    for (const listedAt of [30, 120, 90]) {
      const name = await writeGarbageList(storage, { segments: [id], keys: [], manifests: [], verified: [] });
      age(name, listedAt);
    }
    const { deleted, candidates } = await collect(repository, 60_000);
    expect({ deleted: deleted.segments, candidates: candidates.segments }).toEqual(expected);
  },
);

test('of two cleanups one marks a list', async () => {
  const repository = await newRepository();
  await writeGarbageList(repository.storage, aList);
  const list = await theList(repository);
  const marks = await Promise.all([1, 2, 3].map(() => GarbageMark.put(repository.storage, list, 60_000)));
  expect(marks.filter(mark => mark !== undefined)).toHaveLength(1);
});

test('a mark that is relied on for too long counts no more', async () => {
  const repository = await newRepository();
  await writeGarbageList(repository.storage, aList);
  const mark = await GarbageMark.put(repository.storage, await theList(repository), 0);
  await new Promise(resolve => setTimeout(resolve, 20));
  await expect(mark?.require()).rejects.toMatchObject({ code: 'CLEANUP_CONFLICT' });
});

test.each([
  ['no JSON', '{'],
  ['another format', { format: 2 }],
  ['an id that is none', { segments: ['../../etc/passwd'] }],
  ['ids that are no list', { keys: 'all' }],
  ['a missing part', { verified: undefined }],
])('a list with %s is damaged, and read no further', async (_, change) => {
  const repository = await newRepository();
  const name = await writeGarbageList(repository.storage, aList);
  const list = { format: 1, created: new Date().toISOString(), ...aList };
  const text = typeof change === 'string' ? change : JSON.stringify({ ...list, ...change });
  await repository.storage.put(name, Buffer.from(text));
  await expect(readGarbageList(repository.storage, name)).rejects.toMatchObject({ code: 'OBJECT_DAMAGED' });
  expect((await collect(repository)).deleted).toMatchObject({ segments: 0, keys: 0 });
  expect(await names(repository.storage, 'garbage/')).toEqual([]);
});
