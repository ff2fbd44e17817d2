// What decides the text of a table's rows, apart from the rows: two backups in which it is the same may share text.
import { hash } from 'node:crypto';
import type pg from 'pg';
import { queryRows } from './client.ts';

export interface RowContext {
  /** Of the table's storage; a rewrite gives it another. */
  fileNode: string;
  /** A hash of columns, their types, and all that the text of these types depends on. */
  context: string;
}

export interface RowContexts {
  /** By the table's oid. Missing are those where the text of a column names other objects, and so may change without the row: regclass and its kin, aclitem. */
  tables: ReadonlyMap<string, RowContext>;
  /** Of those tables, by their oids: the oids of their columns' types, separated by spaces. Most tables are alike. */
  typesOf: ReadonlyMap<string, string>;
  /** Of each of those types, by its oid: a hash of all that its text depends on. */
  types: ReadonlyMap<string, string>;
}

/**
 * The contexts of tables, as the connection's current snapshot sees them.
 * @param oids of heaps that this session has locked.
 * @param settings of the session that reads the rows, as far as they decide text.
 */
export async function readRowContexts(
  client: pg.Client,
  oids: readonly string[],
  settings: string,
): Promise<RowContexts> {
  const tables = new Map<string, RowContext>();
  const typesOf = new Map<string, string>();
  if (oids.length > 0) {
    const rows = await queryRows(client, contextsQuery(oids), 'reading what the text of rows depends on');
    for (const { oid, file_node: fileNode, context, names_objects: namesObjects, types } of rows) {
      if (!oid || !fileNode || !context || !types || namesObjects !== 'f') continue;
      tables.set(oid, { fileNode, context: hash('sha256', `${settings}\n${context}`) });
      typesOf.set(oid, types);
    }
  }
  const types = [...new Set(typesOf.values())].flatMap(list => list.split(' '));
  return { tables, typesOf, types: await readTypes(client, new Set(types)) };
}

/**
 * Those of the tables whose rows would still be printed as when their contexts were read, by the catalog of the moment: a lock
 * keeps columns and files as they are, but no types.
 * @param client without a transaction.
 */
export async function readUnchanged(client: pg.Client, contexts: RowContexts): Promise<Set<string>> {
  const now = await readTypes(client, contexts.types.keys());
  const isUnchanged = (list: string) =>
    list.split(' ').every(type => now.has(type) && now.get(type) === contexts.types.get(type));
  const unchanged = new Set([...new Set(contexts.typesOf.values())].filter(isUnchanged));
  return new Set([...contexts.typesOf].filter(([, list]) => unchanged.has(list)).map(([oid]) => oid));
}

async function readTypes(client: pg.Client, oids: Iterable<string>): Promise<Map<string, string>> {
  const wanted = [...oids];
  if (wanted.length === 0) return new Map();
  const rows = await queryRows(
    client,
    `WITH RECURSIVE ${rootedTypes(`SELECT unnest(ARRAY[${wanted.join(',')}]::oid[])`)} SELECT root AS oid, description FROM rooted`,
    'reading what the text of types depends on',
  );
  return new Map(rows.map(row => [row.oid ?? '', row.description ?? '']));
}

function contextsQuery(oids: readonly string[]): string {
  return `
    WITH RECURSIVE col AS (
      SELECT a.attrelid, a.attnum, a.attname, a.atttypid, a.atttypmod FROM pg_catalog.pg_attribute a
      WHERE a.attrelid = ANY (ARRAY[${oids.join(',')}]::oid[]) AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
    ), ${rootedTypes('SELECT DISTINCT atttypid FROM col')}
    SELECT c.attrelid AS oid, pg_catalog.pg_relation_filenode(c.attrelid) AS file_node,
      pg_catalog.bool_or(r.names_objects) AS names_objects, pg_catalog.string_agg(DISTINCT c.atttypid::text, ' ') AS types,
      ${sha256("pg_catalog.string_agg(pg_catalog.json_build_array(c.attnum, c.attname, c.atttypid, c.atttypmod, r.description)::text, ',' ORDER BY c.attnum)")} AS context
    FROM col c JOIN rooted r ON r.root = c.atttypid GROUP BY c.attrelid`;
}

