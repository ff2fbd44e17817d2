// pgkeep schedule print: what another program needs to run backups, as text on stdout. Runs nothing.
import { PgkeepError } from '../../base/errors.ts';
import { version } from '../../base/version.ts';
import { formatKubernetesJob } from '../kubernetes-job.ts';
import type { Resolved } from '../options/resolved.ts';
import { type OptionName, type OptionRow, optionsOf, type storageKinds } from '../options/table.ts';
import type { Invocation } from './command.ts';

export async function run({ options, resolved, io }: Invocation<'schedule print'>): Promise<void> {
  const { engine, shards, repository, jobs } = options;
  if (engine === undefined || shards === undefined) {
    throw new PgkeepError('OPTION_INVALID', 'nothing says what is to be printed', {
      hint: 'give --for kubernetes and --shards <n>',
    });
  }
  const isFolder = !/^[a-z][a-z0-9+.-]+:\/\//i.test(repository);
  io.stdout.write(
    formatKubernetesJob({
      image: options.image ?? `pgkeep:${version}`,
      shards,
      cron: options.cron,
      jobs,
      folder: isFolder ? repository : undefined,
      settings: new Map([['BACKUP_REPOSITORY', repository], ...settings(resolved, kindOf(repository))]),
      required: ['DATABASE_URL', 'BACKUP_ENCRYPTION_KEY'],
      optional: credentials(kindOf(repository)),
    }),
  );
}

const kindsByScheme: Readonly<Record<string, (typeof storageKinds)[number]>> = {
  s3: 's3',
  gs: 'gcs',
  azure: 'azure',
  sftp: 'sftp',
};

function kindOf(repository: string): (typeof storageKinds)[number] | undefined {
  return kindsByScheme[repository.split('://', 1)[0]?.toLowerCase() ?? ''];
}

/** Access keys are no secrets, but belong to one. */
const besideSecrets: ReadonlySet<OptionName> = new Set(['s3AccessKeyId', 'gcsAccessId', 'azureAccount']);
/** What is of this machine alone. */
const local: ReadonlySet<OptionName> = new Set(['s3Profile', 'sftpAgent', 'sftpKeyFile', 'sftpKnownHosts']);
/** The repository says it. */
const places: ReadonlySet<OptionName> = new Set(['s3Bucket', 'gcsBucket', 'azureContainer', 'sftpHost']);
const ofRun: ReadonlySet<OptionName> = new Set(['jobs', 'shardTimeoutMs']);

function rowsOf(kind: (typeof storageKinds)[number] | undefined): [OptionName, OptionRow][] {
  return optionsOf('schedule print').filter(
    ([name]) => kind !== undefined && name.startsWith(kind) && !local.has(name) && !places.has(name),
  );
}

/** What was given and is no secret, by its environment name. */
function settings(
  resolved: ReadonlyMap<OptionName, Resolved>,
  kind: (typeof storageKinds)[number] | undefined,
): [string, string][] {
  const rows = optionsOf('schedule print').filter(([name]) => ofRun.has(name) || name.startsWith('limit'));
  return [...rowsOf(kind), ...rows].flatMap(([name, row]) => {
    const { value, origin } = resolved.get(name) ?? {};
    const [env] = row.env ?? [];
    if (value === undefined || origin === 'default' || env === undefined) return [];
    if (row.type === 'secret' || besideSecrets.has(name)) return [];
    const text = row.type === 'duration' ? `${value}ms` : Array.isArray(value) ? value.join(',') : `${value}`;
    return [[env, text] as [string, string]];
  });
}

/** Environment names of what opens the storage. */
function credentials(kind: (typeof storageKinds)[number] | undefined): string[] {
  return rowsOf(kind).flatMap(([name, row]) =>
    row.type === 'secret' || besideSecrets.has(name) ? (row.env?.slice(0, 1) ?? []) : [],
  );
}
