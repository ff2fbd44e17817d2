// The one table of options. Parser, help, configuration file, its JSON schema, shell completion, the types of the
// resolved values and docs/configuration.md are all made from it.
import type { Secret } from '../../base/secret.ts';

export type CommandName =
  | 'create'
  | 'list'
  | 'show'
  | 'verify'
  | 'restore'
  | 'cleanup'
  | 'delete'
  | 'replicate'
  | 'key generate'
  | 'doctor'
  | 'storage probe'
  | 'export'
  | 'recovery-kit'
  | 'schedule print'
  | 'completion';

interface Row {
  /** The flag as the parser takes it: `-j, --jobs <n>`. A flag `--no-…` turns its option off. */
  flags?: string;
  /** Environment names, the first one set wins. */
  env?: readonly string[];
  /** The key in the configuration file. */
  config?: string;
  /** A short phrase for the help: lower case, no final period. */
  help: string;
  group: OptionGroup;
  commands: readonly CommandName[];
}

export type OptionGroup = 'From and to' | 'What' | 'How' | 'Storage' | 'Output';

export type OptionRow = Row &
  (
    | { type: 'secret' | 'time' | 'url'; default?: never }
    /** Written as `10%`; resolved to a fraction above 0 and up to 1. */
    | { type: 'share'; default?: never }
    /** With `choices`, one of them; capitals do not matter. */
    | { type: 'string'; default?: never; choices?: readonly string[] }
    /** A file or folder; a relative one in the configuration file starts from that file's folder. */
    | {
        type: 'path';
        default?: string;
        holds: 'file' | 'folder';
        /** `-` is taken as it is, for standard output. */
        takesDash?: boolean;
      }
    /** A folder like `path`, or the URL of another kind of storage. */
    | { type: 'place'; default?: string }
    | { type: 'boolean'; default?: boolean }
    | { type: 'integer'; default?: number; min: number; max: number }
    /** Written as `30s`; resolved to milliseconds. */
    | { type: 'duration'; default?: string }
    /** Written as `10MiB`; resolved to bytes. */
    | { type: 'size'; default?: never }
    /** Given by repeating the flag; with a separator also several in one. */
    | { type: 'list'; default?: never; separator?: ',' }
  );

const repositoryCommands = [
  'create',
  'list',
  'show',
  'verify',
  'restore',
  'export',
  'recovery-kit',
  'cleanup',
  'delete',
  'replicate',
  'doctor',
  'storage probe',
  'schedule print',
] as const;

