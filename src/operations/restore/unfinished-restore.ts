// The mark of a restore in the database it restores into: a schema that is there from before the first change until
// the last, and says what is done. Rows are committed together with their entry in it, so whoever goes on after a
// process that was killed loads nothing twice. docs/decisions/unfinished-restores.md gives the reasons.
import type pg from 'pg';
import { queryRows } from '../../postgres/client.ts';
import type { DatabaseObject } from '../../postgres/database-contents.ts';
import { quoteLiteral } from '../../postgres/identifiers.ts';
import type { PublicSchema } from '../../postgres/public-schema.ts';

export const markSchema = 'pgkeep_restore';

/** What a restore was doing. Definitions include what pg_restore calls data: sequences and large objects. */
export type RestorePhase = 'definitions' | 'rows' | 'post-data' | 'finish';

/** What a restore was told, as far as the outcome depends on it. */
export interface RestoreChoices {
  create: boolean;
  tables: readonly string[];
  schemaOnly: boolean;
  noOwner: boolean;
  noPrivileges: boolean;
}

/** What the database was before; it is brought back to that when the restore is given up. */
export interface TargetOrigin {
  objects: DatabaseObject[];
  publicSchema: PublicSchema | null;
}

export interface UnfinishedRestore {
  backup: string;
  /** Id of the repository. */
  repository: string;
  /** By the server's clock, ISO 8601. */
  beganAt: string;
  phase: RestorePhase;
  choices: RestoreChoices;
  origin: TargetOrigin;
}

/** A run of ranges of one table, both ends included. */
export interface LoadedRanges {
  /** In the source. */
  tableOid: string;
  first: number;
  last: number;
}

/** Whether an object of the database is part of the mark. */
export function isOfMark({ type, identity }: DatabaseObject): boolean {
  return type === 'schema' ? identity === markSchema : identity.startsWith(`${markSchema}.`);
}

/** @returns the restore that the database is marked with, if it is. */
export async function readMark(client: pg.Client): Promise<UnfinishedRestore | undefined> {
  const doing = 'looking for an unfinished restore';
  const [found] = await queryRows(client, `SELECT to_regclass('${markSchema}.restore') AS mark`, doing);
  if (found?.mark == null) return undefined;
  const [row] = await queryRows(
    client,
    `SELECT backup, repository, to_char(began_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') AS began, phase, choices, origin
     FROM ${markSchema}.restore`,
    doing,
  );
  if (row === undefined) return undefined;
  return {
    backup: row.backup ?? '',
    repository: row.repository ?? '',
    beganAt: row.began ?? '',
    phase: row.phase as RestorePhase,
    choices: JSON.parse(row.choices ?? '{}') as RestoreChoices,
    origin: JSON.parse(row.origin ?? '{}') as TargetOrigin,
  };
}

/**
 * Marks a database that bears no mark.
 * @throws PgkeepError DATABASE_PRIVILEGE, or DATABASE_QUERY when there is a schema of that name; nothing is left then.
 */
export async function makeMark(
  client: pg.Client,
  restore: Omit<UnfinishedRestore, 'beganAt' | 'phase'>,
): Promise<void> {
  const comment =
    `pgkeep is restoring ${restore.backup} into this database. While this schema is here, the restore is not ` +
    'finished: run the same command again with --resume or --clean-target';
  await runTogether(
    client,
    [
      `CREATE SCHEMA ${markSchema}`,
      `COMMENT ON SCHEMA ${markSchema} IS ${quoteLiteral(comment)}`,
      `CREATE TABLE ${markSchema}.restore (backup text PRIMARY KEY, repository text NOT NULL, began_at timestamptz NOT NULL,
       phase text NOT NULL, choices text NOT NULL, origin text NOT NULL)`,
      `CREATE TABLE ${markSchema}.loaded (table_oid oid, first_range integer, last_range integer NOT NULL, PRIMARY KEY (table_oid, first_range))`,
      // A server that crashes empties unlogged tables: this one tells.
      `CREATE UNLOGGED TABLE ${markSchema}.without_crash (yes boolean PRIMARY KEY)`,
      ...beginning(restore),
    ],
    'marking the database as being restored',
  );
}

