import { writeFileSync } from 'node:fs';
import { userInfo } from 'node:os';
import { join } from 'node:path';
import { inspect } from 'node:util';
import { afterAll, describe, expect, test } from 'vitest';
import { PgkeepError } from '../../../src/base/errors.ts';
import {
  describeTarget,
  type Environment,
  programEnvironment,
  readTarget,
} from '../../../src/postgres/target.ts';
import { makeTempFolder } from '../../support/temp-folder.ts';

const folder = makeTempFolder('target');
afterAll(() => folder.remove());
/** Nothing of this machine's user: no password file, no socket by default. */
const bare: Environment = { HOME: folder.path };

function read(url: string | undefined, environment: Environment = {}) {
  const { password, ...rest } = readTarget(url, { ...bare, ...environment });
  return { ...rest, password: password?.reveal() };
}

describe('a URL', () => {
  test.each<[string, Partial<ReturnType<typeof read>>]>([
    [
      'postgres://user:secret@host:5433/shop',
      { host: 'host', port: 5433, user: 'user', password: 'secret', database: 'shop', sslMode: 'prefer' },
    ],
    ['postgresql://user@host/shop', { host: 'host', port: 5432, user: 'user', password: undefined }],
    ['postgres://user:@host/shop', { user: 'user', password: undefined }],
    ['postgres://host/shop', { host: 'host', user: userInfo().username, database: 'shop' }],
    ['postgres://user@host', { database: 'user' }],
    ['postgres://user@host/', { database: 'user' }],
    [
      'postgres://us%40er:p%3Aa%2Fs%3Fs%23w%25@host/my%20shop%2Fx',
      { user: 'us@er', password: 'p:a/s?s#w%', database: 'my shop/x' },
    ],
    ['postgres://u:p#w?x@y@host/db', { user: 'u', password: 'p#w?x@y', host: 'host', database: 'db' }],
    ['postgres://u:p+w@host/a+b', { password: 'p+w', database: 'a+b' }],
    ['postgres://%C3%A4:%C3%B6@host/%C3%BC', { user: 'ä', password: 'ö', database: 'ü' }],
    ['postgres://u@127.0.0.1:15/db', { host: '127.0.0.1', port: 15 }],
    ['postgres://u@[::1]:15/db', { host: '::1', port: 15 }],
    ['postgres://u@[2001:db8::1]/db', { host: '2001:db8::1', port: 5432 }],
    ['postgres://%2Fvar%2Frun%2Fpg/db', { host: '/var/run/pg', database: 'db' }],
    ['postgres://u@%2Ftmp:5433/db', { host: '/tmp', port: 5433, user: 'u', database: 'db' }],
    ['postgres:///db?host=/tmp/x&port=5433', { host: '/tmp/x', port: 5433, database: 'db' }],
    ['postgres://u:p@/db?host=%2Ftmp%2Fx', { host: '/tmp/x', user: 'u', password: 'p', database: 'db' }],
    [
      'postgres://host/db?user=u&password=p%26w&dbname=other',
      { user: 'u', password: 'p&w', database: 'other' },
    ],
    [
      'postgres://h/d?sslmode=verify-full&sslrootcert=/ca.pem',
      { sslMode: 'verify-full', sslRootCert: '/ca.pem' },
    ],
    ['postgres://h/d?sslcert=/c&sslkey=/k', { sslCert: '/c', sslKey: '/k' }],
    ['postgres://h/d?ssl=true', { sslMode: 'require' }],
    ['postgres://h/d?ssl=false', { sslMode: 'disable' }],
    ['postgres://h/d?channel_binding=require&sslmode=require', { channelBinding: 'require' }],
    ['postgres://h/d?keepalives=1&gssencmode=prefer&target_session_attrs=any&', { host: 'h' }],
    ['postgres://h/d?sslcrl=&unknown=', { host: 'h' }],
    ['postgres://h/d?options=-c%20geqo%3Doff', { options: '-c geqo=off' }],
    ['postgres://h/d?connect_timeout=5', { connectTimeoutSeconds: 5 }],
    ['postgres://h/d?connect_timeout=0', { connectTimeoutSeconds: 30 }],
    ['postgres://h/d?pgbouncer=true&schema=public&connection_limit=5', { host: 'h', database: 'd' }],
    ['postgres://h/d?application_name=mine', { host: 'h', database: 'd' }],
  ])('%s is read as libpq reads it', (url, expected) => {
    expect(read(url)).toMatchObject(expected);
  });

  test('takes from PG* what it leaves out, and overrides what it names', () => {
    const environment = {
      PGHOST: 'other',
      PGPORT: '6000',
      PGUSER: 'other',
      PGPASSWORD: 'other',
      PGDATABASE: 'other',
      PGSSLMODE: 'require',
      PGOPTIONS: '-c geqo=off',
    };
    expect(read('postgres://host', environment)).toMatchObject({
      host: 'host',
      port: 6000,
      user: 'other',
      password: 'other',
      database: 'other',
      sslMode: 'require',
      options: '-c geqo=off',
    });
    expect(read('postgres://u:p@host:1/d?sslmode=disable', environment)).toMatchObject({
      port: 1,
      user: 'u',
      password: 'p',
      database: 'd',
      sslMode: 'disable',
    });
  });

  test.each([
    'mysql://user:hunter2@host/db',
    'user:hunter2@host/db',
    'host=localhost password=hunter2',
    'postgres:/hunter2',
    'postgres://user:hunter2@host:port/db',
    'postgres://user:hunter2@host:70000/db',
    'postgres://user:hunter2@host:0/db',
    'postgres://user:hunter2@host/db?port=hunter2',
    'postgres://user:hunter2%@host/db',
    'postgres://user:hunter2@host/%zz',
    'postgres://user:hunter2@[::1/db',
    'postgres://user:hunter2@host:1:2/db',
    'postgres://user:hunter2@[::1]x/db',
    'postgres://user:hunter2@one,two/db',
    'postgres://user:hunter2@one:5432,two:5433/db',
    'postgres:///db?host=one,two&password=hunter2',
    'postgres://user:hunter2@host/db?sslmode=hunter',
    'postgres://user:hunter2@host/db?service=hunter2',
    'postgres://user:hunter2@host/db?hostaddr=10.0.0.1',
    'postgres://user:hunter2@host/db?sslcrl=/revoked.pem',
    'postgres://user:hunter2@host/db?sslcrldir=/revoked',
    'postgres://user:hunter2@host/db?sslpassword=hunter2',
    'postgres://user:hunter2@host/db?require_auth=scram-sha-256',
    'postgres://user:hunter2@host/db?target_session_attrs=read-write',
    'postgres://user:hunter2@host/db?gssencmode=require',
    'postgres://user:hunter2@host/db?sslaccept=strict',
    'postgres://user:hunter2@host/db?channel_binding=hard',
    'postgres://user:hunter2@host/db?ssl=maybe',
    'postgres://user@host/db?password=x&hunter2=y',
    'postgres://user:hunter2@host/db?sslmdoe=verify-full',
    '',
  ])('%j is refused without repeating a secret', url => {
    const failure = failureOf(() => read(url));
    expect(failure.code).toBe('OPTION_INVALID');
    expect(inspect(failure, { depth: 9 })).not.toContain('hunter2');
  });

  test('names the parameter that it refuses', () => {
    expect(failureOf(() => read('postgres://h/d?sslmdoe=verify-full')).message).toContain('sslmdoe');
    const crl = failureOf(() => read('postgres://h/d?sslcrl=/revoked.pem'));
    expect([crl.message, crl.hint].join()).toMatch(/sslcrl.*revocation lists/);
  });

  test('never shows its password, however it is printed', () => {
    const target = readTarget('postgres://user:hunter2@host/db', bare);
    const shown = [
      inspect(target, { depth: 9 }),
      JSON.stringify(target),
      `${target.password}`,
      describeTarget(target),
    ];
    for (const text of shown) expect(text).not.toContain('hunter2');
    expect(describeTarget(target)).toBe('db at host:5432');
  });
});

