// What the processes that make one backup together leave for each other in the repository: the coordinator's plan, and
// the parts that the shards did. docs/decisions/shards.md has the protocol. Nothing in these objects is believed before
// it has been looked at: in a repository without encryption anybody may have written them.
import { createHash, randomBytes } from 'node:crypto';
import { type ErrorData, errorFromData, PgkeepError } from '../base/errors.ts';
import { decode, encode } from '../codec/codec.ts';
import { type DataKey, open, seal } from '../crypto/seal.ts';
import type { Storage } from '../storage/storage.ts';
import { isBackupId } from './backup-id.ts';
import {
  also,
  fields,
  isCount,
  isFlag,
  isText,
  isTime,
  listOf,
  matching,
  oneOf,
  optional,
  orNull,
  parseJson,
  type Shape,
} from './checked-json.ts';
import { unlessGone } from './garbage.ts';
import { joinName, shardsFolder } from './layout.ts';
import { isRangeEntry, type RangeEntry } from './manifest.ts';
import type { Repository } from './repository.ts';

/** A table whose rows the shards read. */
export interface ShardTable {
  oid: string;
  schema: string;
  name: string;
  columns: string[];
  sizeBytes: number;
  pages: number;
  isTraceable: boolean;
  rangePages: number;
  ranges: number;
  /** Whether its ranges may be built on those of the parent. */
  isBuiltOn: boolean;
}

export interface ShardPlan {
  format: 1;
  repository: string;
  backup: string;
  /** Processes of another version might divide the work in another way. */
  tool: string;
  /** How many shards there are. */
  shards: number;
  /** The coordinator's session that is there as long as it is. */
  coordinatorPid: number;
  /** What must be the same where a shard connects. */
  server: {
    systemIdentifier: string | null;
    timeline: string | null;
    versionNumber: number;
    startedAt: string;
    isStandby: boolean;
  };
  database: { oid: string; xmin: string; name: string };
  snapshot: { id: string; xids: string };
  /** Id of the data key; `null` without encryption. */
  key: string | null;
  compressionLevel: number;
  /** Until when what is stored is locked. */
  lockedUntil: string | null;
  encoding: string;
  tables: ShardTable[];
  /** The backup whose ranges are built on, and whether they are read all the same, to compare. */
  parent: string | null;
  isVerified: boolean;
  /** Backups whose segments are taken over without reading them. */
  known: string[];
}

/** A range that a shard did. */
export interface ShardRange {
  /** Its number in the plan. */
  table: number;
  range: number;
  kind: 'unread' | 'read' | 'delta';
  entry: RangeEntry;
  /** Of a delta: what is new. */
  added?: { rows: number; bytes: number };
  /** Which of its slices (text, ctids, gone, in this order) lie in segments that the shard stored. */
  stored: number[];
}

/** What a shard says at its end. */
export interface ShardPart {
  format: 1;
  backup: string;
  shard: number;
  /** SHA-256 of the plan's object. */
  plan: string;
  /** Names the pieces with the ranges. */
  attempt: string;
  pieces: number;
  ranges: number;
  /** Ids of the data keys that the ranges' slices refer to. */
  keys: string[];
  /** Where what was read is not what building on the parent would have given. */
  mismatches: string[];
  /** Segments of the parent that are damaged or missing. */
  damaged: string[];
  warnings: string[];
  traffic: { requests: number; sentBytes: number; receivedBytes: number };
}

/** A plan, and what tells it from any other. */
export interface FoundPlan {
  plan: ShardPlan;
  /** SHA-256 of its object. */
  digest: string;
}

/** An attempt at a part that failed. */
export interface FailedAttempt {
  shard: number;
  /** Of the object that says why. */
  name: string;
}

export const maxShards = 100;

/** How often a part may fail before the backup does: whoever restarts shards would go on for ever. */
export const maxAttempts = 3;

const hex64 = matching(/^[0-9a-f]{64}$/);
const keyId = matching(/^[0-9a-f]{32}$/);
const oid = matching(/^\d{1,10}$/);
const texts = listOf(isText);
const backupId = also<string>(isText, isBackupId);

/** So many that no server has them: what is planned takes memory. */
const maxRanges = 10_000_000;

const shardTable = also<ShardTable>(
  fields({
    oid,
    schema: isText,
    name: isText,
    columns: texts,
    sizeBytes: isCount,
    pages: isCount,
    isTraceable: isFlag,
    rangePages: isCount,
    ranges: also<number>(isCount, ranges => ranges <= maxRanges),
    isBuiltOn: isFlag,
  }),
  ({ pages, rangePages, ranges }) => ranges === (rangePages === 0 ? 1 : Math.ceil(pages / rangePages)),
);

