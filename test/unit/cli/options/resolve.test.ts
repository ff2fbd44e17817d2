import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeEach, describe, expect, test } from 'vitest';
import { PgkeepError } from '../../../../src/base/errors.ts';
import { type GivenFlags, resolveOptions, type Settings } from '../../../../src/cli/options/resolve.ts';
import type { CommandName, OptionName } from '../../../../src/cli/options/table.ts';
import { storageOptions } from '../../../../src/cli/storage-options.ts';
import { makeTempFolder } from '../../../support/temp-folder.ts';

let cwd: string;

beforeEach(() => {
  cwd = makeTempFolder('options').path;
});

function resolve<C extends CommandName>(
  command: C,
  flags: Partial<Record<OptionName, string | boolean | readonly string[]>> = {},
  env: Record<string, string> = {},
): Settings<C> {
  const given: GivenFlags = new Map(Object.entries(flags) as [OptionName, string][]);
  return resolveOptions(command, given, { cwd, env, now: () => 0 });
}

function failure(act: () => unknown): PgkeepError {
  try {
    act();
  } catch (error) {
    if (error instanceof PgkeepError) return error;
    throw error;
  }
  throw new Error('nothing was thrown');
}

const write = (name: string, text: string) => writeFileSync(join(cwd, name), text);

describe('precedence', () => {
  test('is flag, environment, .env, configuration file, default', () => {
    expect(resolve('create').options.jobs).toBe(2);
    write('backup.config.json', '{ "jobs": 3 }');
    expect(resolve('create').options.jobs).toBe(3);
    write('.env', 'PGKEEP_JOBS=4\n');
    expect(resolve('create').options.jobs).toBe(4);
    expect(resolve('create', {}, { PGKEEP_JOBS: '5' }).options.jobs).toBe(5);
    expect(resolve('create', { jobs: '6' }, { PGKEEP_JOBS: '5' }).options.jobs).toBe(6);
  });

  test('takes a name that is set to nothing for not set', () => {
    expect(resolve('create', {}, { PGKEEP_JOBS: '' }).options.jobs).toBe(2);
    write('.env', 'BACKUP_ENCRYPTION_KEY=\n');
    expect(resolve('create').options.encryptionKey).toBeUndefined();
  });

  test('lets a flag turn off what the file turned on', () => {
    write('backup.config.json', '{ "privateMetadata": true, "encryption": false }');
    expect(resolve('create').options).toMatchObject({ privateMetadata: true, encryption: false });
    expect(resolve('create', { privateMetadata: false, encryption: true }).options).toMatchObject({
      privateMetadata: false,
      encryption: true,
    });
  });
});

