// The coordinator's side of a backup in shards: publishes the plan, waits until every part is done, and takes over what the shards tell. It
// believes none of them: each range of the plan must come exactly once, from the shard that it belongs to.
import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import { PgkeepError, throwIfAborted } from '../../base/errors.ts';
import { queryRows } from '../../postgres/client.ts';
import { endWhenGone } from '../../postgres/server-watch.ts';
import { isBackupId } from '../../repository/backup-id.ts';
import type { RangeEntry, Slice } from '../../repository/manifest.ts';
import {
  type FailedAttempt,
  isJoinToken,
  maxAttempts,
  maxShards,
  putJoin,
  type ShardPart,
  type ShardRange,
  ShardsFolder,
} from '../../repository/shards.ts';
import { addTraffic, type Traffic } from '../../storage/counting-storage.ts';
import { durationLimits, requireInteger } from '../option-check.ts';
import { CollectedRanges, type RangeTaker } from './collected-ranges.ts';
import { type CopyPlan, divideItems, tasksOf } from './copy-plan.ts';
import type { RangeOrigin } from './copy-worker.ts';
import { consistsOf, type ReadItemsOptions, readItems } from './read-tables.ts';
import { ShardLedger } from './shard-ledger.ts';
import { describeShards, type ShardPlanSource, shardSessionName } from './shard-plan.ts';

export interface ShareRowsOptions {
  /** How this process would read the rows itself. */
  reading: ReadItemsOptions;
  plan: Omit<
    ShardPlanSource,
    'coordinatorPid' | 'key' | 'compressionLevel' | 'plan' | 'isBuiltOn' | 'isVerified'
  >;
  /** What the shards join by, when it is not the id of the backup. */
  join: string | undefined;
  /** A connection without a transaction, by which shards see that the coordinator is there. */
  monitor: pg.Client;
  /** How long a part may be neither done nor under way. */
  timeoutMs: number;
  onReady: (token: string) => void;
  onWarning: (message: string, hint?: string) => void;
}

export interface SharedRows {
  taken: CollectedRanges;
  mismatches: string[];
  /** What the shards asked of the storage. */
  traffic: Traffic;
}

const firstPauseMs = 100;
const longestPauseMs = 3_000;
const pauseGrowth = 1.3;

/** @throws PgkeepError OPTION_INVALID. */
export function requireShards(options: {
  shards?: number | undefined;
  join?: string | undefined;
  shardTimeoutMs?: number | undefined;
}): void {
  requireInteger('shards', options.shards, { min: 1, max: maxShards });
  requireInteger('shardTimeoutMs', options.shardTimeoutMs, durationLimits);
  const { join } = options;
  if (join === undefined || (isJoinToken(join) && !isBackupId(join))) return;
  throw new PgkeepError('OPTION_INVALID', `${JSON.stringify(join)} cannot be the token that shards join by`, {
    hint: 'give up to 100 letters, digits, dots and hyphens, and not the id of a backup; or leave it out',
  });
}

/**
 * Publishes the plan, waits for the parts and takes them over.
 * @throws PgkeepError SHARD_MISSING, SHARD_FAILED naming the shard; BACKUP_INCOMPLETE when what they tell is not the plan's ranges, each
 * once; OBJECT_DAMAGED, OBJECT_MISSING.
 */
export async function shareRows(options: ShareRowsOptions): Promise<SharedRows> {
  const { reading, monitor, join } = options;
  const { repository, plan, earlier, isVerified, key, level } = reading;
  const { backup, shards } = options.plan;
  const [session] = await queryRows(
    monitor,
    'SELECT pg_catalog.pg_backend_pid() AS pid',
    'asking for the process id',
  );
  await endWhenGone(monitor);
  const folder = new ShardsFolder(repository, backup);
  const shardPlan = describeShards({
    ...options.plan,
    coordinatorPid: Number(session?.pid),
    key: key?.id ?? null,
    compressionLevel: level,
    plan,
    isBuiltOn: table => earlier?.[table] !== undefined,
    isVerified,
  });
  const digest = await folder.putPlan(shardPlan, key);
  if (join !== undefined) await putJoin(repository.storage, join, backup);
  options.onReady(join ?? backup);
  const gathering: Gathering = {
    ...options,
    folder,
    digest,
    backup,
    shards,
    items: divideItems(plan, shards),
  };
  await waitForParts(gathering);
  return takeParts(gathering);
}

interface Gathering extends Omit<ShareRowsOptions, 'plan'> {
  folder: ShardsFolder;
  backup: string;
  /** Of the plan that the shards must have worked by. */
  digest: string;
  shards: number;
  /** Of each shard, in order. */
  items: readonly Uint32Array[];
}

