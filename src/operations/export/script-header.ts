// How an exported script begins: for people, what it is and how to restore it; for the server, settings under which the
// statements mean what they meant in the source.
import { version } from '../../base/version.ts';
import {
  createRoleStatements,
  type Globals,
  roleSettingStatements,
  settingClause,
} from '../../postgres/globals.ts';
import { quoteLiteral, quoteName } from '../../postgres/identifiers.ts';
import type { Manifest } from '../../repository/manifest.ts';
import { createStatement, grantStatements } from '../restore/target-database.ts';

export interface HeaderOptions {
  manifest: Manifest;
  /** Whether the roles are created by the script. */
  roles: boolean;
  noOwner: boolean;
  noPrivileges: boolean;
  /** What is in it, in words. */
  contents: string;
  warnings: readonly string[];
}

/** Settings of the whole script; those that pg_restore makes are not among them. */
const settings = [
  'SET default_transaction_read_only = off;',
  'SET transaction_read_only = off;',
  'SET synchronous_commit = off;',
  'SET array_nulls = on;',
  'SET transform_null_equals = off;',
  // From 17 on, and unknown before.
  "SELECT pg_catalog.set_config(name, '0', false) FROM pg_catalog.pg_settings WHERE name = 'transaction_timeout';",
];

/** Settings under which the row text was written, and so is read. */
export const rowSettings = [
  'SET DateStyle = ISO;',
  'SET IntervalStyle = postgres;',
  "SET lc_monetary = 'C';",
  "SET TimeZone = 'UTC';",
];

/** Definitions after the rows are evaluated as the session has it. */
export const rowSettingsBack = [
  'RESET DateStyle;',
  'RESET IntervalStyle;',
  'RESET lc_monetary;',
  'RESET TimeZone;',
];

/** The beginning of a script. */
export function scriptHeader(options: HeaderOptions): string {
  const statements = options.roles ? roleBlocks(options) : [];
  const lines = [
    ...introduction(options).map(comment),
    '',
    ...settings,
    ...(statements.length === 0 ? [] : ['', comment('Roles, where they are missing.'), ...statements]),
  ];
  return `${lines.join('\n')}\n\n`;
}

/** A line of comment; line ends inside names and values do not end it. */
export function comment(text: string): string {
  return text === '' ? '--' : `-- ${text.replaceAll(/\r\n|\r|\n/g, '\n-- ')}`;
}

function introduction({
  manifest,
  roles,
  noOwner,
  noPrivileges,
  contents,
  warnings,
}: HeaderOptions): string[] {
  const { database, server, snapshot } = manifest;
  const name = quoteName(database.name);
  const lines = [
    `Database ${name} of PostgreSQL ${server.version}, as it was at ${snapshot.takenAt}.`,
    `${manifest.backup}, exported by pgkeep ${version}: ${contents}.`,
    '',
    'Make an empty database, and restore this into it with psql:',
    '',
    `  ${createStatement(name, manifest, server.versionNumber)};`,
    '',
    '  psql -X -q -o /dev/null -v ON_ERROR_STOP=1 -d <database> -f <this file>',
    '',
    'With -1 besides, it is all or nothing; a database of very many tables then needs a higher max_locks_per_transaction.',
    'The script has no commands of psql but the ends of rows. Where it comes from a server that you do not trust, restore it',
    'with a line before it that forbids them (psql from August 2025 on): \\restrict <a word>',
    `Definitions are in UTF-8${database.encoding === 'UTF8' ? '' : `, rows in ${database.encoding}, as each COPY says`}.`,
  ];
  if (manifest.extensions.length > 0) {
    const names = manifest.extensions.map(extension => `${extension.name} ${extension.version}`);
    lines.push('', `The server must have these extensions installed: ${names.join(', ')}.`);
  }
  const ofRoles = roles ? [] : roleStatements(manifest, noOwner, noPrivileges);
  if (ofRoles.length > 0) {
    lines.push('', 'Roles that it names; create those that the server lacks:', '');
    lines.push(...ofRoles.map(statement => `  ${statement};`));
  }
  const properties = propertyStatements(manifest, noOwner, noPrivileges);
  if (properties.length > 0) {
    lines.push('', 'Properties of the database, which this script does not set:', '');
    lines.push(...properties.map(statement => `  ${statement};`));
  }
  if (warnings.length > 0) lines.push('', ...warnings.map(warning => `Note: ${warning}`));
  return lines;
}

/** Roles that own or are named by something, as far as the backup describes them. */
function neededRoles(
  manifest: Manifest,
  globals: Globals,
  noOwner: boolean,
  noPrivileges: boolean,
): Set<string> {
  const described = new Set(globals.roles.map(role => role.name));
  const needed = manifest.roles.filter(
    role => role.isNamed || (role.owns && !noOwner) || (role.isGranted && !noPrivileges),
  );
  return new Set(needed.map(role => role.name).filter(name => described.has(name)));
}

/** Roles of the system are on every server. */
function systemRoles({ memberships }: Globals): Set<string> {
  return new Set(
    memberships.flatMap(({ role, member }) => [role, member]).filter(name => name.startsWith('pg_')),
  );
}

function roleStatements(manifest: Manifest, noOwner: boolean, noPrivileges: boolean): string[] {
  const { globals } = manifest;
  if ('missing' in globals) return [];
  return createRoleStatements(
    globals,
    neededRoles(manifest, globals, noOwner, noPrivileges),
    systemRoles(globals),
  );
}

/** Creates each role with all that belongs to it unless it exists; then memberships. */
function roleBlocks({ manifest, noOwner, noPrivileges }: HeaderOptions): string[] {
  const { globals } = manifest;
  if ('missing' in globals) return [];
  const blocks = [...neededRoles(manifest, globals, noOwner, noPrivileges)].map(name => {
    const statements = createRoleStatements(
      { roles: globals.roles, memberships: [] },
      new Set([name]),
      new Set(),
    );
    const exists = `EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = ${quoteLiteral(name)})`;
    const body = `BEGIN IF NOT ${exists} THEN ${statements.map(statement => `${statement};`).join(' ')} END IF; END`;
    return `DO ${quoteLiteral(body)};`;
  });
  const memberships = roleStatements(manifest, noOwner, noPrivileges).filter(statement =>
    statement.startsWith('GRANT '),
  );
  return [...blocks, ...memberships.map(statement => `${statement};`)];
}

function propertyStatements(manifest: Manifest, noOwner: boolean, noPrivileges: boolean): string[] {
  const { database, globals } = manifest;
  const name = quoteName(database.name);
  const roles =
    'missing' in globals ? new Set<string>() : neededRoles(manifest, globals, noOwner, noPrivileges);
  const { comment: text, owner, privileges, connectionLimit } = database;
  return [
    ...(text === null ? [] : [`COMMENT ON DATABASE ${name} IS ${quoteLiteral(text)}`]),
    ...database.settings.map(setting => `ALTER DATABASE ${name} ${settingClause(setting)}`),
    ...('missing' in globals ? [] : roleSettingStatements(globals, roles, database.name)),
    ...(connectionLimit < 0 ? [] : [`ALTER DATABASE ${name} CONNECTION LIMIT ${connectionLimit}`]),
    ...(noOwner ? [] : [`ALTER DATABASE ${name} OWNER TO ${quoteName(owner)}`]),
    ...(noPrivileges || privileges === null ? [] : grantStatements(name, owner, privileges, noOwner)),
  ];
}
