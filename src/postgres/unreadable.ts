// What a role may not read of a database, and what cannot be restored without it: for a backup that leaves it out.
import type pg from 'pg';
import type { Relation } from './catalog.ts';
import { queryRows } from './client.ts';

/** An object other than a relation that cannot be restored, because it needs what is left out. */
export interface Dependent {
  /** Its address, by which the schema archive names it too. */
  catalogOid: string;
  oid: string;
  /** In the words of pg_identify_object, such as `function` or `table constraint`. */
  kind: string;
  /** As SQL. */
  identity: string;
  reason: string;
}

/**
 * Marks what is to be left out of relations that the role may not read, and of relations that need those (their field
 * `missing`).
 * @param withRows whether rows are wanted at all.
 * @returns what else needs them: foreign keys, functions, rules, policies.
 */
export async function markUnreadable(
  client: pg.Client,
  relations: readonly Relation[],
  withRows: boolean,
): Promise<Dependent[]> {
  for (const relation of relations) relation.missing = missingOf(relation, withRows);
  const byOid = new Map(relations.map(relation => [relation.oid, relation]));
  const dependents: Dependent[] = [];
  for (const needing of await readNeeding(client, relations)) {
    const reason = `it needs ${label(byOid.get(needing.root))}, which the role may not read`;
    const relation = needing.catalogOid === pgClass ? byOid.get(needing.oid) : undefined;
    if (relation === undefined) dependents.push({ ...needing, reason });
    else if (relation.isSelected) relation.missing = { lacks: 'definition', reason };
  }
  if (!withRows) return dependents;
  for (const key of await readForeignKeys(client, relations)) {
    const reason = `it refers to rows of ${label(byOid.get(key.root))}, which are not in the backup`;
    if (!dependents.some(dependent => dependent.oid === key.oid && dependent.catalogOid === key.catalogOid))
      dependents.push({ ...key, reason });
  }
  return dependents;
}

/** The oid of the catalog pg_class. */
const pgClass = '1259';

function missingOf(relation: Relation, withRows: boolean): Relation['missing'] {
  const { kind, canRead, hidesRows } = relation;
  if (!relation.isSelected) return null;
  const wantsRows = withRows && relation.isDataSelected;
  if (relation.extension !== null) {
    // Definitions come with the extension; of the rows only those of configuration are for pg_dump to read.
    return wantsRows && relation.isConfiguration && (!canRead || hidesRows)
      ? { lacks: 'rows', reason: `the role may not read what it holds for ${relation.extension}` }
      : null;
  }
  switch (kind) {
    case 'r':
    case 'p':
      if (!relation.canLock) return { lacks: 'definition', reason: 'the role may not read it' };
      if (kind === 'p' || !wantsRows) return null;
      if (!canRead) return { lacks: 'rows', reason: 'the role may not read its rows' };
      return hidesRows
        ? { lacks: 'rows', reason: 'row-level security hides rows of it from the role' }
        : null;
    case 'S':
      return wantsRows && !canRead
        ? { lacks: 'rows', reason: 'the role may not read its value: restored, it begins anew' }
        : null;
    case 'v':
    case 'm':
    case 'f':
      return null;
  }
}

type Needing = Omit<Dependent, 'reason'> & { root: string };

/**
 * What needs a relation without a definition, directly or through others. Not those that can be without: partitions
 * of a table, and sequences that a column owns.
 */
