// Whether the list of a backup's tables fits into its manifest, which readers take up to a limit: known before hours of
// reading rather than after.
import { PgkeepError } from '../../base/errors.ts';
import { formatCount } from '../../base/units.ts';
import type { Relation } from '../../postgres/catalog.ts';
import { maxPlainBytes } from '../../repository/manifest.ts';

/** Of a small table: what its entry has beside names and columns. */
const bytesOfEntry = 400;

/** @throws PgkeepError OPTION_INVALID when there are too many tables. */
export function requireFit(tables: readonly Pick<Relation, 'schema' | 'name' | 'columns'>[]): void {
  let bytes = 0;
  for (const { schema, name, columns } of tables) {
    bytes += bytesOfEntry + Buffer.byteLength(JSON.stringify([schema, name, columns]));
  }
  if (bytes <= maxPlainBytes) return;
  throw new PgkeepError(
    'OPTION_INVALID',
    `the backup would be of ${formatCount(tables.length)} tables with rows, and the list of so many does not fit into its manifest`,
    { hint: 'back up some schemas at a time, with --schema' },
  );
}
