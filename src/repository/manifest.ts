// The manifest: everything one backup consists of. Complete in itself: restoring needs no other backup.
// The fields are specified in docs/repository-format.md. Nothing in them is believed before it has been looked at: in a
// repository without encryption anybody may have written them.
import { PgkeepError } from '../base/errors.ts';
import {
  also,
  either,
  fields,
  isCount,
  isFlag,
  isText,
  isTime,
  isWhole,
  listOf,
  matching,
  oneOf,
  optional,
  orNull,
  parseJson,
} from './checked-json.ts';

/** A segment as a manifest or a table index names it. */
export interface SegmentRef {
  /** HMAC-SHA256 of the plain bytes under the repository secret, hex. */
  id: string;
  /** Index into the manifest's `keys`; -1 in a repository without encryption. */
  key: number;
  plainBytes: number;
  storedBytes: number;
}

/** A run of bytes inside one segment. */
export interface Slice extends SegmentRef {
  offset: number;
  bytes: number;
}

/** The rows of a run of pages, as COPY text. docs/decisions/incremental.md tells what the parts are for. */
export interface RangeEntry {
  /** Rows of the range: the lines of its text without those that are gone. */
  rows: number;
  /** Of the text, with the lines that are gone. */
  bytes: number;
  /** The text: the base's, in physical order, then that of each delta. */
  slices: Slice[];
  /** Where each line's row lay: a number list of ctids for the base, then one for each delta. */
  ctids?: Slice[];
  /** The lines that are not rows of the range any more: a number list, counted from 0. */
  gone?: Slice[];
  /** How much of it is the base's; there once there are deltas. */
  base?: RangeBase;
}

export interface RangeBase {
  rows: number;
  /** How many of the range's slices, and of its slices of ctids. */
  slices: number;
  ctids: number;
  /** The oldest transaction that had not ended when the base was last known to be whole: 64 bits. */
  xmin: string;
  /** How many follow, and how many lines they have together. */
  deltas: number;
  added: number;
}

/** Everything in the repository that a range consists of. */
export function slicesOf({ slices, ctids = [], gone = [] }: RangeEntry): Slice[] {
  return [...slices, ...ctids, ...gone];
}

export interface TableEntry {
  /** pg_class.oid in the source, by which the schema archive names the table. */
  oid: string;
  schema: string;
  name: string;
  /** Oids of the tables it inherits from or is a partition of. */
  parents: string[];
  /** Names in COPY order; generated columns are not among them. */
  columns: string[];
  rows: number;
  bytes: number;
  /** Pages of a range; 0 when the table was read as one range. Kept from backup to backup. */
  rangePages: number;
  /** What must be the same for a later backup to build on this one's ranges; not there where none can. */
  source?: RowSource;
  /** Load through this table instead: partition keys whose hash differs between servers (enums). */
  loadVia?: { schema: string; name: string };
  /** The ranges, when there are few ... */
  ranges?: RangeEntry[];
  /** ... or the segments holding the table index: one JSON range per line. */
  index?: SegmentRef[];
}

/** Where the rows of a table came from. */
export interface RowSource {
  /** pg_relation_filenode. */
  fileNode: string;
  /** A hash of all that decides what text a row is. */
  context: string;
}

export interface LeftOutEntry {
  /** Empty for what is not a relation. */
  schema: string;
  name: string;
  kind: string;
  reason: string;
  /** Nobody asked for it to be left out: the role may not read it, or what it needs. */
  missing?: true;
}

/** Page ranges that came into a backup in one way. */
export interface RangeShare {
  ranges: number;
  rows: number;
  /** Of text. */
  bytes: number;
}

/** How the rows came into a backup. */
export interface IncrementalFacts {
  /** The backup whose ranges this one built on. */
  parent: string | null;
  /** Why there is none. */
  withoutParent?: string;
  /** When everything was last read: in this backup, or in one that it builds on. */
  fullReadAt: string;
  /** Not read, as nothing in them had changed. */
  unread: RangeShare;
  /** Rows that are new in ranges whose other rows were taken over. */
  deltas: RangeShare;
  /** Read, and found in the repository. */
  equal: RangeShare;
  /** Read and stored. */
  stored: RangeShare;
}

