// Counts the rows of tables that more than one run has loaded, and compares with the backup: each COPY was compared by
// the run that sent it, and between the runs anybody may have been at the database.
import { PgkeepError, throwIfAborted } from '../../base/errors.ts';
import { closeClient, openClient, queryRows } from '../../postgres/client.ts';
import { quoteQualified } from '../../postgres/identifiers.ts';
import type { DatabaseTarget } from '../../postgres/target.ts';
import type { TableEntry } from '../../repository/manifest.ts';

/** @throws PgkeepError RESTORE_INCOMPLETE naming the first table that differs. */
export async function countTables(
  target: DatabaseTarget,
  tables: readonly TableEntry[],
  jobs: number,
  signal: AbortSignal | undefined,
): Promise<void> {
  // Rows that were loaded through a partitioned table may be in other partitions here than in the source.
  const waiting = [...Map.groupBy(tables, intoOf)];
  await Promise.all(
    Array.from({ length: Math.min(jobs, waiting.length) }, async () => {
      const client = await openClient(target, { signal });
      try {
        for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) {
          throwIfAborted(signal);
          const [into, members] = next;
          const only = members.every(table => table.loadVia === undefined) ? 'ONLY ' : '';
          const sql = `SELECT count(*) AS rows FROM ${only}${into}`;
          const [row] = await queryRows(client, sql, `counting the rows of ${into}`);
          const expected = members.reduce((sum, table) => sum + table.rows, 0);
          if (Number(row?.rows) === expected) continue;
          throw new PgkeepError(
            'RESTORE_INCOMPLETE',
            `${into} holds ${row?.rows} rows where the backup holds ${expected}`,
            {
              hint: 'somebody has changed rows since the restore was cut short; begin anew with --clean-target',
            },
          );
        }
      } finally {
        await closeClient(client);
      }
    }),
  );
}

function intoOf(table: TableEntry): string {
  const { schema, name } = table.loadVia ?? table;
  return quoteQualified(schema, name);
}
