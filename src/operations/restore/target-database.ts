// Brings the database to restore into, and the roles it needs, into being, gives it the source's own properties, and
// takes all of that back when the restore fails.
import type pg from 'pg';
import { PgkeepError } from '../../base/errors.ts';
import { closeClient, openClient, queryRows } from '../../postgres/client.ts';
import {
  type DatabaseObject,
  describeObjects,
  dropObjectsSince,
  listObjects,
} from '../../postgres/database-contents.ts';
import { createRoleStatements, roleSettingStatements, settingClause } from '../../postgres/globals.ts';
import { quoteLiteral, quoteName } from '../../postgres/identifiers.ts';
import { type PublicSchema, publicSchemaResets, readPublicSchema } from '../../postgres/public-schema.ts';
import { type DatabaseTarget, describeTarget } from '../../postgres/target.ts';
import type { DatabaseGrant, Manifest } from '../../repository/manifest.ts';
import { openMaintenance, type TargetFacts } from './preflight.ts';

export interface TargetDatabaseOptions {
  target: DatabaseTarget;
  manifest: Manifest;
  facts: TargetFacts;
  /** Whether the database is to be created. */
  create: boolean;
  noOwner: boolean;
  noPrivileges: boolean;
  warn: (message: string, hint?: string) => void;
}

/** Key of the advisory lock on a target: "pgkeep" in ASCII. */
const restoreLock = 0x70676b656570;

export class TargetDatabase {
  readonly #options: TargetDatabaseOptions;
  /** What takes back each step so far, the last one first; none of them throws. */
  readonly #takeBack: (() => Promise<void>)[] = [];

  /** Holds the lock that keeps a second restore out of an existing target. */
  #lock: pg.Client | undefined;

  private constructor(options: TargetDatabaseOptions) {
    this.#options = options;
  }

  /**
   * Creates roles and database as asked; settings of the database hold from now on, as its definitions may need them.
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

  /** Brings the server back to how it was; reports what could not be, instead of throwing. */
  async takeBack(): Promise<void> {
    for (let step = this.#takeBack.pop(); step !== undefined; step = this.#takeBack.pop()) await step();
    await this.#unlock();
  }

  /**
   * Has everything reach the disk. Owner, connection limit and privileges of a database that was created: last, as
   * they may shut us out; a refusal is a warning.
   */
  async finish(): Promise<void> {
    const { create, noOwner, noPrivileges, manifest } = this.#options;
    await this.#unlock();
    // The commits of a restore do not wait for the disk; this one does, and all before it are on the disk with it.
    await this.#onServer(async client => {
      await queryRows(client, 'SET synchronous_commit = on', 'flushing the restore');
      await queryRows(client, 'SELECT pg_catalog.pg_current_xact_id()', 'flushing the restore');
    });
    if (!create) return;
    await this.#onServer(async client => {
      const { owner, connectionLimit, privileges } = manifest.database;
      const statements: string[] = [];
      if (connectionLimit >= 0)
        statements.push(`ALTER DATABASE ${this.#name} CONNECTION LIMIT ${connectionLimit}`);
      if (!noOwner) statements.push(`ALTER DATABASE ${this.#name} OWNER TO ${quoteName(owner)}`);
      if (!noPrivileges && privileges !== null)
        statements.push(...grantStatements(this.#name, owner, privileges, noOwner));
      const doing = 'giving the database its owner and privileges';
      try {
        for (const statement of ['BEGIN', ...statements, 'COMMIT']) await queryRows(client, statement, doing);
      } catch (error) {
        this.#options.warn(
          `everything is restored, but not the owner and privileges of the database itself: ${messageOf(error)}`,
          `as an administrator run: ${statements.join('; ')}`,
        );
      }
    });
  }

  get #name(): string {
    return quoteName(this.#options.target.database);
  }

  async #prepare(): Promise<void> {
    const { create, facts, target } = this.#options;
    if (facts.missingRoles.length > 0) await this.#onServer(client => this.#createRoles(client));
    if (create) {
      await this.#onServer(client => this.#createDatabase(client));
      return;
    }
    this.#lock = await openClient(target);
    const [row] = await queryRows(
      this.#lock,
      `SELECT pg_catalog.pg_try_advisory_lock(${restoreLock}) AS locked`,
      'locking the target against other restores',
    );
    if (row?.locked !== 't') {
      throw new PgkeepError('TARGET_UNFIT', `another restore into ${describeTarget(target)} is under way`, {
        hint: 'wait for it to end, or restore into another database',
      });
    }
    const before = await listObjects(this.#lock);
    const schema = await readPublicSchema(this.#lock);
    this.#takeBack.push(() => this.#emptyDatabase(before, schema));
  }

  async #unlock(): Promise<void> {
    if (this.#lock !== undefined) await closeClient(this.#lock);
    this.#lock = undefined;
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
    this.#takeBack.push(() => this.#dropRoles());
  }

  async #createDatabase(client: pg.Client): Promise<void> {
    const { target, manifest } = this.#options;
    await queryRows(
      client,
      createStatement(this.#name, manifest, this.#options.facts.versionNumber),
      `creating the database ${target.database}`,
    );
    this.#takeBack.push(() => this.#dropDatabase());
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

  async #dropDatabase(): Promise<void> {
    const { target, warn } = this.#options;
    try {
      await this.#onServer(async client => {
        // FORCE ends what is left of our own sessions.
        const statement = `DROP DATABASE IF EXISTS ${this.#name} WITH (FORCE)`;
        await queryRows(client, statement, 'dropping the database again');
      });
      warn(`the restore failed; the database ${target.database} it had created was dropped again`);
    } catch (error) {
      warn(
        `the restore failed, and the database ${target.database} it had created could not be dropped: ${messageOf(error)}`,
        'drop it by hand',
      );
    }
  }

  async #dropRoles(): Promise<void> {
    const { facts, warn } = this.#options;
    const names = facts.missingRoles.join(', ');
    try {
      await this.#onServer(async client => {
        const statement = `DROP ROLE ${facts.missingRoles.map(quoteName).join(', ')}`;
        await queryRows(client, statement, 'dropping the roles again');
      });
      warn(`the roles that the restore had created were dropped again: ${names}`);
    } catch (error) {
      warn(
        `the roles that the restore had created could not be dropped: ${messageOf(error)}`,
        `drop ${names} by hand`,
      );
    }
  }

  async #emptyDatabase(before: readonly DatabaseObject[], schema: PublicSchema | undefined): Promise<void> {
    const { target, warn } = this.#options;
    const where = describeTarget(target);
    try {
      const client = await openClient(target);
      try {
        const left = await dropObjectsSince(client, before);
        const schemaNow = await readPublicSchema(client);
        if (schema !== undefined && schemaNow !== undefined) {
          for (const statement of publicSchemaResets(schema, schemaNow))
            await queryRows(client, statement, 'setting the schema public back');
        }
        if (left.length === 0) warn(`the restore failed; ${where} was emptied again`);
        else {
          warn(
            `the restore failed; in ${where} are left: ${describeObjects(left)}`,
            'drop these by hand before the next try',
          );
        }
      } finally {
        await client.end();
      }
    } catch (error) {
      warn(
        `the restore failed, and ${where} could not be emptied again: ${messageOf(error)}`,
        'drop and create it anew before the next try',
      );
    }
  }

  async #onServer(work: (client: pg.Client) => Promise<void>): Promise<void> {
    const client = await openMaintenance(this.#options.target);
    try {
      await work(client);
    } finally {
      await client.end();
    }
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
