// What a run knows of segments that may be millions: about a hundred bytes each.
import { fillZeros } from '../base/fill-zeros.ts';
import type { SegmentIds } from './segment-ids.ts';

/** A segment of the repository, with the id of its data key instead of an index. */
export interface KnownSegment {
  keyId: string | null;
  plainBytes: number;
  storedBytes: number;
  /** Whether this run stored it. */
  isNew: boolean;
  /** As far as it is known. */
  lockedUntil?: Date | undefined;
}

/** Named by an earlier manifest; looked at, and whole; part of this run's backup. */
type State = 'known' | 'whole' | 'used';

const flags = { known: 1, whole: 2, used: 4, new: 8 };

export class SegmentTable {
  readonly #ids: SegmentIds;
  /** By place of the id; of what is not known, 0 and no flags. */
  readonly #flags: number[] = [];
  readonly #keys: number[] = [];
  readonly #plainBytes: number[] = [];
  readonly #storedBytes: number[] = [];
  /** In milliseconds; empty where nothing is locked. */
  readonly #lockedUntil: number[] = [];
  /** Keys by the numbers that they have here. */
  readonly #keyIds: (string | null)[] = [];
  readonly #keyNumbers = new Map<string | null, number>();

  constructor(ids: SegmentIds) {
    this.#ids = ids;
  }

  /** Whether anything is known of it. */
  has(id: string): boolean {
    const place = this.#ids.placeOf(id);
    return place !== undefined && (this.#flags[place] ?? 0) !== 0;
  }

  get(id: string, state: State): KnownSegment | undefined {
    const place = this.#ids.placeOf(id);
    return place !== undefined && this.#is(place, state) ? this.#at(place) : undefined;
  }

  set(id: string, state: State, segment: KnownSegment): void {
    const { keyId, plainBytes, storedBytes, isNew, lockedUntil } = segment;
    const place = this.#ids.add(id);
    fillZeros(this.#flags, place);
    fillZeros(this.#keys, place);
    fillZeros(this.#plainBytes, place);
    fillZeros(this.#storedBytes, place);
    this.#flags[place] = flags[state] | (isNew ? flags.new : 0);
    this.#keys[place] = this.#keyNumber(keyId);
    this.#plainBytes[place] = plainBytes;
    this.#storedBytes[place] = storedBytes;
    if (lockedUntil === undefined && place >= this.#lockedUntil.length) return;
    fillZeros(this.#lockedUntil, place);
    this.#lockedUntil[place] = lockedUntil?.getTime() ?? 0;
  }

  forget(id: string): void {
    const place = this.#ids.placeOf(id);
    if (place !== undefined && place < this.#flags.length) this.#flags[place] = 0;
  }

  /** All that are used; not to be changed meanwhile. */
  *used(): Generator<[id: string, segment: KnownSegment], void> {
    for (let place = 0; place < this.#flags.length; place++)
      if (this.#is(place, 'used')) yield [this.#ids.at(place), this.#at(place)];
  }

  #is(place: number, state: State): boolean {
    return ((this.#flags[place] ?? 0) & flags[state]) !== 0;
  }

  #at(place: number): KnownSegment {
    const lockedUntil = this.#lockedUntil[place] ?? 0;
    return {
      keyId: this.#keyIds[this.#keys[place] ?? 0] ?? null,
      plainBytes: this.#plainBytes[place] ?? 0,
      storedBytes: this.#storedBytes[place] ?? 0,
      isNew: ((this.#flags[place] ?? 0) & flags.new) !== 0,
      ...(lockedUntil > 0 && { lockedUntil: new Date(lockedUntil) }),
    };
  }

  #keyNumber(keyId: string | null): number {
    const number = this.#keyNumbers.get(keyId) ?? this.#keyIds.push(keyId) - 1;
    this.#keyNumbers.set(keyId, number);
    return number;
  }
}
