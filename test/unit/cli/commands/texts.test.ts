import { expect, test } from 'vitest';
import { cleanedText, mendingHint, summaryText } from '../../../../src/cli/commands/cleanup.ts';
import { createdText, replicaFailure } from '../../../../src/cli/commands/create.ts';
import { listText } from '../../../../src/cli/commands/list.ts';
import { replicatedText } from '../../../../src/cli/commands/replicate.ts';
import { planText, restoredText } from '../../../../src/cli/commands/restore.ts';
import { shownText } from '../../../../src/cli/commands/show.ts';
import { styleFor } from '../../../../src/cli/output/style.ts';
import { verifiedText } from '../../../../src/cli/output/verified.ts';
import type { CleanupRepositoryResult } from '../../../../src/operations/cleanup-repository.ts';
import type { CreateBackupResult } from '../../../../src/operations/create-backup.ts';
import type { ReplicateBackupsResult } from '../../../../src/operations/replicate-backups.ts';
import type { RestoreBackupResult } from '../../../../src/operations/restore-backup.ts';
import type { BackupMetadata } from '../../../../src/repository/metadata.ts';
import type { VerificationRecord } from '../../../../src/repository/verification.ts';
import { testIo } from '../../../support/cli-io.ts';

const plain = await styleFor(testIo().stdout, testIo());

const created: CreateBackupResult = {
  id: 'backup-1642684800000-a1b2c3d4',
  repository: '/srv/backups',
  database: 'shop',
  startedAt: '2022-01-20T13:20:00.000Z',
  finishedAt: '2022-01-20T13:20:02.310Z',
  durationMs: 2310,
  tables: 17,
  rows: 203_114,
  sizeBytes: 47_291_904,
  newBytes: 12_902_400,
  reusedBytes: 2_048,
  newSegments: 14,
  reusedSegments: 1,
  encrypted: true,
  complete: true,
  leftOut: [],
  globals: { included: true },
  replica: null,
  lockedUntil: null,
  heldBackMs: 0,
  incremental: {
    parent: null,
    fullReadAt: '2022-01-20T13:20:00.000Z',
    unread: { ranges: 0, rows: 0, bytes: 0 },
    deltas: { ranges: 0, rows: 0, bytes: 0 },
    equal: { ranges: 0, rows: 0, bytes: 0 },
    stored: { ranges: 17, rows: 203_114, bytes: 46_000_000 },
  },
  mismatches: [],
  traffic: { requests: 20, sentBytes: 1000, receivedBytes: 0 },
  warnings: [],
};

const metadata: BackupMetadata = {
  id: 'backup-1642684800000-a1b2c3d4',
  timestamp: '2022-01-20T13:20:00.000Z',
  version: '1.0.0',
  type: 'database',
  database: 'shop',
  tableCount: 17,
  recordCount: 203_114,
  checksum: '9f86',
  encrypted: true,
  compressed: true,
  sizeBytes: 47_291_904,
  storedBytes: 12_904_448,
  newBytes: 12_902_400,
  durationMs: 2310,
  tags: ['nightly', 'eu'],
  reason: null,
  complete: true,
};

test('the summary of a backup that was held back', () => {
  expect(createdText({ ...created, heldBackMs: 95_000 }, plain)).toContain(
    '\nheld back for 1 min 35 s: fewer workers read while others kept the server busy\n',
  );
});

test('the summary of a backup', () => {
  expect(createdText(created, plain)).toMatchInlineSnapshot(`
    "backup backup-1642684800000-a1b2c3d4 of shop: 17 tables, 203,114 rows, 45.1 MiB in 2.3 s
    stored 12.3 MiB new, reused 2.00 KiB, encrypted, in /srv/backups
    "
  `);
});

