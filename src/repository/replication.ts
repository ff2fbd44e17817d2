// Copies backups into a replica: the same repository in another place. Objects travel as they are; each is opened before it
// does. The order, and why nothing is lost whatever happens on either side meanwhile: docs/decisions/replication.md.
import { type ErrorCode, PgkeepError } from '../base/errors.ts';
import { forEachAtOnce } from '../base/for-each-at-once.ts';
import { freeBuffer } from '../base/free-buffer.ts';
import { type DataKey, sealedHeadBytes, sealedKeyId } from '../crypto/seal.ts';
import type { Storage } from '../storage/storage.ts';
import { collected, listedSegments } from './garbage.ts';
import {
  descriptorName,
  keyName,
  manifestName,
  metadataName,
  segmentIdIn,
  segmentName,
  segmentPrefix,
} from './layout.ts';
import { type BackupMetadata, parseMetadata } from './metadata.ts';
import { segmentsOf } from './named-objects.ts';
import { publishCopy } from './publish-backup.ts';
import { inspectRepository, Repository } from './repository.ts';
import { openSegment } from './segment.ts';
import { SegmentIdMap } from './segment-id-map.ts';
import { SegmentIdSet } from './segment-id-set.ts';

/** A sealed segment with the key that its header names. */
export interface SealedSegment {
  object: Buffer;
  key: DataKey | null;
}

/** Gives the object back when it opens to what its id says. @throws PgkeepError OBJECT_DAMAGED. */
export type CheckSegment = (id: string, segment: SealedSegment) => Promise<Buffer>;

export interface ReplicationOptions {
  source: Repository;
  /** `undefined`: there is nothing yet, and it is only asked what would travel. */
  target: Repository | undefined;
  /** In this thread by default. */
  check?: CheckSegment;
  /** Told of each segment that has arrived. */
  onCopied?: (bytes: number) => void;
  /** How many segments are in memory at the same time. */
  atOnce?: number;
}

/** What travels, or would: segments, keys, manifest and metadata. */
export interface Travelled {
  objects: number;
  bytes: number;
}

/** What one backup needs, and what of that is not at the target. */
export interface CopyPlan {
  metadata: BackupMetadata;
  manifest: Buffer;
  metadataObject: Buffer;
  keys: ReadonlySet<string>;
  /** Sizes by id, as the manifest tells them. */
  segments: SegmentIdMap;
  /** Sizes at the target of those that are there and not known from this run. */
  found: SegmentIdMap;
  missing: SegmentIdSet;
  missingBytes: number;
}

/** Up to so many objects are looked at one by one; for more it is quicker to list all. */
const maxStats = 500;

/** What is wrong with an object of one backup, and no reason to give up the others. */
const ofOneBackup: ReadonlySet<ErrorCode> = new Set([
  'OBJECT_MISSING',
  'OBJECT_DAMAGED',
  'REPOSITORY_MISMATCH',
  'REPOSITORY_UNSUPPORTED',
  'RECIPIENT_UNSUPPORTED',
  'BACKUP_NOT_FOUND',
  'CLEANUP_CONFLICT',
]);

export function concernsOneBackup(error: unknown): error is PgkeepError {
  return error instanceof PgkeepError && ofOneBackup.has(error.code);
}

/**
 * The replica of a repository at a storage. An empty place becomes one, by the descriptor.
 * @param keyText the user's key.
 * @param make whether an empty place may be written to; `undefined` is the result for one where it may not.
 * @throws PgkeepError REPOSITORY_MISMATCH when another repository is there; as {@link Repository.open}.
 */
export async function openReplica(
  source: Repository,
  storage: Storage,
  keyText: string | undefined,
  make: boolean,
): Promise<Repository | undefined> {
  if ((await inspectRepository(storage)) === undefined) {
    if (!make) return undefined;
    await storage.put(descriptorName, await source.storage.get(descriptorName), { ifAbsent: true });
  }
  const isSame = (await inspectRepository(storage))?.id === source.id;
  const target = isSame ? await Repository.open(storage, keyText) : undefined;
  if (target === undefined || !target.secret.equals(source.secret)) {
    throw new PgkeepError(
      'REPOSITORY_MISMATCH',
      `${storage.location} holds another repository, not a replica of ${source.storage.location}`,
      { hint: 'give an empty place: a replica is made by the first pgkeep replicate, not by pgkeep create' },
    );
  }
  return target;
}

