// Sends the rows of one COPY and compares the server's row count with the backup's.
import { PgkeepError } from '../../base/errors.ts';
import type { WireConnection } from '../../postgres/wire.ts';
import { readRows } from '../row-text.ts';
import type { LoadTask } from './load-plan.ts';
import type { SegmentReader } from './segment-reader.ts';

/** What makes COPY text mean what it meant in the source, whatever the role's and database's settings. */
export const loadSettings = `
  SET DateStyle = ISO; SET IntervalStyle = postgres; SET lc_monetary = 'C'; SET TimeZone = 'UTC'; SET search_path = '';
  SET xmloption = content; SET array_nulls = on; SET row_security = off; SET synchronous_commit = off`;

/**
 * Sends one COPY.
 * @throws PgkeepError RESTORE_INCOMPLETE when the server took another number of rows than the backup holds.
 */
export async function load(wire: WireConnection, reader: SegmentReader, task: LoadTask): Promise<void> {
  const copy = await wire.copyIn(task.sql, `loading table ${task.into}`);
  try {
    for await (const bytes of readRows(reader, task.text)) await copy.write(bytes);
  } catch (error) {
    await copy.fail('the backup could not be read');
    throw error;
  }
  const rows = await copy.end();
  if (rows !== task.rows) {
    throw new PgkeepError(
      'RESTORE_INCOMPLETE',
      `${task.into} took ${rows} rows where the backup holds ${task.rows}`,
      {
        hint: 'look for triggers or rules on the table that drop rows',
      },
    );
  }
}
