// The results of backups in stores, as a part of the file of results.

import {
  costColumns,
  medianOutcome,
  megabytes,
  renderCost,
  renderRuns,
  renderTable,
  type StepResult,
  verdict,
} from './report.ts';
import type { Outcome } from './steps.ts';
import { type StoreName, storageGroups, tablesAlone } from './storages.ts';

const leastSpeed = 0.8;
const mebibyte = 1024 * 1024;

export function renderStorageReport(
  circumstances: readonly string[],
  results: readonly StepResult[],
): string {
  const sections = [
    '## Backups in stores',
    'Written by `npm run bench -- storages`. The stores run on the same machine and take their CPU from the same cores; Ceph and\nAzurite keep everything in memory, OpenSSH on the disk that has the folder. CPU of all is that of every process of the\nmachine. Each round has new repositories; who goes first rotates from round to round. Sent, received and requests are what\npgkeep counts at its storage; what another program sends is not counted. restic does not reach Azurite: it makes its\naddresses of account and domain, by https.',
    circumstances.map(line => `- ${line}`).join('\n'),
    '### Targets of backups in stores',
    renderTargets(results),
  ];
  for (const { name, title } of storageGroups) {
    const members = results.filter(({ step }) => step.group === name);
    if (members.length > 0) sections.push(`### ${title}`, renderStorageCosts(members));
  }
  sections.push('### Every run of backups in stores', renderRuns(results));
  return `${sections.join('\n\n')}\n`;
}

function renderTargets(results: readonly StepResult[]): string {
  const outcome = (name: string) =>
    medianOutcome(results.find(({ step }) => step.name === name)?.outcomes ?? []);
  const speed = (verb: string, store: StoreName) => {
    const [folder, remote] = [outcome(`${verb} folder`), outcome(`${verb} ${store}`)];
    return folder === undefined || remote === undefined ? undefined : folder.wallMs / remote.wallMs;
  };
  const times = (value: number | undefined) =>
    value === undefined ? 'not measured' : `${value.toFixed(2)}x`;
  const rows: string[][] = [];
  for (const store of ['s3', 'azure', 'sftp'] as const) {
    const own = speed('create', store);
    rows.push([
      `speed of \`pgkeep create\` to a folder, to ${store}`,
      `at least ${leastSpeed.toFixed(2)}x`,
      times(own),
      verdict(own, value => value >= leastSpeed),
    ]);
  }
  for (const store of ['s3', 'sftp'] as const) {
    rows.push([
      `for comparison: speed of restic to a folder, to ${store}`,
      '',
      times(speed('restic', store)),
      '',
    ]);
  }
  for (const table of tablesAlone) {
    const stored = outcome(`alone ${table}`)?.storedBytes;
    const received = outcome(`table ${table}`)?.traffic?.receivedBytes;
    const isMeasured = stored !== undefined && received !== undefined;
    rows.push([
      `received for a restore of ${table} alone, ${isMeasured ? megabytes(stored) : '?'} MB stored`,
      'at most 1.10x and 1 MiB',
      isMeasured ? `${megabytes(received)} MB (${(received / stored).toFixed(2)}x)` : 'not measured',
      isMeasured ? verdict(received, value => value <= 1.1 * stored + mebibyte) : '',
    ]);
  }
  return renderTable(['', 'target', 'measured', 'met'], rows);
}

function renderStorageCosts(results: readonly StepResult[]): string {
  const columns = ['CPU s all', 'stored MB', 'sent MB', 'received MB', 'requests'];
  const rows = results.map(({ step, outcomes, failure }) => {
    const outcome = medianOutcome(outcomes);
    const title = failure === undefined ? step.title : `${step.title} (${failure})`;
    return [title, ...(outcome === undefined ? [...costColumns, ...columns].map(() => '') : cells(outcome))];
  });
  return renderTable(['', ...costColumns, ...columns], rows);
}

function cells(outcome: Outcome): string[] {
  const { storedBytes, traffic, machineCpuMs } = outcome;
  const size = (bytes: number | undefined) => (bytes === undefined ? '' : megabytes(bytes));
  return [
    ...renderCost(outcome),
    (machineCpuMs / 1000).toFixed(1),
    size(storedBytes),
    size(traffic?.sentBytes),
    size(traffic?.receivedBytes),
    traffic === undefined ? '' : String(traffic.requests),
  ];
}
