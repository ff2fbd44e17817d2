// pgkeep list: the backups of a repository, newest first.
import { formatBytes, formatCount, formatDuration } from '../../base/units.ts';
import { type ListedBackup, listBackups } from '../../operations/list-backups.ts';
import { printJson } from '../output/json.ts';
import { startProgress } from '../output/progress.ts';
import { serverColumn, stateText } from '../output/series.ts';
import { type Style, styleFor } from '../output/style.ts';
import { type Column, renderTable } from '../output/table.ts';
import { formatTime } from '../output/time.ts';
import { verifiedText } from '../output/verified.ts';
import { storageOptions } from '../storage-options.ts';
import type { Invocation } from './command.ts';

export async function run({ options, replica, io, signal }: Invocation<'list'>): Promise<void> {
  const { onEvent } = await startProgress(true, io);
  const backups = await listBackups({
    repository: options.repository,
    storage: storageOptions(options),
    replica: options.listReplica ?? options.replica,
    replicaStorage: storageOptions({ ...options, ...replica }),
    database: options.databaseName,
    tags: options.tagFilter,
    since: options.since,
    limit: options.limit,
    signal,
    onEvent,
  });
  if (options.json) {
    printJson(backups, io);
  } else if (backups.length === 0) {
    const filtered = options.databaseName ?? options.since ?? options.tagFilter[0];
    io.stderr.write(
      `${filtered === undefined ? 'no backups' : 'no such backups'} in ${options.repository}\n`,
    );
  } else {
    io.stdout.write(listText(backups, await styleFor(io.stdout, io)));
  }
}

export function listText(backups: readonly ListedBackup[], style: Style): string {
  const columns = [...whichColumns, serverColumn(backups), ...whatColumns];
  return renderTable(columns, backups, style);
}

const whichColumns: readonly Column<ListedBackup>[] = [
  { title: 'ID', text: backup => backup.id },
  { title: 'TAKEN (UTC)', text: backup => formatTime(backup.timestamp) },
  { title: 'DATABASE', text: backup => backup.database },
];

const whatColumns: readonly Column<ListedBackup>[] = [
  { title: 'TABLES', align: 'right', text: backup => formatCount(backup.tableCount) },
  { title: 'ROWS', align: 'right', text: backup => formatCount(backup.recordCount) },
  { title: 'SIZE', align: 'right', text: backup => formatBytes(backup.sizeBytes) },
  { title: 'STORED', align: 'right', text: backup => formatBytes(backup.storedBytes) },
  { title: 'NEW', align: 'right', text: backup => formatBytes(backup.newBytes) },
  { title: 'TOOK', align: 'right', text: backup => formatDuration(backup.durationMs) },
  { title: 'STATE', text: stateText },
  { title: 'WHERE', text: whereText },
  { title: 'VERIFIED', text: backup => verifiedText(backup.verified) },
  {
    title: 'LOCKED UNTIL (UTC)',
    text: backup => (backup.lockedUntil === null ? '' : formatTime(backup.lockedUntil)),
  },
  { title: 'TAGS', text: backup => backup.tags.join(' ') },
  { title: 'REASON', text: backup => backup.reason ?? '' },
];

/** Empty where no replica was listed. */
function whereText({ inRepository, inReplica }: ListedBackup): string {
  if (inReplica === null) return '';
  if (!inRepository) return 'replica only';
  return inReplica ? 'both' : 'not in the replica';
}
