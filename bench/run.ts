// Compares pgkeep with what else makes backups of PostgreSQL, on a throwaway server: `npm run bench -- --help`.

import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { readdir } from 'node:fs/promises';
import { cpus, release, totalmem } from 'node:os';
import { join } from 'node:path';
import { parseArgs, promisify } from 'node:util';
import { psql, type Server, startServer } from '../test/support/postgres-server.ts';
import { makeTempFolder } from '../test/support/temp-folder.ts';
import { archiveFor, archiveSettings, makeBackupTools } from './backup-tools.ts';
import { writeCharts } from './charts.ts';
import { type Group, groups } from './groups.ts';
import { incrementalParts, incrementalSizes, measureIncremental, rotate } from './incremental.ts';
import { ensureTools } from './install-tools.ts';
import { dataSizes, makeData } from './make-data.ts';
import { megabytes, renderReport, type StepResult } from './report.ts';
import { renderIncrementalReport } from './report-incremental.ts';
import { renderStorageReport } from './report-storages.ts';
import { keepResults } from './results.ts';
import { writePart } from './results-file.ts';
import { runStep, say } from './run-step.ts';
import { type BackupTool, type Bench, describeFailure, remove, sources } from './steps.ts';
import { measureStorages } from './storages.ts';
import { renderTargets } from './targets.ts';

const help = `Usage: npm run bench -- [options]
       npm run bench -- incremental [options]
       npm run bench -- storages [options]

  --size small|full  about 200 MB or about 3 GB (default: full); of storages, whose stores hold everything in memory,
                     small|medium, about 200 MB or about 400 MB (default: medium)
  --rounds N         runs of every step, interleaved (default: 3, at size small 1)
  --only NAME        only this group, part or step; may be given several times, but not of storages

Groups of steps: ${groups.map(({ name }) => name).join(', ')}
${groups.map(({ name, steps }) => `  ${name}: ${steps.map(step => step.name).join(', ')}`).join('\n')}
Parts of incremental, which compares second backups with those of restic, borg and pgBackRest, fetched from Debian:
${incrementalParts.join(', ')}
storages measures backups in a folder, Ceph's S3, Azurite and OpenSSH's SFTP, beside restic and rclone.

A run of at least three rounds at the default size keeps what it measured: every whole group (of incremental and storages: everything
together) in its part of bench/RESULTS.md and in bench/results.json, from which targets and charts are made. Every run
prints its results. Needs about 30 GB in the folder for temporary files at full size; zstd and openssl are the machine's. Build
first: npm run build.
`;

/** What a small server of one's own would have. Durability is off: the disk of the machine is not what is compared. */
const settings = {
  shared_buffers: '512MB',
  maintenance_work_mem: '256MB',
  max_wal_size: '4GB',
  // Ten thousand tables are locked by one transaction.
  max_locks_per_transaction: '256',
  checkpoint_timeout: '30min',
  // Would be at work on what a restore has just filled, in some runs and not in others.
  autovacuum: 'off',
};
/** What a run compares: first backups and restores, second backups, or those in stores; with its sizes and what --only may name. */
const subjects = {
  first: {
    sizes: ['full', 'small'],
    names: groups.flatMap(({ name, steps }) => [name, ...steps.map(step => step.name)]),
  },
  incremental: { sizes: ['full', 'small'], names: incrementalParts },
  storages: { sizes: ['medium', 'small'], names: [] },
} as const satisfies Record<string, { sizes: readonly [Size, ...Size[]]; names: readonly string[] }>;
type Size = keyof typeof dataSizes;

const resultsFile = join(import.meta.dirname, 'RESULTS.md');
const partOfGroup = (name: string) => `npm run bench -- --only ${name}`;
const partOrder = [
  'targets',
  ...groups.map(({ name }) => partOfGroup(name)),
  'npm run bench -- incremental',
  'npm run bench -- storages',
];
/** Of fewer a median says little. */
const leastRounds = 3;

interface Options {
  subject: keyof typeof subjects;
  size: Size;
  rounds: number;
  /** Names of groups, parts or steps; empty for all. */
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
      rounds: { type: 'string' },
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
    const rounds = Number(values.rounds ?? (size === 'small' ? 1 : leastRounds));
    const isRight = Number.isInteger(rounds) && rounds > 0 && only.every(name => names.includes(name));
    if (isRight && size !== undefined) return { subject, size, rounds, only };
  }
  (values.help ? process.stdout : process.stderr).write(help);
  process.exitCode = values.help ? 0 : 1;
  return undefined;
}

