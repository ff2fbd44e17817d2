// The wrappers keep the contract, and do what they are for: over a folder, as what is below them makes no difference.

import { randomBytes } from 'node:crypto';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { expect, test } from 'vitest';
import { PgkeepError } from '../../src/base/errors.ts';
import { CountingStorage } from '../../src/storage/counting-storage.ts';
import { LimitedStorage } from '../../src/storage/limited-storage.ts';
import { LocalStorage } from '../../src/storage/local/local-storage.ts';
import { ObjectsLocked } from '../../src/storage/objects-locked.ts';
import { openStorage, openStorageToRead } from '../../src/storage/open-storage.ts';
import { PagedListing } from '../../src/storage/paged-listing.ts';
import { RetryingStorage } from '../../src/storage/retrying-storage.ts';
import type {
  GetOptions,
  ObjectLocks,
  PutOptions,
  RemoveOptions,
  Storage,
  StoredObject,
} from '../../src/storage/storage.ts';
import { TransientError } from '../../src/storage/transient-error.ts';
import { makeTempFolder } from '../support/temp-folder.ts';
import { describeStorage } from './storage.ts';
import { names } from './storage-names.ts';

const wrappers: Record<string, (storage: Storage) => Storage> = {
  retrying: storage => new RetryingStorage(storage),
  counting: storage => new CountingStorage(storage),
  limited: storage =>
    new LimitedStorage(storage, {
      uploadBytesPerSecond: 2 ** 40,
      downloadBytesPerSecond: 2 ** 40,
      requests: 2,
    }),
};

for (const [name, wrap] of Object.entries(wrappers)) {
  describeStorage(`${name} local folder`, async () => {
    const folder = makeTempFolder('storage');
    return {
      storage: wrap(new LocalStorage(folder.path)),
      reopen: async () => wrap(new LocalStorage(folder.path)),
      [Symbol.asyncDispose]: () => folder.remove(),
    };
  });
}

/** A folder that fails at a call or a listed object, for reasons that may pass, as often as planned. */
class FailingFolder extends LocalStorage {
  failures = 0;
  isAnswer = true;
  /** Whether a put that fails has been done all the same. */
  doesFirst = false;

  override async put(name: string, bytes: Buffer, options?: PutOptions): Promise<'stored' | 'exists'> {
    if (this.failures > 0 && this.doesFirst) await super.put(name, bytes, options);
    this.#fail();
    return await super.put(name, bytes, options);
  }

  override async get(name: string): Promise<Buffer> {
    this.#fail();
    return await super.get(name);
  }

  override list(prefix: string): PagedListing<number> {
    const objects = super.list(prefix)[Symbol.asyncIterator]();
    return new PagedListing(1, async number => {
      this.#fail();
      const { done, value } = await objects.next();
      return done ? { objects: [], next: undefined } : { objects: [value], next: number + 1 };
    });
  }

  #fail(): void {
    if (this.failures-- > 0) throw new TransientError('planned', { isAnswer: this.isAnswer });
  }
}

const policy = { firstWaitMs: 20, longestWaitMs: 40, patienceMs: 1_000, unansweredAttempts: 3 };

test('a storage that has answered is asked for as long as there is patience, one that never has a few times', async () => {
  await using folder = makeTempFolder('storage');
  const failing = new FailingFolder(folder.path);
  failing.isAnswer = false;
  failing.failures = 3;
  const storage = new RetryingStorage(failing, undefined, { ...policy, patienceMs: 60_000 });
  await expect(storage.get('object')).rejects.toMatchObject({ context: { attempts: 3 } });
  await storage.put('object', Buffer.from('x'));
  failing.failures = 8;
  expect(String(await storage.get('object'))).toBe('x');
  const lessPatient = new RetryingStorage(failing, undefined, policy);
  expect(String(await lessPatient.get('object'))).toBe('x');
  failing.failures = Number.POSITIVE_INFINITY;
  await expect(lessPatient.get('object')).rejects.toMatchObject({
    message: expect.stringMatching(/planned \(tried \d+ times\)/),
  });
});

test('failures that will not pass are not repeated', async () => {
  await using folder = makeTempFolder('storage');
  const counting = new CountingStorage(new LocalStorage(folder.path));
  await expect(new RetryingStorage(counting).get('object')).rejects.toMatchObject({ code: 'OBJECT_MISSING' });
  expect(counting.traffic.requests).toBe(1);
});