describe('PG* variables', () => {
  test('are read without a URL', () => {
    expect(
      read(undefined, { PGHOST: 'h', PGPORT: '15', PGUSER: 'u', PGDATABASE: 'd', PGPASSWORD: 'p' }),
    ).toMatchObject({
      host: 'h',
      port: 15,
      user: 'u',
      database: 'd',
      password: 'p',
    });
    expect(read(undefined, { PGUSER: 'u', PGHOST: '/sockets' })).toMatchObject({
      host: '/sockets',
      database: 'u',
    });
    expect(read(undefined, { PGHOST: 'name', PGHOSTADDR: '10.0.0.1' }).host).toBe('10.0.0.1');
  });

  test('that are empty count as not set, as with libpq', () => {
    writeFileSync(join(folder.path, 'passwords'), 'h:5432:d:u:from file\n');
    const empty = {
      PGPORT: '',
      PGPASSWORD: '',
      PGSSLMODE: '',
      PGUSER: '',
      PGSSLROOTCERT: '',
      PGOPTIONS: '',
      PGSERVICE: '',
    };
    expect(
      read('postgres://u@h/d', { ...empty, PGHOST: '', PGPASSFILE: join(folder.path, 'passwords') }),
    ).toMatchObject({
      port: 5432,
      sslMode: 'prefer',
      password: 'from file',
      sslRootCert: undefined,
      options: undefined,
    });
    expect(read(undefined, { ...empty, PGHOST: 'h' }).user).toBe(userInfo().username);
  });

  test('none of them is a database not given', () => {
    for (const environment of [{}, { PGHOST: '', PGDATABASE: '' }, { PGPASSWORD: 'p' }])
      expect(failureOf(() => read(undefined, environment)).code).toBe('DATABASE_NOT_GIVEN');
  });

  test.each([
    [{ PGSERVICE: 'shop', PGHOST: 'h' }],
    [{ PGHOST: 'one,two' }],
    [{ PGHOST: 'h', PGPORT: 'x' }],
    [{ PGHOST: 'h', PGPORT: '5432,5433' }],
    [{ PGHOST: 'h', PGPORT: '5432.5' }],
    [{ PGHOST: 'h', PGSSLMODE: 'on' }],
    [{ PGHOST: 'h', PGSSLCRL: '/revoked.pem' }],
    [{ PGHOST: 'h', PGCHANNELBINDING: 'on' }],
  ])('%j is refused', environment => {
    expect(failureOf(() => read(undefined, environment)).code).toBe('OPTION_INVALID');
  });
});

