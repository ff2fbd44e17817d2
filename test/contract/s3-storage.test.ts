// Storage in S3 keeps the contract, on real servers: Ceph's gateway, which has all that S3 has, and Swift, which does not.

import { afterAll, beforeAll, expect, test } from 'vitest';
import { S3Storage } from '../../src/storage/s3/s3-storage.ts';
import { type CephGateway, cephStartMs, startCephGateway } from '../support/ceph-gateway.ts';
import { type SwiftServer, startSwiftServer } from '../support/swift-server.ts';
import { describeStorage } from './storage.ts';

let ceph: CephGateway;
let swift: SwiftServer;

beforeAll(async () => {
  [ceph, swift] = await Promise.all([startCephGateway(), startSwiftServer()]);
}, cephStartMs);
afterAll(async () => {
  await ceph[Symbol.asyncDispose]();
  await swift[Symbol.asyncDispose]();
});

async function openIn(server: CephGateway | SwiftServer) {
  const bucket = await server.makeBucket();
  const open = () => new S3Storage(`s3://${bucket}/some/prefix`, server.options());
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
}

describeStorage('S3: Ceph', () => openIn(ceph));
describeStorage('S3: Swift', () => openIn(swift), { oneWinner: true });

test('S3: Swift cannot lock objects, says so before anything is stored, and is caught when it forgets a lock', async () => {
  await using under = await openIn(swift);
  const { storage } = under;
  const until = new Date(Date.now() + 3_600_000);
  const unfit = { code: 'STORAGE_UNFIT' };
  await expect(storage.locks?.check()).rejects.toMatchObject(unfit);
  await expect(storage.put('object', Buffer.from('x'), { lockedUntil: until })).rejects.toMatchObject(unfit);
  // It takes what should lock an object for new contents.
  await expect(storage.locks?.extend('object', until)).rejects.toMatchObject(unfit);
  expect(String(await storage.get('object'))).toBe('x');
  await storage.remove(['object'], { unlessLocked: true });
  expect(await storage.stat('object')).toBeUndefined();
});
