// Compares what was stored with what the catalog said there is: every relation is in the backup, or listed with the
// reason why not, or the backup fails.
import { PgkeepError } from '../../base/errors.ts';
import { formatQuantity } from '../../base/units.ts';
import type { ArchiveEntry } from '../../postgres/archive-contents.ts';
import { entriesOf } from '../../postgres/archive-selection.ts';
import { type Relation, relationKindNames, type Selection } from '../../postgres/catalog.ts';
import type { Dependent } from '../../postgres/unreadable.ts';
import type { LeftOutEntry } from '../../repository/manifest.ts';

export interface ReconcileOptions {
  relations: readonly Relation[];
  archive: readonly ArchiveEntry[];
  selection: Selection;
  schemaOnly: boolean;
  isStandby: boolean;
  /** Oids of the tables whose rows were read. */
  read: ReadonlySet<string>;
  /** How many large objects the database has. */
  largeObjects: number;
  /** How many of them were read; `undefined` when that was left to pg_dump, or none were to be. */
  largeObjectsRead?: number | undefined;
  /** Why they are all missing, when the role may not read them. */
  largeObjectsMissing: string | undefined;
  /** What cannot be restored, as it needs what the role may not read. */
  dependents: readonly Dependent[];
}

export interface Reconciled {
  /** The relations whose definition or rows are not in the backup, and what needs those, each with the reason. */
  leftOut: LeftOutEntry[];
  /** Dump ids of the archive's entries that a restore leaves out. */
  unrestorable: number[];
}

/** Why the rows of a selected table are not read by us; `undefined` when they are. */
export function reasonWithoutRows(
  relation: Relation,
  options: { schemaOnly: boolean; isStandby: boolean },
): string | undefined {
  if (options.schemaOnly) return 'its rows are left out by --schema-only';
  if (!relation.isDataSelected) return 'its rows are left out by --exclude-table-data';
  if (relation.missing !== null) return relation.missing.reason;
  if (relation.isUnlogged && options.isStandby)
    return 'it is unlogged, and a standby has no rows of unlogged tables';
  return undefined;
}

/** @throws PgkeepError BACKUP_INCOMPLETE naming every relation that is missing without a reason. */
export function reconcile(options: ReconcileOptions): Reconciled {
  const leftOut: LeftOutEntry[] = [];
  const unexplained: string[] = [];
  const defined = new Set<string>();
  const withData = new Set<string>();
  const byId = new Map(options.archive.map(entry => [entry.dumpId, entry]));
  for (const entry of options.archive) {
    if (entry.catalogOid === pgClass) defined.add(entry.oid);
    if (entry.kind === 'TABLE DATA') withData.add(entry.oid);
    // The value of a sequence has no oid of its own; it depends on the sequence.
    if (entry.kind === 'SEQUENCE SET')
      for (const id of entry.dependsOn) withData.add(byId.get(id)?.oid ?? '');
  }
  for (const relation of options.relations) {
    const label = `${relation.schema}.${relation.name}`;
    const entry = { schema: relation.schema, name: relation.name, kind: relationKindNames[relation.kind] };
    if (relation.extension !== null) {
      if (relation.missing !== null) {
        leftOut.push({ ...entry, reason: relation.missing.reason, missing: true });
        continue;
      }
      if (!withData.has(relation.oid)) {
        leftOut.push({ ...entry, reason: `it belongs to the extension ${relation.extension}` });
      }
      continue;
    }
    if (!relation.isSelected) {
      if (defined.has(relation.oid)) unexplained.push(`${label} is in the archive although it was left out`);
      leftOut.push({ ...entry, reason: 'it is left out by the options' });
      continue;
    }
    if (relation.missing?.lacks === 'definition') {
      if (defined.has(relation.oid)) unexplained.push(`${label} is in the archive although it was left out`);
      leftOut.push({ ...entry, reason: relation.missing.reason, missing: true });
      continue;
    }
    if (!defined.has(relation.oid)) {
      unexplained.push(`the definition of ${entry.kind} ${label} is not in the archive`);
      continue;
    }
    const problem = checkRows(relation, options, withData);
    if (problem?.isExplained) {
      const isMissing = problem.reason === relation.missing?.reason;
      leftOut.push({ ...entry, reason: problem.reason, ...(isMissing && { missing: true }) });
    } else if (problem !== undefined) unexplained.push(problem.reason);
  }
  if (options.largeObjects > 0 && !options.archive.some(entry => largeObjectKinds.has(entry.kind))) {
    const chosen = reasonWithoutLargeObjects(options);
    const entry = {
      schema: '',
      name: formatQuantity(options.largeObjects, 'large object'),
      kind: 'large object',
    };
    if (chosen !== undefined) leftOut.push({ ...entry, reason: chosen });
    else if (options.largeObjectsMissing !== undefined)
      leftOut.push({ ...entry, reason: options.largeObjectsMissing, missing: true });
    else unexplained.push('the large objects are not in the archive');
  }
  const { largeObjects, largeObjectsRead = largeObjects } = options;
  if (largeObjectsRead !== largeObjects)
    unexplained.push(`${largeObjectsRead} of ${largeObjects} large objects were read`);
  for (const dependent of options.dependents) {
    if (partsOfTables.has(dependent.kind) || entriesOf(options.archive, [dependent]).length === 0) continue;
    const { identity: name, kind, reason } = dependent;
    leftOut.push({ schema: '', name, kind, reason, missing: true });
  }
  if (unexplained.length > 0) {
    throw new PgkeepError(
      'BACKUP_INCOMPLETE',
      `the backup does not match the catalog: ${unexplained.slice(0, 20).join('; ')}`,
      {
        hint: 'run again; when it happens again, report it with this message',
        context: { problems: unexplained },
      },
    );
  }
  return { leftOut, unrestorable: entriesOf(options.archive, options.dependents).map(entry => entry.dumpId) };
}