/** A GRANT on the database itself. */
export interface DatabaseGrant {
  grantor: string;
  /** A role; `null` is PUBLIC. */
  grantee: string | null;
  privilege: string;
  isGrantable: boolean;
}

/** A role that the database's definitions name. */
export interface NeededRole {
  name: string;
  owns: boolean;
  /** Whether privileges name it, default privileges among them. */
  isGranted: boolean;
  /** Whether a policy or a user mapping names it: these cannot be restored without it. */
  isNamed: boolean;
}

export interface RoleEntry {
  name: string;
  /** The words of CREATE ROLE, such as LOGIN or CREATEDB. */
  attributes: string[];
  connectionLimit: number;
  validUntil: string | null;
  /** Only when asked for. */
  password?: string;
  comment: string | null;
  /** `name=value` as pg_db_role_setting holds them; for every database or for this one. */
  settings: { inThisDatabase: boolean; values: string[] }[];
}

export interface Globals {
  roles: RoleEntry[];
  memberships: {
    role: string;
    member: string;
    adminOption: boolean;
    inheritOption?: boolean;
    setOption?: boolean;
  }[];
}

export interface Manifest {
  format: 1;
  /** What a reader must know beyond format 1; an unknown entry is a refusal. */
  requires: string[];
  repository: string;
  backup: string;
  tool: string;
  server: {
    version: string;
    versionNumber: number;
    systemIdentifier: string | null;
    timeline: string | null;
    standby: boolean;
    /** pg_postmaster_start_time(), in seconds since 1970 with microseconds. */
    startedAt: string;
  };
  database: {
    oid: string;
    /** Of its row in pg_database, when that was written last. */
    xmin: string;
    name: string;
    encoding: string;
    collate: string;
    ctype: string;
    localeProvider: 'libc' | 'icu' | 'builtin';
    locale: string | null;
    /** Of an ICU locale, from 16 on. */
    icuRules: string | null;
    comment: string | null;
    settings: string[];
    owner: string;
    connectionLimit: number;
    /** `null` when nobody ever changed them. */
    privileges: DatabaseGrant[] | null;
  };
  snapshot: { id: string; xids: string; walPosition: string; walFlushed: boolean; takenAt: string };
  startedAt: string;
  finishedAt: string;
  options: {
    schemas: string[];
    excludeSchemas: string[];
    tables: string[];
    excludeTables: string[];
    excludeTableData: string[];
    schemaOnly: boolean;
  };
  /** Ids of the data keys that the backup's segments were sealed with. */
  keys: string[];
  /** A pg_dump custom-format archive: all that is not row data of the tables below. */
  archive: {
    programVersion: string;
    bytes: number;
    segments: SegmentRef[];
    /** Dump ids of entries to leave out of a restore: they need what is missing from the backup. */
    unrestorable?: number[];
  };
  /** Roles that the database needs. */
  roles: NeededRole[];
  extensions: { name: string; version: string; schema: string }[];
  globals: Globals | { missing: string };
  tables: TableEntry[];
  /** Partitioned tables: they have no rows of their own. */
  partitioned: Pick<TableEntry, 'oid' | 'schema' | 'name' | 'parents'>[];
  leftOut: LeftOutEntry[];
  incremental: IncrementalFacts;
  newBytes: number;
  reusedBytes: number;
  /** What the run had asked of the storage before it stored this. Missing from the first backups. */
  traffic?: { requests: number; sentBytes: number; receivedBytes: number };
  /** As in the metadata, where anybody can change them. Missing from the first backups. */
  tags?: string[];
  reason?: string | null;
}