async function waitForParts(gathering: Gathering): Promise<void> {
  const { folder, shards, timeoutMs, items, reading } = gathering;
  const { plan, signal, onProgress } = reading;
  const missing = new Set(Array.from({ length: shards }, (_, index) => index + 1));
  const seenAt = new Map<number, number>();
  for (const shard of missing) seenAt.set(shard, Date.now());
  const complaints = new Complaints(gathering);
  let doneBytes = 0;
  for (let pauseMs = firstPauseMs; ; pauseMs = Math.min(pauseMs * pauseGrowth, longestPauseMs)) {
    throwIfAborted(signal);
    const present = await shardsAtWork(gathering);
    // After the sessions: a shard's is there until its part is done.
    const { done, failed } = await folder.look();
    const now = Date.now();
    for (const shard of [...missing]) {
      if (present.has(shard)) seenAt.set(shard, now);
      if (!done.has(shard)) continue;
      missing.delete(shard);
      doneBytes += bytesOf(plan, items[shard - 1]);
      onProgress(doneBytes, 0);
    }
    if (missing.size === 0) return;
    for (const attempt of failed) if (missing.has(attempt.shard)) await complaints.hear(attempt);
    const late = [...missing].filter(shard => now - (seenAt.get(shard) ?? 0) > timeoutMs);
    if (late.length > 0) throw missingShard(gathering, late, complaints);
    await sleep(pauseMs, undefined, { signal }).catch(() => undefined);
  }
}

async function takeParts(gathering: Gathering): Promise<SharedRows> {
  const { folder, shards, reading, onWarning } = gathering;
  const parts: ShardPart[] = [];
  for (let shard = 1; shard <= shards; shard++) parts.push(await folder.readPart(shard));
  const mismatches = parts.flatMap(part => part.mismatches);
  const damaged = new Set(parts.flatMap(part => part.damaged));
  for (const { warnings } of parts) for (const warning of warnings) onWarning(warning);
  for (const id of damaged) reading.store.distrust(id);
  const taken = new CollectedRanges(reading.plan, reading.store);
  const doubtful = new Set<number>();
  const ledger = new ShardLedger(reading.plan, shards);
  for (const part of parts) {
    throwIfAborted(reading.signal);
    // What was taken over from an earlier backup that turned out wrong, though by another shard, is worth nothing; nor is what
    // consists of a damaged segment, also when its contents were found there again.
    await new Part(gathering, part, ledger).takeOver(taken, (range, item) => {
      const isTakenOver = range.kind !== 'read';
      if (!(isTakenOver && mismatches.length > 0) && !consistsOf(range.entry, damaged)) return true;
      doubtful.add(item);
      return false;
    });
  }
  if (doubtful.size > 0) {
    const items = Uint32Array.from(doubtful).sort();
    await readItems({ ...reading, earlier: undefined, items }, () => ({
      // Of an item, some ranges may have been read before.
      take: async (origin, entry) => {
        if (!taken.has(origin.table, origin.range)) await taken.take(origin, entry);
      },
    }));
  }
  const traffic = parts.reduce((sum, part) => addTraffic(sum, part.traffic), noTraffic);
  return { taken, mismatches, traffic };
}

const noTraffic: Traffic = { requests: 0, sentBytes: 0, receivedBytes: 0 };

/** By their sessions, which every role can see. */
async function shardsAtWork({ monitor, backup, shards }: Gathering): Promise<Set<number>> {
  const rows = await queryRows(
    monitor,
    `SELECT application_name AS name FROM pg_catalog.pg_stat_activity WHERE datname = pg_catalog.current_database()`,
    'looking which shards are at work',
  );
  const names = new Set(rows.map(({ name }) => name));
  const all = Array.from({ length: shards }, (_, index) => index + 1);
  return new Set(all.filter(shard => names.has(shardSessionName(backup, shard, shards))));
}

/** What attempts at parts failed with. */
class Complaints {
  readonly #gathering: Gathering;
  readonly #heard = new Set<string>();
  readonly #last = new Map<number, PgkeepError>();
  /** Of each shard. */
  readonly #failures = new Map<number, number>();

  constructor(gathering: Gathering) {
    this.#gathering = gathering;
  }

  /** The one of a shard that was told last. */
  last(shard: number): PgkeepError | undefined {
    return this.#last.get(shard);
  }

