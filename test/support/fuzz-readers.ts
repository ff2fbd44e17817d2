// Gives every reader of the repository's objects bytes that are not what was written, thousands of times, and prints what
// came of it as JSON: a program, so that its memory can be measured and a hang can be ended. The argument is a Fuzz as JSON.

import { createHash, randomBytes } from 'node:crypto';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { PgkeepError } from '../../src/base/errors.ts';
import { encode } from '../../src/codec/codec.ts';
import { seal } from '../../src/crypto/seal.ts';
import { SegmentReader } from '../../src/operations/restore/segment-reader.ts';
import { RemainingLines, readRows } from '../../src/operations/row-text.ts';
import { packRanges } from '../../src/operations/table-index.ts';
import { countNumbers } from '../../src/operations/verify/count-numbers.ts';
import { readGarbageList, writeGarbageList } from '../../src/repository/garbage.ts';
import {
  descriptorName,
  keyName,
  manifestName,
  metadataName,
  segmentName,
} from '../../src/repository/layout.ts';
import {
  formatRanges,
  type Manifest,
  parseRanges,
  type RangeEntry,
  type TableEntry,
} from '../../src/repository/manifest.ts';
import { type BackupMetadata, parseMetadata } from '../../src/repository/metadata.ts';
import { findBackup, inspectRepository, Repository } from '../../src/repository/repository.ts';
import { SegmentIds } from '../../src/repository/segment-ids.ts';
import { SegmentStore } from '../../src/repository/segment-store.ts';
import { parseVerification, type VerificationRecord } from '../../src/repository/verification.ts';
import { storeSample } from '../unit/repository/sample-backup.ts';
import { MemoryStorage } from './memory-storage.ts';
import { mutateBytes, mutateJson } from './mutations.ts';
import { type Random, seededRandom } from './seeded-random.ts';

export interface Fuzz {
  seed: number;
  /** For each reader. */
  cases: number;
}

export interface FuzzOutcome {
  cases: number;
  /** Cases by what came of them: a code, or `read` where the change did no harm. */
  outcomes: Record<string, number>;
  /** What was neither read nor refused with a code of its own. */
  failures: { reader: string; case: number; error: string }[];
  maxRssMb: number;
  slowestCpuMs: number;
}

const userKey = '0123456789abcdef'.repeat(4);

/** What reads bytes that stand in the place of an object or of its contents. */
interface Reader {
  name: string;
  bytes: Buffer;
  mutate: ((random: Random, bytes: Buffer) => Buffer)[];
  read(bytes: Buffer): Promise<unknown>;
  /** Bytes that are not left to chance; made when they are needed, since they are large. */
  also?: readonly (() => Buffer)[];
}

