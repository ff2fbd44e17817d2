// Adds segments to a repository during one run: knows what is there already, stores what is not, and counts both.

import { type ErrorCode, PgkeepError } from '../base/errors.ts';
import { forEachAtOnce } from '../base/for-each-at-once.ts';
import { type DataKey, sealedHeadBytes, sealedKeyId } from '../crypto/seal.ts';
import { firmlyLockedUntil } from '../storage/storage.ts';
import { segmentName } from './layout.ts';
import type { Manifest, SegmentRef } from './manifest.ts';
import type { Repository } from './repository.ts';
import { openSegment, sealSegment, segmentId } from './segment.ts';
import type { SegmentIdSet } from './segment-id-set.ts';
import { SegmentIds } from './segment-ids.ts';
import { type KnownSegment, SegmentTable } from './segment-table.ts';
import { cutByContent } from './stream-cutter.ts';

/** Pieces of a stream on their way to the storage. */
const piecesAtOnce = 4;

export interface SegmentTotals {
  newBytes: number;
  newSegments: number;
  reusedBytes: number;
  reusedSegments: number;
}

export class SegmentStore {
  /** Numbers of the segments that this run has to do with. */
  readonly ids = new SegmentIds();
  readonly #repository: Repository;
  readonly #key: DataKey | null;
  readonly #level: number;
  /** Segments that a cleanup may have in mind: stored once more when they are used. */
  readonly #listed: Pick<SegmentIdSet, 'has'>;
  /** Until when segments that are stored are locked. */
  readonly #lockedUntil: Date | undefined;
  /**
   * Segments that an earlier manifest names: taken over without reading them. And those that this backup uses, counted once
   * each.
   */
  readonly #segments = new SegmentTable(this.ids);
  readonly #keys = new Map<string, number>();
  /** Segments that are in the storage, but not whole. */
  readonly #damaged = new Set<string>();
  /** Looks at segments that were there before this run: those under way, and those that found nothing. */
  readonly #looks = new Map<string, Promise<KnownSegment | undefined>>();
  /** Segments on their way to the storage. */
  readonly #puts = new Map<string, Promise<SegmentRef>>();

  /**
   * @param listed segments in the garbage lists there are.
   * @param lockedUntil nobody can remove what is stored before then.
   */
  constructor(
    repository: Repository,
    key: DataKey | null,
    level: number,
    listed: Pick<SegmentIdSet, 'has'> = new Set<string>(),
    lockedUntil?: Date,
  ) {
    this.#repository = repository;
    this.#key = key;
    this.#level = level;
    this.#listed = listed;
    this.#lockedUntil = lockedUntil;
  }

