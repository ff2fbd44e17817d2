// Subscriptions of a restore that is taken back. A subscription that is dropped as it is drops its slot on the
// publisher too, where the source may still be reading from it; and a database that has one cannot be dropped.
import type pg from 'pg';
import { queryRows } from './client.ts';

/**
 * Drops the subscriptions of a database, and nothing on their publishers.
 * @param isKept by the name as SQL; those stay.
 */
export async function dropSubscriptions(
  client: pg.Client,
  isKept: (name: string) => boolean = () => false,
): Promise<void> {
  const doing = 'dropping subscriptions';
  const rows = await queryRows(
    client,
    `SELECT pg_catalog.quote_ident(subname) AS name FROM pg_catalog.pg_subscription
     WHERE subdbid = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())`,
    doing,
  );
  for (const { name } of rows) {
    if (name === null || name === undefined || isKept(name)) continue;
    await queryRows(client, `ALTER SUBSCRIPTION ${name} DISABLE`, doing);
    await queryRows(client, `ALTER SUBSCRIPTION ${name} SET (slot_name = NONE)`, doing);
    await queryRows(client, `DROP SUBSCRIPTION ${name}`, doing);
  }
}
