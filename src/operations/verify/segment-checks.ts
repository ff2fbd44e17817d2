// Reads segments and remembers what was found, so that each is read once however many backups name it. What is kept
// of a segment are a few numbers.
import { errorFromData, PgkeepError } from '../../base/errors.ts';
import { fillZeros } from '../../base/fill-zeros.ts';
import { sealedKeyId } from '../../crypto/seal.ts';
import { keyName, segmentName } from '../../repository/layout.ts';
import type { SegmentRef, Slice } from '../../repository/manifest.ts';
import { inspectRepository, type Repository } from '../../repository/repository.ts';
import { openSegment } from '../../repository/segment.ts';
import type { SegmentIds } from '../../repository/segment-ids.ts';
import { type FetchedSegment, handOver } from '../thread-segment.ts';
import { runWorkers } from '../worker-pool.ts';
import type { CountedSlice } from './count-lines.ts';
import type { CountedList } from './count-numbers.ts';
import { CountedParts, type PartKind } from './counted-parts.ts';
import type { CheckedSegment, SegmentHost, SegmentWorkerData } from './segment-worker.ts';

/** A segment that a worker has, and the parts that it counts. */
interface UnderWay {
  place: number;
  text: readonly number[];
  lists: readonly number[];
}

/** A segment that cannot be read, and the object that is to blame: itself, or its key. */
export interface BadSegment {
  error: PgkeepError;
  object: string;
}

export class SegmentChecks {
  readonly #repository: Repository;
  readonly #jobs: number;
  readonly #signal: AbortSignal | undefined;
  readonly #ids: SegmentIds;
  readonly #parts = new CountedParts();
  readonly #bad = new Map<string, BadSegment>();
  /** By place of the id: the plain bytes it is to have, as far as it is wanted. */
  readonly #wantedBytes: number[] = [];
  /** By place of the id: the plain bytes it has, plus 1; 0 when it was not read, or is bad. */
  readonly #readBytes: number[] = [];
  /** Whether no segment was read, or found missing. */
  isEmpty = true;

  /** @param ids numbers segments; those that are wanted are added. */
  constructor(repository: Repository, ids: SegmentIds, jobs: number, signal: AbortSignal | undefined) {
    this.#repository = repository;
    this.#ids = ids;
    this.#jobs = jobs;
    this.#signal = signal;
  }

