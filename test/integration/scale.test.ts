// What memory grows with: list, verify --level metadata and cleanup go through tens of thousands of segments with a heap in
// which nothing has room that takes some hundred bytes of each. npm run scale does so with five millions.

import { readdirSync, utimesSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, expect, test } from 'vitest';
import { generateKey } from '../../src/crypto/key.ts';
import { measureStructures } from '../support/measure-structures.ts';
import { runMeasured } from '../support/run-measured.ts';
import { makeScaleRepository, type ScaleRepository } from '../support/scale-repository.ts';
import { makeTempFolder } from '../support/temp-folder.ts';

const heapMb = 40;
const garbage = 1500;
const encryptionKey = generateKey();
const folder = makeTempFolder('scale');
let made: ScaleRepository;

beforeAll(async () => {
  made = await makeScaleRepository({
    folder: folder.path,
    key: encryptionKey,
    segments: 60_000,
    tables: 3,
    garbage,
  });
});

test('list does not read the manifest', async () => {
  const { result, requests } = await runMeasured('listBackups', { repository: folder.path }, heapMb);
  expect(result.map(({ id }) => id)).toEqual([made.backup]);
  expect(requests).toMatchObject({ get: 2, put: 0 });
  expect(requests.listed).toBe(1);
});

test('verify --level metadata lists the segments once, and holds none of the ranges', async () => {
  const options = { repository: folder.path, encryptionKey, level: 'metadata' } as const;
  const { result, requests } = await runMeasured('verifyBackups', options, heapMb);
  expect(result).toMatchObject({ valid: true, backups: [{ errors: [] }] });
  expect(requests.get).toBeLessThan(made.indexSegments + 10);
  expect(requests.listed).toBeLessThan(made.named + garbage + 10);
  expect(requests.stat).toBeLessThan(10);
});

test('cleanup keeps what is named and deletes what is not', async () => {
  const options = { repository: folder.path, encryptionKey };
  const first = await runMeasured('cleanupRepository', options, heapMb);
  expect(first.result.candidates).toMatchObject({ segments: garbage, keys: 0 });
  const lists = readdirSync(join(folder.path, 'garbage'));
  expect(lists).toHaveLength(1);
  const then = Date.now() / 1000 - 2 * 86_400;
  for (const list of lists) utimesSync(join(folder.path, 'garbage', list), then, then);
  const { result, requests } = await runMeasured('cleanupRepository', options, heapMb);
  expect(result.deleted).toMatchObject({ segments: garbage, keys: 0 });
  expect(requests.get).toBeLessThan(made.indexSegments + 20);
  const verified = await runMeasured('verifyBackups', { ...options, level: 'metadata' }, heapMb);
  expect(verified.result.valid).toBe(true);
});

test('create, restore, replicate, export and verify --level data keep some hundred bytes of a segment', async () => {
  const bytes = await measureStructures(100_000);
  expect(bytes['create, first backup']).toBeLessThan(200);
  expect(bytes['create, second backup']).toBeLessThan(250);
  expect(bytes.restore).toBeLessThan(200);
  expect(bytes.replicate).toBeLessThan(250);
  expect(bytes['export, restore --data-only']).toBeLessThan(200);
  expect(bytes['verify, level data']).toBeLessThan(400);
});
