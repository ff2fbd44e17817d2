// Translates what a PostgreSQL server or the network says into errors of pgkeep, by SQLSTATE and errno.
import { type ProgramResult, programFailure } from '../base/child-process.ts';
import { foreignCode, PgkeepError } from '../base/errors.ts';
import { type DatabaseTarget, describeTarget } from './target.ts';

/** What an ErrorResponse says; the fields of pg's DatabaseError that matter here. */
export interface ServerComplaint {
  code: string;
  message: string;
  detail?: string | undefined;
  hint?: string | undefined;
}

const lostConnection = new Set([
  '57P01',
  '57P02',
  '57P03',
  '08000',
  '08003',
  '08006',
  '25P03',
  '25P04',
  'ECONNRESET',
  'EPIPE',
  'ETIMEDOUT',
]);
const unreachable = new Set([
  'ECONNREFUSED',
  'ENOTFOUND',
  'EAI_AGAIN',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'ENOENT',
  'EACCES',
  'ETIMEDOUT',
  'ECONNRESET',
  'EPIPE',
]);

/** @param doing what was being done, as in "reading table public.t". */
export function serverError(complaint: ServerComplaint, doing: string): PgkeepError {
  const { code, message } = complaint;
  // Of a constraint's failure the detail is a row, which has no place in a log.
  const detail = complaint.detail === undefined || code.startsWith('23') ? '' : ` (${complaint.detail})`;
  const said = `${message}${detail}`;
  const context = { sqlstate: code };
  const withHint = (hint: string | undefined) => (hint === undefined ? { context } : { context, hint });
  if (lostConnection.has(code)) {
    return new PgkeepError(
      'DATABASE_CONNECTION_LOST',
      `the server ended the connection while ${doing}: ${said}`,
      withHint(complaint.hint),
    );
  }
  if (code === '42501') {
    return new PgkeepError(
      'DATABASE_PRIVILEGE',
      `the role may not do this while ${doing}: ${said}`,
      withHint(complaint.hint ?? 'grant the privilege, or connect as a role that has it'),
    );
  }
  if (code === '40001' && isStandbyConflict(message)) return standbyConflict(said, doing, context);
  if (code === '53200' && isOutOfLocks(message)) return outOfLocks(said, doing, context);
  return new PgkeepError(
    'DATABASE_QUERY',
    `the server refused a statement while ${doing}: ${said}`,
    withHint(complaint.hint),
  );
}

/** Whether a server's message, or what a program quotes of it, says that replay on a standby ended a query or session. */
function isStandbyConflict(message: string): boolean {
  return message.includes('conflict with recovery');
}

function standbyConflict(said: string, doing: string, context: PgkeepError['context'] = {}): PgkeepError {
  return new PgkeepError('STANDBY_CONFLICT', `the hot standby cancelled the backup while ${doing}: ${said}`, {
    context,
    hint: 'on the standby set hot_standby_feedback = on, or raise max_standby_streaming_delay (-1 waits for ever)',
  });
}

/** Whether a server's message, or what a program quotes of it, says that its table of locks is full. */
function isOutOfLocks(message: string): boolean {
  return message.includes('out of shared memory');
}

function outOfLocks(said: string, doing: string, context: PgkeepError['context'] = {}): PgkeepError {
  return new PgkeepError('DATABASE_QUERY', `the server cannot hold that many locks while ${doing}: ${said}`, {
    context,
    hint: 'raise max_locks_per_transaction and restart the server; fewer schemas at once take fewer locks',
  });
}

/** What libpq, and a server's last words, say in a program's complaint when the connection, the server, or the session with the snapshot has ended. */
const saidOfLostConnection =
  /server closed the connection unexpectedly|connection has been closed unexpectedly|could not (receive data from|send data to) server|no connection to the server|SSL SYSCALL error|terminating connection (due to|because of)|the database system is (shutting down|starting up|in recovery mode)|Is the server running on that host|invalid snapshot identifier|snapshot "[^"]*" does not exist|could not import the requested snapshot/;

/**
 * The error for a program of PostgreSQL that ended badly. Of a server that ends, this process and the program hear about at the
 * same time: whichever tells first, it is the same error.
 */