  /** Ids of the data keys of all segments used so far; a SegmentRef's `key` is an index into this. */
  get keys(): string[] {
    return [...this.#keys.keys()];
  }

  /** Ids of all segments used so far. */
  get used(): Iterable<string> {
    return this.#segments.used().map(([id]) => id);
  }

  /** Ids of the segments used so far that are not known to be locked for as long. */
  *lockedTooShort(until: Date): Iterable<string> {
    for (const [id, { lockedUntil }] of this.#segments.used()) {
      if (lockedUntil === undefined || lockedUntil < until) yield id;
    }
  }

  get totals(): SegmentTotals {
    const totals: SegmentTotals = { newBytes: 0, newSegments: 0, reusedBytes: 0, reusedSegments: 0 };
    for (const [, segment] of this.#segments.used()) {
      totals[segment.isNew ? 'newBytes' : 'reusedBytes'] += segment.storedBytes;
      totals[segment.isNew ? 'newSegments' : 'reusedSegments'] += 1;
    }
    return totals;
  }

  /** Takes note of the segments another backup's manifest names. */
  learn(manifest: Manifest, refs: Iterable<SegmentRef>): void {
    for (const ref of refs) {
      const { plainBytes, storedBytes } = ref;
      const keyId = manifest.keys[ref.key] ?? null;
      // One whose key is not told is not taken on trust.
      if ((keyId === null) === this.#repository.encrypted) continue;
      if (this.#segments.get(ref.id, 'used') !== undefined) continue;
      this.#segments.set(ref.id, 'known', { keyId, plainBytes, storedBytes, isNew: false });
    }
  }

  /**
   * The segment, when the repository has it and it is whole. One that no known manifest names (left by a run that
   * died, or another database's), or that was replaced since, is read and checked before it is trusted; a damaged one is
   * replaced by the next put.
   */
  async find(id: string): Promise<SegmentRef | undefined> {
    const underWay = this.#puts.get(id);
    if (underWay !== undefined) return underWay;
    const used = this.#segments.get(id, 'used');
    if (used !== undefined) return this.#refer(id, used);
    const whole = await this.#lookFor(id);
    return whole && this.#use(id, whole);
  }

  /** Whether {@link find} would give it; it does not count as used for that. */
  async has(id: string): Promise<boolean> {
    if (this.#puts.has(id) || this.#segments.get(id, 'used') !== undefined) return true;
    return (await this.#lookFor(id)) !== undefined;
  }

  /** Whether {@link has} need not read it whole, when it is as it was. */
  isVouchedFor(id: string): boolean {
    return this.#segments.has(id) && !this.#listed.has(id);
  }

  /** Trusts nothing that is known of a segment that turned out to be damaged or missing: it is looked at again. */
  distrust(id: string): void {
    this.#looks.delete(id);
    this.#segments.forget(id);
  }

  /**
   * Counts a segment as used that another process of this run has found or stored; it is not looked at.
   * @param keyId of its data key; `null` without encryption.
   * @param isNew whether that process stored it.
   */
  takeOver({ id, plainBytes, storedBytes }: SegmentRef, keyId: string | null, isNew: boolean): SegmentRef {
    const lockedUntil = isNew ? this.#lockedUntil : undefined;
    const theirs = { keyId, plainBytes, storedBytes, isNew, lockedUntil };
    const used = this.#segments.get(id, 'used');
    if (used !== undefined && (used.isNew || !isNew)) return this.#refer(id, used);
    this.#looks.delete(id);
    this.#segments.set(id, 'used', theirs);
    return this.#refer(id, theirs);
  }

  /** Whether this run stored the segment. */
  isNew(id: string): boolean {
    return this.#segments.get(id, 'used')?.isNew ?? false;
  }

  /** Several that ask for the same share one look. */
  async #lookFor(id: string): Promise<KnownSegment | undefined> {
    const whole = this.#segments.get(id, 'whole');
    if (whole !== undefined) return whole;
    const underWay = this.#looks.get(id);
    if (underWay !== undefined) return underWay;
    const look = this.#look(id);
    this.#looks.set(id, look);
    const found = await look;
    // Unless it is not trusted any more, or used by now.
    if (found !== undefined && this.#looks.get(id) === look) {
      this.#looks.delete(id);
      this.#segments.set(id, 'whole', found);
    }
    return found;
  }

  async #look(id: string): Promise<KnownSegment | undefined> {
    const known = this.#segments.get(id, 'known');
    const found = known === undefined || this.#listed.has(id) ? undefined : await this.#findKnown(id, known);
    return found ?? this.#adopt(id);
  }

  /** The segment, when it has the size, and by its header the key, that it had for the manifest that names it. */
  async #findKnown(id: string, known: KnownSegment): Promise<KnownSegment | undefined> {
    const name = segmentName(id);
    const { storage } = this.#repository;
    const object = await storage.stat(name);
    if (object?.sizeBytes !== known.storedBytes) return undefined;
    try {
      const head = await storage.get(name, { firstBytes: sealedHeadBytes });
      if (sealedKeyId(name, head) !== known.keyId) return undefined;
      return { ...known, lockedUntil: firmlyLockedUntil(object) };
    } catch (error) {
      if (!isLoss(error)) throw error;
      return undefined;
    }
  }

  /** Stores a sealed segment; of several that bring the same at once the first one's is stored. */
  put(id: string, object: Buffer, plainBytes: number): Promise<SegmentRef> {
    let stored = this.#puts.get(id);
    if (stored === undefined) {
      stored = this.#put(id, object, plainBytes).finally(() => this.#puts.delete(id));
      this.#puts.set(id, stored);
    }
    return stored;
  }

  async #put(id: string, object: Buffer, plainBytes: number): Promise<SegmentRef> {
    const used = this.#segments.get(id, 'used');
    if (used !== undefined) return this.#refer(id, used);
    const name = segmentName(id);
    const own: KnownSegment = {
      keyId: this.#key?.id ?? null,
      plainBytes,
      storedBytes: object.length,
      isNew: true,
      lockedUntil: this.#lockedUntil,
    };
    const lock = { lockedUntil: this.#lockedUntil };
    if (!this.#damaged.has(id)) {
      const outcome = await this.#repository.storage.put(name, object, { ifAbsent: true, ...lock });
      if (outcome === 'stored') return this.#use(id, own);
      // Another run stored it meanwhile.
      const adopted = await this.#adopt(id);
      if (adopted !== undefined) return this.#use(id, adopted);
    }
    // Replaced in one step: between removing and putting, what another run stored could be removed.
    await this.#repository.storage.put(name, object, lock);
    return this.#use(id, own);
  }

  /**
   * Cuts a stream into segments and stores what is new. Seals in this thread.
   * @throws what the source or the storage fails with, once nothing is under way any more.
   */
  async storeStream(source: AsyncIterable<Buffer>): Promise<{ bytes: number; segments: SegmentRef[] }> {
    const segments: SegmentRef[] = [];
    let bytes = 0;
    let begun = 0;
    const store = async (piece: Buffer) => {
      const index = begun++;
      bytes += piece.length;
      segments[index] = await this.store(piece);
    };
    await forEachAtOnce(cutByContent(this.#repository.secret, source), store, piecesAtOnce);
    return { bytes, segments };
  }

  /** Stores one piece of at most a segment's bytes unless it is there already. */
  async store(plain: Buffer): Promise<SegmentRef> {
    const id = segmentId(this.#repository.secret, plain);
    return (
      (await this.find(id)) ??
      (await this.put(id, sealSegment(id, plain, this.#key, this.#level), plain.length))
    );
  }

  /** Checks a segment nobody vouches for, if there is one, and takes it over; notes when it is damaged. */
  async #adopt(id: string): Promise<KnownSegment | undefined> {
    const name = segmentName(id);
    const { storage, secret } = this.#repository;
    try {
      const object = await storage.get(name);
      const plain = openSegment(id, object, await this.#repository.keyOf(name, object), secret);
      const keyId = sealedKeyId(name, object);
      // Newer than the list from now on, so that a cleanup keeps it although no manifest names it yet.
      if (this.#listed.has(id)) await storage.put(name, object, { lockedUntil: this.#lockedUntil });
      return { keyId, plainBytes: plain.length, storedBytes: object.length, isNew: false };
    } catch (error) {
      if (!isLoss(error)) throw error;
      // A segment that is not there is stored like any other; one whose key is not there must be replaced.
      if (!isAbsence(error, name)) this.#damaged.add(id);
      return undefined;
    }
  }

  #use(id: string, segment: KnownSegment): SegmentRef {
    if (this.#segments.get(id, 'used') === undefined) this.#segments.set(id, 'used', segment);
    this.#looks.delete(id);
    return this.#refer(id, segment);
  }

  #refer(id: string, { keyId, plainBytes, storedBytes }: KnownSegment): SegmentRef {
    return { id, key: this.#keyIndex(keyId), plainBytes, storedBytes };
  }

  #keyIndex(keyId: string | null): number {
    if (keyId === null) return -1;
    const index = this.#keys.get(keyId) ?? this.#keys.size;
    this.#keys.set(keyId, index);
    return index;
  }
}

const losses: ReadonlySet<ErrorCode> = new Set([
  'OBJECT_DAMAGED',
  'OBJECT_MISSING',
  // What says to be of another format is as often damaged there, and what replaces it has the same contents.
  'REPOSITORY_UNSUPPORTED',
  'RECIPIENT_UNSUPPORTED',
]);

/** Whether an error says that what was read is damaged, not there, or nothing to build upon. */
function isLoss(error: unknown): error is PgkeepError {
  return error instanceof PgkeepError && losses.has(error.code);
}

function isAbsence(error: PgkeepError, name: string): boolean {
  return error.code === 'OBJECT_MISSING' && error.context.object === name;
}