/** `schema.name`, not quoted; the name alone for what is not a relation. */
export function leftOutLabel({ schema, name }: Pick<LeftOutEntry, 'schema' | 'name'>): string {
  return schema === '' ? name : `${schema}.${name}`;
}

/** Tables with at most this many ranges carry them in the manifest; longer lists go into a table index. */
export const inlineRanges = 8;
/** And of these at most so many slices. */
export const inlineSlices = 32;

/** The ranges of a table in their order: an array of them, or a list that makes them when they are asked for. */
export interface Ranges extends Iterable<RangeEntry> {
  readonly length: number;
  at(index: number): RangeEntry | undefined;
}

/**
 * A table index, line by line: the keys, then one line per range. It has a list of keys of its own, so that that of a table in
 * which nothing changed is the same in every backup.
 * @param ranges gone through twice.
 * @param keys the manifest's, which the ranges refer to.
 */
export function* formatRanges(
  ranges: Iterable<RangeEntry>,
  keys: readonly string[],
): Generator<string, void> {
  const own = new Map<string, number>();
  for (const range of ranges) {
    for (const { key } of slicesOf(range)) {
      const id = keys[key];
      if (id !== undefined && !own.has(id)) own.set(id, own.size);
    }
  }
  yield `${JSON.stringify({ keys: [...own.keys()] })}\n`;
  const numberOf = (key: number): number => own.get(keys[key] ?? '') ?? -1;
  for (const range of ranges) yield `${JSON.stringify(withKeys(range, numberOf))}\n`;
}

/** The range with other numbers for its keys. */
function withKeys(range: RangeEntry, numberOf: (key: number) => number): RangeEntry {
  const renumber = (slices: Slice[]) => slices.map(slice => ({ ...slice, key: numberOf(slice.key) }));
  return {
    ...range,
    slices: renumber(range.slices),
    ...(range.ctids && { ctids: renumber(range.ctids) }),
    ...(range.gone && { gone: renumber(range.gone) }),
  };
}

const lineFeed = 0x0a;
const xid = matching(/^\d{1,20}$/);
const hex64 = matching(/^[0-9a-f]{64}$/);
const oid = matching(/^\d{1,10}$/);
const texts = listOf(isText);
/** Of what a reader must know; unknown ones stand in messages. */
const featureName = matching(/^[\w.-]{1,64}$/);
const named = { schema: isText, name: isText };
/** No segment and no manifest has more plain bytes; decoding refuses them too. */
export const maxPlainBytes = 64 * 1024 * 1024;

const segmentRef = {
  id: hex64,
  key: also<number>(isWhole, key => key >= -1),
  plainBytes: also<number>(isCount, bytes => bytes <= maxPlainBytes),
  storedBytes: isCount,
};

const slice = also<Slice>(
  fields({ ...segmentRef, offset: isCount, bytes: isCount }),
  ({ offset, bytes, plainBytes }) => offset + bytes <= plainBytes,
);

const indexHead = fields({ keys: listOf(matching(/^[0-9a-f]{32}$/)) });

/** Whether a value of JSON is a {@link RangeEntry}. */
export const isRangeEntry = also<RangeEntry>(
  fields({
    rows: isCount,
    bytes: isCount,
    slices: listOf(slice),
    ctids: optional(listOf(slice)),
    gone: optional(listOf(slice)),
    base: optional(
      fields({ rows: isCount, slices: isCount, ctids: isCount, xmin: xid, deltas: isCount, added: isCount }),
    ),
  }),
  // A row is a line, so it has a byte at least.
  ({ rows, bytes, slices, ctids = [], base }) =>
    rows <= bytes &&
    bytes === sum(slices, ({ bytes: part }) => part) &&
    (base === undefined || (base.slices <= slices.length && base.ctids <= ctids.length)),
);

