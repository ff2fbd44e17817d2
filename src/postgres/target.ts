// Which database to connect to, as libpq understands it: a postgres:// URL or PG* variables. One description serves
// both our own connections and the environment of PostgreSQL's programs, so that they cannot disagree.
import { existsSync, readFileSync } from 'node:fs';
import { homedir, userInfo } from 'node:os';
import path from 'node:path';
import { PgkeepError } from '../base/errors.ts';
import { Secret } from '../base/secret.ts';

export type Environment = Readonly<Record<string, string | undefined>>;

const sslModes = ['disable', 'allow', 'prefer', 'require', 'verify-ca', 'verify-full'] as const;
export type SslMode = (typeof sslModes)[number];

export interface DatabaseTarget {
  /** A host name, an address, or the folder of a Unix socket (begins with a slash). */
  host: string;
  port: number;
  database: string;
  user: string;
  password: Secret | undefined;
  sslMode: SslMode;
  /** Files, or `system` for the root certificate. */
  sslRootCert: string | undefined;
  sslCert: string | undefined;
  sslKey: string | undefined;
  connectTimeoutSeconds: number;
  /** Server settings for the session, as in PGOPTIONS. */
  options: string | undefined;
}

const socketFolders = ['/var/run/postgresql', '/tmp'];
const defaultConnectTimeoutSeconds = 30;
/**
 * Reads where to connect from a URL, or without one from PG* variables; PG* also fills what the URL leaves out.
 * @throws PgkeepError DATABASE_NOT_GIVEN, OPTION_INVALID (never repeating the URL, which may hold a password).
 */
export function readTarget(url: string | undefined, variables: Environment): DatabaseTarget {
  // As for libpq, an empty variable is none.
  const environment: Environment = Object.fromEntries(Object.entries(variables).filter(([, value]) => value));
  if (
    url === undefined &&
    !['PGHOST', 'PGHOSTADDR', 'PGDATABASE', 'PGUSER'].some(name => environment[name])
  ) {
    throw new PgkeepError('DATABASE_NOT_GIVEN', 'no database was named', {
      hint: 'set DATABASE_URL=postgres://user:password@host:5432/database, or PGHOST, PGUSER, PGDATABASE',
    });
  }
  const given: Record<string, string | undefined> = url === undefined ? {} : readUrl(url);
  if (given.service !== undefined || environment.PGSERVICE !== undefined) {
    throw new PgkeepError('OPTION_INVALID', 'connection services (PGSERVICE) are not supported', {
      hint: 'give DATABASE_URL, or PGHOST, PGPORT, PGUSER and PGDATABASE',
    });
  }
  const port = Number(given.port ?? environment.PGPORT ?? 5432);
  if (!Number.isInteger(port) || port < 1 || port > 65535) {
    throw new PgkeepError('OPTION_INVALID', 'the port of the database is not a number from 1 to 65535');
  }
  const host = given.host ?? environment.PGHOSTADDR ?? environment.PGHOST ?? defaultHost(port);
  if (host.includes(',')) throw severalHosts();
  const user = given.user ?? environment.PGUSER ?? userInfo().username;
  const database = given.database ?? environment.PGDATABASE ?? user;
  const password =
    given.password ?? environment.PGPASSWORD ?? readPassfile(environment, host, port, database, user);
  const timeout = Number(
    given.connect_timeout ?? environment.PGCONNECT_TIMEOUT ?? defaultConnectTimeoutSeconds,
  );
  return {
    host,
    port,
    database,
    user,
    password: password === undefined ? undefined : new Secret(password),
    sslMode: readSslMode(given.sslmode ?? environment.PGSSLMODE ?? 'prefer'),
    sslRootCert: given.sslrootcert ?? environment.PGSSLROOTCERT,
    sslCert: given.sslcert ?? environment.PGSSLCERT,
    sslKey: given.sslkey ?? environment.PGSSLKEY,
    connectTimeoutSeconds: Number.isFinite(timeout) && timeout > 0 ? timeout : defaultConnectTimeoutSeconds,
    options: given.options ?? environment.PGOPTIONS,
  };
}

/** Where a target is, for messages: no password. */
export function describeTarget(target: DatabaseTarget): string {
  return `${target.database} at ${target.host.startsWith('/') ? `${target.host} port ${target.port}` : `${target.host}:${target.port}`}`;
}

