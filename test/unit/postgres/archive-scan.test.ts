import { describe, expect, test } from 'vitest';
import { ArchiveScan, largeObjectsHeader, writeArchiveInt } from '../../../src/postgres/archive-scan.ts';

interface Entry {
  dumpId: number;
  kind: string;
  tag?: string;
  oid?: string;
  definition?: string;
  dependsOn?: number[];
  hasData?: boolean;
}

function int(value: number): Buffer {
  const bytes = Buffer.alloc(5);
  expect(writeArchiveInt(bytes, 0, value)).toBe(5);
  return bytes;
}

const string = (text: string | null) =>
  text === null ? int(-1) : Buffer.concat([int(text.length), Buffer.from(text, 'latin1')]);

/** The head of an archive as pg_dump of that version writes it to a pipe. */
function head(minor: number, entries: readonly Entry[]): Buffer {
  const parts = [
    Buffer.from('PGDMP'),
    Buffer.from([1, minor, 0, 4, 8, 1]),
    minor >= 15 ? Buffer.from([0]) : int(0),
    ...[45, 0, 56, 13, 21, 10, 126].map(int),
    ...['shop', '15.18', '15.18'].map(string),
    int(entries.length),
  ];
  for (const {
    dumpId,
    kind,
    tag = 'a tag',
    oid = '0',
    definition = '',
    dependsOn = [],
    hasData = false,
  } of entries) {
    parts.push(int(dumpId), int(hasData ? 1 : 0), string('0'), string(oid), string(tag), string(kind));
    parts.push(
      int(3),
      string(definition),
      string(''),
      string('COPY'),
      string(null),
      string(''),
      string(null),
    );
    if (minor >= 16) parts.push(int(0));
    parts.push(string('postgres'), string('false'));
    parts.push(...dependsOn.map(id => string(String(id))), string(null), Buffer.alloc(9));
  }
  return Buffer.concat(parts);
}

const rows = (dumpId: number) =>
  Buffer.concat([Buffer.from([1]), int(dumpId), string('1\tone\n'), string('2\ttwo\n'.repeat(50)), int(0)]);

/** One object, of the two bytes that begin like a block of data. */
const objects = (dumpId: number) =>
  Buffer.concat([largeObjectsHeader(dumpId), int(7001), string('\x01\x03'), int(0), int(0)]);

async function pass(
  archive: Buffer,
  chunkBytes: number,
  cuts = true,
  leavesOut = false,
): Promise<{ scan: ArchiveScan; passed: Buffer }> {
  const scan = new ArchiveScan(cuts, leavesOut);
  const passed: Buffer[] = [];
  async function* chunks() {
    for (let at = 0; at < archive.length; at += chunkBytes)
      yield Buffer.from(archive.subarray(at, at + chunkBytes));
  }
  for await (const chunk of scan.pass(chunks())) passed.push(chunk);
  return { scan, passed: Buffer.concat(passed) };
}

const sizes = [1, 7, 4096, 1_000_000];

