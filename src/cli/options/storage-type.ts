// BACKUP_STORAGE_TYPE and the variables that go with it name a repository as --repository does by a URL.
import type { Resolved } from './resolved.ts';
import type { OptionName } from './table.ts';

/** A storage whose objects are in a container (bucket) that an option names; BACKUP_STORAGE_PATH is a prefix in it. */
interface ContainerType {
  scheme: string;
  container: 's3Bucket' | 'azureContainer';
}

export const storageTypes: Readonly<Record<string, 'folder' | ContainerType>> = {
  local: 'folder',
  s3: { scheme: 's3', container: 's3Bucket' },
  azure: { scheme: 'azure', container: 'azureContainer' },
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
  const prefix = (environment.BACKUP_STORAGE_PATH ?? '').trim().replace(/^(\.?\/+)+|\/+$/g, '');
  return { ...container, value: `${found.scheme}://${[container.value, prefix].filter(Boolean).join('/')}` };
}
