// Plain dumps of the very snapshots that backups read, to compare what is restored with, while others go on writing.

import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import pg from 'pg';
import { compareDatabases } from './compare-databases.ts';
import type { PgkeepProcess } from './pgkeep-process.ts';
import type { Server } from './postgres-server.ts';
import { descendants } from './processes.ts';

const execute = promisify(execFile);

/**
 * Waits for pg_dump to be started with the snapshot of a run of create, and has a plain pg_dump write the same snapshot.
 * @param url of the database that the run backs up.
 * @returns whether there was time for it: a run that ends earlier takes its snapshot along.
 * @throws Error when the server does not take part to the end.
 */
export async function dumpSameSnapshot(
  binDir: string,
  url: string,
  run: PgkeepProcess,
  file: string,
): Promise<boolean> {
  let snapshot: string | undefined;
  let isOver = false;
  run.ended.then(() => {
    isOver = true;
  });
  while (snapshot === undefined) {
    if (isOver) return false;
    snapshot = descendants(run.pid)
      .map(child => /--snapshot[= ](\S+)/.exec(child.command)?.[1])
      .find(Boolean);
    await sleep(5);
  }
  const holder = new pg.Client(url);
  // When the server goes away, the statement that is under way fails too.
  holder.on('error', () => {});
  await holder.connect();
  try {
    await holder.query('BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY');
    const isHeld = await holder.query(`SET TRANSACTION SNAPSHOT ${pg.escapeLiteral(snapshot)}`).then(
      () => true,
      // The run has ended meanwhile.
      () => false,
    );
    if (!isHeld) return false;
    const { rows } = await holder.query<{ id: string }>('SELECT pg_export_snapshot() AS id');
    await execute(join(binDir, 'pg_dump'), [
      ...['-Fc', '-Z1', `--snapshot=${rows[0]?.id}`, '-f', file, '-d', url],
    ]);
    return true;
  } finally {
    await holder.end();
  }
}

/**
 * Compares a restored database with a dump, row for row, and drops it.
 * @returns the number of rows.
 * @throws Error naming the differences.
 */
export async function requireSameAsDump(server: Server, restored: string, file: string): Promise<number> {
  const reference = await server.createDatabase(`plain_${restored}`);
  await execute(join(server.binDir, 'pg_restore'), ['-d', server.url(reference), file]);
  const { differences, rows } = await compareDatabases(server.url(reference), server.url(restored), {
    binDir: server.binDir,
    // A sequence has one state, whatever the snapshot: it moves on while both are read.
    ignore: [/^state of sequence/],
  });
  if (differences.length > 0) throw new Error(`${restored} is not what it was: ${differences.join('; ')}`);
  for (const database of [reference, restored]) await server.dropDatabase(database);
  return rows;
}