const planShape = fields({
  format: oneOf(1),
  repository: isText,
  backup: backupId,
  tool: isText,
  shards: also<number>(isCount, shards => shards >= 1 && shards <= maxShards),
  coordinatorPid: isCount,
  server: fields({
    systemIdentifier: orNull(isText),
    timeline: orNull(isText),
    versionNumber: isCount,
    startedAt: isText,
    isStandby: isFlag,
  }),
  database: fields({ oid, xmin: matching(/^\d{1,20}$/), name: isText }),
  // These become part of statements.
  snapshot: fields({ id: matching(/^[0-9A-F-]{1,64}$/), xids: matching(/^[\d:,]+$/) }),
  encoding: matching(/^\w+$/),
  key: orNull(keyId),
  compressionLevel: isCount,
  lockedUntil: orNull(isTime),
  tables: also<ShardTable[]>(
    listOf(shardTable),
    tables => tables.reduce((sum, { ranges }) => sum + ranges, 0) <= maxRanges,
  ),
  parent: orNull(backupId),
  isVerified: isFlag,
  known: listOf(backupId),
});

const partShape = fields({
  format: oneOf(1),
  backup: backupId,
  shard: isCount,
  plan: hex64,
  attempt: matching(/^[0-9a-f]{16}$/),
  pieces: isCount,
  ranges: isCount,
  keys: listOf(keyId),
  mismatches: texts,
  damaged: listOf(hex64),
  warnings: texts,
  traffic: fields({ requests: isCount, sentBytes: isCount, receivedBytes: isCount }),
});

const rangesShape = listOf(
  fields({
    table: isCount,
    range: isCount,
    kind: oneOf('unread', 'read', 'delta'),
    entry: isRangeEntry,
    added: optional(fields({ rows: isCount, bytes: isCount })),
    stored: listOf(isCount),
  }),
);

const failureShape = fields({ code: isText, message: isText, hint: optional(isText) });
const joinShape = fields({ format: oneOf(1), backup: backupId });

/** The objects of one backup that is made in shards. */
export class ShardsFolder {
  readonly #repository: Repository;
  readonly #storage: Storage;
  readonly #backup: string;
  readonly #folder: string;
  readonly #planName: string;

  constructor(repository: Repository, backup: string) {
    this.#repository = repository;
    this.#storage = repository.storage;
    this.#backup = backup;
    this.#folder = shardsFolder(backup);
    this.#planName = planName(backup);
  }

  /** Stores the plan, which nobody replaces. @returns its digest. */
  async putPlan(plan: ShardPlan, key: DataKey | null): Promise<string> {
    const object = this.#seal(this.#planName, plan, key);
    await this.#storage.put(this.#planName, object, { ifAbsent: true });
    return digestOf(object);
  }

