// A day in fast motion, run by hand (npm run endurance): a backup every half hour of a database under pgbench, a cleanup
// every hour with a grace of seconds, and some of both killed at random. Then five backups that are left are restored and
// compared with plain pg_dumps of their own snapshots, one is restored from an export by psql alone, one by the recovery kit.
//
//   npm run endurance              48 backups of pgbench at scale 5
//   npm run endurance -- 96 20     96 backups at scale 20
//   PGKEEP_TEST_SEED=7 npm run endurance

import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { cpSync, existsSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { generateKey } from '../../src/crypto/key.ts';
import { ensureTestServers } from '../services/install-postgres.ts';
import { type Ending, type PgkeepProcess, runPgkeep, startPgkeep } from '../support/pgkeep-process.ts';
import { psql, type Server, startServer } from '../support/postgres-server.ts';
import { psqlFile } from '../support/psql-file.ts';
import { backupsIn, neededObjects, objectsIn } from '../support/repository-contents.ts';
import { below, chosenSeed, pick, seededRandom } from '../support/seeded-random.ts';
import { dumpSameSnapshot, requireSameAsDump } from '../support/snapshot-dump.ts';
import { makeTempFolder } from '../support/temp-folder.ts';

const execute = promisify(execFile);
const [backups = 48, scale = 5] = process.argv.slice(2).map(Number);
const killedShare = 0.25;
const keepLast = 12;
const graceSeconds = 5;
const survivors = 5;

const startedAt = performance.now();
const key = generateKey();

function say(text: string): void {
  console.log(`[${((performance.now() - startedAt) / 1000).toFixed(0).padStart(5)} s] ${text}`);
}

function megabytes(bytes: number): string {
  return `${(bytes / 1e6).toFixed(1)} MB`;
}

/** Fails unless the run ended well or by the kill that was planned for it. */
function requireGood(what: string, { exitCode, signal, err }: Ending, allowed: readonly string[] = []): void {
  if (exitCode === 0 || signal === 'SIGKILL' || allowed.some(code => err.includes(`[${code}]`))) return;
  throw new Error(`${what} ended with ${signal ?? exitCode}: ${err}`);
}

async function endurance(server: Server, folder: string, seed: number): Promise<void> {
  const random = seededRandom(seed);
  const repository = join(folder, 'repository');
  const env = {
    BACKUP_ENCRYPTION_KEY: key,
    BACKUP_REPOSITORY: repository,
    DATABASE_URL: server.url('bank'),
  };
  const programs = ['--programs', server.binDir];
  const words = {
    create: ['create', '--json', '--quiet', ...programs],
    cleanup: [
      ...['cleanup', '--json', '--quiet', '--grace', `${graceSeconds}s`],
      ...['--keep-days', '0', '--keep-last', String(keepLast)],
    ],
  };
  const counts = { made: 0, createsKilled: 0, cleanups: 0, cleanupsKilled: 0, conflicts: 0 };
  const createMs: number[] = [];
  const cleanupMs: number[] = [];
  const newBytes: number[] = [];
  /** Plain dumps of backups' own snapshots, by the id of the backup. */
  const dumps = new Map<string, string>();

  /** Runs a command to its end, or kills it on the way; as often as `killedShare` says. */
  const runOrKill = async (
    argv: readonly string[],
    typicalMs: number,
    beside?: (run: PgkeepProcess) => Promise<void>,
  ) => {
    const begun = performance.now();
    const run = startPgkeep(argv, { env });
    const isKilled = random() < killedShare;
    const timer = setTimeout(() => isKilled && run.kill('SIGKILL'), 300 + below(random, typicalMs));
    const [ending] = await Promise.all([run.ended, beside?.(run)]);
    clearTimeout(timer);
    requireGood(argv[0] ?? '', ending, ['CLEANUP_CONFLICT']);
    return { ...ending, ms: performance.now() - begun };
  };

  for (let number = 1; number <= backups; number++) {
    const file = join(folder, `${number}.dump`);
    let hasDump = false;
    const made = await runOrKill(words.create, createMs.at(-1) ?? 3_000, async run => {
      hasDump = await dumpSameSnapshot(server.binDir, env.DATABASE_URL, run, file);
    });
    if (made.exitCode === 0) {
      const result = JSON.parse(made.out);
      counts.made++;
      createMs.push(made.ms);
      newBytes.push(result.newBytes);
      if (hasDump) dumps.set(result.id, file);
    } else {
      rmSync(file, { force: true });
      counts[made.signal === null ? 'conflicts' : 'createsKilled']++;
    }
    if (number % 2 === 0) {
      const cleaned = await runOrKill(words.cleanup, cleanupMs.at(-1) ?? 1_000);
      counts.cleanups++;
      if (cleaned.signal !== null) counts.cleanupsKilled++;
      else cleanupMs.push(cleaned.ms);
    }
    if (number % 8 === 0) {
      const listed = backupsIn(repository, key).length;
      say(`${number} creates: ${counts.made} made, ${counts.createsKilled} killed; ${listed} backups listed`);
    }
  }

  // Nobody writes any more: what the killed left goes once the grace has passed.
  for (let pass = 0; pass < 3; pass++) {
    requireGood('cleanup', await runPgkeep(words.cleanup, { env }));
    await sleep((graceSeconds + 1) * 1000);
  }
  const objects = [...objectsIn(repository).keys()];
  const left = objects.filter(name => !/^(verified|recovery)\//.test(name));
  const needed = neededObjects(repository, key);
  if (left.join() !== needed.join()) {
    const waste = left.filter(name => !needed.includes(name));
    throw new Error(`cleanup left ${waste.length} objects that no manifest names, such as ${waste[0]}`);
  }
  const listed = backupsIn(repository, key);
  const storedBytes = objects.reduce((sum, name) => sum + statSync(join(repository, name)).size, 0);
  const median = (values: readonly number[]) => values.toSorted((a, b) => a - b)[values.length >> 1] ?? 0;
  say(
    `${counts.made} backups made, ${counts.createsKilled} creates killed, ${counts.conflicts} in conflict with a cleanup; ` +
      `${counts.cleanups} cleanups, ${counts.cleanupsKilled} of them killed`,
  );
  say(
    `${listed.length} backups in ${objects.length} objects of ${megabytes(storedBytes)}; new bytes of a backup: first ` +
      `${megabytes(newBytes[0] ?? 0)}, median ${megabytes(median(newBytes))}; median times: create ${median(createMs).toFixed(0)} ms, ` +
      `cleanup ${median(cleanupMs).toFixed(0)} ms`,
  );

  const candidates = listed.filter(id => dumps.has(id));
  const chosen: string[] = [];
  while (chosen.length < survivors && candidates.length > 0) {
    chosen.push(...candidates.splice(below(random, candidates.length), 1));
  }
  if (chosen.length < survivors) throw new Error(`only ${chosen.length} backups with a dump are left`);
  const compare = async (how: string, id: string, restored: string) => {
    const rows = await requireSameAsDump(server, restored, dumps.get(id) ?? '');
    say(`${id} ${how}: ${rows} rows, the same as a plain pg_dump of its snapshot`);
  };
  for (const id of chosen) {
    const to = server.url('restored');
    requireGood(
      'restore',
      await runPgkeep(['restore', id, '--create', '--to', to, '--quiet', ...programs], { env }),
    );
    await compare('restored', id, 'restored');
  }

  const one = pick(random, chosen);
  const script = join(folder, 'export.sql');
  requireGood(
    'export',
    await runPgkeep(['export', one, '--output', script, '--quiet', ...programs], { env }),
  );
  await server.createDatabase('exported');
  await psqlFile(server, 'exported', script);
  await compare('exported, restored by psql alone', one, 'exported');

  const copy = join(folder, 'copy');
  const recovered = join(folder, 'recovered.sql');
  if (!existsSync(join(repository, 'recovery'))) throw new Error('the repository holds no recovery kit');
  cpSync(repository, copy, { recursive: true });
  await execute(process.execPath, ['recovery/pgkeep-recover.mjs', '--backup', one, '--output', recovered], {
    cwd: copy,
    env: { BACKUP_ENCRYPTION_KEY: key },
  });
  await server.createDatabase('recovered');
  await psqlFile(server, 'recovered', recovered);
  await compare('recovered by the kit alone', one, 'recovered');
}

await ensureTestServers(say);
const seed = chosenSeed();
say(`PGKEEP_TEST_SEED=${seed}`);
await using server = await startServer();
await using folder = makeTempFolder('endurance');
await server.createDatabase('bank');
const pgbench = join(server.binDir, 'pgbench');
const login = ['-h', server.socketDir, '-p', String(server.port), '-U', 'postgres'];
await execute(pgbench, ['-i', '-q', '-s', String(scale), ...login, 'bank']);
await psql(
  server,
  'bank',
  "CREATE SEQUENCE ticket; SELECT nextval('ticket'); SELECT lo_from_bytea(4711, convert_to('large object', 'UTF8'))",
);
say(`${await psql(server, 'bank', 'SELECT pg_size_pretty(pg_database_size(current_database()))')}`.trim());
const load = spawn(pgbench, ['-n', '-c', '2', '-R', '100', '-T', '86400', ...login, 'bank'], {
  stdio: 'ignore',
});
const loadEnded = once(load, 'exit');
try {
  await endurance(server, folder.path, seed);
} finally {
  load.kill('SIGTERM');
  await loadEnded;
}
say('done');