const tableEntry = also<TableEntry>(
  fields({
    oid,
    ...named,
    parents: listOf(oid),
    columns: texts,
    rows: isCount,
    bytes: isCount,
    rangePages: isCount,
    source: optional(fields({ fileNode: oid, context: isText })),
    loadVia: optional(fields(named)),
    ranges: optional(listOf(isRangeEntry)),
    index: optional(listOf(fields(segmentRef))),
  }),
  table =>
    (table.ranges === undefined) !== (table.index === undefined) &&
    (!table.ranges || holds(table, table.ranges)),
);

const roleEntry = fields({
  name: isText,
  // These become part of a statement as they are.
  attributes: listOf(matching(/^[A-Z]+$/)),
  connectionLimit: isWhole,
  validUntil: orNull(isText),
  password: optional(isText),
  comment: orNull(isText),
  settings: listOf(fields({ inThisDatabase: isFlag, values: texts })),
});

const globals = either(
  fields({ missing: isText }),
  fields({
    roles: listOf(roleEntry),
    memberships: listOf(
      fields({
        role: isText,
        member: isText,
        adminOption: isFlag,
        inheritOption: optional(isFlag),
        setOption: optional(isFlag),
      }),
    ),
  }),
);

const database = fields({
  oid,
  xmin: xid,
  name: isText,
  // Part of a statement as it is.
  encoding: matching(/^\w+$/),
  collate: isText,
  ctype: isText,
  localeProvider: oneOf('libc', 'icu', 'builtin'),
  locale: orNull(isText),
  icuRules: orNull(isText),
  comment: orNull(isText),
  settings: texts,
  owner: isText,
  connectionLimit: isWhole,
  privileges: orNull(
    listOf(
      fields({
        grantor: isText,
        grantee: orNull(isText),
        privilege: matching(/^[A-Z ]+$/),
        isGrantable: isFlag,
      }),
    ),
  ),
});

const share = fields({ ranges: isCount, rows: isCount, bytes: isCount });

const manifestShape = also<Manifest>(
  fields({
    repository: isText,
    backup: isText,
    tool: isText,
    server: fields({
      version: isText,
      versionNumber: isCount,
      systemIdentifier: orNull(isText),
      timeline: orNull(isText),
      standby: isFlag,
      startedAt: isText,
    }),
    database,
    snapshot: fields({ id: isText, xids: isText, walPosition: isText, walFlushed: isFlag, takenAt: isTime }),
    startedAt: isTime,
    finishedAt: isTime,
    options: fields({
      schemas: texts,
      excludeSchemas: texts,
      tables: texts,
      excludeTables: texts,
      excludeTableData: texts,
      schemaOnly: isFlag,
    }),
    keys: listOf(matching(/^[0-9a-f]{32}$/)),
    archive: also<Manifest['archive']>(
      fields({
        programVersion: isText,
        bytes: isCount,
        segments: listOf(fields(segmentRef)),
        unrestorable: optional(listOf(isCount)),
      }),
      ({ bytes, segments }) => bytes === sum(segments, segment => segment.plainBytes),
    ),
    roles: listOf(fields({ name: isText, owns: isFlag, isGranted: isFlag, isNamed: isFlag })),
    extensions: listOf(fields({ name: isText, version: isText, schema: isText })),
    globals,
    tables: listOf(tableEntry),
    partitioned: listOf(fields({ oid, ...named, parents: listOf(oid) })),
    leftOut: listOf(fields({ ...named, kind: isText, reason: isText, missing: optional(oneOf(true)) })),
    incremental: fields({
      parent: orNull(isText),
      withoutParent: optional(isText),
      fullReadAt: isTime,
      unread: share,
      deltas: share,
      equal: share,
      stored: share,
    }),
    newBytes: isCount,
    reusedBytes: isCount,
    traffic: optional(fields({ requests: isCount, sentBytes: isCount, receivedBytes: isCount })),
    tags: optional(texts),
    reason: optional(orNull(isText)),
  }),
  manifest => inlineRefs(manifest).every(({ key }) => key < manifest.keys.length),
);

