// Checks of the connection and, when there is one, of everything behind it.
import type pg from 'pg';
import { PgkeepError } from '../../base/errors.ts';
import { joinSignals } from '../../base/join-signals.ts';
import { formatBytes } from '../../base/units.ts';
import { readDetails, readRelations, readServerFacts, type ServerFacts } from '../../postgres/catalog.ts';
import { closeClient, openClient, queryRows, tlsVersion } from '../../postgres/client.ts';
import { type DatabaseTarget, describeTarget, type Environment, readTarget } from '../../postgres/target.ts';
import { type Checklist, checkClock, clockSkewMs } from '../checklist.ts';
import { checkPooling, detectPooling } from './pooler.ts';
import { checkLargeObjects, checkRoles, checkSubscriptions, checkTables } from './privileges.ts';
import { checkConnections, checkLoad, checkLocks, checkStandby, checkTimeLimits } from './server-settings.ts';
import { checkProgramsForServer } from './surroundings.ts';

export interface DatabaseCheckOptions {
  database: string | undefined;
  environment: Environment;
  programs: string | undefined;
  jobs: number;
  maxLoad: number | undefined;
  signal: AbortSignal | undefined;
}

/** What later checks want to know of the database. */
export interface DatabaseFound {
  name: string;
  sizeBytes: number | undefined;
  /** The system identifier of its server; `null` when the server does not tell, `undefined` when it could not be asked. */
  server: string | null | undefined;
}

const applicationName = 'pgkeep doctor';
const maxConnectSeconds = 10;
const statementTimeoutMs = 15_000;
/** For all of it: a server that answers slowly, or not at all, does not hold up the rest. */
const allTimeoutMs = 60_000;
const oldestVersion = 13;
const seeDatabase = 'check DATABASE_URL, or PGHOST, PGPORT, PGUSER and PGDATABASE';

/** In order; what cannot be looked at is skipped by these names. */
const namesBehindConnection = ({ maxLoad }: Pick<DatabaseCheckOptions, 'maxLoad'>) => [
  'tls',
  'server-version',
  'program-versions',
  'pooler',
  'server-clock',
  'standby',
  'time-limits',
  'connections',
  ...(maxLoad === undefined ? [] : ['load']),
  'tables',
  'row-security',
  'locks',
  'large-objects',
  'roles',
  'subscriptions',
];

/** @returns what is known of the database; undefined when none was named. */
export async function checkDatabase(
  list: Checklist,
  options: DatabaseCheckOptions,
): Promise<DatabaseFound | undefined> {
  const behind = namesBehindConnection(options);
  let target: DatabaseTarget;
  try {
    target = readTarget(options.database, options.environment);
  } catch (error) {
    list.failWith('database', error, seeDatabase);
    list.skip(behind, 'it is not known which database is meant');
    return undefined;
  }
  target.connectTimeoutSeconds = Math.min(target.connectTimeoutSeconds, maxConnectSeconds);
  const timeout = AbortSignal.timeout(allTimeoutMs);
  const signal = joinSignals(options.signal, timeout);
  let client: pg.Client;
  try {
    client = await openClient(target, { applicationName, signal });
  } catch (error) {
    list.failWith('database', error, seeDatabase);
    list.skip(behind, 'there is no connection to the database');
    return { name: target.database, sizeBytes: undefined, server: undefined };
  }
  try {
    const found = await new Behind(list, options, target, client, signal).check();
    return { name: target.database, ...found };
  } finally {
    await closeClient(client);
  }
}

/** The checks of a server that let us in. */
class Behind {
  readonly #list: Checklist;
  readonly #options: DatabaseCheckOptions;
  readonly #target: DatabaseTarget;
  readonly #client: pg.Client;
  readonly #signal: AbortSignal;
  #isLost = false;

  constructor(
    list: Checklist,
    options: DatabaseCheckOptions,
    target: DatabaseTarget,
    client: pg.Client,
    signal: AbortSignal,
  ) {
    this.#list = list;
    this.#options = options;
    this.#target = target;
    this.#client = client;
    this.#signal = signal;
  }

