// Storage in Google Cloud Storage keeps the contract, on a server of the tests that takes and refuses what Google's does by
// its documentation. No real one was ever asked: docs/guide.md says so.

import { randomBytes } from 'node:crypto';
import { inspect } from 'node:util';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { openGcs } from '../../src/storage/s3/open-gcs.ts';
import { type CephGateway, cephStartMs, startCephGateway } from '../support/ceph-gateway.ts';
import { type GcsServer, startGcsServer } from '../support/gcs-server.ts';
import { describeStorage } from './storage.ts';
import { names } from './storage-names.ts';

let ceph: CephGateway;
let gcs: GcsServer;

beforeAll(async () => {
  ceph = await startCephGateway();
  gcs = await startGcsServer(ceph);
}, cephStartMs);
afterAll(async () => {
  await gcs[Symbol.asyncDispose]();
  await ceph[Symbol.asyncDispose]();
});

describeStorage('Google Cloud Storage, as documented', async () => {
  const bucket = await gcs.makeBucket();
  const open = () => openGcs(`gs://${bucket}/some/prefix`, gcs.options);
  const storage = open();
  const opened = [storage];
  return {
    storage,
    reopen: async () => {
      const another = open();
      opened.push(another);
      return another;
    },
    async [Symbol.asyncDispose]() {
      await Promise.all(opened.map(each => each.close()));
    },
  };
});

test('what is sent is all in the words of Google, and the condition is signed', async () => {
  const storage = openGcs(`gs://${await gcs.makeBucket()}`, { ...gcs.options, storageClass: 'NEARLINE' });
  expect(storage.location).toMatch(/^gs:\/\//);
  gcs.requests.length = 0;
  await storage.put('object', randomBytes(1000), { ifAbsent: true });
  await storage.put('object', randomBytes(1000));
  expect(await names(storage, '')).toEqual(['object']);
  await storage.remove(['object']);
  const condition = 'x-goog-if-generation-match';
  expect(gcs.requests.map(({ method, headers }) => [method, headers[condition]])).toEqual([
    ['HEAD', undefined],
    ['GET', undefined],
    ['PUT', '0'],
    // Whether the condition is kept is found out.
    ['PUT', '0'],
    ['PUT', undefined],
    ['GET', undefined],
    ['DELETE', undefined],
  ]);
  const signed = `content-type;host;x-goog-content-sha256;x-goog-date;${condition};x-goog-storage-class`;
  expect(gcs.requests[2]?.headers).toMatchObject({
    'x-goog-storage-class': 'NEARLINE',
    'x-goog-content-sha256': expect.stringMatching(/^[0-9a-f]{64}$/),
    authorization: expect.stringContaining(`SignedHeaders=${signed},`),
  });
  for (const { path, headers } of gcs.requests) {
    expect(Object.keys(headers).filter(name => /amz|checksum|encoding|none-match/.test(name))).toEqual([]);
    expect(path).not.toContain('x-id');
  }
  await storage.close();
});

test('a writer without the right to delete stores each object once, and overwrites none', async () => {
  await using strict = await startGcsServer(ceph);
  strict.forbidDeletion();
  const storage = openGcs(`gs://${await strict.makeBucket()}`, strict.options);
  for (const name of ['a', 'b', 'c'])
    expect(await storage.put(name, Buffer.from(name), { ifAbsent: true })).toBe('stored');
  expect(await storage.put('a', Buffer.from('other'), { ifAbsent: true })).toBe('exists');
  const denied = { code: 'STORAGE_DENIED', message: expect.stringContaining('storage.objects.delete') };
  await expect(storage.put('a', Buffer.from('other'))).rejects.toMatchObject(denied);
  await expect(storage.remove(['a'])).rejects.toMatchObject(denied);
  expect(String(await storage.get('a'))).toBe('a');
  await storage.close();
});

test('a probe finds that conditions are kept, and asks nothing that only Amazon has', async () => {
  const storage = openGcs(`gs://${await gcs.makeBucket()}`, gcs.options);
  expect(await storage.examine('scratch')).toEqual({
    transport: { host: '127.0.0.1', isEncrypted: false },
    conditionalPut: 'kept',
  });
  await storage.close();
});

test('an HMAC key that is wrong or missing is named, its secret never', async () => {
  const bucket = await gcs.makeBucket();
  for (const wrong of [{ secret: 'not to be shown' }, { accessId: 'GOOGNONE', secret: 'not to be shown' }]) {
    const storage = openGcs(`gs://${bucket}`, { ...gcs.options, ...wrong });
    const failure = await storage.get('object').catch(error => error);
    expect(failure).toMatchObject({
      code: 'STORAGE_CREDENTIALS',
      hint: expect.stringContaining('GCS_HMAC_SECRET'),
    });
    expect(await storage.stat('object').catch(error => error.code)).toBe('STORAGE_CREDENTIALS');
    expect(inspect(failure, { depth: 20, showHidden: true })).not.toContain('not to be shown');
    await storage.close();
  }
  expect(() => openGcs(`gs://${bucket}`, { accessId: 'GOOG' })).toThrow(
    expect.objectContaining({ code: 'STORAGE_CREDENTIALS', hint: expect.stringContaining('hmac create') }),
  );
});