test('a put whose acknowledgement was lost knows its own object, and leaves those of others', async () => {
  await using folder = makeTempFolder('storage');
  const failing = new FailingFolder(folder.path);
  const storage = new RetryingStorage(failing, undefined, policy);
  failing.doesFirst = true;
  failing.failures = 3;
  expect(await storage.put('object', Buffer.from('mine'), { ifAbsent: true })).toBe('stored');
  failing.failures = 1;
  expect(await storage.put('object', Buffer.from('other'), { ifAbsent: true })).toBe('exists');
  expect(String(await storage.get('object'))).toBe('mine');
});

test('a listing that fails half-way is complete all the same, and names nothing twice', async () => {
  await using folder = makeTempFolder('storage');
  const failing = new FailingFolder(folder.path);
  const all = Array.from({ length: 30 }, (_, i) => `a/${i}`).sort();
  for (const name of all) await failing.put(name, Buffer.from(name));
  failing.failures = 5;
  expect(await names(new RetryingStorage(failing, undefined, policy), '')).toEqual(all);
  expect(failing.failures).toBeLessThanOrEqual(0);
});

test('a listing that cannot go on where it was fails, and does not seem complete', async () => {
  await using folder = makeTempFolder('storage');
  class Restarting extends LocalStorage {
    override async *list(): AsyncIterable<StoredObject> {
      yield { name: 'a', sizeBytes: 0, modified: new Date() };
      throw new TransientError('planned');
    }
  }
  await expect(names(new RetryingStorage(new Restarting(folder.path)), '')).rejects.toMatchObject({
    message: expect.stringContaining('planned'),
  });
});

test('memory does not grow with the number of objects listed', async () => {
  await using folder = makeTempFolder('storage');
  const pages = 1_000;
  class Large extends LocalStorage {
    override list(): PagedListing<number> {
      return new PagedListing(0, async page => ({
        objects: Array.from({ length: 1_000 }, (_, i) => ({
          name: `segments/${page}/${i}`.padEnd(80, '0'),
          sizeBytes: i,
          modified: new Date(page),
        })),
        next: page + 1 < pages ? page + 1 : undefined,
      }));
    }
  }
  const storage = new RetryingStorage(new CountingStorage(new Large(folder.path)));
  setFlagsFromString('--expose-gc');
  const collectGarbage = runInNewContext('gc') as () => void;
  const used: number[] = [];
  let listed = 0;
  for await (const _ of storage.list('')) {
    if (++listed !== 100_000 && listed !== 900_000) continue;
    collectGarbage();
    used.push(process.memoryUsage().heapUsed);
  }
  expect(listed).toBe(1_000_000);
  const [early = 0, late = 0] = used;
  // The names alone of those in between are 64 MB.
  expect(late - early).toBeLessThan(10_000_000);
});

test('traffic is counted, repetitions included', async () => {
  await using folder = makeTempFolder('storage');
  const failing = new FailingFolder(folder.path);
  const counting = new CountingStorage(failing);
  const storage = new RetryingStorage(counting, undefined, policy);
  failing.failures = 1;
  await storage.put('a', randomBytes(1_000));
  await storage.put('b', randomBytes(10));
  await storage.get('a');
  await storage.stat('a');
  await names(storage, '');
  await storage.remove(['a', 'b']);
  expect(counting.traffic).toEqual({ requests: 8, sentBytes: 2_010, receivedBytes: 1_000 });
});

test.each(['put', 'get'] as const)('%s keeps below the limit, however many there are at once', async call => {
  await using folder = makeTempFolder('storage');
  const plain = new LocalStorage(folder.path);
  const limit = 1_000_000;
  const limits = call === 'put' ? { uploadBytesPerSecond: limit } : { downloadBytesPerSecond: limit };
  const storage = new LimitedStorage(plain, limits);
  const objects = Array.from({ length: 8 }, (_, i) => `object/${i}`);
  for (const name of objects) await plain.put(name, randomBytes(100_000));
  const started = performance.now();
  await Promise.all(
    objects.map(name => (call === 'get' ? storage.get(name) : storage.put(name, randomBytes(100_000)))),
  );
  const seconds = (performance.now() - started) / 1000;
  // The first has no others to wait for.
  expect(seconds).toBeGreaterThan(0.69);
  expect(seconds).toBeLessThan(5);
});

