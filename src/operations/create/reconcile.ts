// Compares what was stored with what the catalog said there is: every relation is in the backup, or listed with the
// reason why not, or the backup fails.
import { PgkeepError } from '../../base/errors.ts';
import type { ArchiveEntry } from '../../postgres/archive-contents.ts';
import { type Relation, relationKindNames, type Selection } from '../../postgres/catalog.ts';
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
}

/** Why the rows of a selected table are not read by us; `undefined` when they are. */
export function reasonWithoutRows(
  relation: Relation,
  options: { schemaOnly: boolean; isStandby: boolean },
): string | undefined {
  if (options.schemaOnly) return 'its rows are left out by --schema-only';
  if (!relation.isDataSelected) return 'its rows are left out by --exclude-table-data';
  if (relation.isUnlogged && options.isStandby)
    return 'it is unlogged, and a standby has no rows of unlogged tables';
  return undefined;
}

/**
 * @returns the relations whose definition or rows are not in the backup, each with the reason.
 * @throws PgkeepError BACKUP_INCOMPLETE naming every relation that is missing without a reason.
 */
export function reconcile(options: ReconcileOptions): LeftOutEntry[] {
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
    if (!defined.has(relation.oid)) {
      unexplained.push(`the definition of ${entry.kind} ${label} is not in the archive`);
      continue;
    }
    const problem = checkRows(relation, options, withData);
    if (problem?.isExplained) leftOut.push({ ...entry, reason: problem.reason });
    else if (problem !== undefined) unexplained.push(problem.reason);
  }
  if (options.largeObjects > 0 && !options.archive.some(entry => largeObjectKinds.has(entry.kind))) {
    const reason = reasonWithoutLargeObjects(options);
    if (reason === undefined) unexplained.push('the large objects are not in the archive');
    else
      leftOut.push({
        schema: '',
        name: `${options.largeObjects} large objects`,
        kind: 'large object',
        reason,
      });
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
  return leftOut;
}

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
