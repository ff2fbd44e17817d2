// The storage that fails where it is told to: without faults it is a storage like any other, and each fault is what it says.

import { join } from 'node:path';
import { afterAll, beforeEach, describe, expect, test } from 'vitest';
import { LocalStorage } from '../../src/storage/local/local-storage.ts';
import { type Effect, type Fault, FaultyStorage, withFaults } from '../support/faulty-storage.ts';
import { runUnderFaults } from '../support/run-under-faults.ts';
import { makeTempFolder } from '../support/temp-folder.ts';
import { describeStorage } from './storage.ts';
import { names } from './storage-names.ts';

describeStorage('FaultyStorage without faults', async () => {
  const folder = makeTempFolder('storage');
  return {
    storage: new FaultyStorage(new LocalStorage(folder.path)),
    reopen: async () => new FaultyStorage(new LocalStorage(folder.path)),
    [Symbol.asyncDispose]: folder.remove,
  };
});

const folder = makeTempFolder('storage');
afterAll(() => folder.remove());
let count = 0;
let plain: LocalStorage;
beforeEach(() => {
  plain = new LocalStorage(join(folder.path, String(count++)));
});

const faulty = (...faults: Fault[]) => new FaultyStorage(plain, faults);

describe('a fault', () => {
  test('happens to the request it is planned for, and to no other', async () => {
    const storage = faulty({ call: 'put', name: 'a/', nth: 2, do: 'fail', code: 'STORAGE_FULL' });
    await storage.put('a/1', Buffer.from('x'));
    await storage.put('b/1', Buffer.from('x'));
    await expect(storage.put('a/2', Buffer.from('x'))).rejects.toMatchObject({ code: 'STORAGE_FULL' });
    await storage.put('a/3', Buffer.from('x'));
    expect(await names(plain, '')).toEqual(['a/1', 'a/3', 'b/1']);
    expect(storage.requests).toEqual(
      ['a/1', 'b/1', 'a/2', 'a/3'].map((name, index) => ({ number: index + 1, call: 'put', name })),
    );
    expect(storage.happened).toHaveLength(1);
  });

  const failing: Effect = { do: 'fail', code: 'STORAGE_UNREACHABLE' };
  test.each([
    { title: 'get', use: (storage: FaultyStorage) => storage.get('a') },
    { title: 'stat', use: (storage: FaultyStorage) => storage.stat('a') },
    { title: 'list', use: (storage: FaultyStorage) => names(storage, '') },
    { title: 'remove', use: (storage: FaultyStorage) => storage.remove(['a']) },
  ])('can be any request: $title', async ({ use }) => {
    await plain.put('a', Buffer.from('x'));
    await expect(use(faulty({ number: 1, ...failing }))).rejects.toMatchObject({
      code: 'STORAGE_UNREACHABLE',
    });
    expect(await names(plain, '')).toEqual(['a']);
  });

  test('loses an acknowledgement: what was put is there all the same', async () => {
    const storage = faulty({ call: 'put', do: 'lose-acknowledgement' });
    await expect(storage.put('a', Buffer.from('x'))).rejects.toMatchObject({ code: 'STORAGE_UNREACHABLE' });
    expect(String(await plain.get('a'))).toBe('x');
  });

  test('removes half of what was to be removed', async () => {
    for (const name of ['a', 'b', 'c', 'd']) await plain.put(name, Buffer.from('x'));
    const storage = faulty({ call: 'remove', do: 'fail-half-way', code: 'STORAGE_UNREACHABLE' });
    await expect(storage.remove(['a', 'b', 'c', 'd'])).rejects.toMatchObject({ code: 'STORAGE_UNREACHABLE' });
    expect(await names(plain, '')).toEqual(['c', 'd']);
  });

  test('cuts and changes what is read, not what is stored', async () => {
    await plain.put('a', Buffer.from('abcd'));
    expect(String(await faulty({ call: 'get', do: 'cut', bytes: 2 }).get('a'))).toBe('ab');
    expect(String(await faulty({ call: 'get', do: 'flip', byte: 1 }).get('a'))).toBe('accd');
    expect(String(await plain.get('a'))).toBe('abcd');
  });

  test('hides from a listing what was written a moment ago', async () => {
    await plain.put('a', Buffer.from('x'));
    expect(await names(faulty({ call: 'list', do: 'hide', withinMs: 60_000 }), '')).toEqual([]);
    expect(await names(faulty({ call: 'list', do: 'hide', withinMs: -60_000 }), '')).toEqual(['a']);
  });

  test('delays', async () => {
    const started = performance.now();
    await faulty({ call: 'stat', do: 'delay', ms: 50 }).stat('a');
    expect(performance.now() - started).toBeGreaterThanOrEqual(49);
  });
});

test('every storage opened at a folder is reached while it lasts, and only there', async () => {
  const other = new LocalStorage(`${plain.location}-other`);
  {
    using faults = withFaults(plain.location, [{ call: 'put', do: 'fail', code: 'STORAGE_FULL' }]);
    await expect(new LocalStorage(plain.location).put('a', Buffer.from('x'))).rejects.toThrow('planned');
    await expect(plain.put('a', Buffer.from('x'))).rejects.toThrow('planned');
    expect(await names(plain, '')).toEqual([]);
    await other.put('a', Buffer.from('x'));
    expect(faults.requests.map(({ call }) => call)).toEqual(['put', 'put', 'list']);
  }
  expect(await plain.put('a', Buffer.from('x'))).toBe('stored');
});

describe('an operation in a process of its own', () => {
  test('tells its outcome and its requests', async () => {
    const outcome = await runUnderFaults('listBackups', { repository: plain.location });
    expect(outcome).toMatchObject({
      isKilled: false,
      error: { code: 'REPOSITORY_NOT_FOUND' },
      requests: [{ number: 1, call: 'stat', name: 'pgkeep.json' }],
    });
  });

  test.each(['before', 'after'] as const)('is killed %s a request', async when => {
    const outcome = await runUnderFaults('listBackups', { repository: plain.location }, [
      { number: 1, do: 'die', when },
    ]);
    expect(outcome.isKilled).toBe(true);
  });
});
