// Backups and cleanups at once: every order of their requests, real code on both sides, and a kill at every request.

import { expect, test } from 'vitest';
import { PgkeepError } from '../../../src/base/errors.ts';
import { generateKey } from '../../../src/crypto/key.ts';
import type { DataKey } from '../../../src/crypto/seal.ts';
import { listedSegments, writeGarbageList } from '../../../src/repository/garbage.ts';
import { collectGarbage } from '../../../src/repository/garbage-collection.ts';
import { keyName, manifestName, metadataName } from '../../../src/repository/layout.ts';
import type { Manifest, SegmentRef } from '../../../src/repository/manifest.ts';
import { publishBackup } from '../../../src/repository/publish-backup.ts';
import { Repository } from '../../../src/repository/repository.ts';
import { segmentId } from '../../../src/repository/segment.ts';
import { SegmentStore } from '../../../src/repository/segment-store.ts';
import type { Storage } from '../../../src/storage/storage.ts';
import {
  type Actor,
  type Ending,
  exploreOrders,
  HeldStorage,
  type MemoryObject,
  type Objects,
} from '../../support/interleaving.ts';
import { sampleManifest, sampleMetadata } from './sample-backup.ts';

const userKey = generateKey();
const hourMs = 3_600_000;
const now = new Date('2026-01-10T00:00:00Z');
const before = (hours: number) => new Date(now.getTime() - hours * hourMs);
const reused = Buffer.from('what an earlier backup held and this one holds again\n');
const added = Buffer.from('what only this one holds\n');
const kept = Buffer.from('what a backup holds that stays\n');

const free = { isFree: true };

/** A repository, and everything that a run needs which is about to store a backup in it. */
interface Scene {
  objects: Objects;
  manifest: Manifest;
  key: DataKey | null;
  /** The backup that stays. */
  stays: Manifest;
  apart: ReadonlySet<string>;
  /** What the run knows of a backup that was deleted while it was running. */
  learned: { manifest: Manifest; refs: SegmentRef[] };
}

interface Scenario {
  /** Whether the run has read a manifest that names the reused segment, or finds the segment without. */
  isKnown: boolean;
  /** Objects of the run count as older than the list: it took longer than the grace, or a clock went back. */
  isOld: boolean;
  encrypted: boolean;
  /** A list that is marked already, by a cleanup that died. */
  isMarked?: boolean;
  /** Whether the list names what the run brings itself, too; true by default. */
  isRunListed?: boolean;
}

const summarize = (manifest: Manifest) => (checksum: string) =>
  sampleMetadata(manifest, { checksum, encrypted: true, storedBytes: 0 });

/** One backup that stays, and leftovers of one that was deleted: all that a new run uses stands in an old list. */
async function prepare({ isMarked = false, encrypted, isRunListed = true }: Scenario): Promise<Scene> {
  const objects = new Map();
  const ancient = new HeldStorage(objects, { name: 'before', clock: before(100) }, free);
  const repository = await Repository.create(ancient, encrypted ? userKey : null);
  const keyOfKept = await repository.newDataKey();
  const keptStore = new SegmentStore(repository, keyOfKept, 1);
  const keptRef = await keptStore.store(kept);
  const stays = sampleManifest(repository, {
    change: {
      keys: keptStore.keys,
      archive: { programVersion: '15.0', bytes: kept.length, segments: [keptRef] },
    },
  });
  await publishBackup(repository, keyOfKept, stays, keptStore, summarize(stays));
  const earlier = new SegmentStore(repository, await repository.newDataKey(), 1);
  const refs = [await earlier.store(reused)];
  const key = await repository.newDataKey();
  const manifest = sampleManifest(repository, { database: 'other' });
  const lister = new HeldStorage(objects, { name: 'lister', clock: before(50) }, free);
  const list = await writeGarbageList(lister, {
    segments: [...refs.map(ref => ref.id), ...(isRunListed ? [segmentId(repository.secret, added)] : [])],
    keys: [...earlier.keys, ...(key === null ? [] : [key.id])],
    manifests: isRunListed ? [manifest.backup] : [],
    verified: [],
  });
  if (isMarked) await lister.put(list.replace('.json', '.deleting'), Buffer.from('{}'));
  const learned = { manifest: sampleManifest(repository, { change: { keys: earlier.keys } }), refs };
  const apart = new Set([manifestName(stays.backup), ...keptStore.keys.map(keyName)]);
  return { objects, manifest, key, stays, apart, learned };
}

