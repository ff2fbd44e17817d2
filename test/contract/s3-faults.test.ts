// Storage in S3 when things go wrong: the network, the server, the credentials, and stores that lack what S3 has. The
// servers are real, Ceph where nothing else is said, and Swift, which lacks some of it; what they never do by themselves is
// done by a server of the test in between.

import { randomBytes } from 'node:crypto';
import { inspect } from 'node:util';
import { GetObjectTaggingCommand, PutObjectCommand } from '@aws-sdk/client-s3';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import type { ErrorCode, PgkeepError } from '../../src/base/errors.ts';
import { freeBuffer } from '../../src/base/free-buffer.ts';
import { RetryingStorage } from '../../src/storage/retrying-storage.ts';
import type { HttpTimeouts } from '../../src/storage/s3/http-handler.ts';
import { S3Storage } from '../../src/storage/s3/s3-storage.ts';
import type { Storage } from '../../src/storage/storage.ts';
import type { S3Options } from '../../src/storage/storage-options.ts';
import { TransientError } from '../../src/storage/transient-error.ts';
import { type CephGateway, cephStartMs, type S3Action, startCephGateway } from '../support/ceph-gateway.ts';
import { freePort } from '../support/free-port.ts';
import {
  first,
  type HttpFaults,
  type SeenRequest,
  s3Error,
  startHttpFaults,
  type Verdict,
} from '../support/http-faults.ts';
import { type SwiftServer, startSwiftServer, swiftPageLength } from '../support/swift-server.ts';
import { startTcpProxy } from '../support/tcp-proxy.ts';
import { calls, describeRemoteFaults, describeStorms } from './remote-faults.ts';
import { names } from './storage-names.ts';

let ceph: CephGateway;
let swift: SwiftServer;
let between: HttpFaults;
let betweenSwift: HttpFaults;
/** A bucket for tests that take a prefix of their own. */
let shared: string;
let places = 0;

beforeAll(async () => {
  [ceph, swift] = await Promise.all([startCephGateway(), startSwiftServer()]);
  shared = await ceph.makeBucket();
  between = await startHttpFaults(ceph.port);
  betweenSwift = await startHttpFaults(swift.port);
}, cephStartMs);
afterAll(async () => {
  for (const server of [between, betweenSwift, ceph, swift]) await server[Symbol.asyncDispose]();
});

interface Place {
  server: CephGateway | SwiftServer;
  /** What stands between it and its clients. */
  between: HttpFaults;
  limits?: HttpTimeouts;
}

const onCeph = (): Place => ({ server: ceph, between });
/** For what never answers: on a busy machine others take their time, too. */
const onCephSoon = (): Place => ({ ...onCeph(), limits: timeouts });
const servers: readonly [string, () => Place][] = [
  ['Ceph', onCeph],
  ['Swift', () => ({ server: swift, between: betweenSwift })],
];

const soon = { firstWaitMs: 10, longestWaitMs: 50, patienceMs: 10_000, unansweredAttempts: 3 };
const timeouts = { connectMs: 2_000, idleMs: 1_000 };

interface Parts extends Place, AsyncDisposable {
  bucket: string;
  /** Straight to the server. */
  direct: S3Storage;
  /** Through the server of the test, without and with repetitions. */
  once: S3Storage;
  patient: RetryingStorage;
}

async function open(options: S3Options = {}, on = onCeph): Promise<Parts> {
  const { server, between, limits } = on();
  between.decide(() => 'forward');
  between.requests.length = 0;
  const bucket = await server.makeBucket();
  const direct = new S3Storage(`s3://${bucket}/p`, server.options());
  const through = { ...server.options(server.owner, between.port), ...options };
  const once = new S3Storage(`s3://${bucket}/p`, through, undefined, limits);
  return {
    server,
    between,
    bucket,
    direct,
    once,
    patient: new RetryingStorage(once, undefined, soon),
    async [Symbol.asyncDispose]() {
      await direct.close();
      await once.close();
    },
  };
}

const isPut = (request: SeenRequest) => request.method === 'PUT';
const isGet = (request: SeenRequest) => request.method === 'GET';
const failureOf = (promise: Promise<unknown>): Promise<PgkeepError> =>
  promise.then(
    () => expect.unreachable('it has not failed'),
    error => error,
  );

