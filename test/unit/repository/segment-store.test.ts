import { randomBytes } from 'node:crypto';
import { readFileSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeEach, describe, expect, test } from 'vitest';
import { generateKey } from '../../../src/crypto/key.ts';
import { type DataKey, sealedHeadBytes } from '../../../src/crypto/seal.ts';
import { listedSegments, writeGarbageList } from '../../../src/repository/garbage.ts';
import { keyName, segmentName } from '../../../src/repository/layout.ts';
import type { SegmentRef } from '../../../src/repository/manifest.ts';
import { Repository } from '../../../src/repository/repository.ts';
import { sealSegment, segmentBytes, segmentId } from '../../../src/repository/segment.ts';
import { SegmentStore } from '../../../src/repository/segment-store.ts';
import { LocalStorage } from '../../../src/storage/local/local-storage.ts';
import { names } from '../../contract/storage-names.ts';
import { makeTempFolder } from '../../support/temp-folder.ts';
import { sampleManifest } from './sample-backup.ts';

const userKey = generateKey();
const folder = makeTempFolder('segments');
afterAll(() => folder.remove());
let repository: Repository;
let key: DataKey | null;
let count = 0;
beforeEach(async () => {
  repository = await Repository.create(new LocalStorage(join(folder.path, String(count++))), userKey);
  key = await repository.newDataKey();
});

const fileOf = (id: string) => join(repository.storage.location, segmentName(id));
const newRun = async () => new SegmentStore(repository, await repository.newDataKey(), 2);
const contents = Buffer.from('1\tone\n2\ttwo\n'.repeat(100));

async function* stream(...chunks: Buffer[]): AsyncIterable<Buffer> {
  yield* chunks;
}

async function readBack(refs: readonly SegmentRef[]): Promise<Buffer> {
  const pieces: Buffer[] = [];
  const reader = await Repository.open(repository.storage, userKey);
  for await (const piece of reader.readSegments(refs)) pieces.push(piece);
  return Buffer.concat(pieces);
}

