// The rows of one table as a COPY block for psql, counted on the way.
import { PgkeepError } from '../../base/errors.ts';
import type { LoadTask } from '../restore/load-plan.ts';
import type { SegmentReader } from '../restore/segment-reader.ts';
import { readRows } from '../row-text.ts';
import type { ScriptOutput } from './script-output.ts';

const lineFeed = 0x0a;
const endOfRows = Buffer.from('\n\\.\n');

/**
 * Writes a block. COPY text has no line that is `\.` alone: a backslash in a value is doubled.
 * @throws PgkeepError RESTORE_INCOMPLETE when the rows are not those that the manifest counts, or cannot be text of COPY.
 */
export async function writeRows(
  output: ScriptOutput,
  reader: SegmentReader,
  task: LoadTask,
  onBytes: (bytes: number) => void,
): Promise<void> {
  await output.write(`${task.sql};\n`);
  let bytes = 0;
  let rows = 0;
  // As if a line had ended before the first row; never longer than the mark it is searched for.
  let before: Buffer = Buffer.from('\n');
  for await (const piece of readRows(reader, task.text)) {
    const seam = Buffer.concat([before, piece.subarray(0, endOfRows.length)]);
    if (seam.includes(endOfRows) || piece.includes(endOfRows)) {
      throw incomplete(task, 'has a line that psql would take for the end of its rows');
    }
    before = Buffer.from(
      Buffer.concat([before, piece.subarray(-endOfRows.length)]).subarray(1 - endOfRows.length),
    );
    for (let at = piece.indexOf(lineFeed); at >= 0; at = piece.indexOf(lineFeed, at + 1)) rows += 1;
    bytes += piece.length;
    await output.write(piece);
    onBytes(piece.length);
  }
  if (rows !== task.rows || before.at(-1) !== lineFeed) {
    throw incomplete(task, `has ${rows} rows where the manifest counts ${task.rows}`);
  }
  // Lines that are gone were read as well.
  onBytes(task.bytes - bytes);
  await output.write('\\.\n\n');
}

function incomplete(task: LoadTask, what: string): PgkeepError {
  return new PgkeepError('RESTORE_INCOMPLETE', `${task.into} ${what}`, {
    hint: 'look at the backup with: pgkeep verify',
  });
}
