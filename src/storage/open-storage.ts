// The one place that knows every storage backend: turns a repository's address into a storage. A backend is loaded when
// an address asks for it: the libraries of providers take long to load.
import { PgkeepError } from '../base/errors.ts';
import { CountingStorage, type Traffic } from './counting-storage.ts';
import { LimitedStorage } from './limited-storage.ts';
import { LocalStorage } from './local/local-storage.ts';
import { placeOf } from './place.ts';
import { ReadOnlyStorage } from './read-only-storage.ts';
import { RetryingStorage } from './retrying-storage.ts';
import type { Storage } from './storage.ts';
import type { StorageOptions } from './storage-options.ts';

export interface OpenedStorage extends Storage {
  /** What was asked of it so far. */
  readonly traffic: Readonly<Traffic>;
  /** Equal only for the same place: docs/decisions/replication.md. Not to be shown. */
  place(): Promise<string>;
}

/**
 * Opens the storage at an address: a folder path, or a URL with a scheme. Touches nothing yet.
 * @param signal ends requests under way, and the waiting between their repetitions.
 * @throws PgkeepError OPTION_INVALID for a scheme that no backend serves, or settings that cannot be.
 */
export async function openStorage(
  address: string,
  options: StorageOptions = {},
  signal?: AbortSignal,
): Promise<OpenedStorage> {
  const backend = await openBackend(address, options, signal);
  const freeBytes = backend.freeBytes?.bind(backend);
  const examine = backend.examine?.bind(backend);
  const removeFolder = backend.removeFolder?.bind(backend);
  const counting = new CountingStorage(backend);
  let storage: Storage = counting;
  if (options.limits !== undefined) storage = new LimitedStorage(storage, options.limits, signal);
  // A folder fails for reasons that waiting does not end.
  if (!(backend instanceof LocalStorage)) storage = new RetryingStorage(storage, signal);
  return Object.assign(storage, {
    traffic: counting.traffic,
    place: () => placeOf(address, options),
    ...(freeBytes && { freeBytes }),
    ...(examine && { examine }),
    ...(removeFolder && { removeFolder }),
  });
}

/** The same for a run that only reads: putting and removing fail, before anything is asked of the storage. */
export async function openStorageToRead(...address: Parameters<typeof openStorage>): Promise<OpenedStorage> {
  const storage = await openStorage(...address);
  const { traffic, place } = storage;
  return Object.assign(new ReadOnlyStorage(storage), { traffic, place });
}

async function openBackend(
  address: string,
  options: StorageOptions,
  signal: AbortSignal | undefined,
): Promise<Storage> {
  const scheme = /^([a-z][a-z0-9+.-]+):\/\//i.exec(address)?.[1]?.toLowerCase();
  if (options.asOf !== undefined && scheme !== 's3') {
    throw new PgkeepError(
      'OPTION_INVALID',
      `${scheme === undefined ? 'a folder' : `a repository at ${scheme}://`} cannot be seen as it was at another time`,
      {
        hint: 'leave out --as-of: it is for S3 buckets that keep versions',
      },
    );
  }
  switch (scheme) {
    case undefined:
      return new LocalStorage(address);
    case 'file':
      return new LocalStorage(decodeURIComponent(new URL(address).pathname));
    case 's3': {
      const { S3Storage } = await import('./s3/s3-storage.ts');
      return new S3Storage(address, options.s3, signal, undefined, undefined, options.asOf);
    }
    case 'gs': {
      const { openGcs } = await import('./s3/open-gcs.ts');
      return openGcs(address, options.gcs, signal);
    }
    case 'azure': {
      const { AzureStorage } = await import('./azure/azure-storage.ts');
      return new AzureStorage(address, options.azure, signal);
    }
    case 'sftp': {
      const { SftpStorage } = await import('./sftp/sftp-storage.ts');
      return new SftpStorage(address, options.sftp, signal);
    }
    default:
      throw new PgkeepError('OPTION_INVALID', `repositories at ${scheme}:// are not supported`, {
        hint: 'give a folder, as in --repository ./backups, s3://bucket/prefix, gs://bucket/prefix, azure://container/prefix or sftp://user@host/path',
      });
  }
}
