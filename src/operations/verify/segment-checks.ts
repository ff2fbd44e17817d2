// Reads segments and remembers what was found, so that each is read once however many backups name it. What is kept
// of a segment are a few numbers.
import { errorFromData, PgkeepError } from '../../base/errors.ts';
import { sealedKeyId } from '../../crypto/seal.ts';
import { keyName, segmentName } from '../../repository/layout.ts';
import { inspectRepository, type Repository } from '../../repository/repository.ts';
import { openSegment } from '../../repository/segment.ts';
import { type FetchedSegment, handOver } from '../thread-segment.ts';
import { runWorkers } from '../worker-pool.ts';
import type { CountedSlice } from './count-lines.ts';
import type { CountedList } from './count-numbers.ts';
import type { CheckedSegment, SegmentHost, SegmentWorkerData, SlicePlace } from './segment-worker.ts';

export interface WantedSegment {
  id: string;
  plainBytes: number;
  /** Parts whose rows are to be counted. */
  slices: ReadonlyMap<number, SlicePlace>;
  /** Parts whose number lists are to be counted. */
  lists: ReadonlyMap<number, SlicePlace>;
}

/** A segment that cannot be read, and the object that is to blame: itself, or its key. */
export interface BadSegment {
  error: PgkeepError;
  object: string;
}

export interface GoodSegment {
  plainBytes: number;
  storedBytes: number;
  /** By {@link sliceKey}. */
  counts: ReadonlyMap<number, CountedSlice>;
  /** By {@link sliceKey}; `null` for what is no whole lists. */
  lists: ReadonlyMap<number, CountedList[] | null>;
}

/** One number for a part of a segment; offset and length are both below 2^26. */
export function sliceKey({ offset, bytes }: SlicePlace): number {
  return offset * 2 ** 27 + bytes;
}

export class SegmentChecks {
  readonly #repository: Repository;
  readonly #jobs: number;
  readonly #signal: AbortSignal | undefined;
  readonly #good = new Map<string, GoodSegment>();
  readonly #bad = new Map<string, BadSegment>();

  constructor(repository: Repository, jobs: number, signal: AbortSignal | undefined) {
    this.#repository = repository;
    this.#jobs = jobs;
    this.#signal = signal;
  }

  good(id: string): GoodSegment | undefined {
    return this.#good.get(id);
  }

  bad(id: string): BadSegment | undefined {
    return this.#bad.get(id);
  }

  /** Whether no segment was read, or found missing. */
  get isEmpty(): boolean {
    return this.#good.size === 0 && this.#bad.size === 0;
  }

  isRead(id: string): boolean {
    return this.#good.has(id) || this.#bad.has(id);
  }

  /** Notes what was found without reading: that a segment is missing. */
  noteMissing(id: string): void {
    const name = segmentName(id);
    const error = new PgkeepError(
      'OBJECT_MISSING',
      `${name} is missing from ${this.#repository.storage.location}`,
    );
    this.#bad.set(id, { error, object: name });
  }

  /** Whether a segment has still to be read for these parts. */
  lacks({ id, slices, lists }: WantedSegment): boolean {
    if (this.#bad.has(id)) return false;
    const good = this.#good.get(id);
    if (good === undefined) return true;
    return (
      [...slices.keys()].some(key => !good.counts.has(key)) ||
      [...lists.keys()].some(key => !good.lists.has(key))
    );
  }

  /**
   * Reads, opens, decompresses and hashes segments in worker threads.
   * @throws PgkeepError when the storage as a whole cannot be read; INTERRUPTED. What is wrong with a segment is noted.
   */
  async check(wanted: readonly WantedSegment[], onRead: (plainBytes: number) => void): Promise<void> {
    const waiting = wanted.filter(segment => this.lacks(segment)).reverse();
    const workers = Math.min(this.#jobs, waiting.length);
    if (workers === 0) return;
    const underWay = new Map<string, WantedSegment>();
    const host: SegmentHost = {
      next: async () => {
        for (let segment = waiting.pop(); segment !== undefined; segment = waiting.pop()) {
          const fetched = await this.#fetch(segment.id);
          if (fetched === undefined) {
            onRead(segment.plainBytes);
            continue;
          }
          underWay.set(segment.id, segment);
          const { id, slices, lists } = segment;
          return handOver(fetched, {
            id,
            slices: [...slices.values()],
            lists: [...lists.values()],
            isReturned: false,
          });
        }
        return undefined;
      },
      checked: result => {
        const segment = underWay.get(result.id);
        underWay.delete(result.id);
        if (segment !== undefined) this.#note(segment, result);
        onRead(segment?.plainBytes ?? 0);
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
      this.#noteGood(id, plain.length, fetched.object.length);
      return plain;
    } catch (error) {
      if (!(error instanceof PgkeepError)) throw error;
      this.#bad.set(id, { error, object: segmentName(id) });
      return undefined;
    }
  }

  /** Whether a segment is damaged, rather than missing or under a key that is; read anew, whatever was noted. */
  async isDamaged(id: string): Promise<boolean> {
    this.#good.delete(id);
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
      this.#bad.set(id, { error: failure, object: blamed });
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

  #note(segment: WantedSegment, result: CheckedSegment): void {
    const { storedBytes, plainBytes, error } = result;
    if (error !== undefined) {
      this.#bad.set(segment.id, { error: errorFromData(error), object: segmentName(segment.id) });
      return;
    }
    const good = this.#noteGood(segment.id, plainBytes, storedBytes);
    good.counts = withResults(good.counts, segment.slices.keys(), result.counts);
    good.lists = withResults(good.lists, segment.lists.keys(), result.lists);
  }

  #noteGood(id: string, plainBytes: number, storedBytes: number): GoodSegment {
    const { counts, lists } = this.#good.get(id) ?? { counts: noResults, lists: noResults };
    const good = { plainBytes, storedBytes, counts, lists };
    this.#good.set(id, good);
    return good;
  }
}

/** Of segments without such parts, as most are. */
const noResults: ReadonlyMap<number, never> = new Map<number, never>();

/** @param results in the order of the keys. */
function withResults<T>(
  known: ReadonlyMap<number, T>,
  keys: Iterable<number>,
  results: readonly T[],
): ReadonlyMap<number, T> {
  if (results.length === 0) return known;
  const together = new Map(known);
  let index = 0;
  for (const key of keys) {
    const result = results[index++];
    if (result !== undefined) together.set(key, result);
  }
  return together;
}

/** What says to be of a newer format may be whole; a backup that needs its contents stores them anew anyhow. */
function isDamage(bad: BadSegment | undefined): boolean {
  return bad?.error.code === 'OBJECT_DAMAGED';
}
