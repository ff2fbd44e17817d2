// Bad input and logins that fail: one clear sentence, the hint, the documented exit code, and nothing written.

import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { generateKey } from '../../src/crypto/key.ts';
import { runPgkeep } from '../support/pgkeep-process.ts';
import { psql, type Server, startServer } from '../support/postgres-server.ts';
import { backUp, testKey } from '../support/round-trip.ts';
import { makeTempFolder } from '../support/temp-folder.ts';

const password = 'p@ss:w/rd with Ümlaut?&=%';
const secrets = [password, encodeURIComponent(password), testKey];

let server: Server;

beforeAll(async () => {
  server = await startServer({
    version: 17,
    hba: `host all refused 127.0.0.1/32 reject
          hostssl all only_tls 127.0.0.1/32 trust
          host all postgres 127.0.0.1/32 trust
          host all keeper 127.0.0.1/32 scram-sha-256`,
  });
  await server.createDatabase('shop');
  await psql(
    server,
    'shop',
    `CREATE ROLE keeper LOGIN PASSWORD '${password}' IN ROLE pg_read_all_data; CREATE ROLE refused LOGIN; CREATE ROLE only_tls LOGIN;
     CREATE DATABASE closed ALLOW_CONNECTIONS false; CREATE TABLE t AS SELECT 1 AS n`,
  );
});
afterAll(async () => {
  await server[Symbol.asyncDispose]();
});

interface Case {
  title: string;
  argv?: string[];
  /** On top of a complete environment; undefined takes a name away. */
  env?: () => Record<string, string | undefined>;
  code: string;
  exitCode: number;
  message: RegExp;
  /** Left out where the message itself says what would be right. */
  hint?: RegExp;
}

const url = (
  options: {
    user?: string;
    password?: string;
    port?: number;
    database?: string;
    host?: string;
    query?: string;
  } = {},
) => {
  const login = `${options.user ?? 'keeper'}:${encodeURIComponent(options.password ?? password)}`;
  const place = `${options.host ?? '127.0.0.1'}:${options.port ?? server.port}`;
  return `postgres://${login}@${place}/${options.database ?? 'shop'}${options.query ?? ''}`;
};

const key: Case[] = [
  {
    title: 'no key',
    env: () => ({ BACKUP_ENCRYPTION_KEY: undefined }),
    code: 'KEY_MISSING',
    exitCode: 3,
    message: /^a new repository is encrypted, and no key was given$/,
    hint: /pgkeep key generate/,
  },
  {
    title: 'a key of the wrong length',
    env: () => ({ BACKUP_ENCRYPTION_KEY: testKey.slice(1) }),
    code: 'KEY_MALFORMED',
    exitCode: 3,
    message: /must be 64 hexadecimal digits, but it is 63 characters long$/,
    hint: /pgkeep key generate/,
  },
  {
    title: 'a key of other characters',
    env: () => ({ BACKUP_ENCRYPTION_KEY: `${testKey.slice(1)}g` }),
    code: 'KEY_MALFORMED',
    exitCode: 3,
    message: /64 characters long with others among them$/,
  },
  {
    title: 'a key file that is not there',
    env: () => ({ BACKUP_ENCRYPTION_KEY: undefined, BACKUP_ENCRYPTION_KEY_FILE: '/nowhere/key' }),
    code: 'KEY_MISSING',
    exitCode: 3,
    message: /BACKUP_ENCRYPTION_KEY_FILE cannot be read: .*\/nowhere\/key/,
  },
];

