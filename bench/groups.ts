// What `npm run bench` measures, group by group: each has a database of its own kind, can be run by itself, and has its
// own part of RESULTS.md.

import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { archiveFor, takeBackup } from './backup-tools.ts';
import { dataSizes, makeBigTable, makeData } from './make-data.ts';
import { makeBigRow, makeManyTables, makeObjects, makeWideRows } from './make-shapes.ts';
import { measure, type Program } from './measure.ts';
import { compressText, copyToNull, limitSteps } from './physical-limit.ts';
import {
  type BackupTool,
  type Bench,
  create,
  dump,
  ensure,
  environment,
  jobs,
  measureStored,
  type Outcome,
  oneTable,
  pgkeep,
  pgProgram,
  pipeline,
  remove,
  restoreInto,
  restoreRepository,
  type Step,
  sources,
} from './steps.ts';

export interface Group {
  /** As --only has it. */
  name: string;
  title: string;
  /** The database that its steps read. */
  source: (typeof sources)[keyof typeof sources];
  /** Fills that database, which is empty. */
  make(url: string, size: GroupSize): Promise<void>;
  /** What has to be there before the first round, and is not measured. */
  prepare?(bench: Bench): Promise<void>;
  /** Runs of every step, where those are not as many as asked for. */
  rounds?: number;
  /** Titles by the names that steps have as their `group`, in order: in a round, those of one come after another. */
  sections: Readonly<Record<string, string>>;
  steps: readonly Step[];
  /** Further lines about what was compared, for its part of the results. */
  describe?(bench: Bench): Promise<string[]>;
}

export type GroupSize = 'full' | 'small';

/** Names of what steps leave in the bench's folder. */
const files = {
  custom: 'custom.dump',
  directory: 'directory.dump',
  encrypted: 'dump.sql.zst.enc',
  baseBackup: 'base.tar.zst',
  repository: 'repository',
  alone: 'alone',
} as const;

/** pg_dump and what restores from it, by format. */
const dumps = {
  custom: { title: '`pg_dump -Fc`', file: files.custom, make: dumpCustom },
  directory: { title: `\`pg_dump -Fd -j${jobs} -Z1\``, file: files.directory, make: dumpDirectory },
} as const;

const thenAnalyzed = `the same, then \`vacuumdb --analyze-only -j${jobs}\``;

const tools: Group = {
  name: 'tools',
  title: 'First backups',
  source: sources.data,
  make: (url, size) => makeData(url, dataSizes[size]),
  sections: {
    first: 'First backup, into an empty store',
    limit: 'The physical limit',
    again: 'The next backup, nothing changed',
  },
  steps: [
    {
      name: 'dump-custom',
      title: '`pg_dump -Fc`',
      group: 'first',
      run: bench => dumpCustom(bench, sources.data),
    },
    {
      name: 'dump-directory',
      title: `\`pg_dump -Fd -j${jobs} -Z1\``,
      group: 'first',
      run: bench => dumpDirectory(bench, sources.data),
    },
    {
      name: 'dump-encrypted',
      title: '`pg_dump -Fp \\| zstd -1 \\| openssl enc -aes-256-ctr -pbkdf2`',
      group: 'first',
      run: dumpEncrypted,
    },
    {
      name: 'restic',
      title: '`pg_dump -Fp \\| restic backup --stdin`',
      group: 'first',
      run: bench => firstBackup(bench, 'restic'),
    },
    {
      name: 'borg',
      title: '`pg_dump -Fp \\| borg create --compression zstd,3`',
      group: 'first',
      run: bench => firstBackup(bench, 'borg'),
    },
    {
      name: 'pgbackrest',
      title: `pgBackRest \`--type=full\`, \`process-max=${jobs}\` (physical)`,
      group: 'first',
      run: bench => firstBackup(bench, 'incr'),
    },
    {
      name: 'basebackup',
      title: `\`pg_basebackup -Ft -X fetch -Z client-zstd:level=1,workers=${jobs}\` (physical)`,
      group: 'first',
      run: baseBackup,
    },
    {
      name: 'create',
      title: `\`pgkeep create --jobs ${jobs}\``,
      group: 'first',
      run: bench => firstCreate(bench, sources.data),
    },
    {
      name: limitSteps.copy,
      title: "`COPY … TO '/dev/null'` of all tables, by two sessions",
      group: 'limit',
      run: copyToNull,
    },
    {
      name: limitSteps.compression,
      title: `\`zstd -1 -T${jobs}\` of the same text`,
      group: 'limit',
      run: compressText,
    },
    {
      name: 'create-again',
      title: `\`pgkeep create --jobs ${jobs}\``,
      group: 'again',
      run: async bench => {
        await ensure(bench, files.repository, () => firstCreate(bench, sources.data));
        return await create(bench, sources.data, files.repository);
      },
    },
  ],
  describe: async bench => [
    `compared with: ${await versionsOf(bench, ['restic', 'borg', 'incr'])}, encrypted like pgkeep, with zstd at about level 3, everything of the server in the page cache; ${await commandVersions()}; \`pg_dump -Fc\`, \`-Fd\` and \`pg_basebackup\` do not encrypt`,
    'left out: barman, whose backups by the replication protocol are made by pg_basebackup, and whose others need an SSH server',
  ],
};

