import { describe, expect, test } from 'vitest';
import {
  isComparable,
  parseSnapshot,
  reasonAgainst,
  type Source,
} from '../../../../src/operations/create/parent.ts';
import type { DatabaseFacts, ServerFacts } from '../../../../src/postgres/catalog.ts';
import type { Manifest } from '../../../../src/repository/manifest.ts';
import { Repository } from '../../../../src/repository/repository.ts';
import { MemoryStorage } from '../../../support/memory-storage.ts';
import { sampleManifest } from '../../repository/sample-backup.ts';

const server: ServerFacts = {
  version: '15.4',
  versionNumber: 150004,
  systemIdentifier: '7300000000000000001',
  timeline: '00000001',
  isStandby: false,
  startedAt: '1700000000.123456',
};
const sample = sampleManifest(await Repository.create(new MemoryStorage(), null));
const manifest: Manifest = {
  ...sample,
  server: {
    version: server.version,
    versionNumber: server.versionNumber,
    systemIdentifier: server.systemIdentifier,
    timeline: server.timeline,
    standby: server.isStandby,
    startedAt: server.startedAt,
  },
  snapshot: {
    ...sample.snapshot,
    xids: '4294967290:4294967299:4294967291',
    walPosition: 'F/FF',
    walFlushed: true,
  },
};
const database = { ...manifest.database, privileges: null } satisfies DatabaseFacts;
const source: Source = {
  server,
  database,
  snapshot: { xids: '4294967290:4294967300:', walBefore: '10/0' },
};

test('a backup of the same running server, from before, can be built on', () => {
  expect(reasonAgainst(manifest, source)).toBeUndefined();
  const silent = { ...server, systemIdentifier: null, timeline: null };
  const before = { ...manifest.server, systemIdentifier: null, timeline: null };
  expect(reasonAgainst({ ...manifest, server: before }, { ...source, server: silent })).toBeUndefined();
});

describe('it cannot be built on when', () => {
  test.each<[string, Partial<ServerFacts>]>([
    ['it is of another server', { systemIdentifier: '7300000000000000002' }],
    ['it is of another server', { systemIdentifier: null }],
    ['it is of another server', { isStandby: true }],
    ['the server is of another version by now', { versionNumber: 150005 }],
    ['the server is on another timeline by now', { timeline: '00000002' }],
    ['the server is on another timeline by now', { timeline: null }],
    ['the server has been started anew since', { startedAt: '1700000000.123457' }],
  ])('%s: %o', (reason, change) => {
    expect(reasonAgainst(manifest, { ...source, server: { ...server, ...change } })).toBe(reason);
  });

  test.each<[string, Partial<Source['snapshot']>]>([
    ['the server has not come as far in its WAL as it was then', { walBefore: 'F/FE' }],
    ['the server has not come as far in its WAL as it was then', { walBefore: '' }],
    ['its transactions are not all in the past', { xids: '4294967289:4294967300:' }],
    ['its transactions are not all in the past', { xids: '4294967290:4294967298:' }],
    ['its transactions are not all in the past', { xids: '' }],
    ['too many transactions lie between', { xids: `4294967290:${4294967290 + 2 ** 31}:` }],
  ])('%s: %o', (reason, change) => {
    expect(reasonAgainst(manifest, { ...source, snapshot: { ...source.snapshot, ...change } })).toBe(reason);
  });

  test('it is of another database of this name', () => {
    for (const change of [{ oid: '99' }, { xmin: '99' }]) {
      expect(reasonAgainst(manifest, { ...source, database: { ...database, ...change } })).toBe(
        'it is of another database of this name, or this one was altered',
      );
    }
  });

  test('its server had not flushed its WAL in time, or it holds definitions alone', () => {
    const unflushed = { ...manifest, snapshot: { ...manifest.snapshot, walFlushed: false } };
    expect(reasonAgainst(unflushed, source)).toBe('its server had not flushed its WAL in time');
    const bare = { ...manifest, options: { ...manifest.options, schemaOnly: true } };
    expect(reasonAgainst(bare, source)).toBe('it holds definitions alone');
  });
});

test('transactions are compared while less than half of the 32-bit ids lie between', () => {
  expect(isComparable(10n, 10n + 2n ** 31n - 1n)).toBe(true);
  expect(isComparable(10n, 10n + 2n ** 31n)).toBe(false);
  expect(isComparable(10n, 9n)).toBe(false);
});

test.each(['', '1:2', 'a:b:', '1:2:x', '-1:2:'])('%j is no snapshot', text => {
  expect(parseSnapshot(text)).toBeUndefined();
});