test('the summary of a backup says what is not in it', () => {
  const partly: CreateBackupResult = {
    ...created,
    encrypted: false,
    leftOut: [{ schema: 'public', name: 'sessions', kind: 'table', reason: 'excluded' }],
    globals: { included: false, reason: 'the role may not read pg_authid' },
    lockedUntil: '2022-02-20T13:20:00.000Z',
  };
  expect(createdText(partly, plain)).toMatchInlineSnapshot(`
    "backup backup-1642684800000-a1b2c3d4 of shop: 17 tables, 203,114 rows, 45.1 MiB in 2.3 s
    stored 12.3 MiB new, reused 2.00 KiB, not encrypted, in /srv/backups
    left out: 1 (pgkeep show backup-1642684800000-a1b2c3d4 says what and why)
    roles were not included: the role may not read pg_authid
    locked: nobody can delete it before 2022-02-20 13:20:00 UTC
    "
  `);
  expect(createdText(partly, plain, 'governance')).toContain(
    'locked: only those who may bypass governance locks can delete it before 2022-02-20 13:20:00 UTC',
  );
});

test('the summary of a backup tells of its copy, and a failed copy says first that the backup counts', () => {
  const replica = { to: 's3://copies', copied: true, objects: 17, bytes: 12_904_448 };
  expect(createdText({ ...created, replica }, plain)).toContain('copied 12.3 MiB to s3://copies\n');
  const error = {
    code: 'STORAGE_FULL',
    message: 's3://copies has no space left',
    hint: 'make room',
  } as const;
  const failed = { ...replica, copied: false, error };
  expect(replicaFailure({ ...created, replica: failed }, failed)).toMatchObject({
    exitCode: 12,
    message:
      'backup-1642684800000-a1b2c3d4 is stored in /srv/backups, but not in s3://copies: s3://copies has no space left [STORAGE_FULL]',
    hint: 'make room; then copy it with: pgkeep replicate --to s3://copies',
  });
});

test('the summary of a replication', () => {
  const copied = {
    id: created.id,
    database: 'shop',
    timestamp: created.startedAt,
    state: 'copied',
    objects: 17,
    bytes: 2048,
  } as const;
  const result: ReplicateBackupsResult = {
    repository: '/srv/backups',
    to: 's3://copies',
    dryRun: false,
    backups: [copied],
    present: 6,
    objects: 17,
    bytes: 2048,
    durationMs: 2310,
    traffic: { source: created.traffic, target: created.traffic },
    warnings: [],
  };
  expect(replicatedText(result, plain)).toMatchInlineSnapshot(`
    "copied 1 backup (17 objects, 2.00 KiB) from /srv/backups to s3://copies in 2.3 s
    6 backups had been there before
    "
  `);
});

const verified: VerificationRecord = {
  backupId: metadata.id,
  checksum: metadata.checksum,
  level: 'data',
  valid: true,
  checksumValid: true,
  encryptionValid: true,
  sizeValid: true,
  rowsCompared: 203_114,
  sample: null,
  lastFull: { level: 'data', verifiedAt: '2022-01-21T03:00:00.000Z' },
  errorCount: 0,
  errors: [],
  verifiedAt: '2022-01-21T03:00:00.000Z',
  version: '1.0.0',
};

test('the last verification in a few words', () => {
  const at = '2022-02-01T03:00:00.000Z';
  const looked = { ...verified, verifiedAt: at };
  const sample = { percent: 10, segments: 2, ofSegments: 14 };
  expect(verifiedText(null)).toBe('-');
  expect(verifiedText(verified)).toBe('data 2022-01-21');
  expect(verifiedText({ ...looked, level: 'metadata' })).toBe('data 2022-01-21');
  expect(verifiedText({ ...looked, level: 'metadata', lastFull: null })).toBe('metadata 2022-02-01');
  expect(verifiedText({ ...looked, sample, lastFull: null })).toBe('data (10% of it) 2022-02-01');
  expect(verifiedText({ ...looked, valid: false, lastFull: null, errorCount: 2 })).toBe('FAILED 2022-02-01');
});