describeRemoteFaults('S3', {
  serverPort: () => ceph.port,
  place() {
    const prefix = `place-${++places}`;
    return (port, idleMs) =>
      new S3Storage(`s3://${shared}/${prefix}`, ceph.options(ceph.owner, port), undefined, {
        ...timeouts,
        idleMs,
      });
  },
  severalPages: 10_000,
});

describeStorms('S3', {
  between: () => between,
  async place() {
    const { direct, once } = await open({}, onCephSoon);
    return { direct, through: once };
  },
  storm: [
    s3Error(503, 'SlowDown'),
    s3Error(500, 'InternalError'),
    { answer: 502, headers: { 'content-type': 'text/html' }, body: '<html>bad gateway</html>' },
    { answer: 503 },
    s3Error(429, 'TooManyRequests'),
    s3Error(409, 'ConditionalRequestConflict'),
    'lose-answer',
    'hang',
  ],
  askToWait: s3Error(429, 'TooManyRequests', { 'retry-after': '1' }),
});

describe.each(servers)('a connection that is cut: %s', (_, on) => {
  test('in the middle of a put leaves nothing, and the put is made good', async () => {
    await using s3 = await open({}, on);
    const bytes = randomBytes(3_000_000);
    s3.between.decide(() => ({ cutRequestAfter: 1_000_000 }));
    expect(await failureOf(s3.once.put('object', bytes))).toBeInstanceOf(TransientError);
    expect(await names(s3.direct, '')).toEqual([]);
    s3.between.decide(first(2, { cutRequestAfter: 2_000_000 }));
    expect(await s3.patient.put('object', bytes, { ifAbsent: true })).toBe('stored');
    expect(bytes.equals(await s3.direct.get('object'))).toBe(true);
  });

  test('in the middle of a get gives no half object, and the get is made good', async () => {
    await using s3 = await open({}, on);
    const bytes = randomBytes(3_000_000);
    await s3.direct.put('object', bytes);
    s3.between.decide(() => ({ cutAnswerAfter: 1_000_000 }));
    expect(await failureOf(s3.once.get('object'))).toBeInstanceOf(TransientError);
    s3.between.decide(first(2, { cutAnswerAfter: 2_999_999 }));
    expect(bytes.equals(await s3.patient.get('object'))).toBe(true);
  });

  test('by a proxy that goes away is STORAGE_UNREACHABLE', async () => {
    await using s3 = await open({}, on);
    await using proxy = await startTcpProxy(s3.server.port);
    const storage = new S3Storage(`s3://${s3.bucket}`, s3.server.options(s3.server.owner, proxy.port));
    await storage.put('object', randomBytes(1000));
    proxy.cut();
    const failure = await failureOf(
      new RetryingStorage(storage, undefined, { ...soon, patienceMs: 300 }).get('object'),
    );
    expect(failure).toMatchObject({ code: 'STORAGE_UNREACHABLE', hint: expect.stringContaining('network') });
    await storage.close();
  });
});

describe('a server in trouble', () => {
  test('that asks for more patience than there is ends the run, which says so', async () => {
    await using s3 = await open();
    between.decide(() => s3Error(503, 'SlowDown', { 'retry-after': '3600' }));
    const failure = await failureOf(s3.patient.get('object'));
    expect(failure).toMatchObject({ code: 'STORAGE_UNREACHABLE', hint: expect.stringContaining('--jobs') });
    expect(failure.message).toMatch(/reading object from s3:.*a planned SlowDown/);
  });

  test('or a proxy before it that speaks no XML, is quoted by its status', async () => {
    await using s3 = await open();
    between.decide(() => ({ answer: 502, headers: { 'content-type': 'text/html' }, body: '<html>bad' }));
    for (const call of Object.values(calls(s3.once)))
      expect((await failureOf(call())).message).toMatch(/ failed: HTTP status 502$/);
  });

  test('that fails for ever is given up', async () => {
    await using s3 = await open();
    between.decide(() => s3Error(500, 'InternalError'));
    const failure = await failureOf(
      new RetryingStorage(s3.once, undefined, { ...soon, patienceMs: 2_000 }).get('object'),
    );
    expect(failure.message).toMatch(/\(tried \d+ times\)$/);
    expect(failure.context.attempts).toBeGreaterThan(soon.unansweredAttempts);
  });

  test('that answers before it has read all: what was not sent is not read any more', async () => {
    await using s3 = await open();
    between.decide(() => ({ ...(s3Error(503, 'SlowDown') as object), unread: true }) as Verdict);
    for (let round = 0; round < 10; round++) {
      const bytes = Buffer.alloc(16 * 1024 * 1024, round);
      expect(await failureOf(s3.once.put('object', bytes))).toBeInstanceOf(TransientError);
      freeBuffer(bytes);
    }
    between.decide(() => 'forward');
    await s3.patient.put('object', Buffer.alloc(16 * 1024 * 1024, 7));
    expect((await s3.direct.get('object')).equals(Buffer.alloc(16 * 1024 * 1024, 7))).toBe(true);
  });
});