async function readers(keyText: string | null): Promise<Reader[]> {
  const storage = new MemoryStorage();
  const repository = await Repository.create(storage, keyText);
  const key = await repository.newDataKey();
  const store = new SegmentStore(repository, key, 3);
  const rows = Buffer.from(Array.from({ length: 401 }, (_, i) => `${i}\tname ${i}\n`).join(''));
  const { manifest, metadata, indexed, ranges } = await storeBackup(repository, store, rows);
  const segment = manifest.archive.segments[0]?.id ?? '';
  const open = () => Repository.open(storage, keyText ?? undefined);
  /** Reads with the object replaced for a moment. */
  const inPlace = (name: string, read: () => Promise<unknown>) => async (bytes: Buffer) => {
    const whole = await storage.get(name);
    await storage.put(name, bytes);
    try {
      return await read();
    } finally {
      await storage.put(name, whole);
    }
  };
  const object = async (
    name: string,
    mutate: Reader['mutate'],
    read: () => Promise<unknown>,
    also: Reader['also'] = [],
  ): Promise<Reader> => ({ name, bytes: await storage.get(name), mutate, read: inPlace(name, read), also });
  const json = [mutateBytes, mutateJson];
  const resealed = (name: string, kind: 'segment' | 'manifest', body: readonly Buffer[]) =>
    seal(name, kind, key, body);
  const manifestObject = manifestName(metadata.id);
  const readWhole = async (told: BackupMetadata) => {
    const opened = await open();
    const read = await opened.readManifest(told);
    const reader = new SegmentReader({ fetch: id => opened.fetchSegment(id), secret: opened.secret });
    for (const table of read.tables) {
      const ranges = await packRanges(opened, read, table, new SegmentIds());
      for await (const bytes of readRows(reader, { table: table.name, first: 0, ranges })) bytes.length;
    }
    for await (const bytes of opened.readSegments(read.archive.segments)) bytes.length;
  };
  const garbage = await writeGarbageList(storage, {
    segments: [segment],
    keys: [randomBytes(16).toString('hex')],
    manifests: [metadata.id],
    verified: [metadata.id],
  });
  const verification: VerificationRecord = {
    backupId: metadata.id,
    checksum: metadata.checksum,
    level: 'data',
    valid: false,
    checksumValid: true,
    encryptionValid: true,
    sizeValid: false,
    rowsCompared: 400,
    sample: { percent: 10, segments: 1, ofSegments: 9 },
    lastFull: { level: 'restore', verifiedAt: metadata.timestamp },
    errorCount: 1,
    errors: [
      {
        code: 'OBJECT_DAMAGED',
        object: segmentName(segment),
        tables: [
          { schema: 'public', name: 'big', ranges: [{ first: 0, last: 1, firstPage: 0, lastPage: 2047 }] },
        ],
      },
    ],
    verifiedAt: metadata.timestamp,
    version: '1',
  };
  return [
    await object(
      descriptorName,
      json,
      async () => {
        await inspectRepository(storage);
        await open();
      },
      bombs,
    ),
    await object(metadataName(metadata.id), json, () => findBackup(storage, metadata.id), bombs),
    ...(key === null
      ? []
      : [await object(keyName(key.id), json, async () => (await open()).dataKey(key.id), bombs)]),
    await object(garbage, json, () => readGarbageList(storage, garbage), bombs),
    await object(segmentName(segment), [mutateBytes], async () => (await open()).readSegment(segment)),
    await object(manifestObject, [mutateBytes], () => readWhole(metadata)),
    {
      name: 'contents of a manifest',
      bytes: Buffer.from(JSON.stringify(manifest)),
      mutate: json,
      also: bombs,
      read: async bytes => {
        const sealed = resealed(manifestObject, 'manifest', encode(bytes, 3));
        const checksum = createHash('sha256').update(sealed).digest('hex');
        await inPlace(manifestObject, () => readWhole({ ...metadata, checksum }))(sealed);
      },
    },
    {
      name: 'compressed contents of a segment',
      bytes: Buffer.concat(encode(rows, 3)),
      mutate: [mutateBytes],
      also: [() => Buffer.concat(encode(Buffer.alloc(64 * 1024 * 1024), 1))],
      read: async bytes => {
        const sealed = resealed(segmentName(segment), 'segment', [bytes]);
        await inPlace(segmentName(segment), async () => (await open()).readSegment(segment))(sealed);
      },
    },
    {
      name: 'contents of a table index',
      bytes: Buffer.from([...formatRanges(ranges, store.keys)].join('')),
      mutate: [mutateBytes, (random, bytes) => mutateLine(random, bytes)],
      also: bombs,
      read: async bytes => {
        for await (const range of parseRanges(indexed, [bytes], store.keys)) range.rows;
      },
    },
    {
      name: 'a list of the lines that are gone',
      bytes: Buffer.from([3, 0, 1, 9, 2, 0x91, 1, 1]),
      mutate: [mutateBytes],
      also: [
        ...bombs,
        () => Buffer.concat([Buffer.from([0x80, 0x80, 0x80, 4]), Buffer.alloc(megabytes, 1)]),
        () => Buffer.from([1, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]),
      ],
      read: async bytes => {
        countNumbers(bytes);
        const lines = new RemainingLines('a range', 397, bytes);
        for (const part of lines.of(rows)) part.length;
        lines.end();
      },
    },
    {
      name: 'metadata',
      bytes: await storage.get(metadataName(metadata.id)),
      mutate: json,
      read: async bytes => readWhole(parseMetadata('metadata', metadata.id, bytes)),
    },
    {
      name: 'a record of a verification',
      bytes: Buffer.from(JSON.stringify(verification)),
      mutate: json,
      also: bombs,
      read: async bytes => parseVerification(metadata.id, bytes),
    },
  ];
}

/** A backup with a table of each sort: with its ranges in the manifest, and with an index. */
async function storeBackup(
  repository: Repository,
  store: SegmentStore,
  rows: Buffer,
): Promise<{ manifest: Manifest; metadata: BackupMetadata; indexed: TableEntry; ranges: RangeEntry[] }> {
  const archive = await store.store(Buffer.from('archive '.repeat(50)));
  const stored = await store.store(rows);
  // Lists of the numbers from 1 to 401, and of 7 alone.
  const list = await store.store(Buffer.from([1, 1, 0x91, 3, 1, 7, 1]));
  const range: RangeEntry = {
    rows: 400,
    bytes: rows.length,
    slices: [{ ...stored, offset: 0, bytes: rows.length }],
    ctids: [{ ...list, offset: 0, bytes: 4 }],
    gone: [{ ...list, offset: 4, bytes: 3 }],
    base: { rows: 401, slices: 1, ctids: 1, xmin: '700', deltas: 0, added: 0 },
  };
  const ranges = Array.from({ length: 12 }, () => range);
  const inline: TableEntry = {
    oid: '16384',
    schema: 'public',
    name: 'small',
    parents: ['16400'],
    columns: ['id', 'name'],
    rows: 400,
    bytes: rows.length,
    rangePages: 1024,
    loadVia: { schema: 'public', name: 'root' },
    ranges: [range],
  };
  const { loadVia: _via, ranges: _ranges, ...rest } = inline;
  const indexed: TableEntry = {
    ...rest,
    oid: '16385',
    name: 'big',
    rows: 12 * 400,
    bytes: 12 * rows.length,
    index: [await store.store(Buffer.from([...formatRanges(ranges, store.keys)].join('')))],
  };
  const { manifest, metadata } = await storeSample(repository, {
    change: {
      keys: store.keys,
      archive: { programVersion: '15.0', bytes: archive.plainBytes, segments: [archive] },
      tables: [inline, indexed],
      partitioned: [{ oid: '16400', schema: 'public', name: 'root', parents: [] }],
      leftOut: [{ schema: 'public', name: 'log', kind: 'table', reason: 'asked for' }],
      roles: [{ name: 'shop', owns: true, isGranted: false, isNamed: false }],
      globals: {
        roles: [
          {
            name: 'shop',
            attributes: ['LOGIN'],
            connectionLimit: -1,
            validUntil: null,
            comment: null,
            settings: [{ inThisDatabase: true, values: ['work_mem=4MB'] }],
          },
        ],
        memberships: [{ role: 'shop', member: 'shop', adminOption: false }],
      },
      extensions: [{ name: 'plpgsql', version: '1.0', schema: 'pg_catalog' }],
    },
  });
  return { manifest, metadata, indexed, ranges };
}