export function serverProgramFailure(file: string, result: ProgramResult, doing: string): PgkeepError {
  const failure = programFailure(file, result, doing);
  // A program takes part in the snapshot, and can be the one that replay chooses.
  if (isStandbyConflict(result.stderr)) return standbyConflict(failure.message, doing);
  if (isOutOfLocks(result.stderr)) return outOfLocks(failure.message, doing, failure.context);
  if (!saidOfLostConnection.test(result.stderr)) return failure;
  return new PgkeepError('DATABASE_CONNECTION_LOST', failure.message, {
    hint: 'see the server log for why it ended the connection',
    context: failure.context,
  });
}

/** The error for a server that has said nothing for too long. */
export function serverSilent(afterMs: number): PgkeepError {
  return new PgkeepError(
    'DATABASE_CONNECTION_LOST',
    `the server has not answered for ${Math.round(afterMs / 1000)} s`,
    {
      hint: 'check the network and the load of the server; connect_timeout says how long to wait for an answer',
    },
  );
}

/** Any error of a driver call: a server's complaint, a lost connection, or one of ours, which passes. */
export function translateDatabaseError(error: unknown, doing: string): PgkeepError {
  if (error instanceof PgkeepError) return error;
  const message = error instanceof Error ? error.message : String(error);
  const code = foreignCode(error);
  if (code !== undefined && /^[0-9A-Z]{5}$/.test(code) && !lostConnection.has(code)) {
    const { detail, hint } = error as { detail?: string; hint?: string };
    return serverError({ code, message, detail, hint }, doing);
  }
  return new PgkeepError(
    'DATABASE_CONNECTION_LOST',
    `the connection to the database was lost while ${doing}: ${message}`,
    {
      hint: 'see the server log for why it ended the connection',
      cause: error,
    },
  );
}

/** An error of connecting: says whether host, port, TLS, user, password or database is at fault. */
export function connectError(error: unknown, target: DatabaseTarget): PgkeepError {
  if (error instanceof PgkeepError) return error;
  const message = error instanceof Error ? error.message : String(error);
  const code = foreignCode(error);
  const where = describeTarget(target);
  switch (code) {
    case '28P01':
    case '28000':
      return new PgkeepError(
        'DATABASE_AUTHENTICATION',
        `user ${target.user} could not log in to ${where}: ${message}`,
        {
          hint: 'check user and password (DATABASE_URL, PGPASSWORD or ~/.pgpass), and pg_hba.conf for the sslmode used',
        },
      );
    case '3D000':
      return new PgkeepError(
        'DATABASE_NOT_FOUND',
        `there is no database ${target.database} at ${target.host}:${target.port}`,
        {
          hint: 'check the name of the database; list them with: psql -l',
        },
      );
    case '55000':
      return new PgkeepError('DATABASE_UNREACHABLE', `${where} takes no connections: ${message}`, {
        hint: 'see whether the database is a template or about to be dropped (ALLOW_CONNECTIONS)',
      });
    case '53300':
      return new PgkeepError(
        'DATABASE_UNREACHABLE',
        `the server has no connection left for ${where}: ${message}`,
        {
          hint: 'lower --jobs, or raise max_connections',
        },
      );
  }
  if (
    /SSL|TLS|certificate|self.signed|altnames/i.test(message) ||
    code?.startsWith('ERR_TLS') ||
    code?.startsWith('CERT_') ||
    code?.includes('SELF_SIGNED') ||
    code?.includes('UNABLE_TO')
  ) {
    return new PgkeepError(
      'DATABASE_TLS',
      `no connection to ${where} with sslmode=${target.sslMode}: ${message}`,
      {
        hint: "check sslmode and sslrootcert; sslmode=verify-full with the provider's certificate is the safe choice",
      },
    );
  }
  if (code === undefined && /authentication|password must be/i.test(message)) {
    return new PgkeepError(
      'DATABASE_AUTHENTICATION',
      `user ${target.user} could not log in to ${where}: no password was given`,
      {
        hint: 'put it into DATABASE_URL, PGPASSWORD or ~/.pgpass',
      },
    );
  }
  if (
    code === undefined ||
    unreachable.has(code) ||
    lostConnection.has(code) ||
    error instanceof AggregateError
  ) {
    return new PgkeepError(
      'DATABASE_UNREACHABLE',
      `no server answered for ${where}: ${message || code || 'refused'}`,
      {
        hint: 'check host and port, that the server runs, and that a firewall lets you through',
      },
    );
  }
  return serverError({ code, message }, `connecting to ${where}`);
}