describe('a put that must be the first', () => {
  test.each(servers)('and whose acknowledgement was lost, knows its own object: %s', async (_, on) => {
    await using s3 = await open({}, on);
    await s3.patient.put('first', Buffer.from('so that the store is known'), { ifAbsent: true });
    s3.between.decide(first(1, 'lose-answer', isPut));
    expect(await s3.patient.put('object', randomBytes(1000), { ifAbsent: true })).toBe('stored');
    s3.between.decide(first(3, 'lose-answer', isPut));
    expect(await s3.patient.put('other', randomBytes(1000), { ifAbsent: true })).toBe('stored');
  });

  test('and failed before somebody else stored another, leaves it to them', async () => {
    await using s3 = await open();
    await s3.patient.put('first', Buffer.from('so that the store is known'), { ifAbsent: true });
    between.decide(async request => {
      if (!isPut(request) || (await s3.direct.stat('object')) !== undefined) return 'forward';
      await s3.direct.put('object', Buffer.from('theirs'));
      return s3Error(503, 'SlowDown');
    });
    expect(await s3.patient.put('object', Buffer.from('mine'), { ifAbsent: true })).toBe('exists');
    expect(String(await s3.direct.get('object'))).toBe('theirs');
  });

  test.each([
    ['answers 501 to conditions', () => s3Error(501, 'NotImplemented')],
    ['ignores conditions', null],
  ] as const)('works in a store that %s', async (_, answer) => {
    await using s3 = await open();
    between.decide(async request => {
      if (!isPut(request) || request.headers['if-none-match'] === undefined) return 'forward';
      if (answer !== null) return answer();
      // The signature covers the condition: the test does the put in its own name.
      await s3.direct.put('object', Buffer.from(`put number ${between.requests.filter(isPut).length}`));
      return { answer: 200, headers: { etag: '"x"' } };
    });
    expect(await s3.once.put('object', Buffer.from('put number 1'), { ifAbsent: true })).toBe('stored');
    const conditional = () =>
      between.requests.filter(request => request.headers['if-none-match'] !== undefined).length;
    const asked = conditional();
    expect(asked).toBe(answer === null ? 2 : 1);
    expect(await s3.once.put('object', Buffer.from('mine'), { ifAbsent: true })).toBe('exists');
    expect(String(await s3.direct.get('object'))).not.toBe('mine');
    expect(await s3.once.put('other', Buffer.from('mine'), { ifAbsent: true })).toBe('stored');
    // It is asked but once what it can do.
    expect(conditional()).toBe(asked);
  });

  test('is asked of Swift, which answers 501, but once; from then on it is looked for first', async () => {
    await using s3 = await open({}, servers[1]?.[1]);
    for (const name of ['a', 'b', 'a']) await s3.once.put(name, randomBytes(10), { ifAbsent: true });
    const asked = s3.between.requests.map(({ method, headers }) =>
      headers['if-none-match'] === undefined ? method : `${method} if-none-match`,
    );
    expect(asked).toEqual(['HEAD', 'GET', 'PUT if-none-match', 'PUT', 'HEAD', 'PUT', 'HEAD']);
  });

  test('asks a store once whether it keeps conditions, and from then on does not look first', async () => {
    await using s3 = await open();
    for (const name of ['a', 'b', 'c']) await s3.once.put(name, randomBytes(10), { ifAbsent: true });
    expect(between.requests.map(request => request.method)).toEqual([
      'HEAD',
      'GET',
      'PUT',
      'PUT',
      'PUT',
      'PUT',
    ]);
  });
});

