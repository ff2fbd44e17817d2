// The plan that the coordinator of a backup in shards makes, and what a shard makes of it: the same copies of the same
// tables, of which one part is its own.
import { version } from '../../base/version.ts';
import type { DatabaseFacts, Relation, ServerFacts } from '../../postgres/catalog.ts';
import { quoteName, quoteQualified } from '../../postgres/identifiers.ts';
import type { SourceSnapshot } from '../../postgres/source-snapshot.ts';
import type { ShardPlan } from '../../repository/shards.ts';
import { type CopyPlan, groupTables } from './copy-plan.ts';

export interface ShardPlanSource {
  repository: string;
  backup: string;
  shards: number;
  coordinatorPid: number;
  server: ServerFacts;
  database: DatabaseFacts;
  snapshot: Pick<SourceSnapshot, 'id' | 'xids'>;
  key: string | null;
  compressionLevel: number;
  lockedUntil: Date | undefined;
  /** The tables of the plan, in its order. */
  relations: readonly Relation[];
  plan: CopyPlan;
  parent: string | null;
  /** Of the tables, which can be built on the parent's. */
  isBuiltOn: (table: number) => boolean;
  isVerified: boolean;
  known: readonly string[];
}

export const shardTool = `pgkeep ${version}`;

export function describeShards(source: ShardPlanSource): ShardPlan {
  const { server, database, snapshot, plan, isBuiltOn } = source;
  return {
    format: 1,
    repository: source.repository,
    backup: source.backup,
    tool: shardTool,
    shards: source.shards,
    coordinatorPid: source.coordinatorPid,
    server: sourceServer(server),
    database: { oid: database.oid, xmin: database.xmin, name: database.name },
    snapshot: { id: snapshot.id, xids: snapshot.xids },
    key: source.key,
    compressionLevel: source.compressionLevel,
    lockedUntil: source.lockedUntil?.toISOString() ?? null,
    encoding: plan.encoding,
    tables: source.relations.map(({ oid, schema, name, columns }, index) => {
      const table = plan.tables[index];
      return {
        oid,
        schema,
        name,
        columns,
        sizeBytes: table?.sizeBytes ?? 0,
        pages: table?.pages ?? 0,
        isTraceable: table?.isTraceable ?? false,
        rangePages: table?.rangePages ?? 0,
        ranges: table?.ranges ?? 0,
        isBuiltOn: isBuiltOn(index),
      };
    }),
    parent: source.parent,
    isVerified: source.isVerified,
    known: [...source.known],
  };
}

/** What must be the same for every process that reads from the snapshot. */
export function sourceServer(server: ServerFacts): ShardPlan['server'] {
  const { systemIdentifier, timeline, versionNumber, startedAt, isStandby } = server;
  return { systemIdentifier, timeline, versionNumber, startedAt, isStandby };
}

/** The copies that a plan speaks of. */
export function copiesOf({ encoding, tables }: ShardPlan): CopyPlan {
  return groupTables(
    encoding,
    tables.map(({ schema, name, columns, sizeBytes, pages, isTraceable, rangePages, ranges }) => ({
      from: quoteQualified(schema, name),
      columns: columns.map(quoteName).join(', '),
      sizeBytes,
      pages,
      isTraceable,
      rangePages,
      ranges,
    })),
  );
}

/** `application_name` of the sessions of a backup that read and lock; the same in all its processes, so that none is a stranger. */
export function backupSessionName(backup: string): string {
  return `pgkeep ${backup}`;
}

/** Of the session by which the coordinator sees that a shard is at work. */
export function shardSessionName(backup: string, shard: number, shards: number): string {
  return `${backupSessionName(backup)} shard ${shard}/${shards}`;
}
