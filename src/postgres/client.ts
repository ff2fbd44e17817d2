// Opens connections through pg (TLS, authentication) for everything that is not COPY data.
import { readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import path from 'node:path';
import type { Duplex } from 'node:stream';
import { type ConnectionOptions, checkServerIdentity, rootCertificates, TLSSocket } from 'node:tls';
import pg from 'pg';
import { foreignCode, PgkeepError, throwIfAborted } from '../base/errors.ts';
import { connectError, translateDatabaseError } from './server-error.ts';
import type { DatabaseTarget } from './target.ts';

export interface OpenClientOptions {
  /** Makes the socket of a connection without TLS, for reading COPY data from it directly. */
  socket?: () => Duplex;
  applicationName?: string;
  /** Aborting it closes the connection at once, whatever it is waiting for. */
  signal?: AbortSignal | undefined;
}

/** A peer that vanished without a word is noticed after this time and ten probes, one a second. */
const keepAliveDelayMs = 10_000;
/** How long a server may take to end a session. */
export const politeCloseMs = 2_000;
const statementTimeoutAttempts = 5;

/** A row of a query: every value as text, or null. */
export type TextRow = Record<string, string | null>;

/**
 * Connects as the target's sslmode demands and lifts the role's time limits for this session; dates are in ISO 8601.
 * @throws PgkeepError DATABASE_UNREACHABLE, DATABASE_AUTHENTICATION, DATABASE_NOT_FOUND, DATABASE_TLS; INTERRUPTED.
 */
export async function openClient(
  target: DatabaseTarget,
  options: OpenClientOptions = {},
): Promise<pg.Client> {
  const attempts = sslAttempts(target);
  for (const [index, ssl] of attempts.entries()) {
    throwIfAborted(options.signal);
    const client = newClient(target, ssl, options);
    const binding = target.channelBinding === 'require' ? requireChannelBinding(client) : undefined;
    const cut = () => socketOf(client).destroy();
    options.signal?.addEventListener('abort', cut, { once: true });
    client.once('end', () => options.signal?.removeEventListener('abort', cut));
    const late = setTimeout(
      () => socketOf(client).destroy(new Error('timeout expired')),
      target.connectTimeoutSeconds * 1000,
    );
    try {
      await client.connect();
      if (binding?.refusal !== undefined) throw binding.refusal;
      await normalizeSession(client);
      return client;
    } catch (error) {
      await closeClient(client);
      throwIfAborted(options.signal);
      if (binding?.refusal !== undefined) throw binding.refusal;
      const next = attempts[index + 1];
      if (next === undefined || !isAboutTls(error)) throw connectError(error, target);
    } finally {
      clearTimeout(late);
    }
  }
  throw new PgkeepError('INTERNAL', 'no way to connect was tried');
}

/** Ends a connection: politely, and soon by force, as a network that swallows everything never says goodbye. */
export async function closeClient(client: pg.Client): Promise<void> {
  const force = setTimeout(() => socketOf(client).destroy(), politeCloseMs);
  await client.end().catch(() => undefined);
  clearTimeout(force);
}

/** The version of TLS that a connection uses, such as TLSv1.3; undefined without encryption. */
export function tlsVersion(client: pg.Client): string | undefined {
  const socket = socketOf(client);
  return socket instanceof TLSSocket ? (socket.getProtocol() ?? 'TLS') : undefined;
}

/** The process id the other side told at the start; a pooler tells one of its own. */
export function announcedProcessId(client: pg.Client): number {
  return (client as unknown as { processID: number }).processID;
}

/** Runs a query; all values come as text. @throws PgkeepError as {@link translateDatabaseError} says. */
export async function queryRows(client: pg.Client, sql: string, doing: string): Promise<TextRow[]> {
  try {
    const result = await client.query<TextRow>({
      text: sql,
      types: { getTypeParser: () => (value: string) => value },
    });
    return result.rows;
  } catch (error) {
    throw translateDatabaseError(error, doing);
  }
}

function newClient(
  target: DatabaseTarget,
  ssl: ConnectionOptions | false,
  options: OpenClientOptions,
): pg.Client {
  const config: pg.ClientConfig = {
    host: target.host,
    port: target.port,
    user: target.user,
    database: target.database,
    password: target.password?.reveal() ?? '',
    ssl,
    application_name: options.applicationName ?? 'pgkeep',
    keepAlive: true,
    keepAliveInitialDelayMillis: keepAliveDelayMs,
  };
  if (target.options !== undefined) config.options = target.options;
  if (target.channelBinding === 'require') config.enableChannelBinding = true;
  if (options.socket !== undefined && ssl === false) config.stream = options.socket;
  const client = new pg.Client(config);
  // Without a listener a connection lost between two queries would end the process; the next query reports it.
  client.on('error', () => undefined);
  return client;
}

/**
 * Ends the connection before anything of the password is sent, unless logging in is bound to the encrypted connection.
 * These listeners come before pg's own, which are added when it connects.
 */
function requireChannelBinding(client: pg.Client): { refusal?: PgkeepError } {
  const outcome: { refusal?: PgkeepError } = {};
  const { connection } = client as unknown as {
    connection: { on(event: string, listener: (message: { mechanisms?: string[] }) => void): void };
  };
  let isBound = false;
  connection.on('authenticationSASL', ({ mechanisms = [] }) => {
    isBound = tlsVersion(client) !== undefined && mechanisms.includes('SCRAM-SHA-256-PLUS');
  });
  const refused = [
    'authenticationSASL',
    'authenticationCleartextPassword',
    'authenticationMD5Password',
    'authenticationOk',
  ];
  for (const event of refused) {
    connection.on(event, () => {
      if (isBound) return;
      outcome.refusal = new PgkeepError(
        'DATABASE_TLS',
        'channel_binding=require, and the server, or its connection, offers no channel binding',
        {
          hint: 'use scram-sha-256 over TLS that no pooler ends before the server; or leave channel_binding out',
        },
      );
      socketOf(client).destroy(outcome.refusal);
    });
  }
  return outcome;
}

/** pg offers no public way to its socket. */
function socketOf(client: pg.Client): Duplex {
  return (client as unknown as { connection: { stream: Duplex } }).connection.stream;
}

/** Undoes what role or database have set that would end our statements, forbid them, or change how values look. */
async function normalizeSession(client: pg.Client): Promise<void> {
  await liftStatementTimeout(client);
  const version = Number(
    (await client.query<{ v: string }>("SELECT current_setting('server_version_num') AS v")).rows[0]?.v ?? 0,
  );
  const settings = ['lock_timeout', 'idle_in_transaction_session_timeout'];
  if (version >= 140000) settings.push('idle_session_timeout');
  if (version >= 170000) settings.push('transaction_timeout');
  const statements = settings.map(name => `SET ${name} = 0`);
  // Catalog queries seem costly enough to be compiled, which takes a hundred times as long as running them.
  await client.query(
    `${statements.join('; ')}; SET default_transaction_read_only = off; SET DateStyle = ISO; SET jit = off`,
  );
}

/** First and alone, and again: a limit of some milliseconds ends any statement on a busy server. */
async function liftStatementTimeout(client: pg.Client): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    try {
      await client.query('SET statement_timeout = 0');
      return;
    } catch (error) {
      if (attempt === statementTimeoutAttempts || foreignCode(error) !== '57014') throw error;
    }
  }
}

