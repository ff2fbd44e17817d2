// Brings the database to restore into, and the roles it needs, into being, gives it the source's own properties, and
// takes all of that back when the restore fails.
import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import { PgkeepError } from '../../base/errors.ts';
import { closeClient, openClient, queryRows } from '../../postgres/client.ts';
import { describeObjects, dropObjectsSince, listObjects } from '../../postgres/database-contents.ts';
import { createRoleStatements, roleSettingStatements, settingClause } from '../../postgres/globals.ts';
import { quoteLiteral, quoteName } from '../../postgres/identifiers.ts';
import { publicSchemaResets, readPublicSchema } from '../../postgres/public-schema.ts';
import { dropSubscriptions } from '../../postgres/subscriptions.ts';
import { type DatabaseTarget, describeTarget } from '../../postgres/target.ts';
import type { DatabaseGrant, Manifest } from '../../repository/manifest.ts';
import { type Leftover, madeByRestore } from './leftover.ts';
import { openMaintenance, type TargetFacts } from './preflight.ts';
import { endLeftSessions, lockTarget, type TargetLock } from './target-lock.ts';
import {
  hasLostUnlogged,
  isOfMark,
  type LoadedRanges,
  makeMark,
  type RestoreChoices,
  type RestorePhase,
  readLoaded,
  readMark,
  removeMark,
  renewMark,
  setPhase,
  type TargetOrigin,
} from './unfinished-restore.ts';

export interface TargetDatabaseOptions {
  target: DatabaseTarget;
  manifest: Manifest;
  facts: TargetFacts;
  choices: RestoreChoices;
  /** What an earlier restore left in the target. */
  leftover: Leftover | undefined;
  /** Go on with what it left, if that is possible; otherwise it is removed. */
  resume: boolean;
  signal: AbortSignal | undefined;
  /** Called when the server falls silent or ends the connection that holds the lock. */
  onLost: (error: unknown) => void;
  warn: (message: string, hint?: string) => void;
}

/** How long taking back may last once the user, or a lost server, has ended the run. */
const takeBackLimitMs = 60_000;
const endSessionTries = 200;
const endSessionEveryMs = 50;

export class TargetDatabase implements AsyncDisposable {
  readonly #options: TargetDatabaseOptions;
  /** What takes back each step so far, the last one first; none of them throws. */
  readonly #takeBack: ((patience: AbortSignal) => Promise<void>)[] = [];
  #lock: TargetLock | undefined;
  #isMarked = false;
  #resumedFrom: RestorePhase | undefined;

  private constructor(options: TargetDatabaseOptions) {
    this.#options = options;
  }

  /**
   * Creates roles and database as asked, removes what an unfinished restore has left or takes it over, and marks the
   * database. Settings of the database hold from now on, as its definitions may need them.
   * @throws PgkeepError what the server refused; everything is then as before.
   */
  static async prepare(options: TargetDatabaseOptions): Promise<TargetDatabase> {
    const prepared = new TargetDatabase(options);
    try {
      await prepared.#prepare();
      return prepared;
    } catch (error) {
      await prepared.takeBack();
      throw error;
    }
  }

  /** What is left to do of the restore that is gone on with; `undefined` when all is. */
  get resumedFrom(): RestorePhase | undefined {
    return this.#resumedFrom;
  }

  /** Whether the target bears the mark; without the privilege to make it there is none. */
  get isMarked(): boolean {
    return this.#isMarked;
  }

