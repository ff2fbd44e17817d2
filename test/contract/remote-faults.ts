// What happens to a remote storage when the network between it and its server fails: the same for every backend.

import { randomBytes } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { freeBuffer } from '../../src/base/free-buffer.ts';
import { RetryingStorage } from '../../src/storage/retrying-storage.ts';
import type { Storage } from '../../src/storage/storage.ts';
import { freePort } from '../support/free-port.ts';
import { first, type HttpFaults, type Verdict } from '../support/http-faults.ts';
import { startTcpProxy } from '../support/tcp-proxy.ts';
import { names } from './storage-names.ts';

export interface RemoteUnderTest {
  /** The port of the real server. */
  serverPort(): number;
  /** An empty storage of a test's own, and how it is reached by another port, which may be a proxy's. */
  place(): Place;
  /** How many objects make several pages of a listing. */
  severalPages: number;
  /** The port at which pages are as small as that takes, where it is another. */
  pagesPort?(): number;
}

interface Place {
  (port: number, timeoutMs: number): Storage;
  /** Makes objects where that is quicker than by putting them. */
  fill?(names: readonly string[]): void;
}

const lost = { code: 'STORAGE_UNREACHABLE' };
const largest = 16 * 1024 * 1024;
const patientMs = 30_000;

export function describeRemoteFaults(name: string, remote: RemoteUnderTest): void {
  describe(`faults of the network: ${name}`, () => {
    test.each([false, true])(
      'a connection cut in the middle of a put (ifAbsent: %s) leaves nothing visible, and the storage goes on',
      async ifAbsent => {
        await using proxy = await startTcpProxy(remote.serverPort(), { resetAfterSentBytes: 5_000_000 });
        const at = remote.place();
        await using direct = closing(at(remote.serverPort(), patientMs));
        await using cut = closing(at(proxy.port, patientMs));
        await expect(cut.storage.put('a/object', randomBytes(largest), { ifAbsent })).rejects.toMatchObject(
          lost,
        );
        expect(await names(direct.storage, '')).toEqual([]);
        expect(await direct.storage.stat('a/object')).toBeUndefined();
        expect(await cut.storage.put('a/object', Buffer.from('again'), { ifAbsent })).toBe('stored');
        expect(String(await direct.storage.get('a/object'))).toBe('again');
      },
    );

    test('a connection cut in the middle of a get gives no half object, and the storage goes on', async () => {
      await using proxy = await startTcpProxy(remote.serverPort(), { resetAfterReceivedBytes: 5_000_000 });
      const at = remote.place();
      await using direct = closing(at(remote.serverPort(), patientMs));
      await using cut = closing(at(proxy.port, patientMs));
      const bytes = randomBytes(largest);
      await direct.storage.put('object', bytes);
      await expect(cut.storage.get('object')).rejects.toMatchObject(lost);
      expect(bytes.equals(await cut.storage.get('object'))).toBe(true);
    });

    test('wherever a put loses its connection, also once it is done, the repeated put has stored it', async () => {
      const at = remote.place();
      const bytes = randomBytes(50_000);
      const talk = async (offset: number | undefined, object: string) => {
        await using proxy = await startTcpProxy(
          remote.serverPort(),
          offset === undefined ? {} : { resetAfterReceivedBytes: offset },
        );
        await using asked = closing(new RetryingStorage(at(proxy.port, patientMs), undefined, impatient));
        expect(await asked.storage.stat(object)).toBeUndefined();
        const before = proxy.receivedBytes;
        expect(await asked.storage.put(object, bytes, { ifAbsent: true })).toBe('stored');
        const after = proxy.receivedBytes;
        expect(bytes.equals(await asked.storage.get(object))).toBe(true);
        return { before, after };
      };
      const { before, after } = await talk(undefined, 'a/undisturbed');
      const steps = 8;
      for (let step = 0; step < steps; step++)
        await talk(before + Math.floor(((after - before) * step) / steps), `a/${step}`);
      await using direct = closing(at(remote.serverPort(), patientMs));
      expect(await names(direct.storage, '')).toHaveLength(steps + 1);
    });

    test(`lists ${remote.severalPages} objects, each once, also when the connection is cut between pages`, async () => {
      const at = remote.place();
      await using direct = closing(at(remote.serverPort(), patientMs));
      const all = Array.from({ length: remote.severalPages }, (_, i) => `segments/${i % 256}/${i}`);
      const waiting = all.values();
      const lane = async () => {
        for (const name of waiting) await direct.storage.put(name, Buffer.alloc(0));
      };
      if (at.fill !== undefined) at.fill(all);
      else await Promise.all(Array.from({ length: 64 }, lane));
      await using proxy = await startTcpProxy(remote.pagesPort?.() ?? remote.serverPort(), {
        resetAfterReceivedBytes: 500_000,
      });
      await using cut = closing(new RetryingStorage(at(proxy.port, patientMs), undefined, impatient));
      expect(await names(cut.storage, 'segments/')).toEqual(all.sort());
      expect(proxy.receivedBytes).toBeGreaterThan(500_000);
      expect(await names(cut.storage, 'segments/7/')).toHaveLength(Math.ceil((all.length - 7) / 256));
    }, 300_000);

    test('a server that falls silent is given up after the time limit', async () => {
      await using proxy = await startTcpProxy(remote.serverPort());
      await using silent = closing(remote.place()(proxy.port, 500));
      // A busy machine may take longer than that for a first answer.
      await new RetryingStorage(silent.storage, undefined, impatient).put('object', Buffer.from('x'));
      proxy.stall();
      const started = Date.now();
      await expect(silent.storage.get('object')).rejects.toMatchObject(lost);
      await expect(silent.storage.put('other', Buffer.from('x'))).rejects.toMatchObject(lost);
      expect(Date.now() - started).toBeLessThan(patientMs);
    });

    test('a slow server is waited for, however long an object takes', async () => {
      await using proxy = await startTcpProxy(remote.serverPort(), { bytesPerSecond: 500_000 });
      const at = remote.place();
      await using direct = closing(at(remote.serverPort(), patientMs));
      const bytes = randomBytes(1_000_000);
      await direct.storage.put('object', bytes);
      await using slow = closing(at(proxy.port, 1000));
      expect(bytes.equals(await slow.storage.get('object'))).toBe(true);
    });

    test('memory does not grow with the number of objects or their size', async () => {
      await using direct = closing(remote.place()(remote.serverPort(), patientMs));
      const { storage } = direct;
      const sizeBytes = 4 * 1024 * 1024;
      const pass = async (objects: number) => {
        for (let n = 0; n < objects; n += 4) {
          await Promise.all(
            [0, 1, 2, 3].map(async lane => {
              const bytes = Buffer.allocUnsafeSlow(sizeBytes).fill(n + lane);
              await storage.put(`lane/${lane}`, bytes);
              freeBuffer(bytes);
              const read = await storage.get(`lane/${lane}`);
              expect(read.length).toBe(sizeBytes);
              freeBuffer(read);
            }),
          );
        }
        return process.memoryUsage().rss;
      };
      const before = await pass(12);
      expect((await pass(36)) - before).toBeLessThan(48 * 1024 * 1024);
    });

    test('where nobody listens, every call says so', async () => {
      await using nobody = closing(remote.place()(await freePort(), 1000));
      const { storage } = nobody;
      await expect(storage.put('object', Buffer.from('x'))).rejects.toMatchObject(lost);
      await expect(storage.get('object')).rejects.toMatchObject(lost);
      await expect(storage.stat('object')).rejects.toMatchObject(lost);
      await expect(names(storage, '')).rejects.toMatchObject(lost);
      await expect(storage.remove(['object'])).rejects.toMatchObject(lost);
    });
  });
}

