// An hour of backups that follow each other, run by hand (npm run endurance:incremental): one every 30 s, of a database under
// pgbench and a writer of random transactions, with cleanups in between. Then ten are restored and compared, row for row,
// with plain pg_dumps of their own snapshots. With --faults, the server is killed twice and a session of it once, a standby
// that lacks the latest transactions takes over its address, and VACUUM FULL rewrites the tables; the first backup after each
// is restored at once.
//
//   npm run endurance:incremental                                   120 backups, one every 30 s, at pgbench's scale 5
//   npm run endurance:incremental -- --backups 10 --interval 3      10 backups, one every 3 s
//   npm run endurance:incremental -- --faults
//   npm run endurance:incremental -- -- --verify-incremental        what follows the second -- are options of create
//   PGKEEP_TEST_SEED=7 npm run endurance:incremental

import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs, promisify } from 'node:util';
import pg from 'pg';
import { generateKey } from '../../src/crypto/key.ts';
import { ensureTestServers } from '../services/install-postgres.ts';
import { runPgkeep, startPgkeep } from '../support/pgkeep-process.ts';
import { psql, type Server, startServer, startStandby } from '../support/postgres-server.ts';
import { waitFor } from '../support/processes.ts';
import { ledgerSchema, startRandomWriter } from '../support/random-writer.ts';
import { backupsIn } from '../support/repository-contents.ts';
import { below, chosenSeed, seededRandom } from '../support/seeded-random.ts';
import { dumpSameSnapshot, requireSameAsDump } from '../support/snapshot-dump.ts';
import { makeTempFolder } from '../support/temp-folder.ts';

type Fault = 'server killed' | 'session killed' | 'VACUUM FULL' | 'failover';

const { values, positionals: createOptions } = parseArgs({
  allowPositionals: true,
  options: {
    backups: { type: 'string', default: '120' },
    interval: { type: 'string', default: '30' },
    scale: { type: 'string', default: '5' },
    restores: { type: 'string', default: '10' },
    faults: { type: 'boolean', default: false },
  },
});
const backups = Number(values.backups);
const intervalMs = Number(values.interval) * 1000;
const restores = Number(values.restores);
/** A cleanup after so many backups, and how many it leaves at least. */
const cleanupEvery = Math.max(2, Math.round(backups / 12));
const keepLast = Math.max(restores, Math.round(backups / 3));
const graceSeconds = 5;
/** How far the run has come when it happens. */
const faultsAt: readonly [number, Fault][] = [
  [0.2, 'server killed'],
  [0.35, 'session killed'],
  [0.5, 'VACUUM FULL'],
  [0.65, 'failover'],
  [0.85, 'server killed'],
];

const startedAt = performance.now();
const seed = chosenSeed();
const random = seededRandom(seed);
say(`PGKEEP_TEST_SEED=${seed}`);
await ensureTestServers(say);
await using folder = makeTempFolder('endurance');
// Commits that are not on disk yet are lost in a crash, and their ids are given out again: the harder case.
const settings = { synchronous_commit: 'off', wal_writer_delay: '2s', wal_keep_size: '1GB' };
await using primary = await startServer({ settings });
await using target = await startServer();
const address = primary.url('bank');
const { binDir } = primary;
await primary.createDatabase('bank');
const login = ['-h', '127.0.0.1', '-p', String(primary.port), '-U', 'postgres'];
await promisify(execFile)(join(binDir, 'pgbench'), ['-i', '-q', '-s', values.scale, ...login, 'bank']);
await psql(primary, 'bank', ledgerSchema);
await using standby = values.faults ? await startStandby(primary, { settings }) : undefined;
/** Who has the address. */
let current: Server = primary;

const load = keepPgbenchRunning();
const writer = startRandomWriter(address, seededRandom(seed + 1), 2 * intervalMs);
try {
  await backUpRestoreCompare();
} finally {
  await writer[Symbol.asyncDispose]();
  await load.stop();
}
say('done');

