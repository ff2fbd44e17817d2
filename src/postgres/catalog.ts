// What the database holds, read from its catalog: the relations a backup must account for, and facts about the
// server and the database.
import { isUtf8 } from 'node:buffer';
import type pg from 'pg';
import { PgkeepError } from '../base/errors.ts';
import { queryRows, type TextRow } from './client.ts';
import { quoteLiteral } from './identifiers.ts';
import { schemaCondition, tableCondition, unreadablePattern } from './pattern.ts';

/** Which relations to take, by patterns as in pg_dump. */
export interface Selection {
  schemas: readonly string[];
  excludeSchemas: readonly string[];
  tables: readonly string[];
  excludeTables: readonly string[];
  excludeTableData: readonly string[];
}

/** pg_class.relkind: table, partitioned table, view, materialized view, foreign table, sequence. */
export type RelationKind = 'r' | 'p' | 'v' | 'm' | 'f' | 'S';

export const relationKindNames: Record<RelationKind, string> = {
  r: 'table',
  p: 'partitioned table',
  v: 'view',
  m: 'materialized view',
  f: 'foreign table',
  S: 'sequence',
};

export interface Relation {
  oid: string;
  schema: string;
  name: string;
  kind: RelationKind;
  isUnlogged: boolean;
  isHeap: boolean;
  /** The extension it belongs to. */
  extension: string | null;
  /** Whether it holds configuration of its extension, which pg_dump takes along. */
  isConfiguration: boolean;
  /** Whether the patterns take it, and whether they take its rows. */
  isSelected: boolean;
  isDataSelected: boolean;
  canRead: boolean;
  /** Whether the role may lock it ACCESS SHARE, without which pg_dump cannot even define it. */
  canLock: boolean;
  /** Whether row-level security would hide rows from this role. */
  hidesRows: boolean;
  /** Main fork, in pages of the server's block size; 0 until {@link readSizes} has filled it in. */
  pages: number;
  /** With what is in TOAST, without indexes; filled in likewise. */
  sizeBytes: number;
  /** Those of a table whose values are stored; empty until {@link readDetails} has filled it in, like the next two. */
  columns: string[];
  /** Where its rows are to be loaded, when that is not itself. */
  loadVia: { schema: string; name: string } | null;
  /** Oids of the tables it inherits from or is a partition of. */
  parents: string[];
  /** Of a sequence: the table whose column it belongs to. */
  owner: { oid: string; isIdentity: boolean } | null;
  /** What a backup leaves out of it because the role may not read it; only where that was asked for. */
  missing: { lacks: 'definition' | 'rows'; reason: string } | null;
}

export interface ServerFacts {
  version: string;
  versionNumber: number;
  systemIdentifier: string | null;
  timeline: string | null;
  isStandby: boolean;
  /** When it was started, in seconds since 1970 with microseconds. */
  startedAt: string;
}

export interface DatabaseFacts {
  oid: string;
  /** The transaction that made its row in pg_database: another one's database may have the same oid. */
  xmin: string;
  name: string;
  encoding: string;
  collate: string;
  ctype: string;
  localeProvider: 'libc' | 'icu' | 'builtin';
  locale: string | null;
  icuRules: string | null;
  comment: string | null;
  settings: string[];
  owner: string;
  connectionLimit: number;
  privileges: DatabasePrivilege[] | null;
}

export interface DatabasePrivilege {
  grantor: string;
  /** `null` is PUBLIC. */
  grantee: string | null;
  privilege: string;
  isGrantable: boolean;
}

/** A role that the database's definitions name, and as what. */
export interface NeededRole {
  name: string;
  owns: boolean;
  isGranted: boolean;
  /** By a policy or a user mapping, which cannot do without it. */
  isNamed: boolean;
}

const sqlstates = { invalidRegularExpression: '2201B', invalidByteSequence: '22021' };

const allKinds = Object.keys(relationKindNames) as RelationKind[];

/**
 * Every relation outside the system's own schemas, as the connection's current snapshot sees it.
 * @param kinds those that are wanted.
 * @throws PgkeepError DATABASE_QUERY, for instance for a pattern that is no regular expression.
 */