  /** Notes that everything before this phase is done. */
  async reached(phase: RestorePhase): Promise<void> {
    if (this.#isMarked) await setPhase(this.#session, phase);
  }

  /** The rows that are there already. */
  async loaded(): Promise<LoadedRanges[]> {
    return this.#isMarked && this.#resumedFrom !== undefined ? readLoaded(this.#session) : [];
  }

  /**
   * Brings the server back to how it was; reports what could not be, instead of throwing. A restore that was gone on
   * with stays as far as it is.
   */
  async takeBack(): Promise<void> {
    const { signal, target, warn } = this.#options;
    if (this.#resumedFrom !== undefined) {
      warn(
        `the restore failed; what is done of it stays in ${describeTarget(target)}`,
        'run the same command again: --resume goes on, --clean-target begins anew',
      );
    }
    const patience = new AbortController();
    let limit: NodeJS.Timeout | undefined;
    const beginLimit = () => {
      limit ??= setTimeout(
        () => patience.abort(new PgkeepError('INTERRUPTED', 'it took too long')),
        takeBackLimitMs,
      );
    };
    if (signal?.aborted) beginLimit();
    signal?.addEventListener('abort', beginLimit, { once: true });
    try {
      for (let step = this.#takeBack.pop(); step !== undefined; step = this.#takeBack.pop())
        await step(patience.signal);
    } finally {
      signal?.removeEventListener('abort', beginLimit);
      clearTimeout(limit);
    }
    await this.#unlock();
  }

  /**
   * Has everything reach the disk; owner, connection limit and privileges of a database that was created: last, as
   * they may shut us out; a refusal is a warning. Then the mark goes.
   */
  async finish(): Promise<void> {
    // Before the database may shut us out.
    await this.#relock(undefined);
    // The commits of a restore do not wait for the disk; this one does, and all before it are on the disk with it.
    await this.#onServer(async client => {
      await queryRows(client, 'SET synchronous_commit = on', 'flushing the restore');
      await queryRows(client, 'SELECT pg_catalog.pg_current_xact_id()', 'flushing the restore');
    });
    if (this.#options.choices.create) await this.#onServer(client => this.#giveAway(client));
    if (this.#isMarked) await removeMark(this.#session);
    await this.#unlock();
  }

  /** Ends connections; harmless after `finish` and `takeBack`. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#unlock();
  }

  /** The connection that holds the lock. */
  get #session(): pg.Client {
    if (this.#lock === undefined) throw new PgkeepError('INTERNAL', 'the target is not locked');
    return this.#lock.client;
  }

  get #name(): string {
    return quoteName(this.#options.target.database);
  }

  async #prepare(): Promise<void> {
    const { choices, facts, leftover } = this.#options;
    const isThere = leftover !== undefined || !choices.create;
    if (isThere) await this.#takeLock();
    if (leftover?.kind === 'marked' && (await this.#takeOver(leftover))) return;
    if (facts.missingRoles.length > 0) await this.#onServer(client => this.#createRoles(client));
    if (choices.create) await this.#prepareNew(isThere);
    else await this.#prepareExisting(leftover);
  }

  /** @returns whether the restore that was left can be gone on with. */
  async #takeOver(leftover: Leftover & { kind: 'marked' }): Promise<boolean> {
    const { target, resume, warn } = this.#options;
    await endLeftSessions(this.#session, target);
    const now = await readMark(this.#session);
    if (now?.beganAt !== leftover.restore.beganAt || now.phase !== leftover.restore.phase) {
      throw new PgkeepError('TARGET_UNFINISHED', `somebody else has just been at ${describeTarget(target)}`, {
        hint: 'see who restores into it, and run the command again',
      });
    }
    if (!resume || now.phase === 'definitions') return false;
    if (await hasLostUnlogged(this.#session)) {
      warn('the server has crashed meanwhile and emptied unlogged tables: the restore begins anew');
      return false;
    }
    this.#isMarked = true;
    this.#resumedFrom = now.phase;
    return true;
  }

  async #prepareNew(isThere: boolean): Promise<void> {
    const { target } = this.#options;
    if (isThere) {
      await dropSubscriptions(this.#session);
      await this.#unlock();
      await this.#onServer(async client => {
        const statement = `DROP DATABASE IF EXISTS ${this.#name} WITH (FORCE)`;
        await queryRows(client, statement, 'dropping what the unfinished restore had made');
      }, true);
    }
    await this.#onServer(client => this.#createDatabase(client), true);
    await this.#takeLock();
    await this.#mark({ objects: [], publicSchema: null });
    const statement = `ALTER DATABASE ${this.#name} CONNECTION LIMIT -1`;
    await queryRows(this.#session, statement, `creating the database ${target.database}`);
  }

  async #prepareExisting(leftover: Leftover | undefined): Promise<void> {
    if (leftover?.kind === 'marked') {
      const { origin } = leftover.restore;
      await this.#empty(origin, this.#options.signal);
      await renewMark(this.#session, this.#markOf(origin));
      this.#isMarked = true;
      this.#takeBack.push(patience => this.#emptyAgain(origin, patience));
      return;
    }
    const origin = {
      objects: await listObjects(this.#session),
      publicSchema: (await readPublicSchema(this.#session)) ?? null,
    };
    this.#takeBack.push(patience => this.#emptyAgain(origin, patience));
    await this.#mark(origin);
  }

  #markOf(origin: TargetOrigin) {
    const { manifest, choices } = this.#options;
    return { backup: manifest.backup, repository: manifest.repository, choices, origin };
  }

  async #mark(origin: TargetOrigin): Promise<void> {
    try {
      await makeMark(this.#session, this.#markOf(origin));
      this.#isMarked = true;
    } catch (error) {
      if (!(error instanceof PgkeepError) || !['DATABASE_PRIVILEGE', 'DATABASE_QUERY'].includes(error.code))
        throw error;
      this.#options.warn(
        `the database cannot be marked as being restored: ${error.message}`,
        'a restore that is killed cannot be gone on with; GRANT CREATE ON DATABASE lets it be marked',
      );
    }
  }

  async #takeLock(signal = this.#options.signal, formerPid?: string): Promise<void> {
    const lock = await lockTarget(this.#options.target, signal, formerPid);
    lock.lost.catch(this.#options.onLost);
    this.#lock = lock;
  }

  /** @throws PgkeepError TARGET_UNFIT when another restore has locked the target meanwhile. */
  async #relock(signal: AbortSignal | undefined): Promise<void> {
    const isHeld = await this.#session.query('SELECT 1').then(
      () => true,
      () => false,
    );
    if (isHeld) return;
    const formerPid = this.#lock?.pid;
    await this.#unlock();
    await this.#takeLock(signal, formerPid);
  }

  async #unlock(): Promise<void> {
    await this.#lock?.release();
    this.#lock = undefined;
  }

  async #giveAway(client: pg.Client): Promise<void> {
    const { choices, manifest } = this.#options;
    const { owner, connectionLimit, privileges } = manifest.database;
    const statements: string[] = [];
    if (connectionLimit >= 0)
      statements.push(`ALTER DATABASE ${this.#name} CONNECTION LIMIT ${connectionLimit}`);
    if (!choices.noOwner) statements.push(`ALTER DATABASE ${this.#name} OWNER TO ${quoteName(owner)}`);
    if (!choices.noPrivileges && privileges !== null)
      statements.push(...grantStatements(this.#name, owner, privileges, choices.noOwner));
    const doing = 'giving the database its owner and privileges';
    try {
      for (const statement of ['BEGIN', ...statements, 'COMMIT']) await queryRows(client, statement, doing);
    } catch (error) {
      this.#options.warn(
        `everything is restored, but not the owner and privileges of the database itself: ${messageOf(error)}`,
        `as an administrator run: ${statements.join('; ')}`,
      );
    }
  }

  async #createRoles(client: pg.Client): Promise<void> {
    const { manifest, facts } = this.#options;
    if ('missing' in manifest.globals) {
      throw new PgkeepError('TARGET_UNFIT', `the backup holds no roles: ${manifest.globals.missing}`, {
        hint: 'create them by hand, or restore with --no-owner --no-privileges',
      });
    }
    const statements = createRoleStatements(manifest.globals, new Set(facts.missingRoles), facts.roles);
    await queryRows(client, 'BEGIN', 'creating the roles');
    for (const statement of statements) await queryRows(client, statement, 'creating the roles');
    await queryRows(client, 'COMMIT', 'creating the roles');
    this.#takeBack.push(patience => this.#dropRoles(patience));
  }

  async #createDatabase(client: pg.Client): Promise<void> {
    const { target, manifest, facts } = this.#options;
    const [session] = await queryRows(client, 'SELECT pg_catalog.pg_backend_pid() AS pid', 'connecting');
    // Before, as an interruption does not wait for the server, which goes on with it.
    this.#takeBack.push(patience => this.#dropDatabase(session?.pid ?? '', patience));
    await queryRows(
      client,
      // By its limit it is known until it bears the mark.
      `${createStatement(this.#name, manifest, facts.versionNumber)} CONNECTION LIMIT ${madeByRestore}`,
      `creating the database ${target.database}`,
    );
    const { comment, settings } = manifest.database;
    if (comment !== null) {
      const statement = `COMMENT ON DATABASE ${this.#name} IS ${quoteLiteral(comment)}`;
      await queryRows(client, statement, 'describing the database');
    }
    const ofRoles = 'missing' in manifest.globals ? [] : await this.#roleSettings(client, manifest.globals);
    for (const statement of [
      ...settings.map(setting => `ALTER DATABASE ${this.#name} ${settingClause(setting)}`),
      ...ofRoles,
    ]) {
      await this.#set(client, statement);
    }
  }

  async #roleSettings(
    client: pg.Client,
    globals: Exclude<Manifest['globals'], { missing: string }>,
  ): Promise<string[]> {
    const sql = 'SELECT rolname AS name FROM pg_catalog.pg_roles';
    const rows = await queryRows(client, sql, 'reading the roles of the target');
    return roleSettingStatements(
      globals,
      new Set(rows.map(row => row.name ?? '')),
      this.#options.target.database,
    );
  }

