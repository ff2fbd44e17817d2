// A worker thread of create: its own connection in the shared snapshot; COPY in, cut, hash, look up, compress, seal,
// check. The main thread, which alone talks to the storage, is handed sealed objects without copying. Ranges of which
// an earlier backup tells what they held are asked what has changed first (docs/decisions/incremental.md).
import { parentPort, workerData } from 'node:worker_threads';
import { PgkeepError } from '../../base/errors.ts';
import { ThreadLine } from '../../base/thread-calls.ts';
import type { CopySink, WireConnection } from '../../postgres/wire.ts';
import type { RangeEntry, Slice } from '../../repository/manifest.ts';
import { type NumberListWriter, type NumberRun, readNumberLists } from '../../repository/number-list.ts';
import { SegmentReader } from '../restore/segment-reader.ts';
import { RemainingLines, readRows } from '../row-text.ts';
import { asBuffer, type ThreadSegment, takeOver } from '../thread-segment.ts';
import { addDigests, type DigestedRows, isSameRows, noRows, RowDigest } from '../verify/row-digest.ts';
import {
  type CopyPlan,
  type CopyTask,
  changesSql,
  ctidsSql,
  keepsCtids,
  lookSql,
  rangesPerTransaction,
  rowsSql,
  tasksOf,
  textSql,
  youngSql,
} from './copy-plan.ts';
import { BinaryRow, CtidSink } from './copy-sinks.ts';
import { compareRange, ctidAt, ctidBytes, ctidText, listCtids } from './range-change.ts';
import { BufferPool, SegmentCutter, type SliceSink } from './segment-cutter.ts';
import { type SealerHost, SegmentSealer } from './segment-sealer.ts';
import {
  causeAmong,
  type ItemReader,
  readInSnapshot,
  type SnapshotReaderData,
  sealerOptions,
} from './snapshot-reader.ts';

export interface CopyWorkerData extends SnapshotReaderData {
  plan: CopyPlan;
  /** Whether there is an earlier backup to ask about. */
  hasParent: boolean;
  /** Read everything, and compare it with what building on the earlier backup would have given. */
  isVerified: boolean;
  /** The items to do, by number; all of the plan without it. */
  items: Uint32Array | undefined;
}

/** What the main thread answers. */
export type CopyHost = SealerHost & {
  /** What an earlier backup tells of each range, if it does. */
  references(tasks: CopyTask[]): Promise<(RangeReference | undefined)[]>;
  /** A sealed segment. */
  fetch(id: string): Promise<unknown>;
  /** An item was read; where its bytes are is told later. */
  progress(ranges: { table: number; rows: number }[]): void;
  /** Where what was read is not what building on the earlier backup would have given. */
  mismatch(message: string): void;
  /** What the earlier backup has cannot be read; the object that is to blame. */
  unreadable(damage: { message: string; object: string }): void;
  done(results: TaskResult[]): Promise<void>;
};

/** A range as an earlier backup has it. */
export interface RangeReference {
  entry: RangeEntry;
  /** The oldest transaction that had not ended at its snapshot: 64 bits. */
  xmin: string;
}

/** What was done about a range: nothing, a reading of all of it, or of what is new. */
export type RangeOrigin = CopyTask &
  ({ kind: 'unread' } | { kind: 'read' } | { kind: 'delta'; added: { rows: number; bytes: number } });

/** With what the range consists of now, unless that is as before. */
export type TaskResult =
  | Extract<RangeOrigin, { kind: 'unread' }>
  | (Exclude<RangeOrigin, { kind: 'unread' }> & { entry: RangeEntry });

/** What has become of a range since the earlier backup. */
interface Change extends Counts {
  /** Its state then, or its base's. */
  since: RangeReference;
  age: number;
  /** Of the young ones, as the server packed them, where they are known. */
  youngCtids: Buffer | undefined;
  /** All lines that are gone; `undefined` when they are those that were gone before. */
  gone: NumberListWriter | undefined;
}

/** Of rows, in the snapshot of now. */
interface Counts {
  old: number;
  young: number;
}

interface ReadTask {
  rows: number;
  /** Compares the range with what was derived, once its rows are in the repository; what counts from then on. */
  verify?: () => Promise<ReadTask>;
  /** Once all of it is in the repository. */
  result: () => Promise<TaskResult>;
}

interface CtidList {
  count: number;
  bytes: Buffer;
}

type WholeRead = ReadTask & { text: () => Promise<Slice[]> };

