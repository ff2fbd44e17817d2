// Takes a COPY of large objects and writes what pg_dump would write of them into the archive, cut into segments.
import { PgkeepError } from '../../base/errors.ts';
import { archiveIntBytes, largeObjectsHeader, writeArchiveInt } from '../../postgres/archive-scan.ts';
import type { CopySink } from '../../postgres/wire.ts';
import { endsSegment, type LargeObjectPlan } from './large-object-plan.ts';
import type { SegmentCutter } from './segment-cutter.ts';

/** The bytes of one row: an object of many has several. */
const pageBytes = 256 * 1024;
/** What a piece of data in the archive has at most, as pg_dump writes it. */
const pieceBytes = 16 * 1024;
/** Large groups begin behind a segment of their own: their dump ids change with every definition that is added. */
const largeGroup = 512;

/** Signature, flags, and an extension that has no bytes. */
const copyHeader = Buffer.from('PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0', 'latin1');
const fieldCountBytes = 2;
/** Number of fields; then of each its length and itself: oid, size of the object, bytes of the page. */
const rowHeaderBytes = fieldCountBytes + (4 + 4) + (4 + 8) + 4;

/** What {@link largeObjectsSql} calls that a role may have been denied. */
export const largeObjectFunctions = [
  'lo_open(oid, integer)',
  'lo_lseek64(integer, bigint, integer)',
  'lo_close(integer)',
  'lo_get(oid, bigint, integer)',
] as const;

/** COPY, in binary, of objects: a row for each page, in order. */
export function largeObjectsSql(oids: Uint32Array): string {
  // Each object is opened once to learn its size, which nobody but a superuser is told in another way.
  return `COPY (
    SELECT p.oid, p.size, pg_catalog.lo_get(p.oid, p.page * ${pageBytes}, ${pageBytes}) FROM (
      SELECT o.oid, o.size,
        pg_catalog.generate_series(0::pg_catalog.int8, greatest(o.size - 1, 0) / ${pageBytes}) AS page
      FROM (
        SELECT s.oid, s.size FROM (
          SELECT d.oid, d.descriptor, pg_catalog.lo_lseek64(d.descriptor, 0, 2) AS size FROM (
            SELECT u.oid, pg_catalog.lo_open(u.oid, 262144) AS descriptor
            FROM pg_catalog.unnest('{${oids.join(',')}}'::pg_catalog.oid[]) AS u(oid) OFFSET 0
          ) d OFFSET 0
        ) s WHERE pg_catalog.lo_close(s.descriptor) = 0 OFFSET 0
      ) o OFFSET 0
    ) p
  ) TO STDOUT WITH (FORMAT binary)`;
}

/** Writes into a cutter that nothing else writes into. */
export class LargeObjectSink implements CopySink {
  readonly #plan: LargeObjectPlan;
  readonly #cutter: SegmentCutter;
  /** Of the objects of the plan: the next one, and the one behind the last. */
  #next: number;
  readonly #end: number;
  /** The next group that begins. */
  #group: number;
  /** What is gathered before it can be read: the header of the COPY, the beginning of a row. */
  readonly #gathered = Buffer.alloc(rowHeaderBytes);
  #isBegun = false;
  #isEnded = false;
  #filled = 0;
  #wanted = copyHeader.length;
  /** Of the page, of the piece of data, and of the object that are being read. */
  #pageLeft = 0;
  #pieceLeft = 0;
  #objectLeft = 0;
  #oid = 0;
  #size = 0;
  readonly #int = Buffer.alloc(archiveIntBytes);

  constructor(plan: LargeObjectPlan, item: number, cutter: SegmentCutter) {
    this.#plan = plan;
    this.#cutter = cutter;
    this.#next = plan.items[item] ?? 0;
    this.#end = plan.items[item + 1] ?? plan.oids.length;
    this.#group = firstGroupFrom(plan, this.#next);
  }

  /** The objects to read. */
  get oids(): Uint32Array {
    return this.#plan.oids.subarray(this.#next, this.#end);
  }