export async function readRelations(
  client: pg.Client,
  selection: Selection,
  kinds: readonly RelationKind[] = allKinds,
): Promise<Relation[]> {
  const relations = (await readNames(client, relationsQuery(selection, kinds))).map(toRelation);
  const selected = new Set(relations.filter(relation => relation.isSelected).map(relation => relation.oid));
  for (const relation of relations) {
    // As pg_dump: a sequence goes with the table that owns it, and one of an identity column never without it.
    if (relation.owner === null) continue;
    if (selected.has(relation.owner.oid)) relation.isSelected = true;
    else if (relation.owner.isIdentity) relation.isSelected = false;
  }
  return relations;
}

/** Fills in columns, parents and `loadVia`, which take the server longer than all the rest. @throws as {@link readRelations}. */
export async function readDetails(client: pg.Client, relations: readonly Relation[]): Promise<void> {
  const rows = await readNames(client, detailsQuery(relations));
  const byOid = new Map(rows.map(row => [row.oid, row]));
  for (const relation of relations) {
    const row = byOid.get(relation.oid);
    if (row === undefined) throw gone(relation);
    const via = row.load_via ? (JSON.parse(row.load_via) as [string, string]) : null;
    relation.columns = row.columns ? (JSON.parse(row.columns) as string[]) : [];
    relation.parents = row.parents ? (JSON.parse(row.parents) as string[]) : [];
    relation.loadVia = via && { schema: via[0], name: via[1] };
    requireUtf8(relation, relation.columns);
  }
}

/** @throws PgkeepError DATABASE_QUERY naming what has a name that is not UTF-8; a transaction is rolled back then. */
async function readNames(client: pg.Client, sql: string): Promise<TextRow[]> {
  try {
    return await queryRows(client, sql, 'reading the catalog');
  } catch (error) {
    const isBadName =
      error instanceof PgkeepError && error.context.sqlstate === sqlstates.invalidByteSequence;
    throw isBadName ? await badNameError(client, error) : error;
  }
}

/**
 * Fills in the sizes of tables, which must be locked by this session: asking for the size of a table that somebody
 * else has locked would wait for that lock, without limit.
 */
export async function readSizes(client: pg.Client, tables: readonly Relation[]): Promise<void> {
  // Only of what holds rows: each further file that is asked for takes as long as reading a small table.
  const rows = await queryRows(
    client,
    `SELECT oid, heap / current_setting('block_size')::int AS pages, heap + coalesce(toast, 0) AS size
     FROM (SELECT c.oid, pg_catalog.pg_relation_size(c.oid) AS heap, pg_catalog.pg_relation_size(nullif(c.reltoastrelid, 0)::regclass) AS toast
           FROM ${oidsOf(tables)} JOIN pg_catalog.pg_class c ON c.oid = t.oid OFFSET 0) AS sizes`,
    'reading the sizes of the tables',
  );
  const byOid = new Map(rows.map(row => [row.oid, row]));
  for (const table of tables) {
    const row = byOid.get(table.oid);
    if (row === undefined) throw gone(table);
    table.pages = Number(row.pages);
    table.sizeBytes = Number(row.size);
  }
}

/** The snapshot or a lock keeps them: without columns or pages, rows would be left out without a word. */
function gone({ schema, name }: Relation): PgkeepError {
  return new PgkeepError(
    'INTERNAL',
    `${schema}.${name} is not in the catalog any more, though it was before`,
  );
}

/**
 * The patterns among those that take something which match nothing at all.
 * @throws PgkeepError OPTION_INVALID for a pattern that the server cannot read.
 */