/** Segment buffers: one being filled, the others on their way through lookup, compression and sealing. */
const buffers = 4;
/** Of what is small: a reader of many deltas keeps one such segment of each open. */
const smallBytes = 2 * 1024 * 1024;
const smallBuffers = 3;
/** Results that wait for their small parts to be stored. */
const maxPending = 512;
/** After so many deltas the next one is made against the base, and replaces them. */
const maxDeltas = 8;
/** What is gone and new since the base, as a part of the base, when the range is read anew. */
const maxChanged = 1 / 4;

class Reader implements ItemReader {
  readonly #data: CopyWorkerData;
  readonly #line: ThreadLine<CopyHost>;
  readonly #wire: WireConnection;
  readonly #pool: BufferPool;
  readonly #sealer: SegmentSealer;
  readonly #segments: SegmentReader;
  /** Gathers what is small, of many ranges: deltas, ctids. */
  readonly #small: SegmentCutter;
  /** Results that wait for their small parts to be stored. */
  readonly #results = new Set<Promise<void>>();
  #pending = 0;
  /** By transaction id, in the transaction of now. */
  readonly #ages = new Map<string, Promise<number>>();
  /** Tables in which rows were gone from the range looked at last: of the next one, ctids are asked for at once. */
  readonly #changing = new Set<number>();
  /** In the transaction of now. */
  #rangesBegun = 0;