test.each(['put', 'get'] as const)('%s knows nothing of the limit of the other direction', async call => {
  await using folder = makeTempFolder('storage');
  const limits = call === 'put' ? { downloadBytesPerSecond: 1 } : { uploadBytesPerSecond: 1 };
  const storage = new LimitedStorage(new LocalStorage(folder.path), limits);
  await storage.put('object', randomBytes(100_000));
  // At a byte a second these would take days.
  for (let n = 0; n < 3; n++)
    await (call === 'get' ? storage.get('object') : storage.put(`${n}`, randomBytes(100_000)));
});

test('a get of the first bytes does not wait for a whole object that is being read', async () => {
  await using folder = makeTempFolder('storage');
  const whole = Promise.withResolvers<void>();
  class Slow extends LocalStorage {
    override async get(name: string, options?: GetOptions): Promise<Buffer> {
      if (options?.firstBytes === undefined) await whole.promise;
      return await super.get(name, options);
    }
  }
  const storage = new LimitedStorage(new Slow(folder.path), { downloadBytesPerSecond: 10_000 });
  await storage.put('object', randomBytes(1_000));
  const slow = storage.get('object');
  const heads = await Promise.all(Array.from({ length: 4 }, () => storage.get('object', { firstBytes: 57 })));
  expect(heads.map(head => head.length)).toEqual([57, 57, 57, 57]);
  whole.resolve();
  expect(await slow).toHaveLength(1_000);
});

test('no more requests are under way at once than the limit allows, of whatever kind', async () => {
  await using folder = makeTempFolder('storage');
  let [underWay, most] = [0, 0];
  const counted = async <T>(call: () => Promise<T>): Promise<T> => {
    most = Math.max(most, ++underWay);
    // Whoever may come along does so now.
    await new Promise(resolve => setImmediate(resolve));
    return await call().finally(() => underWay--);
  };
  const plain = new LocalStorage(folder.path);
  const watched: Storage = {
    location: plain.location,
    put: (...put) => counted(() => plain.put(...put)),
    get: (...get) => counted(() => plain.get(...get)),
    stat: name => counted(() => plain.stat(name)),
    list: prefix =>
      new PagedListing(0, first =>
        counted(async () => {
          const all: StoredObject[] = [];
          for await (const object of plain.list(prefix)) all.push(object);
          return {
            objects: all.slice(first, first + 5),
            next: first + 5 < all.length ? first + 5 : undefined,
          };
        }),
      ),
    remove: removed =>
      counted(async () => {
        expect(removed).toHaveLength(1);
        await plain.remove(removed);
      }),
    close: () => plain.close(),
  };
  const objects = Array.from({ length: 12 }, (_, i) => `object/${i}`).sort();
  const storage = new LimitedStorage(watched, { requests: 3 });
  await Promise.all(objects.map(name => storage.put(name, Buffer.from(name))));
  expect([most, underWay]).toEqual([3, 0]);
  most = 0;
  // One that fails gives its place to the next, too.
  const failing = Array.from({ length: 6 }, () => storage.get('none').catch(error => error.code));
  const [codes, gets, stats, lists] = await Promise.all([
    Promise.all(failing),
    Promise.all(objects.map(name => storage.get(name))),
    Promise.all(objects.map(name => storage.stat(name))),
    Promise.all(Array.from({ length: 4 }, () => names(storage, ''))),
  ]);
  expect(codes).toEqual(Array(6).fill('OBJECT_MISSING'));
  expect(gets.map(String)).toEqual(objects);
  expect(stats.map(found => found?.name)).toEqual(objects);
  expect(lists.map(listed => listed.sort())).toEqual(Array(4).fill(objects));
  expect([most, underWay]).toEqual([3, 0]);
  most = 0;
  await storage.remove(objects);
  expect(await names(storage, '')).toEqual([]);
  expect([most, underWay]).toEqual([3, 0]);
});

