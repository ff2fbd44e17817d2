// The one place that knows every storage backend: turns a repository's address into a storage. A backend is loaded when
// an address asks for it: the libraries of providers take long to load.
import { PgkeepError } from '../base/errors.ts';
import { LocalStorage } from './local/local-storage.ts';
import type { Storage } from './storage.ts';
import type { StorageOptions } from './storage-options.ts';

/**
 * Opens the storage at an address: a folder path, or a URL with a scheme. Touches nothing yet.
 * @param signal ends requests under way, and the waiting between their repetitions.
 * @throws PgkeepError OPTION_INVALID for a scheme that no backend serves, or settings that cannot be.
 */
export async function openStorage(
  address: string,
  _options: StorageOptions = {},
  _signal?: AbortSignal,
): Promise<Storage> {
  const scheme = /^([a-z][a-z0-9+.-]+):\/\//i.exec(address)?.[1]?.toLowerCase();
  switch (scheme) {
    case undefined:
      return new LocalStorage(address);
    case 'file':
      return new LocalStorage(decodeURIComponent(new URL(address).pathname));
    default:
      throw new PgkeepError('OPTION_INVALID', `repositories at ${scheme}:// are not supported`, {
        hint: 'give a folder, as in --repository ./backups',
      });
  }
}