const login: Case[] = [
  {
    title: 'a wrong password',
    env: () => ({ DATABASE_URL: url({ password: 'wrong' }) }),
    code: 'DATABASE_AUTHENTICATION',
    exitCode: 5,
    message: /^user keeper could not log in to shop at 127\.0\.0\.1:\d+: password authentication failed/,
    hint: /password/,
  },
  {
    title: 'no password',
    env: () => ({ DATABASE_URL: url().replace(/:[^:@]*@/, '@') }),
    code: 'DATABASE_AUTHENTICATION',
    exitCode: 5,
    message: /^user keeper could not log in to shop at .*: no password was given$/,
    hint: /PGPASSWORD/,
  },
  {
    title: 'a wrong user',
    env: () => ({ DATABASE_URL: url({ user: 'nobody_here' }) }),
    code: 'DATABASE_AUTHENTICATION',
    exitCode: 5,
    message: /^user nobody_here could not log in/,
  },
  {
    title: 'a user that pg_hba.conf rejects',
    env: () => ({ DATABASE_URL: url({ user: 'refused' }) }),
    code: 'DATABASE_AUTHENTICATION',
    exitCode: 5,
    message: /^user refused could not log in to shop .*pg_hba\.conf rejects connection/,
    hint: /pg_hba\.conf/,
  },
  {
    title: 'a wrong host',
    env: () => ({ DATABASE_URL: url({ host: 'no-such-host.invalid' }) }),
    code: 'DATABASE_UNREACHABLE',
    exitCode: 5,
    message: /^no server answered for shop at no-such-host\.invalid:\d+/,
    hint: /host and port/,
  },
  {
    title: 'a wrong port',
    env: () => ({ DATABASE_URL: url({ port: 1 }) }),
    code: 'DATABASE_UNREACHABLE',
    exitCode: 5,
    message: /^no server answered for shop at 127\.0\.0\.1:1: .*ECONNREFUSED/,
  },
  {
    title: 'a wrong database',
    env: () => ({ DATABASE_URL: url({ database: 'shoop' }) }),
    code: 'DATABASE_NOT_FOUND',
    exitCode: 5,
    message: /^there is no database shoop at 127\.0\.0\.1:\d+$/,
    hint: /psql -l/,
  },
  {
    title: 'a database that takes no connections',
    env: () => ({ DATABASE_URL: url({ database: 'closed' }) }),
    code: 'DATABASE_UNREACHABLE',
    exitCode: 5,
    message: /database "closed" is not currently accepting connections/,
  },
  {
    title: 'sslmode=require at a server without TLS',
    env: () => ({ DATABASE_URL: url({ query: '?sslmode=require' }) }),
    code: 'DATABASE_TLS',
    exitCode: 5,
    message: /^no connection to shop at .* with sslmode=require: .*does not support SSL/,
    hint: /sslmode/,
  },
  {
    title: 'a root certificate that is not there',
    env: () => ({ DATABASE_URL: url({ query: '?sslmode=verify-full&sslrootcert=/nowhere/root.crt' }) }),
    code: 'DATABASE_TLS',
    exitCode: 5,
    message: /certificate file \/nowhere\/root\.crt cannot be read/,
    hint: /sslrootcert/,
  },
  {
    title: 'a user that must use TLS',
    env: () => ({ DATABASE_URL: url({ user: 'only_tls', query: '?sslmode=disable' }) }),
    code: 'DATABASE_AUTHENTICATION',
    exitCode: 5,
    message: /^user only_tls could not log in .*no encryption/,
  },
  {
    title: 'no database named',
    env: () => ({ DATABASE_URL: undefined }),
    code: 'DATABASE_NOT_GIVEN',
    exitCode: 5,
    message: /^no database was named$/,
    hint: /DATABASE_URL=/,
  },
];

const options: Case[] = [
  {
    title: 'a URL of another kind',
    env: () => ({ DATABASE_URL: `mysql://root:${encodeURIComponent(password)}@localhost/shop` }),
    code: 'OPTION_INVALID',
    exitCode: 2,
    message: /postgres:\/\//,
  },
  {
    title: 'a URL that cannot be read',
    env: () => ({ DATABASE_URL: `postgres://a:${encodeURIComponent(password)}@[::1/shop` }),
    code: 'OPTION_INVALID',
    exitCode: 2,
    message: /URL/,
  },
  {
    title: 'an sslmode that does not exist',
    env: () => ({ DATABASE_URL: url({ query: '?sslmode=sometimes' }) }),
    code: 'OPTION_INVALID',
    exitCode: 2,
    message: /sslmode "sometimes" is not one of/,
  },
  {
    title: 'a port that is none',
    env: () => ({ DATABASE_URL: undefined, PGHOST: '127.0.0.1', PGPORT: '99999' }),
    code: 'OPTION_INVALID',
    exitCode: 2,
    message: /port/,
  },
  { title: 'too few jobs', argv: ['--jobs', '0'], code: 'OPTION_INVALID', exitCode: 2, message: /--jobs/ },
  {
    title: 'a time that is none',
    argv: ['--lock-timeout', 'soon'],
    code: 'OPTION_INVALID',
    exitCode: 2,
    message: /--lock-timeout/,
  },
  {
    title: 'an option that does not exist',
    argv: ['--job', '2'],
    code: 'OPTION_INVALID',
    exitCode: 2,
    message: /--job\b/,
    hint: /--jobs/,
  },
  {
    title: 'a pattern that matches nothing',
    argv: ['--table', 'no_such_table'],
    code: 'OPTION_INVALID',
    exitCode: 2,
    message: /matches no_such_table$/,
    hint: /patterns/,
  },
  {
    title: 'a folder without programs',
    argv: ['--programs', '/nowhere'],
    code: 'PROGRAM_MISSING',
    exitCode: 7,
    message: /^pg_dump was not found in \/nowhere$/,
    hint: /apt-get install/,
  },
  {
    title: 'a repository of another kind',
    argv: ['--repository', 'ftp://host/place'],
    code: 'OPTION_INVALID',
    exitCode: 2,
    message: /ftp/,
  },
];