/**
 * Items of WITH, the last of which is `rooted`: of each type whether its text names objects, and a hash of what it depends on.
 * Types are taken apart down to those that PostgreSQL itself prints.
 * @param roots a query for their oids, each once.
 */
function rootedTypes(roots: string): string {
  return `
    part(root, type) AS (
      SELECT root, root FROM (${roots}) AS roots(root)
      UNION
      SELECT p.root, n.type FROM part p JOIN pg_catalog.pg_type t ON t.oid = p.type
      CROSS JOIN LATERAL (
        SELECT t.typelem AS type UNION ALL SELECT t.typbasetype
        UNION ALL SELECT r.rngsubtype FROM pg_catalog.pg_range r WHERE r.rngtypid = t.oid
        -- Of a multirange, whose ranges print their bounds.
        UNION ALL SELECT r.rngtypid FROM pg_catalog.pg_range r WHERE pg_catalog.to_jsonb(r) ->> 'rngmultitypid' = t.oid::text
        UNION ALL SELECT a.atttypid FROM pg_catalog.pg_attribute a
          WHERE t.typrelid <> 0 AND a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped
      ) n WHERE n.type <> 0
    ), described AS (
      SELECT t.oid,
        EXISTS (SELECT 1 FROM pg_catalog.pg_proc f
                WHERE f.oid = t.typoutput AND (f.prosrc LIKE 'reg%out' OR f.prosrc = 'aclitemout')) AS names_objects,
        pg_catalog.json_build_array(t.oid, t.typtype, t.typdelim, t.typlen, t.typelem, t.typbasetype, t.typtypmod, t.typoutput::oid,
          -- xmin too: a label that was renamed and named back may have been printed in between.
          (SELECT pg_catalog.string_agg(pg_catalog.concat_ws(' ', e.oid, e.xmin, e.enumlabel), ',' ORDER BY e.oid)
           FROM pg_catalog.pg_enum e WHERE e.enumtypid = t.oid),
          (SELECT pg_catalog.string_agg(pg_catalog.concat_ws(' ', a.attnum, a.xmin, a.atttypid, a.atttypmod, a.attisdropped), ',' ORDER BY a.attnum)
           FROM pg_catalog.pg_attribute a WHERE t.typrelid <> 0 AND a.attrelid = t.typrelid AND a.attnum > 0),
          (SELECT pg_catalog.json_build_array(f.xmin, f.prosrc, f.probin) FROM pg_catalog.pg_proc f WHERE f.oid = t.typoutput AND f.oid >= 16384),
          (SELECT pg_catalog.string_agg(pg_catalog.concat_ws(' ', x.extname, x.extversion), ',' ORDER BY x.extname)
           FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_extension x ON x.oid = d.refobjid
           WHERE d.classid = 'pg_catalog.pg_type'::regclass AND d.objid = t.oid AND d.objsubid = 0
             AND d.refclassid = 'pg_catalog.pg_extension'::regclass AND d.deptype = 'e'))::text AS description
      FROM pg_catalog.pg_type t WHERE t.oid IN (SELECT type FROM part)
    ), rooted AS (
      SELECT p.root, pg_catalog.bool_or(d.names_objects) AS names_objects,
        ${sha256("pg_catalog.string_agg(d.description, ',' ORDER BY d.oid)")} AS description
      FROM part p JOIN described d ON d.oid = p.type GROUP BY p.root
    )`;
}

/** md5 may be forbidden. */
function sha256(text: string): string {
  return `pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to(${text}, pg_catalog.getdatabaseencoding())), 'hex')`;
}