export async function patternsWithoutMatch(client: pg.Client, selection: Selection): Promise<string[]> {
  const schemas = [...selection.schemas, ...selection.excludeSchemas].map(pattern => ({
    pattern,
    sql: `SELECT 1 FROM pg_catalog.pg_namespace n WHERE ${schemaCondition(pattern)}`,
  }));
  const tables = [...selection.tables, ...selection.excludeTables, ...selection.excludeTableData].map(
    pattern => ({
      pattern,
      sql: `SELECT 1 FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
            WHERE c.relkind IN ('r','p','v','m','f','S') AND ${tableCondition(pattern)}`,
    }),
  );
  // As with pg_dump --strict-names: what is to be left out may well not be there.
  const mustMatch = new Set([...selection.schemas, ...selection.tables]);
  const missing: string[] = [];
  for (const { pattern, sql } of [...schemas, ...tables]) {
    try {
      const [row] = await queryRows(client, `SELECT EXISTS (${sql}) AS found`, `looking for ${pattern}`);
      if (row?.found !== 't' && mustMatch.has(pattern)) missing.push(pattern);
    } catch (error) {
      if (!(error instanceof PgkeepError) || error.context.sqlstate !== sqlstates.invalidRegularExpression)
        throw error;
      throw unreadablePattern(pattern);
    }
  }
  return missing;
}

export async function readServerFacts(client: pg.Client): Promise<ServerFacts> {
  const [row] = await queryRows(
    client,
    `SELECT current_setting('server_version') AS version, current_setting('server_version_num') AS number,
            pg_catalog.pg_is_in_recovery() AS standby,
            extract(epoch FROM pg_catalog.pg_postmaster_start_time())::numeric(20,6)::text AS started`,
    'asking the server for its version',
  );
  const isStandby = row?.standby === 't';
  return {
    version: row?.version ?? '',
    versionNumber: Number(row?.number),
    // Providers may forbid these two; a backup does not depend on them.
    systemIdentifier: await readIfAllowed(
      client,
      'SELECT system_identifier::text AS value FROM pg_catalog.pg_control_system()',
    ),
    timeline: await readIfAllowed(
      client,
      isStandby
        ? "SELECT lpad(upper(to_hex(timeline_id)), 8, '0') AS value FROM pg_catalog.pg_control_checkpoint()"
        : 'SELECT substr(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()), 1, 8) AS value',
    ),
    isStandby,
    startedAt: text(row?.started),
  };
}

export async function readDatabaseFacts(client: pg.Client, server: ServerFacts): Promise<DatabaseFacts> {
  const provider = server.versionNumber >= 150000 ? 'd.datlocprovider' : "'c'";
  const icuRules = server.versionNumber >= 160000 ? 'd.daticurules' : 'NULL';
  let locale = 'NULL';
  if (server.versionNumber >= 170000) locale = 'd.datlocale';
  else if (server.versionNumber >= 150000) locale = 'd.daticulocale';
  const [row] = await queryRows(
    client,
    `SELECT d.oid, d.xmin, d.datname AS name, pg_catalog.pg_encoding_to_char(d.encoding) AS encoding, d.datcollate AS collate, d.datctype AS ctype,
            ${provider} AS provider, ${locale} AS locale, ${icuRules} AS icu_rules, d.datconnlimit AS connection_limit,
            pg_catalog.pg_get_userbyid(d.datdba) AS owner,
            CASE WHEN d.datacl IS NOT NULL THEN (
              SELECT coalesce(pg_catalog.json_agg(pg_catalog.json_build_object(
                'grantor', pg_catalog.pg_get_userbyid(a.grantor),
                'grantee', CASE WHEN a.grantee <> 0 THEN pg_catalog.pg_get_userbyid(a.grantee) END,
                'privilege', a.privilege_type, 'isGrantable', a.is_grantable)), '[]')
              FROM pg_catalog.aclexplode(d.datacl) a)::text END AS privileges,
            pg_catalog.shobj_description(d.oid, 'pg_database') AS comment,
            (SELECT pg_catalog.to_json(s.setconfig) FROM pg_catalog.pg_db_role_setting s
             WHERE s.setdatabase = d.oid AND s.setrole = 0)::text AS settings
     FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()`,
    'reading the properties of the database',
  );
  if (row === undefined) throw new PgkeepError('INTERNAL', 'the current database is not in pg_database');
  const providers = { c: 'libc', i: 'icu', b: 'builtin' } as const;
  return {
    oid: text(row.oid),
    xmin: text(row.xmin),
    name: text(row.name),
    encoding: text(row.encoding),
    collate: text(row.collate),
    ctype: text(row.ctype),
    localeProvider: providers[(row.provider ?? 'c') as keyof typeof providers],
    locale: row.locale ?? null,
    icuRules: row.icu_rules ?? null,
    comment: row.comment ?? null,
    settings: row.settings ? (JSON.parse(row.settings) as string[]) : [],
    owner: text(row.owner),
    connectionLimit: Number(row.connection_limit),
    privileges: row.privileges ? (JSON.parse(row.privileges) as DatabasePrivilege[]) : null,
  };
}