export const optionTable = {
  config: {
    type: 'path',
    holds: 'file',
    flags: '--config <file>',
    env: ['PGKEEP_CONFIG'],
    help: 'read this configuration file instead of ./backup.config.json',
    group: 'From and to',
    commands: repositoryCommands,
  },
  repository: {
    type: 'place',
    flags: '-r, --repository <place>',
    env: ['BACKUP_REPOSITORY', 'BACKUP_STORAGE_PATH'],
    config: 'repository',
    default: './backups',
    help: 'where the backups are: a folder, s3://bucket/prefix, gs://bucket/prefix, azure://container/prefix or sftp://user@host/path',
    group: 'From and to',
    commands: repositoryCommands,
  },
  replica: {
    type: 'place',
    env: ['BACKUP_REPLICATE_TO'],
    help: 'the second repository; in the configuration file: "replica": { "repository": … }',
    group: 'From and to',
    commands: ['create', 'list', 'replicate'],
  },
  replicateTo: {
    type: 'place',
    flags: '--replicate-to <place>',
    help: 'copy the backup to this second repository as well (BACKUP_REPLICATE_TO); it counts even if only that fails, with exit code 12',
    group: 'From and to',
    commands: ['create'],
  },
  replicaTo: {
    type: 'place',
    flags: '--to <place>',
    help: 'the second repository, an empty place at first (BACKUP_REPLICATE_TO)',
    group: 'From and to',
    commands: ['replicate'],
  },
  listReplica: {
    type: 'place',
    flags: '--replica <place>',
    help: 'list a second repository too, and say which backups are where (BACKUP_REPLICATE_TO)',
    group: 'From and to',
    commands: ['list'],
  },
  storageType: {
    type: 'string',
    env: ['BACKUP_STORAGE_TYPE'],
    help: 'the kind of storage: local (the folder BACKUP_STORAGE_PATH), s3, gcs or azure (BACKUP_STORAGE_PATH is a prefix in the bucket or container), or sftp (it is a folder on the server)',
    group: 'Storage',
    commands: repositoryCommands,
  },
  limitUpload: {
    type: 'size',
    flags: '--limit-upload <rate>',
    env: ['PGKEEP_LIMIT_UPLOAD'],
    config: 'limitUpload',
    help: 'send no more than so much a second, such as 10MiB',
    group: 'Storage',
    commands: repositoryCommands,
  },
  limitDownload: {
    type: 'size',
    flags: '--limit-download <rate>',
    env: ['PGKEEP_LIMIT_DOWNLOAD'],
    config: 'limitDownload',
    help: 'read no more than so much a second',
    group: 'Storage',
    commands: repositoryCommands,
  },
  limitRequests: {
    type: 'integer',
    flags: '--limit-requests <n>',
    env: ['PGKEEP_LIMIT_REQUESTS'],
    config: 'limitRequests',
    min: 1,
    max: 1_000,
    help: 'ask no more than so much of the storage at once',
    group: 'Storage',
    commands: repositoryCommands,
  },
  s3Bucket: {
    type: 'string',
    env: ['S3_BACKUP_BUCKET'],
    help: 'the bucket, where BACKUP_STORAGE_TYPE is s3',
    group: 'Storage',
    commands: repositoryCommands,
  },
  s3Endpoint: {
    type: 'string',
    flags: '--s3-endpoint <url>',
    env: ['AWS_ENDPOINT_URL_S3', 'AWS_ENDPOINT_URL'],
    config: 's3Endpoint',
    help: 'the S3 server, where it is not that of AWS',
    group: 'Storage',
    commands: repositoryCommands,
  },
  s3Region: {
    type: 'string',
    flags: '--s3-region <name>',
    env: ['AWS_REGION', 'AWS_DEFAULT_REGION'],
    config: 's3Region',
    help: 'the region of the S3 bucket; us-east-1 where an endpoint is given and no region',
    group: 'Storage',
    commands: repositoryCommands,
  },
  s3Profile: {
    type: 'string',
    env: ['AWS_PROFILE'],
    config: 's3Profile',
    help: "the profile in AWS's own configuration files that gives the credentials",
    group: 'Storage',
    commands: repositoryCommands,
  },
  s3AccessKeyId: {
    type: 'string',
    env: ['AWS_ACCESS_KEY_ID'],
    help: 'the access key; without it, and with a profile, the AWS SDK looks for credentials in its usual places',
    group: 'Storage',
    commands: repositoryCommands,
  },
  s3SecretAccessKey: {
    type: 'secret',
    env: ['AWS_SECRET_ACCESS_KEY'],
    help: 'the secret of the access key',
    group: 'Storage',
    commands: repositoryCommands,
  },
  s3SessionToken: {
    type: 'secret',
    env: ['AWS_SESSION_TOKEN'],
    help: 'goes with an access key that is good for a limited time',
    group: 'Storage',
    commands: repositoryCommands,
  },
  s3PathStyle: {
    type: 'boolean',
    env: ['PGKEEP_S3_PATH_STYLE'],
    config: 's3PathStyle',
    help: 'name the bucket in the path of requests rather than in the host name; on where an endpoint is given',
    group: 'Storage',
    commands: repositoryCommands,
  },
  s3StorageClass: {
    type: 'string',
    env: ['PGKEEP_S3_STORAGE_CLASS'],
    config: 's3StorageClass',
    help: 'the storage class of new objects, such as STANDARD_IA',
    group: 'Storage',
    commands: repositoryCommands,
  },
  s3Encryption: {
    type: 'string',
    choices: ['AES256', 'aws:kms'],
    env: ['PGKEEP_S3_ENCRYPTION'],
    config: 's3Encryption',
    help: "the store's own encryption of new objects: AES256 or aws:kms; pgkeep's goes on beneath it",
    group: 'Storage',
    commands: repositoryCommands,
  },
  s3KmsKeyId: {
    type: 'string',
    env: ['PGKEEP_S3_KMS_KEY_ID'],
    config: 's3KmsKeyId',
    help: 'the key for aws:kms',
    group: 'Storage',
    commands: repositoryCommands,
  },
  s3Tags: {
    type: 'list',
    separator: ',',
    env: ['PGKEEP_S3_TAGS'],
    config: 's3Tags',
    help: 'tags of new objects, name=value',
    group: 'Storage',
    commands: repositoryCommands,
  },
  lockDays: {
    type: 'integer',
    flags: '--lock-days <n>',
    env: ['PGKEEP_LOCK_DAYS'],
    config: 'lockDays',
    min: 1,
    max: 3_650,
    help: 'nobody can delete the backup for so many days; needs an S3 bucket made with Object Lock',
    group: 'Storage',
    commands: ['create'],
  },
  lockMode: {
    type: 'string',
    choices: ['compliance', 'governance'],
    flags: '--lock-mode <mode>',
    env: ['PGKEEP_LOCK_MODE'],
    config: 'lockMode',
    help: 'with --lock-days: compliance (the default) or governance, which whoever may bypass it can lift',
    group: 'Storage',
    commands: ['create'],
  },
  asOf: {
    type: 'time',
    flags: '--as-of <time>',
    help: 'the repository as it was then, seen through later deletions, in an S3 bucket that keeps versions',
    group: 'Storage',
    commands: ['list', 'show', 'verify', 'restore', 'export'],
  },
  s3Checksums: {
    type: 'string',
    choices: ['when_required', 'when_supported'],
    env: ['AWS_REQUEST_CHECKSUM_CALCULATION'],
    config: 's3Checksums',
    help: 'when_supported: checksums in every request, for buckets that demand them; many stores refuse them',
    group: 'Storage',
    commands: repositoryCommands,
  },
  gcsBucket: {
    type: 'string',
    env: ['GCS_BACKUP_BUCKET'],
    help: 'the bucket, where BACKUP_STORAGE_TYPE is gcs',
    group: 'Storage',
    commands: repositoryCommands,
  },
  gcsAccessId: {
    type: 'string',
    env: ['GCS_HMAC_ACCESS_ID'],
    help: 'the access ID of an HMAC key, for a gs:// repository',
    group: 'Storage',
    commands: repositoryCommands,
  },
  gcsSecret: {
    type: 'secret',
    env: ['GCS_HMAC_SECRET'],
    help: 'the secret of the HMAC key',
    group: 'Storage',
    commands: repositoryCommands,
  },
  gcsStorageClass: {
    type: 'string',
    choices: ['STANDARD', 'NEARLINE', 'COLDLINE', 'ARCHIVE'],
    env: ['PGKEEP_GCS_STORAGE_CLASS'],
    config: 'gcsStorageClass',
    help: "the storage class of new objects; the bucket's own without it",
    group: 'Storage',
    commands: repositoryCommands,
  },
  gcsEndpoint: {
    type: 'string',
    flags: '--gcs-endpoint <url>',
    env: ['PGKEEP_GCS_ENDPOINT'],
    config: 'gcsEndpoint',
    help: 'the URL of Google Cloud Storage, where it is not https://storage.googleapis.com',
    group: 'Storage',
    commands: repositoryCommands,
  },
  azureContainer: {
    type: 'string',
    env: ['AZURE_CONTAINER'],
    help: 'the container, where BACKUP_STORAGE_TYPE is azure',
    group: 'Storage',
    commands: repositoryCommands,
  },
  azureAccount: {
    type: 'string',
    env: ['AZURE_STORAGE_ACCOUNT'],
    config: 'azureAccount',
    help: 'the storage account of an azure:// repository',
    group: 'Storage',
    commands: repositoryCommands,
  },
  azureKey: {
    type: 'secret',
    env: ['AZURE_STORAGE_KEY'],
    help: 'a key of the storage account',
    group: 'Storage',
    commands: repositoryCommands,
  },
  azureSas: {
    type: 'secret',
    env: ['AZURE_STORAGE_SAS_TOKEN'],
    help: 'a shared access signature, in place of the key',
    group: 'Storage',
    commands: repositoryCommands,
  },
  azureConnectionString: {
    type: 'secret',
    env: ['AZURE_STORAGE_CONNECTION_STRING'],
    help: 'account, key or SAS, and endpoint in one; goes before them',
    group: 'Storage',
    commands: repositoryCommands,
  },
  azureEndpoint: {
    type: 'string',
    flags: '--azure-endpoint <url>',
    env: ['AZURE_STORAGE_SERVICE_ENDPOINT'],
    config: 'azureEndpoint',
    help: 'the URL of the blob service, where it is not that of the account in the public cloud',
    group: 'Storage',
    commands: repositoryCommands,
  },
  azureAccessTier: {
    type: 'string',
    choices: ['Hot', 'Cool', 'Cold'],
    env: ['PGKEEP_AZURE_ACCESS_TIER'],
    config: 'azureAccessTier',
    help: 'the access tier of new objects: Hot, Cool or Cold',
    group: 'Storage',
    commands: repositoryCommands,
  },
  sftpHost: {
    type: 'string',
    env: ['SFTP_HOST'],
    help: 'the server, as user@host or user@host:port, where BACKUP_STORAGE_TYPE is sftp',
    group: 'Storage',
    commands: repositoryCommands,
  },
  sftpKeyFile: {
    type: 'path',
    holds: 'file',
    flags: '--sftp-key-file <file>',
    env: ['SFTP_KEY_FILE'],
    config: 'sftpKeyFile',
    help: "the private key to log in with; without it the agent's and the usual ones in ~/.ssh",
    group: 'Storage',
    commands: repositoryCommands,
  },
  sftpKeyPassphrase: {
    type: 'secret',
    env: ['SFTP_KEY_PASSPHRASE'],
    help: 'the passphrase of the private key',
    group: 'Storage',
    commands: repositoryCommands,
  },
  sftpPassword: {
    type: 'secret',
    env: ['SFTP_PASSWORD'],
    help: 'the password to log in with',
    group: 'Storage',
    commands: repositoryCommands,
  },
  sftpAgent: {
    type: 'string',
    env: ['SSH_AUTH_SOCK'],
    help: 'the socket of an SSH agent',
    group: 'Storage',
    commands: repositoryCommands,
  },
  sftpKnownHosts: {
    type: 'path',
    holds: 'file',
    flags: '--sftp-known-hosts <file>',
    env: ['SFTP_KNOWN_HOSTS'],
    config: 'sftpKnownHosts',
    help: 'where the key of the host must be found, in place of ~/.ssh/known_hosts',
    group: 'Storage',
    commands: repositoryCommands,
  },
  encryptionKey: {
    type: 'secret',
    env: ['BACKUP_ENCRYPTION_KEY'],
    help: 'the key of the repository: 64 hexadecimal digits, made by `pgkeep key generate`',
    group: 'From and to',
    commands: ['create', 'show', 'verify', 'restore', 'export', 'doctor', 'cleanup', 'replicate'],
  },
  keyFile: {
    type: 'path',
    holds: 'file',
    flags: '--key-file <file>',
    env: ['BACKUP_ENCRYPTION_KEY_FILE'],
    config: 'keyFile',
    help: 'a file that holds the key of the repository',
    group: 'From and to',
    commands: ['create', 'show', 'verify', 'restore', 'export', 'doctor', 'cleanup', 'replicate'],
  },

  database: {
    type: 'url',
    flags: '-d, --database <url>',
    env: ['DATABASE_URL'],
    config: 'database',
    help: 'the database to back up; without it the PG* variables say which',
    group: 'From and to',
    commands: ['create', 'doctor'],
  },
  databaseName: {
    type: 'string',
    flags: '-d, --database <name>',
    help: 'only backups of the database with this name',
    group: 'What',
    commands: ['list', 'show', 'verify', 'replicate'],
  },
  sourceDatabase: {
    type: 'string',
    flags: '--source-database <name>',
    help: 'makes `latest` the latest backup of the database with this name',
    group: 'From and to',
    commands: ['restore', 'export'],
  },
  to: {
    type: 'url',
    flags: '--to <url>',
    env: ['RESTORE_DATABASE_URL', 'DATABASE_URL'],
    help: 'the new or empty database to restore into; without it the PG* variables say which',
    group: 'From and to',
    commands: ['restore'],
  },
  create: {
    type: 'boolean',
    flags: '--create',
    default: false,
    help: 'create the target database first',
    group: 'From and to',
    commands: ['restore'],
  },
  backupId: {
    type: 'string',
    flags: '--backup-id <id>',
    help: 'the backup; the same as the argument',
    group: 'What',
    commands: ['show', 'verify', 'restore', 'export', 'delete'],
  },
  backupIds: {
    type: 'list',
    flags: '--backup-id <id>',
    help: 'only this backup, or latest; repeatable; what one that is there already lacks is copied',
    group: 'What',
    commands: ['replicate'],
  },
  replicateAll: {
    type: 'boolean',
    flags: '--all',
    default: false,
    help: 'look after the backups too that are there already: what they lack is copied',
    group: 'What',
    commands: ['replicate'],
  },
  all: {
    type: 'boolean',
    flags: '--all',
    default: false,
    help: 'every backup; what several share is read once',
    group: 'What',
    commands: ['verify'],
  },
  level: {
    type: 'string',
    choices: ['metadata', 'data', 'restore'],
    flags: '--level <level>',
    help: 'how deep to look: metadata, data (the default), or restore',
    group: 'What',
    commands: ['verify'],
  },
  sample: {
    type: 'share',
    flags: '--sample <share>',
    help: 'read only this share of the segments, chosen at random, such as 10%',
    group: 'What',
    commands: ['verify'],
  },
  scratch: {
    type: 'url',
    flags: '--scratch <url>',
    env: ['PGKEEP_SCRATCH_URL'],
    help: 'the server to restore into with --level restore, in a database made for it; without it one is started here',
    group: 'From and to',
    commands: ['verify'],
  },
  repair: {
    type: 'boolean',
    flags: '--repair',
    default: false,
    help: 'remove damaged segments, so that the next backup stores them afresh',
    group: 'How',
    commands: ['verify'],
  },
  thorough: {
    type: 'boolean',
    flags: '--thorough',
    default: false,
    help: 'store 1,100 small objects too, to see whether long listings are complete',
    group: 'How',
    commands: ['storage probe'],
  },

  schemas: {
    type: 'list',
    flags: '-n, --schema <pattern>',
    config: 'schemas',
    help: 'only these schemas, a pattern as in pg_dump; repeatable',
    group: 'What',
    commands: ['create'],
  },
  excludeSchemas: {
    type: 'list',
    flags: '-N, --exclude-schema <pattern>',
    config: 'excludeSchemas',
    help: 'not these schemas; repeatable',
    group: 'What',
    commands: ['create'],
  },
  tables: {
    type: 'list',
    flags: '-t, --table <pattern>',
    config: 'tables',
    help: 'only these tables; repeatable',
    group: 'What',
    commands: ['create'],
  },
  excludeTables: {
    type: 'list',
    flags: '-T, --exclude-table <pattern>',
    config: 'excludeTables',
    help: 'not these tables; repeatable',
    group: 'What',
    commands: ['create'],
  },
  excludeTableData: {
    type: 'list',
    flags: '--exclude-table-data <pattern>',
    config: 'excludeTableData',
    help: 'these tables without their rows; repeatable',
    group: 'What',
    commands: ['create'],
  },
  schemaOnly: {
    type: 'boolean',
    flags: '-s, --schema-only',
    config: 'schemaOnly',
    default: false,
    help: 'definitions without any rows',
    group: 'What',
    commands: ['create'],
  },
  skipUnreadable: {
    type: 'boolean',
    flags: '--skip-unreadable',
    env: ['PGKEEP_SKIP_UNREADABLE'],
    config: 'skipUnreadable',
    default: false,
    help: 'leave out what the role may not read; such a backup is marked as incomplete, with exit code 10',
    group: 'What',
    commands: ['create'],
  },
  rolePasswords: {
    type: 'boolean',
    flags: '--role-passwords',
    env: ['PGKEEP_ROLE_PASSWORDS'],
    config: 'rolePasswords',
    default: false,
    help: 'keep the password hashes of roles too; needs a superuser',
    group: 'What',
    commands: ['create'],
  },
  tags: {
    type: 'list',
    flags: '--tag <tag>',
    config: 'tags',
    help: 'a word to find the backup by; repeatable',
    group: 'What',
    commands: ['create'],
  },
  reason: {
    type: 'string',
    flags: '--reason <text>',
    help: 'a note on why the backup was taken',
    group: 'What',
    commands: ['create'],
  },

  tagFilter: {
    type: 'list',
    flags: '--tag <tag>',
    help: 'only backups with this tag; repeated: with all of them',
    group: 'What',
    commands: ['list', 'replicate'],
  },
  since: {
    type: 'time',
    flags: '--since <time>',
    help: 'only backups since a date (2026-01-31, 2026-01-31T18:00; UTC) or as far back as 24h or 7d',
    group: 'What',
    commands: ['list'],
  },
  limit: {
    type: 'integer',
    flags: '--limit <n>',
    min: 1,
    max: 1_000_000,
    help: 'only the newest so many',
    group: 'What',
    commands: ['list'],
  },

  tablePatterns: {
    type: 'list',
    flags: '-t, --tables <pattern>',
    separator: ',',
    help: 'only these tables, a pattern as in pg_dump; repeatable, or several with commas',
    group: 'What',
    commands: ['restore', 'export'],
  },
  definitionsOnly: {
    type: 'boolean',
    flags: '-s, --schema-only',
    default: false,
    help: 'definitions without any rows',
    group: 'What',
    commands: ['restore', 'export'],
  },
  dataOnly: {
    type: 'boolean',
    flags: '-a, --data-only',
    default: false,
    help: 'rows without definitions, into tables that exist and are empty',
    group: 'What',
    commands: ['restore'],
  },
  owner: {
    type: 'boolean',
    flags: '--no-owner',
    default: true,
    help: 'everything belongs to the role that restores',
    group: 'What',
    commands: ['restore', 'export'],
  },
  privileges: {
    type: 'boolean',
    flags: '--no-privileges',
    default: true,
    help: 'leave out GRANT and REVOKE',
    group: 'What',
    commands: ['restore', 'export'],
  },
  createRoles: {
    type: 'boolean',
    flags: '--create-roles',
    default: false,
    help: 'create the roles that the backup names and the server lacks',
    group: 'What',
    commands: ['restore'],
  },

  scriptRoles: {
    type: 'boolean',
    flags: '--roles',
    default: false,
    help: 'begin with the roles that the backup names, for a server that lacks them',
    group: 'What',
    commands: ['export'],
  },
  keepDays: {
    type: 'integer',
    flags: '--keep-days <n>',
    env: ['BACKUP_RETENTION_DAYS'],
    config: 'keepDays',
    min: 0,
    max: 1_000_000,
    default: 30,
    help: 'keep what is at most so many days older than the newest good backup of its database',
    group: 'What',
    commands: ['cleanup'],
  },
  keepLast: {
    type: 'integer',
    flags: '--keep-last <n>',
    env: ['BACKUP_RETENTION_COUNT'],
    config: 'keepLast',
    min: 0,
    max: 1_000_000,
    default: 0,
    help: 'keep so many of the newest good backups of each series, however old',
    group: 'What',
    commands: ['cleanup'],
  },

  jobs: {
    type: 'integer',
    flags: '-j, --jobs <n>',
    env: ['PGKEEP_JOBS'],
    config: 'jobs',
    min: 1,
    max: 64,
    default: 2,
    help: 'workers, each with a connection of its own',
    group: 'How',
    commands: ['create', 'verify', 'restore', 'doctor', 'replicate', 'schedule print'],
  },
  shards: {
    type: 'integer',
    flags: '--shards <n>',
    min: 1,
    max: 100,
    help: 'have so many other processes read the rows, here or on other machines: see --shard',
    group: 'How',
    commands: ['create', 'schedule print'],
  },
  shard: {
    type: 'string',
    flags: '--shard <i/n>',
    help: 'do one part of the backup that a create --shards is making, such as 2/3; 0/3 is --shards 3',
    group: 'How',
    commands: ['create'],
  },
  join: {
    type: 'string',
    flags: '--join <token>',
    env: ['PGKEEP_JOIN'],
    help: 'with --shard: which backup, as create --shards prints it; with --shards: a name to use instead, once',
    group: 'How',
    commands: ['create'],
  },
  shardTimeoutMs: {
    type: 'duration',
    flags: '--shard-timeout <time>',
    env: ['PGKEEP_SHARD_TIMEOUT'],
    config: 'shardTimeout',
    default: '10m',
    help: 'how long a part may be neither done nor under way, or its backup not begun',
    group: 'How',
    commands: ['create', 'schedule print'],
  },
  engine: {
    type: 'string',
    choices: ['kubernetes'],
    flags: '--for <engine>',
    help: 'what runs it: kubernetes',
    group: 'What',
    commands: ['schedule print'],
  },
  image: {
    type: 'string',
    flags: '--image <image>',
    help: 'a container image that holds pgkeep and the client programs of PostgreSQL; pgkeep:<its version> without it',
    group: 'How',
    commands: ['schedule print'],
  },
  cron: {
    type: 'string',
    flags: '--cron <schedule>',
    help: "when to run, such as '0 2 * * *'; without it the manifest is of a Job that runs once",
    group: 'How',
    commands: ['schedule print'],
  },
  compressionLevel: {
    type: 'integer',
    flags: '--compression-level <n>',
    env: ['PGKEEP_COMPRESSION_LEVEL'],
    config: 'compressionLevel',
    min: 1,
    max: 19,
    default: 2,
    help: 'zstd level: 1 is fastest, 19 smallest',
    group: 'How',
    commands: ['create'],
  },
  encryption: {
    type: 'boolean',
    flags: '--no-encryption',
    env: ['PGKEEP_ENCRYPTION'],
    config: 'encryption',
    help: 'make a new repository without encryption; decided at its first backup, for good',
    group: 'How',
    commands: ['create', 'doctor'],
  },
  privateMetadata: {
    type: 'boolean',
    flags: '--private-metadata',
    env: ['PGKEEP_PRIVATE_METADATA'],
    config: 'privateMetadata',
    default: false,
    help: 'keep table names out of what can be read without the key',
    group: 'How',
    commands: ['create'],
  },
  lockTimeoutMs: {
    type: 'duration',
    flags: '--lock-timeout <time>',
    env: ['PGKEEP_LOCK_TIMEOUT'],
    config: 'lockTimeout',
    default: '60s',
    help: "how long to wait for each table's lock",
    group: 'How',
    commands: ['create'],
  },
  maxBlockingMs: {
    type: 'duration',
    flags: '--max-blocking <time>',
    env: ['PGKEEP_MAX_BLOCKING'],
    config: 'maxBlocking',
    default: '30s',
    help: 'how long other sessions may wait on the backup before it gives way',
    group: 'How',
    commands: ['create'],
  },
  maxLoad: {
    type: 'integer',
    flags: '--max-load <n>',
    env: ['PGKEEP_MAX_LOAD'],
    config: 'maxLoad',
    min: 0,
    max: 1_000_000,
    help: 'while more other sessions of the server than this are active, fewer workers read, down to one',
    group: 'How',
    commands: ['create', 'doctor'],
  },
  nice: {
    type: 'integer',
    flags: '--nice <n>',
    env: ['PGKEEP_NICE'],
    config: 'nice',
    min: 0,
    max: 19,
    default: 0,
    help: 'lower the CPU priority of pgkeep and the programs it starts, down to 19',
    group: 'How',
    commands: ['create'],
  },
  full: {
    type: 'boolean',
    flags: '--full',
    default: false,
    help: 'read everything, without building on an earlier backup',
    group: 'How',
    commands: ['create'],
  },
  verifyIncremental: {
    type: 'boolean',
    flags: '--verify-incremental',
    env: ['PGKEEP_VERIFY_INCREMENTAL'],
    config: 'verifyIncremental',
    default: false,
    help: 'read everything too, and fail with exit code 13 if building on the earlier backup would have differed',
    group: 'How',
    commands: ['create'],
  },
  fullEveryMs: {
    type: 'duration',
    flags: '--full-every <time>',
    env: ['PGKEEP_FULL_EVERY'],
    config: 'fullEvery',
    default: '7d',
    help: 'do so by itself when everything was last read longer ago than this',
    group: 'How',
    commands: ['create'],
  },
  programs: {
    type: 'path',
    holds: 'folder',
    flags: '--programs <folder>',
    env: ['PGKEEP_PROGRAMS'],
    config: 'programs',
    help: 'where pg_dump and pg_restore are; looked for in the usual places without it',
    group: 'How',
    commands: ['create', 'verify', 'restore', 'export', 'doctor'],
  },
  graceMs: {
    type: 'duration',
    flags: '--grace <time>',
    env: ['PGKEEP_GRACE'],
    config: 'grace',
    default: '24h',
    help: 'how long to keep what no backup needs any more; longer than any backup takes',
    group: 'How',
    commands: ['cleanup'],
  },
  force: {
    type: 'boolean',
    flags: '--force',
    default: false,
    help: 'delete even the last good backup of a series, or one whose metadata is damaged',
    group: 'How',
    commands: ['delete'],
  },
  dryRun: {
    type: 'boolean',
    flags: '--dry-run',
    default: false,
    help: 'check everything, print the plan, change nothing',
    group: 'How',
    commands: ['restore', 'cleanup', 'delete', 'replicate'],
  },
  resume: {
    type: 'boolean',
    flags: '--resume',
    default: false,
    help: 'go on with a restore into this target that was cut short',
    group: 'How',
    commands: ['restore'],
  },
  cleanTarget: {
    type: 'boolean',
    flags: '--clean-target',
    default: false,
    help: 'remove what a restore that was cut short left in this target, and begin anew',
    group: 'How',
    commands: ['restore'],
  },
  yes: {
    type: 'boolean',
    flags: '-y, --yes',
    default: false,
    help: 'ask no question',
    group: 'How',
    commands: ['restore', 'delete'],
  },

  scriptFile: {
    type: 'path',
    holds: 'file',
    takesDash: true,
    flags: '-o, --output <file>',
    help: 'write the script to a new file that only you can read; without it, or with -, to standard output',
    group: 'Output',
    commands: ['export'],
  },
  overwrite: {
    type: 'boolean',
    flags: '--force',
    default: false,
    help: 'replace the file of --output if it exists',
    group: 'Output',
    commands: ['export'],
  },
  outputFile: {
    type: 'path',
    holds: 'file',
    flags: '-o, --output <file>',
    help: 'write the key to a new file that only you can read, instead of printing it',
    group: 'Output',
    commands: ['key generate'],
  },
  json: {
    type: 'boolean',
    flags: '--json',
    default: false,
    help: 'print the result, or the error, as one JSON document',
    group: 'Output',
    commands: [
      'create',
      'list',
      'show',
      'verify',
      'restore',
      'export',
      'recovery-kit',
      'doctor',
      'storage probe',
      'key generate',
      'cleanup',
      'delete',
      'replicate',
    ],
  },
  quiet: {
    type: 'boolean',
    flags: '-q, --quiet',
    env: ['PGKEEP_QUIET'],
    default: false,
    help: 'no progress and no summary, only warnings and errors',
    group: 'Output',
    commands: ['create', 'verify', 'restore', 'export', 'recovery-kit', 'cleanup', 'delete', 'replicate'],
  },
} as const satisfies Record<string, OptionRow>;