export class Replication {
  readonly travelled: Travelled = { objects: 0, bytes: 0 };
  readonly #source: Repository;
  readonly #target: Repository | undefined;
  readonly #check: CheckSegment;
  readonly #onCopied: (bytes: number) => void;
  readonly #atOnce: number;
  /** Keys that are at the target and open there. */
  readonly #keys = new Map<string, Promise<void>>();
  /** Segments that were found or put at the target, and where in the list the keys that their headers name stand. */
  #placed = new SegmentIdMap();
  readonly #placedKeys: (string | null)[] = [];
  readonly #placedKeyIndexes = new Map<string | null, number>();
  /** Segments in the target's garbage lists. */
  #listed = new SegmentIdSet();

  constructor({ source, target, check, onCopied, atOnce = 8 }: ReplicationOptions) {
    this.#source = source;
    this.#target = target;
    this.#check = check ?? (async (id, segment) => this.#checkHere(id, segment));
    this.#onCopied = onCopied ?? (() => {});
    this.#atOnce = atOnce;
  }

  /**
   * Reads what a backup needs, and looks for it at the target. Writes nothing.
   * @throws PgkeepError OBJECT_MISSING, OBJECT_DAMAGED when the source lacks or cannot read what tells it.
   */
  async plan(id: string): Promise<CopyPlan> {
    const read = await this.#atSource(() => this.#readSource(id));
    const { segments } = read;
    const missing = new SegmentIdSet();
    const found = await this.#sizesAtTarget(segments);
    let missingBytes = 0;
    for (const segment of segments.keys()) {
      if (this.#placed.has(segment) || found.has(segment)) continue;
      missing.add(segment);
      missingBytes += segments.get(segment) ?? 0;
    }
    return { ...read, found, missing, missingBytes };
  }

  async #readSource(
    id: string,
  ): Promise<Pick<CopyPlan, 'metadata' | 'manifest' | 'metadataObject' | 'keys' | 'segments'>> {
    const { storage } = this.#source;
    const metadataObject = await storage.get(metadataName(id));
    const metadata = parseMetadata(metadataName(id), id, metadataObject);
    const object = await storage.get(manifestName(id));
    const manifest = await this.#source.openManifestOf(metadata, object);
    const keys = new Set(manifest.keys);
    const ownKey = sealedKeyId(manifestName(id), object);
    if (ownKey !== null) keys.add(ownKey);
    const segments = new SegmentIdMap();
    for await (const ref of segmentsOf(this.#source, manifest)) segments.set(ref.id, ref.storedBytes);
    return { metadata, manifest: object, metadataObject, keys, segments };
  }

  /** Counts what {@link copy} would send, and takes it as sent for the plans that follow. */
  async pretend(plan: CopyPlan): Promise<void> {
    for (const segment of plan.missing.values()) {
      this.#notePlaced(segment, null);
      this.#count(plan.segments.get(segment) ?? 0);
    }
    for (const id of plan.keys) {
      const isThere = (await this.#target?.storage.stat(keyName(id))) !== undefined;
      if (isThere || this.#keys.has(id)) continue;
      this.#keys.set(id, Promise.resolve());
      this.#count((await this.#source.storage.stat(keyName(id)))?.sizeBytes ?? 0);
    }
    const { id } = plan.metadata;
    if ((await this.#target?.storage.stat(manifestName(id))) === undefined) this.#count(plan.manifest.length);
    if ((await this.#target?.storage.stat(metadataName(id))) === undefined)
      this.#count(plan.metadataObject.length);
  }

  /**
   * Copies what is missing and publishes the backup; of one that is there already, only what it lacks.
   * @throws PgkeepError one that {@link concernsOneBackup}, or what keeps everything from going on. The backup is then not
   * published, unless it was before.
   */
  async copy(plan: CopyPlan): Promise<void> {
    const target = this.#requireTarget();
    try {
      const backup = plan.metadata.id;
      const isThere = await this.#isPublished(plan);
      this.#listed = await listedSegments(target.storage);
      const keys = new Set(plan.keys);
      for (const id of plan.keys) await this.#ensureKey(id);
      const place = async (id: string) => {
        const keyId = await this.#place(id, plan);
        if (keyId !== null) keys.add(keyId);
      };
      const { segments, missing } = plan;
      await forEachAtOnce(
        segments.keys().filter(id => !missing.has(id)),
        place,
      );
      await forEachAtOnce(missing.values(), place, this.#atOnce);
      if (isThere) {
        await this.#mendManifest(plan);
        return;
      }
      const { manifest, metadataObject: metadata } = plan;
      const needed = { backup, segments: segments.keys(), keys };
      if (await publishCopy(target, { manifest, metadata }, needed)) this.#count(metadata.length);
      this.#count(manifest.length);
    } catch (error) {
      // Something that was there may be gone: nothing is taken for granted any more.
      this.#keys.clear();
      this.#placed = new SegmentIdMap();
      throw error;
    }
  }

  /** @throws PgkeepError OBJECT_DAMAGED when the target has other metadata of this backup. */
  async #isPublished({ metadata: { id }, metadataObject }: CopyPlan): Promise<boolean> {
    const { storage } = this.#requireTarget();
    const name = metadataName(id);
    const there = await ifThere(storage.get(name));
    if (there === undefined) return false;
    if (metadataObject.equals(there)) return true;
    throw new PgkeepError('OBJECT_DAMAGED', `${name} in ${storage.location} is not that of the source`, {
      hint: `delete that backup there with: pgkeep delete ${id} --force --repository ${storage.location}; then copy it again`,
      context: { object: name },
    });
  }

  /** Puts the manifest of a backup that has metadata, where it is missing or of another size. */
  async #mendManifest({ metadata: { id }, manifest }: CopyPlan): Promise<void> {
    const { storage } = this.#requireTarget();
    if ((await storage.stat(manifestName(id)))?.sizeBytes === manifest.length) return;
    await storage.put(manifestName(id), manifest);
    this.#count(manifest.length);
  }

  /** Sees to it that a segment is at the target. @returns the id of the key that its header names. */
  async #place(id: string, plan: CopyPlan): Promise<string | null> {
    const placed = this.#placed.get(id);
    if (placed !== undefined && !this.#listed.has(id)) return this.#placedKeys[placed] ?? null;
    const storedBytes = plan.segments.get(id) ?? 0;
    const sizeBytes = placed === undefined ? plan.found.get(id) : storedBytes;
    const { keyId } = (await this.#takeOver(id, storedBytes, sizeBytes)) ?? (await this.#send(id, sizeBytes));
    this.#notePlaced(id, keyId);
    return keyId;
  }

  #notePlaced(id: string, keyId: string | null): void {
    const index = this.#placedKeyIndexes.get(keyId) ?? this.#placedKeys.push(keyId) - 1;
    this.#placedKeyIndexes.set(keyId, index);
    this.#placed.set(id, index);
  }

  /**
   * A segment that is at the target. One whose size is not the expected one is read before it is trusted; one that a cleanup may have
   * in mind is put once more.
   * @returns nothing when it must be replaced.
   */
  async #takeOver(
    id: string,
    storedBytes: number,
    sizeBytes: number | undefined,
  ): Promise<{ keyId: string | null } | undefined> {
    if (sizeBytes === undefined) return undefined;
    const target = this.#requireTarget();
    const name = segmentName(id);
    try {
      const isListed = this.#listed.has(id);
      if (!isListed && sizeBytes === storedBytes) {
        const head = await target.storage.get(name, { firstBytes: sealedHeadBytes });
        return { keyId: await this.#keyOf(name, head) };
      }
      const object = await target.storage.get(name);
      const keyId = await this.#keyOf(name, object);
      const checked = await this.#check(id, { object, key: await target.keyOf(name, object) });
      if (isListed) await target.storage.put(name, checked);
      freeBuffer(checked);
      return { keyId };
    } catch (error) {
      if (!concernsOneBackup(error)) throw error;
      return undefined;
    }
  }

  /** The key that an object at the target names, which is there from then on. */
  async #keyOf(name: string, object: Buffer): Promise<string | null> {
    const keyId = sealedKeyId(name, object);
    if (keyId !== null) await this.#ensureKey(keyId);
    await this.#requireTarget().keyOf(name, object);
    return keyId;
  }

  /** @param replacing whether there is one that is damaged. */
  async #send(id: string, replacing: number | undefined): Promise<{ keyId: string | null }> {
    const { storage } = this.#requireTarget();
    const name = segmentName(id);
    const { object, key } = await this.#atSource(() => this.#source.fetchSegment(id));
    const keyId = key?.id ?? null;
    if (keyId !== null) await this.#ensureKey(keyId);
    const checked = await this.#atSource(() => this.#check(id, { object, key }));
    const sizeBytes = checked.length;
    const isStored = (await storage.put(name, checked, { ifAbsent: replacing === undefined })) === 'stored';
    if (isStored) {
      freeBuffer(checked);
      this.#count(sizeBytes);
      this.#onCopied(sizeBytes);
      return { keyId };
    }
    // Somebody else brought it meanwhile.
    const there = await storage.stat(name);
    const taken = await this.#takeOver(id, sizeBytes, there?.sizeBytes);
    if (taken === undefined) await storage.put(name, checked);
    freeBuffer(checked);
    this.#onCopied(sizeBytes);
    return taken ?? { keyId };
  }

  #ensureKey(id: string): Promise<void> {
    let ensured = this.#keys.get(id);
    if (ensured === undefined) {
      ensured = this.#copyKey(id);
      ensured.catch(() => undefined);
      this.#keys.set(id, ensured);
    }
    return ensured;
  }

  /** A key that is there is left alone: it may be newer. It must open, though. */
  async #copyKey(id: string): Promise<void> {
    const target = this.#requireTarget();
    const name = keyName(id);
    if (await ifThere(target.dataKey(id))) return;
    await this.#atSource(() => this.#source.dataKey(id));
    const object = await this.#source.storage.get(name);
    if ((await target.storage.put(name, object, { ifAbsent: true })) === 'stored') this.#count(object.length);
    if (!(await ifThere(target.dataKey(id)))) throw collected(name);
  }

  /** Says of a failure that it is the source's. A storage that refuses one object and gives others loses that object. */
  async #atSource<T>(read: () => Promise<T>): Promise<T> {
    try {
      return await read();
    } catch (error) {
      if (!(error instanceof PgkeepError)) throw error;
      const { location } = this.#source.storage;
      const isUnreadable = error.code === 'STORAGE_UNREACHABLE' || error.code === 'STORAGE_DENIED';
      if (!isUnreadable && !concernsOneBackup(error)) throw error;
      if (isUnreadable) {
        await inspectRepository(this.#source.storage).catch(() => {
          throw error;
        });
      }
      const { message, hint, context } = error;
      throw new PgkeepError(
        isUnreadable ? 'OBJECT_MISSING' : error.code,
        message.includes(location) ? message : `${message} (in ${location})`,
        { ...(hint !== undefined && { hint }), context, cause: error },
      );
    }
  }

  /** Of those that are not known to be there. */
  async #sizesAtTarget(segments: SegmentIdMap): Promise<SegmentIdMap> {
    const sizes = new SegmentIdMap();
    const storage = this.#target?.storage;
    if (storage === undefined) return sizes;
    const isWanted = (id: string) => !this.#placed.has(id);
    const few = [
      ...segments
        .keys()
        .filter(isWanted)
        .take(maxStats + 1),
    ];
    if (few.length <= maxStats) {
      await forEachAtOnce(few, async id => {
        const object = await storage.stat(segmentName(id));
        if (object !== undefined) sizes.set(id, object.sizeBytes);
      });
      return sizes;
    }
    for await (const { name, sizeBytes } of storage.list(segmentPrefix)) {
      const id = segmentIdIn(name);
      if (id !== undefined && segments.has(id) && isWanted(id)) sizes.set(id, sizeBytes);
    }
    return sizes;
  }

  #checkHere(id: string, { object, key }: SealedSegment): Buffer {
    openSegment(id, object, key, this.#source.secret);
    return object;
  }

  #count(bytes: number): void {
    this.travelled.objects++;
    this.travelled.bytes += bytes;
  }

  #requireTarget(): Repository {
    if (this.#target === undefined) throw new PgkeepError('INTERNAL', 'there is no replica to copy into');
    return this.#target;
  }
}

/** What is read; `undefined` when it is not there. */
async function ifThere<T>(reading: Promise<T>): Promise<T | undefined> {
  try {
    return await reading;
  } catch (error) {
    if (error instanceof PgkeepError && error.code === 'OBJECT_MISSING') return undefined;
    throw error;
  }
}