/** The roles that definitions in this database name; the server's first superuser is never among them. */
export async function readNeededRoles(client: pg.Client): Promise<NeededRole[]> {
  // Default privileges have an owner too: the role whose new objects they are for.
  const rows = await queryRows(
    client,
    `SELECT r.rolname AS name,
       bool_or(s.deptype = 'o' AND s.classid NOT IN ('pg_catalog.pg_default_acl'::regclass, 'pg_catalog.pg_user_mapping'::regclass)) AS owns,
       bool_or(s.deptype IN ('a', 'i') OR s.classid = 'pg_catalog.pg_default_acl'::regclass) AS granted,
       bool_or(s.deptype = 'r' OR s.classid = 'pg_catalog.pg_user_mapping'::regclass) AS named
     FROM pg_catalog.pg_shdepend s JOIN pg_catalog.pg_roles r ON r.oid = s.refobjid
     WHERE s.refclassid = 'pg_catalog.pg_authid'::regclass
       AND s.dbid = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())
     GROUP BY 1 ORDER BY 1`,
    'reading which roles the database needs',
  );
  return rows.map(row => ({
    name: text(row.name),
    owns: row.owns === 't',
    isGranted: row.granted === 't',
    isNamed: row.named === 't',
  }));
}

/**
 * How many large objects the database has, what they take on its disk, how many of them this role may not read, and the oids of
 * the first of those.
 */
export async function readLargeObjects(
  client: pg.Client,
  versionNumber: number,
): Promise<{ count: number; sizeBytes: number; unreadableCount: number; unreadable: string[] }> {
  const isReadable =
    versionNumber >= 180000
      ? "pg_catalog.has_largeobject_privilege(m.oid, 'SELECT')"
      : `(pg_catalog.pg_has_role(m.lomowner, 'USAGE') OR EXISTS (
           SELECT 1 FROM pg_catalog.aclexplode(m.lomacl) a WHERE a.privilege_type = 'SELECT'
             AND (a.grantee = 0 OR pg_catalog.pg_has_role(a.grantee, 'USAGE'))))`;
  const [all] = await queryRows(
    client,
    `SELECT count(*) AS count, pg_catalog.pg_relation_size('pg_catalog.pg_largeobject') AS bytes
     FROM pg_catalog.pg_largeobject_metadata`,
    'counting the large objects',
  );
  const unreadable = await queryRows(
    client,
    `SELECT m.oid, count(*) OVER () AS all FROM pg_catalog.pg_largeobject_metadata m
     WHERE NOT (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user) AND NOT ${isReadable} LIMIT 20`,
    'reading the privileges of the large objects',
  );
  return {
    count: Number(all?.count ?? 0),
    sizeBytes: Number(all?.bytes ?? 0),
    unreadableCount: Number(unreadable[0]?.all ?? 0),
    unreadable: unreadable.map(row => text(row.oid)),
  };
}

export async function readExtensions(
  client: pg.Client,
): Promise<{ name: string; version: string; schema: string }[]> {
  const rows = await queryRows(
    client,
    `SELECT e.extname AS name, e.extversion AS version, n.nspname AS schema
     FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace ORDER BY 1`,
    'reading the extensions',
  );
  return rows.map(row => ({ name: text(row.name), version: text(row.version), schema: text(row.schema) }));
}

/** The one value a query gives, as `value`; `null` when the server does not tell. */
export async function readIfAllowed(client: pg.Client, sql: string): Promise<string | null> {
  try {
    return (await queryRows(client, sql, 'asking the server for its identity'))[0]?.value ?? null;
  } catch (error) {
    const mayBeForbidden =
      error instanceof PgkeepError && ['DATABASE_PRIVILEGE', 'DATABASE_QUERY'].includes(error.code);
    if (mayBeForbidden) return null;
    throw error;
  }
}