const restores: Group = {
  name: 'restores',
  title: 'Restores',
  source: sources.data,
  make: tools.make,
  sections: { whole: 'Restore of everything', table: `Restore of one table, ${oneTable}` },
  steps: [
    {
      name: 'restore-directory',
      title: `\`pg_restore -j${jobs}\` of \`-Fd\``,
      group: 'whole',
      run: bench => restoreDump(bench, sources.data, 'directory'),
    },
    {
      name: 'restore-directory-analyze',
      title: thenAnalyzed,
      group: 'whole',
      run: bench => restoreDumpAnalyzed(bench, sources.data, 'directory'),
    },
    {
      name: 'restore-encrypted',
      title: '`openssl enc -d \\| zstd -d \\| psql`',
      group: 'whole',
      run: async bench => {
        await ensure(bench, files.encrypted, () => dumpEncrypted(bench));
        return await restoreInto(bench, sources.data, url =>
          pipeline(
            [
              ['openssl', 'enc', '-d', ...cipher, '-in', join(bench.folder, files.encrypted)],
              ['zstd', '-d', '--quiet'],
              psqlInto(bench, url),
            ],
            withKey(bench),
          ),
        );
      },
    },
    {
      name: 'restore-restic',
      title: '`restic dump \\| psql`',
      group: 'whole',
      run: async bench => {
        const { dump: source } = await bench.peer('restic');
        if (source === undefined) throw new Error('restic has no dump to restore');
        await ensure(bench, 'tools/restic', () => firstBackup(bench, 'restic'));
        return await restoreInto(bench, sources.data, url =>
          pipeline([[source.command, ...source.args], psqlInto(bench, url)], source.env),
        );
      },
    },
    {
      name: 'restore',
      title: `\`pgkeep restore --jobs ${jobs} --create\`, counts compared, analyzed`,
      group: 'whole',
      run: bench => restoreLatest(bench, sources.data),
    },
    {
      name: 'restore-table-directory',
      title: `\`pg_restore -j${jobs} -t ${oneTable}\` of \`-Fd\`, which leaves out its indexes`,
      group: 'table',
      run: bench => restoreDump(bench, sources.data, 'directory', oneTable),
    },
    {
      name: 'restore-table',
      title: `\`pgkeep restore --jobs ${jobs} --tables ${oneTable} --create\``,
      group: 'table',
      run: bench => restoreLatest(bench, sources.data, oneTable),
    },
    {
      name: 'create-table',
      title: `for comparison, what it needs in a store: \`pgkeep create --table ${oneTable}\``,
      group: 'table',
      run: async bench => {
        await remove(bench, files.alone);
        return await create(bench, sources.data, files.alone, ['--table', `public.${oneTable}`]);
      },
    },
  ],
  describe: async bench => [
    `compared with: ${await versionsOf(bench, ['restic'])}; ${await commandVersions()}`,
    `of the text of all rows, ${((await shareOf(bench, oneTable)) * 100).toFixed(1)} % are those of ${oneTable}`,
  ],
};

const startUp: Group = {
  name: 'start-up',
  title: 'Start-up',
  source: sources.tiny,
  make: url => makeManyTables(url, 1),
  prepare: async bench => {
    for (let day = 1; day <= 30; day++) await create(bench, sources.tiny, files.repository);
    // The first run compiles what the later ones find compiled.
    for (const { run } of startUp.steps) await run(bench);
  },
  rounds: 15,
  sections: { 'start-up': 'From start to end, milliseconds' },
  steps: [
    {
      name: 'help',
      title: '`pgkeep --help`',
      group: 'start-up',
      run: bench => measurePgkeep(bench, ['--help']),
    },
    {
      name: 'list',
      title: '`pgkeep list` of a folder with 30 backups',
      group: 'start-up',
      run: bench => measurePgkeep(bench, ['list', '--repository', join(bench.folder, files.repository)]),
    },
  ],
};

