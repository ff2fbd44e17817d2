// Checks of what the role may read: tables, sequences, rows behind row-level security, large objects, roles.
import type pg from 'pg';
import { PgkeepError } from '../../base/errors.ts';
import { formatCount, formatQuantity } from '../../base/units.ts';
import { type Relation, readLargeObjects } from '../../postgres/catalog.ts';
import { queryRows } from '../../postgres/client.ts';
import { readGlobals } from '../../postgres/globals.ts';
import { quoteLiteral, quoteName } from '../../postgres/identifiers.ts';
import { type Checklist, listSome } from '../checklist.ts';
import { largeObjectFunctions } from '../create/large-object-sink.ts';
import { areWorthWorkers } from '../create/large-objects.ts';

const firstVersionWithReadAll = 140000;

/** @param relations every relation of the database. */
export function checkTables(
  list: Checklist,
  relations: readonly Relation[],
  role: string,
  versionNumber: number,
): void {
  // Of an extension only its configuration is read.
  const wanted = relations.filter(
    ({ kind, extension, isConfiguration }) =>
      (kind === 'r' || kind === 'p' || kind === 'S') && (extension === null || isConfiguration),
  );
  const unreadable = wanted.filter(({ canRead }) => !canRead);
  const without = 'or do without them: pgkeep create --skip-unreadable';
  if (unreadable.length === 0) {
    list.ok('tables', `the role may read all ${formatCount(wanted.length)} tables and sequences`);
  } else {
    const schemas = [...new Set(unreadable.map(({ schema }) => quoteName(schema)))].join(', ');
    const grants =
      versionNumber >= firstVersionWithReadAll
        ? `GRANT pg_read_all_data TO ${quoteName(role)}`
        : `GRANT USAGE ON SCHEMA ${schemas} TO ${quoteName(role)}; GRANT SELECT ON ALL TABLES IN SCHEMA ${schemas} TO ${quoteName(role)}; GRANT SELECT ON ALL SEQUENCES IN SCHEMA ${schemas} TO ${quoteName(role)}`;
    list.fail('tables', `the role may not read ${labels(unreadable)}`, `${grants}; ${without}`);
  }
  const hidden = wanted.filter(({ hidesRows }) => hidesRows);
  if (hidden.length === 0) list.ok('row-security', 'row-level security hides no rows from the role');
  else
    list.fail(
      'row-security',
      `row-level security hides rows from the role in ${labels(hidden)}`,
      `ALTER ROLE ${quoteName(role)} BYPASSRLS; ${without}`,
    );
}

/** By which pg_dump reads large objects, or begins to. */
const pgDumpFunctions = ['lo_open(oid, integer)', 'loread(integer, integer)', 'lo_close(integer)'];

export async function checkLargeObjects(
  list: Checklist,
  client: pg.Client,
  role: string,
  versionNumber: number,
): Promise<void> {
  const name = 'large-objects';
  const { count, sizeBytes, unreadableCount, unreadable } = await readLargeObjects(client, versionNumber);
  if (count === 0) {
    list.ok(name, 'there are no large objects');
    return;
  }
  const denied = await readDenied(client, [
    ...pgDumpFunctions,
    ...(areWorthWorkers(count, sizeBytes) ? largeObjectFunctions : []),
  ]);
  const problems: { message: string; remedy: string }[] = [];
  if (unreadableCount > 0) {
    problems.push({
      message: `read ${formatCount(unreadableCount)} of ${formatQuantity(count, 'large object')}, such as ${listSome(unreadable, 3)}`,
      remedy: `as their owner: GRANT SELECT ON LARGE OBJECT ${unreadable.slice(0, 3).join(', ')} TO ${quoteName(role)}; or do without: pgkeep create --skip-unreadable`,
    });
  }
  if (denied.length > 0) {
    const functions = denied.map(signature => `pg_catalog.${signature}`).join(', ');
    problems.push({
      message: `execute ${denied.join(', ')}, by which large objects are read`,
      remedy: `GRANT EXECUTE ON FUNCTION ${functions} TO ${quoteName(role)}`,
    });
  }
  if (problems.length === 0) {
    list.ok(
      name,
      count === 1 ? 'the role may read the only one' : `the role may read all ${formatCount(count)} of them`,
    );
    return;
  }
  const message = `the role may not ${problems.map(problem => problem.message).join('; nor ')}`;
  list.fail(name, message, problems.map(({ remedy }) => remedy).join('; '));
}

/** @returns those of the functions that the role may not execute. */
async function readDenied(client: pg.Client, functions: readonly string[]): Promise<string[]> {
  const rows = await queryRows(
    client,
    `SELECT name FROM pg_catalog.unnest(ARRAY[${[...new Set(functions)].map(quoteLiteral).join(', ')}]) AS f(name)
     WHERE NOT pg_catalog.has_function_privilege('pg_catalog.' || name, 'EXECUTE')`,
    'reading the privileges of functions',
  );
  return rows.map(row => row.name ?? '');
}

export async function checkRoles(list: Checklist, client: pg.Client, versionNumber: number): Promise<void> {
  try {
    const { roles } = await readGlobals(client, versionNumber, false);
    list.ok('roles', `${formatQuantity(roles.length, 'role')} can be read, to go along without passwords`);
  } catch (error) {
    if (!(error instanceof PgkeepError) || error.code !== 'DATABASE_PRIVILEGE') throw error;
    list.warn(
      'roles',
      `roles cannot be read, so a backup goes without them: ${error.message}`,
      'create them by hand before a restore on another server, or restore with --no-owner --no-privileges',
    );
  }
}

/** pg_dump leaves subscriptions out, with no more than a warning, for who is not superuser. */
export async function checkSubscriptions(list: Checklist, client: pg.Client): Promise<void> {
  const [row] = await queryRows(
    client,
    `SELECT (SELECT count(s.oid) FROM pg_catalog.pg_subscription s JOIN pg_catalog.pg_database d ON d.oid = s.subdbid
             WHERE d.datname = current_database()) AS count, r.rolsuper AS super
     FROM pg_catalog.pg_roles r WHERE r.rolname = current_user`,
    'counting the subscriptions',
  );
  const count = Number(row?.count);
  if (count === 0) list.ok('subscriptions', 'there are no subscriptions');
  else if (row?.super === 't')
    list.ok('subscriptions', `${formatQuantity(count, 'subscription')} to go along`);
  else
    list.warn(
      'subscriptions',
      `backups are without ${formatQuantity(count, 'subscription')}, which pg_dump reads only as superuser`,
      'note how they were made (CREATE SUBSCRIPTION), or back up as a superuser',
    );
}

function labels(relations: readonly Relation[]): string {
  return listSome(relations.map(({ schema, name }) => `${schema}.${name}`));
}
