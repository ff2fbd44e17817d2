// How a storage is reached, beside its address: what the command line reads from flags, environment and configuration
// file, and what a caller of the library may give. The address says which part of it matters.

import type { StorageLimits } from './limited-storage.ts';

export interface StorageOptions {
  limits?: StorageLimits | undefined;
  /** Shows what was there then, and writes nothing; only in a bucket that keeps versions. */
  asOf?: Date | undefined;
  s3?: S3Options | undefined;
  gcs?: GcsOptions | undefined;
  azure?: AzureOptions | undefined;
  sftp?: SftpOptions | undefined;
}

/** Whatever is left out is found the way AWS's own tools find it: environment, profile, SSO, role of the instance. */
export interface S3Options {
  /** URL of a store that is not AWS; objects are then addressed by path (`endpoint/bucket/key`). */
  endpoint?: string | undefined;
  region?: string | undefined;
  /** Name of a profile in AWS's own files. */
  profile?: string | undefined;
  /** Overrides what the endpoint implies: `true` for `endpoint/bucket/key`, `false` for `bucket.endpoint/key`. */
  pathStyle?: boolean | undefined;
  accessKeyId?: string | undefined;
  secretAccessKey?: string | undefined;
  sessionToken?: string | undefined;
  /** As the store names it: STANDARD_IA, GLACIER_IR, … */
  storageClass?: string | undefined;
  /** Server-side encryption with keys of the store (AES256) or of AWS KMS. */
  encryption?: 'AES256' | 'aws:kms' | undefined;
  /** Implies `aws:kms`. */
  kmsKeyId?: string | undefined;
  /** `name=value`, put on every object. */
  tags?: readonly string[] | undefined;
  /** Whether requests carry checksums that S3 does not ask for; many stores that are not AWS refuse them. */
  checksums?: 'when-required' | 'when-supported' | undefined;
  /** Of objects that are locked: `compliance` (the default) until their time for everybody, `governance` but for who may bypass it. */
  lockMode?: 'compliance' | 'governance' | undefined;
}

/** An HMAC key of a service account, as `gcloud storage hmac create` makes it. */
export interface GcsOptions {
  accessId?: string | undefined;
  secret?: string | undefined;
  /** STANDARD, NEARLINE, COLDLINE or ARCHIVE, for new objects; without it the bucket's default. */
  storageClass?: string | undefined;
  /** Where it is not https://storage.googleapis.com. */
  endpoint?: string | undefined;
}

/** One of connection string, account and key, account and SAS; with the account alone `@azure/identity` is asked. */
export interface AzureOptions {
  connectionString?: string | undefined;
  account?: string | undefined;
  /** Of the account. */
  key?: string | undefined;
  /** A shared access signature, with or without the leading `?`. */
  sas?: string | undefined;
  /** The blob service's URL, where it is not https://<account>.blob.core.windows.net. */
  endpoint?: string | undefined;
  /** For new objects; without it the account's default. Archive is not among them: it cannot be read back at once. */
  accessTier?: 'Hot' | 'Cool' | 'Cold' | undefined;
  /** How long nothing may move in either direction during a request; 60,000 by default. */
  idleTimeoutMs?: number | undefined;
}

export interface SftpOptions {
  password?: string | undefined;
  /** A file with a private key, as ssh-keygen makes it. */
  keyFile?: string | undefined;
  /** Of the key file. */
  passphrase?: string | undefined;
  /** The socket of an SSH agent. */
  agentSocket?: string | undefined;
  /** Where the host's key must be found; without it OpenSSH's own places. */
  knownHostsFile?: string | undefined;
  /** How long connecting may take, and a server that is asked something may be silent; 20,000 and 60,000 by default. */
  timeoutMs?: number | undefined;
}