/** The environment PostgreSQL's programs need to reach the target, and nothing else of ours. */
export function programEnvironment(target: DatabaseTarget, environment: Environment): Record<string, string> {
  const env: Record<string, string> = {
    // Messages are shown in, and recognised from, English.
    LC_ALL: 'C',
    PGHOST: target.host,
    PGPORT: String(target.port),
    PGUSER: target.user,
    PGDATABASE: target.database,
    PGSSLMODE: target.sslMode,
    PGCONNECT_TIMEOUT: String(target.connectTimeoutSeconds),
    PGAPPNAME: 'pgkeep',
  };
  const optional = {
    PATH: environment.PATH,
    HOME: environment.HOME,
    PGPASSWORD: target.password?.reveal(),
    PGSSLROOTCERT: target.sslRootCert,
    PGSSLCERT: target.sslCert,
    PGSSLKEY: target.sslKey,
    PGOPTIONS: target.options,
  };
  for (const [name, value] of Object.entries(optional)) if (value !== undefined) env[name] = value;
  return env;
}

/** The environment of a program that connects to nothing: no password, nothing of ours. */
export function localEnvironment(environment: Environment): Record<string, string> {
  return { LC_ALL: 'C', ...(environment.PATH === undefined ? {} : { PATH: environment.PATH }) };
}

/**
 * The parts of a URL by libpq's names. Parameters that are not ours are ignored: other clients put theirs there too
 * (pgbouncer, schema, ...).
 */
function readUrl(url: string): Record<string, string | undefined> {
  const [, afterScheme] = /^postgres(?:ql)?:\/\/(.*)$/s.exec(url) ?? [];
  if (afterScheme === undefined)
    throw badUrl('the database URL does not begin with postgres:// or postgresql://');
  const [, login = '', place = '', database = '', query = ''] =
    /^(?:([^/]*)@)?([^/?]*)(?:\/([^?]*))?(?:\?(.*))?$/s.exec(afterScheme) ?? [];
  const [, user = '', password = ''] = /^([^:]*):?(.*)$/s.exec(login) ?? [];
  const [, address, name, port = ''] = /^(?:\[([^\]]*)\]|([^:[\]]*))(?::([^:]*))?$/.exec(place) ?? [];
  const host = address ?? name;
  // Before the port is looked at: with several hosts there are several ports.
  if (place.includes(',')) throw severalHosts();
  if (host === undefined) throw badUrl('the database URL cannot be read');
  const parts: [name: string, value: string][] = Object.entries({ user, password, host, port, database });
  for (const parameter of query.split('&')) {
    const equals = parameter.indexOf('=');
    if (equals > 0) parts.push([parameter.slice(0, equals), parameter.slice(equals + 1)]);
  }
  const read: Record<string, string> = {};
  for (const [key, value] of parts) if (value !== '') read[key] = decodePart(value);
  if (read.dbname !== undefined) read.database = read.dbname;
  if (read.ssl === 'true') read.sslmode ??= 'require';
  return read;
}

function decodePart(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw badUrl('the database URL holds a % that encodes nothing');
  }
}

function badUrl(problem: string): PgkeepError {
  return new PgkeepError('OPTION_INVALID', problem, {
    hint: 'as in postgres://user:password@host:5432/database; special characters in the password are %-encoded',
  });
}

function severalHosts(): PgkeepError {
  return new PgkeepError('OPTION_INVALID', 'several hosts in one connection are not supported', {
    hint: 'name the one host to back up',
  });
}

function readSslMode(text: string): SslMode {
  const mode = sslModes.find(candidate => candidate === text);
  if (mode !== undefined) return mode;
  throw new PgkeepError(
    'OPTION_INVALID',
    `sslmode ${JSON.stringify(text)} is not one of ${sslModes.join(', ')}`,
  );
}

/** libpq's default: the Unix socket where there is one, else localhost. */
function defaultHost(port: number): string {
  return socketFolders.find(folder => existsSync(path.join(folder, `.s.PGSQL.${port}`))) ?? 'localhost';
}

/** The password libpq would take from its password file (host:port:database:user:password, first match). */
function readPassfile(
  environment: Environment,
  host: string,
  port: number,
  database: string,
  user: string,
): string | undefined {
  const file = environment.PGPASSFILE ?? path.join(environment.HOME ?? homedir(), '.pgpass');
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch {
    return undefined;
  }
  // As in libpq a socket goes by its folder, and one in the usual place by localhost.
  const wanted = [socketFolders.includes(host) ? 'localhost' : host, String(port), database, user];
  for (const line of text.split(/\r?\n/)) {
    if (line.startsWith('#')) continue;
    // Fields end at a colon that no backslash precedes.
    const fields = [...line.matchAll(/((?:\\.|[^\\:])*)(?::|$)/g)].map(match => match[1] ?? '');
    const unescaped = (field: string) => field.replace(/\\(.)/g, '$1');
    const [, , , , password] = fields;
    if (password === undefined) continue;
    if (wanted.every((value, i) => fields[i] === '*' || unescaped(fields[i] ?? '') === value))
      return unescaped(password);
  }
  return undefined;
}