  constructor(data: CopyWorkerData, line: ThreadLine<CopyHost>, wire: WireConnection) {
    this.#data = data;
    this.#line = line;
    this.#wire = wire;
    this.#sealer = new SegmentSealer({
      find: id => line.call('find', id),
      put: segment => line.call('put', segment, [segment.object.buffer]),
      ...sealerOptions(data),
    });
    let congested = 0;
    const onCongested = (isCongested: boolean) => {
      congested += isCongested ? 1 : -1;
      if (congested > 0) wire.pause();
      else wire.resume();
    };
    this.#pool = new BufferPool(buffers, onCongested);
    const small = new BufferPool(smallBuffers, onCongested, smallBytes);
    this.#small = new SegmentCutter(small, (plain, buffer) =>
      this.#sealer.store(plain, () => small.release(buffer)),
    );
    this.#segments = new SegmentReader({
      fetch: async id => takeOver((await line.call('fetch', id)) as ThreadSegment),
      secret: asBuffer(data.secret),
      isFreed: true,
    });
  }

  get items(): number {
    const { items, plan } = this.#data;
    return items?.length ?? plan.items;
  }

  get isTransactionFull(): boolean {
    return this.#rangesBegun >= rangesPerTransaction;
  }

  beginTransaction(): void {
    this.#ages.clear();
    this.#rangesBegun = 0;
  }

  async readItem(item: number): Promise<void> {
    const { plan, items } = this.#data;
    const tasks = tasksOf(plan, items?.[item] ?? item);
    this.#rangesBegun += tasks.length;
    const read = await this.#cutting(cutter => this.#readTasks(tasks, cutter));
    const verified: ReadTask[] = [];
    for (const task of read) verified.push((await task.verify?.()) ?? task);
    await this.#report(verified);
    const progress = tasks.map(({ table }, index) => ({ table, rows: read[index]?.rows ?? 0 }));
    await this.#line.call('progress', progress);
  }

  async finish(): Promise<void> {
    this.#small.close();
    await Promise.all(this.#results);
  }

  /** Cuts what the work writes into segments; of work that fails, the last one is dropped. */
  async #cutting<T>(work: (cutter: SegmentCutter) => Promise<T>): Promise<T> {
    const pool = this.#pool;
    const cutter = new SegmentCutter(pool, (plain, buffer) =>
      this.#sealer.store(plain, () => pool.release(buffer)),
    );
    try {
      const result = await work(cutter);
      cutter.close();
      return result;
    } catch (error) {
      cutter.abandon();
      throw error;
    }
  }

  /** Has results told once they are stored. Of those that wait for what is small, there are never many. */
  async #report(read: readonly ReadTask[]): Promise<void> {
    this.#pending += read.length;
    const told = Promise.all(read.map(({ result }) => result())).then(async results => {
      await this.#line.call('done', results);
      this.#pending -= read.length;
      this.#results.delete(told);
    });
    // One that fails stays, for whoever waits next to see it.
    told.catch(() => undefined);
    this.#results.add(told);
    if (this.#pending < maxPending) return;
    this.#small.close();
    await Promise.race(this.#results);
  }

  /** Of an item, most often all are read whole, or none has changed. */
  async #readTasks(tasks: readonly CopyTask[], cutter: SegmentCutter): Promise<ReadTask[]> {
    if (!this.#data.hasParent) return this.#readWhole(tasks, cutter);
    const references = await this.#line.call('references', [...tasks]);
    const known = tasks.flatMap((task, index) => {
      const reference = references[index];
      return reference === undefined ? [] : [{ task, reference }];
    });
    const counts = await this.#countRows(known);
    const found = await allEnded(
      known.map(async ({ task, reference }): Promise<[CopyTask, ReadTask | undefined]> => {
        const { isVerified } = this.#data;
        const read = isVerified
          ? this.#readVerified(task, reference, counts.get(task), cutter)
          : this.#readChange(task, reference, counts.get(task));
        return [task, await read];
      }),
    );
    const read = new Map(found);
    const others = tasks.filter(task => read.get(task) === undefined);
    for (const [index, whole] of (await this.#readWhole(others, cutter)).entries()) {
      const task = others[index];
      if (task !== undefined) read.set(task, whole);
    }
    return tasks.map(task => {
      const result = read.get(task);
      // What is done about one range would pass for what is done about the next.
      if (result === undefined) throw new PgkeepError('INTERNAL', `nothing came of ${this.#reading(task)}`);
      return result;
    });
  }

  /** @returns nothing when the range is to be read whole. */
  async #readChange(
    task: CopyTask,
    reference: RangeReference,
    counts: Counts | undefined,
  ): Promise<ReadTask | undefined> {
    const change = await this.#findReadableChange(task, reference, counts);
    if (change === 'unknown') return undefined;
    if (change === 'none') {
      return { rows: reference.entry.rows, result: async () => ({ ...task, kind: 'unread' }) };
    }
    return this.#readDelta(task, change);
  }

  /** Sends all without waiting for an answer, small tables' COPYs in one message: the next COPY is to follow at once. */
  async #readWhole(tasks: readonly CopyTask[], cutter: SegmentCutter): Promise<WholeRead[]> {
    const { plan } = this.#data;
    const copies = tasks.map(task => ({
      task,
      sql: textSql(plan, task),
      doing: this.#reading(task),
      sink: cutter.sink(),
    }));
    const [rows, lists] = await Promise.all([
      this.#wire.copyOutAll(copies),
      this.#readCtids(tasks.filter(task => keepsCtids(plan, task))),
    ]);
    return copies.map(({ task, sink }, index) =>
      this.#wholeRead(task, sink, rows[index] ?? Number.NaN, lists.get(task)),
    );
  }

  #wholeRead(task: CopyTask, sink: SliceSink, rows: number, list: CtidList | undefined): WholeRead {
    if (list !== undefined && list.count !== rows) {
      throw new PgkeepError(
        'INTERNAL',
        `${this.#reading(task)} gave ${rows} rows, and then ${list.count} in the same snapshot`,
      );
    }
    const ctids = list && this.#writeSmall(list.bytes);
    const result = async (): Promise<TaskResult> => {
      const entry: RangeEntry = { rows, bytes: sink.bytes, slices: await sink.slices() };
      if (ctids !== undefined) entry.ctids = await ctids();
      return { ...task, kind: 'read', entry };
    };
    return { rows, result, text: () => sink.slices() };
  }

  /** Reads the range, and derives it from the earlier backup as well. */
  async #readVerified(
    task: CopyTask,
    reference: RangeReference,
    counts: Counts | undefined,
    cutter: SegmentCutter,
  ): Promise<ReadTask | undefined> {
    const change = await this.#findReadableChange(task, reference, counts).catch(async (error: unknown) => {
      if (!(error instanceof PgkeepError) || error.code !== 'INCREMENTAL_MISMATCH') throw error;
      await this.#line.call('mismatch', error.message);
      return 'unknown' as const;
    });
    if (change === 'unknown') return undefined;
    const derived = change === 'none' ? noRows : await this.#digestYoung(task, change);
    const [read] = await this.#readWhole([task], cutter);
    if (read === undefined) return undefined;
    const verify = async (): Promise<ReadTask> => {
      const whole = { rows: read.rows, slices: await read.text() };
      if (change === 'none' && isSameText(reference.entry, whole)) return read;
      try {
        const old = await (change === 'none'
          ? this.#digestRows(task, reference.entry)
          : this.#digestOld(task, change));
        const then = addDigests(derived, old);
        if (!isSameRows(then, await this.#digestRows(task, whole))) {
          await this.#line.call(
            'mismatch',
            `range ${task.range} of ${this.#nameOf(task)} has ${whole.rows} rows that are not the ${then.rows} which follow from the earlier backup`,
          );
        }
        return read;
      } catch (error) {
        await this.#tellUnreadable(error);
        // What was found in the repository may be what is damaged: now it is looked at.
        const [again] = await this.#cutting(cut => this.#readWhole([task], cut));
        return again ?? read;
      }
    };
    return { ...read, verify };
  }

  async #digestYoung(task: CopyTask, change: Change): Promise<DigestedRows> {
    const digest = new RowDigest(null);
    if (change.young > 0) await this.#copyYoung(task, change, digest);
    return digest.digest;
  }

  /** Of the rows that a delta would take over. */
  async #digestOld(task: CopyTask, { since: { entry }, old, gone }: Change): Promise<DigestedRows> {
    if (gone === undefined) return this.#digestRows(task, entry);
    const digest = new RowDigest(null);
    const remaining = new RemainingLines(this.#reading(task), old, gone.bytes());
    for await (const bytes of this.#segments.read(entry.slices)) {
      for (const left of remaining.of(bytes)) digest.write(left);
    }
    remaining.end();
    return digest.digest;
  }

  async #digestRows(
    task: CopyTask,
    { rows, slices, gone }: Pick<RangeEntry, 'rows' | 'slices' | 'gone'>,
  ): Promise<DigestedRows> {
    const digest = new RowDigest(null);
    const ranges = [{ rows, slices, ...(gone && { gone }) }];
    const text = { table: this.#nameOf(task), first: task.range, ranges };
    for await (const bytes of readRows(this.#segments, text)) digest.write(bytes);
    return digest.digest;
  }

  /** Where the rows lie; of a range nothing when the server does not give them in the order of their places. */
  async #readCtids(tasks: readonly CopyTask[]): Promise<Map<CopyTask, CtidList>> {
    const copies = tasks.map(task => ({
      task,
      sql: ctidsSql(this.#data.plan, task),
      doing: this.#reading(task),
      sink: new BinaryRow(),
    }));
    await this.#wire.copyOutAll(copies);
    const lists = new Map<CopyTask, CtidList>();
    for (const { task, sink } of copies) {
      const list = inOrder(() => listCtids(sink.values[0] ?? Buffer.alloc(0)));
      if (list !== undefined) lists.set(task, { count: list.count, bytes: list.bytes() });
    }
    return lists;
  }

  /** Of the ranges that are looked at before anything is read, in one message. */
  async #countRows(
    known: readonly { task: CopyTask; reference: RangeReference }[],
  ): Promise<Map<CopyTask, Counts>> {
    const ages = await Promise.all(known.map(({ reference }) => this.#ageOf(reference.xmin)));
    const looks = known.flatMap(({ task }, index) => {
      const age = ages[index] ?? -1;
      if (age < 0 || this.#changing.has(task.table)) return [];
      return [{ task, sql: lookSql(this.#data.plan, task, age), doing: this.#reading(task) }];
    });
    const results = await this.#wire.runAll(looks);
    return new Map(
      looks.map(({ task }, index) => {
        const [all = Number.NaN, young = Number.NaN] = (results[index]?.[0] ?? []).map(Number);
        return [task, { old: all - young, young }];
      }),
    );
  }

  /** As {@link #findChange}; what cannot be read of the earlier backup is told, and the range is read. */
  async #findReadableChange(
    task: CopyTask,
    reference: RangeReference,
    counts: Counts | undefined,
  ): Promise<Change | 'none' | 'unknown'> {
    try {
      return await this.#findChange(task, reference, counts);
    } catch (error) {
      await this.#tellUnreadable(error);
      return 'unknown';
    }
  }

  /** @throws the error, when it is about something else. */
  async #tellUnreadable(error: unknown): Promise<void> {
    if (!(error instanceof PgkeepError) || !['OBJECT_MISSING', 'OBJECT_DAMAGED'].includes(error.code))
      throw error;
    const object = typeof error.context.object === 'string' ? error.context.object : '';
    await this.#line.call('unreadable', { message: error.message, object });
  }

  /** @param counts where rows have been counted. */
  async #findChange(
    task: CopyTask,
    reference: RangeReference,
    counts: Counts | undefined,
  ): Promise<Change | 'none' | 'unknown'> {
    const { entry, xmin } = reference;
    const { base } = entry;
    const age = await this.#ageOf(xmin);
    if (age < 0) return 'unknown';
    if (counts !== undefined) {
      const { old, young } = counts;
      if (young === 0 && old === entry.rows) return 'none';
      if (old > entry.rows) throw this.#contradiction(task, old - entry.rows);
      if (entry.ctids === undefined) return 'unknown';
      if (old === entry.rows && (base?.deltas ?? 0) < maxDeltas) {
        const change: Change = { ...counts, since: reference, age, youngCtids: undefined, gone: undefined };
        return isOutgrown(change) ? 'unknown' : change;
      }
    }
    if (entry.ctids === undefined) return 'unknown';
    return base === undefined || base.deltas < maxDeltas
      ? this.#compare(task, reference, false)
      : this.#compare(task, baseOf(entry, base), true);
  }

  /**
   * Finds out by the ctids of the rows.
   * @param isBase whether `since` is the base of what the earlier backup has, so that it must change.
   */
  async #compare(
    task: CopyTask,
    since: RangeReference,
    isBase: boolean,
  ): Promise<Change | 'none' | 'unknown'> {
    const { entry, xmin } = since;
    const age = await this.#ageOf(xmin);
    if (age < 0) return 'unknown';
    const packed = new BinaryRow();
    await this.#wire.copyOut(changesSql(this.#data.plan, task, age), this.#reading(task), packed);
    const [old = Buffer.alloc(0), young = Buffer.alloc(0)] = packed.values;
    const [oldRows, youngRows] = [old.length / ctidBytes, young.length / ctidBytes];
    if (oldRows === entry.rows) this.#changing.delete(task.table);
    else this.#changing.add(task.table);
    if (youngRows === 0 && oldRows === entry.rows && !isBase) return 'none';
    const counts: Change = { since, age, old: oldRows, young: youngRows, youngCtids: young, gone: undefined };
    if (isOutgrown(counts)) return 'unknown';
    const of = this.#reading(task);
    const ctids = await this.#readLists(entry.ctids ?? [], of);
    const [gone = []] = await this.#readLists(entry.gone ?? [], of);
    const change = inOrder(() => compareRange({ ctids, gone }, old));
    if (change === undefined) return 'unknown';
    if (change.unknown > 0) throw this.#contradiction(task, change.unknown);
    return { ...counts, gone: change.gone };
  }

  async #readDelta(task: CopyTask, change: Change): Promise<ReadTask> {
    const { since, old, young, gone } = change;
    const { entry } = since;
    const text = this.#small.sink();
    const added = young > 0 ? await this.#copyYoung(task, change, text) : undefined;
    const ctids = added && this.#writeSmall(added.bytes());
    const newlyGone = gone && gone.count > 0 ? this.#writeSmall(gone.bytes()) : undefined;
    const base = entry.base ?? {
      rows: entry.rows,
      slices: entry.slices.length,
      ctids: entry.ctids?.length ?? 0,
      xmin: since.xmin,
      deltas: 0,
      added: 0,
    };
    const { bytes } = text;
    const result = async (): Promise<TaskResult> => {
      const after: RangeEntry = {
        rows: old + young,
        bytes: entry.bytes + bytes,
        slices: [...entry.slices, ...(await text.slices())],
        ctids: [...(entry.ctids ?? []), ...((await ctids?.()) ?? [])],
        base: { ...base, deltas: base.deltas + (young > 0 ? 1 : 0), added: base.added + young },
      };
      const goneSlices = gone === undefined ? entry.gone : await newlyGone?.();
      if (goneSlices !== undefined) after.gone = goneSlices;
      return { ...task, kind: 'delta', entry: after, added: { rows: young, bytes } };
    };
    return { rows: old + young, result };
  }

  /** Reads the young rows. @returns their ctids. */
  async #copyYoung(
    task: CopyTask,
    { age, young, youngCtids }: Change,
    text: CopySink,
  ): Promise<NumberListWriter> {
    const { plan } = this.#data;
    const sink = new CtidSink(text);
    let rows = 0;
    for (const sql of youngCtids ? youngRowsSql(plan, task, youngCtids) : [youngSql(plan, task, age)]) {
      rows += await this.#wire.copyOut(sql, this.#reading(task), sink);
    }
    if (rows !== young || sink.ctids.count !== young) {
      throw new PgkeepError(
        'INCREMENTAL_MISMATCH',
        `${this.#nameOf(task)} gave ${rows} young rows where it had counted ${young} in the same snapshot`,
      );
    }
    return sink.ctids;
  }

  /** `age` of a transaction id, in the transaction of now; negative when the server cannot compare with it. */
  #ageOf(xmin: string): Promise<number> {
    let age = this.#ages.get(xmin);
    if (age === undefined) {
      const id = BigInt(xmin) & 0xffff_ffffn;
      age = this.#wire
        .run(`SELECT age('${id}'::xid)`, 'asking for the age of a transaction')
        .then(([row]) => Number(row?.[0] ?? -1));
      this.#ages.set(xmin, age);
    }
    return age;
  }

  async #readLists(slices: readonly Slice[], of: string): Promise<NumberRun[][]> {
    const pieces: Buffer[] = [];
    for await (const piece of this.#segments.read(slices)) pieces.push(Buffer.from(piece));
    return [...readNumberLists(Buffer.concat(pieces), `what an earlier backup knows for ${of}`)];
  }

  /** @returns where it is, once that is stored. */
  #writeSmall(bytes: Buffer): () => Promise<Slice[]> {
    const sink = this.#small.sink();
    sink.write(bytes, 0, bytes.length);
    return () => sink.slices();
  }

  #reading(task: CopyTask): string {
    return `reading table ${this.#nameOf(task)}`;
  }

  #nameOf({ table }: CopyTask): string {
    return this.#data.plan.tables[table]?.from ?? '';
  }

  #contradiction(task: CopyTask, rows: number): PgkeepError {
    const table = this.#nameOf(task);
    return new PgkeepError(
      'INCREMENTAL_MISMATCH',
      `${table} has ${rows} old rows that the earlier backup does not know`,
      {
        hint: 'the server is not what it was, though it seems to be; look at the earlier backups with: pgkeep verify --level restore',
        context: { table },
      },
    );
  }
}

