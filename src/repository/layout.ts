// The names of a repository's objects.

export const descriptorName = 'pgkeep.json';
export const metadataPrefix = 'metadata/';

export function keyName(keyId: string): string {
  return `keys/${keyId}.json`;
}

export function metadataName(backupId: string): string {
  return `${metadataPrefix}${backupId}.json`;
}

export function manifestName(backupId: string): string {
  return `backups/${backupId}.backup`;
}

export function segmentName(segmentId: string): string {
  return `segments/${segmentId.slice(0, 2)}/${segmentId}`;
}