/**
 * The manifest that an object's plain bytes are.
 * @throws PgkeepError OBJECT_DAMAGED, naming the field; REPOSITORY_UNSUPPORTED when it needs what is not known here.
 */
export function parseManifest(name: string, plain: Buffer): Manifest {
  const value = parseJson(name, plain, fields({ format: isWhole, requires: listOf(featureName) }));
  const { format, requires } = value as Pick<Manifest, 'requires'> & { format: number };
  if (format !== 1 || requires.length > 0) {
    throw new PgkeepError(
      'REPOSITORY_UNSUPPORTED',
      `${name} needs what this version does not know: ${format !== 1 ? `format ${format}` : requires.join(', ')}`,
      { hint: 'use a newer pgkeep' },
    );
  }
  const wrong = manifestShape(value);
  if (wrong !== undefined)
    throw damaged(name, wrong === '' ? 'its parts do not fit together' : `its field ${wrong}`);
  return value as Manifest;
}

/**
 * The ranges in a table's index, one after the other: what of the index is in memory is the piece that is being read.
 * @param pieces the index, cut anywhere; not looked at any more once the next one is asked for.
 * @param keys the manifest's.
 * @throws PgkeepError OBJECT_DAMAGED when it is none; at its end, when it is not that of the table.
 */
export async function* parseRanges(
  table: TableEntry,
  pieces: AsyncIterable<Buffer> | Iterable<Buffer>,
  keys: readonly string[],
): AsyncGenerator<RangeEntry, void> {
  const name = `the index of table ${table.schema}.${table.name}`;
  const numbers = new Map(keys.map((id, number) => [id, number]));
  let own: string[] | undefined;
  const numberOf = (key: number): number => {
    if (key === -1) return -1;
    const number = numbers.get(own?.[key] ?? '');
    if (number === undefined) throw damaged(name, 'it names a key that the backup does not');
    return number;
  };
  const parse = (line: Buffer): RangeEntry | undefined => {
    if (own !== undefined) return withKeys(parseJson(name, line, isRangeEntry) as RangeEntry, numberOf);
    own = (parseJson(name, line, indexHead) as { keys: string[] }).keys;
    return undefined;
  };
  let rows = 0;
  let bytes = 0;
  /** Of a line that goes on in the next piece. */
  let begun: Buffer[] = [];
  for await (const piece of pieces) {
    let start = 0;
    for (let end = piece.indexOf(lineFeed); end >= 0; end = piece.indexOf(lineFeed, start)) {
      const rest = piece.subarray(start, end);
      const range = parse(begun.length === 0 ? rest : Buffer.concat([...begun, rest]));
      begun = [];
      start = end + 1;
      if (range === undefined) continue;
      rows += range.rows;
      bytes += range.bytes;
      yield range;
    }
    // A copy, as the piece may be gone by the time that the line goes on.
    if (start < piece.length) begun.push(Buffer.from(piece.subarray(start)));
  }
  if (begun.length > 0) throw damaged(name, 'its end is missing');
  if (rows !== table.rows || bytes !== table.bytes) throw damaged(name, 'it does not add up to the table');
}

function holds(table: TableEntry, ranges: readonly RangeEntry[]): boolean {
  return table.rows === sum(ranges, range => range.rows) && table.bytes === sum(ranges, range => range.bytes);
}

/** The segments that the manifest itself names; those in table indexes are not among them. */
function inlineRefs({ archive, tables }: Manifest): SegmentRef[] {
  return [
    ...archive.segments,
    ...tables.flatMap(({ ranges = [], index = [] }) => [...index, ...ranges.flatMap(slicesOf)]),
  ];
}

function sum<T>(items: readonly T[], value: (item: T) => number): number {
  return items.reduce((total, item) => total + value(item), 0);
}

function damaged(name: string, why: string): PgkeepError {
  return new PgkeepError('OBJECT_DAMAGED', `${name} is damaged: ${why}`, { context: { object: name } });
}