describe.each([
  { kind: 'the key', cases: key },
  { kind: 'the login', cases: login },
  { kind: 'the options', cases: options },
])('$kind', ({ cases }) => {
  it.each(cases)(
    '$title: says what, and writes nothing',
    async ({ argv = [], env, code, exitCode, message, hint }) => {
      await using folder = makeTempFolder('place');
      const repository = join(folder.path, 'backups');
      const complete = { DATABASE_URL: url(), BACKUP_ENCRYPTION_KEY: testKey, HOME: folder.path };
      const words = ['create', '--repository', repository, '--programs', server.binDir, ...argv, '--json'];
      const ended = await runPgkeep(words, { env: { ...complete, ...env?.() }, cwd: folder.path });
      const { error } = JSON.parse(ended.out);
      expect(error.message).toMatch(message);
      expect({ code: error.code, exitCode: ended.exitCode }).toEqual({ code, exitCode });
      if (hint !== undefined) expect(error.hint).toMatch(hint);
      // A sentence: one line, no full stop; and the same for people.
      expect(error.message).toMatch(/^[^\n]+[^.\n]$/);
      expect(ended.err).toContain(`pgkeep: ${error.message} [${code}]\n`);
      if (error.hint !== undefined) expect(ended.err).toContain(`hint: ${error.hint}\n`);
      for (const secret of secrets) expect(ended.out + ended.err).not.toContain(secret);
      expect(existsSync(repository)).toBe(false);
    },
  );
});

describe('a repository that exists', () => {
  const repository = makeTempFolder('repository');

  beforeAll(async () => {
    await backUp(server, 'shop', repository.path);
  });

  it.each([
    {
      title: 'another key',
      env: { BACKUP_ENCRYPTION_KEY: generateKey() },
      argv: [],
      code: 'KEY_WRONG',
      exitCode: 3,
      message: /is not a key of this repository/,
    },
    {
      title: 'no key',
      env: { BACKUP_ENCRYPTION_KEY: undefined },
      argv: [],
      code: 'KEY_MISSING',
      exitCode: 3,
      message: /is encrypted and no key was given$/,
    },
    {
      title: 'a malformed key',
      env: { BACKUP_ENCRYPTION_KEY: 'short' },
      argv: [],
      code: 'KEY_MALFORMED',
      exitCode: 3,
      message: /5 characters long$/,
    },
    {
      title: '--no-encryption',
      env: {},
      argv: ['--no-encryption'],
      code: 'REPOSITORY_MISMATCH',
      exitCode: 4,
      message: /is encrypted and stays so$/,
    },
  ])('refuses $title before the database is asked', async ({ env, argv, code, exitCode, message }) => {
    const ended = await runPgkeep(['create', '--repository', repository.path, ...argv, '--json'], {
      // Nothing answers there: that would be the error if it were tried.
      env: { DATABASE_URL: url({ port: 1 }), BACKUP_ENCRYPTION_KEY: testKey, ...env },
    });
    const { error } = JSON.parse(ended.out);
    expect(error.message).toMatch(message);
    expect({ code: error.code, exitCode: ended.exitCode }).toEqual({ code, exitCode });
    expect(error.hint).toMatch(/./);
    expect(ended.out + ended.err).not.toContain(testKey);
  });

  it.each([
    { title: 'another key', env: { BACKUP_ENCRYPTION_KEY: generateKey() }, code: 'KEY_WRONG', exitCode: 3 },
    { title: 'no key', env: { BACKUP_ENCRYPTION_KEY: undefined }, code: 'KEY_MISSING', exitCode: 3 },
    { title: 'a wrong password', env: {}, code: 'DATABASE_AUTHENTICATION', exitCode: 5 },
  ])('is not restored from with $title', async ({ env, code, exitCode }) => {
    const words = [
      'restore',
      'latest',
      '--repository',
      repository.path,
      '--programs',
      server.binDir,
      '--create',
      '--json',
    ];
    const ended = await runPgkeep(words, {
      env: {
        RESTORE_DATABASE_URL: url({ database: 'new', password: 'wrong' }),
        BACKUP_ENCRYPTION_KEY: testKey,
        ...env,
      },
    });
    expect({ code: JSON.parse(ended.out).error.code, exitCode: ended.exitCode }).toEqual({ code, exitCode });
    expect(await psql(server, 'postgres', "SELECT count(*) FROM pg_database WHERE datname = 'new'")).toBe(
      '0\n',
    );
  });
});