async function backUpRestoreCompare(): Promise<void> {
  const key = generateKey();
  const repository = join(folder.path, 'repository');
  const env = { BACKUP_ENCRYPTION_KEY: key, BACKUP_REPOSITORY: repository, DATABASE_URL: address };
  const pgkeep = async (...words: string[]) => {
    const ending = await runPgkeep([...words, '--quiet'], { env });
    if (ending.exitCode !== 0) throw new Error(`${words[0]} ended with ${ending.exitCode}: ${ending.err}`);
  };
  const programs = ['--programs', binDir];
  /** Plain dumps of backups' own snapshots, by the id of the backup. */
  const dumps = new Map<string, string>();
  const made: { id: string; ms: number; newBytes: number }[] = [];
  let failedByFault = 0;
  let pending: Fault | undefined;

  const restore = async (id: string) => {
    await pgkeep('restore', id, '--create', '--to', target.url('restored'), ...programs);
    const rows = await requireSameAsDump(target, 'restored', dumps.get(id) ?? '');
    say(`${id} restored: ${rows} rows, the same as a plain pg_dump of its snapshot`);
  };

  /** @returns the id of the backup that was made, undefined when the fault came in between. */
  const create = async (number: number, fault: Fault | undefined): Promise<string | undefined> => {
    const file = join(folder.path, `${number}.dump`);
    const begun = performance.now();
    const run = startPgkeep(['create', '--json', '--quiet', ...programs, ...createOptions], { env });
    const dumped = dumpSameSnapshot(binDir, address, run, file).catch((error: unknown) => {
      if (fault === undefined) throw error;
      return false;
    });
    const struck = fault && sleep(below(random, made.at(-1)?.ms ?? 2000)).then(() => strike(fault));
    const [ending, hasDump] = await Promise.all([run.ended, dumped, struck]);
    const ms = performance.now() - begun;
    if (ending.exitCode !== 0) {
      rmSync(file, { force: true });
      if (fault === undefined) throw new Error(`create ended with ${ending.exitCode}: ${ending.err}`);
      failedByFault++;
      return undefined;
    }
    const { id, newBytes } = JSON.parse(ending.out);
    made.push({ id, ms, newBytes });
    if (hasDump) dumps.set(id, file);
    return id;
  };

  for (let number = 1; number <= backups; number++) {
    const nextAt = performance.now() + intervalMs;
    const planned = faultAt(number);
    // What is committed from here to the failover is lost in it; a backup or two have seen it.
    if (faultAt(number + 2) === 'failover') await standby?.stop();
    const id = await create(number, planned === 'VACUUM FULL' ? undefined : planned);
    if (planned === 'VACUUM FULL') await strike(planned);
    if (planned !== undefined) {
      if (pending !== undefined)
        throw new Error(`no backup after ${pending} was compared: give more --backups`);
      pending = planned;
    } else if (pending !== undefined && id !== undefined && dumps.has(id)) {
      say(`the first backup after: ${pending}`);
      await restore(id);
      pending = undefined;
    }
    if (random() < 0.3) await writer.changeDefinitions();
    if (number % cleanupEvery === 0) {
      await pgkeep(
        'cleanup',
        '--grace',
        `${graceSeconds}s`,
        '--keep-days',
        '0',
        '--keep-last',
        String(keepLast),
      );
      const left = new Set(backupsIn(repository, key));
      for (const [old, file] of dumps) {
        if (left.has(old)) continue;
        rmSync(file);
        dumps.delete(old);
      }
      say(
        `${number} creates, ${writer.count} transactions of the writer; ${left.size} backups, ${dumps.size} of them dumped`,
      );
    }
    await sleep(Math.max(0, nextAt - performance.now()));
  }

  const median = (figures: readonly number[]) => figures.toSorted((a, b) => a - b)[figures.length >> 1] ?? 0;
  const [first, ...others] = made;
  say(
    `${made.length} backups made, ${failedByFault} failed with the server; first ${describe(first?.ms, first?.newBytes)}, median of the ` +
      `others ${describe(median(others.map(({ ms }) => ms)), median(others.map(({ newBytes }) => newBytes)))}`,
  );
  const listed = backupsIn(repository, key);
  const candidates = listed.filter(id => dumps.has(id));
  if (candidates.length < Math.min(restores, made.length)) {
    throw new Error(`only ${candidates.length} of ${listed.length} backups have a dump to compare them with`);
  }
  for (let left = restores; left > 0; left--) {
    for (const id of candidates.splice(below(random, candidates.length), 1)) await restore(id);
  }
}

function faultAt(number: number): Fault | undefined {
  return values.faults ? faultsAt.find(([share]) => Math.round(share * backups) === number)?.[1] : undefined;
}

async function strike(fault: Fault): Promise<void> {
  say(fault);
  if (fault === 'server killed') {
    await kill(current);
    await startAgain(current);
  } else if (fault === 'session killed') {
    const found = await query<{ pid: number }>(
      "SELECT pid FROM pg_stat_activity WHERE application_name = 'pgbench' LIMIT 1",
    );
    for (const { pid } of found) process.kill(pid, 'SIGKILL');
  } else if (fault === 'VACUUM FULL') {
    await query('VACUUM FULL');
  } else if (standby !== undefined) {
    await kill(primary);
    // The later of two ports holds.
    await standby.start({ port: String(primary.port) });
    current = standby;
    await query('SELECT pg_promote()');
  }
  await waitFor('the server to write again', () =>
    query<{ lost: boolean }>('SELECT pg_is_in_recovery() AS lost').then(
      ([state]) => state?.lost === false,
      () => false,
    ),
  );
}

async function query<Row extends pg.QueryResultRow>(sql: string): Promise<Row[]> {
  const client = new pg.Client(address);
  client.on('error', () => {});
  await client.connect();
  try {
    return (await client.query<Row>(sql)).rows;
  } finally {
    await client.end();
  }
}

async function kill(server: Server): Promise<void> {
  if (server.pid !== undefined) process.kill(server.pid, 'SIGKILL');
  await waitFor('the server to end', () => server.pid === undefined);
}

/** Its sessions take a moment to notice that the server has gone, and it does not start beside them. */
async function startAgain(server: Server): Promise<void> {
  await waitFor('the server to start', () =>
    server.start().then(
      () => true,
      () => false,
    ),
  );
}

/** pgbench ends with the server; the next one goes on. */
function keepPgbenchRunning(): { stop(): Promise<void> } {
  let isOver = false;
  let child: ReturnType<typeof spawn> | undefined;
  const run = async () => {
    while (!isOver) {
      const args = ['-n', '-c', '2', '-R', '100', '-T', '86400', ...login, 'bank'];
      child = spawn(join(binDir, 'pgbench'), args, { stdio: 'ignore' });
      await once(child, 'exit');
      await sleep(200);
    }
  };
  const ended = run();
  return {
    stop: async () => {
      isOver = true;
      child?.kill('SIGTERM');
      await ended;
    },
  };
}

function describe(ms = 0, bytes = 0): string {
  return `${ms.toFixed(0)} ms and ${(bytes / 1e6).toFixed(2)} MB`;
}

function say(text: string): void {
  console.log(`[${((performance.now() - startedAt) / 1000).toFixed(0).padStart(5)} s] ${text}`);
}
