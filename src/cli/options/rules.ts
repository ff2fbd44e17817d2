// Rules about options that concern more than one of them.
import type { Problem } from './problem.ts';
import type { Resolved } from './resolved.ts';
import type { OptionName } from './table.ts';

const supportedStorageTypes = ['local'];

/** What is wrong with the resolved options of a command taken together. */
export function checkRules(resolved: ReadonlyMap<OptionName, Resolved>): Problem[] {
  return [...storageType(resolved), ...oneKey(resolved), ...definitionsOrData(resolved)];
}

/** BACKUP_STORAGE_TYPE speaks of BACKUP_STORAGE_PATH; a repository named otherwise says itself what it is. */
function storageType(resolved: ReadonlyMap<OptionName, Resolved>): Problem[] {
  const type = resolved.get('storageType');
  const repository = resolved.get('repository');
  if (typeof type?.value !== 'string' || supportedStorageTypes.includes(type.value.toLowerCase())) return [];
  if (repository?.origin === 'flag' || repository?.source.startsWith('BACKUP_REPOSITORY')) return [];
  return [
    {
      source: type.source,
      message: `'${type.value}' is not a kind of storage that this version knows`,
      inConfigFile: false,
      hint: `supported: ${supportedStorageTypes.join(', ')}`,
    },
  ];
}

/** The stronger origin of the key wins; two of the same strength leave it open which key was meant. */
function oneKey(resolved: ReadonlyMap<OptionName, Resolved>): Problem[] {
  const key = resolved.get('encryptionKey');
  const file = resolved.get('keyFile');
  if (key?.value === undefined || file?.value === undefined || key.origin !== file.origin) return [];
  return [
    {
      source: file.source,
      message: `cannot stand beside ${key.source}: give one of them`,
      inConfigFile: false,
    },
  ];
}

function definitionsOrData(resolved: ReadonlyMap<OptionName, Resolved>): Problem[] {
  const definitions = resolved.get('definitionsOnly');
  const data = resolved.get('dataOnly');
  if (definitions?.value !== true || data?.value !== true) return [];
  return [
    { source: data.source, message: `cannot be combined with ${definitions.source}`, inConfigFile: false },
  ];
}
