// Everything that can be known to go wrong before a restore touches its target.
import type pg from 'pg';
import { PgkeepError } from '../../base/errors.ts';
import { formatQuantity } from '../../base/units.ts';
import type { ArchiveEntry } from '../../postgres/archive-contents.ts';
import { openClient, queryRows } from '../../postgres/client.ts';
import { describeObjects, listObjects } from '../../postgres/database-contents.ts';
import { quoteLiteral } from '../../postgres/identifiers.ts';
import { type DatabaseTarget, describeTarget } from '../../postgres/target.ts';
import type { Manifest, TableEntry } from '../../repository/manifest.ts';

export interface PreflightOptions {
  manifest: Manifest;
  entries: readonly ArchiveEntry[];
  tables: readonly TableEntry[];
  /** Of those that are not among the entries. */
  ownersOfLargeObjects: ReadonlySet<string>;
  create: boolean;
  dataOnly: boolean;
  noOwner: boolean;
  noPrivileges: boolean;
  createRoles: boolean;
  /** The target holds an unfinished restore, which is gone on with or removed: it is neither new nor empty. */
  isUnfinished: boolean;
}

export interface TargetFacts {
  versionNumber: number;
  isSuperuser: boolean;
  /** The roles that are there. */
  roles: ReadonlySet<string>;
  /** Roles to be created first. */
  missingRoles: string[];
  warnings: string[];
}

/** Databases to connect to when the one to restore into does not exist yet. */
const maintenanceDatabases = ['postgres', 'template1'];

/** Connects to the server of a target, to whichever maintenance database lets us in. */
export async function openMaintenance(target: DatabaseTarget, signal?: AbortSignal): Promise<pg.Client> {
  for (const database of maintenanceDatabases) {
    try {
      return await openClient({ ...target, database }, { signal });
    } catch (error) {
      const mayBeElsewhere =
        error instanceof PgkeepError && ['DATABASE_NOT_FOUND', 'DATABASE_PRIVILEGE'].includes(error.code);
      if (!mayBeElsewhere) throw error;
    }
  }
  throw new PgkeepError(
    'DATABASE_NOT_FOUND',
    `neither ${maintenanceDatabases.join(' nor ')} at ${target.host} could be opened`,
    {
      hint: 'create the database by hand and restore without --create',
    },
  );
}

/**
 * Checks the target.
 * @param client connected to the target, or with `create` to another database of its server.
 * @throws PgkeepError TARGET_EXISTS, TARGET_NOT_EMPTY, TARGET_UNFIT, DATABASE_PRIVILEGE.
 */
export async function checkTarget(
  client: pg.Client,
  target: DatabaseTarget,
  options: PreflightOptions,
): Promise<TargetFacts> {
  const { manifest } = options;
  const [me] = await queryRows(
    client,
    `SELECT current_setting('server_version_num') AS version, current_setting('server_version') AS shown, r.rolsuper, r.rolcreatedb, r.rolcreaterole,
       current_user AS name, pg_catalog.pg_is_in_recovery() AS standby
     FROM pg_catalog.pg_roles r WHERE r.rolname = current_user`,
    'asking the target for its version',
  );
  if (me?.standby === 't') {
    throw new PgkeepError(
      'TARGET_UNFIT',
      `${describeTarget(target)} is a standby and cannot be restored into`,
      { hint: 'restore into its primary' },
    );
  }
  const isSuperuser = me?.rolsuper === 't';
  const warnings: string[] = [];
  const versionNumber = Number(me?.version);
  if (Math.floor(versionNumber / 10000) < Math.floor(manifest.server.versionNumber / 10000)) {
    warnings.push(
      `the target runs PostgreSQL ${me?.shown}, older than the source's ${manifest.server.version}: what it does not know will fail`,
    );
  }
  if (options.isUnfinished) {
    // What is there was made by a restore, which found the place fit.
  } else if (options.create) await checkCreatable(client, target, isSuperuser || me?.rolcreatedb === 't');
  else if (options.dataOnly) await checkRoomForRows(client, options);
  else await checkEmpty(client, target, manifest.options.tables.length > 0);
  if (options.dataOnly) return { versionNumber, isSuperuser, roles: new Set(), missingRoles: [], warnings };
  await checkExtensions(client, options.entries);
  const found = await checkRoles(client, options, isSuperuser, isSuperuser || me?.rolcreaterole === 't');
  return { versionNumber, isSuperuser, ...found, warnings };
}