test('the list of backups', () => {
  const older = {
    ...metadata,
    id: 'backup-1642598400000-00000000',
    database: 'crm',
    tags: [],
    tableCount: 1,
    verified: null,
    lockedUntil: null,
    inRepository: true,
    inReplica: null,
  };
  const newer = {
    ...metadata,
    verified,
    lockedUntil: '2022-02-20T13:20:00.000Z',
    inRepository: true,
    inReplica: null,
  };
  expect(listText([newer, older], plain)).toMatchInlineSnapshot(`
    "ID                             TAKEN (UTC)          DATABASE  TABLES     ROWS      SIZE    STORED       NEW   TOOK  VERIFIED         LOCKED UNTIL (UTC)   TAGS
    backup-1642684800000-a1b2c3d4  2022-01-20 13:20:00  shop          17  203,114  45.1 MiB  12.3 MiB  12.3 MiB  2.3 s  data 2022-01-21  2022-02-20 13:20:00  nightly eu
    backup-1642598400000-00000000  2022-01-20 13:20:00  crm            1  203,114  45.1 MiB  12.3 MiB  12.3 MiB  2.3 s  -
    "
  `);
});

test('one backup in full', () => {
  const text = shownText(
    {
      metadata,
      verified,
      lockedUntil: '2022-02-20T13:20:00.000Z',
      repository: '/srv/backups',
      serverVersion: '17.10',
      toolVersion: '1.0.0',
      pgDumpVersion: '17.10',
      snapshot: {
        takenAt: '2022-01-20T13:20:00.120Z',
        walPosition: '0/16B3748',
        timeline: '1',
        standby: false,
      },
      startedAt: '2022-01-20T13:20:00.000Z',
      finishedAt: '2022-01-20T13:20:02.310Z',
      durationMs: 2310,
      tables: [
        {
          schema: 'public',
          name: 'order',
          rows: 203_000,
          bytes: 47_000_000,
        },
        { schema: 'public', name: 'odd\nname', rows: 114, bytes: 2048 },
      ],
      leftOut: [{ schema: 'public', name: 'sessions', kind: 'table', reason: 'rows excluded' }],
      roles: { included: false, reason: 'not asked for' },
      incremental: {
        parent: 'backup-1642598400000-00000000',
        fullReadAt: '2022-01-16T13:20:00.000Z',
        unread: { ranges: 30, rows: 200_000, bytes: 46_000_000 },
        deltas: { ranges: 4, rows: 1500, bytes: 350_000 },
        equal: { ranges: 10, rows: 114, bytes: 2048 },
        stored: { ranges: 2, rows: 1500, bytes: 400_000 },
      },
      extensions: [{ name: 'citext', version: '1.6' }],
      newBytes: 12_902_400,
      reusedBytes: 2048,
      sizeBytes: 47_291_904,
      storedBytes: 12_904_448,
      traffic: { requests: 1_205, sentBytes: 12_902_400, receivedBytes: 1_204 },
    },
    plain,
  );
  expect(text).toMatchInlineSnapshot(`
    "Backup      backup-1642684800000-a1b2c3d4
    Repository  /srv/backups
    Database    shop
    Started     2022-01-20 13:20:00 UTC, took 2.3 s
    Snapshot    2022-01-20 13:20:00 UTC, WAL position 0/16B3748 of timeline 1
    Versions    server 17.10, pg_dump 17.10, pgkeep 1.0.0
    Contents    17 tables, 203,114 rows
    Size        45.1 MiB, stored in 12.3 MiB
    Stored      12.3 MiB new, 2.00 KiB reused
    Traffic     1,205 requests, 12.3 MiB sent, 1.18 KiB received
    Built on    backup-1642598400000-00000000: 200,000 rows (43.9 MiB) taken over unread, 1,500 rows (342 KiB) came as deltas
    Read        1,500 rows (391 KiB) in new ranges, 114 rows (2.00 KiB) of equal content
    Full read   2022-01-16 13:20:00 UTC
    Encrypted   yes
    Verified    data 2022-01-21
    Locked      until 2022-02-20 13:20:00 UTC
    Roles       not included: not asked for
    Extensions  citext 1.6
    Tags        nightly eu

    TABLE                ROWS      SIZE
    public.order      203,000  44.8 MiB
    public.odd\\nname      114  2.00 KiB

    Left out
    NAME             KIND   WHY
    public.sessions  table  rows excluded
    "
  `);
});

