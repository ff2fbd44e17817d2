// Follows an archive in pg_dump's custom format as its bytes pass: whether all that its table of contents names has
// come, and which large objects it is going to hold. Of the format it knows as much as pg_restore must; an archive that is
// not as expected passes unseen, and it is for pg_restore to judge it.
// (src/bin/pg_dump/pg_backup_archiver.c and pg_backup_custom.c of PostgreSQL; the recovery kit reads the same.)

import { freeBuffer } from '../base/free-buffer.ts';
import { sharedNumbers } from '../base/shared-numbers.ts';

/** Large objects whose contents stand together, under one entry of the table of contents. */
export interface LargeObjectGroup {
  /** Of the entry. */
  dumpId: number;
  /** In the order of the archive; in memory that threads share. */
  oids: Uint32Array;
}

/** What a table of contents has of large objects. */
export interface LargeObjectEntries {
  groups: readonly LargeObjectGroup[];
  /** Dump ids of what creates and describes them, in order, and of their privileges. */
  definitions: readonly number[];
  privileges: readonly number[];
  owners: ReadonlySet<string>;
}

/** Bytes to leave out of an archive, and what to put in their place. */
interface Gap {
  begin: number;
  end: number;
  instead?: Buffer;
}

interface DataEntry {
  dumpId: number;
  isLargeObjects: boolean;
}

/** What comes next: parts of the head, then blocks of data, each of which is pieces up to an empty one. */
type Place = 'head' | 'entries' | 'block' | 'pieces';

const largeObjectKinds = new Set(['BLOB', 'BLOBS', 'BLOB METADATA']);
const describingKinds = new Set(['COMMENT', 'ACL', 'SECURITY LABEL']);
const blockOfData = 1;
const blockOfLargeObjects = 3;
const intBytes = 4;
/** Bytes of an integer in the archive: its sign, and its amount. */
export const archiveIntBytes = 1 + intBytes;

/** Writes an integer as archives hold it; oids beyond 2,147,483,647 are negative ones. @returns where it ends. */
export function writeArchiveInt(into: Buffer, at: number, value: number): number {
  const signed = value | 0;
  into[at] = signed < 0 ? 1 : 0;
  into.writeUInt32LE(Math.abs(signed), at + 1);
  return at + archiveIntBytes;
}

/** @throws RangeError when it does not end within the bytes. */
export function readArchiveInt(bytes: Buffer, at: number): number {
  const amount = bytes.readUInt32LE(at + 1);
  return bytes[at] === 0 ? amount : -amount;
}

/** What stands before the large objects of a group. */
export function largeObjectsHeader(dumpId: number): Buffer {
  const header = Buffer.alloc(1 + archiveIntBytes);
  header[0] = blockOfLargeObjects;
  writeArchiveInt(header, 1, dumpId);
  return header;
}

export class ArchiveScan {
  /** Groups of large objects, in order, once the archive was cut in front of their contents. */
  largeObjects: readonly LargeObjectGroup[] = [];
  /** How much was passed on. */
  passedBytes = 0;
  /** What was left out of the table of contents. */
  leftOut: LargeObjectEntries | undefined;
  readonly #cuts: boolean;
  readonly #leavesOut: boolean;
  /** What has come of the table of contents, as long as it cannot be said what is to be left out of it. */
  #held: Buffer[] | undefined;
  readonly #gaps: Gap[] = [];
  readonly #definitions: number[] = [];
  readonly #privileges: number[] = [];
  readonly #owners = new Set<string>();
  /** Bytes that came before `rest`. */
  #restBegin = 0;
  #entries = 0;
  #place: Place = 'head';
  #isStrange = false;
  /** What has passed, but was not understood yet. */
  #rest: Buffer = Buffer.alloc(0);
  #at = 0;
  #minor = 0;
  #offsetBytes = 0;
  #entriesLeft = 0;
  /** Of the piece of data that is passing. */
  #pieceLeft = 0;
  readonly #data: DataEntry[] = [];
  #nextData = 0;
  /** Large objects with an entry each: before version 1.16. */
  readonly #single: number[] = [];
  /** Those that one entry creates together, by its dump id: from then on. */
  readonly #created = new Map<number, Uint32Array>();
  /** The groups by the dump id of their contents. */
  readonly #groups: { dumpId: number; dependsOn: number[] }[] = [];

  /**
   * @param cuts whether the archive is to end in front of the contents of large objects.
   * @param leavesOut whether its table of contents is then to be without them, too: pg_restore holds all of that in memory.
   */
  constructor(cuts: boolean, leavesOut = false) {
    this.#cuts = cuts;
    this.#leavesOut = leavesOut;
    if (leavesOut) this.#held = [];
  }

  /** Whether all of an archive has passed, or all up to the contents of large objects. */
  get isWhole(): boolean {
    if (this.isCut) return true;
    return (
      !this.#isStrange &&
      this.#place === 'block' &&
      this.#nextData === this.#data.length &&
      this.#rest.length === 0
    );
  }