function anyOf(patterns: readonly string[], condition: (pattern: string) => string): string {
  return patterns.length === 0 ? 'false' : `(${patterns.map(condition).join(' OR ')})`;
}

/** As pg_dump decides: --table overrides --schema, exclusions come last, the system's schemas are never taken. */
function selectedCondition(selection: Selection): string {
  const included =
    selection.tables.length > 0
      ? anyOf(selection.tables, tableCondition)
      : `(${selection.schemas.length > 0 ? anyOf(selection.schemas, schemaCondition) : 'true'}
         AND NOT ${anyOf(selection.excludeSchemas, schemaCondition)})`;
  return `(${included} AND NOT ${anyOf(selection.excludeTables, tableCondition)})`;
}

function detailsQuery(relations: readonly Relation[]): string {
  return `
    WITH unsafe AS (
      -- Hash partitioning of an enum depends on the oids of its labels, which differ between databases
      -- (the same test as pg_dump's).
      SELECT partrelid FROM pg_catalog.pg_partitioned_table
      WHERE (SELECT o.oid FROM pg_catalog.pg_opclass o JOIN pg_catalog.pg_am a ON a.oid = o.opcmethod
             WHERE o.opcname = 'enum_ops' AND o.opcnamespace = 'pg_catalog'::regnamespace AND a.amname = 'hash') = ANY (partclass)
    )
    SELECT c.oid,
      CASE WHEN c.relkind = 'r' THEN (
        SELECT pg_catalog.json_agg(a.attname ORDER BY a.attnum)::text FROM pg_catalog.pg_attribute a
        WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '') END AS columns,
      (SELECT pg_catalog.json_agg(i.inhparent::text)::text FROM pg_catalog.pg_inherits i WHERE i.inhrelid = c.oid) AS parents,
      (SELECT pg_catalog.json_build_array(rn.nspname, r.relname)::text
       FROM pg_catalog.pg_class r JOIN pg_catalog.pg_namespace rn ON rn.oid = r.relnamespace
       WHERE c.relispartition AND r.oid = pg_catalog.pg_partition_root(c.oid)
         AND EXISTS (SELECT 1 FROM pg_catalog.pg_partition_ancestors(c.oid) p JOIN unsafe u ON u.partrelid = p.relid)) AS load_via
    FROM ${oidsOf(relations)} JOIN pg_catalog.pg_class c ON c.oid = t.oid`;
}

/** As an item of FROM: `t.oid`. */
function oidsOf(relations: readonly Relation[]): string {
  return `unnest(ARRAY[${relations.map(({ oid }) => oid).join(',')}]::oid[]) AS t(oid)`;
}

