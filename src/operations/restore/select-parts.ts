// Which parts of a backup are restored or exported: the tables asked for and the entries of the schema archive that
// belong to them, less what a database has already or the backup cannot give.
import { PgkeepError } from '../../base/errors.ts';
import type { ArchiveEntry } from '../../postgres/archive-contents.ts';
import { leaveOutDangling, selectTables } from '../../postgres/archive-selection.ts';
import { quoteQualified } from '../../postgres/identifiers.ts';
import { matchesTable } from '../../postgres/pattern.ts';
import {
  type LeftOutEntry,
  leftOutLabel,
  type Manifest,
  type TableEntry,
} from '../../repository/manifest.ts';
import { narrowing, narrowingText } from '../../repository/series.ts';

export interface SelectedParts {
  entries: ArchiveEntry[];
  tables: TableEntry[];
}

/** Of what an incomplete backup lacks, so much is named. */
const namedMissing = 20;
const dataKinds = new Set(['MATERIALIZED VIEW DATA', 'BLOB', 'BLOBS', 'BLOB METADATA']);
const ofLargeObject = /^(COMMENT|ACL|SECURITY LABEL) - LARGE OBJECTS? /;

/**
 * Narrows a backup to the tables asked for, with what belongs to them.
 * @param all every entry of the archive.
 * @param patterns of tables, as in pg_dump; none is everything.
 * @param warn told what is left out because it needs a table that is not there.
 * @throws PgkeepError TABLE_NOT_IN_BACKUP, and TARGET_UNFIT for a partition that cannot be had alone.
 */
export function selectParts(
  manifest: Manifest,
  all: ArchiveEntry[],
  patterns: readonly string[],
  warn: (message: string) => void,
): SelectedParts {
  const complete = completeEntries(manifest, all, warn);
  if (patterns.length === 0) return { entries: complete, tables: manifest.tables };
  const candidates = [...manifest.tables, ...manifest.partitioned];
  const unmatched = patterns.filter(
    pattern => !candidates.some(table => matchesTable(pattern, table.schema, table.name)),
  );
  if (unmatched.length > 0) {
    throw new PgkeepError(
      'TABLE_NOT_IN_BACKUP',
      `no table in ${manifest.backup} matches ${unmatched.join(', ')}`,
      {
        hint: `see its tables with: pgkeep show ${manifest.backup}`,
      },
    );
  }
  const oids = new Set(
    candidates
      .filter(table => patterns.some(pattern => matchesTable(pattern, table.schema, table.name)))
      .map(table => table.oid),
  );
  // A partitioned table comes with its partitions, at any depth.
  const partitioned = new Set(manifest.partitioned.map(table => table.oid));
  for (let before = -1; before !== oids.size; ) {
    before = oids.size;
    for (const table of candidates) {
      if (table.parents.some(parent => partitioned.has(parent) && oids.has(parent))) oids.add(table.oid);
    }
  }
  const selection = selectTables(complete, oids);
  for (const entry of selection.entries) {
    if (entry.kind === 'TABLE' && !oids.has(entry.oid))
      warn(`comes along without its rows, as a parent: ${entry.text}`);
  }
  const tables = manifest.tables.filter(table => oids.has(table.oid));
  requireRoots(tables, manifest, oids);
  const selected = new Set(
    candidates.filter(({ oid }) => oids.has(oid)).map(({ schema, name }) => `${schema} ${name} `),
  );
  for (const entry of selection.leftOut) {
    // A foreign key of another table to one of these has gone with that table, which nobody misses.
    if (entry.kind === 'FK CONSTRAINT' && !beginsWithOne(entry.text.slice(`${entry.kind} `.length), selected))
      continue;
    warn(`left out, as it needs a table that is not restored: ${entry.text}`);
  }
  return { entries: selection.entries, tables };
}

/** Whether a text begins with one of several that end with a space: names in it are not quoted, and may hold spaces. */
function beginsWithOne(text: string, beginnings: ReadonlySet<string>): boolean {
  return text.matchAll(/ /g).some(({ index }) => beginnings.has(text.slice(0, index + 1)));
}

/** Without entries for what a new database has already, or what may not be set there. */
export function restorableEntries(
  entries: readonly ArchiveEntry[],
  manifest: Manifest,
  { schemaOnly, commentOnExtensions }: { schemaOnly: boolean; commentOnExtensions: boolean },
): ArchiveEntry[] {
  return entries.filter(({ kind, text }) => {
    // Large objects and the contents of materialized views are data to us, but not always to pg_restore.
    if (schemaOnly && (dataKinds.has(kind) || ofLargeObject.test(text))) return false;
    // pg_dump would create it when --schema names it; otherwise the entry but sets its owner.
    if (text.startsWith('SCHEMA - public ') && manifest.options.schemas.length > 0) return false;
    // Without a superuser, extensions may belong to the provider: their comments come with them.
    return commentOnExtensions || !text.startsWith('COMMENT - EXTENSION ');
  });
}

/** Schemas to create first: a backup of single tables lacks those they are in. */
export function missingSchemas(manifest: Manifest): string[] {
  if (manifest.options.tables.length === 0) return [];
  return [...new Set([...manifest.tables, ...manifest.partitioned].map(table => table.schema))];
}

/** The archive without what refers to tables that the backup left out. */
function completeEntries(
  manifest: Manifest,
  all: ArchiveEntry[],
  warn: (message: string) => void,
): ArchiveEntry[] {
  const { schemas, excludeSchemas, tables, excludeTables } = manifest.options;
  const missing = manifest.leftOut.filter(entry => entry.missing);
  const narrowed = narrowing(manifest.options);
  if (narrowed !== undefined)
    warn(`${manifest.backup} holds a part of its database: it was made with ${narrowingText(narrowed)}`);
  if (missing.length > 0) warn(describeMissing(manifest.backup, missing));
  const hasAll =
    missing.length === 0 &&
    [schemas, excludeSchemas, tables, excludeTables].every(patterns => patterns.length === 0);
  if (hasAll) return all;
  const unrestorable = new Set(manifest.archive.unrestorable);
  const { entries, leftOut } = leaveOutDangling(all.filter(entry => !unrestorable.has(entry.dumpId)));
  for (const entry of leftOut) {
    warn(`left out, as it needs a table that is not in the backup: ${entry.text}`);
  }
  return entries;
}

function describeMissing(backup: string, missing: readonly LeftOutEntry[]): string {
  const named = missing.slice(0, namedMissing).map(entry => `${leftOutLabel(entry)} (${entry.reason})`);
  const more = missing.length > named.length ? [`and ${missing.length - named.length} more`] : [];
  return `${backup} is incomplete: it lacks ${[...named, ...more].join(', ')}`;
}

/** Rows that are loaded through the root of a partitioned table need all of it. */
function requireRoots(tables: readonly TableEntry[], manifest: Manifest, oids: ReadonlySet<string>): void {
  const roots = new Map(manifest.partitioned.map(root => [quoteQualified(root.schema, root.name), root.oid]));
  for (const { schema, name, loadVia } of tables) {
    if (loadVia === undefined) continue;
    const root = roots.get(quoteQualified(loadVia.schema, loadVia.name));
    if (root !== undefined && oids.has(root)) continue;
    throw new PgkeepError(
      'TARGET_UNFIT',
      `${schema}.${name} is a partition by hash of an enum and cannot be restored alone`,
      {
        hint: `restore all of ${loadVia.schema}.${loadVia.name}: which partition a row is in differs between databases`,
      },
    );
  }
}