/** Lets the mark say that a restore begins, another or anew, in a database that has been emptied. */
export async function renewMark(
  client: pg.Client,
  restore: Omit<UnfinishedRestore, 'beganAt' | 'phase'>,
): Promise<void> {
  await runTogether(
    client,
    [
      `DELETE FROM ${markSchema}.restore`,
      `DELETE FROM ${markSchema}.loaded`,
      `DELETE FROM ${markSchema}.without_crash`,
      ...beginning(restore),
    ],
    'marking the database as being restored',
  );
}

export async function setPhase(client: pg.Client, phase: RestorePhase): Promise<void> {
  await queryRows(
    client,
    `UPDATE ${markSchema}.restore SET phase = '${phase}'`,
    'noting how far the restore is',
  );
}

/** The statement that goes into the transaction of the rows. */
export function noteLoaded({ tableOid, first, last }: LoadedRanges): string {
  return `INSERT INTO ${markSchema}.loaded VALUES (${tableOid}, ${first}, ${last})`;
}

export async function readLoaded(client: pg.Client): Promise<LoadedRanges[]> {
  const sql = `SELECT table_oid, first_range AS first, last_range AS last FROM ${markSchema}.loaded`;
  const rows = await queryRows(client, sql, 'reading what is loaded already');
  return rows.map(row => ({
    tableOid: row.table_oid ?? '',
    first: Number(row.first),
    last: Number(row.last),
  }));
}

/** Whether the server has crashed since, and with that emptied unlogged tables that the restore had filled. */
export async function hasLostUnlogged(client: pg.Client): Promise<boolean> {
  const [row] = await queryRows(
    client,
    `SELECT NOT EXISTS (SELECT 1 FROM ${markSchema}.without_crash) AND EXISTS (
       SELECT 1 FROM pg_catalog.pg_class WHERE relpersistence = 'u' AND relnamespace <> '${markSchema}'::regnamespace) AS lost`,
    'looking for a crash of the server',
  );
  return row?.lost === 't';
}

/** Removes the mark, unseen by event triggers of the database. */
export async function removeMark(client: pg.Client): Promise<void> {
  const doing = 'removing the mark of the restore';
  const triggers = await queryRows(
    client,
    `SELECT pg_catalog.quote_ident(evtname) AS name, CASE evtenabled WHEN 'R' THEN 'ENABLE REPLICA' WHEN 'A' THEN 'ENABLE ALWAYS' ELSE 'ENABLE' END AS state
     FROM pg_catalog.pg_event_trigger WHERE evtenabled <> 'D'`,
    doing,
  );
  await runTogether(
    client,
    [
      ...triggers.map(trigger => `ALTER EVENT TRIGGER ${trigger.name} DISABLE`),
      `DROP SCHEMA ${markSchema} CASCADE`,
      ...triggers.map(trigger => `ALTER EVENT TRIGGER ${trigger.name} ${trigger.state}`),
    ],
    doing,
  );
}

function beginning({ backup, repository, choices, origin }: Omit<UnfinishedRestore, 'beganAt' | 'phase'>) {
  const values = [backup, repository].map(quoteLiteral).join(', ');
  return [
    `INSERT INTO ${markSchema}.restore VALUES (${values}, now(), 'definitions', ${asLiteral(choices)}, ${asLiteral(origin)})`,
    `INSERT INTO ${markSchema}.without_crash VALUES (true)`,
  ];
}

/** In ASCII, which every encoding of a database has. */
function asLiteral(value: object): string {
  const text = JSON.stringify(value).replace(
    /[^ -~]/g,
    character => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
  return quoteLiteral(text);
}

/** Sent as one, statements are one transaction, and one round trip. */
async function runTogether(client: pg.Client, statements: readonly string[], doing: string): Promise<void> {
  await queryRows(client, statements.join(';\n'), doing);
}
