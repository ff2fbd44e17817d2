// Collects what no manifest names, in two phases with a grace between them: first listed, later deleted. Safe beside any
// number of runs that store backups and of other cleanups: docs/decisions/cleanup-without-locks.md says why.
import { PgkeepError, throwIfAborted } from '../base/errors.ts';
import { forEachAtOnce } from '../base/for-each-at-once.ts';
import { sealedHeadBytes, sealedKeyId } from '../crypto/seal.ts';
import { type LockedObject, ObjectsLocked } from '../storage/objects-locked.ts';
import type { Storage, StoredObject } from '../storage/storage.ts';
import { mayHoldLocks } from './backup-lock.ts';
import {
  findGarbage,
  type GarbageContents,
  type GarbageList,
  GarbageMark,
  listedAtMost,
  readGarbageList,
  unlessGone,
  writeGarbageList,
} from './garbage.ts';
import {
  keyName,
  keyPrefix,
  manifestName,
  metadataName,
  segmentIdIn,
  segmentName,
  segmentPrefix,
  shardsPrefix,
  verifiedName,
  verifiedPrefix,
} from './layout.ts';
import { idsIn, type NamedObjects, readNamedObjects } from './named-objects.ts';
import type { Repository } from './repository.ts';
import { SegmentIdMap } from './segment-id-map.ts';
import { SegmentIdSet } from './segment-id-set.ts';

export interface CollectGarbageOptions {
  /** By the storage's clock. */
  nowMs: number;
  /** How old a list must be to be acted on. */
  graceMs: number;
  /** Changes nothing, and counts what would be done. */
  dryRun: boolean;
  /** Backups that a dry run takes as deleted. */
  without: ReadonlySet<string>;
  signal: AbortSignal | undefined;
}

export interface GarbageCounts {
  segments: number;
  keys: number;
  /** Manifests without metadata, of runs that ended early. */
  manifests: number;
  /** Records of verifications without backup. */
  verified: number;
  bytes: number;
}

export interface LockedGarbage extends GarbageCounts {
  /** When the last of their locks ends; `null` when there are none. */
  until: Date | null;
}

export interface CollectedGarbage {
  deleted: GarbageCounts;
  /** What was to be deleted, and nobody can delete yet; later cleanups find it again. */
  locked: LockedGarbage;
  /** What stands in a list now and waits for the grace to pass. */
  candidates: GarbageCounts;
  /** Why segments and keys were left alone, if they were. */
  unreadable: PgkeepError[];
  /** Lists that another cleanup is acting on, or died doing so less than the grace ago. */
  busyLists: string[];
}

type Kind = keyof GarbageContents;

interface Removal {
  kind: Kind;
  object: StoredObject;
  /** The list that names it. */
  list: DueList;
}

interface DueList extends GarbageList {
  isMarkedBy: GarbageMark | undefined;
}

const dayMs = 86_400_000;
const removedAtOnce = 1000;
/** Whoever sets a shorter grace says that nothing stands still for long. */
const shortestMarkLifeMs = 60_000;

/**
 * Acts on the lists that are older than the grace, then lists what else nothing names.
 * @throws PgkeepError CLEANUP_CONFLICT when another cleanup took over; INTERRUPTED on abort. What was not deleted by then
 * is by a later cleanup.
 */
export async function collectGarbage(
  repository: Repository,
  options: CollectGarbageOptions,
): Promise<CollectedGarbage> {
  const collection = new Collection(repository, options);
  try {
    await collection.markDueLists();
    await collection.removeOrphans();
    await collection.readNamed();
    await collection.collectSegmentsAndKeys();
    await collection.collectRest();
    await collection.finish();
  } catch (error) {
    // The first failure tells more than that of tidying up.
    await collection.removeMarks().catch(() => undefined);
    throw error;
  }
  await collection.removeMarks();
  return collection.result();
}

