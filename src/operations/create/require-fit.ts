// Whether the list of a backup's tables fits into its manifest, which readers take up to a limit: known before hours of
// reading rather than after.
import { PgkeepError } from '../../base/errors.ts';
import { formatCount } from '../../base/units.ts';
import type { Relation } from '../../postgres/catalog.ts';
import { costOfJson, maxJsonCost } from '../../repository/checked-json.ts';
import {
  inlineRanges,
  maxPlainBytes,
  type RangeEntry,
  type Slice,
  type TableEntry,
} from '../../repository/manifest.ts';
import { type CopyPlan, keepsCtids } from './copy-plan.ts';

/** What readers limit. */
interface Size {
  bytes: number;
  cost: number;
}

/**
 * @param tables those of the plan, in its order.
 * @throws PgkeepError OPTION_INVALID when there are too many tables, or too many columns.
 */
export function requireFit(
  tables: readonly Pick<Relation, 'schema' | 'name' | 'columns'>[],
  plan: CopyPlan,
): void {
  const total: Size = { bytes: 0, cost: 0 };
  // Most tables are alike but for their names.
  const sizes = new Map<string, Size>();
  for (const [table, { schema, name, columns }] of tables.entries()) {
    const entry = plannedEntry(plan, table);
    const like = `${entry.source !== undefined} ${entry.ranges?.map(({ ctids }) => ctids !== undefined)}`;
    const size = sizes.get(like) ?? sizeOf(entry);
    sizes.set(like, size);
    total.bytes += size.bytes + Buffer.byteLength(JSON.stringify([schema, name, columns]));
    // A comma follows each.
    total.cost += size.cost + columns.length;
  }
  if (total.bytes <= maxPlainBytes && total.cost <= maxJsonCost) return;
  throw new PgkeepError(
    'OPTION_INVALID',
    `the backup would be of ${formatCount(tables.length)} tables with rows, and the list of so many, with their columns, does not fit into its manifest`,
    { hint: 'back up some schemas at a time, with --schema' },
  );
}

/** About what the manifest will say of a table, a small one as most are where there are many; without its names. */
function plannedEntry(plan: CopyPlan, table: number): TableEntry {
  const planned = plan.tables[table];
  const ranges = planned?.ranges ?? 0;
  const isInline = ranges <= inlineRanges;
  return {
    oid: '1234567',
    schema: '',
    name: '',
    parents: [],
    columns: [],
    rows: 123,
    bytes: 12_345,
    rangePages: planned?.rangePages ?? 0,
    ...(planned?.isTraceable && { source: { fileNode: '1234567', context: 'f'.repeat(64) } }),
    ...(isInline
      ? {
          ranges: Array.from({ length: ranges }, (_, range) =>
            plannedRange(keepsCtids(plan, { table, range })),
          ),
        }
      : { index: [slice] }),
  };
}

function plannedRange(hasCtids: boolean): RangeEntry {
  return { rows: 123, bytes: 12_345, slices: [slice], ...(hasCtids && { ctids: [slice] }) };
}

const slice: Slice = {
  id: 'f'.repeat(64),
  key: 0,
  plainBytes: 4_123_456,
  storedBytes: 1_234_567,
  offset: 1_234_567,
  bytes: 12_345,
};

function sizeOf(entry: TableEntry): Size {
  // A comma follows it.
  const text = Buffer.from(`${JSON.stringify(entry)},`);
  return { bytes: text.length, cost: costOfJson(text) };
}