describe('a segment', () => {
  test('is stored, described and read back', async () => {
    const store = new SegmentStore(repository, key, 2);
    const ref = await store.store(contents);
    const object = readFileSync(fileOf(ref.id));
    expect(ref).toEqual({
      id: segmentId(repository.secret, contents),
      key: 0,
      plainBytes: contents.length,
      storedBytes: object.length,
    });
    expect(store.keys).toEqual([key?.id]);
    expect((await readBack([ref])).equals(contents)).toBe(true);
    expect(store.totals).toEqual({
      newBytes: object.length,
      newSegments: 1,
      reusedBytes: 0,
      reusedSegments: 0,
    });
  });

  test('that comes again in the same run is stored and counted once', async () => {
    const store = new SegmentStore(repository, key, 2);
    const first = await store.store(contents);
    expect(await store.store(Buffer.from(contents))).toEqual(first);
    expect(await store.find(first.id)).toEqual(first);
    expect(store.totals).toMatchObject({ newSegments: 1, reusedSegments: 0 });
  });

  test('that comes many times at once is stored and counted once', async () => {
    const store = new SegmentStore(repository, key, 2);
    const refs = await Promise.all(Array.from({ length: 16 }, () => store.store(Buffer.from(contents))));
    for (const ref of refs) expect(ref).toEqual(refs[0]);
    expect(store.totals).toMatchObject({ newSegments: 1, reusedSegments: 0, newBytes: refs[0]?.storedBytes });
    expect(await names(repository.storage, 'segments/')).toHaveLength(1);
  });

  test('of a backup that is known is taken over without being read', async () => {
    const earlier = new SegmentStore(repository, key, 2);
    const ref = await earlier.store(contents);
    // Same length and header, other bytes: only a reader would see.
    const object = readFileSync(fileOf(ref.id));
    randomBytes(ref.storedBytes - sealedHeadBytes).copy(object, sealedHeadBytes);
    writeFileSync(fileOf(ref.id), object);
    const store = await newRun();
    store.learn(sampleManifest(repository, { change: { keys: earlier.keys } }), [ref]);
    expect(await store.store(contents)).toEqual(ref);
    expect(store.keys).toEqual([key?.id]);
    expect(store.totals).toMatchObject({ newSegments: 0, reusedSegments: 1, reusedBytes: ref.storedBytes });
  });

  test('of a backup that is known is stored anew when it is gone', async () => {
    const earlier = new SegmentStore(repository, key, 2);
    const ref = await earlier.store(contents);
    await repository.storage.remove([segmentName(ref.id)]);
    const store = await newRun();
    store.learn(sampleManifest(repository, { change: { keys: earlier.keys } }), [ref]);
    const again = await store.store(contents);
    expect(store.totals).toMatchObject({ newSegments: 1, reusedSegments: 0 });
    expect(store.keys).not.toContain(key?.id);
    expect((await readBack([again])).equals(contents)).toBe(true);
  });

  test('of a backup that is known is checked when its size changed', async () => {
    const earlier = new SegmentStore(repository, key, 2);
    const ref = await earlier.store(contents);
    writeFileSync(fileOf(ref.id), readFileSync(fileOf(ref.id)).subarray(0, -1));
    const store = await newRun();
    store.learn(sampleManifest(repository, { change: { keys: earlier.keys } }), [ref]);
    expect((await readBack([await store.store(contents)])).equals(contents)).toBe(true);
    expect(store.totals).toMatchObject({ newSegments: 1 });
  });

  test('of a backup that is known is named under the key that it was replaced under', async () => {
    const earlier = new SegmentStore(repository, key, 2);
    const ref = await earlier.store(contents);
    await repository.storage.remove([segmentName(ref.id)]);
    const healing = await newRun();
    await healing.store(contents);
    const store = await newRun();
    store.learn(sampleManifest(repository, { change: { keys: earlier.keys } }), [ref]);
    await store.store(contents);
    expect(store.keys).toEqual(healing.keys);
    expect(store.keys).not.toEqual(earlier.keys);
  });

  test('that stands in a garbage list is stored once more, newer than the list', async () => {
    const earlier = new SegmentStore(repository, key, 2);
    const ref = await earlier.store(contents);
    const before = readFileSync(fileOf(ref.id));
    utimesSync(fileOf(ref.id), 1, 1);
    const list = await writeGarbageList(repository.storage, {
      segments: [ref.id],
      keys: [],
      manifests: [],
      verified: [],
    });
    const listed = await listedSegments(repository.storage);
    const store = new SegmentStore(repository, await repository.newDataKey(), 2, listed);
    store.learn(sampleManifest(repository, { change: { keys: earlier.keys } }), [ref]);
    expect(await store.store(contents)).toEqual(ref);
    expect(readFileSync(fileOf(ref.id)).equals(before)).toBe(true);
    const [segment, garbage] = [
      await repository.storage.stat(segmentName(ref.id)),
      await repository.storage.stat(list),
    ];
    expect(segment?.modified.getTime()).toBeGreaterThanOrEqual(garbage?.modified.getTime() ?? 0);
  });

  test('that a killed run left is checked and taken over, with its own key', async () => {
    const ref = await new SegmentStore(repository, key, 2).store(contents);
    const before = readFileSync(fileOf(ref.id));
    const store = await newRun();
    expect(await store.store(contents)).toEqual({ ...ref, key: 0 });
    expect(store.keys).toEqual([key?.id]);
    expect(store.totals).toMatchObject({ newSegments: 0, reusedSegments: 1 });
    expect(readFileSync(fileOf(ref.id)).equals(before)).toBe(true);
  });

  test.each([
    [
      'flipped in its body',
      (object: Buffer) => Buffer.from(object.map((byte, at) => (at === 60 ? byte ^ 4 : byte))),
    ],
    [
      'flipped in its key id',
      (object: Buffer) => Buffer.from(object.map((byte, at) => (at === 10 ? byte ^ 4 : byte))),
    ],
    [
      'flipped in its format',
      (object: Buffer) => Buffer.from(object.map((byte, at) => (at === 7 ? byte ^ 4 : byte))),
    ],
    [
      'flipped in its suite',
      (object: Buffer) => Buffer.from(object.map((byte, at) => (at === 8 ? byte ^ 4 : byte))),
    ],
    ['cut', (object: Buffer) => object.subarray(0, 50)],
    ['empty', () => Buffer.alloc(0)],
    ['filled with zeros', (object: Buffer) => Buffer.alloc(object.length)],
  ])('that was left %s is replaced', async (_, edit) => {
    const ref = await new SegmentStore(repository, key, 2).store(contents);
    writeFileSync(fileOf(ref.id), edit(readFileSync(fileOf(ref.id))));
    const store = await newRun();
    const again = await store.store(contents);
    expect((await readBack([again])).equals(contents)).toBe(true);
    expect(store.totals).toMatchObject({ newSegments: 1, reusedSegments: 0 });
  });

  test.each([7, 8])(
    'of a backup that is known is replaced when byte %i of its header is flipped',
    async at => {
      const earlier = new SegmentStore(repository, key, 2);
      const ref = await earlier.store(contents);
      const object = readFileSync(fileOf(ref.id));
      object[at] = (object[at] ?? 0) ^ 4;
      writeFileSync(fileOf(ref.id), object);
      const store = await newRun();
      store.learn(sampleManifest(repository, { change: { keys: earlier.keys } }), [ref]);
      expect((await readBack([await store.store(contents)])).equals(contents)).toBe(true);
      expect(store.totals).toMatchObject({ newSegments: 1, reusedSegments: 0 });
    },
  );

  test.each([
    ['for another key', /("recipient": ")./, 'OBJECT_DAMAGED'],
    ['of a kind unknown', /("type": ")k/, 'RECIPIENT_UNSUPPORTED'],
  ])('whose key is %s is replaced, and nobody is told that the key given is wrong', async (_, part, code) => {
    const ref = await new SegmentStore(repository, key, 2).store(contents);
    const file = join(repository.storage.location, keyName(key?.id ?? ''));
    const text = readFileSync(file, 'utf8');
    writeFileSync(
      file,
      text.replace(part, (found, before: string) => `${before}${found.endsWith('0') ? '1' : '0'}`),
    );
    repository = await Repository.open(repository.storage, userKey);
    await expect(repository.dataKey(key?.id ?? '')).rejects.toMatchObject({
      code,
      message: expect.stringContaining(keyName(key?.id ?? '')),
    });
    const store = await newRun();
    expect(await store.find(ref.id)).toBeUndefined();
    expect((await readBack([await store.store(contents)])).equals(contents)).toBe(true);
  });

  test('whose key is gone is replaced', async () => {
    const ref = await new SegmentStore(repository, key, 2).store(contents);
    await repository.storage.remove([keyName(key?.id ?? '')]);
    repository = await Repository.open(repository.storage, userKey);
    const store = await newRun();
    expect(await store.find(ref.id)).toBeUndefined();
    expect((await readBack([await store.store(contents)])).equals(contents)).toBe(true);
  });

  test('that another run stores at the same moment is one object, good for both', async () => {
    for (let round = 0; round < 10; round++) {
      const plain = randomBytes(5000);
      const stores = [await newRun(), await newRun()];
      const refs = await Promise.all(stores.map(store => store.store(plain)));
      const totals = stores.map(store => store.totals.newSegments).sort();
      expect(totals).toEqual([0, 1]);
      for (const ref of refs) expect((await readBack([ref])).equals(plain)).toBe(true);
    }
  });

  test('that somebody stored damaged between look and put is replaced', async () => {
    const store = new SegmentStore(repository, key, 2);
    const id = segmentId(repository.secret, contents);
    const object = sealSegment(id, contents, key, 2);
    await repository.storage.put(segmentName(id), object.subarray(0, 70));
    const ref = await store.put(id, object, contents.length);
    expect((await readBack([ref])).equals(contents)).toBe(true);
  });

  test('keys are numbered in the order in which they were first used', async () => {
    const one = await newRun();
    const a = await one.store(Buffer.from('a'));
    const two = await newRun();
    const b = await two.store(Buffer.from('b'));
    const three = await newRun();
    const refs = [
      await three.store(Buffer.from('b')),
      await three.store(Buffer.from('c')),
      await three.store(Buffer.from('a')),
      await three.store(Buffer.from('c')),
    ];
    expect(refs.map(ref => ref.key)).toEqual([0, 1, 2, 1]);
    expect([three.keys[0], three.keys[2]]).toEqual([two.keys[b.key], one.keys[a.key]]);
  });

  test('without encryption has no key', async () => {
    const plain = await Repository.create(new LocalStorage(`${repository.storage.location}-plain`), null);
    const store = new SegmentStore(plain, await plain.newDataKey(), 2);
    const ref = await store.store(contents);
    expect(ref.key).toBe(-1);
    expect(store.keys).toEqual([]);
    const next = new SegmentStore(plain, null, 2);
    next.learn(sampleManifest(plain), [ref]);
    expect(await next.find(ref.id)).toEqual(ref);
    expect((await plain.readSegment(ref.id)).equals(contents)).toBe(true);
  });
});

describe('a stream', () => {
  test.each([
    ['nothing', [], []],
    ['empty chunks', [0, 0], []],
    ['one byte', [1], [1]],
    ['a segment less one byte', [segmentBytes - 1], [segmentBytes - 1]],
    ['exactly one segment', [segmentBytes], [segmentBytes]],
    ['exactly one segment in two chunks', [segmentBytes - 1, 1], [segmentBytes]],
    ['one segment and a byte', [segmentBytes + 1], [segmentBytes, 1]],
    ['exactly two segments in one chunk', [2 * segmentBytes], [segmentBytes, segmentBytes]],
    ['chunks across the cut, with empty ones', [10, 0, segmentBytes, 0, 20], [segmentBytes, 30]],
  ])('of %s is cut where a segment is full, and nowhere else', async (_, chunks, expected) => {
    const store = new SegmentStore(repository, key, 1);
    const source = chunks.map((size, i) => Buffer.alloc(size, `chunk ${i} `));
    const { bytes, segments } = await store.storeStream(stream(...source));
    expect(bytes).toBe(chunks.reduce((sum: number, size) => sum + size, 0));
    expect(segments.map(ref => ref.plainBytes)).toEqual(expected);
    expect((await readBack(segments)).equals(Buffer.concat(source))).toBe(true);
  });

  test('that fails leaves whole segments only', async () => {
    const store = new SegmentStore(repository, key, 1);
    async function* failing() {
      yield Buffer.alloc(segmentBytes + 5);
      throw new Error('the source broke');
    }
    await expect(store.storeStream(failing())).rejects.toThrow('the source broke');
    expect(await names(repository.storage, 'segments/')).toHaveLength(1);
  });
});
