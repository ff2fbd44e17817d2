// Storage in S3 keeps the contract, on a real server: Ceph's gateway.

import { afterAll, beforeAll } from 'vitest';
import { S3Storage } from '../../src/storage/s3/s3-storage.ts';
import { type CephGateway, cephStartMs, startCephGateway } from '../support/ceph-gateway.ts';
import { describeStorage } from './storage.ts';

let ceph: CephGateway;

beforeAll(async () => {
  ceph = await startCephGateway();
}, cephStartMs);
afterAll(async () => {
  await ceph[Symbol.asyncDispose]();
});

describeStorage('S3: Ceph', async () => {
  const bucket = await ceph.makeBucket();
  const open = () => new S3Storage(`s3://${bucket}/some/prefix`, ceph.options());
  const opened = [open()];
  return {
    storage: opened[0] as S3Storage,
    reopen: async () => {
      const another = open();
      opened.push(another);
      return another;
    },
    async [Symbol.asyncDispose]() {
      await Promise.all(opened.map(storage => storage.close()));
    },
  };
});