  get isCut(): boolean {
    return this.largeObjects.length > 0;
  }

  /**
   * Passes an archive on, up to the contents of its first large object, which are left to others to read; the source is then
   * closed. Of an archive that is not as expected or not to be cut, everything.
   */
  async *pass(archive: AsyncIterable<Buffer>): AsyncGenerator<Buffer, void, undefined> {
    for await (const chunk of archive) {
      const end = this.#isStrange ? chunk.length : this.#look(chunk);
      this.passedBytes += end;
      if (this.#held === undefined) yield chunk.subarray(0, end);
      else {
        // A copy, as the chunk may be used again.
        this.#held.push(Buffer.from(chunk.subarray(0, end)));
        if (this.#isStrange || this.#place === 'block' || this.#place === 'pieces') yield* this.#release();
      }
      if (this.isCut) return;
    }
    yield* this.#release();
  }

  /** Passes on what was held, without what is left out. */
  *#release(): Generator<Buffer, void, undefined> {
    const held = this.#held ?? [];
    this.#held = undefined;
    const gaps = this.leftOut === undefined ? [] : this.#gaps;
    let next = 0;
    let begin = 0;
    for (const chunk of held) {
      for (let at = 0; at < chunk.length; ) {
        const gap = gaps[next];
        const to = Math.min(chunk.length, (gap?.begin ?? Number.POSITIVE_INFINITY) - begin);
        if (to > at) {
          yield chunk.subarray(at, to);
          at = to;
        } else if (gap !== undefined) {
          at = Math.min(chunk.length, gap.end - begin);
          if (gap.end - begin > chunk.length) continue;
          if (gap.instead !== undefined) yield gap.instead;
          next++;
        }
      }
      begin += chunk.length;
      freeBuffer(chunk);
    }
  }

  /** @returns up to where the chunk is to be passed on. */
  #look(chunk: Buffer): number {
    this.#rest = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk]);
    let understood = 0;
    try {
      for (this.#at = 0; this.#at < this.#rest.length && !this.#isStrange && !this.isCut; ) {
        this.#step();
        understood = this.#at;
      }
    } catch (error) {
      // The rest is still to come.
      if (!(error instanceof RangeError)) throw error;
    }
    const missing = this.#rest.length - understood;
    this.#restBegin += understood;
    // A copy, as the chunk may be used again: there is little of it.
    this.#rest = this.#isStrange ? Buffer.alloc(0) : Buffer.from(this.#rest.subarray(understood));
    return this.isCut ? chunk.length - missing : chunk.length;
  }

