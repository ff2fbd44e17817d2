// Picks from a pg_dump archive what belongs to some of its tables: their definitions with everything these need
// (schemas, types, functions, sequences), and their indexes, constraints, triggers, defaults, privileges, comments.
import type { ArchiveEntry } from './archive-contents.ts';

/** Entries that go with the table (or the index, constraint, sequence) they depend on. */
const belonging = new Set([
  'TABLE DATA',
  'TABLE ATTACH',
  'INDEX ATTACH',
  'SEQUENCE SET',
  'SEQUENCE OWNED BY',
  'SEQUENCE',
  'DEFAULT',
  'CONSTRAINT',
  'CHECK CONSTRAINT',
  'FK CONSTRAINT',
  'INDEX',
  'TRIGGER',
  'RULE',
  'POLICY',
  'ROW SECURITY',
  'STATISTICS',
  'COMMENT',
  'ACL',
  'SECURITY LABEL',
]);
/** Entries that say something about any other. */
const describing = new Set(['COMMENT', 'ACL', 'SECURITY LABEL']);
const owning = new Set(['TABLE', 'SEQUENCE', 'INDEX', 'CONSTRAINT']);
/** What may be taken along because something selected needs it; another table never is. */
const tableLike = new Set(['TABLE', 'VIEW', 'MATERIALIZED VIEW', 'FOREIGN TABLE']);

export interface ArchiveSelection {
  entries: ArchiveEntry[];
  /** Entries of the selected tables that need a table that is not selected, such as foreign keys. */
  leftOut: ArchiveEntry[];
}

/** @param tableOids pg_class oids of the tables in the source. */
export function selectTables(
  entries: readonly ArchiveEntry[],
  tableOids: ReadonlySet<string>,
): ArchiveSelection {
  const byId = new Map(entries.map(entry => [entry.dumpId, entry]));
  const selected = new Set<number>();
  const leftOut = new Set<ArchiveEntry>();

  /** What an entry needs and lacks; ids that are not in the archive are its section boundaries. */
  const missingFor = (entry: ArchiveEntry): ArchiveEntry[] =>
    entry.dependsOn.flatMap(id => byId.get(id) ?? []).filter(needed => !selected.has(needed.dumpId));
  const addWithNeeds = (entry: ArchiveEntry): boolean => {
    const added: ArchiveEntry[] = [];
    const visit = (candidate: ArchiveEntry, isRoot: boolean): boolean => {
      if (selected.has(candidate.dumpId)) return true;
      if (!isRoot && tableLike.has(candidate.kind)) return false;
      selected.add(candidate.dumpId);
      added.push(candidate);
      return missingFor(candidate).every(needed => visit(needed, false));
    };
    if (visit(entry, true)) return true;
    for (const one of added) selected.delete(one.dumpId);
    return false;
  };

  for (const entry of entries) {
    if (entry.kind !== 'TABLE' || !tableOids.has(entry.oid)) continue;
    // A child that inherits needs its parent, which is a table; it comes along as an empty one.
    selected.add(entry.dumpId);
    for (const needed of missingFor(entry)) addParents(needed, byId, selected);
  }
  // Until nothing more belongs: an index brings its comment, a sequence its value.
  for (let before = -1; before !== selected.size; ) {
    before = selected.size;
    for (const entry of entries) {
      if (selected.has(entry.dumpId) || !belonging.has(entry.kind)) continue;
      if (!entry.dependsOn.some(id => selected.has(id) && anchors(byId.get(id), entry))) continue;
      if (addWithNeeds(entry)) leftOut.delete(entry);
      else leftOut.add(entry);
    }
  }
  return { entries: entries.filter(entry => selected.has(entry.dumpId)), leftOut: [...leftOut] };
}

/**
 * Leaves out what the archive cannot restore, because it was made of single tables or without some: foreign keys
 * whose referenced table is not in it, and partitions (and their indexes) whose parent is not.
 */
export function leaveOutDangling(entries: readonly ArchiveEntry[]): ArchiveSelection {
  const byId = new Map(entries.map(entry => [entry.dumpId, entry]));
  const isDangling = (entry: ArchiveEntry): boolean => {
    // In place of what is not in the archive it depends on what that would need: on a schema, never on a table.
    const kinds = new Map<number, string>();
    for (const id of entry.dependsOn) kinds.set(id, byId.get(id)?.kind ?? '');
    const count = (...wanted: string[]) => [...kinds.values()].filter(kind => wanted.includes(kind)).length;
    switch (entry.kind) {
      case 'FK CONSTRAINT':
        return count('INDEX', 'CONSTRAINT') === 0;
      case 'TABLE ATTACH':
        return count('TABLE', 'FOREIGN TABLE') < 2;
      case 'INDEX ATTACH':
        return count('INDEX', 'CONSTRAINT') < 2;
      default:
        return false;
    }
  };
  const leftOut = entries.filter(isDangling);
  const gone = new Set(leftOut.map(entry => entry.dumpId));
  const kept = entries.filter(
    entry =>
      !gone.has(entry.dumpId) && !(describing.has(entry.kind) && entry.dependsOn.some(id => gone.has(id))),
  );
  return { entries: kept, leftOut };
}

/** The entries of objects given by their addresses, and what merely belongs to those: comments, privileges, data. */
export function entriesOf(
  entries: readonly ArchiveEntry[],
  objects: readonly { catalogOid: string; oid: string }[],
): ArchiveEntry[] {
  const addresses = new Set(objects.map(({ catalogOid, oid }) => `${catalogOid} ${oid}`));
  const found = new Set(
    entries.filter(({ catalogOid, oid }) => addresses.has(`${catalogOid} ${oid}`)).map(entry => entry.dumpId),
  );
  for (let before = -1; before !== found.size; ) {
    before = found.size;
    for (const { dumpId, catalogOid, dependsOn } of entries)
      if (catalogOid === '0' && dependsOn.some(id => found.has(id))) found.add(dumpId);
  }
  return entries.filter(entry => found.has(entry.dumpId));
}

function addParents(
  entry: ArchiveEntry,
  byId: ReadonlyMap<number, ArchiveEntry>,
  selected: Set<number>,
): void {
  if (selected.has(entry.dumpId)) return;
  selected.add(entry.dumpId);
  for (const id of entry.dependsOn) {
    const needed = byId.get(id);
    if (needed !== undefined) addParents(needed, byId, selected);
  }
}

/** Whether something may belong to this entry: comments and privileges belong to anything, the rest to tables and their parts. */
function anchors(entry: ArchiveEntry | undefined, candidate: ArchiveEntry): boolean {
  if (entry === undefined) return false;
  if (describing.has(candidate.kind)) return true;
  return owning.has(entry.kind);
}
