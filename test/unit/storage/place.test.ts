// Which addresses are one place, and which are not though they look alike.
import { mkdirSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { openStorage, openStorageToRead } from '../../../src/storage/open-storage.ts';
import type { StorageOptions } from '../../../src/storage/storage-options.ts';
import { makeTempFolder } from '../../support/temp-folder.ts';

type Side = readonly [address: string, options?: StorageOptions];

async function placeOf([address, options]: Side): Promise<string> {
  const storage = await openStorage(address, options);
  const reading = await openStorageToRead(address, options);
  const place = await storage.place();
  expect(await reading.place()).toBe(place);
  await storage.close();
  await reading.close();
  return place;
}

const s3 = (endpoint?: string): StorageOptions => ({ s3: { endpoint, region: 'auto' } });
const login = { accessId: 'id', secret: 'not to be seen' };
const connection = (account: string) =>
  `DefaultEndpointsProtocol=https;AccountName=${account};AccountKey=bm90IHRvIGJlIHNlZW4=;EndpointSuffix=core.windows.net`;

test.each<readonly [Side, Side]>([
  [
    ['s3://shop/n', s3()],
    ['s3://shop/n', s3('https://account.r2.cloudflarestorage.com')],
  ],
  [
    ['s3://shop/n', s3('http://127.0.0.1:1')],
    ['s3://shop/n', s3('http://127.0.0.1:2')],
  ],
  [['s3://shop/n'], ['s3://shop/m']],
  [
    ['azure://shop', { azure: { account: 'first' } }],
    ['azure://shop', { azure: { account: 'second' } }],
  ],
  [
    ['azure://shop', { azure: { connectionString: connection('first') } }],
    ['azure://shop', { azure: { connectionString: connection('second') } }],
  ],
  [['sftp://me@nas/a'], ['sftp://me@nas:2222/a']],
  [['sftp://me@nas/a'], ['sftp://you@nas/a']],
])('%j and %j are two places', async (one, other) => {
  expect(await placeOf(one)).not.toBe(await placeOf(other));
});

test.each<readonly [Side, Side]>([
  [
    ['s3://shop/n', s3()],
    ['S3://shop/n/', s3('https://s3.eu-central-1.amazonaws.com')],
  ],
  [
    ['s3://shop/n', s3('https://S3.example.org')],
    ['s3://shop//n', s3('https://s3.example.org:443/')],
  ],
  [
    ['gs://shop/n', { gcs: login }],
    ['s3://shop/n', s3('https://storage.googleapis.com')],
  ],
  [
    ['azure://shop', { azure: { account: 'first', key: 'bm90' } }],
    ['azure://shop/', { azure: { connectionString: connection('first') } }],
  ],
  [['sftp://me@nas/a'], ['sftp://me@NAS:22/a/']],
])('%j and %j are one place', async (one, other) => {
  expect(await placeOf(one)).toBe(await placeOf(other));
});

test('a folder is one place by whichever name, also before it is there', async () => {
  await using folder = makeTempFolder('place');
  const [real, link] = [join(folder.path, 'real'), join(folder.path, 'link')];
  mkdirSync(real);
  symlinkSync(real, link);
  expect(await placeOf([link])).toBe(await placeOf([`file://${real}`]));
  expect(await placeOf([join(link, 'new')])).toBe(await placeOf([join(real, 'new')]));
  expect(await placeOf([real])).not.toBe(await placeOf([folder.path]));
});

test('a place holds no credentials', async () => {
  const places = [
    await placeOf(['gs://shop', { gcs: login }]),
    await placeOf(['azure://shop', { azure: { connectionString: connection('first') } }]),
  ];
  for (const place of places) expect(place).not.toMatch(/not to be seen|bm90/);
});