class Collection {
  readonly #repository: Repository;
  readonly #storage: Storage;
  readonly #options: CollectGarbageOptions;
  readonly #due: DueList[] = [];
  /** What these name, each with the number of the youngest of them. */
  readonly #dueContents = emptyNumbers();
  readonly #busyLists: string[] = [];
  /** What lists that are not acted on name already. */
  readonly #waiting = emptyContents();
  #leftovers: string[] = [];
  #named: NamedObjects | undefined;
  readonly #deleted = noCounts();
  readonly #candidates = noCounts();
  /** Manifests without metadata that were deleted, or would be. */
  readonly #gone = new Set<string>();
  /** Such as nobody can delete yet: what they name stays with them. */
  readonly #lockedOrphans = new Set<string>();
  readonly #locked: LockedGarbage = { ...noCounts(), until: null };
  #mayHoldLocks: Promise<boolean> | undefined;
  #removals: Removal[] = [];
  #listed = emptyList();
  /** A removal failed, and may still be carried out: the marks must stay. */
  #isUncertain = false;

  constructor(repository: Repository, options: CollectGarbageOptions) {
    this.#repository = repository;
    this.#storage = repository.storage;
    this.#options = options;
  }

  async markDueLists(): Promise<void> {
    const { lists, leftovers } = await findGarbage(this.#storage);
    // No backup needs what shards tell each other, and no run takes longer than the grace.
    for await (const object of this.#storage.list(shardsPrefix)) leftovers.push(object);
    // An object that is younger than one list may be older than another: the youngest counts.
    lists.sort((a, b) => a.modified.getTime() - b.modified.getTime());
    this.#leftovers = leftovers.filter(object => this.#isOld(object.modified)).map(object => object.name);
    for (const list of lists) {
      throwIfAborted(this.#options.signal);
      // Written while the clock was ahead, and never due: what it names is listed again.
      if (list.mark === undefined && list.modified.getTime() > this.#options.nowMs + dayMs) {
        this.#leftovers.push(list.name);
        continue;
      }
      const isDue =
        this.#isOld(list.modified) && (list.mark === undefined || this.#isOld(list.mark.modified));
      const mark = isDue && !this.#options.dryRun ? await this.#mark(list) : undefined;
      const contents = await unlessGone(readGarbageList(this.#storage, list.name));
      if (mark !== undefined || (isDue && this.#options.dryRun)) {
        this.#due.push({ ...list, isMarkedBy: mark });
        if (contents !== undefined) numberAll(this.#dueContents, contents, this.#due.length - 1);
      } else {
        if (list.mark !== undefined || isDue) this.#busyLists.push(list.name);
        if (contents !== undefined) addAll(this.#waiting, contents);
      }
    }
  }

  async #mark(list: GarbageList): Promise<GarbageMark | undefined> {
    return GarbageMark.put(this.#storage, list, Math.max(this.#options.graceMs / 2, shortestMarkLifeMs));
  }

  /** Never true of what is dated later than now. */
  #isOld(modified: Date): boolean {
    const ageMs = this.#options.nowMs - modified.getTime();
    return ageMs >= 0 && ageMs >= this.#options.graceMs;
  }

  /** Deletes the manifests of runs that died, so that what they name needs no further grace. */
  async removeOrphans(): Promise<void> {
    for (const id of this.#dueContents.manifests.keys()) {
      throwIfAborted(this.#options.signal);
      const object = await this.#storage.stat(manifestName(id));
      // A run that took its time may have ended by now.
      if (object === undefined || (await this.#storage.stat(metadataName(id))) !== undefined) continue;
      if (this.#dueList('manifests', id, object) === undefined) continue;
      const bytes = this.#options.dryRun ? undefined : await unlessGone(this.#storage.get(object.name));
      await this.#collect('manifests', id, object);
      if ((await this.#removeNow()).length > 0) {
        this.#lockedOrphans.add(id);
        continue;
      }
      this.#gone.add(id);
      // It ended just then, and may have died before it could see what was done.
      if (bytes !== undefined && (await this.#storage.stat(metadataName(id))) !== undefined) {
        await this.#storage.put(object.name, bytes, { ifAbsent: true });
      }
    }
  }

  /** After the marks, which is what makes deleting safe. */
  async readNamed(): Promise<void> {
    const { signal, without, dryRun } = this.#options;
    this.#named = await readNamedObjects(
      this.#repository,
      signal,
      dryRun ? new Set([...without, ...this.#gone]) : without,
    );
  }

  get #isBlocked(): boolean {
    return this.#required.unreadable.length > 0;
  }

  get #required(): NamedObjects {
    if (this.#named === undefined) throw new PgkeepError('INTERNAL', 'the manifests have not been read');
    return this.#named;
  }

  async collectSegmentsAndKeys(): Promise<void> {
    if (this.#isBlocked) return;
    const named = this.#required;
    const keys = new Map<string, StoredObject>();
    for await (const object of this.#storage.list(keyPrefix)) {
      const id = object.name.slice(keyPrefix.length, -'.json'.length);
      if (/^[0-9a-f]{32}$/.test(id) && object.name === keyName(id) && !named.keys.has(id))
        keys.set(id, object);
    }
    await forEachAtOnce(this.#storage.list(segmentPrefix), async object => {
      throwIfAborted(this.#options.signal);
      const id = segmentIdIn(object.name);
      if (id === undefined || object.name !== segmentName(id)) return;
      if (!named.segments.has(id)) await this.#collect('segments', id, object);
      // A segment that was replaced may be sealed with a key that none of the manifests that name it lists.
      else if (keys.size > 0) keys.delete((await this.#keyIdOf(object.name)) ?? '');
    });
    await this.#removeNow();
    for (const [id, object] of keys) await this.#collect('keys', id, object);
    await this.#removeNow();
  }

  async #keyIdOf(name: string): Promise<string | null> {
    const head = await unlessGone(this.#storage.get(name, { firstBytes: sealedHeadBytes }));
    if (head === undefined) return null;
    try {
      return sealedKeyId(name, head);
    } catch (error) {
      // No key opens what is damaged there.
      if (error instanceof PgkeepError && error.code === 'OBJECT_DAMAGED') return null;
      throw error;
    }
  }

  async collectRest(): Promise<void> {
    const { orphans, existing } = this.#required;
    for (const id of await idsIn(this.#storage, verifiedPrefix, '.json')) {
      if (existing.has(id) || this.#options.without.has(id)) continue;
      const object = await this.#storage.stat(verifiedName(id));
      if (object !== undefined) await this.#collect('verified', id, object);
    }
    await this.#removeNow();
    for (const id of orphans) {
      if (this.#lockedOrphans.has(id)) continue;
      const object = await this.#storage.stat(manifestName(id));
      if (object !== undefined) await this.#collect('manifests', id, object);
    }
  }

  /** Deletes an object that nothing names, if its time has come, or sees to it that it stands in a list. */
  async #collect(kind: Kind, id: string, object: StoredObject): Promise<void> {
    const list = this.#dueList(kind, id, object);
    if (list !== undefined && !this.#isNamedByOrphan(kind, id)) {
      this.#removals.push({ kind, object, list });
      if (this.#removals.length >= removedAtOnce) await this.#removeNow();
      return;
    }
    count(this.#candidates, kind, object);
    if (this.#waiting[kind].has(id) || this.#options.dryRun) return;
    this.#listed[kind].push(id);
    if (lengthOf(this.#listed) >= listedAtMost) {
      await this.#writeList();
    }
  }

  /** The list by which an object may be deleted. */
  #dueList(kind: Kind, id: string, object: StoredObject): DueList | undefined {
    const list = this.#due[this.#dueContents[kind].get(id) ?? -1];
    return list !== undefined && object.modified < list.modified ? list : undefined;
  }

  /** What a manifest without metadata names is listed like the manifest itself, but not deleted before it. */
  #isNamedByOrphan(kind: Kind, id: string): boolean {
    if (kind === 'segments') return this.#required.orphanSegments.has(id);
    return kind === 'keys' && this.#required.orphanKeys.has(id);
  }

  /** @returns what stays, as it is locked. */
  async #removeNow(): Promise<readonly LockedObject[]> {
    const removals = this.#removals;
    this.#removals = [];
    if (removals.length === 0) return [];
    const names = removals.map(({ object }) => object.name);
    const locked = await (this.#options.dryRun ? this.#findLocked(names) : this.#removeUnlocked(removals));
    const ends = new Map(locked.map(({ name, lockedUntil }) => [name, lockedUntil]));
    for (const { kind, object } of removals) {
      const end = ends.get(object.name);
      count(end === undefined ? this.#deleted : this.#locked, kind, object);
      const { until } = this.#locked;
      if (end !== undefined && (until === null || until < end)) this.#locked.until = end;
    }
    return locked;
  }

  async #removeUnlocked(removals: readonly Removal[]): Promise<readonly LockedObject[]> {
    throwIfAborted(this.#options.signal);
    // Of the lists that name what goes now: a listing has most of a list together, so there are few.
    for (const { isMarkedBy } of new Set(removals.map(({ list }) => list))) await isMarkedBy?.require();
    try {
      await this.#storage.remove(
        removals.map(({ object }) => object.name),
        { unlessLocked: true },
      );
      return [];
    } catch (error) {
      if (error instanceof ObjectsLocked) return error.objects;
      this.#isUncertain = true;
      throw error;
    }
  }

  async #findLocked(names: readonly string[]): Promise<LockedObject[]> {
    const locked: LockedObject[] = [];
    this.#mayHoldLocks ??= mayHoldLocks(this.#storage);
    if (!(await this.#mayHoldLocks)) return locked;
    await forEachAtOnce(names, async name => {
      const lockedUntil = (await this.#storage.stat(name))?.lockedUntil;
      if (lockedUntil !== undefined) locked.push({ name, lockedUntil });
    });
    return locked;
  }

  async #writeList(): Promise<void> {
    const contents = this.#listed;
    this.#listed = emptyList();
    if (lengthOf(contents) > 0) await writeGarbageList(this.#storage, contents);
  }

  /** Writes the new list, and removes what is done with: lists before marks, so that no list seems to be acted on. */
  async finish(): Promise<void> {
    if (this.#options.dryRun) return;
    throwIfAborted(this.#options.signal);
    await this.#writeList();
    const done = this.#isBlocked ? [] : this.#due.map(list => list.name);
    for (const { isMarkedBy } of this.#due) await isMarkedBy?.require();
    if (done.length > 0) await this.#storage.remove(done);
    if (this.#leftovers.length > 0) await this.#storage.remove(this.#leftovers);
  }

  async removeMarks(): Promise<void> {
    if (this.#isUncertain) return;
    for (const { isMarkedBy } of this.#due) await isMarkedBy?.remove();
  }

  result(): CollectedGarbage {
    return {
      deleted: this.#deleted,
      locked: this.#locked,
      candidates: this.#candidates,
      unreadable: this.#required.unreadable,
      busyLists: this.#busyLists,
    };
  }
}

function noCounts(): GarbageCounts {
  return { segments: 0, keys: 0, manifests: 0, verified: 0, bytes: 0 };
}

function count(counts: GarbageCounts, kind: Kind, object: StoredObject): void {
  counts[kind]++;
  counts.bytes += object.sizeBytes;
}

function emptyList() {
  const list: Record<Kind, string[]> = { segments: [], keys: [], manifests: [], verified: [] };
  return list;
}

function lengthOf({ segments, keys, manifests, verified }: GarbageContents): number {
  return segments.length + keys.length + manifests.length + verified.length;
}

function emptyNumbers() {
  return {
    segments: new SegmentIdMap(),
    keys: new Map<string, number>(),
    manifests: new Map<string, number>(),
    verified: new Map<string, number>(),
  };
}

function numberAll(numbers: ReturnType<typeof emptyNumbers>, listed: GarbageContents, list: number): void {
  for (const id of listed.segments) numbers.segments.set(id, list);
  for (const id of listed.keys) numbers.keys.set(id, list);
  for (const id of listed.manifests) numbers.manifests.set(id, list);
  for (const id of listed.verified) numbers.verified.set(id, list);
}

function emptyContents() {
  return {
    segments: new SegmentIdSet(),
    keys: new Set<string>(),
    manifests: new Set<string>(),
    verified: new Set<string>(),
  };
}

function addAll(contents: ReturnType<typeof emptyContents>, listed: GarbageContents): void {
  for (const id of listed.segments) contents.segments.add(id);
  for (const id of listed.keys) contents.keys.add(id);
  for (const id of listed.manifests) contents.manifests.add(id);
  for (const id of listed.verified) contents.verified.add(id);
}
