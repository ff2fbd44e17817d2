// The commands, in the order of the help.
import type { CommandName } from '../options/table.ts';
import type { Command } from './command.ts';

export const commandTable: { readonly [C in CommandName]: Command<C> } = {
  create: {
    summary: 'back up a database',
    examples: [
      ['pgkeep create', 'the database of DATABASE_URL, into ./backups'],
      ['pgkeep create --tag nightly --jobs 4', 'with four connections, and a word to find it by'],
      [
        "pgkeep create -T 'public.audit_*' --exclude-table-data public.sessions",
        'leave tables, or only their rows, out',
      ],
      [
        'pgkeep create --jobs 8 --max-load 10 --nice 10',
        'fast, but with fewer workers while more than ten others are active',
      ],
      ['pgkeep create --replicate-to s3://shop-backups/replica', 'and copy it to a second repository'],
      ['pgkeep create --lock-days 30', 'that nobody can delete for 30 days, in a bucket made for that'],
      ['pgkeep create --shards 3', 'whose rows three other processes read'],
      ['pgkeep create --shard 1/3 --join backup-1642684800000-a1b2c3d4', 'one of them, on any machine'],
      ['pgkeep create --json', 'for scripts: the result as JSON on stdout'],
    ],
    load: () => import('./create.ts'),
  },
  list: {
    summary: 'list the backups, newest first',
    examples: [
      ['pgkeep list', 'everything in ./backups'],
      ['pgkeep list --database shop --since 7d', 'the backups of the last week of one database'],
      ['pgkeep list --tag nightly --limit 1 --json', 'the latest with a tag, for scripts'],
    ],
    load: () => import('./list.ts'),
  },
  show: {
    summary: 'show what one backup holds',
    argument: {
      name: 'id',
      help: 'the id of a backup, or latest (the default)',
      required: false,
      choices: ['latest'],
    },
    examples: [
      ['pgkeep show', 'the latest backup'],
      ['pgkeep show backup-1642684800000-a1b2c3d4 --json', 'one backup, for scripts'],
    ],
    load: () => import('./show.ts'),
  },
  verify: {
    summary: 'check that backups are whole, and can be restored',
    argument: {
      name: 'id',
      help: 'the id of a backup, or latest (the default)',
      required: false,
      choices: ['latest'],
    },
    examples: [
      ['pgkeep verify', 'read the latest backup whole, and count its rows'],
      ['pgkeep verify --all --level metadata', 'look whether all that the backups name is there'],
      ['pgkeep verify --all --sample 10%', 'read a tenth of the segments of each backup'],
      ['pgkeep verify latest --level restore', 'restore it into a throwaway server, and compare every row'],
    ],
    load: () => import('./verify.ts'),
  },
  restore: {
    summary: 'restore a backup into a new or empty database',
    argument: { name: 'id', help: 'the id of a backup, or latest', required: false, choices: ['latest'] },
    examples: [
      ['pgkeep restore latest --to postgres://localhost/shop_copy --create', 'into a database made for it'],
      ['pgkeep restore latest --to postgres://localhost/scratch --dry-run', 'only print what would be done'],
      [
        "pgkeep restore latest --to postgres://localhost/scratch --tables 'public.order*'",
        'some tables only',
      ],
      [
        'pgkeep restore latest --to postgres://localhost/shop_copy --create --as-of 2026-01-31T18:00',
        'as the bucket was before somebody deleted what is in it',
      ],
    ],
    load: () => import('./restore.ts'),
  },
  export: {
    summary: 'write a backup as an SQL script that psql restores without pgkeep',
    argument: { name: 'id', help: 'the id of a backup, or latest', required: false, choices: ['latest'] },
    examples: [
      ['pgkeep export latest --output shop.sql', 'everything, into a file'],
      [
        "pgkeep export latest --tables 'public.order*' | psql -v ON_ERROR_STOP=1 scratch",
        'some tables, to psql',
      ],
      [
        'pgkeep export latest --roles --output shop.sql',
        'with the roles, for a server that has none of them',
      ],
    ],
    load: () => import('./export.ts'),
  },
  'recovery-kit': {
    summary: 'put what restores without pgkeep into the repository',
    examples: [['pgkeep recovery-kit', 'into ./backups/recovery; pgkeep create does the same']],
    load: () => import('./recovery-kit.ts'),
  },
  cleanup: {
    summary: 'delete old backups, and what no backup needs any more',
    examples: [
      ['pgkeep cleanup --dry-run', 'print what would go, what stays, and why'],
      [
        'pgkeep cleanup --keep-days 14 --keep-last 3',
        'two weeks, and at least three backups of each database',
      ],
    ],
    load: () => import('./cleanup.ts'),
  },
  delete: {
    summary: 'delete one backup',
    argument: { name: 'id', help: 'the id of a backup', required: false },
    examples: [
      ['pgkeep delete backup-1642684800000-a1b2c3d4', 'asks first'],
      ['pgkeep delete backup-1642684800000-a1b2c3d4 --yes', 'for scripts'],
    ],
    load: () => import('./delete.ts'),
  },
  replicate: {
    summary: 'copy backups to a second repository',
    examples: [
      ['pgkeep replicate --to s3://shop-backups/replica', 'all that is missing there'],
      ['pgkeep replicate --to /mnt/nas/shop --backup-id latest', 'the latest backup'],
      ['pgkeep replicate --to azure://replica/shop --dry-run', 'what would travel'],
    ],
    load: () => import('./replicate.ts'),
  },
  'key generate': {
    summary: 'make an encryption key',
    examples: [
      ['pgkeep key generate', 'print a new key'],
      ['pgkeep key generate --output ~/pgkeep.key', 'write it to a file for --key-file'],
    ],
    load: () => import('./key-generate.ts'),
  },
  doctor: {
    summary: 'check that everything a backup needs is in place',
    examples: [
      ['pgkeep doctor', 'a line for each check, with what mends it'],
      ['pgkeep doctor --json', 'for scripts; the exit code is 11 when a check failed'],
    ],
    load: () => import('./doctor.ts'),
  },
  'storage probe': {
    summary: 'try what the storage does, and say what that means',
    examples: [
      ['pgkeep storage probe', 'the storage of the configured repository: rights, promises, speed'],
      ['pgkeep storage probe --repository s3://bucket/prefix', 'before the first backup goes there'],
      ['pgkeep storage probe --json', 'for scripts; the exit code is 11 when backups would not work there'],
    ],
    load: () => import('./storage-probe.ts'),
  },
  'schedule print': {
    summary: 'print what has another program run backups',
    examples: [
      [
        'pgkeep schedule print --for kubernetes --shards 4 --repository s3://backups/shop | kubectl create -f -',
        'one backup by four pods, and one that coordinates them',
      ],
      [
        "pgkeep schedule print --for kubernetes --shards 4 --repository s3://backups/shop --cron '0 2 * * *'",
        'every night',
      ],
    ],
    load: () => import('./schedule-print.ts'),
  },
  completion: {
    summary: 'print a shell completion script',
    argument: {
      name: 'shell',
      help: 'bash, zsh or fish',
      required: true,
      choices: ['bash', 'zsh', 'fish'],
    },
    examples: [
      ['source <(pgkeep completion bash)', 'in ~/.bashrc'],
      ['source <(pgkeep completion zsh)', 'in ~/.zshrc, after compinit'],
      ['pgkeep completion fish | source', 'in ~/.config/fish/config.fish'],
    ],
    load: () => import('./completion.ts'),
  },
};

export const commandNames = Object.keys(commandTable) as CommandName[];
