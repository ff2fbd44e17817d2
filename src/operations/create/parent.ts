// The backup whose ranges a new one may build on. docs/decisions/incremental.md has the argument; here is each of its
// conditions on the server as a whole. What concerns single tables is their row context.
import type { DatabaseFacts, ServerFacts } from '../../postgres/catalog.ts';
import type { SourceSnapshot } from '../../postgres/source-snapshot.ts';
import type { Manifest, Ranges, RowSource } from '../../repository/manifest.ts';

export interface Parent {
  manifest: Manifest;
  /** By oid: the tables that can be built on. */
  tables: Map<string, { source: RowSource; rangePages: number; ranges: Ranges }>;
}

/** What a new backup is taken from. */
export interface Source {
  server: ServerFacts;
  database: DatabaseFacts;
  snapshot: Pick<SourceSnapshot, 'xids' | 'walBefore'>;
}

/** The server compares transaction ids in 32 bits, half of them before and half after. */
const comparableIds = 2n ** 31n;

/** @returns why a backup cannot be the parent of one of this source; `undefined` when it can. */
export function reasonAgainst(
  manifest: Manifest,
  { server, database, snapshot }: Source,
): string | undefined {
  const before = manifest.server;
  if (manifest.options.schemaOnly) return 'it holds definitions alone';
  if (before.systemIdentifier !== server.systemIdentifier || before.standby !== server.isStandby) {
    return 'it is of another server';
  }
  if (manifest.database.oid !== database.oid || manifest.database.xmin !== database.xmin) {
    return 'it is of another database of this name, or this one was altered';
  }
  if (before.versionNumber !== server.versionNumber) return 'the server is of another version by now';
  if (before.timeline !== server.timeline) return 'the server is on another timeline by now';
  if (before.startedAt !== server.startedAt) return 'the server has been started anew since';
  if (!manifest.snapshot.walFlushed) return 'its server had not flushed its WAL in time';
  const [walThen, walNow] = [
    parseWalPosition(manifest.snapshot.walPosition),
    parseWalPosition(snapshot.walBefore),
  ];
  if (walThen === undefined || walNow === undefined || walNow < walThen) {
    return 'the server has not come as far in its WAL as it was then';
  }
  const [then, now] = [parseSnapshot(manifest.snapshot.xids), parseSnapshot(snapshot.xids)];
  if (then === undefined || now === undefined || now.xmin < then.xmin || now.xmax < then.xmax) {
    return 'its transactions are not all in the past';
  }
  if (!isComparable(then.xmin, now.xmax)) return 'too many transactions lie between';
  return undefined;
}

/** Whether the server can tell which of two transactions came first, and later ones too while a backup runs. */
export function isComparable(older: bigint, newest: bigint): boolean {
  return newest >= older && newest - older < comparableIds;
}

/** xmin and xmax of `xmin:xmax:xip`, all of 64 bits. */
export function parseSnapshot(text: string): { xmin: bigint; xmax: bigint } | undefined {
  const [, xmin, xmax] = /^(\d{1,20}):(\d{1,20}):[\d,]*$/.exec(text) ?? [];
  return xmin === undefined || xmax === undefined ? undefined : { xmin: BigInt(xmin), xmax: BigInt(xmax) };
}

/** `high/low`, both hexadecimal. */
function parseWalPosition(text: string): bigint | undefined {
  const [, high, low] = /^([0-9A-F]{1,8})\/([0-9A-F]{1,8})$/i.exec(text) ?? [];
  return high === undefined || low === undefined
    ? undefined
    : (BigInt(`0x${high}`) << 32n) + BigInt(`0x${low}`);
}
