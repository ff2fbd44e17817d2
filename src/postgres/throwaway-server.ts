// A PostgreSQL server for one run: started from the programs installed here, reached through a socket in a private
// folder alone, and gone with the folder when the run ends, however it ends.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import { chown, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir, userInfo } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { programFailure, runProgram } from '../base/child-process.ts';
import { PgkeepError, throwIfAborted } from '../base/errors.ts';
import { closeClient, openClient } from './client.ts';
import { findPrograms, type Program } from './programs.ts';
import { type DatabaseTarget, type Environment, localEnvironment } from './target.ts';

export interface ThrowawayServer extends AsyncDisposable {
  /** Its superuser and the database postgres. */
  readonly target: DatabaseTarget;
}

export interface ThrowawayServerOptions {
  /** The oldest major version that will do. */
  major: number;
  /** A folder with the server's programs; without it they are looked for in the usual places. */
  programs: string | undefined;
  environment: Environment;
  signal: AbortSignal | undefined;
}

const startTimeoutMs = 60_000;
const stopTimeoutMs = 20_000;
/** Socket paths have at most 107 bytes; the socket's name takes the rest. */
const longestFolder = 85;

/** Nothing in it needs to survive, so nothing waits for the disk. */
const settings = [
  'listen_addresses=',
  'unix_socket_permissions=0700',
  'fsync=off',
  'full_page_writes=off',
  'synchronous_commit=off',
  'wal_level=minimal',
  'max_wal_senders=0',
  'autovacuum=off',
  'maintenance_work_mem=256MB',
  'logging_collector=off',
  'lc_messages=C',
];

/** Ends server and folder when the pipe closes without a word: whoever had them is gone, perhaps by kill -9. */
const watchdog = `
trap '' INT TERM HUP
read -r word && exit 0
kill -QUIT "$1"
for attempt in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30; do
  kill -0 "$1" || break
  sleep 0.2
done
rm -rf "$2"`;

interface Account {
  uid?: number;
  gid?: number;
}

/**
 * Starts a server: superuser postgres, encoding UTF8, locale C.
 * @throws PgkeepError PROGRAM_MISSING and PROGRAM_TOO_OLD, saying what to install; PROGRAM_FAILED with what the server
 * said; INTERRUPTED. Nothing is left then.
 */
export async function startThrowawayServer(options: ThrowawayServerOptions): Promise<ThrowawayServer> {
  const program = await findServer(options);
  const account = serverAccount();
  const base = tmpdir().length <= longestFolder - 'pgkeep-server-XXXXXX'.length ? tmpdir() : '/tmp';
  const folder = await mkdtemp(path.join(base, 'pgkeep-server-'));
  const server = new Server(program, folder, account, options);
  try {
    if (account.uid !== undefined && account.gid !== undefined) await chown(folder, account.uid, account.gid);
    await server.start();
    return server;
  } catch (error) {
    await server[Symbol.asyncDispose]();
    throw error;
  }
}

class Server implements ThrowawayServer {
  readonly target: DatabaseTarget;
  readonly #program: Program;
  readonly #folder: string;
  readonly #account: Account;
  readonly #options: ThrowawayServerOptions;
  #process: ChildProcess | undefined;
  #watchdog: ChildProcess | undefined;

  constructor(program: Program, folder: string, account: Account, options: ThrowawayServerOptions) {
    this.#program = program;
    this.#folder = folder;
    this.#account = account;
    this.#options = options;
    this.target = {
      host: folder,
      port: 5432,
      database: 'postgres',
      user: 'postgres',
      password: undefined,
      sslMode: 'disable',
      channelBinding: undefined,
      sslRootCert: undefined,
      sslCert: undefined,
      sslKey: undefined,
      connectTimeoutSeconds: 30,
      options: undefined,
    };
  }

