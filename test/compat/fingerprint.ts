// What a database holds, in a few lines that every version of PostgreSQL gives for the same rows.
import { psql, type Server } from '../support/postgres-server.ts';

/** Repositories by format: in each a folder `repository`, and `expected.json` with a fingerprint of each backup. */
export const compatFolder = import.meta.dirname;

/** Tables, sequences and large objects: how many rows, and a hash of them. */
export async function fingerprint(server: Server, database: string): Promise<string> {
  const found = await psql(
    server,
    database,
    `SELECT c.relkind, c.oid::regclass FROM pg_class c
     WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'm', 'v', 'S') ORDER BY c.relname COLLATE "C"`,
  );
  const queries = found
    .trim()
    .split('\n')
    .map(line => {
      const [kind, name = ''] = line.split('|');
      const text = kind === 'S' ? "last_value || ' ' || is_called" : 't::text';
      return { name, sql: `SELECT ${text} AS line FROM ${name} AS t` };
    });
  queries.push({
    name: 'large objects',
    sql: `SELECT oid || ' ' || encode(lo_get(oid), 'hex') AS line FROM pg_largeobject_metadata`,
  });
  const hashes = queries.map(
    ({ name, sql }) =>
      `SELECT $name$${name}$name$, count(*), md5(string_agg(line, E'\\n' ORDER BY line COLLATE "C")) FROM (${sql}) AS t`,
  );
  return (
    await psql(server, database, `SET TimeZone = 'UTC'; ${hashes.join(' UNION ALL ')} ORDER BY 1`)
  ).trim();
}