describe('an archive with large objects', () => {
  const entries15: Entry[] = [
    { dumpId: 300, kind: 'BLOB', oid: '4294967295' },
    { dumpId: 301, kind: 'BLOB', oid: '7001' },
    { dumpId: 400, kind: 'TABLE DATA', hasData: true },
    { dumpId: 401, kind: 'BLOBS', hasData: true },
    { dumpId: 500, kind: 'INDEX' },
  ];
  const entries16: Entry[] = [
    { dumpId: 300, kind: 'BLOB METADATA', definition: '7001\n7002\n' },
    { dumpId: 301, kind: 'BLOB METADATA', definition: '6001\n' },
    { dumpId: 400, kind: 'TABLE DATA', hasData: true },
    { dumpId: 401, kind: 'BLOBS', hasData: true, dependsOn: [300] },
    { dumpId: 402, kind: 'BLOBS', hasData: true, dependsOn: [301] },
  ];
  test.each([
    [14, entries15, [[401, [7001, 4294967295]]]],
    [15, entries15, [[401, [7001, 4294967295]]]],
    [
      16,
      entries16,
      [
        [401, [7001, 7002]],
        [402, [6001]],
      ],
    ],
  ])('of version 1.%i is passed up to their contents, and names them', async (minor, entries, expected) => {
    const kept = Buffer.concat([head(minor, entries), rows(400), largeObjectsHeader(401)]);
    const archive = Buffer.concat([kept, objects(401).subarray(6), objects(402)]);
    for (const chunkBytes of sizes) {
      const { scan, passed } = await pass(archive, chunkBytes);
      expect(passed.equals(kept), `in chunks of ${chunkBytes}`).toBe(true);
      expect(scan.isCut).toBe(true);
      expect(scan.isWhole).toBe(true);
      expect(scan.largeObjects.map(({ dumpId, oids }) => [dumpId, [...oids]])).toEqual(expected);
    }
  });

  test.each([
    [15, entries15],
    [16, entries16],
  ])('of version 1.%i is passed as if it never had any, and says what it had', async (minor, ofObjects) => {
    const others: Entry[] = [
      { dumpId: 4, kind: 'TABLE' },
      { dumpId: 5, kind: 'ACL', tag: 'TABLE "LARGE OBJECT 1"' },
      { dumpId: 6, kind: 'INDEX' },
    ];
    const [table, ...behind] = others as [Entry, ...Entry[]];
    const entries: Entry[] = [
      { dumpId: 3, kind: 'COMMENT', tag: 'LARGE OBJECT 7001' },
      table,
      ...ofObjects,
      { dumpId: 309, kind: 'SECURITY LABEL', tag: 'LARGE OBJECT 7001' },
      ...behind,
      { dumpId: 310, kind: 'ACL', tag: 'LARGE OBJECT 7001' },
      { dumpId: 311, kind: 'ACL', tag: 'LARGE OBJECTS 7001..7002' },
    ];
    const kept = ofObjects.filter(({ kind }) => !kind.startsWith('BLOB'));
    const archive = Buffer.concat([head(minor, entries), rows(400), objects(401), objects(402)]);
    for (const chunkBytes of sizes) {
      const { scan, passed } = await pass(archive, chunkBytes, true, true);
      const expected = [head(minor, [table, ...kept, ...behind]), rows(400), largeObjectsHeader(401)];
      expect(passed.equals(Buffer.concat(expected)), `in chunks of ${chunkBytes}`).toBe(true);
      expect(scan.leftOut?.groups).toEqual(scan.largeObjects);
      expect(scan.leftOut?.definitions).toEqual([3, 300, 301, 309]);
      expect(scan.leftOut?.privileges).toEqual([310, 311]);
      expect([...(scan.leftOut?.owners ?? [])]).toEqual(['postgres']);
    }
  });

  test('is passed whole when it is not to be cut', async () => {
    const archive = Buffer.concat([head(15, entries15), rows(400), objects(401)]);
    for (const chunkBytes of sizes) {
      const { scan, passed } = await pass(archive, chunkBytes, false);
      expect(passed.equals(archive)).toBe(true);
      expect(scan).toMatchObject({ isCut: false, isWhole: false });
    }
  });

  test.each([
    ['other data behind them', [...entries16, { dumpId: 600, kind: 'TABLE DATA', hasData: true }]],
    ['objects that no entry creates', entries16.slice(1)],
  ])('and %s is passed whole', async (_, entries) => {
    const archive = Buffer.concat([head(16, entries), rows(400), objects(401), objects(402)]);
    for (const chunkBytes of sizes) {
      for (const leavesOut of [false, true]) {
        const { scan, passed } = await pass(archive, chunkBytes, true, leavesOut);
        expect(passed.equals(archive)).toBe(true);
        expect(scan).toMatchObject({ isCut: false, isWhole: false, leftOut: undefined });
      }
    }
  });
});

describe('an archive without large objects', () => {
  const entries: Entry[] = [
    { dumpId: 3, kind: 'TABLE', definition: 'CREATE TABLE t (i int)' },
    { dumpId: 4, kind: 'TABLE DATA', hasData: true },
    { dumpId: 5, kind: 'TABLE DATA', hasData: true },
  ];
  const archive = Buffer.concat([head(15, entries), rows(4), rows(5)]);

  test('is passed as it is, and known to be whole', async () => {
    for (const chunkBytes of sizes) {
      for (const leavesOut of [false, true]) {
        const { scan, passed } = await pass(archive, chunkBytes, true, leavesOut);
        expect(passed.equals(archive)).toBe(true);
        expect(scan).toMatchObject({ isCut: false, isWhole: true, leftOut: undefined });
      }
    }
  });

  test('is known not to be whole when it ends before or behind its end', async () => {
    for (let end = 0; end < archive.length; end++)
      expect((await pass(archive.subarray(0, end), 97)).scan.isWhole, `at ${end}`).toBe(false);
    expect((await pass(Buffer.concat([archive, Buffer.from('x')]), 97)).scan.isWhole).toBe(false);
  });

  test.each([
    ['of a newer version', (bytes: Buffer) => bytes.writeUInt8(17, 6)],
    ['with other integers', (bytes: Buffer) => bytes.writeUInt8(8, 8)],
    ['in another format', (bytes: Buffer) => bytes.writeUInt8(3, 10)],
    ['that is compressed', (bytes: Buffer) => bytes.writeUInt8(1, 11)],
    ['that is none', (bytes: Buffer) => bytes.write('-- PostgreSQL database dump')],
    [
      'with a block that is not the one expected',
      (bytes: Buffer) => bytes.writeUInt8(9, head(15, entries).length),
    ],
  ])('%s is passed as it is, for pg_restore to judge', async (_, change) => {
    const strange = Buffer.from(archive);
    change(strange);
    for (const chunkBytes of sizes) {
      for (const leavesOut of [false, true]) {
        const { scan, passed } = await pass(strange, chunkBytes, true, leavesOut);
        expect(passed.equals(strange)).toBe(true);
        expect(scan).toMatchObject({ isCut: false, isWhole: false });
      }
    }
  });
});