async function readNeeding(client: pg.Client, relations: readonly Relation[]): Promise<Needing[]> {
  const roots = relations.filter(({ missing }) => missing?.lacks === 'definition');
  if (roots.length === 0) return [];
  const rows = await queryRows(
    client,
    `WITH RECURSIVE needing (classid, objid, root) AS (
       SELECT 'pg_catalog.pg_class'::regclass::oid, o, o FROM unnest(${oids(roots)}) AS o
       UNION
       SELECT edge.classid, edge.objid, needing.root
       FROM needing JOIN (
         SELECT d.refclassid, d.refobjid, d.classid, d.objid FROM pg_catalog.pg_depend d
         WHERE d.deptype IN ('n', 'i', 'a') AND NOT (d.deptype = 'a' AND d.classid = 'pg_catalog.pg_class'::regclass
           AND EXISTS (SELECT 1 FROM pg_catalog.pg_class c WHERE c.oid = d.objid AND c.relkind IN ('r', 'p', 'f', 'S')))
         -- What is part of something else takes that along: the query of a view, the default of a column, a check,
         -- the columns of a type.
         UNION ALL SELECT 'pg_catalog.pg_rewrite'::regclass, r.oid, 'pg_catalog.pg_class'::regclass, r.ev_class
           FROM pg_catalog.pg_rewrite r WHERE r.ev_type = '1'
         UNION ALL SELECT 'pg_catalog.pg_attrdef'::regclass, a.oid, 'pg_catalog.pg_class'::regclass, a.adrelid
           FROM pg_catalog.pg_attrdef a
         UNION ALL SELECT 'pg_catalog.pg_constraint'::regclass, k.oid, 'pg_catalog.pg_class'::regclass, k.conrelid
           FROM pg_catalog.pg_constraint k WHERE k.contype = 'c' AND k.conrelid <> 0
         UNION ALL SELECT 'pg_catalog.pg_constraint'::regclass, k.oid, 'pg_catalog.pg_type'::regclass, k.contypid
           FROM pg_catalog.pg_constraint k WHERE k.contypid <> 0
         UNION ALL SELECT 'pg_catalog.pg_class'::regclass, c.oid, 'pg_catalog.pg_type'::regclass, c.reltype
           FROM pg_catalog.pg_class c WHERE c.relkind = 'c'
       ) edge ON edge.refclassid = needing.classid AND edge.refobjid = needing.objid
     )
     SELECT DISTINCT ON (classid, objid) classid, objid, root, i.type AS kind, i.identity
     FROM needing, LATERAL pg_catalog.pg_identify_object(classid, objid, 0) i
     WHERE NOT (classid = 'pg_catalog.pg_class'::regclass AND objid = ANY (${oids(roots)}))
     ORDER BY classid, objid, root`,
    'looking for what needs the tables that cannot be read',
  );
  return rows.map(toNeeding);
}

/** Foreign keys whose referenced rows are not all in the backup, while rows that refer to them may be. */
async function readForeignKeys(client: pg.Client, relations: readonly Relation[]): Promise<Needing[]> {
  const lost = relations.filter(({ kind, missing }) => kind === 'r' && missing !== null);
  if (lost.length === 0) return [];
  const referring = relations.filter(
    ({ kind, isSelected, isDataSelected, missing }) =>
      (kind === 'r' || kind === 'p') && isSelected && isDataSelected && missing === null,
  );
  const rows = await queryRows(
    client,
    `WITH lost (oid, root) AS (
       SELECT o, o FROM unnest(${oids(lost)}) AS o
       UNION ALL SELECT a.relid::oid, o FROM unnest(${oids(lost)}) AS o, LATERAL pg_catalog.pg_partition_ancestors(o) a
     )
     SELECT DISTINCT ON (k.oid) 'pg_catalog.pg_constraint'::regclass::oid AS classid, k.oid AS objid, lost.root, i.type AS kind, i.identity
     FROM pg_catalog.pg_constraint k JOIN lost ON lost.oid = k.confrelid,
       LATERAL pg_catalog.pg_identify_object('pg_catalog.pg_constraint'::regclass, k.oid, 0) i
     WHERE k.contype = 'f' AND k.conparentid = 0 AND k.conrelid = ANY (${oids(referring)})
     ORDER BY k.oid, lost.root`,
    'looking for foreign keys to tables that cannot be read',
  );
  return rows.map(toNeeding);
}

function toNeeding(row: Record<string, string | null>): Needing {
  return {
    catalogOid: row.classid ?? '',
    oid: row.objid ?? '',
    root: row.root ?? '',
    kind: row.kind ?? '',
    identity: row.identity ?? '',
  };
}

function oids(relations: readonly Relation[]): string {
  return `ARRAY[${relations.map(relation => relation.oid).join(',')}]::oid[]`;
}

function label(relation: Relation | undefined): string {
  return relation === undefined ? 'a table' : `${relation.schema}.${relation.name}`;
}