  /** @throws PgkeepError DATABASE_CONNECTION_LOST when what comes is not what was asked for. */
  write(chunk: Buffer, start: number, end: number): void {
    let at = start;
    while (at < end) {
      if (this.#pageLeft > 0) {
        const taken = Math.min(this.#pageLeft, end - at);
        this.#passData(chunk, at, at + taken);
        this.#pageLeft -= taken;
        at += taken;
        if (this.#pageLeft === 0) this.#endPage();
        continue;
      }
      const taken = Math.min(this.#wanted - this.#filled, end - at);
      chunk.copy(this.#gathered, this.#filled, at, at + taken);
      this.#filled += taken;
      at += taken;
      if (this.#filled === this.#wanted) this.#readGathered();
    }
  }

  /** @throws PgkeepError DATABASE_CONNECTION_LOST when not all has come. */
  finish(): void {
    if (!this.#isEnded || this.#next !== this.#end || this.#objectLeft > 0)
      throw unexpected('it is cut short');
    if (this.#end === this.#plan.oids.length) this.#writeInt(0);
  }

  #readGathered(): void {
    if (this.#isEnded) throw unexpected('something follows its end');
    if (!this.#isBegun) {
      if (!this.#gathered.subarray(0, this.#filled).equals(copyHeader)) throw unexpected('its header');
      this.#isBegun = true;
      this.#want(fieldCountBytes);
    } else if (this.#filled === fieldCountBytes) {
      const fields = this.#gathered.readInt16BE(0);
      if (fields === -1) {
        this.#isEnded = true;
        this.#filled = 0;
      } else if (fields === 3) this.#wanted = rowHeaderBytes;
      else throw unexpected(`a row of ${fields} fields`);
    } else this.#beginPage();
  }

  /** From the beginning, so many bytes. */
  #want(bytes: number): void {
    this.#filled = 0;
    this.#wanted = bytes;
  }

  #beginPage(): void {
    const oid = this.#gathered.readUInt32BE(6);
    const size = Number(this.#gathered.readBigInt64BE(14));
    const bytes = this.#gathered.readInt32BE(22);
    if (this.#objectLeft === 0) this.#beginObject(oid, size);
    const isRight =
      oid === this.#oid && size === this.#size && bytes === Math.min(pageBytes, this.#objectLeft);
    if (!isRight) throw unexpected(`${bytes} bytes of large object ${oid}, which has ${size}`);
    this.#want(fieldCountBytes);
    this.#pageLeft = bytes;
    if (bytes === 0) this.#endPage();
  }

  #beginObject(oid: number, size: number): void {
    if (this.#next === this.#end || oid !== this.#plan.oids[this.#next])
      throw unexpected(`large object ${oid}`);
    if (this.#plan.groups[this.#group]?.first === this.#next) this.#beginGroup();
    this.#next++;
    this.#oid = oid;
    this.#size = size;
    this.#objectLeft = size;
    this.#writeInt(oid);
    if (size >= this.#plan.ownSegmentBytes) this.#cutter.close();
  }

  #beginGroup(): void {
    const { groups, oids } = this.#plan;
    const index = this.#group++;
    const { first = 0, dumpId = 0 } = groups[index] ?? {};
    // The header of the first group came with what stands before it.
    if (index === 0) return;
    const isLarge = (groups[index + 1]?.first ?? oids.length) - first >= largeGroup;
    if (isLarge) this.#cutter.close();
    this.#writeInt(0);
    const header = largeObjectsHeader(dumpId);
    this.#write(header, 0, header.length);
    if (isLarge) this.#cutter.close();
  }

  #passData(chunk: Buffer, start: number, end: number): void {
    let at = start;
    while (at < end) {
      if (this.#pieceLeft === 0) {
        this.#pieceLeft = Math.min(pieceBytes, this.#objectLeft);
        this.#writeInt(this.#pieceLeft);
      }
      const taken = Math.min(this.#pieceLeft, end - at);
      this.#write(chunk, at, at + taken);
      this.#pieceLeft -= taken;
      this.#objectLeft -= taken;
      at += taken;
    }
  }

  #endPage(): void {
    if (this.#objectLeft > 0) return;
    this.#writeInt(0);
    const { segmentMinBytes, ownSegmentBytes } = this.#plan;
    const isOwn = this.#size >= ownSegmentBytes;
    const isFull = this.#cutter.filled >= segmentMinBytes;
    if (isOwn || (isFull && endsSegment(this.#oid, this.#size))) this.#cutter.close();
  }

  #writeInt(value: number): void {
    writeArchiveInt(this.#int, 0, value);
    this.#write(this.#int, 0, archiveIntBytes);
  }

  /** Without a note of where the bytes go, as they have the segments to themselves: of a large object there may be half a million. */
  #write(chunk: Buffer, start: number, end: number): void {
    for (let at = start; at < end; ) at += this.#cutter.fill(chunk, at, end);
  }
}

/** The first group that begins with this object or a later one, by index: each item looks for its own among all there are. */
function firstGroupFrom({ groups }: LargeObjectPlan, object: number): number {
  let low = 0;
  let high = groups.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((groups[middle]?.first ?? 0) >= object) high = middle;
    else low = middle + 1;
  }
  return low;
}

function unexpected(what: string): PgkeepError {
  return new PgkeepError(
    'DATABASE_CONNECTION_LOST',
    `the server sent a COPY that was not asked for: ${what}`,
    {
      hint: 'see the server log, and whether pg_dump can read the object (pg_largeobject may be damaged); if it can, report it with this message',
    },
  );
}