/** In the order they are run; those that read the same database are neighbours. */
export const groups: readonly Group[] = [
  tools,
  restores,
  shape({
    name: 'tables',
    title: 'Many tables of ten rows',
    source: sources.tables,
    make: (url, size) => makeManyTables(url, size === 'full' ? 10_000 : 1_000),
  }),
  shape({
    name: 'big-table',
    title: 'One big table',
    source: sources.bigTable,
    make: (url, size) => makeBigTable(url, size === 'full' ? 8_000_000 : 400_000),
  }),
  shape({
    name: 'wide',
    title: 'Rows of 250 columns, and rows with a megabyte each',
    source: sources.wide,
    make: (url, size) => (size === 'full' ? makeWideRows(url, 60_000, 100) : makeWideRows(url, 6_000, 10)),
  }),
  shape({
    name: 'objects',
    title: 'Large objects of two kilobytes',
    source: sources.objects,
    make: (url, size) => makeObjects(url, size === 'full' ? 100_000 : 5_000),
    dumps: ['custom'],
    describe: async () => [
      'left out: `pg_dump -Fd`, which has a file for each large object and syncs each of them',
    ],
  }),
  shape({
    name: 'big-row',
    title: 'One row with a very long text',
    source: sources.bigRow,
    make: (url, size) => makeBigRow(url, (size === 'full' ? 255 : 64) * 1024 * 1024),
  }),
  startUp,
];

interface Shape extends Pick<Group, 'name' | 'title' | 'source' | 'make' | 'describe'> {
  /** Formats to compare with, of which the last is restored from. */
  dumps?: readonly (keyof typeof dumps)[];
}

/** Backups and restores by pg_dump and pgkeep, of a database that is special in one way. */
function shape({ dumps: formats = ['custom', 'directory'], ...group }: Shape): Group {
  const { name, source } = group;
  const restoredFormat = formats.at(-1) ?? 'custom';
  const step = (verb: string, title: string, section: string, run: Step['run']): Step => ({
    ...{ name: `${name}-${verb}`, title, run },
    group: `${name} ${section}`,
  });
  return {
    ...group,
    sections: {
      [`${name} first`]: 'First backup',
      [`${name} again`]: 'The next backup, nothing changed',
      [`${name} restore`]: 'Restore',
    },
    steps: [
      ...formats.map(format =>
        step(`dump-${format}`, dumps[format].title, 'first', bench => dumps[format].make(bench, source)),
      ),
      step('create', `\`pgkeep create --jobs ${jobs}\``, 'first', bench => firstCreate(bench, source)),
      step('create-again', `\`pgkeep create --jobs ${jobs}\``, 'again', async bench => {
        await ensure(bench, files.repository, () => firstCreate(bench, source));
        return await create(bench, source, files.repository);
      }),
      step(
        `restore-${restoredFormat}`,
        `\`pg_restore -j${jobs}\` of ${dumps[restoredFormat].title}`,
        'restore',
        bench => restoreDump(bench, source, restoredFormat),
      ),
      step(`restore-${restoredFormat}-analyze`, thenAnalyzed, 'restore', bench =>
        restoreDumpAnalyzed(bench, source, restoredFormat),
      ),
      step('restore', `\`pgkeep restore --jobs ${jobs} --create\``, 'restore', bench =>
        restoreLatest(bench, source),
      ),
    ],
  };
}

async function dumpCustom(bench: Bench, database: string): Promise<Outcome> {
  return await dump(bench, database, files.custom, ['-Fc']);
}

async function dumpDirectory(bench: Bench, database: string): Promise<Outcome> {
  return await dump(bench, database, files.directory, ['-Fd', `-j${jobs}`, '-Z1']);
}

/** The key is derived from one in the environment, as in a script that somebody writes in an hour. */
const cipher = ['-aes-256-ctr', '-pbkdf2', '-pass', 'env:BENCH_KEY'];

function withKey({ key }: Bench): Program['env'] {
  return { ...environment(), BENCH_KEY: key };
}

async function dumpEncrypted(bench: Bench): Promise<Outcome> {
  const output = join(bench.folder, files.encrypted);
  await remove(bench, files.encrypted);
  const commands = [
    [join(bench.server.binDir, 'pg_dump'), '-Fp', bench.server.url(sources.data)],
    ['zstd', '-1', '--quiet'],
    ['openssl', 'enc', ...cipher],
  ];
  return await measureStored(bench, { ...pipeline(commands, withKey(bench)), output }, output);
}