const impatient = { firstWaitMs: 1, longestWaitMs: 10, patienceMs: 20_000, unansweredAttempts: 3 };

/** A storage that is closed at the end of the block. */
export function closing(storage: Storage): AsyncDisposable & { storage: Storage } {
  return { storage, [Symbol.asyncDispose]: () => storage.close() };
}

/** A storage reached by HTTP, with a server of the test in between. */
export interface StormyRemote {
  between(): HttpFaults;
  /** Two ways to an empty storage: straight to the server, and through the one in between, which it waits a second for. */
  place(): Promise<{ direct: Storage; through: Storage }>;
  /** What happens to the first requests, one after the other. */
  storm: readonly Verdict[];
  /** An answer that asks for a second. */
  askToWait: Verdict;
}

export function describeStorms(name: string, remote: StormyRemote): void {
  async function open() {
    const { direct, through } = await remote.place();
    const between = remote.between();
    between.decide(() => 'forward');
    between.requests.length = 0;
    return {
      between,
      direct,
      patient: new RetryingStorage(through, undefined, impatient),
      async [Symbol.asyncDispose]() {
        between.decide(() => 'forward');
        await Promise.all([direct.close(), through.close()]);
      },
    };
  }

  describe(`a server in trouble: ${name}`, () => {
    test.each(Object.keys(calls({} as Storage)))('%s is done in the end', async call => {
      await using at = await open();
      if (call !== 'put if absent') await at.direct.put('object', Buffer.from('x'));
      let index = 0;
      at.between.decide(() => remote.storm[index++] ?? 'forward');
      const expected = { put: 'stored', 'put if absent': 'stored', list: ['object'] }[call];
      const result = await calls(at.patient)[call]?.();
      if (expected !== undefined) expect(result).toEqual(expected);
      expect(at.between.requests.length).toBeGreaterThan(remote.storm.length);
      expect(await names(at.direct, '')).toEqual(call === 'remove' ? [] : ['object']);
    });

    test('is left alone for as long as it asks', async () => {
      await using at = await open();
      const askOnce = first(1, remote.askToWait);
      const askedAt: number[] = [];
      at.between.decide(request => {
        askedAt.push(performance.now());
        return askOnce(request);
      });
      await at.patient.put('object', Buffer.from('x'));
      const [before = 0, after = 0] = askedAt;
      expect(after - before).toBeGreaterThanOrEqual(1_000);
    });
  });
}

/** Every call of the contract, by name. */
export function calls(storage: Storage): Record<string, () => Promise<unknown>> {
  return {
    put: () => storage.put('object', Buffer.from('x')),
    'put if absent': () => storage.put('object', Buffer.from('x'), { ifAbsent: true }),
    get: () => storage.get('object'),
    stat: () => storage.stat('object'),
    list: () => names(storage, ''),
    remove: () => storage.remove(['object']),
  };
}
