// Objects of a bucket that keeps versions as they were at an earlier time: seen through deletions and overwritten
// contents that came later.
import {
  ListObjectVersionsCommand,
  type ListObjectVersionsCommandOutput,
  type S3Client,
} from '@aws-sdk/client-s3';
import { PgkeepError } from '../../base/errors.ts';

export interface ObjectVersion {
  key: string;
  versionId: string;
  sizeBytes: number;
  modified: Date;
}

export interface VersionsPage {
  versions: ObjectVersion[];
  /** The key after which the next page begins; none follows without it. */
  next: string | undefined;
}

interface Candidate extends ObjectVersion {
  isDeletion: boolean;
}

/** Some of the keys with a prefix that were there at a time, each with its version of then; those that follow a key. */
export async function listVersionsAsOf(
  client: S3Client,
  bucket: string,
  prefix: string,
  asOf: Date,
  afterKey: string,
): Promise<VersionsPage> {
  /** By key; undefined for one that was not there yet. */
  const found = new Map<string, Candidate | undefined>();
  let marker: { KeyMarker?: string; VersionIdMarker?: string } =
    afterKey === '' ? {} : { KeyMarker: afterKey };
  for (;;) {
    const page = await client.send(
      new ListObjectVersionsCommand({ Bucket: bucket, Prefix: prefix, EncodingType: 'url', ...marker }),
    );
    const decode = (key: string) =>
      page.EncodingType === 'url' ? decodeURIComponent(key.replaceAll('+', ' ')) : key;
    for (const version of candidates(page, decode)) {
      const known = found.get(version.key);
      found.set(version.key, isMeant(version, known, asOf) ? version : known);
    }
    // Versions of the last key may follow on the next page, which begins with all of them again.
    const { NextKeyMarker, NextVersionIdMarker } = page;
    const isSame = NextKeyMarker === marker.KeyMarker && NextVersionIdMarker === marker.VersionIdMarker;
    if (page.IsTruncated && (!NextKeyMarker || isSame)) {
      throw new PgkeepError(
        'STORAGE_UNFIT',
        `the bucket ${bucket} ends a listing of versions before its end, and gives nothing to go on from`,
        {
          hint: 'leave out --as-of, or use a store that lists versions page by page (key-marker, version-id-marker)',
        },
      );
    }
    const lastKey = page.IsTruncated ? decode(NextKeyMarker ?? '') : undefined;
    const whole = [...found.keys()].filter(key => key !== lastKey);
    if (lastKey === undefined || whole.length > 0) {
      const versions = whole.flatMap(key => found.get(key) ?? []).filter(version => !version.isDeletion);
      const next = lastKey === undefined ? undefined : whole.reduce((a, b) => (isListedBefore(a, b) ? b : a));
      return { versions, next };
    }
    marker = {
      KeyMarker: lastKey,
      ...(NextVersionIdMarker !== undefined && { VersionIdMarker: NextVersionIdMarker }),
    };
  }
}

function* candidates(
  page: ListObjectVersionsCommandOutput,
  decode: (key: string) => string,
): Iterable<Candidate> {
  for (const { Key = '', VersionId = 'null', Size = 0, LastModified = new Date(0) } of page.Versions ?? [])
    yield {
      key: decode(Key),
      versionId: VersionId,
      sizeBytes: Size,
      modified: LastModified,
      isDeletion: false,
    };
  for (const { Key = '', VersionId = 'null', LastModified = new Date(0) } of page.DeleteMarkers ?? [])
    yield { key: decode(Key), versionId: VersionId, sizeBytes: 0, modified: LastModified, isDeletion: true };
}

/** The newest of then. Of the same moment (many stores tell whole seconds) it is the one listed first, and no deletion. */
function isMeant(version: Candidate, known: Candidate | undefined, asOf: Date): boolean {
  return version.modified <= asOf && (known === undefined || version.modified > known.modified);
}

/** Stores list keys in the order of their bytes. */
function isListedBefore(key: string, other: string): boolean {
  return Buffer.compare(Buffer.from(key), Buffer.from(other)) < 0;
}
