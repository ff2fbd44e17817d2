// Gathers the planner's statistics for everything this role may analyze, on several connections.
import type pg from 'pg';
import { PgkeepError, throwIfAborted } from '../base/errors.ts';
import { closeClient, openClient, queryRows } from './client.ts';
import { quoteLiteral } from './identifiers.ts';
import type { DatabaseTarget } from './target.ts';

/**
 * @param exceptSchema whose tables are left alone.
 * @returns a sentence for each table that ANALYZE refused: a type's own function may do that, and the rows are there
 * all the same.
 */
export async function analyzeAll(
  target: DatabaseTarget,
  jobs: number,
  exceptSchema: string,
  signal: AbortSignal | undefined,
): Promise<string[]> {
  const refused: string[] = [];
  const clients: pg.Client[] = [];
  try {
    const first = await openClient(target, { signal });
    clients.push(first);
    while (clients.length < jobs) clients.push(await openClient(target, { signal }));
    const tables = await queryRows(
      first,
      `SELECT c.oid::regclass::text AS name FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
       WHERE c.relkind IN ('r', 'm', 'p') AND n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', ${quoteLiteral(exceptSchema)})
         AND pg_catalog.pg_has_role(c.relowner, 'USAGE')
       ORDER BY c.relpages DESC`,
      'reading which tables to analyze',
    );
    const waiting = tables.reverse();
    await Promise.all(
      clients.map(async client => {
        for (let table = waiting.pop(); table !== undefined; table = waiting.pop()) {
          throwIfAborted(signal);
          try {
            await queryRows(client, `ANALYZE ${table.name}`, `analyzing ${table.name}`);
          } catch (error) {
            if (!(error instanceof PgkeepError) || error.code !== 'DATABASE_QUERY') throw error;
            refused.push(error.message);
          }
        }
      }),
    );
    return refused;
  } finally {
    await Promise.all(clients.map(closeClient));
  }
}
