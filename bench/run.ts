// Compares pgkeep with pg_dump and pg_restore on a throwaway server: `npm run bench -- --help`.

import { randomBytes } from 'node:crypto';
import { cpus, release, totalmem } from 'node:os';
import { parseArgs } from 'node:util';
import { psql, type Server, startServer } from '../test/support/postgres-server.ts';
import { makeTempFolder } from '../test/support/temp-folder.ts';
import { archiveNothing, archiveSettings, makeBackupTools } from './backup-tools.ts';
import { incrementalParts, incrementalSizes, measureIncremental } from './incremental.ts';
import { ensureTools } from './install-tools.ts';
import { dataSizes, makeBigRow, makeData } from './make-data.ts';
import { renderReport, type StepResult } from './report.ts';
import { renderIncrementalReport } from './report-incremental.ts';
import { renderStorageReport } from './report-storages.ts';
import { writeResults } from './results-file.ts';
import { runStep, say } from './run-step.ts';
import { type Bench, measureStartUps, type StartUp, sources, steps } from './steps.ts';
import { measureStorages } from './storages.ts';

const help = `Usage: npm run bench -- [options]
       npm run bench -- incremental [options]
       npm run bench -- storages [options]

  --size small|full  about 200 MB or about 3 GB (default: full); of storages, whose stores hold everything in memory,
                     small|medium, about 200 MB or about 400 MB (default: medium)
  --rounds N         runs of every step, interleaved (default: 3)
  --only NAME        only this step; may be given several times, but not of storages

Steps: ${steps.map(step => step.name).join(', ')}, start-up
Steps of incremental, which compares second backups with those of restic, borg and pgBackRest, fetched from Debian:
${incrementalParts.join(', ')}
storages measures backups in a folder, Ceph's S3, Azurite and OpenSSH's SFTP, beside restic and rclone.

A run of everything at the default size writes its part of bench/RESULTS.md; every run prints its results. Needs about 25 GB in the
folder for temporary files at full size. Build first: npm run build.
`;

/** What a small server of one's own would have. Durability is off: the disk of the machine is not what is compared. */
const settings = {
  shared_buffers: '512MB',
  maintenance_work_mem: '256MB',
  max_wal_size: '4GB',
  checkpoint_timeout: '30min',
  // Would be at work on what a restore has just filled, in some runs and not in others.
  autovacuum: 'off',
};
const bigRowBytes = 255 * 1024 * 1024;
const startUpRuns = 15;
const startUpName = 'start-up';

/** What a run compares: first backups, second ones, or those in stores; with the names of its steps and its sizes. */
const subjects = {
  first: {
    command: 'npm run bench',
    sizes: ['full', 'small'],
    names: [...steps.map(step => step.name), startUpName],
  },
  incremental: { command: 'npm run bench -- incremental', sizes: ['full', 'small'], names: incrementalParts },
  storages: { command: 'npm run bench -- storages', sizes: ['medium', 'small'], names: [] },
} as const satisfies Record<
  string,
  { command: string; sizes: readonly [Size, ...Size[]]; names: readonly string[] }
>;
type Size = keyof typeof dataSizes;

interface Options {
  subject: keyof typeof subjects;
  size: Size;
  rounds: number;
  /** Names of steps; empty for all. */
  only: readonly string[];
}

const options = readOptions();
if (options !== undefined) {
  await { first: runFirst, incremental: runIncremental, storages: runStorages }[options.subject](options);
}

function readOptions(): Options | undefined {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      size: { type: 'string' },
      rounds: { type: 'string', default: '3' },
      only: { type: 'string', multiple: true, default: [] },
      help: { type: 'boolean', default: false },
    },
  });
  const [named = 'first', ...surplus] = positionals;
  const subject = (['first', 'incremental', 'storages'] as const).find(name => name === named);
  if (subject !== undefined && surplus.length === 0 && !values.help) {
    const { only } = values;
    const names: readonly string[] = subjects[subject].names;
    const sizes: readonly Size[] = subjects[subject].sizes;
    const size = sizes.find(name => name === (values.size ?? sizes[0]));
    const rounds = Number(values.rounds);
    const isRight = Number.isInteger(rounds) && rounds > 0 && only.every(name => names.includes(name));
    if (isRight && size !== undefined) return { subject, size, rounds, only };
  }
  (values.help ? process.stdout : process.stderr).write(help);
  process.exitCode = values.help ? 0 : 1;
  return undefined;
}