describe('what keeps every call from working has a code and a hint', () => {
  async function expectAll(
    storage: Storage,
    code: ErrorCode,
    { hint, except = [] }: { hint: RegExp; except?: readonly string[] },
  ): Promise<void> {
    for (const [name, call] of Object.entries(calls(storage))) {
      if (except.includes(name)) continue;
      const failure = await failureOf(call());
      expect(failure, name).toMatchObject({ code, hint: expect.stringMatching(hint) });
      expect(failure.exitCode, name).toBe(4);
      expect(failure.message, name).toContain(storage.location);
    }
  }

  test.each(servers)('a bucket that does not exist: %s', async (_, on) => {
    const storage = new S3Storage('s3://no-such-bucket/p', on().server.options());
    await expectAll(storage, 'STORAGE_NOT_FOUND', { hint: /name of the bucket/ });
    await storage.close();
  });

  test.each(servers)('credentials that are wrong, none of which is shown: %s', async (_, on) => {
    await using s3 = await open({}, on);
    for (const wrong of [
      { ...s3.server.owner, secretAccessKey: 'a wrong secret, not to be shown' },
      { ...s3.server.owner, accessKeyId: 'NOSUCHKEY', secretAccessKey: 'a wrong secret, not to be shown' },
    ]) {
      const storage = new S3Storage(`s3://${s3.bucket}`, s3.server.options(wrong));
      await expectAll(storage, 'STORAGE_CREDENTIALS', { hint: /AWS_SECRET_ACCESS_KEY/ });
      const failure = await failureOf(storage.get('object'));
      expect(inspect(failure, { depth: 20, showHidden: true })).not.toContain('not to be shown');
      await storage.close();
    }
  });

  test('credentials that are no longer good', async () => {
    await using s3 = await open({ sessionToken: 'a token' });
    between.decide(() => s3Error(400, 'ExpiredToken'));
    await expectAll(s3.once, 'STORAGE_CREDENTIALS', { hint: /limited time/ });
  });

  test.each([
    { rights: [], denied: ['put', 'put if absent', 'get', 'stat', 'list', 'remove'] },
    { rights: ['s3:ListBucket', 's3:GetObject'], denied: ['put', 'remove'] },
    { rights: ['s3:ListBucket', 's3:PutObject'], denied: ['get', 'remove'] },
    { rights: ['s3:PutObject', 's3:GetObject'], denied: ['list', 'remove'] },
    { rights: ['s3:ListBucket', 's3:GetObject', 's3:PutObject'], denied: ['remove'] },
  ] satisfies { rights: S3Action[]; denied: string[] }[])(
    'the rights $rights and no more',
    async ({ rights, denied }) => {
      const bucket = await ceph.makeBucket(rights);
      const owners = new S3Storage(`s3://${bucket}`, ceph.options());
      await owners.put('object', Buffer.from('x'));
      const storage = new S3Storage(`s3://${bucket}`, ceph.options(ceph.guest));
      const all = Object.keys(calls(storage));
      await expectAll(storage, 'STORAGE_DENIED', {
        hint: /policies/,
        except: all.filter(call => !denied.includes(call)),
      });
      expect(await names(owners, '')).toEqual(['object']);
      await Promise.all([owners.close(), storage.close()]);
    },
  );

  test('a server that is down, which does not take long to find out', async () => {
    const port = await freePort();
    const storage = new S3Storage('s3://bucket', ceph.options(ceph.owner, port));
    const started = Date.now();
    await expectAll(new RetryingStorage(storage), 'STORAGE_UNREACHABLE', {
      hint: /endpoint/,
      except: ['put', 'put if absent', 'get', 'list', 'remove'],
    });
    expect(Date.now() - started).toBeLessThan(50_000);
    await expectAll(storage, 'STORAGE_UNREACHABLE', { hint: /endpoint/ });
  });

  test('a server whose name is not known', async () => {
    const storage = new S3Storage('s3://bucket', {
      ...ceph.options(),
      endpoint: 'http://no-such-host.invalid:9000',
    });
    await expectAll(storage, 'STORAGE_UNREACHABLE', { hint: /name servers/ });
  });

  test('no credentials at all, or no region', async () => {
    vi.stubEnv('AWS_EC2_METADATA_DISABLED', 'true');
    vi.stubEnv('AWS_SHARED_CREDENTIALS_FILE', '/nowhere');
    vi.stubEnv('AWS_CONFIG_FILE', '/nowhere');
    for (const name of ['AWS_REGION', 'AWS_ACCESS_KEY_ID', 'AWS_PROFILE']) vi.stubEnv(name, undefined);
    try {
      const storage = new S3Storage('s3://bucket', { endpoint: ceph.endpoint });
      expect(await failureOf(storage.get('object'))).toMatchObject({ code: 'STORAGE_CREDENTIALS' });
      const nowhere = new S3Storage('s3://bucket', { ...ceph.owner });
      expect(await failureOf(nowhere.get('object'))).toMatchObject({
        code: 'OPTION_INVALID',
        hint: expect.stringContaining('AWS_REGION'),
      });
    } finally {
      vi.unstubAllEnvs();
    }
  });
});