describe('the repository', () => {
  const sftp = { BACKUP_STORAGE_TYPE: 'sftp', SFTP_HOST: 'me@nas:2222' };

  test('is ./backups, or what BACKUP_STORAGE_PATH or BACKUP_REPOSITORY say', () => {
    expect(resolve('list').options.repository).toBe(join(cwd, 'backups'));
    const env = { BACKUP_STORAGE_TYPE: 'local', BACKUP_STORAGE_PATH: '/a' };
    expect(resolve('list', {}, env).options.repository).toBe('/a');
    expect(resolve('list', {}, { ...env, BACKUP_REPOSITORY: '/b' }).options.repository).toBe('/b');
  });

  test('of a kind that is not supported is refused, unless a place of another kind outranks it', () => {
    const env = { BACKUP_STORAGE_TYPE: 'tape' };
    expect(failure(() => resolve('list', {}, env))).toMatchObject({
      code: 'OPTION_INVALID',
      message: "BACKUP_STORAGE_TYPE: 'tape' is not a kind of storage that this version knows",
      hint: expect.stringMatching(/^supported: local, s3/),
    });
    expect(resolve('list', { repository: '/c' }, env).options.repository).toBe('/c');
    expect(resolve('list', {}, { ...env, BACKUP_REPOSITORY: '/b' }).options.repository).toBe('/b');
  });

  test.each([
    [{}, 's3://shop-backups'],
    [{ BACKUP_STORAGE_PATH: '/nightly/' }, 's3://shop-backups/nightly'],
    [{ BACKUP_STORAGE_PATH: './a/b' }, 's3://shop-backups/a/b'],
    [{ BACKUP_STORAGE_TYPE: 'S3' }, 's3://shop-backups'],
    [{ BACKUP_REPOSITORY: 's3://other/x' }, 's3://other/x'],
    [{ BACKUP_STORAGE_TYPE: 'local', BACKUP_STORAGE_PATH: '/a' }, '/a'],
  ])(
    'is in S3_BACKUP_BUCKET where BACKUP_STORAGE_TYPE is s3 and nothing else says otherwise: %j',
    (more, place) => {
      const env = { BACKUP_STORAGE_TYPE: 's3', S3_BACKUP_BUCKET: 'shop-backups', ...more };
      writeFileSync(join(cwd, 'backup.config.json'), '{ "repository": "kept" }');
      expect(resolve('list', {}, env).options.repository).toBe(place);
      expect(resolve('list', { repository: '/c' }, env).options.repository).toBe('/c');
    },
  );

  test.each([
    [{ BACKUP_STORAGE_TYPE: 'gcs', GCS_BACKUP_BUCKET: 'shop' }, 'gs://shop'],
    [{ BACKUP_STORAGE_TYPE: 'gcs', GCS_BACKUP_BUCKET: 'shop', BACKUP_STORAGE_PATH: '/a/' }, 'gs://shop/a'],
    [{ BACKUP_STORAGE_TYPE: 'azure', AZURE_CONTAINER: 'shop', BACKUP_STORAGE_PATH: 'a' }, 'azure://shop/a'],
    [{ ...sftp, BACKUP_STORAGE_PATH: '/srv/backups' }, 'sftp://me@nas:2222/srv/backups'],
    [{ ...sftp, BACKUP_STORAGE_PATH: '/srv/50 % more?' }, 'sftp://me@nas:2222/srv/50%20%25%20more%3F'],
    [{ ...sftp, BACKUP_STORAGE_PATH: 'backups' }, 'sftp://me@nas:2222/~/backups'],
    [{ ...sftp, BACKUP_STORAGE_PATH: './backups' }, 'sftp://me@nas:2222/~/backups'],
    [{ ...sftp, BACKUP_STORAGE_PATH: '~/backups' }, 'sftp://me@nas:2222/~/backups'],
  ])('is where the type and its variables say: %j', (env, place) => {
    expect(resolve('list', {}, env).options.repository).toBe(place);
  });

  test('has settings of its storage, of which secrets go no further than the storage', () => {
    const env = {
      AWS_ENDPOINT_URL: 'https://general',
      AWS_ENDPOINT_URL_S3: 'https://s3',
      AWS_SECRET_ACCESS_KEY: 'not to be seen',
      AWS_REQUEST_CHECKSUM_CALCULATION: 'WHEN_SUPPORTED',
      PGKEEP_S3_ENCRYPTION: 'aes256',
      PGKEEP_S3_TAGS: 'team=ops, env=prod',
      PGKEEP_LIMIT_UPLOAD: '10MiB',
    };
    const settings = resolve('create', { s3Region: 'eu-central-1' }, env);
    expect(settings.options).toMatchObject({
      s3Endpoint: 'https://s3',
      s3Region: 'eu-central-1',
      s3Checksums: 'when_supported',
      s3Encryption: 'AES256',
      s3Tags: ['team=ops', 'env=prod'],
      limitUpload: 10 * 1024 * 1024,
    });
    expect(JSON.stringify(settings)).not.toContain('not to be seen');
    expect(storageOptions(settings.options)).toMatchObject({
      s3: { endpoint: 'https://s3', secretAccessKey: 'not to be seen', checksums: 'when-supported' },
      limits: { uploadBytesPerSecond: 10 * 1024 * 1024 },
    });
    expect(storageOptions(resolve('list').options)).not.toHaveProperty('limits');
    const requests = resolve('list', { limitRequests: '3' });
    expect(storageOptions(requests.options).limits).toMatchObject({ requests: 3 });
    const wrong = { PGKEEP_S3_ENCRYPTION: 'rot13', PGKEEP_LIMIT_DOWNLOAD: '10' };
    expect(failure(() => resolve('list', {}, wrong)).context.problems).toEqual([
      "PGKEEP_LIMIT_DOWNLOAD: '10' is not a size such as 512KiB, 10MiB or 1GiB",
      "PGKEEP_S3_ENCRYPTION: 'rot13' is not one of AES256, aws:kms",
    ]);
  });

  test.each([
    ['s3', 'S3_BACKUP_BUCKET'],
    ['gcs', 'GCS_BACKUP_BUCKET'],
    ['azure', 'AZURE_CONTAINER'],
    ['sftp', 'SFTP_HOST and BACKUP_STORAGE_PATH'],
  ])('of type %s is refused without %s', (type, needed) => {
    expect(failure(() => resolve('list', {}, { BACKUP_STORAGE_TYPE: type }))).toMatchObject({
      code: 'OPTION_INVALID',
      message: `BACKUP_STORAGE_TYPE: '${type}' needs ${needed} to say where`,
    });
  });

  test('in the configuration file starts from the folder of that file', () => {
    const folder = makeTempFolder('config').path;
    writeFileSync(join(folder, 'other.json'), '{ "repository": "kept" }');
    expect(resolve('list', { config: join(folder, 'other.json') }).options.repository).toBe(
      join(folder, 'kept'),
    );
  });
});