  /** @returns the size of the database, where the role may ask for it, and which server it is on. */
  async check(): Promise<Pick<DatabaseFound, 'sizeBytes' | 'server'>> {
    const { jobs, maxLoad, programs, environment } = this.#options;
    const list = this.#list;
    const client = this.#client;
    const role = this.#target.user;
    let sizeBytes: number | undefined;
    await this.#step(['database'], async () => {
      await queryRows(client, `SET statement_timeout = ${statementTimeoutMs}`, 'limiting the time of checks');
      sizeBytes = await this.#readSize();
      const size = sizeBytes === undefined ? '' : `, ${formatBytes(sizeBytes)}`;
      list.ok('database', `connected to ${describeTarget(this.#target)} as ${role}${size}`);
    });
    await this.#step(['tls'], async () => checkTls(list, this.#target, tlsVersion(client)));
    let facts: ServerFacts | undefined;
    await this.#step(['server-version'], async () => {
      facts = await readServerFacts(client);
      checkVersion(list, facts);
    });
    const server = facts;
    if (server === undefined || server.versionNumber < oldestVersion * 10000) {
      list.skip(namesBehindConnection(this.#options).slice(2), 'the server is not of a supported version');
      return { sizeBytes, server: server?.systemIdentifier };
    }
    const { versionNumber, systemIdentifier } = server;
    await checkProgramsForServer(list, versionNumber, programs, environment);
    await this.#step(['pooler'], () => this.#checkPooler());
    await this.#step(['server-clock'], () => this.#checkClock());
    await this.#step(['standby'], () => checkStandby(list, client, server.isStandby));
    await this.#step(['time-limits'], () => checkTimeLimits(list, client, role));
    await this.#step(['connections'], () => checkConnections(list, client, jobs, applicationName));
    if (maxLoad !== undefined) {
      await this.#step(['load'], () => checkLoad(list, client, maxLoad, role, applicationName));
    }
    await this.#step(['tables', 'row-security', 'locks'], async () => {
      const everything = {
        schemas: [],
        excludeSchemas: [],
        tables: [],
        excludeTables: [],
        excludeTableData: [],
      };
      const relations = await readRelations(client, everything);
      // Names that a backup would fail over.
      await readDetails(client, relations);
      checkTables(list, relations, role, versionNumber);
      await checkLocks(list, client, relations, jobs);
    });
    await this.#step(['large-objects'], () => checkLargeObjects(list, client, role, versionNumber));
    await this.#step(['roles'], () => checkRoles(list, client, versionNumber));
    await this.#step(['subscriptions'], () => checkSubscriptions(list, client));
    return { sizeBytes, server: systemIdentifier };
  }

  /** Does one check; its failure is an entry, and nothing more is asked of a connection that was lost. */
  async #step(names: readonly string[], check: () => Promise<void>): Promise<void> {
    if (this.#isLost) {
      this.#list.skip(names, 'the connection was lost');
      return;
    }
    try {
      await check();
    } catch (error) {
      this.#list.failWith(names[0] ?? '', error, 'see the log of the server');
      this.#list.skip(names.slice(1), `${names[0]} could not be checked`);
      this.#isLost = error instanceof PgkeepError && error.code === 'DATABASE_CONNECTION_LOST';
    }
  }

  async #readSize(): Promise<number | undefined> {
    try {
      const [row] = await queryRows(
        this.#client,
        'SELECT pg_catalog.pg_database_size(current_database()) AS size',
        'asking for the size of the database',
      );
      return Number(row?.size);
    } catch (error) {
      if (error instanceof PgkeepError && error.code === 'DATABASE_CONNECTION_LOST') throw error;
      return undefined;
    }
  }

  async #checkPooler(): Promise<void> {
    const second = await openClient(this.#target, { applicationName, signal: this.#signal });
    try {
      checkPooling(this.#list, await detectPooling(this.#client, second));
    } finally {
      await closeClient(second);
    }
  }

  async #checkClock(): Promise<void> {
    const before = Date.now();
    const [row] = await queryRows(
      this.#client,
      'SELECT extract(epoch FROM pg_catalog.clock_timestamp()) * 1000 AS now',
      'asking the server for the time',
    );
    checkClock(this.#list, 'server-clock', 'the server', clockSkewMs(Number(row?.now), before, Date.now()));
  }
}

function checkVersion(list: Checklist, { version, versionNumber }: ServerFacts): void {
  if (versionNumber >= oldestVersion * 10000) list.ok('server-version', `PostgreSQL ${version}`);
  else
    list.fail(
      'server-version',
      `PostgreSQL ${version} is older than ${oldestVersion}, the oldest supported`,
      'upgrade the server, or use the pg_dump of its own version',
    );
}

const saferTls =
  "set sslmode=verify-full (and sslrootcert, the provider's certificate), or at least sslmode=require, in DATABASE_URL or PGSSLMODE";

/** @param version of TLS in use; undefined without. */
export function checkTls(
  list: Checklist,
  { host, sslMode }: Pick<DatabaseTarget, 'host' | 'sslMode'>,
  version: string | undefined,
): void {
  const mode = `sslmode=${sslMode}`;
  if (isLocal(host)) {
    list.ok('tls', `${version ?? 'not encrypted'}, and the server is on this machine (${mode})`);
  } else if (version === undefined) {
    list.warn('tls', `the connection to ${host} is not encrypted (${mode})`, saferTls);
  } else if (sslMode === 'prefer' || sslMode === 'allow') {
    list.warn('tls', `${version}, but ${mode} would also take a connection without encryption`, saferTls);
  } else if (sslMode === 'require') {
    list.ok('tls', `${version} (${mode}; sslmode=verify-full would also check who answers)`);
  } else {
    list.ok('tls', `${version} (${mode})`);
  }
}

function isLocal(host: string): boolean {
  return host.startsWith('/') || host === 'localhost' || host === '::1' || /^127\./.test(host);
}