test.each(servers)('a clock that is wrong by an hour is corrected by the first answer: %s', async (_, on) => {
  await using s3 = await open({}, on);
  await s3.direct.put('object', Buffer.from('x'));
  vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + 3_600_000 });
  try {
    expect(await failureOf(s3.once.get('object'))).toMatchObject({ hint: expect.stringContaining('clock') });
    expect(String(await s3.patient.get('object'))).toBe('x');
    await s3.patient.put('other', Buffer.from('y'), { ifAbsent: true });
  } finally {
    vi.useRealTimers();
  }
});

describe('an interruption', () => {
  test.each(['hang', { delayMs: 30_000 }] satisfies Verdict[])(
    'ends a put that has to wait (%j), and nothing is stored',
    async verdict => {
      await using s3 = await open();
      const interruption = new AbortController();
      const storage = new S3Storage(
        `s3://${s3.bucket}/p`,
        ceph.options(ceph.owner, between.port),
        interruption.signal,
      );
      between.decide(() => verdict);
      const failed = failureOf(
        new RetryingStorage(storage, interruption.signal).put('object', randomBytes(100_000)),
      );
      setTimeout(() => interruption.abort(), 100);
      expect(await failed).toMatchObject({ code: 'INTERRUPTED' });
      expect(await names(s3.direct, '')).toEqual([]);
      await storage.close();
    },
  );

  test('ends the waiting between repetitions', async () => {
    await using s3 = await open();
    const interruption = new AbortController();
    between.decide(() => s3Error(503, 'SlowDown', { 'retry-after': '60' }));
    const failed = failureOf(new RetryingStorage(s3.once, interruption.signal).get('object'));
    setTimeout(() => interruption.abort(), 100);
    const started = Date.now();
    expect(await failed).toMatchObject({ code: 'INTERRUPTED' });
    expect(Date.now() - started).toBeLessThan(50_000);
  });
});

describe.each(servers)('a bucket with much in it: %s', (_, on) => {
  test('is listed page by page, also when a page fails, without what is not of the repository', async () => {
    await using s3 = await open({}, on);
    const count = 2.5 * (s3.server === swift ? swiftPageLength : 1_000);
    const all = Array.from({ length: count }, (_, i) => `many/${i % 10}/${i}`).sort();
    for (let start = 0; start < count; start += 50)
      await Promise.all(all.slice(start, start + 50).map(name => s3.direct.put(name, Buffer.from(name))));
    for (const Key of ['p/a b', 'p/.hidden', 'p/folder/', 'p/ä+%&<>"', 'q/other', 'px'])
      await s3.server.client.send(new PutObjectCommand({ Bucket: s3.bucket, Key, Body: 'not ours' }));
    expect(await names(s3.patient, '')).toEqual(all);
    expect(s3.between.requests.filter(isGet).length).toBe(3);
    let pages = 0;
    s3.between.decide(() => ([2, 3].includes(++pages) ? s3Error(500, 'InternalError') : 'forward'));
    expect(await names(s3.patient, 'many/')).toEqual(all);
    expect(await names(s3.patient, 'many/7/')).toEqual(all.filter(name => name.startsWith('many/7/')));
    await s3.patient.remove(all);
    expect(await names(s3.direct, '')).toEqual([]);
  });
});

