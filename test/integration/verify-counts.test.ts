// What is whole but not what the manifest counts, and data of any size in bounded memory: with manifests written for it.

import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { RangeEntry } from '../../src/repository/manifest.ts';
import { segmentBytes } from '../../src/repository/segment.ts';
import { storeChanged } from '../support/changed-backup.ts';
import { startPgkeep } from '../support/pgkeep-process.ts';
import { psql, type Server, startServer } from '../support/postgres-server.ts';
import { backUp, testKey } from '../support/round-trip.ts';
import { makeTempFolder } from '../support/temp-folder.ts';
import { verify } from '../support/verify-database.ts';

let server: Server;
const folder = makeTempFolder('repository');
let original: string;

beforeAll(async () => {
  server = await startServer();
  await server.createDatabase('shop');
  await psql(server, 'shop', 'CREATE TABLE t AS SELECT i AS id FROM generate_series(1, 100) AS i');
  original = (await backUp(server, 'shop', folder.path)).id;
});
afterAll(async () => {
  await server[Symbol.asyncDispose]();
});

it('the backup that the others are made from is valid', async () => {
  const copied = await storeChanged(folder.path, original, async () => ({}));
  const { backups } = await verify(server, folder.path, { backup: copied });
  expect(backups).toMatchObject([{ valid: true, rowsCompared: 100 }]);
});

it.each([
  [
    'a row more than there is',
    (range: RangeEntry) => ({ ...range, rows: range.rows + 1 }),
    /^range 0 of public\.t holds 100 rows where backups\/.* counts 101$/,
  ],
  [
    'a slice that ends within a row',
    ({ slices: [slice, ...more], ...range }: RangeEntry) => ({
      ...range,
      bytes: range.bytes - 1,
      rows: range.rows - 1,
      slices: slice === undefined ? more : [{ ...slice, bytes: slice.bytes - 1 }, ...more],
    }),
    /^range 0 of public\.t does not end with the end of a row$/,
  ],
  [
    'a segment longer than it is',
    ({ slices, ...range }: RangeEntry) => ({
      ...range,
      slices: slices.map(slice => ({ ...slice, plainBytes: slice.plainBytes + 7 })),
    }),
    /^segments\/.* holds 292 bytes where the manifest says 299$/,
  ],
] as const)('a manifest that counts %s', async (_, change, message) => {
  const id = await storeChanged(folder.path, original, async ({ tables }) => ({
    tables: tables.map(table => {
      const ranges = (table.ranges ?? []).map(range => change(range));
      const sum = (value: (range: RangeEntry) => number) =>
        ranges.reduce((total, one) => total + value(one), 0);
      return { ...table, ranges, rows: sum(range => range.rows), bytes: sum(range => range.bytes) };
    }),
  }));
  const { backups } = await verify(server, folder.path, { backup: id });
  expect(backups).toMatchObject([
    {
      valid: false,
      checksumValid: true,
      encryptionValid: true,
      sizeValid: false,
      errors: [
        { code: 'CONTENT_MISMATCH', message: expect.stringMatching(message), tables: [{ name: 't' }] },
      ],
    },
  ]);
});

it('an archive that is whole, but none that pg_restore reads', async () => {
  const id = await storeChanged(folder.path, original, async (_, store) => {
    const segment = await store.store(Buffer.from('not an archive'));
    return {
      archive: { programVersion: '15.0', bytes: segment.plainBytes, segments: [{ ...segment, key: 0 }] },
    };
  });
  const { backups } = await verify(server, folder.path, { backup: id });
  expect(backups).toMatchObject([
    { valid: false, errors: [{ code: 'PROGRAM_FAILED', object: `backups/${id}.backup` }] },
  ]);
});

it('reads 800 MiB of rows in less than 350 MB of memory', async () => {
  const segments = 100;
  const line = 'the same few words in every row, and a number: ';
  const id = await storeChanged(folder.path, original, async ({ tables: [table], keys }, store) => {
    const ranges: RangeEntry[] = [];
    for (let index = 0; index < segments; index++) {
      const row = `${line}${index}\n`;
      const plain = Buffer.alloc(segmentBytes - (segmentBytes % row.length), row);
      const bytes = plain.length;
      const ref = await store.store(plain);
      ranges.push({ rows: bytes / row.length, bytes, slices: [{ ...ref, key: 0, offset: 0, bytes }] });
    }
    const sum = (value: (range: RangeEntry) => number) =>
      ranges.reduce((total, one) => total + value(one), 0);
    if (table === undefined) throw new Error('there is no table');
    return {
      keys,
      tables: [{ ...table, ranges, rows: sum(range => range.rows), bytes: sum(range => range.bytes) }],
    };
  });
  const words = ['verify', id, '--repository', folder.path, '--programs', server.binDir, '--json'];
  const run = startPgkeep(words, { env: { BACKUP_ENCRYPTION_KEY: testKey } });
  let peakKb = 0;
  let hasEnded = false;
  run.ended.then(() => {
    hasEnded = true;
  });
  while (!hasEnded) {
    try {
      const status = readFileSync(`/proc/${run.pid}/status`, 'utf8');
      peakKb = Math.max(peakKb, Number(/VmHWM:\s+(\d+)/.exec(status)?.[1] ?? 0));
    } catch {
      // It has just ended.
    }
    await sleep(20);
  }
  const { exitCode, out, err } = await run.ended;
  expect(exitCode, err).toBe(0);
  expect(JSON.parse(out).backups).toMatchObject([{ valid: true, rowsCompared: expect.any(Number) }]);
  expect(peakKb).toBeGreaterThan(0);
  expect(peakKb * 1024).toBeLessThan(350_000_000);
});
