// What pgkeep offers to programs: the same operations as the command line, with the same results.
export { type ErrorCode, PgkeepError } from './base/errors.ts';
export { generateKey } from './crypto/key.ts';
export {
  type Check,
  type CheckSetupOptions,
  type CheckSetupResult,
  type CheckStatus,
  checkSetup,
  type SetupFile,
} from './operations/check-setup.ts';
export {
  type CleanedBackup,
  type CleanupRepositoryOptions,
  type CleanupRepositoryResult,
  cleanupRepository,
} from './operations/cleanup-repository.ts';
export {
  type CreateBackupOptions,
  type CreateBackupResult,
  createBackup,
  type ReplicaOutcome,
} from './operations/create-backup.ts';
export {
  type DeleteBackupOptions,
  type DeleteBackupResult,
  deleteBackup,
} from './operations/delete-backup.ts';
export type { OperationEvent, Phase } from './operations/events.ts';
export {
  type ExportBackupOptions,
  type ExportBackupResult,
  exportBackup,
} from './operations/export-backup.ts';
export { type JoinBackupOptions, type JoinBackupResult, joinBackup } from './operations/join-backup.ts';
export {
  type ListBackupsOptions,
  type ListedBackup,
  listBackups,
  type VerificationSummary,
} from './operations/list-backups.ts';
export {
  type Measurements,
  type ProbeStorageOptions,
  type ProbeStorageResult,
  probeStorage,
} from './operations/probe-storage.ts';
export {
  type ReplicateBackupsOptions,
  type ReplicateBackupsResult,
  type ReplicatedBackup,
  replicateBackups,
} from './operations/replicate-backups.ts';
export {
  type RestoreBackupOptions,
  type RestoreBackupResult,
  restoreBackup,
} from './operations/restore-backup.ts';
export { type ShowBackupOptions, type ShownBackup, showBackup } from './operations/show-backup.ts';
export type { VerificationProblem } from './operations/verify/findings.ts';
export {
  type VerificationResult,
  type VerifyBackupsOptions,
  type VerifyBackupsResult,
  verifyBackups,
} from './operations/verify-backups.ts';
export {
  type WriteRecoveryKitOptions,
  type WriteRecoveryKitResult,
  writeRecoveryKit,
} from './operations/write-recovery-kit.ts';
export type { GarbageCounts } from './repository/garbage-collection.ts';
export type { BackupMetadata } from './repository/metadata.ts';
export type { VerificationRecord } from './repository/verification.ts';
export type {
  AzureOptions,
  GcsOptions,
  S3Options,
  SftpOptions,
  StorageOptions,
} from './storage/storage-options.ts';
