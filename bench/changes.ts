// What happens to the data between two backups, the same for every tool. Made from hashes of a seed and of row
// numbers: the same seed changes the same rows in the same way.

import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { psql, type Server } from '../test/support/postgres-server.ts';
import { sources } from './steps.ts';

/** pgbench, by two sessions as fast as they go. */
export async function runPgbench(server: Server, seconds: number): Promise<void> {
  const login = ['-h', server.socketDir, '-p', String(server.port), '-U', 'postgres'];
  const args = ['-n', '-c', '2', '-j', '1', '-T', String(seconds), ...login, sources.data];
  await promisify(execFile)(join(server.binDir, 'pgbench'), args);
}

/** 0.1 % random updates and 1 % new rows of the large table, and a minute of pgbench (at full size). */
export async function changeScattered(server: Server, seed: number, pgbenchSeconds: number): Promise<void> {
  await psql(server, sources.data, `${updateEvents(seed, 1000)}; ${insertEvents(seed, 100)}`);
  await runPgbench(server, pgbenchSeconds);
}

/** 0.1 % of the large table's rows, one after the other in time: in place, as its order is that of time. */
export async function changeClustered(server: Server, seed: number): Promise<void> {
  await psql(
    server,
    sources.data,
    `UPDATE event SET amount = coalesce(amount, 0) + 1, note = 'settled ' || id % 97
     FROM (SELECT max(id) AS last FROM event) AS t
     WHERE id BETWEEN last * ${seed % 10} / 11 AND last * ${seed % 10} / 11 + last / 1000`,
  );
}

/** A day of a shop: random and recent rows change, some go, new ones come, pgbench; vacuumed in the night. */
export async function changeDay(server: Server, seed: number, pgbenchSeconds: number): Promise<void> {
  const statements = [
    updateEvents(seed, 2000),
    `UPDATE event SET note = 'shipped ' || md5(note || ${seed}) WHERE id > (SELECT max(id) * 0.98 FROM event) AND id % 20 = ${seed % 20}`,
    `DELETE FROM event WHERE abs(hashint8extended(id, ${seed} + 7) % 2000) = 0`,
    insertEvents(seed, 200),
    `UPDATE customer SET preferences = preferences || jsonb_build_object('visited', ${seed}) WHERE abs(hashint8extended(id, ${seed}) % 50) = 0`,
    `UPDATE document SET body = body || ' revision ${seed}' WHERE abs(hashint8extended(id, ${seed}) % 100) = 0`,
    `UPDATE setting_${String(1 + (seed % 200)).padStart(3, '0')} SET changed_at = changed_at + interval '1 day'`,
  ];
  await psql(server, sources.data, statements.join(';\n'));
  await runPgbench(server, pgbenchSeconds);
  await psql(server, sources.data, 'VACUUM (ANALYZE)');
}

/** A quarter of an hour of little traffic: 0.02 % random updates of the large table, found by their keys. */
export async function changeLittle(server: Server, seed: number): Promise<void> {
  await psql(
    server,
    sources.data,
    `WITH t AS (SELECT max(id) AS last FROM event), chosen AS (
       SELECT DISTINCT 1 + abs(hashint8extended(i, ${seed}) % last) AS id FROM t, generate_series(1, last / 5000) AS i)
     UPDATE event SET note = 'seen ' || md5(event.id || '/${seed}') FROM chosen WHERE event.id = chosen.id`,
  );
}

/** One row of so many. */
function updateEvents(seed: number, oneOf: number): string {
  return `UPDATE event SET amount = coalesce(amount, 0) + 1, note = 'changed ' || md5(id || '/${seed}')
    WHERE abs(hashint8extended(id, ${seed}) % ${oneOf}) = 0`;
}

/** As many new rows as one of so many, like those that are there. */
function insertEvents(seed: number, oneOf: number): string {
  return `INSERT INTO event (customer_id, kind, occurred_at, request, amount, payload, note)
    SELECT customer_id, kind, occurred_at + ${seed} * interval '1009 minutes', md5(id || '/${seed}')::uuid, amount,
           payload || jsonb_build_object('ms', hashint8extended(id, ${seed}) & 1023), note
    FROM event WHERE abs(hashint8extended(id, ${seed} + 1) % ${oneOf}) = 0`;
}