  /** @returns the place of the segment's id, by which it is checked. */
  want({ id, plainBytes }: Pick<SegmentRef, 'id' | 'plainBytes'>): number {
    const place = this.#ids.add(id);
    fillZeros(this.#wantedBytes, place);
    if (this.#wantedBytes[place] === 0) this.#wantedBytes[place] = plainBytes;
    return place;
  }

  /** The same; a part of it is to be counted. */
  wantPart(slice: Slice, kind: PartKind): number {
    const place = this.want(slice);
    this.#parts.want(place, slice, kind);
    return place;
  }

  /** What a segment is to have, by its place. */
  wantedBytes(place: number): number {
    return this.#wantedBytes[place] ?? 0;
  }

  /** What a segment has; `undefined` when it was not read. */
  readBytes(id: string): number | undefined {
    const place = this.#ids.placeOf(id);
    const bytes = place === undefined ? 0 : (this.#readBytes[place] ?? 0);
    return bytes === 0 ? undefined : bytes - 1;
  }

  /** What was counted of a slice; `undefined` when its segment was not read for it. */
  countedText(slice: Slice): CountedSlice | undefined {
    const place = this.#ids.placeOf(slice.id);
    return place === undefined ? undefined : this.#parts.text(place, slice);
  }

  /** The same of number lists; `null` for what is no whole lists. */
  countedLists(slice: Slice): CountedList[] | null | undefined {
    const place = this.#ids.placeOf(slice.id);
    return place === undefined ? undefined : this.#parts.lists(place, slice);
  }

  bad(id: string): BadSegment | undefined {
    return this.#bad.get(id);
  }

  isRead(id: string): boolean {
    return this.#bad.has(id) || this.readBytes(id) !== undefined;
  }

  /** Notes what was found without reading: that a segment is missing. */
  noteMissing(id: string): void {
    const name = segmentName(id);
    const error = new PgkeepError(
      'OBJECT_MISSING',
      `${name} is missing from ${this.#repository.storage.location}`,
    );
    this.#noteBad(id, error, name);
  }

  /** Whether a segment has still to be read for what is wanted of it. */
  lacks(place: number): boolean {
    if (this.#bad.size > 0 && this.#bad.has(this.#ids.at(place))) return false;
    return (this.#readBytes[place] ?? 0) === 0 || this.#parts.lacks(place);
  }

  /**
   * Reads, opens, decompresses and hashes segments in worker threads.
   * @param places of segments that are wanted, each once.
   * @throws PgkeepError when the storage as a whole cannot be read; INTERRUPTED. What is wrong with a segment is noted.
   */
  async check(places: ReadonlySet<number>, onRead: (plainBytes: number) => void): Promise<void> {
    let lacking = 0;
    for (const place of places) if (this.lacks(place)) lacking++;
    const workers = Math.min(this.#jobs, lacking);
    if (workers === 0) return;
    const waiting = places.values();
    const underWay = new Map<string, UnderWay>();
    const host: SegmentHost = {
      next: async () => {
        for (let step = waiting.next(); !step.done; step = waiting.next()) {
          const place = step.value;
          if (!this.lacks(place)) continue;
          const id = this.#ids.at(place);
          const fetched = await this.#fetch(id);
          if (fetched === undefined) {
            onRead(this.wantedBytes(place));
            continue;
          }
          const text = this.#parts.toCount(place, 'text');
          const lists = this.#parts.toCount(place, 'lists');
          underWay.set(id, { place, text: text.parts, lists: lists.parts });
          return handOver(fetched, {
            id,
            slices: text.places,
            lists: lists.places,
            isReturned: false,
          });
        }
        return undefined;
      },
      checked: result => {
        const segment = underWay.get(result.id);
        underWay.delete(result.id);
        if (segment === undefined) return;
        this.#note(segment, result);
        onRead(this.wantedBytes(segment.place));
      },
    };
    const workerData: SegmentWorkerData = { secret: this.#repository.secret };
    await runWorkers({
      module: new URL('./segment-worker', import.meta.url),
      count: workers,
      workerData,
      plannedTables: 0,
      methods: host,
      signal: this.#signal,
    });
  }

  /**
   * The plain bytes of a segment, read in this thread; `undefined` when it is bad, which is noted.
   * @throws PgkeepError as {@link check}.
   */
  async read(id: string): Promise<Buffer | undefined> {
    const fetched = await this.#fetch(id);
    if (fetched === undefined) return undefined;
    try {
      const plain = openSegment(id, fetched.object, fetched.key, this.#repository.secret);
      this.#noteGood(this.#ids.add(id), plain.length);
      return plain;
    } catch (error) {
      if (!(error instanceof PgkeepError)) throw error;
      this.#noteBad(id, error, segmentName(id));
      return undefined;
    }
  }

  /** Whether a segment is damaged, rather than missing or under a key that is; read anew, whatever was noted. */
  async isDamaged(id: string): Promise<boolean> {
    const place = this.#ids.placeOf(id);
    if (place !== undefined && place < this.#readBytes.length) this.#readBytes[place] = 0;
    this.#bad.delete(id);
    const plain = await this.read(id);
    return (
      plain === undefined && this.#bad.get(id)?.object === segmentName(id) && isDamage(this.#bad.get(id))
    );
  }

  async #fetch(id: string): Promise<FetchedSegment | undefined> {
    const name = segmentName(id);
    let blamed = name;
    try {
      const object = await this.#repository.storage.get(name);
      const keyId = sealedKeyId(name, object);
      if (this.#repository.encrypted && keyId !== null) blamed = keyName(keyId);
      return { object, key: await this.#repository.keyOf(name, object) };
    } catch (error) {
      const failure = await this.judge(error);
      this.#noteBad(id, failure, blamed);
      return undefined;
    }
  }

  /**
   * Tells what is wrong with one object from what keeps everything from being read.
   * @returns the error, when it is about the object. @throws the error, when it is not.
   */
  async judge(error: unknown): Promise<PgkeepError> {
    if (!(error instanceof PgkeepError)) throw error;
    switch (error.code) {
      case 'INTERRUPTED':
      case 'INTERNAL':
      // Nobody is let in, whatever is asked for.
      case 'STORAGE_CREDENTIALS':
      case 'STORAGE_NOT_FOUND':
      case 'HOST_KEY_UNKNOWN':
      case 'HOST_KEY_CHANGED':
        throw error;
      case 'STORAGE_UNREACHABLE':
      case 'STORAGE_DENIED':
        // A disk may refuse one file and give the next.
        await inspectRepository(this.#repository.storage).catch(() => {
          throw error;
        });
        return error;
      default:
        return error;
    }
  }

  #note({ place, text, lists }: UnderWay, result: CheckedSegment): void {
    const { id, plainBytes, error } = result;
    if (error !== undefined) {
      this.#noteBad(id, errorFromData(error), segmentName(id));
      return;
    }
    this.#noteGood(place, plainBytes);
    for (const [index, counted] of result.counts.entries()) this.#parts.noteText(text[index] ?? 0, counted);
    for (const [index, counted] of result.lists.entries()) this.#parts.noteLists(lists[index] ?? 0, counted);
  }

  #noteGood(place: number, plainBytes: number): void {
    this.isEmpty = false;
    fillZeros(this.#readBytes, place);
    this.#readBytes[place] = plainBytes + 1;
  }

  #noteBad(id: string, error: PgkeepError, object: string): void {
    this.isEmpty = false;
    this.#bad.set(id, { error, object });
  }
}

/** What says to be of a newer format may be whole; a backup that needs its contents stores them anew anyhow. */
function isDamage(bad: BadSegment | undefined): boolean {
  return bad?.error.code === 'OBJECT_DAMAGED';
}