type OptionTable = typeof optionTable;
export type OptionName = keyof OptionTable;

type ValueOf<R extends OptionRow> = R extends { type: 'list' }
  ? readonly string[]
  : R extends { default: unknown }
    ? GivenValueOf<R>
    : GivenValueOf<R> | undefined;

type GivenValueOf<R extends OptionRow> = R extends { type: 'integer' | 'duration' | 'size' | 'share' }
  ? number
  : R extends { type: 'boolean' }
    ? boolean
    : R extends { type: 'time' }
      ? Date
      : R extends { type: 'secret' }
        ? Secret
        : string;

/** The resolved options of one command. */
export type OptionsOf<C extends CommandName> = {
  readonly [N in OptionName as C extends OptionTable[N]['commands'][number] ? N : never]: ValueOf<
    OptionTable[N]
  >;
};

/** What options of storages begin with, by the kind of storage. */
export const storageKinds = ['s3', 'gcs', 'azure', 'sftp'] as const;

/** With BACKUP_STORAGE_TYPE these say where a repository is, and nothing of how its storage is reached. */
const storagePlaces = ['s3Bucket', 'gcsBucket', 'azureContainer', 'sftpHost'] as const;

export type StorageSetting = Exclude<
  Extract<OptionName, `${(typeof storageKinds)[number]}${string}`>,
  (typeof storagePlaces)[number]