async function openFreely(storage: Storage): Promise<Repository> {
  const held = storage as HeldStorage;
  held.isFree = true;
  const repository = await Repository.open(storage, userKey);
  held.isFree = false;
  return repository;
}

/** A run from the moment when its key is stored. */
function create(scene: Scene, { isKnown, isOld }: Scenario): Actor {
  return {
    name: 'create',
    clock: isOld ? before(60) : now,
    run: async storage => {
      const repository = await openFreely(storage);
      const store = new SegmentStore(repository, scene.key, 1, await listedSegments(storage));
      if (isKnown) store.learn(scene.learned.manifest, scene.learned.refs);
      const segments = [await store.store(reused), await store.store(added)];
      const bytes = reused.length + added.length;
      const manifest: Manifest = {
        ...scene.manifest,
        keys: store.keys,
        archive: { programVersion: '15.0', bytes, segments },
      };
      await publishBackup(repository, scene.key, manifest, store, summarize(manifest));
    },
  };
}

function cleanup(name: string): Actor {
  return {
    name,
    clock: now,
    run: async storage => {
      const repository = await openFreely(storage);
      await collectGarbage(repository, {
        nowMs: now.getTime(),
        graceMs: 24 * hourMs,
        dryRun: false,
        without: new Set(),
        signal: undefined,
      });
    },
  };
}

/**
 * Whatever is listed can be read; the run succeeded if and only if its backup is listed. The one exception is documented: a
 * run that stood still for longer than the grace just before its last object, and was killed just after it.
 */
function checker(scene: Scene, { isOld }: Scenario) {
  return async (
    objects: Map<string, MemoryObject>,
    endings: readonly Ending[],
    order: string,
  ): Promise<void> => {
    const repository = await Repository.open(
      new HeldStorage(objects, { name: 'reader', clock: now }, free),
      userKey,
    );
    for (const backup of [scene.stays.backup, scene.manifest.backup]) {
      if (!objects.has(metadataName(backup))) continue;
      if (isOld && isKilled(endings, 'create') && !objects.has(manifestName(backup))) continue;
      try {
        const object = await repository.storage.get(manifestName(backup));
        const manifest = await repository.openManifest(backup, object);
        for (const ref of manifest.archive.segments) await repository.readSegment(ref.id);
      } catch (error) {
        throw new Error(`${backup} is listed and cannot be read: ${error}\n${order}`);
      }
    }
    expect(objects.has(metadataName(scene.stays.backup)), order).toBe(true);
    for (const { actor, outcome } of endings) {
      if (outcome === undefined) continue;
      if ('error' in outcome && !(outcome.error instanceof PgkeepError)) throw outcome.error;
      if ('error' in outcome) expect(outcome.error, order).toMatchObject({ code: 'CLEANUP_CONFLICT' });
      if (actor !== 'create') continue;
      expect(objects.has(metadataName(scene.manifest.backup)), order).toBe('value' in outcome);
    }
  };
}

function isKilled(endings: readonly Ending[], name: string): boolean {
  return endings.some(({ actor, outcome }) => actor === name && outcome === undefined);
}

const scenarios: readonly (readonly [string, Scenario])[] = [
  ['a segment that it knows', { isKnown: true, isOld: false, encrypted: true }],
  ['a segment that it finds', { isKnown: false, isOld: false, encrypted: true }],
  ['a run longer than the grace', { isKnown: true, isOld: true, encrypted: true }],
  ['a clock that went back', { isKnown: true, isOld: true, encrypted: false, isRunListed: false }],
  ['a long run that finds a segment', { isKnown: false, isOld: true, encrypted: true }],
  ['the list of a cleanup that died', { isKnown: true, isOld: false, encrypted: true, isMarked: true }],
];

test.each(scenarios)(
  'in every order of one run and one cleanup what is listed can be read: %s',
  async (_, scenario) => {
    const scene = await prepare(scenario);
    const { states, ends } = await exploreOrders({
      objects: scene.objects,
      apart: scene.apart,
      actors: [create(scene, scenario), cleanup('cleanup')],
      check: checker(scene, scenario),
      withKills: true,
    });
    expect(states).toBeGreaterThan(300);
    expect(ends).toBeGreaterThan(40);
  },
);
