// Walks the contents of large objects in an archive, segment after segment, and says which bytes belong where. The place
// it has come to can be handed on: whoever has the next segment goes on from there (docs/decisions/large-objects.md).
import { PgkeepError } from '../../base/errors.ts';
import type { LargeObjectGroup } from '../../postgres/archive-scan.ts';
import { archiveIntBytes, largeObjectsHeader, readArchiveInt } from '../../postgres/archive-scan.ts';

/** Some bytes of one object. */
export interface LargeObjectBytes {
  oid: number;
  offset: number;
  bytes: Uint8Array;
}

/** Where a walk is: it survives structured cloning. */
export interface LargeObjectPlace {
  /** What comes next; behind the last group nothing does. */
  step: 'group' | 'object' | 'piece' | 'bytes' | 'end';
  /** The group, and in it the next object, by index. */
  group: number;
  next: number;
  /** Of the object that is under way: how much of it has passed, and how much of this piece is to come. */
  oid: number;
  offset: number;
  pieceLeft: number;
  /** An integer or a header of which the rest is to come. */
  gathered: Uint8Array;
  /** Bytes of the object, those before `offset`, that are for the next to write. */
  carried: Uint8Array;
}

/**
 * Where one segment ends and the next begins within an object, what is written of it ends at a multiple of this. So no two
 * sessions write the same page of pg_largeobject, which the server would refuse. A page is a quarter of a block, and blocks have 32 KiB at most.
 */
const pageBytes = 8 * 1024;
const nothing = new Uint8Array();

/** In front of the first object, behind the header of its group. */
export const firstPlace: LargeObjectPlace = {
  step: 'object',
  group: 0,
  next: 0,
  oid: 0,
  offset: 0,
  pieceLeft: 0,
  gathered: nothing,
  carried: nothing,
};

export class LargeObjectWalk {
  readonly #groups: readonly LargeObjectGroup[];
  readonly #place: LargeObjectPlace;
  #found: LargeObjectBytes[] = [];
  /** Where those of the object that is under way begin. */
  #own = 0;

  /** @param place is left as it is. */
  constructor(groups: readonly LargeObjectGroup[], place: LargeObjectPlace) {
    this.#groups = groups;
    this.#place = { ...place };
  }

  get place(): LargeObjectPlace {
    return this.#place;
  }

  /**
   * Passes a segment; to be called once.
   * @returns what is to be written, in order; the bytes are views of the segment, but for some of the first.
   * @throws PgkeepError RESTORE_INCOMPLETE when these are not the objects that the table of contents names.
   */
  pass(segment: Buffer): LargeObjectBytes[] {
    const place = this.#place;
    if (place.carried.length > 0)
      this.#found.push({
        oid: place.oid,
        offset: place.offset - place.carried.length,
        bytes: place.carried,
      });
    place.carried = nothing;
    for (let at = 0; at < segment.length; ) {
      if (place.step === 'bytes') {
        const end = Math.min(segment.length, at + place.pieceLeft);
        this.#found.push({ oid: place.oid, offset: place.offset, bytes: segment.subarray(at, end) });
        place.offset += end - at;
        place.pieceLeft -= end - at;
        at = end;
        if (place.pieceLeft === 0) place.step = 'piece';
        continue;
      }
      const wanted = place.step === 'group' ? largeObjectsHeader(0).length : archiveIntBytes;
      const taken = segment.subarray(at, at + wanted - place.gathered.length);
      at += taken.length;
      const gathered = place.gathered.length === 0 ? taken : Buffer.concat([place.gathered, taken]);
      const isThere = gathered.length === wanted;
      place.gathered = isThere ? nothing : Uint8Array.from(gathered);
      if (isThere) this.#understand(gathered);
    }
    if (place.step === 'piece' || place.step === 'bytes') this.#carry();
    return this.#found;
  }

  #understand(bytes: Buffer): void {
    const place = this.#place;
    switch (place.step) {
      case 'group':
        this.#beginGroup(bytes);
        break;
      case 'object':
        this.#beginObject(readArchiveInt(bytes, 0) >>> 0);
        break;
      case 'piece':
        place.pieceLeft = readArchiveInt(bytes, 0);
        if (place.pieceLeft < 0) throw unexpected(`a piece of ${place.pieceLeft} bytes`);
        place.step = place.pieceLeft === 0 ? 'object' : 'bytes';
        break;
      default:
        throw unexpected('something behind its end');
    }
  }

  #beginGroup(header: Buffer): void {
    const { dumpId = -1 } = this.#groups[this.#place.group] ?? {};
    if (!header.equals(largeObjectsHeader(dumpId))) throw unexpected('a block of something else');
    this.#place.next = 0;
    this.#place.step = 'object';
  }

  #beginObject(oid: number): void {
    const place = this.#place;
    const oids = this.#groups[place.group]?.oids ?? [];
    const expected = oids[place.next] ?? 0;
    if (oid !== expected) throw unexpected(oid === 0 ? `the end where ${expected} was to come` : `${oid}`);
    if (oid === 0) {
      place.group++;
      place.step = place.group === this.#groups.length ? 'end' : 'group';
      return;
    }
    place.next++;
    place.oid = oid;
    place.offset = 0;
    place.step = 'piece';
    this.#own = this.#found.length;
  }

  /** Takes what stands behind the last multiple of a page out of what was found, for the next to write. */
  #carry(): void {
    const place = this.#place;
    const border = place.offset - (place.offset % pageBytes);
    const carried: Uint8Array[] = [];
    while (this.#found.length > this.#own) {
      const last = this.#found[this.#found.length - 1];
      if (last === undefined) break;
      const kept = Math.max(0, Math.min(border - last.offset, last.bytes.length));
      carried.unshift(last.bytes.subarray(kept));
      last.bytes = last.bytes.subarray(0, kept);
      if (kept > 0) break;
      this.#found.pop();
    }
    // A copy: the segment's memory is given back.
    place.carried = Uint8Array.from(Buffer.concat(carried));
  }
}

function unexpected(what: string): PgkeepError {
  return new PgkeepError(
    'RESTORE_INCOMPLETE',
    `the large objects of the backup are not those that its table of contents names: ${what}`,
    { hint: 'see what is wrong with it: pgkeep verify --level data' },
  );
}
