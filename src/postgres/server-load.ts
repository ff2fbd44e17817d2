// Sees how busy others keep the server: how many of their sessions run a statement.
import type pg from 'pg';
import { queryRows } from './client.ts';

export interface ServerLoad {
  /** Sessions of others that run a statement. */
  active: number;
  /** Those that do not show whether they do: of roles ours may not look at, or with `track_activities` off. */
  hidden: number;
}

/** @param ownName what the application_name of our own sessions begins with; they do not count. */
export async function readLoad(client: pg.Client, ownName: string): Promise<ServerLoad> {
  // What runs for the server itself has no user or no database. Of a session that may not be looked at these two are
  // shown, and neither its state nor its kind.
  const [row] = await queryRows(
    client,
    `SELECT count(*) FILTER (WHERE state = 'active' AND backend_type = 'client backend') AS active,
       count(*) FILTER (WHERE backend_type IS NULL OR state = 'disabled' AND backend_type = 'client backend') AS hidden
     FROM pg_catalog.pg_stat_activity
     WHERE usesysid IS NOT NULL AND datid IS NOT NULL AND NOT starts_with(application_name, '${ownName}')`,
    'looking how busy the server is',
  );
  return { active: Number(row?.active), hidden: Number(row?.hidden) };
}
