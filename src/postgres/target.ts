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

const channelBindings = ['disable', 'prefer', 'require'] as const;
export type ChannelBinding = (typeof channelBindings)[number];

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
  /** Whether logging in must be bound to the encrypted connection, as SCRAM can. */
  channelBinding: ChannelBinding | undefined;
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
  const revocation = revocationLists.find(name => environment[name] !== undefined);
  if (revocation !== undefined) throw unknownParameter(revocation);
  const channelBinding = given.channel_binding ?? environment.PGCHANNELBINDING;
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
    sslMode: readWord('sslmode', sslModes, given.sslmode ?? environment.PGSSLMODE ?? 'prefer'),
    sslRootCert: given.sslrootcert ?? environment.PGSSLROOTCERT,
    sslCert: given.sslcert ?? environment.PGSSLCERT,
    sslKey: given.sslkey ?? environment.PGSSLKEY,
    channelBinding:
      channelBinding === undefined ? undefined : readWord('channel_binding', channelBindings, channelBinding),
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
    PGCHANNELBINDING: target.channelBinding,
    PGOPTIONS: target.options,
  };
  for (const [name, value] of Object.entries(optional)) if (value !== undefined) env[name] = value;
  return env;
}

/** The environment of a program that connects to nothing: no password, nothing of ours. */
export function localEnvironment(environment: Environment): Record<string, string> {
  return { LC_ALL: 'C', ...(environment.PATH === undefined ? {} : { PATH: environment.PATH }) };
}

/** Parameters that are understood, beside those that stand before the question mark. */
const knownParameters = new Set([
  'user',
  'password',
  'host',
  'port',
  'dbname',
  'sslmode',
  'ssl',
  'sslrootcert',
  'sslcert',
  'sslkey',
  'channel_binding',
  'connect_timeout',
  'options',
  'service',
]);

/**
 * Parameters of libpq and of other clients (Prisma, pgx, Rails, Supabase) that change neither where a connection goes, nor
 * how safe it is, nor what is read through it: a URL is shared with the application. With the values that are harmless, where not all are.
 */
const harmlessParameters: Readonly<Record<string, RegExp>> = {
  application_name: /./,
  fallback_application_name: /./,
  client_encoding: /./,
  connection_limit: /./,
  currentSchema: /./,
  gssencmode: /^(disable|prefer)$/,
  keepalives: /./,
  keepalives_count: /./,
  keepalives_idle: /./,
  keepalives_interval: /./,
  load_balance_hosts: /./,
  pgbouncer: /./,
  pool: /./,
  pool_max_conns: /./,
  pool_min_conns: /./,
  pool_mode: /./,
  pool_size: /./,
  pool_timeout: /./,
  prepared_statements: /./,
  schema: /./,
  socket_timeout: /./,
  sslaccept: /^accept_invalid_certs$/,
  sslcompression: /^0$/,
  sslnegotiation: /^postgres$/,
  sslsni: /./,
  statement_cache_size: /./,
  supa: /./,
  target_session_attrs: /^any$/,
  tcp_user_timeout: /./,
  uselibpqcompat: /./,
  workaround: /./,
};

/** Certificates that a list revokes would be taken: we have no way to look at such lists. */
const revocationLists = ['PGSSLCRL', 'PGSSLCRLDIR'];

/**
 * The parts of a URL by libpq's names.
 * @throws PgkeepError OPTION_INVALID, also for a parameter that would have to be passed over, though it may matter.
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
    if (parameter === '') continue;
    const [, name = '', value = ''] = /^([^=]*)=?(.*)$/s.exec(parameter) ?? [];
    if (knownParameters.has(name)) parts.push([name, value]);
    else if (value !== '' && !harmlessParameters[name]?.test(decodePart(value))) throw unknownParameter(name);
  }
  const read: Record<string, string> = {};
  for (const [key, value] of parts) if (value !== '') read[key] = decodePart(value);
  if (read.dbname !== undefined) read.database = read.dbname;
  if (read.ssl !== undefined)
    read.sslmode ??= readWord('ssl', ['true', 'false'], read.ssl) === 'true' ? 'require' : 'disable';
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

/** What is shown is a name and nothing else: a password with an & in it that is not encoded ends up here too. */
function unknownParameter(name: string): PgkeepError {
  const shown =
    /^[A-Za-z]+(_[A-Za-z]+)*$/.test(name) && name.length <= 40 ? name : 'one whose name is not shown';
  const instead: Readonly<Record<string, string>> = {
    hostaddr: 'put the address where the host stands',
    sslcrl: 'leave it out; revocation lists are not supported',
    sslcrldir: 'leave it out; revocation lists are not supported',
    PGSSLCRL: 'unset it; revocation lists are not supported',
    PGSSLCRLDIR: 'unset it; revocation lists are not supported',
    sslaccept: 'say it as libpq does: sslmode=verify-full (and sslrootcert)',
    sslnegotiation: 'leave it out; encryption is negotiated as ever',
    target_session_attrs: 'name the one host to back up',
  };
  return new PgkeepError(
    'OPTION_INVALID',
    `the connection has a parameter that pgkeep cannot honour: ${shown}`,
    {
      hint:
        instead[name] ??
        'leave it out; settings of the session go into options, as in ?options=-c%20work_mem%3D64MB',
    },
  );
}

function severalHosts(): PgkeepError {
  return new PgkeepError('OPTION_INVALID', 'several hosts in one connection are not supported', {
    hint: 'name the one host to back up',
  });
}

function readWord<T extends string>(name: string, words: readonly T[], text: string): T {
  const word = words.find(candidate => candidate === text);
  if (word !== undefined) return word;
  throw new PgkeepError(
    'OPTION_INVALID',
    `${name} ${JSON.stringify(text)} is not one of ${words.join(', ')}`,
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
