// Where a backup is restored to be verified: a database with a name of its own, on a server started for it or on one
// that was given; gone afterwards.
import { randomBytes } from 'node:crypto';
import type pg from 'pg';
import { closeClient, queryRows } from '../../postgres/client.ts';
import { quoteName } from '../../postgres/identifiers.ts';
import { type DatabaseTarget, describeTarget, type Environment, readTarget } from '../../postgres/target.ts';
import { startThrowawayServer } from '../../postgres/throwaway-server.ts';
import type { Manifest } from '../../repository/manifest.ts';
import { openMaintenance } from '../restore/preflight.ts';

export interface Scratch extends AsyncDisposable {
  /** The database, which is still to be created. */
  readonly target: DatabaseTarget;
  /** Whether the server is ours, so that roles may come and go. */
  readonly isThrowaway: boolean;
}

export interface ScratchOptions {
  manifest: Manifest;
  /** URL of a server; without it one is started. */
  scratch: string | undefined;
  programs: string | undefined;
  environment: Environment;
  signal: AbortSignal | undefined;
  warn: (message: string, hint?: string) => void;
}

/** @throws PgkeepError when there is no server to be had. */
export async function prepareScratch(options: ScratchOptions): Promise<Scratch> {
  const { manifest, scratch, programs, environment, signal, warn } = options;
  const database = `pgkeep_verify_${randomBytes(4).toString('hex')}`;
  if (scratch !== undefined) {
    const target = { ...readTarget(scratch, environment), database };
    return { target, isThrowaway: false, [Symbol.asyncDispose]: () => drop(target, warn) };
  }
  const major = Math.floor(manifest.server.versionNumber / 10000);
  const server = await startThrowawayServer({ major, programs, environment, signal });
  const target = { ...server.target, database };
  try {
    // Otherwise the restore creates them, as the backup describes them.
    if ('missing' in manifest.globals) await onServer(target, client => createRoles(client, manifest));
  } catch (error) {
    await server[Symbol.asyncDispose]();
    throw error;
  }
  return { target, isThrowaway: true, [Symbol.asyncDispose]: () => server[Symbol.asyncDispose]() };
}

/** A database that lets few or none in would keep out those who compare it. */
export async function openToAll(target: DatabaseTarget): Promise<void> {
  await onServer(target, async client => {
    const statement = `ALTER DATABASE ${quoteName(target.database)} CONNECTION LIMIT -1`;
    await queryRows(client, statement, 'opening the scratch database');
  });
}

async function drop(target: DatabaseTarget, warn: ScratchOptions['warn']): Promise<void> {
  const statement = `DROP DATABASE IF EXISTS ${quoteName(target.database)} WITH (FORCE)`;
  try {
    await onServer(target, async client => {
      await queryRows(client, statement, 'dropping the scratch database');
    });
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    warn(`the scratch database ${describeTarget(target)} could not be dropped: ${why}`, `run: ${statement}`);
  }
}

/** All roles that definitions name, by name alone. */
async function createRoles(client: pg.Client, manifest: Manifest): Promise<void> {
  const { owner, privileges } = manifest.database;
  const granted = (privileges ?? []).flatMap(({ grantor, grantee }) => [grantor, grantee ?? grantor]);
  const names = new Set([...manifest.roles.map(role => role.name), owner, ...granted]);
  const rows = await queryRows(
    client,
    'SELECT rolname AS name FROM pg_catalog.pg_roles',
    'reading the roles',
  );
  for (const { name } of rows) names.delete(name ?? '');
  for (const name of names)
    await queryRows(client, `CREATE ROLE ${quoteName(name)}`, `creating the role ${name}`);
}

async function onServer(target: DatabaseTarget, work: (client: pg.Client) => Promise<void>): Promise<void> {
  const client = await openMaintenance(target);
  try {
    await work(client);
  } finally {
    await closeClient(client);
  }
}
