// Ids of backups: backup-<epoch milliseconds>-<8 hex>.
import { randomBytes } from 'node:crypto';

const pattern = /^backup-(\d{13})-[0-9a-f]{8}$/;

export function newBackupId(at: Date): string {
  return `backup-${at.getTime()}-${randomBytes(4).toString('hex')}`;
}

export function isBackupId(text: string): boolean {
  return pattern.test(text);
}
