// Roles, memberships and role settings: what a database needs from its server and pg_dump leaves out.
import type pg from 'pg';
import { PgkeepError } from '../base/errors.ts';
import { queryRows, type TextRow } from './client.ts';
import { quoteLiteral, quoteName } from './identifiers.ts';

export interface Role {
  name: string;
  /** The words of CREATE ROLE, such as LOGIN or CREATEDB. */
  attributes: string[];
  connectionLimit: number;
  validUntil: string | null;
  /** Only when asked for. */
  password?: string;
  comment: string | null;
  /** `name=value` as pg_db_role_setting holds them; for every database or for this one. */
  settings: { inThisDatabase: boolean; values: string[] }[];
}

export interface Membership {
  role: string;
  member: string;
  adminOption: boolean;
  inheritOption?: boolean;
  setOption?: boolean;
}

export interface Globals {
  roles: Role[];
  memberships: Membership[];
}

const attributeWords: [column: string, word: string][] = [
  ['rolsuper', 'SUPERUSER'],
  ['rolcreaterole', 'CREATEROLE'],
  ['rolcreatedb', 'CREATEDB'],
  ['rolcanlogin', 'LOGIN'],
  ['rolreplication', 'REPLICATION'],
  ['rolbypassrls', 'BYPASSRLS'],
];

/**
 * Reads every role except the system's own.
 * @param withPasswords read the password hashes too; needs a superuser.
 * @throws PgkeepError DATABASE_PRIVILEGE when passwords are asked for and may not be read.
 */
export async function readGlobals(
  client: pg.Client,
  versionNumber: number,
  withPasswords: boolean,
): Promise<Globals> {
  const roles = await queryRows(
    client,
    `SELECT r.*, pg_catalog.shobj_description(r.oid, 'pg_authid') AS comment,
       ${withPasswords ? '(SELECT a.rolpassword FROM pg_catalog.pg_authid a WHERE a.oid = r.oid)' : 'NULL'} AS password,
       (SELECT pg_catalog.json_agg(pg_catalog.json_build_object('inThisDatabase', s.setdatabase <> 0, 'values', s.setconfig))
        FROM pg_catalog.pg_db_role_setting s WHERE s.setrole = r.oid
          AND s.setdatabase IN (0, (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = current_database())))::text AS settings
     FROM pg_catalog.pg_roles r WHERE r.rolname !~ '^pg_' ORDER BY r.rolname`,
    'reading the roles',
  );
  // From 16 on a membership says for itself whether it inherits and may be assumed.
  const options =
    versionNumber >= 160000 ? ', bool_or(m.inherit_option) AS inherits, bool_or(m.set_option) AS sets' : '';
  const memberships = await queryRows(
    client,
    `SELECT r.rolname AS role, u.rolname AS member, bool_or(m.admin_option) AS admin${options}
     FROM pg_catalog.pg_auth_members m JOIN pg_catalog.pg_roles r ON r.oid = m.roleid JOIN pg_catalog.pg_roles u ON u.oid = m.member
     WHERE u.rolname !~ '^pg_' GROUP BY 1, 2 ORDER BY 1, 2`,
    'reading the memberships of roles',
  );
  return { roles: roles.map(toRole), memberships: memberships.map(toMembership) };
}

/**
 * The statements that create these roles, one after the other; roles that exist are not altered.
 * @param existing the roles of the target: memberships of and in others are passed over.
 */
export function createRoleStatements(
  globals: Globals,
  missing: ReadonlySet<string>,
  existing: ReadonlySet<string>,
): string[] {
  const roles = globals.roles.filter(role => missing.has(role.name));
  const unknown = [...missing].filter(name => !roles.some(role => role.name === name));
  if (unknown.length > 0) {
    throw new PgkeepError(
      'TARGET_UNFIT',
      `the backup does not describe the roles ${unknown.join(', ')}, so they cannot be created`,
      {
        hint: 'create them by hand, or restore with --no-owner --no-privileges',
      },
    );
  }
  const isThere = (name: string) => missing.has(name) || existing.has(name);
  const memberships = globals.memberships.filter(
    ({ role, member }) => (missing.has(role) || missing.has(member)) && isThere(role) && isThere(member),
  );
  return [...roles.flatMap(roleStatements), ...memberships.map(membershipStatement)];
}

