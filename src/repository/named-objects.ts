// Everything that the manifests of a repository name, and thus what may not be deleted.
import { type ErrorCode, PgkeepError, throwIfAborted } from '../base/errors.ts';
import { sealedKeyId } from '../crypto/seal.ts';
import type { Storage } from '../storage/storage.ts';
import { isBackupId } from './backup-id.ts';
import { manifestName, manifestPrefix, metadataName, metadataPrefix } from './layout.ts';
import { type Manifest, type SegmentRef, slicesOf } from './manifest.ts';
import type { Repository } from './repository.ts';
import { SegmentIdSet } from './segment-id-set.ts';
import { rangesOf } from './table-ranges.ts';

export interface NamedObjects {
  segments: SegmentIdSet;
  /** Ids of keys that a manifest lists or is sealed with. */
  keys: Set<string>;
  /** What is named by manifests without metadata alone. */
  orphanSegments: SegmentIdSet;
  orphanKeys: Set<string>;
  /** Backups that have metadata or a manifest. */
  existing: Set<string>;
  /** Backups that have a manifest and no metadata: of runs that died, or are about to end. */
  orphans: Set<string>;
  /** Why the segments and keys named are not all that are: nothing may be deleted for not being among them. */
  unreadable: PgkeepError[];
}

/** What tells that an object is not what it should be, as opposed to a storage that does not answer. */
const losses: ReadonlySet<ErrorCode> = new Set([
  'OBJECT_MISSING',
  'OBJECT_DAMAGED',
  'REPOSITORY_MISMATCH',
  'REPOSITORY_UNSUPPORTED',
  'KEY_WRONG',
  'RECIPIENT_UNSUPPORTED',
]);

function isLoss(error: unknown): error is PgkeepError {
  return error instanceof PgkeepError && losses.has(error.code);
}

/**
 * Reads every manifest, one at a time, with or without metadata.
 * @param without backups that are taken as deleted.
 * @throws PgkeepError when the storage does not answer.
 */
export async function readNamedObjects(
  repository: Repository,
  signal: AbortSignal | undefined,
  without: ReadonlySet<string> = new Set(),
): Promise<NamedObjects> {
  const { storage } = repository;
  const named: NamedObjects = {
    segments: new SegmentIdSet(),
    keys: new Set(),
    orphanSegments: new SegmentIdSet(),
    orphanKeys: new Set(),
    existing: new Set(),
    orphans: new Set(),
    unreadable: [],
  };
  // In this order: metadata is stored after its manifest, so each of those listed has one in the second listing.
  const published = new Set(await idsIn(storage, metadataPrefix, '.json'));
  const manifests = await idsIn(storage, manifestPrefix, '.backup');
  const walked = new Set<string>();
  const ofPublished = { segments: named.segments, keys: named.keys };
  const ofOrphans = {
    segments: { add: (id: string) => !named.segments.has(id) && named.orphanSegments.add(id) },
    keys: { add: (id: string) => !named.keys.has(id) && named.orphanKeys.add(id) },
  };
  // Those with metadata first: what the others name besides can be told apart.
  for (const id of new Set([...published, ...manifests])) {
    throwIfAborted(signal);
    if (without.has(id)) continue;
    named.existing.add(id);
    if (!published.has(id)) named.orphans.add(id);
    try {
      const name = manifestName(id);
      const object = await storage.get(name);
      const manifest = await repository.openManifest(id, object);
      const keyId = sealedKeyId(name, object);
      const names = published.has(id) ? ofPublished : ofOrphans;
      if (keyId !== null) names.keys.add(keyId);
      await addNamed(repository, manifest, names, walked);
    } catch (error) {
      if (!isLoss(error)) throw error;
      if (!(await isGone(storage, id))) named.unreadable.push(error);
    }
  }
  return named;
}

/** Whether a backup that was listed has been deleted since. */
async function isGone(storage: Storage, id: string): Promise<boolean> {
  return (
    (await storage.stat(metadataName(id))) === undefined &&
    (await storage.stat(manifestName(id))) === undefined
  );
}

interface Adding {
  add(id: string): unknown;
}

async function addNamed(
  repository: Repository,
  manifest: Manifest,
  named: { segments: Adding; keys: Adding },
  walked: Set<string>,
): Promise<void> {
  for (const id of manifest.keys) named.keys.add(id);
  for await (const { id } of segmentsOf(repository, manifest, walked)) named.segments.add(id);
}

/**
 * All segments that a manifest names, those of its table indexes among them; many more than once.
 * @param walked table indexes that need not be read; those that were are added.
 * @throws PgkeepError when a table index cannot be read.
 */
export async function* segmentsOf(
  repository: Repository,
  manifest: Manifest,
  walked: Set<string> = new Set(),
): AsyncIterable<SegmentRef> {
  yield* manifest.archive.segments;
  for (const table of manifest.tables) {
    const { index = [] } = table;
    yield* index;
    // Backups share the indexes of unchanged tables: each is read once, when it could be read.
    const indexIds = index.map(({ id }) => id).join();
    if (walked.has(indexIds)) continue;
    for await (const range of rangesOf(repository, manifest, table)) yield* slicesOf(range);
    if (index.length > 0) walked.add(indexIds);
  }
}

/** The backup ids among the names with this beginning and ending. */
export async function idsIn(storage: Storage, prefix: string, ending: string): Promise<string[]> {
  const ids: string[] = [];
  for await (const { name } of storage.list(prefix)) {
    const id = name.slice(prefix.length, -ending.length);
    if (name.endsWith(ending) && isBackupId(id)) ids.push(id);
  }
  return ids;
}