async function runFirst(options: Options): Promise<void> {
  await using folder = makeTempFolder('bench');
  await using server = await startServer({ settings: { ...settings, ...archiveSettings } });
  const bench = openBench(server, folder.path);
  await archiveFor(bench);
  const isWanted = wants(options);
  let source: string | undefined;
  for (const group of groups) {
    const steps = group.steps.filter(step => isWanted(group.name) || isWanted(step.name));
    if (steps.length === 0) continue;
    // One at a time: there are tools that back up all databases of the server.
    if (group.source !== source) {
      if (source !== undefined) await server.dropDatabase(source);
      for (const name of await readdir(folder.path)) await remove(bench, name);
      source = group.source;
      await server.createDatabase(source);
      say(`${group.name}: making the data (${options.size})`);
      await group.make(server.url(source), options.size === 'full' ? 'full' : 'small');
    }
    const results = await measureGroup(bench, { ...group, steps }, options);
    const circumstances = [
      ...(await describeCircumstances(server, source, options, group.rounds)),
      ...((await group.describe?.(bench).catch(error => [describeFailure(error)])) ?? []),
    ];
    const report = renderReport({ group, circumstances, results });
    const isWhole = steps.length === group.steps.length;
    await finish(options, { name: group.name, part: partOfGroup(group.name), isWhole }, report, {
      circumstances,
      results,
    });
  }
}

async function measureGroup(bench: Bench, group: Group, { rounds }: Options): Promise<StepResult[]> {
  await group.prepare?.(bench);
  const results: StepResult[] = group.steps.map(step => ({ step, outcomes: [] }));
  for (let round = 1; round <= (group.rounds ?? rounds); round++) {
    for (const section of Object.keys(group.sections)) {
      const members = results.filter(({ step }) => step.group === section);
      for (const result of rotate(members, round - 1)) await runStep(bench, result, round);
    }
  }
  return results;
}

/** @returns a bench that sets up the other tools when a step first asks for one of them. */
function openBench(server: Server, folder: string): Bench {
  let peers: Promise<BackupTool[]> | undefined;
  const bench: Bench = {
    ...{ server, folder, key: randomBytes(32).toString('hex') },
    peer: async name => {
      peers ??= ensureTools(say).then(tools => makeBackupTools(bench, tools));
      const found = (await peers).find(tool => tool.name === name);
      if (found === undefined) throw new Error(`there is no tool ${name}`);
      return found;
    },
  };
  return bench;
}

async function runIncremental(options: Options): Promise<void> {
  const tools = await ensureTools(say);
  await using folder = makeTempFolder('bench');
  await using server = await startServer({ settings: { ...settings, ...archiveSettings } });
  const bench = openBench(server, folder.path);
  // The data are not made to be archived.
  await archiveFor(bench);
  say(`making the data (${options.size})`);
  await server.createDatabase(sources.data);
  await makeData(server.url(sources.data), dataSizes[options.size]);
  const sizes = incrementalSizes[options.size === 'full' ? 'full' : 'small'];
  const circumstances = [
    ...(await describeCircumstances(server, sources.data, options)),
    `compared with: ${[tools.restic, tools.borg, tools.pgbackrest]
      .map(({ version }) => version)
      .join(
        ', ',
      )}; encrypted like pgkeep, with zstd at about the same level, everything of the server in the page cache`,
    `pgbench between backups: ${sizes.pgbenchSeconds} s, in the week ${sizes.dayPgbenchSeconds} s a day; a history of ${sizes.historyCreates} backups after the first`,
  ];
  const backupTools = await makeBackupTools(bench, tools);
  await archiveFor(
    bench,
    backupTools.find(({ archiveCommand }) => archiveCommand !== undefined),
  );
  const results = await measureIncremental(bench, backupTools, {
    ...sizes,
    rounds: options.rounds,
    isWanted: wants(options),
  });
  await finish(options, partOfSubject(options), renderIncrementalReport(circumstances, results), {
    circumstances,
    results,
  });
}