const restored: RestoreBackupResult = {
  backup: 'backup-1642684800000-a1b2c3d4',
  database: 'shop_copy',
  dryRun: false,
  resumed: false,
  tables: 17,
  rows: 203_114,
  bytes: 47_291_904,
  durationMs: 65_000,
  plan: ['create the database shop_copy', 'copy the rows'],
  traffic: { requests: 20, sentBytes: 1000, receivedBytes: 0 },
  warnings: [],
};

test('the plan and the summary of a restore', () => {
  expect(planText(restored) + restoredText(restored, plain)).toMatchInlineSnapshot(`
    "backup-1642684800000-a1b2c3d4 into shop_copy:
      1. create the database shop_copy
      2. copy the rows
    restored backup-1642684800000-a1b2c3d4 into shop_copy: 17 tables, 203,114 rows, 45.1 MiB in 1 min 05 s
    "
  `);
});

test('what a cleanup did, and why', () => {
  const backup = { database: 'shop', server: null, complete: true };
  const result: CleanupRepositoryResult = {
    repository: '/srv/backups',
    dryRun: false,
    backups: [
      {
        ...backup,
        id: 'backup-1642684800000-a1b2c3d4',
        timestamp: '2022-01-20T13:20:00.000Z',
        stays: true,
        reason: 'the newest good backup of its series',
      },
      {
        ...backup,
        id: 'backup-1639484800000-0a1b2c3d',
        timestamp: '2021-12-14T12:26:40.000Z',
        stays: false,
        reason: '37 days older than the newest, beyond 30 days',
      },
    ],
    deleted: { segments: 1200, keys: 3, manifests: 1, verified: 2, bytes: 12_902_400 },
    locked: {
      segments: 7,
      keys: 0,
      manifests: 0,
      verified: 0,
      bytes: 4096,
      until: '2022-02-20T13:20:00.000Z',
    },
    candidates: { segments: 1, keys: 0, manifests: 0, verified: 0, bytes: 2048 },
    problems: [{ code: 'OBJECT_DAMAGED', message: 'backups/b.backup is damaged: it is cut' }],
    durationMs: 1500,
    warnings: [],
  };
  expect(cleanedText(result, plain) + summaryText(result, plain)).toMatchInlineSnapshot(`
    "         ID                             TAKEN (UTC)          DATABASE  WHY
    stays    backup-1642684800000-a1b2c3d4  2022-01-20 13:20:00  shop      the newest good backup of its series
    deleted  backup-1639484800000-0a1b2c3d  2021-12-14 12:26:40  shop      37 days older than the newest, beyond 30 days
    deleted 1 backup of 2 backups, and 1,200 segments, 3 keys, 1 unfinished backup, 2 verifications (12.3 MiB) that no backup needed, in 1.5 s
    waiting until the grace is over: 1 segment (2.00 KiB)
    kept until 2022-02-20 13:20:00 UTC at the latest, as they are locked: 7 segments (4.00 KiB)
    left alone because of 1 problem:
      backups/b.backup is damaged: it is cut [OBJECT_DAMAGED]
    "
  `);
  expect(cleanedText({ ...result, dryRun: true }, plain)).toContain('would go');
  expect(summaryText({ ...result, dryRun: true }, plain)).toContain('would delete 1 backup of 2 backups');
});

test('what mends a repository that cleanup could not read', () => {
  const hint = (message: string) => mendingHint({ code: 'OBJECT_DAMAGED', message });
  expect(hint('segments/8e/8eed is damaged: it is cut')).toMatch(
    /^run pgkeep verify --all --repair .*pgkeep delete$/,
  );
  expect(hint('backups/b.backup is damaged: it is cut')).toBe(
    'get it from a copy of the repository; or give the backup up with pgkeep delete',
  );
});
