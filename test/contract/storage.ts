// The suite every storage backend and wrapper runs: what src/storage/storage.ts promises, and nothing of one backend alone.

import { randomBytes } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import type { Storage } from '../../src/storage/storage.ts';
import { names } from './storage-names.ts';

export interface StorageUnderTest extends AsyncDisposable {
  storage: Storage;
  /** A second, independent way to the same objects, as another process has it. */
  reopen(): Promise<Storage>;
}

/** Names a backend must take: every kind of character the contract allows. */
const goodNames = [
  'pgkeep.json',
  'metadata/backup-1642684800000-a1b2c3d4.json',
  'segments/aa/0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef',
  'A-Z_a.z/0..9/x',
  '_',
  '-',
];

/** Names that would leave the storage, hide an object from listings, or mean different things to different backends. */
const badNames = [
  '',
  '/',
  '/etc/passwd',
  'a/',
  'a//b',
  '.',
  '..',
  '../outside',
  'a/../b',
  'a/..',
  './a',
  '.hidden',
  'a/.hidden',
  'a\\b',
  'a b',
  'a\0b',
  'a\nb',
  'a\n',
  'ä',
  'a?b',
  'a*',
  'a%2Fb',
  'C:a',
];

/** What a backend may lack, and docs/decisions says of it: tested as what it then does. */
export interface Lacks {
  /** Of puts at once that must be the first, more than one can win. */
  oneWinner?: boolean;
}