describe('problems', () => {
  test('are all named at once, each with its source', () => {
    write('.env', 'PGKEEP_LOCK_TIMEOUT=soon\n');
    write('backup.config.json', '{ "compressionLevel": 99, "jbos": 3 }');
    const error = failure(() => resolve('create', { jobs: 'many' }, { PGKEEP_MAX_BLOCKING: '30' }));
    expect(error.code).toBe('OPTION_INVALID');
    expect(error.context.problems).toEqual([
      "compressionLevel in backup.config.json: '99' is not a whole number from 1 to 19",
      'jbos in backup.config.json: is not a key of this file',
      "--jobs: 'many' is not a whole number from 1 to 64",
      "PGKEEP_LOCK_TIMEOUT in .env: 'soon' is not a time such as 500ms, 30s, 5m or 2h",
      "PGKEEP_MAX_BLOCKING: '30' is not a time such as 500ms, 30s, 5m or 2h",
    ]);
    expect(error.message).toContain('5 options cannot be used:\n  compressionLevel');
    expect(error.hint).toBe('did you mean jobs?');
  });

  test('of the file alone are CONFIG_INVALID, whatever the command', () => {
    write('backup.config.json', '{ "compressionLevel": 99 }');
    expect(failure(() => resolve('list')).code).toBe('CONFIG_INVALID');
  });

  test('of the environment concern only the commands that use it', () => {
    expect(resolve('list', {}, { PGKEEP_JOBS: 'many' }).options.json).toBe(false);
  });

  test('include two keys of the same strength, and two parts that exclude each other', () => {
    const env = { BACKUP_ENCRYPTION_KEY: 'ab', BACKUP_ENCRYPTION_KEY_FILE: '/k' };
    expect(failure(() => resolve('show', {}, env)).message).toBe(
      'BACKUP_ENCRYPTION_KEY_FILE: cannot stand beside BACKUP_ENCRYPTION_KEY: give one of them',
    );
    expect(resolve('show', { keyFile: '/k' }, { BACKUP_ENCRYPTION_KEY: 'ab' }).options.keyFile).toBe('/k');
    expect(failure(() => resolve('restore', { definitionsOnly: true, dataOnly: true })).message).toBe(
      '--data-only: cannot be combined with --schema-only',
    );
    expect(failure(() => resolve('verify', { asOf: '1d', repair: true }))).toMatchObject({
      code: 'OPTION_INVALID',
      message: '--repair: cannot be combined with --as-of',
    });
  });

  test('include a part of no backup, and what is no part', () => {
    const problems = (flags: Parameters<typeof resolve>[1], env = {}) =>
      failure(() => resolve('create', flags, env)).message;
    expect(problems({ shard: '1/3' })).toBe('--shard: needs --join, to say of which backup');
    expect(problems({ join: 'night' })).toBe('--join: is for --shard or --shards');
    expect(problems({ join: 'night', shard: '1/3', shards: '3' })).toBe(
      '--shard: cannot be combined with --shards',
    );
    for (const shard of ['4/3', '0/0', '1/101', '1', '-1/3', 'a/b'])
      expect(problems({ join: 'night', shard })).toBe(`--shard: '${shard}' is not a part such as 2/3`);
    expect(resolve('create', { shard: '0/3' }, { PGKEEP_JOIN: 'night' }).options.shard).toBe('0/3');
    expect(resolve('create', {}, { PGKEEP_JOIN: 'night' }).options.join).toBe('night');
  });
});

describe('the configuration file', () => {
  test.each([
    ['{', /^backup\.config\.json is not JSON: /],
    ['[]', /^backup\.config\.json must hold one JSON object/],
    ['null', /must hold one JSON object/],
  ])('holding %s is refused', (text, message) => {
    write('backup.config.json', text);
    expect(failure(() => resolve('list'))).toMatchObject({
      code: 'CONFIG_INVALID',
      message: expect.stringMatching(message),
    });
  });

  test('that was asked for must exist, the usual one need not', () => {
    expect(failure(() => resolve('list', { config: 'other.json' }))).toMatchObject({
      code: 'CONFIG_INVALID',
      message: expect.stringMatching(/^other\.json cannot be read: ENOENT/),
    });
    expect(failure(() => resolve('list', {}, { PGKEEP_CONFIG: 'other.json' })).code).toBe('CONFIG_INVALID');
    expect(resolve('list').options.json).toBe(false);
  });

  test.each([
    ['encryptionKey', 'set BACKUP_ENCRYPTION_KEY, or keyFile'],
    ['databaseUrl', 'set DATABASE_URL, or keep the password in ~/.pgpass'],
    ['password', 'set DATABASE_URL, or keep the password in ~/.pgpass'],
  ])('takes no secret: %s', (key, hint) => {
    write('backup.config.json', JSON.stringify({ [key]: 'hunter2' }));
    const error = failure(() => resolve('create'));
    expect(error.hint).toBe(hint);
    expect(error.message).not.toContain('hunter2');
  });

  test('takes the URL of a database, but not with a password in it', () => {
    write('backup.config.json', '{ "$schema": "x", "database": "postgres://shop@localhost/shop" }');
    expect(resolve('create').options.database).toBe('postgres://shop@localhost/shop');
    write('backup.config.json', '{ "database": "postgres://shop:hunter2@localhost/shop" }');
    const error = failure(() => resolve('create'));
    expect(error).toMatchObject({
      code: 'CONFIG_INVALID',
      message: 'database in backup.config.json: holds a password',
    });
  });
});