describe('the password file', () => {
  const file = join(folder.path, 'pgpass');
  const lookup = (lines: string, url = 'postgres://user@host:5432/db') => {
    writeFileSync(file, lines, { mode: 0o600 });
    return read(url, { PGPASSFILE: file }).password;
  };

  test.each<[string, string, string | undefined]>([
    ['the line that matches', 'x:5432:db:user:no\nhost:5432:db:user:yes\n', 'yes'],
    ['the first of two', 'host:5432:db:user:one\nhost:5432:db:user:two\n', 'one'],
    ['wildcards', '*:*:*:*:any', 'any'],
    ['wildcards in part', 'host:*:db:*:part', 'part'],
    ['no other port', 'host:5433:db:user:no', undefined],
    ['no other user', 'host:5432:db:other:no', undefined],
    ['no other database', 'host:5432:d:user:no', undefined],
    ['no part of a name', 'hos:5432:db:user:no\nhost2:5432:db:user:no', undefined],
    ['no comment', '#host:5432:db:user:no\n# *:*:*:*:no\n', undefined],
    ['an escaped colon', 'host:5432:db:user:a\\:b', 'a:b'],
    ['an escaped backslash', 'host:5432:db:user:a\\\\b', 'a\\b'],
    ['a password of spaces and quotes', 'host:5432:db:user: "a b" ', ' "a b" '],
    ['Windows line ends', 'x:5432:db:user:no\r\nhost:5432:db:user:yes\r\n', 'yes'],
    ['a password up to the next colon', 'host:5432:db:user:pass:word', 'pass'],
    ['an empty password', 'host:5432:db:user:', ''],
    ['no line that is too short', 'host:5432:db\nhost\n\n:\n', undefined],
    ['a star that is escaped is a star', '\\*:5432:db:user:no', undefined],
    ['nothing of an empty file', '', undefined],
  ])('gives %s', (_, lines, expected) => {
    expect(lookup(lines)).toBe(expected);
  });

  test('matches names with colons and backslashes', () => {
    expect(lookup('host:5432:my\\:db:us\\\\er:yes', 'postgres://us%5Cer@host/my%3Adb')).toBe('yes');
  });

  test('knows a socket by its folder, and the usual ones as localhost', () => {
    expect(lookup('/some/folder:5432:db:user:yes', 'postgres://user@/db?host=/some/folder')).toBe('yes');
    expect(lookup('localhost:5432:db:user:yes', 'postgres://user@/db?host=/var/run/postgresql')).toBe('yes');
  });

  test('is ~/.pgpass by default, and only asked when there is no other password', () => {
    writeFileSync(join(folder.path, '.pgpass'), '*:*:*:*:from home', { mode: 0o600 });
    expect(read('postgres://user@host/db').password).toBe('from home');
    expect(read('postgres://user:url@host/db').password).toBe('url');
    expect(read('postgres://user@host/db', { PGPASSWORD: 'variable' }).password).toBe('variable');
    expect(read('postgres://user@host/db', { PGPASSFILE: '/no/such/file' }).password).toBeUndefined();
    expect(read('postgres://user@host/db', { PGPASSFILE: folder.path }).password).toBeUndefined();
    writeFileSync(join(folder.path, '.pgpass'), '');
  });
});

test('programs get what they need to connect, and nothing else of the environment', () => {
  const target = readTarget('postgres://u:hunter2@h:15/d?sslmode=require&sslrootcert=/ca', bare);
  const environment = {
    PATH: '/bin',
    HOME: '/home/u',
    PGPASSWORD: 'other',
    PGSERVICEFILE: '/x',
    PGHOSTADDR: '10.0.0.1',
    BACKUP_ENCRYPTION_KEY: 'key',
    DATABASE_URL: 'postgres://secret',
    AWS_SECRET_ACCESS_KEY: 'key',
  };
  expect(programEnvironment(target, environment)).toEqual({
    LC_ALL: 'C',
    PATH: '/bin',
    HOME: '/home/u',
    PGHOST: 'h',
    PGPORT: '15',
    PGUSER: 'u',
    PGDATABASE: 'd',
    PGPASSWORD: 'hunter2',
    PGSSLMODE: 'require',
    PGSSLROOTCERT: '/ca',
    PGCONNECT_TIMEOUT: '30',
    PGAPPNAME: 'pgkeep',
  });
});

function failureOf(run: () => unknown): PgkeepError {
  try {
    run();
  } catch (error) {
    if (error instanceof PgkeepError) return error;
    throw error;
  }
  throw new Error('nothing was thrown');
}
