// The tools whose second backups are compared: pgkeep, restic and borg fed by pg_dump, pgBackRest's incremental and
// block-incremental backups. Each has a store of its own, encrypted, and compresses by zstd at about its level 3.

import { chown, mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { psql } from '../test/support/postgres-server.ts';
import { serverAccount } from '../test/support/server-account.ts';
import { makeTempFolder } from '../test/support/temp-folder.ts';
import type { Tools } from './install-tools.ts';
import { measure, type Program } from './measure.ts';
import {
  type BackupTool,
  type Bench,
  environment,
  jobs,
  type Outcome,
  pgkeep,
  pipeline,
  remove,
  settle,
  sizeOf,
  sources,
} from './steps.ts';

/** Has a tool make a backup. @throws Error with the tool's last words. */
export async function takeBackup(bench: Bench, tool: BackupTool, isFirst: boolean): Promise<Outcome> {
  const { store, manifests } = tool;
  const sizes = async () =>
    [await sizeOf(store), manifests === undefined ? 0 : await sizeOf(manifests)] as const;
  const [storedBefore, manifestsBefore] = await sizes();
  await waitForArchive(bench.server);
  await settle(bench);
  const cost = await measure(tool.program(isFirst), bench.server.pid ?? 0);
  const [stored, ofManifests] = await sizes();
  const storedBytes = stored - storedBefore;
  if (manifests === undefined) return { ...cost, storedBytes };
  return { ...cost, storedBytes, contentBytes: storedBytes - (ofManifests - manifestsBefore) };
}

/** What the server has to be started with for pgBackRest: a setting that no backup but its own has a use for. */
export const archiveSettings = { archive_mode: 'on' } as const;

/** Has the server archive its log for a tool that wants it, and from then on let it go for any other. */
export async function archiveFor({ server }: Bench, tool?: BackupTool): Promise<void> {
  const command = tool?.archiveCommand ?? '/bin/true';
  await psql(server, 'postgres', `ALTER SYSTEM SET archive_command = '${command}'; SELECT pg_reload_conf()`);
}

/** Sets up the tools in the bench's folder. */
export async function makeBackupTools(bench: Bench, tools: Tools): Promise<BackupTool[]> {
  return [
    pgkeepTool(bench),
    ...[restic(bench, tools), borg(bench, tools)],
    ...(await pgbackrest(bench, tools)),
  ];
}

function pgkeepTool(bench: Bench): BackupTool {
  const store = join(bench.folder, 'tools', 'pgkeep');
  return {
    name: 'pgkeep',
    title: `\`pgkeep create --jobs ${jobs}\``,
    empty: () => remove(bench, 'tools/pgkeep'),
    program: () => pgkeep(bench, ['create', '--repository', store, '--jobs', jobs], sources.data),
    store,
    manifests: join(store, 'backups'),
  };
}

function restic(bench: Bench, tools: Tools): BackupTool {
  const store = join(bench.folder, 'tools/restic');
  const env = {
    ...environment(),
    RESTIC_REPOSITORY: store,
    RESTIC_PASSWORD: bench.key,
    RESTIC_CACHE_DIR: join(bench.folder, 'tools/restic-cache'),
  };
  const { program, version } = tools.restic;
  return {
    name: 'restic',
    title: '`pg_dump -Fp \\| restic backup --stdin`',
    version,
    empty: async () => {
      await remove(bench, 'tools/restic');
      await remove(bench, 'tools/restic-cache');
      await run(bench, { command: program, args: ['init', '--quiet'], env });
    },
    program: () =>
      dumpInto(bench, env, [program, 'backup', '--quiet', '--stdin', '--stdin-filename', 'dump.sql']),
    dump: { command: program, args: ['dump', '--quiet', 'latest', 'dump.sql'], env },
    store,
  };
}

function borg(bench: Bench, tools: Tools): BackupTool {
  const store = join(bench.folder, 'tools/borg');
  const env = {
    ...environment(),
    BORG_REPO: store,
    BORG_PASSPHRASE: bench.key,
    BORG_BASE_DIR: join(bench.folder, 'tools/borg-base'),
  };
  const { program, version } = tools.borg;
  const archive = '::dump-{utcnow:%Y%m%dT%H%M%S.%f}';
  return {
    name: 'borg',
    title: '`pg_dump -Fp \\| borg create --compression zstd,3`',
    version,
    empty: async () => {
      await remove(bench, 'tools/borg');
      await remove(bench, 'tools/borg-base');
      await mkdir(join(bench.folder, 'tools'), { recursive: true });
      await run(bench, { command: program, args: ['init', '--encryption', 'repokey'], env });
    },
    program: () =>
      dumpInto(bench, env, [
        program,
        'create',
        '--compression',
        'zstd,3',
        '--stdin-name',
        'dump.sql',
        archive,
        '-',
      ]),
    store,
  };
}

/** Two repositories of one stanza: the one with, the other without blocks. */
async function pgbackrest(bench: Bench, tools: Tools): Promise<BackupTool[]> {
  const { server } = bench;
  const account = serverAccount();
  // It works as the account of the server, which must not pass through the bench's folder.
  const folder = makeTempFolder('bench-pgbackrest', account).path;
  const configuration = join(folder, 'pgbackrest.conf');
  const repository = (number: number) => join(folder, `repository-${number}`);
  const settings = [
    '[global]',
    ...[1, 2].flatMap(number => [
      `repo${number}-path=${repository(number)}`,
      `repo${number}-bundle=y`,
      `repo${number}-cipher-type=aes-256-cbc`,
      `repo${number}-cipher-pass=${bench.key}`,
      `repo${number}-retention-full=2`,
    ]),
    ...['repo2-block=y', 'compress-type=zst', 'compress-level=3', `process-max=${jobs}`, 'start-fast=y'],
    ...['log-level-console=warn', 'log-level-file=off', `log-path=${folder}/log`],
    ...[`lock-path=${folder}/lock`, `spool-path=${folder}/spool`],
    ...['[bench]', `pg1-path=${server.dataDir}`, `pg1-port=${server.port}`],
    ...[`pg1-socket-path=${server.socketDir}`, 'pg1-user=postgres'],
  ];
  await writeFile(configuration, `${settings.join('\n')}\n`, { mode: 0o600 });
  const { uid, gid } = account.ids;
  if (uid !== undefined && gid !== undefined) await chown(configuration, uid, gid);

  const { program, version } = tools.pgbackrest;
  const words = [`--config=${configuration}`, '--stanza=bench'];
  const command = (...args: string[]): Program => ({
    command: program,
    args: [...words, ...args],
    env: environment(),
    ids: account.ids,
  });
  await run(bench, command('stanza-create'));
  const tool = (number: number, name: 'incr' | 'block-incr', title: string): BackupTool => ({
    name,
    title,
    version,
    empty: async () => {
      // Whatever the server hands over while the repository is gone would be tried again only after a minute.
      await waitForArchive(server);
      await run(bench, { command: 'rm', args: ['-rf', repository(number)], env: environment() });
      await run(bench, command('stanza-create'));
    },
    program: isFirst => command(`--repo=${number}`, `--type=${isFirst ? 'full' : 'incr'}`, 'backup'),
    store: join(repository(number), 'backup'),
    archiveCommand: `${program} ${words.join(' ')} archive-push %p`,
  });
  return [
    tool(1, 'incr', 'pgBackRest `--type=incr`'),
    tool(2, 'block-incr', 'pgBackRest `--type=incr`, `repo-block=y`'),
  ];
}

/** Waits until the server has handed over the whole of its log, so that no backup waits for what came before it. */
async function waitForArchive(server: Bench['server']): Promise<void> {
  await psql(server, 'postgres', 'SELECT pg_switch_wal()');
  const waiting = "SELECT count(*) FROM pg_ls_archive_statusdir() WHERE name LIKE '%.ready'";
  while ((await psql(server, 'postgres', waiting)).trim() !== '0') await sleep(100);
}

/** A pipe from pg_dump, which fails when either end does. */
export function dumpInto(bench: Bench, env: Program['env'], command: readonly string[]): Program {
  const source = bench.server.url(sources.data);
  return pipeline([[join(bench.server.binDir, 'pg_dump'), '-Fp', source], command], env);
}

export async function run({ server }: Bench, program: Program): Promise<void> {
  await measure(program, server.pid ?? 0);
}