async function runFirst(options: Options): Promise<void> {
  await using folder = makeTempFolder('bench');
  await using server = await startServer({ settings });
  const bench: Bench = { server, folder: folder.path, key: randomBytes(32).toString('hex') };
  const isWanted = wants(options);
  const wanted = steps.filter(step => isWanted(step.name));

  say(`making the data (${options.size})`);
  await server.createDatabase(sources.data);
  await makeData(server.url(sources.data), dataSizes[options.size]);
  if (wanted.some(step => step.group === 'big row')) {
    await server.createDatabase(sources.bigRow);
    await makeBigRow(server.url(sources.bigRow), bigRowBytes);
  }
  const circumstances = await describeCircumstances(server, options);

  const results: StepResult[] = wanted.map(step => ({ step, outcomes: [] }));
  for (let round = 1; round <= options.rounds; round++) {
    for (const result of results) await runStep(bench, result, round);
  }
  let startUps: StartUp[] = [];
  if (isWanted(startUpName)) {
    say(startUpName);
    startUps = await measureStartUps(bench, startUpRuns);
  }

  const report = renderReport({ circumstances, results, startUps });
  await finish(options, report, [...results, ...startUps]);
}

async function runIncremental(options: Options): Promise<void> {
  const tools = await ensureTools(say);
  await using folder = makeTempFolder('bench');
  await using server = await startServer({ settings: { ...settings, ...archiveSettings } });
  const bench: Bench = { server, folder: folder.path, key: randomBytes(32).toString('hex') };
  await archiveNothing(bench);
  say(`making the data (${options.size})`);
  await server.createDatabase(sources.data);
  await makeData(server.url(sources.data), dataSizes[options.size]);
  const sizes = incrementalSizes[options.size === 'full' ? 'full' : 'small'];
  const circumstances = [
    ...(await describeCircumstances(server, options)),
    `compared with: ${[tools.restic, tools.borg, tools.pgbackrest]
      .map(({ version }) => version)
      .join(
        ', ',
      )}; encrypted like pgkeep, with zstd at about the same level, everything of the server in the page cache`,
    `pgbench between backups: ${sizes.pgbenchSeconds} s, in the week ${sizes.dayPgbenchSeconds} s a day; a history of ${sizes.historyCreates} backups after the first`,
  ];
  const results = await measureIncremental(bench, await makeBackupTools(bench, tools), {
    ...sizes,
    rounds: options.rounds,
    isWanted: wants(options),
  });
  await finish(options, renderIncrementalReport(circumstances, results), results);
}

async function runStorages(options: Options): Promise<void> {
  const tools = await ensureTools(say);
  await using folder = makeTempFolder('bench');
  await using server = await startServer({ settings });
  const bench: Bench = { server, folder: folder.path, key: randomBytes(32).toString('hex') };
  say(`making the data (${options.size})`);
  await server.createDatabase(sources.data);
  await makeData(server.url(sources.data), dataSizes[options.size]);
  const circumstances = [
    ...(await describeCircumstances(server, options)),
    `compared with: ${tools.restic.version}, encrypted like pgkeep, with zstd; ${tools.rclone.version}; both with their defaults`,
  ];
  const results = await measureStorages(bench, tools, options.rounds);
  await finish(options, renderStorageReport(circumstances, results), results);
}

function wants({ only }: Options): (name: string) => boolean {
  return name => only.length === 0 || only.includes(name);
}

/** Only a run of everything at the default size is kept. */
async function finish(
  { subject, size, only }: Options,
  report: string,
  results: readonly { failure?: string }[],
): Promise<void> {
  process.stdout.write(report);
  const { command, sizes } = subjects[subject];
  if (size === sizes[0] && only.length === 0) await writeResults(command, report);
  if (results.some(({ failure }) => failure !== undefined)) process.exitCode = 1;
}

async function describeCircumstances(server: Server, options: Options): Promise<string[]> {
  const [heapBytes, indexBytes, rows] = (
    await psql(
      server,
      sources.data,
      `SELECT sum(pg_table_size(oid)), sum(pg_indexes_size(oid)), sum(reltuples)
       FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace`,
    )
  )
    .trim()
    .split('|')
    .map(Number);
  const processors = cpus();
  const setting = Object.entries(settings).map(([name, value]) => `${name} ${value}`);
  return [
    `date: ${new Date().toISOString().slice(0, 10)}; rounds: ${options.rounds}`,
    `machine: ${processors.length} cores (${processors[0]?.model.trim()}), ${gigabytes(totalmem())} GB of memory, ${process.platform} ${release()}`,
    `versions: PostgreSQL ${(await psql(server, 'postgres', 'SHOW server_version')).trim()}, Node.js ${process.versions.node}, zstd ${process.versions.zstd ?? 'unknown'}`,
    `data (${options.size}): ${gigabytes(heapBytes)} GB of tables, ${gigabytes(indexBytes)} GB of indexes, about ${((rows ?? 0) / 1e6).toFixed(1)} million rows`,
    `server, the same for everyone: ${setting.join(', ')}, fsync and full_page_writes off; a CHECKPOINT and a sync before every run`,
  ];
}

function gigabytes(sizeBytes = 0): string {
  return (sizeBytes / 1e9).toFixed(1);
}