async function runStorages(options: Options): Promise<void> {
  const tools = await ensureTools(say);
  await using folder = makeTempFolder('bench');
  await using server = await startServer({ settings });
  const bench = openBench(server, folder.path);
  say(`making the data (${options.size})`);
  await server.createDatabase(sources.data);
  await makeData(server.url(sources.data), dataSizes[options.size]);
  const circumstances = [
    ...(await describeCircumstances(server, sources.data, options)),
    `compared with: ${tools.restic.version}, encrypted like pgkeep, with zstd; ${tools.rclone.version}; both with their defaults`,
  ];
  const results = await measureStorages(bench, tools, options.rounds);
  await finish(options, partOfSubject(options), renderStorageReport(circumstances, results), {
    circumstances,
    results,
  });
}

function wants({ only }: Options): (name: string) => boolean {
  return name => only.length === 0 || only.includes(name);
}

function partOfSubject({ subject, only }: Options): Part {
  return { name: subject, part: `npm run bench -- ${subject}`, isWhole: only.length === 0 };
}

/** Of what a run measures, what is kept under one name. */
interface Part {
  /** In results.json. */
  name: string;
  /** In RESULTS.md. */
  part: string;
  /** Whether all of its steps were wanted. */
  isWhole: boolean;
}

/** Prints a report, and keeps it and what it was made from unless the run was for trying. */
async function finish(
  { subject, size, rounds }: Options,
  { name, part, isWhole }: Part,
  report: string,
  { circumstances, results }: { circumstances: readonly string[]; results: readonly StepResult[] },
): Promise<void> {
  process.stdout.write(report);
  if (results.some(({ failure }) => failure !== undefined)) process.exitCode = 1;
  if (!isWhole || size !== subjects[subject].sizes[0] || rounds < leastRounds) return;
  const all = await keepResults(name, circumstances, results);
  await writePart(resultsFile, part, report, partOrder);
  await writePart(resultsFile, 'targets', renderTargets(all), partOrder);
  await writeCharts(all);
}

async function describeCircumstances(
  server: Server,
  database: string,
  { rounds, size }: Options,
  ownRounds = rounds,
): Promise<string[]> {
  const [tables, heapBytes, indexBytes, rows, objects, objectBytes] = (
    await psql(
      server,
      database,
      `SELECT count(*), sum(pg_table_size(oid)), sum(pg_indexes_size(oid)), sum(reltuples::bigint),
         (SELECT count(*) FROM pg_largeobject_metadata), pg_total_relation_size('pg_largeobject')
       FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace`,
    )
  )
    .trim()
    .split('|')
    .map(Number);
  const data = [
    `${count(tables)} ${tables === 1 ? 'table' : 'tables'} of ${bytes(heapBytes)}`,
    `${bytes(indexBytes)} of indexes`,
    `about ${count(rows)} ${rows === 1 ? 'row' : 'rows'}`,
    ...(objects === 0 ? [] : [`${count(objects)} large objects of ${bytes(objectBytes)}`]),
  ];
  const processors = cpus();
  const setting = Object.entries(settings).map(([name, value]) => `${name} ${value}`);
  return [
    `date: ${new Date().toISOString().slice(0, 10)}; rounds: ${ownRounds}`,
    `machine: ${processors.length} cores (${processors[0]?.model.trim()}), ${bytes(totalmem())} of memory, ${process.platform} ${release()}`,
    `versions: pgkeep ${await checkedOut()}, PostgreSQL ${(await psql(server, 'postgres', 'SHOW server_version')).trim()}, Node.js ${process.versions.node}, zstd ${process.versions.zstd ?? 'unknown'}`,
    `data (${size}): ${data.join(', ')}`,
    `server, the same for everyone: ${setting.join(', ')}, fsync and full_page_writes off; a CHECKPOINT and a sync before every run`,
  ];
}

/** The commit, and whether anything differs from it. */
async function checkedOut(): Promise<string> {
  const git = promisify(execFile)('git', ['describe', '--always', '--dirty'], { cwd: import.meta.dirname });
  return await git.then(
    ({ stdout }) => stdout.trim(),
    () => 'of no known commit',
  );
}

function bytes(sizeBytes = 0): string {
  return sizeBytes < 1e9 ? `${megabytes(sizeBytes)} MB` : `${(sizeBytes / 1e9).toFixed(1)} GB`;
}

function count(number = 0): string {
  return number < 1e6 ? number.toLocaleString('en-US') : `${(number / 1e6).toFixed(1)} million`;
}