/** What goes with its table without a word, whether or not this version of pg_dump thinks of that. */
const partsOfTables = new Set(['publication relation', 'statistics object']);

/** Why large objects are not taken; `undefined` when they are. */
export function reasonWithoutLargeObjects(options: {
  selection: Selection;
  schemaOnly: boolean;
}): string | undefined {
  if (options.schemaOnly) return 'left out by --schema-only';
  const { schemas, tables } = options.selection;
  return schemas.length + tables.length > 0
    ? 'left out, as by pg_dump, when --schema or --table is given'
    : undefined;
}

/** What the archives of pg_dump's versions call large objects. */
const largeObjectKinds = new Set(['BLOB', 'BLOBS', 'BLOB METADATA', 'LARGE OBJECT']);

/** The oid of the catalog pg_class. */
const pgClass = '1259';

function checkRows(
  relation: Relation,
  options: ReconcileOptions,
  withData: ReadonlySet<string>,
): { isExplained: boolean; reason: string } | undefined {
  const label = `${relation.schema}.${relation.name}`;
  switch (relation.kind) {
    case 'r': {
      const reason = reasonWithoutRows(relation, options);
      if (reason !== undefined) return { isExplained: true, reason };
      if (withData.has(relation.oid))
        return { isExplained: false, reason: `rows of ${label} are in the archive as well` };
      return options.read.has(relation.oid)
        ? undefined
        : { isExplained: false, reason: `the rows of ${label} were not read` };
    }
    case 'S':
      if (options.schemaOnly) return { isExplained: true, reason: 'its value is left out by --schema-only' };
      if (!relation.isDataSelected)
        return { isExplained: true, reason: 'its value is left out by --exclude-table-data' };
      if (relation.missing !== null) return { isExplained: true, reason: relation.missing.reason };
      if (relation.isUnlogged && options.isStandby)
        return {
          isExplained: true,
          reason: 'it is unlogged, and a standby has no values of unlogged sequences',
        };
      return withData.has(relation.oid)
        ? undefined
        : { isExplained: false, reason: `the value of sequence ${label} is not in the archive` };
    case 'f':
      return { isExplained: true, reason: 'the rows of a foreign table are on another server' };
    case 'p':
    case 'v':
    case 'm':
      // No rows of their own, or rows that REFRESH makes again.
      return undefined;
  }
}
