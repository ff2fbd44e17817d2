// What cleanups tell each other and the runs that store backups: lists of objects that nothing named, and marks that
// say that a list is being acted on. The protocol and why it is safe: docs/decisions/cleanup-without-locks.md.
import { randomBytes } from 'node:crypto';
import { performance } from 'node:perf_hooks';
import { PgkeepError } from '../base/errors.ts';
import { forEachAtOnce } from '../base/for-each-at-once.ts';
import { sealedHeadBytes, sealedKeyId } from '../crypto/seal.ts';
import type { Storage, StoredObject } from '../storage/storage.ts';
import { fields, isTime, listOf, matching, oneOf, parseJson } from './checked-json.ts';
import { garbagePrefix, keyName, manifestName, segmentName } from './layout.ts';
import type { Repository } from './repository.ts';
import { SegmentIdSet } from './segment-id-set.ts';

/** Ids of objects of each kind. */
export interface GarbageContents {
  segments: readonly string[];
  keys: readonly string[];
  /** Backups whose manifest has no metadata. */
  manifests: readonly string[];
  /** Backups of which there is nothing but the record of a verification. */
  verified: readonly string[];
}

/** A list in the storage, contents unread. */
export interface GarbageList {
  name: string;
  modified: Date;
  /** The mark of a cleanup that acts on it, or died doing so. */
  mark: StoredObject | undefined;
}

/** At 64 digits an id, an object of 7 MB. */
export const listedAtMost = 100_000;

const listPattern = /^garbage\/\d{13,16}-[0-9a-f]{8}\.json$/;
const markPattern = /^garbage\/\d{13,16}-[0-9a-f]{8}\.deleting$/;
const probePattern = /^garbage\/\d{13,16}-[0-9a-f]{8}\.now$/;

const backupIds = listOf(matching(/^backup-\d{13,16}-[0-9a-f]{8}$/));
const listShape = fields({
  format: oneOf(1),
  created: isTime,
  segments: listOf(matching(/^[0-9a-f]{64}$/)),
  keys: listOf(matching(/^[0-9a-f]{32}$/)),
  manifests: backupIds,
  verified: backupIds,
});

function newName(ending: 'json' | 'now'): string {
  return `${garbagePrefix}${Date.now()}-${randomBytes(4).toString('hex')}.${ending}`;
}

function markName(list: string): string {
  return list.replace(/\.json$/, '.deleting');
}

/** The time by the storage's own clock, learned by writing an object. */
export async function storageNow(storage: Storage): Promise<number> {
  const name = newName('now');
  await storage.put(name, Buffer.alloc(0));
  const written = await storage.stat(name);
  await storage.remove([name]);
  if (written === undefined)
    throw new PgkeepError('STORAGE_UNREACHABLE', `${name} was written and is not there`);
  return written.modified.getTime();
}

/** What stands in garbage/: the lists, and what dead cleanups left of lists that are done. */
export async function findGarbage(
  storage: Storage,
): Promise<{ lists: GarbageList[]; leftovers: StoredObject[] }> {
  const lists: StoredObject[] = [];
  const marks = new Map<string, StoredObject>();
  const leftovers: StoredObject[] = [];
  for await (const object of storage.list(garbagePrefix)) {
    if (listPattern.test(object.name)) lists.push(object);
    else if (markPattern.test(object.name)) marks.set(object.name, object);
    else if (probePattern.test(object.name)) leftovers.push(object);
  }
  const found = lists.map(({ name, modified }) => ({ name, modified, mark: marks.get(markName(name)) }));
  for (const { mark } of found) if (mark !== undefined) marks.delete(mark.name);
  return { lists: found, leftovers: [...leftovers, ...marks.values()] };
}

/** @throws PgkeepError OBJECT_MISSING, OBJECT_DAMAGED. */
export async function readGarbageList(storage: Storage, name: string): Promise<GarbageContents> {
  return parseJson(name, await storage.get(name), listShape) as GarbageContents;
}

/** @param contents at most {@link listedAtMost} ids. @returns the name of the list. */
export async function writeGarbageList(storage: Storage, contents: GarbageContents): Promise<string> {
  const name = newName('json');
  const list = { format: 1, created: new Date().toISOString(), ...contents };
  await storage.put(name, Buffer.from(`${JSON.stringify(list)}\n`), { ifAbsent: true });
  return name;
}

/**
 * One cleanup's mark on one list. While it stands, no run that needs something of the list comes to an end; so it must
 * have been put before the manifests are read by which is deleted, and stand until all is deleted.
 */
export class GarbageMark {
  readonly #storage: Storage;
  readonly #name: string;
  readonly #bytes = Buffer.from(`${JSON.stringify({ cleanup: randomBytes(16).toString('hex') })}\n`);
  readonly #lifeMs: number;
  readonly #putAt = clocks();

  private constructor(storage: Storage, list: GarbageList, lifeMs: number) {
    this.#storage = storage;
    this.#name = markName(list.name);
    this.#lifeMs = lifeMs;
  }