  #step(): void {
    switch (this.#place) {
      case 'head':
        this.#readHead();
        break;
      case 'entries':
        this.#readEntry();
        break;
      case 'block':
        this.#beginBlock();
        break;
      case 'pieces':
        this.#passPiece();
        break;
    }
  }

  #readHead(): void {
    const magic = this.#bytes(5).toString('latin1');
    const [major, minor, , integers, offsets, format] = this.#bytes(6);
    this.#minor = minor ?? 0;
    this.#offsetBytes = offsets ?? 0;
    const isKnown = magic === 'PGDMP' && major === 1 && this.#minor >= 14 && this.#minor <= 16;
    if (!isKnown || integers !== intBytes || format !== 1) {
      this.#giveUp();
      return;
    }
    const compression = this.#minor >= 15 ? this.#bytes(1)[0] : this.#int();
    if (compression !== 0) {
      this.#giveUp();
      return;
    }
    // When it was made; names of the database and of two versions.
    for (let times = 0; times < 7; times++) this.#int();
    this.#skipStrings(3);
    const countAt = this.#restBegin + this.#at;
    this.#entriesLeft = this.#int();
    this.#entries = this.#entriesLeft;
    this.#gaps.push({ begin: countAt, end: countAt + archiveIntBytes });
    this.#place = 'entries';
    this.#endEntries();
  }

  #readEntry(): void {
    const begin = this.#restBegin + this.#at;
    const dumpId = this.#int();
    const hasData = this.#int() !== 0;
    this.#skipStrings(1);
    const oid = this.#string();
    const tag = this.#string();
    const kind = this.#string()?.toString('latin1') ?? '';
    this.#int();
    const definition = this.#string();
    // DROP and COPY statement, schema, tablespace, access method.
    this.#skipStrings(5);
    if (this.#minor >= 16) this.#int();
    const owner = this.#string();
    // Whether it has oids.
    this.#skipStrings(1);
    const dependsOn: number[] = [];
    for (let id = this.#string(); id !== null; id = this.#string()) dependsOn.push(Number(id.toString()));
    this.#bytes(1 + this.#offsetBytes);
    // Nothing is kept before all of it has come.
    if (kind === 'BLOB') this.#single.push(Number(oid?.toString()));
    if (kind === 'BLOB METADATA') this.#created.set(dumpId, numbersIn(definition));
    const isLargeObjects = kind === 'BLOBS';
    if (isLargeObjects) this.#groups.push({ dumpId, dependsOn });
    if (hasData) this.#data.push({ dumpId, isLargeObjects });
    if (this.#leavesOut && isOfLargeObjects(kind, tag)) {
      const end = this.#restBegin + this.#at;
      const last = this.#gaps.at(-1);
      if (last?.end === begin && this.#gaps.length > 1) last.end = end;
      else this.#gaps.push({ begin, end });
      if (kind === 'ACL') this.#privileges.push(dumpId);
      else if (!isLargeObjects) this.#definitions.push(dumpId);
      // An owner who was dropped has no name.
      if (owner !== null && owner.length > 0 && !describingKinds.has(kind))
        this.#owners.add(owner.toString());
      this.#entries--;
    }
    this.#entriesLeft--;
    this.#endEntries();
  }

  #endEntries(): void {
    if (this.#entriesLeft > 0) return;
    this.#place = 'block';
    const first = this.#data.findIndex(({ isLargeObjects }) => isLargeObjects);
    const groups = this.#leavesOut && first >= 0 ? this.#groupsFrom(first) : undefined;
    const [count] = this.#gaps;
    if (groups === undefined || count === undefined) return;
    count.instead = Buffer.alloc(archiveIntBytes);
    writeArchiveInt(count.instead, 0, this.#entries);
    this.leftOut = {
      groups,
      definitions: this.#definitions,
      privileges: this.#privileges,
      owners: this.#owners,
    };
  }

  #beginBlock(): void {
    const expected = this.#data[this.#nextData];
    if (expected === undefined) {
      this.#giveUp();
      return;
    }
    const [kind] = this.#bytes(1);
    const isExpected = kind === (expected.isLargeObjects ? blockOfLargeObjects : blockOfData);
    if (this.#int() !== expected.dumpId || !isExpected) {
      this.#giveUp();
      return;
    }
    if (!expected.isLargeObjects) {
      this.#nextData++;
      this.#place = 'pieces';
      return;
    }
    const groups = this.#groupsFrom(this.#nextData);
    if (groups === undefined) this.#giveUp();
    else this.largeObjects = groups;
  }

  #passPiece(): void {
    if (this.#pieceLeft === 0) {
      this.#pieceLeft = this.#int();
      if (this.#pieceLeft < 0) this.#giveUp();
      else if (this.#pieceLeft === 0) this.#place = 'block';
      return;
    }
    const passed = Math.min(this.#pieceLeft, this.#rest.length - this.#at);
    this.#pieceLeft -= passed;
    this.#at += passed;
  }

  /** The large objects of all blocks from this one on; nothing when these stay, when it cannot be told, or when other data follow. */
  #groupsFrom(first: number): LargeObjectGroup[] | undefined {
    if (!this.#cuts) return undefined;
    const left = this.#data.slice(first);
    if (left.length !== this.#groups.length || !left.every(({ isLargeObjects }) => isLargeObjects))
      return undefined;
    const groups = this.#groups.map(({ dumpId, dependsOn }) => {
      // One group has them all, by their oids.
      if (this.#minor < 16) return { dumpId, oids: shared(this.#single).sort() };
      const oids = dependsOn.map(id => this.#created.get(id)).find(created => created !== undefined);
      return { dumpId, oids: oids ?? new Uint32Array() };
    });
    return groups.every(({ oids }) => oids.length > 0) ? groups : undefined;
  }

  #giveUp(): void {
    this.#isStrange = true;
  }

  /** @throws RangeError as long as it has not come. */
  #int(): number {
    const value = readArchiveInt(this.#rest, this.#at);
    this.#at += archiveIntBytes;
    return value;
  }

  /** @throws RangeError as long as it has not come. */
  #bytes(count: number): Buffer {
    const end = this.#at + count;
    if (end > this.#rest.length) throw new RangeError('to come');
    const bytes = this.#rest.subarray(this.#at, end);
    this.#at = end;
    return bytes;
  }

  #string(): Buffer | null {
    const length = this.#int();
    return length < 0 ? null : this.#bytes(length);
  }

  #skipStrings(count: number): void {
    for (let skipped = 0; skipped < count; skipped++) {
      const length = this.#int();
      this.#at += Math.max(0, length);
    }
  }
}

function isOfLargeObjects(kind: string, tag: Buffer | null): boolean {
  if (largeObjectKinds.has(kind)) return true;
  return describingKinds.has(kind) && /^LARGE OBJECTS? /.test(tag?.toString('latin1') ?? '');
}

function numbersIn(lines: Buffer | null): Uint32Array {
  const numbers = (lines?.toString('latin1') ?? '').split('\n').filter(line => line !== '');
  return shared(numbers.map(Number));
}

function shared(numbers: readonly number[]): Uint32Array {
  const result = sharedNumbers(numbers.length);
  result.set(numbers);
  return result;
}
