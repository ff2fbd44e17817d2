// Throwaway PostgreSQL servers for tests and the demo: real ones, of several versions, on 127.0.0.1 and a socket
// in a temporary folder. They end with the process that started them, however that one ends. Durability is
// switched off; everything else is as PostgreSQL has it.

import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, existsSync, openSync, readFileSync } from 'node:fs';
import { chmod, chown, mkdtemp, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import pg from 'pg';
import { killAfterExit, removeAfterExit } from './after-exit.ts';
import { freePort } from './free-port.ts';
import { findServerPrograms, type ServerPrograms } from './postgres-programs.ts';
import { type ServerAccount, serverAccount } from './server-account.ts';
import { makeTempFolder, type TempFolder } from './temp-folder.ts';
import { testCache } from './test-cache.ts';

export interface ServerOptions {
  /** Major version; without it, the oldest installed one that is at least 15, else the newest. */
  version?: number;
  /** Configuration parameters, as in postgresql.conf. */
  settings?: Readonly<Record<string, string>>;
  /** Lines of pg_hba.conf. Ahead of them stays: user postgres is trusted on the socket. Without it, all are trusted. */
  hba?: string;
  /** Further arguments of initdb. Makes a cluster with a system identifier of its own rather than a copy of the
   * prepared one that all others share; `[]` does just that. */
  initdb?: readonly string[];
}

export interface DatabaseOptions {
  owner?: string;
  /** As CREATE DATABASE has it; another encoding than UTF8 gets locale C, which goes with every encoding. */
  encoding?: string;
  template?: string;
}

/** `fast` ends the sessions and shuts down in order; `immediate` is a crash: the next start recovers. */
export type StopMode = 'fast' | 'immediate';

export interface Server extends AsyncDisposable {
  readonly version: number;
  /** Holds the programs of this server's own version. */
  readonly binDir: string;
  readonly dataDir: string;
  readonly socketDir: string;
  readonly port: number;
  /** Process id of the postmaster, or undefined while it is stopped. */
  readonly pid: number | undefined;
  /** A TCP connection string; names and passwords may hold any character. */
  url(database?: string, user?: string, password?: string): string;
  /** Creates an empty database and returns its name. */
  createDatabase(name: string, options?: DatabaseOptions): Promise<string>;
  /** Copies a database nobody is connected to; returns the copy's name, which is made up when not given. */
  cloneDatabase(template: string, name?: string): Promise<string>;
  dropDatabase(name: string): Promise<void>;
  /** What the server has written to its log so far. */
  log(): string;
  stop(mode?: StopMode): Promise<void>;
  /** Starts the stopped server again: same data, same port; `settings` replace those of the same name. */
  start(settings?: Readonly<Record<string, string>>): Promise<void>;
}

const startTimeoutMs = 60_000;
const stopTimeoutMs = 30_000;
const run = promisify(execFile);

/**
 * Starts a server with an empty cluster: superuser postgres, UTF8, locale C.UTF-8.
 * @throws Error when the version is not installed, or with the server's log when it does not start.
 */
export async function startServer(options: ServerOptions = {}): Promise<Server> {
  const programs = choosePrograms(options.version);
  const account = serverAccount();
  const folder = makeTempFolder(`pg${programs.majorVersion}`, account);
  const dataDir = join(folder.path, 'data');
  if (options.initdb) await initdb(programs, account, dataDir, options.initdb);
  else await runAs(account, 'cp', ['-R', await preparedCluster(programs, account), dataDir]);
  if (options.hba !== undefined) {
    const socketOnly = 'local all postgres trust\nlocal replication postgres trust\n';
    await writeFile(join(dataDir, 'pg_hba.conf'), `${socketOnly}${options.hba}\n`);
  }
  return await TestServer.launch({ programs, account, folder, dataDir, settings: options.settings ?? {} });
}

/** Starts a streaming hot standby of a running server; see {@link waitForReplay} for when it has caught up. */
export async function startStandby(
  primary: Server,
  options: Pick<ServerOptions, 'settings'> = {},
): Promise<Server> {
  const programs = choosePrograms(primary.version);
  const account = serverAccount();
  const folder = makeTempFolder(`pg${programs.majorVersion}-standby`, account);
  const dataDir = join(folder.path, 'data');
  const from = ['-h', primary.socketDir, '-p', String(primary.port), '-U', 'postgres'];
  const how = ['-D', dataDir, '-X', 'stream', '-c', 'fast', '--write-recovery-conf', '--no-sync'];
  await runAs(account, join(programs.binDir, 'pg_basebackup'), [...from, ...how]);
  return await TestServer.launch({ programs, account, folder, dataDir, settings: options.settings ?? {} });
}

/** Waits until the standby shows everything that was committed on the primary before this call. */
export async function waitForReplay(standby: Server, primary: Server, timeoutMs = 60_000): Promise<void> {
  const [flushed] = await queryAdmin<{ lsn: string }>(primary, 'SELECT pg_current_wal_flush_lsn() AS lsn');
  const deadline = Date.now() + timeoutMs;
  for (;;) {
    const [state] = await queryAdmin<{ replayed: boolean | null }>(
      standby,
      `SELECT pg_last_wal_replay_lsn() >= '${flushed?.lsn}'::pg_lsn AS replayed`,
    );
    if (state?.replayed) return;
    if (Date.now() > deadline)
      throw new Error(`the standby did not replay ${flushed?.lsn} in ${timeoutMs} ms`);
    await sleep(20);
  }
}

/**
 * Runs SQL (with psql's own commands, if any) by the server's psql, which stops at the first error.
 * As `postgres` through the socket; as another user by TCP.
 * @returns what it printed: rows alone, columns separated by `|`.
 * @throws Error with what psql said.
 */
export async function psql(
  server: Server,
  database: string,
  sql: string,
  login: { user?: string; password?: string } = {},
): Promise<string> {
  const host = login.user === undefined ? server.socketDir : '127.0.0.1';
  const child = spawn(
    join(server.binDir, 'psql'),
    ['-X', '-q', '-A', '-t', '-v', 'ON_ERROR_STOP=1', '-h', host, '-p', String(server.port), '-f', '-'],
    {
      stdio: ['pipe', 'pipe', 'pipe'],
      env: {
        PATH: process.env.PATH,
        LC_ALL: 'C.UTF-8',
        PGDATABASE: database,
        PGUSER: login.user ?? 'postgres',
        PGPASSWORD: login.password,
        PGCLIENTENCODING: 'UTF8',
      },
    },
  );
  const output: Buffer[] = [];
  const complaints: Buffer[] = [];
  child.stdout.on('data', (bytes: Buffer) => output.push(bytes));
  child.stderr.on('data', (bytes: Buffer) => complaints.push(bytes));
  // psql that stopped at an error closes its input early; its exit status tells, not the broken pipe.
  child.stdin.on('error', () => {});
  child.stdin.end(sql);
  const [status] = await once(child, 'close');
  if (status === 0) return Buffer.concat(output).toString('utf8');
  throw new Error(
    `psql ended with ${status} in ${database}: ${Buffer.concat(complaints).toString('utf8').trim()}`,
  );
}

interface Cluster {
  programs: ServerPrograms;
  account: ServerAccount;
  folder: TempFolder;
  dataDir: string;
  settings: Readonly<Record<string, string>>;
}

class TestServer implements Server {
  readonly version: number;
  readonly binDir: string;
  readonly dataDir: string;
  readonly socketDir: string;
  port = 0;
  readonly #cluster: Cluster;
  readonly #logFile: string;
  #settings: Readonly<Record<string, string>>;
  #process: ChildProcess | undefined;
  #forget: (() => void) | undefined;
  #clones = 0;

  static async launch(cluster: Cluster): Promise<TestServer> {
    const server = new TestServer(cluster);
    try {
      for (let attempt = 1; ; attempt += 1) {
        server.port = await freePort();
        try {
          await server.start();
          return server;
        } catch (error) {
          // Somebody else may take the port between the look and the start.
          if (attempt === 5 || !server.log().includes('Address already in use')) throw error;
        }
      }
    } catch (error) {
      await cluster.folder.remove();
      throw error;
    }
  }

  private constructor(cluster: Cluster) {
    this.#cluster = cluster;
    this.#settings = cluster.settings;
    this.version = cluster.programs.majorVersion;
    this.binDir = cluster.programs.binDir;
    this.dataDir = cluster.dataDir;
    this.socketDir = cluster.folder.path;
    this.#logFile = join(cluster.folder.path, 'server.log');
  }

  get pid(): number | undefined {
    return this.#process?.pid;
  }

  async start(settings: Readonly<Record<string, string>> = {}): Promise<void> {
    if (this.#process) throw new Error(`the server at port ${this.port} is running already`);
    this.#settings = { ...this.#settings, ...settings };
    const parameters = {
      fsync: 'off',
      full_page_writes: 'off',
      shared_buffers: '64MB',
      jit: 'off',
      listen_addresses: '127.0.0.1',
      ...this.#settings,
    };
    const start = this.log().length;
    // To a file rather than a pipe: nobody needs to read it for the server to go on.
    const log = openSync(this.#logFile, 'a', 0o644);
    const child = spawn(
      join(this.binDir, 'postgres'),
      [
        ...['-D', this.dataDir, '-p', String(this.port), '-k', this.socketDir],
        ...Object.entries(parameters).flatMap(([name, value]) => ['-c', `${name}=${value}`]),
      ],
      {
        ...this.#cluster.account.ids,
        cwd: this.socketDir,
        env: serverEnvironment(),
        stdio: ['ignore', log, log],
      },
    );
    closeSync(log);
    if (child.pid === undefined) {
      const [error] = await once(child, 'error');
      throw error;
    }
    child.unref();
    this.#process = child;
    this.#forget = killAfterExit(child.pid);
    child.once('exit', () => {
      this.#forget?.();
      this.#process = undefined;
    });
    const deadline = Date.now() + startTimeoutMs;
    while (!this.log().slice(start).includes('ready to accept')) {
      if (!this.#process) throw new Error(`the server did not start:\n${this.log().slice(start)}`);
      if (Date.now() > deadline) {
        await this.stop('immediate');
        throw new Error(`the server was not ready after ${startTimeoutMs} ms:\n${this.log().slice(start)}`);
      }
      await sleep(10);
    }
  }

  async stop(mode: StopMode = 'fast'): Promise<void> {
    const child = this.#process;
    if (!child) return;
    const ended = once(child, 'exit');
    child.ref();
    child.kill(mode === 'fast' ? 'SIGINT' : 'SIGQUIT');
    const late = setTimeout(() => child.kill('SIGKILL'), stopTimeoutMs);
    await ended;
    clearTimeout(late);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop('immediate');
    await this.#cluster.folder.remove();
  }

  url(database = 'postgres', user = 'postgres', password?: string): string {
    const secret = password === undefined ? '' : `:${encodeURIComponent(password)}`;
    const login = `${encodeURIComponent(user)}${secret}`;
    return `postgresql://${login}@127.0.0.1:${this.port}/${encodeURIComponent(database)}`;
  }

  async createDatabase(name: string, options: DatabaseOptions = {}): Promise<string> {
    const clauses = [`CREATE DATABASE ${pg.escapeIdentifier(name)}`];
    if (options.owner !== undefined) clauses.push(`OWNER ${pg.escapeIdentifier(options.owner)}`);
    if (options.encoding !== undefined) {
      clauses.push(`ENCODING ${pg.escapeLiteral(options.encoding)} LOCALE 'C'`);
    }
    const template = options.template ?? (options.encoding === undefined ? undefined : 'template0');
    if (template !== undefined) clauses.push(`TEMPLATE ${pg.escapeIdentifier(template)}`);
    await queryAdmin(this, clauses.join(' '));
    return name;
  }

  async cloneDatabase(template: string, name?: string): Promise<string> {
    this.#clones += 1;
    return await this.createDatabase(name ?? `clone_${this.#clones}`, { template });
  }

  async dropDatabase(name: string): Promise<void> {
    await queryAdmin(this, `DROP DATABASE IF EXISTS ${pg.escapeIdentifier(name)} WITH (FORCE)`);
  }

  log(): string {
    return existsSync(this.#logFile) ? readFileSync(this.#logFile, 'utf8') : '';
  }
}

async function queryAdmin<Row extends pg.QueryResultRow>(server: Server, sql: string): Promise<Row[]> {
  const client = new pg.Client({
    host: server.socketDir,
    port: server.port,
    user: 'postgres',
    database: 'postgres',
  });
  await client.connect();
  try {
    return (await client.query<Row>(sql)).rows;
  } finally {
    await client.end();
  }
}

function choosePrograms(version: number | undefined): ServerPrograms {
  const all = findServerPrograms();
  const chosen =
    version === undefined
      ? (all.findLast(programs => programs.majorVersion >= 15) ?? all[0])
      : all.find(programs => programs.majorVersion === version);
  if (chosen) return chosen;
  throw new Error(
    `PostgreSQL ${version ?? 'server programs'} not found; install with: npx node test/services/install-postgres.ts`,
  );
}

/** A data directory ready to be copied, which is several times faster than initdb; made once, kept in the cache. */
async function preparedCluster(programs: ServerPrograms, account: ServerAccount): Promise<string> {
  const folder = join(testCache(), `cluster-${programs.version}-${account.name}`);
  if (existsSync(join(folder, 'data', 'PG_VERSION'))) return join(folder, 'data');
  const staging = await mkdtemp(`${folder}.`);
  const forget = removeAfterExit(staging);
  try {
    await chmod(staging, 0o755);
    const { uid, gid } = account.ids;
    if (uid !== undefined && gid !== undefined) await chown(staging, uid, gid);
    await initdb(programs, account, join(staging, 'data'), []);
    // A file system decides who is first when several processes prepare the same: a full folder is not replaced.
    await rename(staging, folder).catch(async (error: unknown) => {
      if (!existsSync(join(folder, 'data', 'PG_VERSION'))) throw error;
    });
  } finally {
    await rm(staging, { recursive: true, force: true });
    forget();
  }
  return join(folder, 'data');
}

async function initdb(
  programs: ServerPrograms,
  account: ServerAccount,
  dataDir: string,
  further: readonly string[],
): Promise<void> {
  const usual = [
    '-D',
    dataDir,
    '-U',
    'postgres',
    '-A',
    'trust',
    '-E',
    'UTF8',
    '--locale=C.UTF-8',
    '--no-sync',
  ];
  await runAs(account, join(programs.binDir, 'initdb'), [...usual, ...further]);
}

async function runAs(account: ServerAccount, program: string, args: readonly string[]): Promise<void> {
  await run(program, args, { ...account.ids, cwd: '/', env: serverEnvironment() }).catch((error: unknown) => {
    const said = error instanceof Error && 'stderr' in error ? String(error.stderr).trim() : '';
    throw new Error(`${program} failed as ${account.name}: ${said}`, { cause: error });
  });
}

// Only what the programs need: the tests' own PG* variables and secrets are none of the server's business.
function serverEnvironment(): Record<string, string> {
  return { PATH: process.env.PATH ?? '/usr/bin:/bin', LC_ALL: 'C.UTF-8', TZ: 'UTC' };
}