describe('a listing that the store cuts off without a way to go on', () => {
  const page = (next: string) => ({
    answer: 200,
    headers: { 'content-type': 'application/xml' },
    body: `<?xml version="1.0"?><ListBucketResult><IsTruncated>true</IsTruncated>${next}<Contents><Key>p/first</Key><Size>1</Size></Contents></ListBucketResult>`,
  });

  test.each([
    { title: 'no token, as of the first version of listings', next: '<NextMarker>p/first</NextMarker>' },
    { title: 'the same token again', next: '<NextContinuationToken>same</NextContinuationToken>' },
  ])('has not ended: $title', async ({ next }) => {
    await using s3 = await open();
    s3.between.decide(() => page(next));
    expect(await failureOf(names(s3.patient, ''))).toMatchObject({
      code: 'STORAGE_UNFIT',
      hint: expect.stringContaining('list-type=2'),
    });
  });
});

describe('what is sent', () => {
  test('is signed with a hash of the contents, and has no checksums that S3 does not ask for', async () => {
    await using s3 = await open();
    await s3.once.put('object', Buffer.from('x'));
    const [put] = between.requests;
    expect(put?.path).toBe(`/${s3.bucket}/p/object?x-id=PutObject`);
    expect(put?.headers['x-amz-content-sha256']).toMatch(/^[0-9a-f]{64}$/);
    expect(Object.keys(put?.headers ?? {}).filter(name => /checksum|sdk-checksum|expect/.test(name))).toEqual(
      [],
    );
  });

  test.each(servers)('has checksums when asked for, and the store takes them: %s', async (_, on) => {
    await using s3 = await open({ checksums: 'when-supported' }, on);
    const bytes = randomBytes(100_000);
    await s3.once.put('object', bytes);
    expect(Object.keys(s3.between.requests[0]?.headers ?? {})).toContain('x-amz-checksum-crc32');
    expect(bytes.equals(await s3.once.get('object'))).toBe(true);
  });

  test('says class, encryption and tags of the object', async () => {
    await using s3 = await open({
      storageClass: 'STANDARD_IA',
      kmsKeyId: 'a-key',
      tags: ['team=ops & more', 'x='],
    });
    between.decide(() => ({ answer: 200, headers: { etag: '"x"' } }));
    await s3.once.put('object', Buffer.from('x'));
    expect(between.requests[0]?.headers).toMatchObject({
      'x-amz-storage-class': 'STANDARD_IA',
      'x-amz-server-side-encryption': 'aws:kms',
      'x-amz-server-side-encryption-aws-kms-key-id': 'a-key',
      'x-amz-tagging': 'team=ops%20%26%20more&x=',
    });
  });

  test('tags the object in the store', async () => {
    await using s3 = await open({ tags: ['team=ops & more'] });
    await s3.once.put('object', Buffer.from('x'));
    const { TagSet } = await ceph.client.send(
      new GetObjectTaggingCommand({ Bucket: s3.bucket, Key: 'p/object' }),
    );
    expect(TagSet).toEqual([{ Key: 'team', Value: 'ops & more' }]);
  });
});

test.each([
  ['s3://', {}],
  ['s3://b', {}],
  ['s3://user:secret@bucket/x', {}],
  ['s3://bucket/../x', {}],
  ['s3://bucket', { endpoint: 'ftp://host' }],
  ['s3://bucket', { endpoint: 'https://user:secret@host' }],
  ['s3://bucket', { tags: ['no value'] }],
] satisfies [string, S3Options][])('%s with %j is refused before anything is sent', (address, options) => {
  const make = () => new S3Storage(address, options);
  expect(make).toThrow(expect.objectContaining({ code: 'OPTION_INVALID' }));
  expect(make).not.toThrow(/secret/);
});