  /** Tells of a failure, once. @throws PgkeepError SHARD_FAILED when the shard has failed often enough. */
  async hear(attempt: FailedAttempt): Promise<void> {
    const { shard, name } = attempt;
    if (this.#heard.has(name)) return;
    this.#heard.add(name);
    const { folder, shards, onWarning } = this.#gathering;
    const failure = await folder.readFailure(attempt);
    if (failure !== undefined) this.#last.set(shard, failure);
    const why = failure?.message ?? 'it does not say why';
    onWarning(
      `shard ${shard} of ${shards} failed: ${why}`,
      `begin it again: pgkeep create --shard ${shard}/${shards}; what it stored is used again`,
    );
    // One that was begun in the wrong place says nothing of this part.
    if (failure?.code === 'SHARD_MISMATCH') return;
    const failures = (this.#failures.get(shard) ?? 0) + 1;
    this.#failures.set(shard, failures);
    if (failures < maxAttempts) return;
    throw new PgkeepError(
      'SHARD_FAILED',
      `shard ${shard} of ${shards} failed ${failures} times, at last: ${why}`,
      {
        hint: failure?.hint ?? 'see to it, and begin all of them anew: what was stored is used again',
        context: { shards: [String(shard)] },
      },
    );
  }
}

function missingShard(
  { shards, timeoutMs }: Gathering,
  late: readonly number[],
  complaints: Complaints,
): PgkeepError {
  const [first = 0] = late;
  const failure = complaints.last(first);
  const which = late.length === 1 ? `shard ${first}` : `shards ${late.join(', ')}`;
  const seconds = Math.round(timeoutMs / 1000);
  return new PgkeepError(
    'SHARD_MISSING',
    failure === undefined
      ? `${which} of ${shards} did not come, or ended without a word, and nobody did that part for ${seconds} s`
      : `${which} of ${shards} failed, and nobody did that part again for ${seconds} s: ${failure.message}`,
    {
      hint:
        failure?.hint ??
        'see what became of that process; begin all of them anew, what was stored is used again; --shard-timeout gives them longer',
      context: { shards: late.map(String) },
    },
  );
}

/** Of tables, as on disk. */
export function bytesOf(plan: CopyPlan, items: Uint32Array = new Uint32Array()): number {
  let bytes = 0;
  for (const item of items) {
    for (const { table } of tasksOf(plan, item)) {
      const planned = plan.tables[table];
      bytes += (planned?.sizeBytes ?? 0) / (planned?.ranges || 1);
    }
  }
  return bytes;
}

/** What one shard tells. */
class Part {
  readonly #gathering: Gathering;
  readonly #part: ShardPart;
  readonly #ledger: ShardLedger;

  constructor(gathering: Gathering, part: ShardPart, ledger: ShardLedger) {
    this.#gathering = gathering;
    this.#part = part;
    this.#ledger = ledger;
  }

  /** @param isWanted asked for each range; the others are passed over. */
  async takeOver(taker: RangeTaker, isWanted: (range: ShardRange, item: number) => boolean): Promise<void> {
    const { digest, folder } = this.#gathering;
    const { shard } = this.#part;
    if (this.#part.plan !== digest) throw this.#incomplete('worked by another plan');
    for await (const ranges of folder.readRanges(this.#part)) {
      for (const range of ranges) {
        const item = this.#ledger.note(shard, range.table, range.range);
        if (item === undefined) {
          throw this.#incomplete(
            `told of range ${range.range} of ${this.#nameOf(range.table)}, which it had told of before or is not its part`,
          );
        }
        if (isWanted(range, item)) await taker.take(originOf(range), this.#entryOf(range));
      }
    }
    const left = this.#ledger.left(shard);
    if (left === 0) return;
    const table = this.#nameOf(this.#ledger.tableLeft(shard) ?? 0);
    throw this.#incomplete(`left out ${left} of its ranges, one of ${table} among them`);
  }

  /** With references of the run's own store, which knows the segments from now on. */
  #entryOf({ entry, stored }: ShardRange): RangeEntry {
    const { store } = this.#gathering.reading;
    const isNew = new Set(stored);
    let index = 0;
    const use = (slices: readonly Slice[]) =>
      slices.map(slice => {
        const keyId = this.#part.keys[slice.key] ?? null;
        return { ...slice, ...store.takeOver(slice, keyId, isNew.has(index++)) };
      });
    return {
      ...entry,
      slices: use(entry.slices),
      ...(entry.ctids && { ctids: use(entry.ctids) }),
      ...(entry.gone && { gone: use(entry.gone) }),
    };
  }

  #nameOf(table: number): string {
    return this.#gathering.reading.plan.tables[table]?.from ?? `table ${table}`;
  }

  #incomplete(what: string): PgkeepError {
    const { shard } = this.#part;
    return new PgkeepError('BACKUP_INCOMPLETE', `shard ${shard} of ${this.#gathering.shards} ${what}`, {
      hint: 'run again; when it happens again, report it with this message',
    });
  }
}

function originOf({ table, range, kind, added }: ShardRange): RangeOrigin {
  if (kind === 'delta') return { table, range, kind, added: added ?? { rows: 0, bytes: 0 } };
  return { table, range, kind };
}
