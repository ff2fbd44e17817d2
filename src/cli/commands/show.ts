// pgkeep show: what one backup holds, table by table.
import { formatBytes, formatCount, formatDuration, formatQuantity } from '../../base/units.ts';
import { type ShownBackup, showBackup } from '../../operations/show-backup.ts';
import { leftOutLabel } from '../../repository/manifest.ts';
import { partText } from '../../repository/series.ts';
import { chosenBackup } from '../backup-choice.ts';
import { readEncryptionKey } from '../encryption-key.ts';
import { printJson } from '../output/json.ts';
import { startProgress } from '../output/progress.ts';
import { type Style, styleFor } from '../output/style.ts';
import { type Column, renderTable, singleLine } from '../output/table.ts';
import { formatTime } from '../output/time.ts';
import { verifiedText } from '../output/verified.ts';
import { storageOptions } from '../storage-options.ts';
import type { Invocation } from './command.ts';

export async function run(invocation: Invocation<'show'>): Promise<void> {
  const { options, argument, io, signal } = invocation;
  const backup = chosenBackup(argument, options.backupId) ?? 'latest';
  const { onEvent } = await startProgress(true, io);
  const shown = await showBackup({
    repository: options.repository,
    storage: storageOptions(options),
    encryptionKey: readEncryptionKey(invocation),
    backup,
    database: options.databaseName,
    signal,
    onEvent,
  });
  if (options.json) printJson(shown, io);
  else io.stdout.write(shownText(shown, await styleFor(io.stdout, io)));
}

export function shownText(shown: ShownBackup, style: Style): string {
  const parts = [facts(shown, style), renderTable(tableColumns, shown.tables, style)];
  if (shown.leftOut.length > 0) {
    parts.push(`${style.bold('Left out')}\n${renderTable(leftOutColumns, shown.leftOut, style)}`);
  }
  return parts.join('\n');
}

function facts(shown: ShownBackup, style: Style): string {
  const { metadata } = shown;
  const entries: [string, string][] = [
    ['Backup', metadata.id],
    ['Repository', shown.repository],
    ['Database', metadata.database],
    ['Server', metadata.server == null ? '' : `system identifier ${metadata.server}`],
    ['Started', `${formatTime(shown.startedAt)} UTC, took ${formatDuration(shown.durationMs)}`],
    ['Snapshot', snapshotText(shown.snapshot)],
    ['Versions', `server ${shown.serverVersion}, pg_dump ${shown.pgDumpVersion}, pgkeep ${metadata.version}`],
    [
      'Contents',
      `${formatQuantity(metadata.tableCount, 'table')}, ${formatQuantity(metadata.recordCount, 'row')}`,
    ],
    ['Size', `${formatBytes(shown.sizeBytes)}, stored in ${formatBytes(shown.storedBytes)}`],
    ['Stored', `${formatBytes(shown.newBytes)} new, ${formatBytes(shown.reusedBytes)} reused`],
    ['Traffic', shown.traffic === null ? '' : trafficText(shown.traffic)],
    ...originOfRows(shown.incremental),
    [
      'Complete',
      metadata.complete
        ? ''
        : `no: ${formatQuantity(metadata.missingCount ?? 0, 'thing')} missing, see below`,
    ],
    ['Part', metadata.part === undefined ? '' : `made with ${partText(metadata.part)}`],
    ['Encrypted', metadata.encrypted ? 'yes' : 'no'],
    ['Verified', verifiedText(shown.verified)],
    ['Locked', shown.lockedUntil === null ? '' : `until ${formatTime(shown.lockedUntil)} UTC`],
    [
      'Roles',
      shown.roles.included ? 'included' : `not included: ${shown.roles.reason ?? 'no reason recorded'}`,
    ],
    ['Extensions', shown.extensions.map(({ name, version }) => `${name} ${version}`).join(', ')],
    ['Tags', metadata.tags.join(' ')],
    ['Reason', metadata.reason ?? ''],
  ];
  return entries
    .filter(([, value]) => value !== '')
    .map(([name, value]) => `${style.bold(name.padEnd(10))}  ${singleLine(value)}\n`)
    .join('');
}

function trafficText({ requests, sentBytes, receivedBytes }: NonNullable<ShownBackup['traffic']>): string {
  const asked = formatQuantity(requests, 'request');
  return `${asked}, ${formatBytes(sentBytes)} sent, ${formatBytes(receivedBytes)} received`;
}

function originOfRows(incremental: ShownBackup['incremental']): [string, string][] {
  const { parent, withoutParent, unread, deltas, equal, stored, fullReadAt } = incremental;
  const share = ({ rows, bytes }: typeof unread) => `${formatQuantity(rows, 'row')} (${formatBytes(bytes)})`;
  const takenOver = `${share(unread)} taken over unread, ${share(deltas)} came as deltas`;
  return [
    [
      'Built on',
      parent === null ? `no backup${withoutParent ? `: ${withoutParent}` : ''}` : `${parent}: ${takenOver}`,
    ],
    ['Read', `${share(stored)} in new ranges, ${share(equal)} of equal content`],
    ['Full read', `${formatTime(fullReadAt)} UTC`],
  ];
}

function snapshotText({ takenAt, walPosition, timeline, standby }: ShownBackup['snapshot']): string {
  const ofTimeline = timeline === null ? '' : ` of timeline ${timeline}`;
  const place = walPosition === '' ? '' : `, WAL position ${walPosition}${ofTimeline}`;
  return `${formatTime(takenAt)} UTC${place}${standby ? ', on a standby' : ''}`;
}

const tableColumns: readonly Column<ShownBackup['tables'][number]>[] = [
  { title: 'TABLE', text: table => `${table.schema}.${table.name}` },
  { title: 'ROWS', align: 'right', text: table => formatCount(table.rows) },
  { title: 'SIZE', align: 'right', text: table => formatBytes(table.bytes) },
];

const leftOutColumns: readonly Column<ShownBackup['leftOut'][number]>[] = [
  { title: 'NAME', text: leftOutLabel },
  { title: 'KIND', text: left => left.kind },
  { title: 'MISSING', text: left => (left.missing ? 'yes' : '') },
  { title: 'WHY', text: left => left.reason },
];