const megabytes = 15 * 1024 * 1024;

/** Texts that would need absurd memory or time once parsed, and some that parse to nothing of use. */
const bombs: readonly (() => Buffer)[] = [
  () => Buffer.alloc(megabytes, '['),
  () => Buffer.alloc(megabytes, '{"a":'),
  () => Buffer.concat([Buffer.from('['), Buffer.alloc(megabytes, '{},'), Buffer.from('0]')]),
  () => Buffer.concat([Buffer.from('['), Buffer.alloc(megabytes, '0,'), Buffer.from('0]')]),
  () => Buffer.concat([Buffer.from('['), Buffer.alloc(5_900_000, '{},'), Buffer.from('0]')]),
  () => Buffer.concat([Buffer.from('['), Buffer.alloc(11_900_000, '0,'), Buffer.from('0]')]),
  () => Buffer.concat([Buffer.from('"'), Buffer.alloc(megabytes, 'x'), Buffer.from('"')]),
  () => Buffer.alloc(megabytes, '"'),
  () => Buffer.alloc(megabytes, '\\'),
  () => Buffer.alloc(megabytes),
  () => Buffer.alloc(megabytes, '\n'),
  () => Buffer.alloc(megabytes, 0xff),
  ...['null', '[]', '{}', '\ufeff{}'].map(text => () => Buffer.from(text)),
];

/** Mutates one line of JSON among others. */
function mutateLine(random: Random, bytes: Buffer): Buffer {
  const lines = bytes.toString('utf8').trimEnd().split('\n');
  const at = Math.floor(random() * lines.length);
  lines[at] = mutateJson(random, Buffer.from(lines[at] ?? '')).toString('utf8');
  return Buffer.from(`${lines.join('\n')}\n`);
}

setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc') as () => void;

function cpuMs(since: NodeJS.CpuUsage): number {
  const { user, system } = process.cpuUsage(since);
  return (user + system) / 1000;
}

async function fuzz({ seed, cases }: Fuzz): Promise<FuzzOutcome> {
  const outcome: FuzzOutcome = { cases: 0, outcomes: {}, failures: [], maxRssMb: 0, slowestCpuMs: 0 };
  for (const keyText of [userKey, null]) {
    for (const reader of await readers(keyText)) {
      const random = seededRandom(seed);
      const given = reader.also ?? [];
      for (let number = 0; number < cases + given.length; number++) {
        const mutate = reader.mutate[number % reader.mutate.length] ?? mutateBytes;
        const bytes = given[number]?.() ?? mutate(random, reader.bytes);
        // What earlier cases left behind is not what reading takes.
        if (number < given.length || number % 50 === 0) collectGarbage();
        const started = process.cpuUsage();
        const result = await reader.read(bytes).then(
          () => 'read',
          (error: unknown) => error,
        );
        outcome.cases++;
        outcome.slowestCpuMs = Math.max(outcome.slowestCpuMs, cpuMs(started));
        const isFine =
          result === 'read' ||
          (result instanceof PgkeepError && result.code !== 'INTERNAL' && result.message.length < 1000);
        const label = result instanceof PgkeepError ? result.code : String(result);
        outcome.outcomes[label] = (outcome.outcomes[label] ?? 0) + 1;
        if (!isFine) {
          const error = result instanceof Error ? (result.stack ?? result.message) : String(result);
          outcome.failures.push({ reader: reader.name, case: number, error: error.slice(0, 600) });
        }
      }
    }
  }
  outcome.maxRssMb = process.resourceUsage().maxRSS / 1024;
  return outcome;
}

process.stdout.write(JSON.stringify(await fuzz(JSON.parse(process.argv[2] ?? '{}') as Fuzz)));