/** Waits for all. @throws what made them fail. */
async function allEnded<T>(work: readonly Promise<T>[]): Promise<T[]> {
  const ended = await Promise.allSettled(work);
  const failed = ended.filter(end => end.status === 'rejected');
  if (failed.length > 0) throw causeAmong(failed.map(({ reason }) => reason));
  return ended.flatMap(end => (end.status === 'fulfilled' ? [end.value] : []));
}

/** Rows asked for by their ctids at once. */
const rowsAtOnce = 10_000;

function* youngRowsSql(plan: CopyPlan, task: CopyTask, packed: Buffer): Iterable<string> {
  const batchBytes = rowsAtOnce * ctidBytes;
  for (let start = 0; start < packed.length; start += batchBytes) {
    const ctids: string[] = [];
    for (let at = start; at < Math.min(packed.length, start + batchBytes); at += ctidBytes)
      ctids.push(ctidText(ctidAt(packed, at)));
    yield rowsSql(plan, task, ctids);
  }
}

/** What is made of ctids; nothing when they do not ascend, so that rows cannot be told by their place. */
function inOrder<T>(make: () => T): T | undefined {
  try {
    return make();
  } catch (error) {
    if (error instanceof RangeError) return undefined;
    throw error;
  }
}

/** Whether a range's text is, byte for byte, that of these segments. */
function isSameText(
  { slices: one, gone }: RangeEntry,
  { slices: other }: Pick<RangeEntry, 'slices'>,
): boolean {
  const isSame = (slice: Slice, index: number) =>
    slice.id === other[index]?.id &&
    slice.offset === other[index].offset &&
    slice.bytes === other[index].bytes;
  return gone === undefined && one.length === other.length && one.every(isSame);
}

/** The range as it was when its base was made. */
function baseOf(entry: RangeEntry, base: NonNullable<RangeEntry['base']>): RangeReference {
  const slices = entry.slices.slice(0, base.slices);
  const bytes = slices.reduce((sum, slice) => sum + slice.bytes, 0);
  const ctids = (entry.ctids ?? []).slice(0, base.ctids);
  return { entry: { rows: base.rows, bytes, slices, ctids }, xmin: base.xmin };
}

/** Whether so much has changed since the base that the range is better read anew. */
function isOutgrown({ since: { entry }, old, young }: Change): boolean {
  const { rows, added } = entry.base ?? { rows: entry.rows, added: 0 };
  const lines = rows + added + young;
  const gone = lines - (old + young);
  return gone + added + young > rows * maxChanged;
}

if (parentPort === null) throw new Error('copy-worker runs as a worker thread');
const data = workerData as CopyWorkerData;
const line: ThreadLine<CopyHost> = new ThreadLine<CopyHost>(parentPort, {
  run: () => readInSnapshot(data, wire => new Reader(data, line, wire)),
});
