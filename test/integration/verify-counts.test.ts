// What is whole but not what the manifest counts, and data of any size in bounded memory: with manifests written for it.

import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { RangeBase, RangeEntry, Slice } from '../../src/repository/manifest.ts';
import { NumberListWriter } from '../../src/repository/number-list.ts';
import { segmentBytes } from '../../src/repository/segment.ts';
import type { SegmentStore } from '../../src/repository/segment-store.ts';
import { storeChanged } from '../support/changed-backup.ts';
import { startPgkeep } from '../support/pgkeep-process.ts';
import { psql, type Server, startServer } from '../support/postgres-server.ts';
import { backUp, restoreInto, testKey } from '../support/round-trip.ts';
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

describe('a range with a delta', () => {
  const numbers = (from: number, to: number) => Array.from({ length: to - from }, (_, index) => from + index);
  const list = (all: readonly number[]) => {
    const writer = new NumberListWriter();
    for (const number of all) writer.add(number);
    return writer.bytes();
  };
  /** Slices that are whole segments. */
  const put = async (store: SegmentStore, parts: readonly Buffer[]): Promise<Slice[]> => {
    const refs = await Promise.all(parts.map(part => store.store(part)));
    return refs.map(ref => ({ ...ref, offset: 0, bytes: ref.plainBytes }));
  };
  const base: RangeBase = { rows: 62, slices: 1, ctids: 1, xmin: '700', deltas: 1, added: 41 };

  /** The hundred rows as 62 lines of a base, two of which are gone, and 41 of a delta, one of which is. */
  async function storeDelta(change: (store: SegmentStore) => Promise<Partial<RangeEntry>>): Promise<string> {
    return await storeChanged(folder.path, original, async ({ tables: [table], archive }, store) => {
      if (table === undefined) throw new Error('there is no table');
      const text = (all: readonly number[]) => Buffer.from(all.map(number => `${number}\n`).join(''));
      const range: RangeEntry = {
        rows: 100,
        bytes: 0,
        slices: await put(store, [text([7777, ...numbers(1, 61), 8888]), text([...numbers(61, 101), 9999])]),
        ctids: await put(store, [list(numbers(0, 62)), list(numbers(900, 941))]),
        gone: await put(store, [list([0, 61, 102])]),
        base,
        ...(await change(store)),
      };
      range.bytes = range.slices.reduce((sum, slice) => sum + slice.bytes, 0);
      const { rows, bytes } = range;
      const segments = await Promise.all(archive.segments.map(async ({ id }) => store.find(id)));
      return {
        tables: [{ ...table, rows, bytes, ranges: [range] }],
        archive: { ...archive, segments: segments.filter(found => found !== undefined) },
        keys: store.keys,
      };
    });
  }

  const restore = (backup: string) => restoreInto(server, 'restored', folder.path, { backup, create: true });

  it('is valid, also when its lists are cut', async () => {
    const cut = (bytes: Buffer) => [bytes.subarray(0, 2), bytes.subarray(2)];
    const ids = [
      await storeDelta(async () => ({})),
      await storeDelta(async store => ({
        gone: await put(store, cut(list([0, 61, 102]))),
        ctids: await put(store, [...cut(list(numbers(0, 62))), ...cut(list(numbers(900, 941)))]),
        base: { ...base, ctids: 2 },
      })),
    ];
    for (const backup of ids) {
      const { backups } = await verify(server, folder.path, { backup });
      expect(backups).toMatchObject([{ valid: true, rowsCompared: 100, errors: [] }]);
      await restore(backup);
      const rows = await psql(server, 'restored', 'SELECT count(*), min(id), max(id), sum(id) FROM t');
      expect(rows).toBe('100|1|100|5050\n');
      await server.dropDatabase('restored');
    }
  });

  const gone = (bytes: Buffer) => async (store: SegmentStore) => ({ gone: await put(store, [bytes]) });
  it.each([
    ['a list of gone lines that is none', gone(Buffer.from([3, 1])), /^has no list of ascending numbers/],
    ['two lists of gone lines', gone(Buffer.from([0, 0])), /^has no list of ascending numbers/],
    ['a gone line beyond the last', gone(list([0, 61, 103])), /^lacks line 103, .* it has 103$/],
    ['a line too many that is gone', gone(list([0, 60, 61, 102])), /^holds 99 rows where .* counts 100$/],
    ['another row', async () => ({ rows: 101 }), /^holds 100 rows where .* counts 101$/],
  ] as const)('with %s is not restored', async (_, change, message) => {
    const backup = await storeDelta(change);
    const { backups } = await verify(server, folder.path, { backup });
    expect(backups).toMatchObject([{ valid: false, sizeValid: false, checksumValid: true }]);
    expect(
      backups[0]?.errors.map(problem => problem.message.replace('range 0 of public.t ', '')),
    ).toContainEqual(expect.stringMatching(message));
    await expect(restore(backup)).rejects.toMatchObject({
      code: 'OBJECT_DAMAGED',
      message: expect.stringContaining('range 0 of public.t'),
    });
  });

  const ctids =
    (...parts: Buffer[]) =>
    async (store: SegmentStore) => ({ ctids: await put(store, parts) });
  const based = (change: Partial<RangeBase>) => async () => ({ base: { ...base, ...change } });
  const [baseCtids, deltaCtids] = [list(numbers(0, 62)), list(numbers(900, 941))];
  it.each([
    [
      'ctids that are no list',
      ctids(baseCtids, Buffer.from([9])),
      'has no lists of ascending ctids for its deltas, not 1',
    ],
    ['a list of ctids too few', ctids(baseCtids), 'has 0 lists of ctids for its deltas, not 1'],
    [
      'a ctid too few',
      ctids(baseCtids, list(numbers(900, 940))),
      'has 40 ctids for the 41 lines of its deltas',
    ],
    ['a ctid too many', ctids(list(numbers(0, 63)), deltaCtids), 'has 63 ctids for the 62 lines of its base'],
    ['a base of other lines', based({ rows: 61 }), 'has 62 lines in its base, not 61'],
    ['deltas of other lines', based({ added: 40 }), 'has 41 lines in its deltas, not 40'],
    ['another number of deltas', based({ deltas: 2 }), 'has 1 lists of ctids for its deltas, not 2'],
    ['a base of more slices', based({ slices: 2 }), 'has 103 lines in its base, not 62'],
  ] as const)('with %s is found, though a restore does without it', async (_, change, message) => {
    const backup = await storeDelta(change);
    const { backups } = await verify(server, folder.path, { backup });
    expect(backups).toMatchObject([{ valid: false, sizeValid: false, rowsCompared: 100 }]);
    expect(backups[0]?.errors.map(({ code, message: text }) => [code, text])).toContainEqual([
      'CONTENT_MISMATCH',
      `range 0 of public.t ${message}`,
    ]);
  });
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
