// What a database has only half: constraints that were not checked against the rows, and indexes that are not used.
import type pg from 'pg';
import { queryRows } from './client.ts';

export interface Unfinished {
  /** As SQL names it. */
  name: string;
  /** The table, or the domain. */
  schema: string;
  of: string;
}

/** Constraints that are not validated; those that follow from one of a parent are not among them. */
export async function unvalidatedConstraints(client: pg.Client): Promise<Unfinished[]> {
  return await read(
    client,
    `SELECT c.conname AS name, n.nspname AS schema, coalesce(r.relname, t.typname) AS of
     FROM pg_catalog.pg_constraint AS c
     LEFT JOIN pg_catalog.pg_class AS r ON r.oid = c.conrelid LEFT JOIN pg_catalog.pg_type AS t ON t.oid = c.contypid
     JOIN pg_catalog.pg_namespace AS n ON n.oid = coalesce(r.relnamespace, t.typnamespace)
     WHERE NOT c.convalidated AND c.conparentid = 0 AND c.coninhcount = 0
     ORDER BY 2, 3, 1`,
    'looking for constraints that are not validated',
  );
}

/** Indexes that are not valid or not ready; one of a partitioned table only when every partition has its part of it. */
export async function invalidIndexes(client: pg.Client): Promise<Unfinished[]> {
  return await read(
    client,
    `SELECT i.relname AS name, n.nspname AS schema, r.relname AS of
     FROM pg_catalog.pg_index AS x JOIN pg_catalog.pg_class AS i ON i.oid = x.indexrelid
     JOIN pg_catalog.pg_class AS r ON r.oid = x.indrelid JOIN pg_catalog.pg_namespace AS n ON n.oid = r.relnamespace
     WHERE NOT (x.indisvalid AND x.indisready)
       AND (i.relkind = 'i' OR (SELECT count(*) FROM pg_catalog.pg_inherits WHERE inhparent = i.oid)
                             = (SELECT count(*) FROM pg_catalog.pg_inherits WHERE inhparent = r.oid))
     ORDER BY 2, 3, 1`,
    'looking for invalid indexes',
  );
}

/**
 * Those of the constraints that a schema script does not leave unvalidated itself.
 * @param script SQL as pg_restore writes it.
 */
export function notMeantSo(constraints: readonly Unfinished[], script: string): Unfinished[] {
  return constraints.filter(({ name }) => {
    for (const written of [name, `"${name.replaceAll('"', '""')}"`]) {
      const words = ` CONSTRAINT ${written} `;
      for (let at = script.indexOf(words); at >= 0; at = script.indexOf(words, at + 1)) {
        const end = script.indexOf(';\n', at);
        if (/\bNOT (VALID|ENFORCED)\b/.test(script.slice(at, end < 0 ? undefined : end))) return false;
      }
    }
    return true;
  });
}

async function read(client: pg.Client, sql: string, doing: string): Promise<Unfinished[]> {
  const rows = await queryRows(client, sql, doing);
  return rows.map(({ name, schema, of }) => ({ name: name ?? '', schema: schema ?? '', of: of ?? '' }));
}