/** Settings that are lists of names, kept quoted as the server would print them; after pg_dump's list. */
const listSettings =
  /^(search_path|temp_tablespaces|local_preload_libraries|session_preload_libraries|shared_preload_libraries|unix_socket_directories)$/i;

/** The SET clause of ALTER ROLE and ALTER DATABASE for `name=value` as the catalog holds it. */
export function settingClause(setting: string): string {
  const equals = setting.indexOf('=');
  const name = setting.slice(0, equals);
  const value = setting.slice(equals + 1);
  // Each name as a literal of its own: an empty one cannot be written as a name.
  const literals = listSettings.test(name)
    ? [...value.matchAll(/"((?:[^"]|"")*)"|([^",\s]+)/g)].map(([, quoted, plain = '']) =>
        quoteLiteral(quoted?.replaceAll('""', '"') ?? plain),
      )
    : [quoteLiteral(value)];
  return `SET ${quoteName(name)} TO ${literals.length === 0 ? "''" : literals.join(', ')}`;
}

function roleStatements(role: Role): string[] {
  const name = quoteName(role.name);
  const words = [...role.attributes];
  if (role.connectionLimit >= 0) words.push(`CONNECTION LIMIT ${role.connectionLimit}`);
  if (role.validUntil !== null) words.push(`VALID UNTIL ${quoteLiteral(role.validUntil)}`);
  if (role.password !== undefined) words.push(`PASSWORD ${quoteLiteral(role.password)}`);
  const statements = [`CREATE ROLE ${name} WITH ${words.join(' ')}`];
  if (role.comment !== null) statements.push(`COMMENT ON ROLE ${name} IS ${quoteLiteral(role.comment)}`);
  return [...statements, ...settingStatements(role, false, '')];
}

/** What roles have set in the backed up database, as statements for the restored one. */
export function roleSettingStatements(
  globals: Globals,
  roles: ReadonlySet<string>,
  database: string,
): string[] {
  const where = ` IN DATABASE ${quoteName(database)}`;
  return globals.roles
    .filter(role => roles.has(role.name))
    .flatMap(role => settingStatements(role, true, where));
}

function settingStatements(role: Role, inThisDatabase: boolean, where: string): string[] {
  return role.settings
    .filter(settings => settings.inThisDatabase === inThisDatabase)
    .flatMap(settings =>
      settings.values.map(value => `ALTER ROLE ${quoteName(role.name)}${where} ${settingClause(value)}`),
    );
}

function membershipStatement(membership: Membership): string {
  const options: string[] = [];
  if (membership.adminOption) options.push('ADMIN TRUE');
  if (membership.inheritOption !== undefined)
    options.push(`INHERIT ${membership.inheritOption ? 'TRUE' : 'FALSE'}`);
  if (membership.setOption !== undefined) options.push(`SET ${membership.setOption ? 'TRUE' : 'FALSE'}`);
  const isOld = membership.inheritOption === undefined;
  const withOptions = isOld
    ? membership.adminOption
      ? ' WITH ADMIN OPTION'
      : ''
    : options.length > 0
      ? ` WITH ${options.join(', ')}`
      : '';
  return `GRANT ${quoteName(membership.role)} TO ${quoteName(membership.member)}${withOptions}`;
}

function toRole(row: TextRow): Role {
  const role: Role = {
    name: row.rolname ?? '',
    attributes: attributeWords.map(([column, word]) => (row[column] === 't' ? word : `NO${word}`)),
    connectionLimit: Number(row.rolconnlimit),
    validUntil: row.rolvaliduntil ?? null,
    comment: row.comment ?? null,
    settings: row.settings ? (JSON.parse(row.settings) as Role['settings']) : [],
  };
  role.attributes.push(row.rolinherit === 't' ? 'INHERIT' : 'NOINHERIT');
  if (row.password) role.password = row.password;
  return role;
}

function toMembership(row: TextRow): Membership {
  const membership: Membership = {
    role: row.role ?? '',
    member: row.member ?? '',
    adminOption: row.admin === 't',
  };
  if (row.inherits !== undefined) membership.inheritOption = row.inherits === 't';
  if (row.sets !== undefined) membership.setOption = row.sets === 't';
  return membership;
}