/** Declares the suite for one backend; `open` gives an empty storage each time. */
export function describeStorage(
  name: string,
  open: () => Promise<StorageUnderTest>,
  { oneWinner: lacksOneWinner = false }: Lacks = {},
): void {
  describe(`storage contract: ${name}`, () => {
    test('gives back what was put, to everybody', async () => {
      await using under = await open();
      const bytes = randomBytes(4096);
      expect(await under.storage.put('a/b/object', bytes)).toBe('stored');
      expect(bytes.equals(await under.storage.get('a/b/object'))).toBe(true);
      expect(bytes.equals(await (await under.reopen()).get('a/b/object'))).toBe(true);
    });

    test('keeps an empty object apart from none', async () => {
      await using under = await open();
      await under.storage.put('empty', Buffer.alloc(0));
      expect((await under.storage.get('empty')).length).toBe(0);
      expect(await under.storage.stat('empty')).toMatchObject({ name: 'empty', sizeBytes: 0 });
      expect(await names(under.storage, '')).toEqual(['empty']);
    });

    test('gives at least the first bytes of an object when only these are asked for', async () => {
      await using under = await open();
      const bytes = randomBytes(4096);
      await under.storage.put('object', bytes);
      await under.storage.put('short', bytes.subarray(0, 10));
      await under.storage.put('empty', Buffer.alloc(0));
      const first = await under.storage.get('object', { firstBytes: 100 });
      expect(first.length).toBeGreaterThanOrEqual(100);
      expect(first.equals(bytes.subarray(0, first.length))).toBe(true);
      expect((await under.storage.get('short', { firstBytes: 100 })).equals(bytes.subarray(0, 10))).toBe(
        true,
      );
      expect(await under.storage.get('empty', { firstBytes: 100 })).toHaveLength(0);
      const missing = { code: 'OBJECT_MISSING' };
      await expect(under.storage.get('none', { firstBytes: 100 })).rejects.toMatchObject(missing);
    });

    test('takes an object of 16 MiB', async () => {
      await using under = await open();
      const bytes = randomBytes(16 * 1024 * 1024);
      await under.storage.put('segments/ff/large', bytes);
      expect(bytes.equals(await under.storage.get('segments/ff/large'))).toBe(true);
      expect((await under.storage.stat('segments/ff/large'))?.sizeBytes).toBe(bytes.length);
    });

    test('stores a view into a larger buffer without its surroundings', async () => {
      await using under = await open();
      const surroundings = Buffer.from('secret payload secret');
      await under.storage.put('part', surroundings.subarray(7, 14));
      expect(String(await under.storage.get('part'))).toBe('payload');
    });

    test('replaces an object whole', async () => {
      await using under = await open();
      await under.storage.put('object', Buffer.from('a long first version'));
      expect(await under.storage.put('object', Buffer.from('short'))).toBe('stored');
      expect(String(await under.storage.get('object'))).toBe('short');
      expect((await under.storage.stat('object'))?.sizeBytes).toBe(5);
    });

    test('never shows a reader a mixture while an object is being replaced', async () => {
      await using under = await open();
      const size = 256 * 1024;
      await under.storage.put('object', Buffer.alloc(size, 0));
      const reader = await under.reopen();
      let isWriting = true;
      const writing = (async () => {
        for (let version = 1; version <= 20; version++)
          await under.storage.put('object', Buffer.alloc(size, version));
        isWriting = false;
      })();
      let reads = 0;
      while (isWriting) {
        const seen = await reader.get('object');
        expect(seen.length).toBe(size);
        expect(seen.equals(Buffer.alloc(size, seen[0]))).toBe(true);
        reads++;
      }
      await writing;
      expect(reads).toBeGreaterThan(0);
    });

    test('a put that must be the first leaves an existing object untouched', async () => {
      await using under = await open();
      await under.storage.put('object', Buffer.from('first'));
      const before = await under.storage.stat('object');
      expect(await under.storage.put('object', Buffer.from('second'), { ifAbsent: true })).toBe('exists');
      expect(String(await under.storage.get('object'))).toBe('first');
      expect(await under.storage.stat('object')).toEqual(before);
    });

    test(`of 16 puts at once that must be the first ${lacksOneWinner ? 'at least' : 'exactly'} one wins, and the bytes of one that won stay`, async () => {
      await using under = await open();
      const other = await under.reopen();
      for (let round = 0; round < 5; round++) {
        const name = `race/${round}`;
        const outcomes = await Promise.all(
          Array.from({ length: 16 }, (_, i) =>
            (i % 2 === 0 ? under.storage : other).put(name, Buffer.alloc(5000 + i, i), { ifAbsent: true }),
          ),
        );
        const winners = [...outcomes.keys()].filter(i => outcomes[i] === 'stored');
        if (!lacksOneWinner) expect(winners).toHaveLength(1);
        const kept = await under.storage.get(name);
        const winner = winners.find(i => kept.equals(Buffer.alloc(5000 + i, i)));
        expect(winner).toBeDefined();
        // Whoever comes later than all of them has lost, whatever the storage lacks.
        expect(await other.put(name, Buffer.from('late'), { ifAbsent: true })).toBe('exists');
        expect(kept.equals(await under.storage.get(name))).toBe(true);
      }
      expect(await names(under.storage, '')).toHaveLength(5);
    });

    test('says of an object that is not there that it is missing, by name', async () => {
      await using under = await open();
      const missing = { code: 'OBJECT_MISSING', message: expect.stringContaining('no/such/object') };
      await expect(under.storage.get('no/such/object')).rejects.toMatchObject(missing);
      await under.storage.put('no/such/other', Buffer.from('x'));
      await expect(under.storage.get('no/such/object')).rejects.toMatchObject(missing);
      expect(await under.storage.stat('no/such/object')).toBeUndefined();
    });

    test('a name others lie below, or that lies below an object, holds no object', async () => {
      await using under = await open();
      await under.storage.put('a/b', Buffer.from('x'));
      for (const name of ['a', 'a/b/c']) {
        expect(await under.storage.stat(name)).toBeUndefined();
        await expect(under.storage.get(name)).rejects.toMatchObject({ code: 'OBJECT_MISSING' });
        await under.storage.remove([name]);
      }
      expect(String(await under.storage.get('a/b'))).toBe('x');
    });

    test('stat tells the size and a time close to now', async () => {
      await using under = await open();
      await under.storage.put('object', Buffer.from('12345'));
      const found = await under.storage.stat('object');
      expect(found).toMatchObject({ name: 'object', sizeBytes: 5 });
      expect(Math.abs((found?.modified.getTime() ?? 0) - Date.now())).toBeLessThan(60_000);
    });

    test('lists everything put before, by prefix, with the full name, size and time', async () => {
      await using under = await open();
      const all = [
        'pgkeep.json',
        'keys/1.json',
        'segments/aa/1',
        'segments/aa/2',
        'segments/ab/1',
        'segmentsx/1',
      ];
      for (const [i, name] of all.entries()) await under.storage.put(name, Buffer.alloc(i));
      const other = await under.reopen();
      expect(await names(other, '')).toEqual(all.toSorted());
      expect(await names(other, 'segments/')).toEqual(['segments/aa/1', 'segments/aa/2', 'segments/ab/1']);
      expect(await names(other, 'segments/aa/')).toEqual(['segments/aa/1', 'segments/aa/2']);
      expect(await names(other, 'keys/')).toEqual(['keys/1.json']);
      expect(await names(other, 'garbage/')).toEqual([]);
      for await (const object of other.list('')) expect(object).toEqual(await other.stat(object.name));
    });

    test('lists nothing where nothing has ever been put', async () => {
      await using under = await open();
      expect(await names(under.storage, '')).toEqual([]);
      expect(await names(under.storage, 'metadata/')).toEqual([]);
    });

    test('lists hundreds of objects completely', async () => {
      await using under = await open();
      const all = Array.from({ length: 300 }, (_, i) => `many/${i % 7}/${i}`);
      await Promise.all(all.map(name => under.storage.put(name, Buffer.from(name))));
      expect(await names(under.storage, 'many/')).toEqual(all.toSorted());
    });

    test('removes objects, passes over what is not there, and removes nothing else', async () => {
      await using under = await open();
      for (const name of ['a/1', 'a/2', 'a/11', 'b']) await under.storage.put(name, Buffer.from(name));
      await under.storage.remove(['a/1', 'a/none', 'never/was', 'b']);
      expect(await names(under.storage, '')).toEqual(['a/11', 'a/2']);
      await under.storage.remove([]);
      await under.storage.remove(['a/1']);
      await under.storage.put('a/1', Buffer.from('again'), { ifAbsent: true });
      expect(String(await under.storage.get('a/1'))).toBe('again');
    });

    test.each(goodNames)('takes the name %j', async name => {
      await using under = await open();
      await under.storage.put(name, Buffer.from('x'), { ifAbsent: true });
      expect(await names(under.storage, '')).toEqual([name]);
      expect(String(await under.storage.get(name))).toBe('x');
    });

    test.each(badNames)('refuses the name %j in every call', async name => {
      await using under = await open();
      const refusal = { code: 'INTERNAL', message: expect.stringContaining('not a name for an object') };
      await expect(under.storage.put(name, Buffer.from('x'))).rejects.toMatchObject(refusal);
      await expect(under.storage.put(name, Buffer.from('x'), { ifAbsent: true })).rejects.toMatchObject(
        refusal,
      );
      await expect(under.storage.get(name)).rejects.toMatchObject(refusal);
      await expect(under.storage.stat(name)).rejects.toMatchObject(refusal);
      await expect(under.storage.remove(['fine', name])).rejects.toMatchObject(refusal);
      expect(await names(under.storage, '')).toEqual([]);
    });

    test('a refused name among others removes none of them', async () => {
      await using under = await open();
      await under.storage.put('fine', Buffer.from('x'));
      await expect(under.storage.remove(['fine', '../fine'])).rejects.toMatchObject({ code: 'INTERNAL' });
      expect(await names(under.storage, '')).toEqual(['fine']);
    });

    test('may be closed twice', async () => {
      await using under = await open();
      await under.storage.close();
      await under.storage.close();
    });
  });
}