test('a limit of requests tells all that is locked', async () => {
  await using folder = makeTempFolder('storage');
  const lockedUntil = new Date('2999-01-01T00:00:00Z');
  class Locked extends LocalStorage {
    override async remove(removed: readonly string[]) {
      throw new ObjectsLocked(removed.map(name => ({ name, lockedUntil })));
    }
  }
  const storage = new LimitedStorage(new Locked(folder.path), { requests: 2 });
  const failure = await storage.remove(['a', 'b', 'c']).catch(error => error);
  expect(failure).toBeInstanceOf(ObjectsLocked);
  expect(failure.objects.map((object: { name: string }) => object.name).sort()).toEqual(['a', 'b', 'c']);
});

test('an interruption ends the waiting for a limit', async () => {
  await using folder = makeTempFolder('storage');
  const interruption = new AbortController();
  const storage = new LimitedStorage(
    new LocalStorage(folder.path),
    { uploadBytesPerSecond: 10 },
    interruption.signal,
  );
  await storage.put('first', randomBytes(1_000));
  const second = storage.put('second', randomBytes(1_000));
  interruption.abort(new PgkeepError('INTERRUPTED', 'enough'));
  await expect(second).rejects.toMatchObject({ code: 'INTERRUPTED', message: 'enough' });
  expect(await names(storage, '')).toEqual(['first']);
});

test('an address is opened with what its options ask for', async () => {
  await using folder = makeTempFolder('storage');
  const storage = await openStorage(folder.path, { limits: { uploadBytesPerSecond: 100_000 } });
  await storage.put('first', randomBytes(30_000));
  const started = performance.now();
  await storage.put('second', randomBytes(10));
  expect(performance.now() - started).toBeGreaterThan(200);
  expect(storage.traffic).toEqual({ requests: 2, sentBytes: 30_010, receivedBytes: 0 });
  expect(storage.location).toBe(folder.path);
});

test('what was opened to be read gives all that is there, counts it, and changes nothing', async () => {
  await using folder = makeTempFolder('storage');
  await new LocalStorage(folder.path).put('a/object', Buffer.from('contents'));
  const storage = await openStorageToRead(folder.path);
  expect(String(await storage.get('a/object'))).toBe('contents');
  expect(await storage.stat('a/object')).toMatchObject({ sizeBytes: 8 });
  expect(await storage.stat('none')).toBeUndefined();
  expect(await names(storage, 'a/')).toEqual(['a/object']);
  const refusal = { code: 'INTERNAL', message: expect.stringContaining('only reads') };
  await expect(storage.put('a/object', Buffer.from('other'))).rejects.toMatchObject(refusal);
  await expect(storage.put('new', Buffer.from('x'), { ifAbsent: true })).rejects.toMatchObject(refusal);
  await expect(storage.remove(['a/object'])).rejects.toMatchObject(refusal);
  expect(storage.location).toBe(folder.path);
  // Refused before the storage below was asked.
  expect(storage.traffic).toEqual({ requests: 4, sentBytes: 0, receivedBytes: 8 });
  expect(await names(new LocalStorage(folder.path), '')).toEqual(['a/object']);
  expect(String(await storage.get('a/object'))).toBe('contents');
});

/** A folder that takes note of what it is asked about locks. */
class LockingFolder extends LocalStorage {
  readonly asked: unknown[] = [];
  readonly locks: ObjectLocks = {
    check: async () => {
      this.asked.push('check');
      return new Date(0);
    },
    extend: async (...args) => {
      this.asked.push(args);
    },
  };

  override async put(name: string, bytes: Buffer, options?: PutOptions): Promise<'stored' | 'exists'> {
    this.asked.push([name, options]);
    return await super.put(name, bytes, options);
  }

  override async remove(names: readonly string[], options?: RemoveOptions): Promise<void> {
    this.asked.push([names, options]);
    await super.remove(names);
  }
}

test.each(Object.entries(wrappers))('what concerns locks passes through: %s', async (_, wrap) => {
  await using folder = makeTempFolder('storage');
  const locking = new LockingFolder(folder.path);
  const storage = wrap(locking);
  const until = new Date(1);
  expect(await storage.locks?.check()).toEqual(new Date(0));
  await storage.put('object', Buffer.alloc(1), { lockedUntil: until });
  await storage.locks?.extend('object', until);
  await storage.remove(['object'], { unlessLocked: true });
  expect(locking.asked).toEqual([
    'check',
    ['object', { lockedUntil: until }],
    ['object', until],
    [['object'], { unlessLocked: true }],
  ]);
  expect(wrap(new LocalStorage(folder.path)).locks).toBeUndefined();
});