  /**
   * Marks a list, or takes it over from a cleanup that died (replacing its mark, so that there always is one).
   * @param lifeMs how long the caller may rely on the mark: half the age at which another takes it over, at most.
   * @returns `undefined` when another cleanup was faster.
   */
  static async put(storage: Storage, list: GarbageList, lifeMs: number): Promise<GarbageMark | undefined> {
    const mark = new GarbageMark(storage, list, lifeMs);
    const outcome = await storage.put(mark.#name, mark.#bytes, { ifAbsent: list.mark === undefined });
    return outcome === 'stored' ? mark : undefined;
  }

  /** To be called before every removal. @throws PgkeepError CLEANUP_CONFLICT when the mark is lost or too old. */
  async require(): Promise<void> {
    const [wall, steady] = clocks();
    const isOld = Math.max(wall - this.#putAt[0], steady - this.#putAt[1]) > this.#lifeMs;
    if (!isOld && (await this.#isOurs())) return;
    throw new PgkeepError(
      'CLEANUP_CONFLICT',
      isOld
        ? `the cleanup took too long since it marked ${this.#name}`
        : `another cleanup took over ${this.#name}`,
      { hint: 'run the cleanup again; what was not deleted now is deleted then' },
    );
  }

  /** Takes the mark away, unless it has become another cleanup's. */
  async remove(): Promise<void> {
    if (await this.#isOurs()) await this.#storage.remove([this.#name]);
  }

  async #isOurs(): Promise<boolean> {
    try {
      return this.#bytes.equals(await this.#storage.get(this.#name));
    } catch (error) {
      if (error instanceof PgkeepError && error.code === 'OBJECT_MISSING') return false;
      throw error;
    }
  }
}

/** Wall clocks jump and steady ones stop in a machine's sleep; the larger difference counts. */
function clocks(): [wallMs: number, steadyMs: number] {
  return [Date.now(), performance.now()];
}

/** The segments in all lists there are: a run stores those that it reuses once more, so that they are newer than the list. */
export async function listedSegments(storage: Storage): Promise<SegmentIdSet> {
  const ids = new SegmentIdSet();
  for (const { name } of (await findGarbage(storage)).lists) {
    const contents = await unlessGone(readGarbageList(storage, name));
    for (const id of contents?.segments ?? []) ids.add(id);
  }
  return ids;
}

/** What a run that stores a backup relies on. */
export interface Needed {
  backup: string;
  segments: Iterable<string>;
  /** The key of the manifest itself among them. */
  keys: ReadonlySet<string>;
}

/**
 * To be called once the manifest is stored, before the metadata: either every cleanup from now on reads the manifest, or
 * is seen here by its mark, or has deleted already what it would delete, which is seen too.
 * @throws PgkeepError CLEANUP_CONFLICT when a cleanup deletes, or has deleted, something that is needed;
 * OBJECT_DAMAGED when a segment is no longer one.
 */
export async function requireNotCollected(repository: Repository, needed: Needed): Promise<void> {
  const { storage } = repository;
  const marked = await markedObjects(storage);
  if (marked.manifests.has(needed.backup)) throw collected(manifestName(needed.backup));
  for (const id of needed.keys) {
    if (marked.keys.has(id) || (await storage.stat(keyName(id))) === undefined) throw collected(keyName(id));
  }
  await forEachAtOnce(needed.segments, async id => {
    const name = segmentName(id);
    if (marked.segments.has(id)) throw collected(name);
    let head: Buffer;
    try {
      head = await storage.get(name, { firstBytes: sealedHeadBytes });
    } catch (error) {
      if (error instanceof PgkeepError && error.code === 'OBJECT_MISSING') throw collected(name);
      throw error;
    }
    const keyId = sealedKeyId(name, head);
    // Replaced since it was looked at, under a key that nobody has listed yet.
    if (keyId !== null && !needed.keys.has(keyId)) throw collected(name);
  });
  // Last, as the metadata follows: a run that stood still for longer than the grace has lost its manifest.
  if ((await storage.stat(manifestName(needed.backup))) === undefined)
    throw collected(manifestName(needed.backup));
}

/**
 * To be called after the metadata was stored.
 * @throws PgkeepError CLEANUP_CONFLICT when a cleanup deletes, or has deleted, the manifest, which had no metadata before.
 */
export async function requireManifestStays(storage: Storage, backup: string): Promise<void> {
  const marked = await markedObjects(storage);
  // In this order: a mark that is gone by now was taken away after the deletion.
  if (marked.manifests.has(backup) || (await storage.stat(manifestName(backup))) === undefined) {
    throw collected(manifestName(backup));
  }
}

async function markedObjects(
  storage: Storage,
): Promise<{ segments: SegmentIdSet; keys: Set<string>; manifests: Set<string> }> {
  const segments = new SegmentIdSet();
  const keys = new Set<string>();
  const manifests = new Set<string>();
  for (const { name, mark } of (await findGarbage(storage)).lists) {
    if (mark === undefined) continue;
    let contents: GarbageContents;
    try {
      contents = await readGarbageList(storage, name);
    } catch (error) {
      if (!(error instanceof PgkeepError)) throw error;
      // The list goes before its mark, once all is deleted.
      if (error.code === 'OBJECT_MISSING') continue;
      if (error.code === 'OBJECT_DAMAGED')
        throw collected(
          name,
          `a cleanup is deleting what ${name} lists, which is damaged and may list anything`,
        );
      throw error;
    }
    for (const id of contents.segments) segments.add(id);
    for (const id of contents.keys) keys.add(id);
    for (const id of contents.manifests) manifests.add(id);
  }
  return { segments, keys, manifests };
}

/** The value, or `undefined` when the object is gone or damaged: then it lists nothing. */
export async function unlessGone<T>(reading: Promise<T>): Promise<T | undefined> {
  try {
    return await reading;
  } catch (error) {
    if (error instanceof PgkeepError && ['OBJECT_MISSING', 'OBJECT_DAMAGED'].includes(error.code))
      return undefined;
    throw error;
  }
}

/** A cleanup deleted something that a run needs. */
export function collected(
  name: string,
  message = `a cleanup deleted or is deleting ${name}, which this backup needs`,
): PgkeepError {
  return new PgkeepError('CLEANUP_CONFLICT', message, {
    hint:
      'run again; --grace of cleanup must be longer than the longest backup takes. If no cleanup is running, ' +
      'one was killed: pgkeep cleanup --grace 1m ends what it began',
    context: { object: name },
  });
}
