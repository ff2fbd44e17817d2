// Every kind of damage is found by verify, with its code, and with the object, table and pages that it concerns.

import { cpSync, readFileSync, writeFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { ErrorCode } from '../../src/base/errors.ts';
import { packRanges } from '../../src/operations/table-index.ts';
import type { VerificationResult } from '../../src/operations/verify-backups.ts';
import { keyName, manifestName, metadataName, segmentName } from '../../src/repository/layout.ts';
import { findBackup, Repository } from '../../src/repository/repository.ts';
import { SegmentIds } from '../../src/repository/segment-ids.ts';
import { readVerification } from '../../src/repository/verification.ts';
import { LocalStorage } from '../../src/storage/local/local-storage.ts';
import { psql, type Server, startServer } from '../support/postgres-server.ts';
import { cutShort, empty, filesIn, flipBit, remove, rewrite, swap } from '../support/repository-files.ts';
import { backUp, testKey } from '../support/round-trip.ts';
import { makeTempFolder } from '../support/temp-folder.ts';
import {
  makeVerifyDatabase,
  rangePages,
  spreadRows,
  verify,
  verifyRows,
} from '../support/verify-database.ts';

let server: Server;

beforeAll(async () => {
  server = await startServer();
  await makeVerifyDatabase(server, 'shop');
});
afterAll(async () => {
  await server[Symbol.asyncDispose]();
});

/** What the backup of a repository consists of: names of objects. */
interface Parts {
  id: string;
  manifest: string;
  metadata: string;
  key: string;
  archive: string;
  index: string;
  /** Segments of the table that has an index, by range. */
  spread: string[];
  /** The segment that the small tables share. */
  small: string;
}

const segmentAt = (id: string | undefined) => segmentName(id ?? '');

async function partsOf(folder: string, id: string): Promise<Parts> {
  const repository = await Repository.open(new LocalStorage(folder), testKey);
  const manifest = await repository.readManifest(await findBackup(repository.storage, id));
  const table = (name: string) => {
    const found = manifest.tables.find(candidate => candidate.name === name);
    if (found === undefined) throw new Error(`no table ${name}`);
    return found;
  };
  const ranges = [...(await packRanges(repository, manifest, table('spread'), new SegmentIds()))];
  return {
    id,
    manifest: manifestName(id),
    metadata: metadataName(id),
    key: keyName(manifest.keys[0] ?? ''),
    archive: segmentAt(manifest.archive.segments[0]?.id),
    index: segmentAt(table('spread').index?.[0]?.id),
    spread: ranges.map(range => segmentAt(range.slices[0]?.id)),
    small: segmentAt(table('small').ranges?.[0]?.slices[0]?.id),
  };
}

interface Expected {
  code: ErrorCode;
  object?: string;
  message?: RegExp;
  tables?: object[];
}

interface Damage {
  title: string;
  to: (file: (name: string) => string, parts: Parts) => void;
  expected: (parts: Parts) => Expected[];
  flags: Partial<Pick<VerificationResult, 'checksumValid' | 'encryptionValid' | 'sizeValid'>>;
}

const table = (name: string, ...ranges: object[]) => ({
  schema: 'public',
  name,
  ...(ranges.length > 0 && { ranges }),
});
const span = (range: number, isLast = false) => ({
  first: range,
  last: range,
  firstPage: range * rangePages,
  lastPage: isLast ? null : (range + 1) * rangePages - 1,
});
const lastRange = Math.floor((spreadRows - 1) / rangePages);
const small = ['nothing', 'notes', 'small'].map(name => table(name, span(0, true)));

/** Each object, what is expected of it when it cannot be read, and what else suffers. */
const objects: {
  kind: string;
  name: keyof Parts;
  tables?: object[];
  message?: RegExp;
}[] = [
  { kind: 'the manifest', name: 'manifest' },
  { kind: 'the metadata', name: 'metadata' },
  { kind: 'the archive', name: 'archive', message: /part of the schema archive$/ },
  { kind: 'a table index', name: 'index', tables: [table('spread')] },
  { kind: 'a segment of small tables', name: 'small', tables: expect.arrayContaining(small) },
];
const nameOf = (parts: Parts, part: keyof Parts) => String(parts[part]);

const damages: [what: string, code: ErrorCode, spoil: (file: string) => void][] = [
  ['a flipped bit', 'OBJECT_DAMAGED', flipBit],
  ['a lost end', 'OBJECT_DAMAGED', cutShort],
  ['nothing left', 'OBJECT_DAMAGED', empty],
  ['the object missing', 'OBJECT_MISSING', remove],
];

const cases: Damage[] = [
  ...objects.flatMap(({ kind, name, tables, message }) =>
    damages
      // A backup without metadata does not exist.
      .filter(([, code]) => name !== 'metadata' || code !== 'OBJECT_MISSING')
      .map(
        ([what, code, spoil]): Damage => ({
          title: `${kind} with ${what}`,
          to: (file, parts) => spoil(file(nameOf(parts, name))),
          expected: parts => [
            {
              code,
              object: nameOf(parts, name),
              ...(tables !== undefined && { tables }),
              ...(message !== undefined && { message }),
            },
          ],
          flags: code === 'OBJECT_MISSING' ? { sizeValid: false } : { checksumValid: false },
        }),
      ),
  ),
  {
    title: 'the last range of a table',
    to: (file, parts) => flipBit(file(parts.spread.at(-1) ?? '')),
    expected: parts => [
      {
        code: 'OBJECT_DAMAGED',
        object: parts.spread.at(-1) ?? '',
        tables: [table('spread', span(lastRange, true))],
      },
    ],
    flags: { checksumValid: false, sizeValid: true },
  },
  {
    title: 'two segments in each other’s place',
    to: (file, parts) => swap(file(parts.spread[2] ?? ''), file(parts.spread[5] ?? '')),
    expected: parts =>
      [2, 5].map(range => ({
        code: 'OBJECT_DAMAGED',
        object: parts.spread[range] ?? '',
        tables: [table('spread', span(range))],
      })),
    flags: { checksumValid: false, sizeValid: true },
  },
  {
    title: 'every byte of a segment’s header, one at a time',
    to: (file, parts) => {
      for (const [range, at] of [0, 7, 8, 9, 30].entries()) flipBit(file(parts.spread[range] ?? ''), at);
    },
    expected: parts =>
      [0, 1, 2, 3, 4].map(range => ({
        code: expect.stringMatching(/^(OBJECT_DAMAGED|REPOSITORY_UNSUPPORTED|REPOSITORY_MISMATCH)$/),
        object: parts.spread[range] ?? '',
        tables: [table('spread', span(range))],
      })),
    flags: { checksumValid: false },
  },
  {
    title: 'several things at once',
    to: (file, parts) => {
      flipBit(file(parts.spread[1] ?? ''));
      remove(file(parts.spread[2] ?? ''));
      cutShort(file(parts.spread[3] ?? ''));
      empty(file(parts.archive));
      rewrite(file(parts.metadata), text => text.replace(/"recordCount": \d+/, '"recordCount": 7'));
    },
    expected: parts => [
      {
        code: 'OBJECT_DAMAGED',
        object: parts.metadata,
        message: /does not agree with the manifest on recordCount$/,
      },
      { code: 'OBJECT_DAMAGED', object: parts.archive, message: /schema archive/ },
      { code: 'OBJECT_DAMAGED', object: parts.spread[1] ?? '', tables: [table('spread', span(1))] },
      { code: 'OBJECT_MISSING', object: parts.spread[2] ?? '', tables: [table('spread', span(2))] },
      { code: 'OBJECT_DAMAGED', object: parts.spread[3] ?? '', tables: [table('spread', span(3))] },
    ],
    flags: { checksumValid: false, sizeValid: false },
  },
  ...['timestamp', 'version', 'database', 'checksum'].map(
    (field): Damage => ({
      title: `metadata with another ${field}`,
      to: (file, parts) =>
        rewrite(file(parts.metadata), text =>
          text.replace(new RegExp(`("${field}": ")([^"]*)`), (_, before, value) =>
            field === 'timestamp'
              ? `${before}2020-01-01T00:00:00.000Z`
              : `${before}${String(value).slice(1)}0`,
          ),
        ),
      expected: parts => [
        { code: 'OBJECT_DAMAGED', object: parts.metadata, message: new RegExp(`on ${field}$`) },
      ],
      flags: { checksumValid: false, encryptionValid: true, sizeValid: true },
    }),
  ),
];

const suites: { title: string; encryption: boolean }[] = [
  { title: 'an encrypted repository', encryption: true },
  { title: 'a repository without encryption', encryption: false },
];

describe.each(suites)('in $title', ({ encryption }) => {
  const whole = makeTempFolder('repository');
  const key = encryption ? {} : { encryptionKey: undefined, encryption: false };
  let parts: Parts;

  beforeAll(async () => {
    const { id } = await backUp(server, 'shop', whole.path, key);
    parts = await partsOf(whole.path, id);
  });

  /** Verifies a copy of the repository that was damaged first. */
  async function verifyDamaged(damage: (file: (name: string) => string, folder: string) => void) {
    await using copy = makeTempFolder('repository');
    cpSync(whole.path, copy.path, { recursive: true });
    damage(name => join(copy.path, name), copy.path);
    const result = await verify(server, copy.path);
    const [backup] = result.backups;
    if (backup === undefined) throw new Error('nothing was verified');
    expect(result.valid).toBe(backup.valid);
    const { record } = await readVerification(new LocalStorage(copy.path), backup.backupId);
    expect(record).toMatchObject({ valid: backup.valid, errorCount: backup.errors.length });
    return backup;
  }

  it('what is whole is valid, and every row is counted', async () => {
    const backup = await verifyDamaged(() => undefined);
    expect(backup).toMatchObject({
      backupId: parts.id,
      database: 'shop',
      level: 'data',
      valid: true,
      checksumValid: true,
      encryptionValid: true,
      sizeValid: true,
      rowsCompared: verifyRows,
      sample: null,
      errors: [],
    });
  });

  it.each(cases)('$title', async ({ to, expected, flags }) => {
    const backup = await verifyDamaged(file => to(file, parts));
    expect(backup.valid).toBe(false);
    const byObject = (a: { object?: string }, b: { object?: string }) =>
      String(a.object).localeCompare(String(b.object));
    expect(backup.errors.toSorted(byObject)).toEqual(
      expected(parts)
        .toSorted(byObject)
        .map(({ message, ...rest }) => ({
          ...rest,
          message: message === undefined ? expect.any(String) : expect.stringMatching(message),
        })),
    );
    expect(backup).toMatchObject(flags);
    if (!encryption) expect(backup.encryptionValid).toBe(true);
  });

  it('a manifest of an older backup put in its place', async () => {
    const backup = await verifyDamaged((file, folder) => {
      cpSync(file(parts.manifest), file('backups/backup-1642684800000-a1b2c3d4.backup'));
      rewrite(file(parts.metadata), text => text.replaceAll(parts.id, 'backup-1642684800000-a1b2c3d4'));
      cpSync(file(parts.metadata), join(folder, 'metadata/backup-1642684800000-a1b2c3d4.json'));
      remove(file(parts.metadata));
    });
    expect(backup).toMatchObject({
      backupId: 'backup-1642684800000-a1b2c3d4',
      checksumValid: false,
      errors: [{ code: 'OBJECT_DAMAGED', object: 'backups/backup-1642684800000-a1b2c3d4.backup' }],
    });
  });

  it.each([
    ['the descriptor', 'OBJECT_DAMAGED', cutShort],
    ['no descriptor', 'REPOSITORY_NOT_FOUND', remove],
  ] as const)('%s keeps everything from being verified, and is said', async (_, code, spoil) => {
    await expect(verifyDamaged(file => spoil(file('pgkeep.json')))).rejects.toMatchObject({ code });
  });
});

describe('keys and other repositories', () => {
  const whole = makeTempFolder('repository');
  const other = makeTempFolder('repository');
  let parts: Parts;
  let foreign: Parts;

  beforeAll(async () => {
    parts = await partsOf(whole.path, (await backUp(server, 'shop', whole.path)).id);
    foreign = await partsOf(other.path, (await backUp(server, 'shop', other.path)).id);
  });

  async function verifyDamaged(
    damage: (file: (name: string) => string, foreignFile: (name: string) => string) => void,
  ) {
    await using copy = makeTempFolder('repository');
    cpSync(whole.path, copy.path, { recursive: true });
    damage(
      name => join(copy.path, name),
      name => join(other.path, name),
    );
    return (await verify(server, copy.path)).backups[0];
  }

  it.each([
    [
      'a flipped bit',
      'OBJECT_DAMAGED',
      (file: string) =>
        rewrite(file, text =>
          // Not _, which base64 takes for a slash.
          text.replace(/("wrapped": ")(.)/, (_, before, first) => `${before}${first === 'A' ? 'B' : 'A'}`),
        ),
    ],
    ['a lost end', 'OBJECT_DAMAGED', cutShort],
    ['nothing left', 'OBJECT_DAMAGED', empty],
    ['the object missing', 'OBJECT_MISSING', remove],
  ] as const)('a key with %s', async (_, code, spoil) => {
    const backup = await verifyDamaged(file => spoil(file(parts.key)));
    expect(backup).toMatchObject({
      valid: false,
      encryptionValid: false,
      errors: [{ code, object: parts.key }],
    });
    expect(backup?.errors).toHaveLength(1);
  });

  it('a key of another repository in place of one', async () => {
    const backup = await verifyDamaged((file, foreignFile) =>
      rewrite(file(parts.key), () =>
        readFileSync(foreignFile(foreign.key), 'utf8').replace(
          /"id": "\w+"/,
          `"id": "${parts.key.slice(5, -5)}"`,
        ),
      ),
    );
    expect(backup?.errors).toMatchObject([{ code: 'OBJECT_DAMAGED', object: parts.key }]);
  });

  it('a segment of another repository in place of one', async () => {
    const backup = await verifyDamaged((file, foreignFile) =>
      cpSync(foreignFile(foreign.spread[4] ?? ''), file(parts.spread[4] ?? '')),
    );
    expect(backup).toMatchObject({
      encryptionValid: false,
      errors: [{ code: 'REPOSITORY_MISMATCH', object: parts.spread[4], tables: [table('spread', span(4))] }],
    });
  });

  it('a segment of another repository with its key', async () => {
    const backup = await verifyDamaged((file, foreignFile) => {
      cpSync(foreignFile(foreign.spread[4] ?? ''), file(parts.spread[4] ?? ''));
      cpSync(foreignFile(foreign.key), file(foreign.key));
    });
    expect(backup).toMatchObject({
      encryptionValid: false,
      errors: [{ code: 'OBJECT_DAMAGED', object: foreign.key, tables: [table('spread', span(4))] }],
    });
  });

  it('a manifest of another repository in place of one', async () => {
    const backup = await verifyDamaged((file, foreignFile) =>
      cpSync(foreignFile(foreign.manifest), file(parts.manifest)),
    );
    expect(backup).toMatchObject({
      checksumValid: false,
      encryptionValid: false,
      errors: [{ object: expect.any(String) }],
    });
  });

  it('the manifest of another backup of the same repository in place of one', async () => {
    await using copy = makeTempFolder('repository');
    cpSync(whole.path, copy.path, { recursive: true });
    await psql(server, 'shop', "INSERT INTO notes VALUES (51, 'newer')");
    const newer = await backUp(server, 'shop', copy.path);
    await psql(server, 'shop', 'DELETE FROM notes WHERE id = 51');
    writeFileSync(join(copy.path, manifestName(newer.id)), readFileSync(join(copy.path, parts.manifest)));
    const { backups } = await verify(server, copy.path, { all: true });
    expect(backups.map(({ backupId, valid }) => [backupId, valid])).toEqual([
      [newer.id, false],
      [parts.id, true],
    ]);
    expect(backups[0]).toMatchObject({
      checksumValid: false,
      errors: [{ code: 'OBJECT_DAMAGED', object: manifestName(newer.id) }],
    });
  });

  it('a wrong key is no damage: nothing is verified, and nothing is remembered', async () => {
    await using copy = makeTempFolder('repository');
    cpSync(whole.path, copy.path, { recursive: true });
    const wrong = 'ff'.repeat(32);
    await expect(verify(server, copy.path, { encryptionKey: wrong })).rejects.toMatchObject({
      code: 'KEY_WRONG',
    });
    expect(
      filesIn(copy.path, '.')
        .map(file => relative(copy.path, file))
        .filter(name => name.startsWith('verified')),
    ).toEqual([]);
  });
});
