// The names of a repository's objects.

export const descriptorName = 'pgkeep.json';
export const metadataPrefix = 'metadata/';
export const manifestPrefix = 'backups/';
export const keyPrefix = 'keys/';
export const segmentPrefix = 'segments/';
export const verifiedPrefix = 'verified/';
export const recoveryScriptName = 'recovery/pgkeep-recover.mjs';
export const recoveryPageName = 'recovery/README.txt';
export const garbagePrefix = 'garbage/';

export function keyName(keyId: string): string {
  return `keys/${keyId}.json`;
}

export function metadataName(backupId: string): string {
  return `${metadataPrefix}${backupId}.json`;
}

/** What the last verification of a backup found. */
export function verifiedName(backupId: string): string {
  return `${verifiedPrefix}${backupId}.json`;
}

export function manifestName(backupId: string): string {
  return `backups/${backupId}.backup`;
}

export function segmentName(segmentId: string): string {
  return `segments/${segmentId.slice(0, 2)}/${segmentId}`;
}

/** The id in the name of a segment; `undefined` when it is another object's. */
export function segmentIdIn(name: string): string | undefined {
  return /^segments\/[0-9a-f]{2}\/([0-9a-f]{64})$/.exec(name)?.[1];
}

/** Objects by which `pgkeep storage probe` and doctor try a storage, each run in a folder of its own; nothing else reads them. */
export const scratchPrefix = 'probe/';

export function scratchFolder(nowMs: number, random: string): string {
  return `${scratchPrefix}${nowMs}-${random}/`;
}

/** The scratch folder that an object lies in; undefined for what no probe has stored. */
export function scratchFolderOf(name: string): string | undefined {
  return /^probe\/\d+-[0-9a-f]{8}\//.exec(name)?.[0];
}

/** What the processes that make one backup together leave for each other; it goes when they are done. */
export const shardsPrefix = 'shards/';

export function shardsFolder(backupId: string): string {
  return `${shardsPrefix}${backupId}/`;
}

/** Leads from a token that somebody chose to the backup that is joined by it. */
export function joinName(token: string): string {
  return `${shardsPrefix}${token}.join`;
}
