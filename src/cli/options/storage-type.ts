// BACKUP_STORAGE_TYPE and the variables that go with it name a repository as --repository does by a URL.
import type { Resolved } from './resolved.ts';
import type { OptionName } from './table.ts';

/** A storage in a place that an option names: a bucket, a container, a server; BACKUP_STORAGE_PATH is a prefix or folder in it. */
interface ContainerType {
  scheme: string;
  container: 's3Bucket' | 'gcsBucket' | 'azureContainer' | 'sftpHost';
  /** What BACKUP_STORAGE_PATH is: a prefix, which may be left out, or a folder of the server, which may not. */
  path: 'prefix' | 'folder';
}

export const storageTypes: Readonly<Record<string, 'folder' | ContainerType>> = {
  local: 'folder',
  s3: { scheme: 's3', container: 's3Bucket', path: 'prefix' },
  gcs: { scheme: 'gs', container: 'gcsBucket', path: 'prefix' },
  azure: { scheme: 'azure', container: 'azureContainer', path: 'prefix' },
  sftp: { scheme: 'sftp', container: 'sftpHost', path: 'folder' },
};

/** Whether the type has a say: a repository named by a flag or as BACKUP_REPOSITORY says itself what it is. */
export function isNamedByType(resolved: ReadonlyMap<OptionName, Resolved>): boolean {
  const repository = resolved.get('repository');
  if (typeof resolved.get('storageType')?.value !== 'string' || repository === undefined) return false;
  return repository.origin !== 'flag' && !repository.source.startsWith('BACKUP_REPOSITORY');
}

/** The repository that the type names; undefined where it has no say, or what it needs is missing. */
export function repositoryByType(
  resolved: ReadonlyMap<OptionName, Resolved>,
  environment: Readonly<Record<string, string | undefined>>,
): Resolved | undefined {
  const type = resolved.get('storageType');
  if (typeof type?.value !== 'string' || !isNamedByType(resolved)) return undefined;
  const found = storageTypes[type.value.toLowerCase()];
  if (found === undefined || found === 'folder') return undefined;
  const container = resolved.get(found.container);
  if (container?.value === undefined) return undefined;
  const path = (environment.BACKUP_STORAGE_PATH ?? '').trim();
  if (found.path === 'folder' && path === '') return undefined;
  const below = found.path === 'folder' ? serverFolder(path) : path.replace(/^(\.?\/+)+|\/+$/g, '');
  return { ...container, value: `${found.scheme}://${[container.value, below].filter(Boolean).join('/')}` };
}

/** As the path of a URL without its first slash: one that does not begin at the root is in the user's home. */
function serverFolder(path: string): string {
  const fromRoot = path.startsWith('/') ? path : `/~/${path.replace(/^(~|\.)\/+/, '')}`;
  return fromRoot.slice(1).split('/').map(encodeURIComponent).join('/');
}