/** The ways to try, in libpq's order, for an sslmode. */
function sslAttempts(target: DatabaseTarget): (ConnectionOptions | false)[] {
  if (target.host.startsWith('/')) return [false];
  const unverified = { ...clientCertificate(target), rejectUnauthorized: false };
  switch (target.sslMode) {
    case 'disable':
      return [false];
    case 'allow':
      return [false, unverified];
    case 'prefer':
      return [unverified, false];
    case 'require':
      // As libpq: with a root certificate at hand, require verifies against it.
      return [target.sslRootCert === undefined ? unverified : verified(target, false)];
    case 'verify-ca':
      return [verified(target, false)];
    case 'verify-full':
      return [verified(target, true)];
  }
}

function verified(target: DatabaseTarget, checkName: boolean): ConnectionOptions {
  const file = target.sslRootCert ?? path.join(homedir(), '.postgresql', 'root.crt');
  const options: ConnectionOptions = {
    ...clientCertificate(target),
    rejectUnauthorized: true,
    ca: file === 'system' ? [...rootCertificates] : readCertificate(file),
  };
  // By our own host rather than by the handshake's servername, which must not be an address.
  options.checkServerIdentity = (_, certificate) =>
    checkName ? checkServerIdentity(target.host, certificate) : undefined;
  return options;
}

function clientCertificate(target: DatabaseTarget): ConnectionOptions {
  if (target.sslCert === undefined || target.sslKey === undefined) return {};
  return { cert: readCertificate(target.sslCert), key: readCertificate(target.sslKey) };
}

function readCertificate(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (cause) {
    throw new PgkeepError(
      'DATABASE_TLS',
      `the certificate file ${file} cannot be read (${foreignCode(cause) ?? 'unreadable'})`,
      {
        hint: 'give the file with sslrootcert, or sslrootcert=system for the certificates of the system',
        cause,
      },
    );
  }
}

/** Whether trying again with or without TLS may help: the server has none, or pg_hba.conf refused this way. */
function isAboutTls(error: unknown): boolean {
  const message = error instanceof Error ? error.message : '';
  return message.includes('does not support SSL') || foreignCode(error) === '28000';
}