async function checkCreatable(client: pg.Client, target: DatabaseTarget, mayCreate: boolean): Promise<void> {
  const [found] = await queryRows(
    client,
    `SELECT 1 AS one FROM pg_catalog.pg_database WHERE datname = ${quoteLiteral(target.database)}`,
    'looking for the database',
  );
  if (found !== undefined) {
    throw new PgkeepError(
      'TARGET_EXISTS',
      `the database ${target.database} exists already at ${target.host}`,
      {
        hint: 'name a new one, or leave out --create when it is empty',
      },
    );
  }
  if (!mayCreate) {
    throw new PgkeepError('DATABASE_PRIVILEGE', `${target.user} may not create databases at ${target.host}`, {
      hint: 'grant it CREATEDB, or create an empty database and restore without --create',
    });
  }
}

const withContents = new Set([
  'table',
  'partitioned table',
  'view',
  'materialized view',
  'foreign table',
  'sequence',
  'large object',
]);

/** @param isOfTables the backup holds single tables without the schemas, types and functions they need. */
async function checkEmpty(client: pg.Client, target: DatabaseTarget, isOfTables: boolean): Promise<void> {
  const own = (await listObjects(client)).filter(
    ({ type }) => type !== 'extension' && (!isOfTables || withContents.has(type)),
  );
  if (own.length > 0) {
    throw new PgkeepError(
      'TARGET_NOT_EMPTY',
      `${describeTarget(target)} is not empty: it holds ${describeObjects(own)}`,
      {
        hint: 'restore into a new database with --create, and swap the names afterwards',
      },
    );
  }
}

/** With --data-only all that takes data must be there, fit the backup's, and be empty. */
async function checkRoomForRows(client: pg.Client, options: PreflightOptions): Promise<void> {
  const problems = [
    ...(await findTableProblems(client, options.tables)),
    ...(await findOtherProblems(client, options.entries)),
  ];
  if (problems.length > 0) {
    throw new PgkeepError(
      'TARGET_UNFIT',
      `the target does not fit --data-only: ${problems.slice(0, 20).join('; ')}`,
      {
        hint: 'restore the definitions first with --schema-only, and empty the tables',
      },
    );
  }
}

async function findTableProblems(client: pg.Client, tables: readonly TableEntry[]): Promise<string[]> {
  const problems: string[] = [];
  const rows = await queryRows(
    client,
    `SELECT n.nspname AS schema, c.relname AS name, c.oid::regclass::text AS shown,
       (SELECT pg_catalog.json_agg(a.attname) FROM pg_catalog.pg_attribute a
        WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '')::text AS columns
     FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'p')`,
    'reading the tables of the target',
  );
  const found = new Map(rows.map(row => [`${row.schema}.${row.name}`, row]));
  for (const table of tables) {
    const label = `${table.schema}.${table.name}`;
    const there = found.get(label);
    if (there === undefined) {
      problems.push(`${label} does not exist`);
      continue;
    }
    const columns = new Set(there.columns ? (JSON.parse(there.columns) as string[]) : []);
    const lacking = table.columns.filter(column => !columns.has(column));
    if (lacking.length > 0) problems.push(`${label} has no column ${lacking.join(', ')}`);
    const [any] = await queryRows(
      client,
      `SELECT EXISTS (SELECT 1 FROM ONLY ${there.shown}) AS any`,
      `looking into ${label}`,
    );
    if (any?.any === 't') problems.push(`${label} holds rows`);
  }
  return problems;
}

/** Sequences that are missing, and large objects that are there already. */
async function findOtherProblems(client: pg.Client, entries: readonly ArchiveEntry[]): Promise<string[]> {
  const problems: string[] = [];
  const values = entries.filter(entry => entry.kind === 'SEQUENCE SET');
  if (values.length > 0) {
    const rows = await queryRows(
      client,
      `SELECT n.nspname || ' ' || c.relname || ' ' AS label
       FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = 'S'`,
      'reading the sequences of the target',
    );
    const there = new Set(rows.map(row => row.label ?? ''));
    for (const { text } of values) {
      // Schema, name and owner in a row, none of them quoted; any of them may hold spaces.
      const words = text.slice('SEQUENCE SET '.length);
      const ends = [...words.matchAll(/ /g)].map(({ index }) => words.slice(0, index + 1));
      if (!ends.some(label => there.has(label))) problems.push(`sequence ${words} does not exist`);
    }
  }
  if (entries.some(entry => entry.kind.startsWith('BLOB'))) {
    const [found] = await queryRows(
      client,
      'SELECT count(*) AS count, min(oid) AS first FROM pg_catalog.pg_largeobject_metadata',
      'looking for large objects in the target',
    );
    if (Number(found?.count) > 0)
      problems.push(
        `it holds ${formatQuantity(Number(found?.count), 'large object')}, such as ${found?.first}`,
      );
  }
  return problems;
}

