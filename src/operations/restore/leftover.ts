// What an earlier restore has left in a target, and whether this one may touch it.
import type pg from 'pg';
import { PgkeepError } from '../../base/errors.ts';
import { closeClient, openClient, queryRows } from '../../postgres/client.ts';
import { quoteLiteral } from '../../postgres/identifiers.ts';
import { type DatabaseTarget, describeTarget } from '../../postgres/target.ts';
import { openMaintenance } from './preflight.ts';
import { requireUnlocked } from './target-lock.ts';
import { type RestoreChoices, readMark, type UnfinishedRestore } from './unfinished-restore.ts';

export type Leftover =
  /** A database that was created and nothing else. */
  { kind: 'created' } | { kind: 'marked'; restore: UnfinishedRestore };

/**
 * The connection limit of a database between its creation and its mark: the one thing that can be said of a database
 * by the statement that creates it. No server has so many connections, so it limits nothing.
 */
export const madeByRestore = 2_070_676_593;

/**
 * Looks for an unfinished restore.
 * @param create the target is not expected to exist.
 * @throws PgkeepError TARGET_UNFIT when one is under way there right now.
 */
export async function findLeftover(
  target: DatabaseTarget,
  create: boolean,
  signal: AbortSignal | undefined,
): Promise<Leftover | undefined> {
  const limit = create ? await connectionLimitOf(target, signal) : 0;
  if (limit === undefined) return undefined;
  const client = await openTarget(target, create, signal);
  if (client === undefined) return undefined;
  try {
    const restore = await readMark(client);
    if (restore === undefined && limit !== madeByRestore) return undefined;
    await requireUnlocked(client, target);
    return restore === undefined ? { kind: 'created' } : { kind: 'marked', restore };
  } finally {
    await closeClient(client);
  }
}

/** @throws PgkeepError TARGET_UNFINISHED which says what was left, since when, and how to go on. */
export function refuseLeftover(leftover: Leftover, target: DatabaseTarget): never {
  const where = describeTarget(target);
  const hint = 'the same command with --resume goes on, and with --clean-target begins anew';
  if (leftover.kind === 'created') {
    throw new PgkeepError(
      'TARGET_UNFINISHED',
      `${where} was created by a restore that was cut short before it restored anything`,
      { hint },
    );
  }
  const { backup, beganAt, repository } = leftover.restore;
  throw new PgkeepError(
    'TARGET_UNFINISHED',
    `${where} holds an unfinished restore of ${backup}, begun at ${beganAt}`,
    { hint, context: { backup, repository, beganAt } },
  );
}

/** @throws PgkeepError TARGET_UNFINISHED naming what differs between the unfinished restore and the one to go on with it. */
export function requireSame(
  unfinished: UnfinishedRestore,
  wanted: Pick<UnfinishedRestore, 'backup' | 'repository' | 'choices'>,
): void {
  const compare = (what: string, before: string, now: string): void => {
    if (before === now) return;
    throw new PgkeepError(
      'TARGET_UNFINISHED',
      `the unfinished restore was begun with ${what}${before}, and this command comes with ${what}${now}`,
      { hint: 'resume with what it was begun with, or begin anew with --clean-target' },
    );
  };
  compare('the repository ', unfinished.repository, wanted.repository);
  compare('the backup ', unfinished.backup, wanted.backup);
  compare('', flagsOf(unfinished.choices), flagsOf(wanted.choices));
}

function flagsOf({ create, tables, schemaOnly, noOwner, noPrivileges }: RestoreChoices): string {
  const flags = [
    ...(create ? ['--create'] : []),
    ...(tables.length > 0 ? [`--tables ${[...tables].sort().join(',')}`] : []),
    ...(schemaOnly ? ['--schema-only'] : []),
    ...(noOwner ? ['--no-owner'] : []),
    ...(noPrivileges ? ['--no-privileges'] : []),
  ];
  return flags.length === 0 ? 'no options' : flags.join(' ');
}

/** @returns `undefined` when there is no such database. */
async function connectionLimitOf(
  target: DatabaseTarget,
  signal: AbortSignal | undefined,
): Promise<number | undefined> {
  const client = await openMaintenance(target, signal);
  try {
    const sql = `SELECT datconnlimit AS limit FROM pg_catalog.pg_database WHERE datname = ${quoteLiteral(target.database)}`;
    const [row] = await queryRows(client, sql, 'looking for the database');
    return row === undefined ? undefined : Number(row.limit);
  } finally {
    await closeClient(client);
  }
}

/** With `create`, a database that does not let us in is none of ours. */
async function openTarget(
  target: DatabaseTarget,
  create: boolean,
  signal: AbortSignal | undefined,
): Promise<pg.Client | undefined> {
  try {
    return await openClient(target, { signal });
  } catch (error) {
    if (create && error instanceof PgkeepError && error.code !== 'INTERRUPTED') return undefined;
    throw error;
  }
}
