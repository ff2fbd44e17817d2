// The one place that knows every storage backend: turns a repository's address into a storage.
import { PgkeepError } from '../base/errors.ts';
import { LocalStorage } from './local/local-storage.ts';
import type { Storage } from './storage.ts';

/**
 * Opens the storage at an address: a folder path, or a URL with a scheme. Touches nothing yet.
 * @throws PgkeepError OPTION_INVALID for a scheme that no backend serves.
 */
export async function openStorage(address: string): Promise<Storage> {
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
