// Which place an address stands for, so that a replica is not taken for another place than its repository, nor two providers'
// buckets of one name for one. Unlike a storage's `location`, never shown.
import { realpath, stat } from 'node:fs/promises';
import { userInfo } from 'node:os';
import path from 'node:path';
import { foreignCode } from '../base/errors.ts';
import type { AzureOptions, StorageOptions } from './storage-options.ts';

/**
 * Equal for two addresses only if they are one place. That one place has several names can be seen of folders alone: of what is
 * remote, servers with several names, links and other profiles stay unknown. Asks nothing of what is remote.
 * @param address one that a storage was opened with.
 */
export async function placeOf(address: string, options: StorageOptions): Promise<string> {
  const [, scheme = '', rest = ''] = /^([a-z][a-z0-9+.-]+):\/\/(.*)$/is.exec(address) ?? [];
  const inBucket = rest.split('/').filter(Boolean).join('/');
  switch (scheme.toLowerCase()) {
    case 's3': {
      const { endpoint, profile = '' } = options.s3 ?? {};
      // A profile may name another provider.
      return `${endpoint === undefined ? `aws ${profile}` : providerOf(endpoint)} ${inBucket}`;
    }
    case 'gs':
      return `${providerOf(options.gcs?.endpoint ?? 'https://storage.googleapis.com')} ${inBucket}`;
    case 'azure':
      return `${azureService(options.azure ?? {})} ${inBucket}`;
    case 'sftp': {
      const { username, hostname, port, pathname } = new URL(address);
      const user = decodeURIComponent(username) || userInfo().username;
      const folder = path.posix.normalize(decodeURIComponent(pathname)).replace(/\/+$/, '');
      return `sftp ${user}@${hostname.toLowerCase()}:${port || 22} ${folder}`;
    }
    case 'file':
      return folderPlace(decodeURIComponent(new URL(address).pathname));
    default:
      return folderPlace(path.resolve(address));
  }
}

/** A folder that is there is told by its number, whichever way leads to it. */
async function folderPlace(folder: string): Promise<string> {
  try {
    const { dev, ino } = await stat(folder, { bigint: true });
    return `folder ${dev} ${ino}`;
  } catch (error) {
    if (foreignCode(error) !== 'ENOENT') return `folder ${folder}`;
  }
  const parent = path.dirname(folder);
  return `folder ${path.join(await realpath(parent).catch(() => parent), path.basename(folder))}`;
}

function providerOf(endpoint: string): string {
  const url = URL.parse(endpoint);
  if (url === null) return endpoint;
  // All of Amazon's endpoints of a partition lead to the same buckets.
  if (/^s3[.-].*amazonaws\.com$/.test(url.hostname)) return 'aws ';
  return `${url.host}${url.pathname.replace(/\/+$/, '')}`;
}

function azureService({ connectionString, endpoint, account }: AzureOptions): string {
  const parts = new Map(
    connectionString
      ?.split(';')
      .map(part => [part.split('=', 1)[0]?.trim().toLowerCase(), part.slice(part.indexOf('=') + 1).trim()]),
  );
  const suffix = parts.get('endpointsuffix') ?? 'core.windows.net';
  const name = parts.get('accountname') ?? account;
  const service = connectionString === undefined ? endpoint : parts.get('blobendpoint');
  return providerOf(service ?? `https://${name}.blob.${suffix}`);
}