>;

/** How the storage of a second repository is reached. */
export type ReplicaSettings = { readonly [N in StorageSetting]: OptionsOf<'list'>[N] };

/** In the environment, their names have this prefix. */
export const replicaPrefix = 'REPLICA_';

/** Where they stand in the configuration file, beside `repository`. */
export const replicaSection = 'replica';

/** The rows of these settings, in the order of the table. */
export function replicaRows(): [StorageSetting, OptionRow][] {
  return allOptions().filter((entry): entry is [StorageSetting, OptionRow] => isStorageSetting(entry[0]));
}

function isStorageSetting(name: OptionName): name is StorageSetting {
  return storageKinds.some(kind => name.startsWith(kind)) && !storagePlaces.some(place => place === name);
}

/** The rows that a command takes, in the order of the table. */
export function optionsOf(command: CommandName): [OptionName, OptionRow][] {
  return allOptions().filter(([, row]) => row.commands.includes(command));
}

export function allOptions(): [OptionName, OptionRow][] {
  return Object.entries(optionTable) as [OptionName, OptionRow][];
}

export interface FlagParts {
  /** `-j` */
  short: string | undefined;
  /** `--jobs` */
  long: string;
  /** What stands for the value in the help, `n`; undefined for a flag that takes none. */
  placeholder: string | undefined;
}

/** The parts of a row's flag; undefined for an option that has none. */
export function flagParts(row: OptionRow): FlagParts | undefined {
  const match = /^(?:(-\w), )?(--[\w-]+)(?: <([^>]+)>)?$/.exec(row.flags ?? '');
  if (match?.[2] === undefined) return undefined;
  return { short: match[1], long: match[2], placeholder: match[3] };
}