  /**
   * @returns `undefined` when there is none: not yet, or not any more.
   * @throws PgkeepError OBJECT_DAMAGED, REPOSITORY_MISMATCH.
   */
  async readPlan(): Promise<FoundPlan | undefined> {
    const name = this.#planName;
    const object = await unlessMissing(this.#storage.get(name), name);
    if (object === undefined) return undefined;
    const plan = (await this.#open(name, object, planShape)) as ShardPlan;
    if (plan.repository !== this.#repository.id || plan.backup !== this.#backup) {
      throw new PgkeepError('REPOSITORY_MISMATCH', `${name} belongs to another repository or backup`, {
        context: { object: name },
      });
    }
    return { plan, digest: digestOf(object) };
  }

  /** Stores some of the ranges that an attempt at a part did. */
  async putPiece(
    { shard, attempt }: Pick<ShardPart, 'shard' | 'attempt'>,
    piece: number,
    ranges: readonly ShardRange[],
    key: DataKey | null,
  ): Promise<void> {
    const name = this.#pieceName(shard, attempt, piece);
    await this.#storage.put(name, this.#seal(name, ranges, key));
  }

  /** Says that a part is done. Of several attempts the first one counts. */
  async putPart(part: ShardPart, key: DataKey | null): Promise<void> {
    const name = this.#partName(part.shard);
    await this.#storage.put(name, this.#seal(name, part, key), { ifAbsent: true });
  }

  /** Says why an attempt failed; one more each time, so that they can be counted. */
  async putFailure(shard: number, { code, message, hint }: ErrorData, key: DataKey | null): Promise<void> {
    const name = `${this.#folder}${shard}-${randomBytes(8).toString('hex')}.failed`;
    await this.#storage.put(name, this.#seal(name, { code, message, hint }, key));
  }

  /** Which parts are done, and which attempts at parts failed, the last one last. */
  async look(): Promise<{ done: Set<number>; failed: FailedAttempt[] }> {
    const done = new Set<number>();
    const failed: (FailedAttempt & { modified: Date })[] = [];
    for await (const { name, modified } of this.#storage.list(this.#folder)) {
      const match = /^(\d{1,3})(?:\.done|-[0-9a-f]{16}\.failed)$/.exec(name.slice(this.#folder.length));
      if (match === null) continue;
      const shard = Number(match[1]);
      if (name.endsWith('.done')) done.add(shard);
      else failed.push({ shard, name, modified });
    }
    failed.sort((a, b) => a.modified.getTime() - b.modified.getTime());
    return { done, failed };
  }

  /** @throws PgkeepError OBJECT_MISSING, OBJECT_DAMAGED. */
  async readPart(shard: number): Promise<ShardPart> {
    const name = this.#partName(shard);
    const part = (await this.#open(name, await this.#storage.get(name), partShape)) as ShardPart;
    if (part.backup !== this.#backup || part.shard !== shard) throw damaged(name, 'it is of another part');
    return part;
  }

  /** The error that an attempt told; `undefined` when it cannot be read. */
  async readFailure({ name }: FailedAttempt): Promise<PgkeepError | undefined> {
    const object = await unlessGone(this.#storage.get(name));
    const told = object && (await unlessGone(this.#open(name, object, failureShape)));
    return told === undefined ? undefined : errorFromData(told as ErrorData);
  }

  /** The ranges of a part, piece by piece. @throws PgkeepError OBJECT_MISSING, OBJECT_DAMAGED. */
  async *readRanges({ shard, attempt, pieces, keys }: ShardPart): AsyncIterable<ShardRange[]> {
    for (let piece = 0; piece < pieces; piece++) {
      const name = this.#pieceName(shard, attempt, piece);
      const ranges = (await this.#open(name, await this.#storage.get(name), rangesShape)) as ShardRange[];
      for (const { entry } of ranges) {
        const isKnown = [...entry.slices, ...(entry.ctids ?? []), ...(entry.gone ?? [])].every(
          ({ key }) => (key === -1) !== this.#repository.encrypted && key < keys.length,
        );
        if (!isKnown) throw damaged(name, 'it names keys that its part does not');
      }
      yield ranges;
    }
  }

  #partName(shard: number): string {
    return `${this.#folder}${shard}.done`;
  }

  #pieceName(shard: number, attempt: string, piece: number): string {
    return `${this.#folder}${shard}-${attempt}-${piece}`;
  }

  #seal(name: string, value: object, key: DataKey | null): Buffer {
    return seal(name, 'shard', key, encode(Buffer.from(JSON.stringify(value)), 6));
  }

  async #open(name: string, object: Buffer, shape: Shape): Promise<unknown> {
    const body = open(name, 'shard', await this.#repository.keyOf(name, object), object);
    return parseJson(name, decode(name, body), shape);
  }
}

/** What a token may be: a backup's id is one. */
export function isJoinToken(text: string): boolean {
  return /^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$/.test(text);
}

/** Has a token that somebody chose lead to a backup, instead of where it led before. */
export async function putJoin(storage: Storage, token: string, backup: string): Promise<void> {
  await storage.put(joinName(token), Buffer.from(`${JSON.stringify({ format: 1, backup })}\n`));
}

/** The backup that a token leads to; `undefined` when it leads nowhere. @throws PgkeepError OBJECT_DAMAGED. */
export async function readJoin(storage: Storage, token: string): Promise<string | undefined> {
  const name = joinName(token);
  const object = await unlessMissing(storage.get(name), name);
  return object && (parseJson(name, object, joinShape) as { backup: string }).backup;
}

/**
 * Removes all that is there for the shards of a backup alone.
 * @param token leads nowhere then, unless it leads to another backup by now.
 */
export async function removeShards(storage: Storage, backup: string, token?: string): Promise<void> {
  if (token !== undefined && (await unlessGone(readJoin(storage, token))) === backup)
    await storage.remove([joinName(token)]);
  const folder = shardsFolder(backup);
  const names: string[] = [];
  for await (const { name } of storage.list(folder)) names.push(name);
  // The plan first: who joins finds all of it, or nothing.
  const plan = planName(backup);
  if (names.length > 0) await storage.remove([plan]);
  await storage.remove(names.filter(name => name !== plan));
  await storage.removeFolder?.(folder);
}

function planName(backup: string): string {
  return `${shardsFolder(backup)}plan`;
}

function digestOf(object: Buffer): string {
  return createHash('sha256').update(object).digest('hex');
}

async function unlessMissing(reading: Promise<Buffer>, name: string): Promise<Buffer | undefined> {
  try {
    return await reading;
  } catch (error) {
    if (error instanceof PgkeepError && error.code === 'OBJECT_MISSING' && error.context.object === name)
      return undefined;
    throw error;
  }
}

function damaged(name: string, why: string): PgkeepError {
  return new PgkeepError('OBJECT_DAMAGED', `${name} is damaged: ${why}`, { context: { object: name } });
}