describe('the database', () => {
  test('to restore into is RESTORE_DATABASE_URL, else DATABASE_URL', () => {
    const env = { DATABASE_URL: 'postgres://a/a' };
    expect(resolve('restore', {}, env).options.to).toBe('postgres://a/a');
    expect(resolve('restore', {}, { ...env, RESTORE_DATABASE_URL: 'postgres://b/b' }).options.to).toBe(
      'postgres://b/b',
    );
  });

  test('given as a flag with a password brings a warning that does not repeat it', () => {
    const { warnings } = resolve('restore', { to: 'postgres://u:hunter2@b/b' });
    expect(warnings).toEqual([
      'the password in --to is visible in the list of processes; set RESTORE_DATABASE_URL instead',
    ]);
    expect(resolve('restore', { to: 'postgres://u@b/b' }).warnings).toEqual([]);
    expect(resolve('restore', {}, { DATABASE_URL: 'postgres://u:hunter2@b/b' }).warnings).toEqual([]);
  });
});

test('the environment passed on has .env under it, and none of the secrets', () => {
  write('.env', 'PGHOST=a\nPGUSER=shop\nBACKUP_ENCRYPTION_KEY=abc\n');
  const { environment, options } = resolve('create', {}, { PGHOST: 'b', DATABASE_URL: 'postgres://x/y' });
  expect(environment).toEqual({ PGHOST: 'b', PGUSER: 'shop' });
  expect(options.encryptionKey?.reveal()).toBe('abc');
});

describe('the storage of a second repository', () => {
  const first = {
    AWS_ACCESS_KEY_ID: 'A',
    AWS_SECRET_ACCESS_KEY: 'a',
    AWS_ENDPOINT_URL_S3: 'http://one',
    SFTP_PASSWORD: 'p',
  };
  const second = (settings: Settings<'replicate'>) =>
    storageOptions({ ...settings.options, ...settings.replica });

  test('is reached like that of the first, as long as nothing else is said', () => {
    const settings = resolve('replicate', {}, first);
    expect(second(settings)).toEqual(storageOptions(settings.options));
  });

  test('has all settings of a kind of its own as soon as it has one', () => {
    const own = { REPLICA_AWS_ACCESS_KEY_ID: 'B', REPLICA_AWS_SECRET_ACCESS_KEY: 'b' };
    const settings = resolve('replicate', {}, { ...first, ...own });
    const s3 = { accessKeyId: 'B', secretAccessKey: 'b', endpoint: undefined };
    expect(second(settings)).toMatchObject({ s3, sftp: { password: 'p' } });
    expect(storageOptions(settings.options)).toMatchObject({
      s3: { accessKeyId: 'A', endpoint: 'http://one' },
    });
    for (const name of ['REPLICA_AWS_SECRET_ACCESS_KEY', 'AWS_SECRET_ACCESS_KEY'])
      expect(settings.environment).not.toHaveProperty(name);
  });

  test('stands in a section of the configuration file, whose keys are checked, and paths start from there', () => {
    write('backup.config.json', '{ "replica": { "repository": "copy", "s3Endpoint": "http://two" } }');
    const settings = resolve('replicate', {}, first);
    expect(settings.options.replica).toBe(join(cwd, 'copy'));
    expect(second(settings)).toMatchObject({ s3: { endpoint: 'http://two', accessKeyId: undefined } });
    expect(resolve('create', {}, { BACKUP_REPLICATE_TO: 's3://b' }).options.replica).toBe('s3://b');
    write('backup.config.json', '{ "replica": { "s3Endpiont": "http://two" } }');
    expect(failure(() => resolve('create'))).toMatchObject({
      code: 'CONFIG_INVALID',
      message: 's3Endpiont in replica of backup.config.json: is not a key of this file',
      hint: 'did you mean s3Endpoint?',
    });
    write('backup.config.json', '{ "replica": "s3://b" }');
    expect(failure(() => resolve('create')).message).toContain('must be an object');
  });
});
