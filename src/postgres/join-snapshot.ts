// Joining the snapshot that another session has exported, and knowing when that session is gone.
import { PgkeepError } from '../base/errors.ts';
import { quoteLiteral } from './identifiers.ts';

/** What SET TRANSACTION SNAPSHOT fails with, by version, when its file is gone or the transaction that exported it has ended. */
const snapshotGone: ReadonlySet<unknown> = new Set(['22023', '42704', '55000', '58P01']);

/**
 * Begins a transaction that sees what the snapshot does. Such a transaction holds no lock yet, and may be ended and begun again for
 * as long as the one that exported the snapshot lasts.
 * @param run has the session run statements, and translates what these fail with.
 * @throws PgkeepError DATABASE_CONNECTION_LOST when who exported the snapshot is gone ({@link isSnapshotLost}); else what `run` throws.
 * Then, too, a transaction has begun.
 */
export async function joinSnapshot(
  run: (sql: string, doing: string) => Promise<unknown>,
  snapshotId: string,
  lockTimeoutMs: number,
): Promise<void> {
  try {
    await run(
      `BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT ${quoteLiteral(snapshotId)}; SET LOCAL lock_timeout = ${lockTimeoutMs}`,
      'joining the snapshot',
    );
  } catch (error) {
    if (!(error instanceof PgkeepError) || !snapshotGone.has(error.context.sqlstate)) throw error;
    throw new PgkeepError(
      'DATABASE_CONNECTION_LOST',
      'the connection that holds the snapshot of the backup was lost',
      {
        hint: 'see the server log for why it ended, and run again: what was stored is used again; a load balancer must lead all connections to the same server',
        context: error.context,
        cause: error,
      },
    );
  }
}

/** Whether the error says that a snapshot cannot be joined any more; it may have crossed a thread boundary. */
export function isSnapshotLost(error: unknown): boolean {
  return (
    error instanceof PgkeepError &&
    error.code === 'DATABASE_CONNECTION_LOST' &&
    snapshotGone.has(error.context.sqlstate)
  );
}
