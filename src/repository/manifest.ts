// The manifest: everything one backup consists of. Complete in itself: restoring needs no other backup.
// The fields are specified in docs/repository-format.md.

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

/** The rows of a run of pages, as COPY text in order. */
export interface RangeEntry {
  rows: number;
  bytes: number;
  slices: Slice[];
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
  /** Load through this table instead: partition keys whose hash differs between servers (enums). */
  loadVia?: { schema: string; name: string };
  /** The ranges, when there are few ... */
  ranges?: RangeEntry[];
  /** ... or the segments holding the table index: one JSON range per line. */
  index?: SegmentRef[];
}

export interface LeftOutEntry {
  schema: string;
  name: string;
  kind: string;
  reason: string;
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
  };
  database: {
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
  archive: { programVersion: string; bytes: number; segments: SegmentRef[] };
  /** Roles that the database needs. */
  roles: NeededRole[];
  extensions: { name: string; version: string; schema: string }[];
  globals: Globals | { missing: string };
  tables: TableEntry[];
  /** Partitioned tables: they have no rows of their own. */
  partitioned: Pick<TableEntry, 'oid' | 'schema' | 'name' | 'parents'>[];
  leftOut: LeftOutEntry[];
  newBytes: number;
  reusedBytes: number;
}

/** Tables with at most this many ranges carry them in the manifest; longer lists go into a table index. */
export const inlineRanges = 8;

/** One line per range, for a table index. */
export function formatRanges(ranges: readonly RangeEntry[]): string {
  return ranges.map(range => `${JSON.stringify(range)}\n`).join('');
}

export function parseRanges(text: string): RangeEntry[] {
  return text
    .split('\n')
    .filter(line => line !== '')
    .map(line => JSON.parse(line) as RangeEntry);
}