function psqlInto({ server }: Bench, url: string): string[] {
  const how = ['--no-psqlrc', '--quiet', '--set', 'ON_ERROR_STOP=1'];
  return [join(server.binDir, 'psql'), ...how, '--dbname', url];
}

async function firstBackup(bench: Bench, name: BackupTool['name']): Promise<Outcome> {
  const tool = await bench.peer(name);
  await archiveFor(bench, tool);
  try {
    await tool.empty();
    return await takeBackup(bench, tool, true);
  } finally {
    await archiveFor(bench);
  }
}

async function baseBackup(bench: Bench): Promise<Outcome> {
  const { server } = bench;
  const output = join(bench.folder, files.baseBackup);
  const login = ['-h', server.socketDir, '-p', String(server.port), '-U', 'postgres'];
  const how = ['-D', '-', '-Ft', '-X', 'fetch', '-c', 'fast', '-Z', `client-zstd:level=1,workers=${jobs}`];
  await remove(bench, files.baseBackup);
  const program = { ...pgProgram(bench, 'pg_basebackup', [...login, ...how]), output };
  const outcome = await measureStored(bench, program, output);
  await remove(bench, files.baseBackup);
  return outcome;
}

async function firstCreate(bench: Bench, database: string): Promise<Outcome> {
  await remove(bench, files.repository);
  return await create(bench, database, files.repository);
}

async function restoreDump(
  bench: Bench,
  database: string,
  format: keyof typeof dumps,
  table?: string,
): Promise<Outcome> {
  const { file, make } = dumps[format];
  await ensure(bench, file, () => make(bench, database));
  const choice = table === undefined ? [] : ['-t', table];
  const source = join(bench.folder, file);
  return await restoreInto(
    bench,
    database,
    url => pgProgram(bench, 'pg_restore', ['--exit-on-error', `-j${jobs}`, ...choice, '-d', url, source]),
    table,
  );
}

/** With what is left to do after pg_restore, and is done by pgkeep: the planner's statistics. */
async function restoreDumpAnalyzed(
  bench: Bench,
  database: string,
  format: keyof typeof dumps,
): Promise<Outcome> {
  const { file, make } = dumps[format];
  await ensure(bench, file, () => make(bench, database));
  return await restoreInto(bench, database, url => {
    const commands = `"$0/pg_restore" --exit-on-error -j${jobs} -d "$1" "$2" && "$0/vacuumdb" --quiet --analyze-only -j${jobs} -d "$1"`;
    const args = ['-c', commands, bench.server.binDir, url, join(bench.folder, file)];
    return { command: '/bin/sh', args, env: environment() };
  });
}

async function restoreLatest(bench: Bench, database: string, table?: string): Promise<Outcome> {
  await ensure(bench, files.repository, () => firstCreate(bench, database));
  return await restoreRepository(bench, database, files.repository, table);
}

async function measurePgkeep(bench: Bench, args: readonly string[]): Promise<Outcome> {
  const cost = await measure(pgkeep(bench, args), bench.server.pid ?? 0);
  return { ...cost, storedBytes: undefined };
}

async function versionsOf(bench: Bench, names: readonly BackupTool['name'][]): Promise<string> {
  const tools = await Promise.all(names.map(name => bench.peer(name)));
  return tools.map(({ version }) => version).join(', ');
}

/** @throws Error when one is missing. */
async function commandVersions(): Promise<string> {
  const ask = async (command: string, argument: string, version: RegExp) => {
    const { stdout } = await promisify(execFile)(command, [argument]);
    return `${command} ${version.exec(stdout)?.[0] ?? stdout.trim()}`;
  };
  return [await ask('zstd', '--version', /\d+(\.\d+)+/), await ask('openssl', 'version', /\d+(\.\d+)+/)].join(
    ', ',
  );
}

/** Of the plain bytes of all tables. */
async function shareOf(bench: Bench, table: string): Promise<number> {
  const repository = join(bench.folder, files.repository);
  const { command, args, env } = pgkeep(bench, ['show', 'latest', '--repository', repository, '--json']);
  const { stdout } = await promisify(execFile)(command, args, { env, maxBuffer: 64 * 1024 * 1024 });
  const { tables }: { tables: { name: string; bytes: number }[] } = JSON.parse(stdout);
  const all = tables.reduce((sum, { bytes }) => sum + bytes, 0);
  return (tables.find(({ name }) => name === table)?.bytes ?? 0) / all;
}