function relationsQuery(selection: Selection, kinds: readonly RelationKind[]): string {
  return `
    SELECT c.oid, n.nspname AS schema, c.relname AS name, c.relkind AS kind, c.relpersistence = 'u' AS unlogged,
      coalesce(am.amname = 'heap', false) AS heap, member.extname AS extension,
      EXISTS (SELECT 1 FROM pg_catalog.pg_extension e WHERE c.oid = ANY (e.extconfig)) AS configuration,
      ${selectedCondition(selection)} AS selected,
      NOT ${anyOf(selection.excludeTableData, tableCondition)} AS data_selected,
      -- Null for what has been dropped since: it is not there to be read, but nobody forbids it.
      coalesce(pg_catalog.has_schema_privilege(n.oid, 'USAGE') AND
        CASE c.relkind WHEN 'S' THEN pg_catalog.has_sequence_privilege(c.oid, 'SELECT')
                       ELSE pg_catalog.has_table_privilege(c.oid, 'SELECT') END, true) AS readable,
      -- From 16 on other privileges than SELECT allow this lock too.
      coalesce(pg_catalog.has_schema_privilege(n.oid, 'USAGE') AND c.relkind IN ('r', 'p') AND pg_catalog.has_table_privilege(c.oid,
        (SELECT CASE WHEN current_setting('server_version_num')::int >= 170000 THEN 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE, MAINTAIN'
                     WHEN current_setting('server_version_num')::int >= 160000 THEN 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE'
                     ELSE 'SELECT' END)), true) AS lockable,
      c.relkind = 'r' AND pg_catalog.row_security_active(c.oid) AS hides_rows,
      (SELECT pg_catalog.json_build_array(d.refobjid, d.deptype)::text FROM pg_catalog.pg_depend d
       WHERE c.relkind = 'S' AND d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = c.oid AND d.objsubid = 0
         AND d.refclassid = 'pg_catalog.pg_class'::regclass AND d.deptype IN ('a', 'i')) AS owner
    FROM pg_catalog.pg_class c
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    LEFT JOIN pg_catalog.pg_am am ON am.oid = c.relam
    -- Joined, as most relations belong to none: there may be ten thousands to look for.
    LEFT JOIN (
      SELECT d.objid, e.extname FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_extension e ON e.oid = d.refobjid
      WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objsubid = 0
        AND d.refclassid = 'pg_catalog.pg_extension'::regclass AND d.deptype = 'e') member ON member.objid = c.oid
    WHERE c.relkind IN (${kinds.map(quoteLiteral).join(',')}) AND c.relpersistence <> 't'
      AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
    ORDER BY n.nspname, c.relname`;
}

function toRelation(row: TextRow): Relation {
  const owner = row.owner ? (JSON.parse(row.owner) as [string, string]) : null;
  const relation: Relation = {
    oid: text(row.oid),
    schema: text(row.schema),
    name: text(row.name),
    kind: text(row.kind) as RelationKind,
    isUnlogged: row.unlogged === 't',
    isHeap: row.heap === 't',
    extension: row.extension ?? null,
    isConfiguration: row.configuration === 't',
    isSelected: row.selected === 't',
    isDataSelected: row.data_selected === 't',
    canRead: row.readable === 't',
    canLock: row.lockable === 't',
    hidesRows: row.hides_rows === 't',
    pages: 0,
    sizeBytes: 0,
    columns: [],
    loadVia: null,
    parents: [],
    owner: owner && { oid: String(owner[0]), isIdentity: owner[1] === 'i' },
    missing: null,
  };
  requireUtf8(relation, []);
  return relation;
}

function requireUtf8({ schema, name }: Relation, columns: readonly string[]): void {
  if ([schema, name, ...columns].some(one => one.includes('\uFFFD'))) throw notUtf8(`${schema}.${name}`);
}

/** A database of encoding SQL_ASCII may have names of any bytes; the server itself fails over them, without a name. */
async function badNameError(client: pg.Client, error: unknown): Promise<unknown> {
  // A transaction has failed with it.
  await queryRows(client, 'ROLLBACK', 'looking for names that are not UTF-8');
  const rows = await queryRows(
    client,
    `SELECT encode(convert_to(n.nspname || '.' || c.relname, 'SQL_ASCII'), 'hex') AS relation,
       encode(convert_to(a.attname, 'SQL_ASCII'), 'hex') AS attribute
     FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
     LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 ORDER BY 1, 2`,
    'looking for names that are not UTF-8',
  );
  for (const row of rows) {
    const relation = Buffer.from(row.relation ?? '', 'hex');
    if (!isUtf8(relation) || !isUtf8(Buffer.from(row.attribute ?? '', 'hex'))) {
      const shown = relation
        .toString('latin1')
        .replace(/[^ -~]/g, byte => `\\x${byte.charCodeAt(0).toString(16)}`);
      return notUtf8(shown);
    }
  }
  return error;
}

function notUtf8(name: string): PgkeepError {
  return new PgkeepError(
    'DATABASE_QUERY',
    `the name ${name}, or of one of its columns, holds bytes that are not UTF-8`,
    {
      hint: 'rename it: names go through programs that take UTF-8 alone',
    },
  );
}

function text(value: string | null | undefined): string {
  if (value === null || value === undefined)
    throw new PgkeepError('INTERNAL', 'the catalog gave no value where one is certain');
  return value;
}