  /** A setting that this role may not make, or this server does not know, is no reason to be without the data. */
  async #set(client: pg.Client, statement: string): Promise<void> {
    try {
      await queryRows(client, statement, 'setting what the source has set');
    } catch (error) {
      if (!(error instanceof PgkeepError) || !['DATABASE_PRIVILEGE', 'DATABASE_QUERY'].includes(error.code))
        throw error;
      this.#options.warn(`a setting was left out: ${error.message}`, `as an administrator run: ${statement}`);
    }
  }

  /** @param creator the session that may still be creating it. */
  async #dropDatabase(creator: string, patience: AbortSignal): Promise<void> {
    const { target, warn } = this.#options;
    const isMarked = this.#isMarked;
    try {
      if (this.#lock !== undefined) {
        await this.#relock(patience);
        await dropSubscriptions(this.#session);
      }
      await this.#unlock();
      const client = await openMaintenance(target, patience);
      try {
        await endSession(client, creator);
        if (!isMarked && !(await this.#isMadeHere(client))) return;
        // FORCE ends what is left of our own sessions.
        const statement = `DROP DATABASE IF EXISTS ${this.#name} WITH (FORCE)`;
        await queryRows(client, statement, 'dropping the database again');
      } finally {
        await closeClient(client);
      }
      warn(`the restore failed; the database ${target.database} it had created was dropped again`);
    } catch (error) {
      warn(
        `the restore failed, and the database ${target.database} it had created could not be dropped: ${messageOf(error)}`,
        isMarked ? goOn : 'drop it by hand',
      );
    }
  }

  async #isMadeHere(client: pg.Client): Promise<boolean> {
    const { database } = this.#options.target;
    const sql = `SELECT datconnlimit AS limit FROM pg_catalog.pg_database WHERE datname = ${quoteLiteral(database)}`;
    const [row] = await queryRows(client, sql, 'looking for the database');
    return row?.limit === String(madeByRestore);
  }

  async #dropRoles(patience: AbortSignal): Promise<void> {
    const { facts, target, warn } = this.#options;
    const names = facts.missingRoles.join(', ');
    try {
      const client = await openMaintenance(target, patience);
      try {
        const statement = `DROP ROLE ${facts.missingRoles.map(quoteName).join(', ')}`;
        await queryRows(client, statement, 'dropping the roles again');
      } finally {
        await closeClient(client);
      }
      warn(`the roles that the restore had created were dropped again: ${names}`);
    } catch (error) {
      warn(
        `the roles that the restore had created could not be dropped: ${messageOf(error)}`,
        `drop ${names} by hand`,
      );
    }
  }

  async #emptyAgain(origin: TargetOrigin, patience: AbortSignal): Promise<void> {
    const { target, warn } = this.#options;
    const where = describeTarget(target);
    try {
      // A connection that was lost has let go of the lock, and another restore may be at work.
      await this.#relock(patience);
      // What they have received they still do; of a large object that is gone by then, pages would be left that the next one of that oid shows.
      await endLeftSessions(this.#session, target);
      const left = await this.#empty(origin, patience);
      if (left.length === 0) {
        if (this.#isMarked) await removeMark(this.#session);
        warn(`the restore failed; ${where} was emptied again`);
      } else {
        warn(
          `the restore failed; in ${where} are left: ${describeObjects(left)}`,
          this.#isMarked ? goOn : 'drop these by hand before the next try',
        );
      }
    } catch (error) {
      warn(
        `the restore failed, and ${where} could not be emptied again: ${messageOf(error)}`,
        this.#isMarked ? goOn : 'drop and create it anew before the next try',
      );
    }
  }

  /** Brings the database back to what it was, but for the mark. @returns what could not be dropped. */
  async #empty(origin: TargetOrigin, signal: AbortSignal | undefined) {
    // From here on there is nothing that could be gone on with.
    if (this.#isMarked || this.#options.leftover?.kind === 'marked')
      await setPhase(this.#session, 'definitions');
    const client = await openClient(this.#options.target, { signal });
    try {
      const left = await dropObjectsSince(client, origin.objects, isOfMark);
      const schemaNow = await readPublicSchema(client);
      if (origin.publicSchema !== null && schemaNow !== undefined) {
        for (const statement of publicSchemaResets(origin.publicSchema, schemaNow))
          await queryRows(client, statement, 'setting the schema public back');
      }
      return left;
    } finally {
      await closeClient(client);
    }
  }

  /** @param isAborted whether the run's signal ends the connection. */
  async #onServer(work: (client: pg.Client) => Promise<void>, isAborted = false): Promise<void> {
    const client = await openMaintenance(this.#options.target, isAborted ? this.#options.signal : undefined);
    try {
      await work(client);
    } finally {
      await closeClient(client);
    }
  }
}

const goOn = 'run the same command again with --clean-target';

/** Ends a session of ours and waits until the server is rid of it. */
async function endSession(client: pg.Client, pid: string): Promise<void> {
  const sql = `SELECT pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity WHERE pid = ${pid} AND application_name = 'pgkeep'`;
  for (let tries = 0; tries < endSessionTries; tries += 1) {
    if ((await queryRows(client, sql, 'ending the session that creates the database')).length === 0) return;
    await sleep(endSessionEveryMs);
  }
}

/** CREATE DATABASE as the source was made. @param versionNumber of the server that is to take it. */
export function createStatement(name: string, manifest: Manifest, versionNumber: number): string {
  const { encoding, collate, ctype, localeProvider, locale, icuRules } = manifest.database;
  const words = [
    `CREATE DATABASE ${name} TEMPLATE template0 ENCODING ${quoteLiteral(encoding)}`,
    `LC_COLLATE ${quoteLiteral(collate)} LC_CTYPE ${quoteLiteral(ctype)}`,
  ];
  // Not said, the provider is that of template0 here, which may sort otherwise.
  if (localeProvider === 'libc' && versionNumber >= 150000) words.push('LOCALE_PROVIDER libc');
  if (localeProvider === 'icu' && locale !== null)
    words.push(`LOCALE_PROVIDER icu ICU_LOCALE ${quoteLiteral(locale)}`);
  if (icuRules !== null) words.push(`ICU_RULES ${quoteLiteral(icuRules)}`);
  if (localeProvider === 'builtin' && locale !== null)
    words.push(`LOCALE_PROVIDER builtin BUILTIN_LOCALE ${quoteLiteral(locale)}`);
  return words.join(' ');
}

/**
 * What gives a new database its privileges.
 * @param isOwnerOurs the source's owner is not the owner here: what it has is then the restoring role's.
 */
export function grantStatements(
  name: string,
  owner: string,
  grants: readonly DatabaseGrant[],
  isOwnerOurs: boolean,
): string[] {
  const roleOf = (role: string | null) => {
    if (role === null) return 'PUBLIC';
    return role === owner && isOwnerOurs ? 'CURRENT_USER' : quoteName(role);
  };
  const grant = ({ privilege, grantee, isGrantable }: DatabaseGrant) =>
    `GRANT ${privilege} ON DATABASE ${name} TO ${roleOf(grantee)}${isGrantable ? ' WITH GRANT OPTION' : ''}`;
  const byOwner = grants.filter(({ grantor }) => grantor === owner);
  // What others granted rests on what the owner granted to them.
  const byOthers = grants.filter(({ grantor }) => grantor !== owner);
  return [
    `REVOKE ALL ON DATABASE ${name} FROM PUBLIC, ${roleOf(owner)}`,
    ...byOwner.map(grant),
    ...byOthers.flatMap(one => [`SET LOCAL ROLE ${quoteName(one.grantor)}`, grant(one), 'RESET ROLE']),
  ];
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