  async start(): Promise<void> {
    const { environment, signal } = this.#options;
    const data = path.join(this.#folder, 'data');
    const initdb = path.join(path.dirname(this.#program.file), 'initdb');
    const where = { ...this.#account, cwd: this.#folder, env: localEnvironment(environment) };
    const made = await runProgram({
      file: initdb,
      args: ['-D', data, '-U', 'postgres', '-A', 'trust', '-E', 'UTF8', '--locale=C', '--no-sync'],
      signal,
      ...where,
    });
    if (made.status !== 0) throw programFailure(initdb, made, 'making a throwaway server');
    const parameters = [...settings, `unix_socket_directories=${this.#folder}`];
    // A session of its own: Ctrl-C in the terminal is for this program, which ends the server in order.
    const started = spawn(this.#program.file, ['-D', data, ...parameters.flatMap(one => ['-c', one])], {
      ...where,
      detached: true,
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    this.#process = started;
    let log = '';
    started.stderr.setEncoding('utf8').on('data', (text: string) => {
      log = (log + text).slice(-4096);
    });
    await new Promise<void>((resolve, reject) => {
      started.once('spawn', resolve);
      started.once('error', reject);
    });
    this.#watchdog = spawn('/bin/sh', ['-c', watchdog, 'watchdog', String(started.pid), this.#folder], {
      ...where,
      cwd: '/',
      detached: true,
      stdio: ['pipe', 'ignore', 'ignore'],
    });
    this.#watchdog.stdin?.on('error', () => undefined);
    const deadline = Date.now() + startTimeoutMs;
    for (;;) {
      throwIfAborted(signal);
      const hasEnded = started.exitCode !== null || started.signalCode !== null;
      if (hasEnded || Date.now() > deadline) {
        const why = hasEnded ? 'did not start' : `was not ready after ${startTimeoutMs} ms`;
        throw new PgkeepError('PROGRAM_FAILED', `the throwaway server ${why}:\n  ${log.trim()}`, {
          context: { program: this.#program.file },
        });
      }
      // Written once the server takes connections.
      const state = await readFile(path.join(data, 'postmaster.pid'), 'utf8').catch(() => '');
      if (/^ready\s*$/m.test(state)) break;
      await sleep(20);
    }
    await closeClient(await openClient(this.target, { signal }));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const server = this.#process;
    if (server !== undefined && server.exitCode === null && server.signalCode === null) {
      const ended = once(server, 'exit');
      server.kill('SIGQUIT');
      const late = setTimeout(() => server.kill('SIGKILL'), stopTimeoutMs);
      await ended;
      clearTimeout(late);
    }
    this.#process = undefined;
    await rm(this.#folder, { recursive: true, force: true, maxRetries: 5 });
    this.#watchdog?.stdin?.end('done\n');
    this.#watchdog = undefined;
  }
}

/**
 * The oldest server found that is new enough, with its initdb beside it.
 * @throws PgkeepError PROGRAM_MISSING, PROGRAM_TOO_OLD, saying what to install.
 */
export async function findServer(options: Omit<ThrowawayServerOptions, 'signal'>): Promise<Program> {
  const { major, programs, environment } = options;
  const found = (await findPrograms('postgres', programs, environment)).filter(({ file }) =>
    existsSync(path.join(path.dirname(file), 'initdb')),
  );
  const suitable = found.findLast(program => program.major >= major);
  if (suitable !== undefined) return suitable;
  const hint = `install a server of version ${major} or newer, as in: apt-get install postgresql-${major}; or name one with --scratch`;
  if (found.length === 0) {
    const where = programs === undefined ? '' : ` in ${programs}`;
    throw new PgkeepError('PROGRAM_MISSING', `no PostgreSQL server (postgres, initdb) was found${where}`, {
      hint,
    });
  }
  const versions = found.map(program => `${program.version} (${program.file})`).join(', ');
  throw new PgkeepError(
    'PROGRAM_TOO_OLD',
    `no PostgreSQL server found is of version ${major} or newer, as the source was: found ${versions}`,
    { hint },
  );
}

/** PostgreSQL refuses to run as root, which hands it to the account that packages make for it, or to nobody. */
function serverAccount(): Account {
  if (userInfo().uid !== 0) return {};
  const accounts = readFileSync('/etc/passwd', 'utf8')
    .split('\n')
    .map(line => line.split(':'));
  for (const name of ['postgres', 'nobody']) {
    const fields = accounts.find(account => account[0] === name);
    if (fields !== undefined) return { uid: Number(fields[2]), gid: Number(fields[3]) };
  }
  throw new PgkeepError(
    'PROGRAM_FAILED',
    'PostgreSQL does not run as root, and there is neither an account postgres nor nobody for it',
    { hint: 'run pgkeep as another user, or name a server with --scratch' },
  );
}