async function checkExtensions(client: pg.Client, entries: readonly ArchiveEntry[]): Promise<void> {
  // "EXTENSION - name ": extensions have no schema of their own.
  const needed = entries
    .filter(entry => entry.kind === 'EXTENSION')
    .map(entry => entry.text.replace(/^EXTENSION - /, '').trim());
  const missing: string[] = [];
  for (const name of needed) {
    // Reads the extension's control file and fails without one; unlike pg_available_extensions it looks wherever
    // CREATE EXTENSION would.
    const look = `SELECT count(*) AS paths FROM pg_catalog.pg_extension_update_paths(${quoteLiteral(name)})`;
    await queryRows(client, look, `looking for the extension ${name}`).catch(error => {
      if (!(error instanceof PgkeepError) || error.code !== 'DATABASE_QUERY') throw error;
      missing.push(name);
    });
  }
  if (missing.length > 0) {
    throw new PgkeepError(
      'TARGET_UNFIT',
      `the target server does not offer the extensions ${missing.join(', ')}`,
      {
        hint: 'install their packages on the server (on Debian postgresql-contrib or postgresql-<version>-<name>)',
        context: { extensions: missing },
      },
    );
  }
}

/** @returns the roles of the target, and those that are missing and will be created. */
async function checkRoles(
  client: pg.Client,
  options: PreflightOptions,
  isSuperuser: boolean,
  mayCreateRoles: boolean,
): Promise<{ roles: Set<string>; missingRoles: string[] }> {
  const rows = await queryRows(
    client,
    "SELECT rolname AS name, pg_catalog.pg_has_role(oid, 'MEMBER') AS member FROM pg_catalog.pg_roles",
    'reading the roles of the target',
  );
  const roles = new Map(rows.map(row => [row.name ?? '', row.member === 't']));
  const owners = options.noOwner ? new Set<string>() : readOwners(options);
  const missingRoles = [...new Set([...owners, ...readNamedRoles(options)])]
    .filter(name => !roles.has(name))
    .sort();
  if (missingRoles.length > 0 && !options.createRoles) {
    throw new PgkeepError(
      'TARGET_UNFIT',
      `the target server has no role ${missingRoles.join(', ')}, which own, may use or are named by something in the backup`,
      {
        hint: 'create them with --create-roles, or leave them out with --no-owner --no-privileges (policies and user mappings need theirs in any case)',
        context: { roles: missingRoles },
      },
    );
  }
  if (missingRoles.length > 0 && !mayCreateRoles) {
    throw new PgkeepError(
      'DATABASE_PRIVILEGE',
      `creating the roles ${missingRoles.join(', ')} needs CREATEROLE`,
      {
        hint: 'connect as a role that has it, or restore with --no-owner --no-privileges',
      },
    );
  }
  const foreign = isSuperuser ? [] : [...owners].filter(name => roles.get(name) === false);
  if (foreign.length > 0) {
    throw new PgkeepError(
      'TARGET_UNFIT',
      `the restoring role is not a member of ${foreign.join(', ')} and cannot make them owners`,
      {
        hint: 'restore with --no-owner (everything then belongs to the restoring role), or grant it membership',
      },
    );
  }
  return { roles: new Set(roles.keys()), missingRoles };
}

/** Entries whose owner pg_restore does not set. */
const withoutOwner = new Set([
  'DATABASE',
  'DATABASE PROPERTIES',
  'TABLE DATA',
  'COMMENT',
  'ACL',
  'DEFAULT ACL',
]);

/** The roles that are to own something. An entry ends with its owner, whose name may hold spaces. */
function readOwners({ manifest, entries, ownersOfLargeObjects, create }: PreflightOptions): Set<string> {
  const described = 'missing' in manifest.globals ? [] : manifest.globals.roles;
  const known = [...described, ...manifest.roles.filter(role => role.owns)].map(role => role.name);
  const longestFirst = [...new Set(known)].sort((a, b) => b.length - a.length);
  const owners = new Set([...ownersOfLargeObjects, ...(create ? [manifest.database.owner] : [])]);
  for (const entry of entries) {
    if (withoutOwner.has(entry.kind)) continue;
    const owner = longestFirst.find(name => entry.text.endsWith(` ${name}`));
    if (owner !== undefined) owners.add(owner);
  }
  return owners;
}

/** The roles that privileges, policies and user mappings name. */
function readNamedRoles({ manifest, noOwner, noPrivileges, create }: PreflightOptions): string[] {
  const { owner, privileges } = manifest.database;
  const named = manifest.roles.filter(role => role.isNamed || (role.isGranted && !noPrivileges));
  const ofDatabase = create && !noPrivileges && privileges !== null ? privileges : [];
  const granted = ofDatabase.flatMap(({ grantor, grantee }) =>
    grantee === null ? [grantor] : [grantor, grantee],
  );
  return [...named.map(role => role.name), ...granted.filter(name => !(noOwner && name === owner))];
}
