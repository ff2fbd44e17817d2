// How a storage is reached, beside its address: what the command line reads from flags, environment and configuration
// file, and what a caller of the library may give. The address says which part of it matters.

import type { BandwidthLimits } from './limited-storage.ts';

export interface StorageOptions {
  limits?: BandwidthLimits | undefined;
  s3?: S3Options | undefined;
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
}
