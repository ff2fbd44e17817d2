// Google Cloud Storage is S3 with requests of its own form: docs/decisions/gcs.md.
import { PgkeepError } from '../../base/errors.ts';
import type { GcsOptions } from '../storage-options.ts';
import { GcsSigner } from './gcs-signer.ts';
import { parseS3Address } from './s3-address.ts';
import { S3Storage } from './s3-storage.ts';

/**
 * Opens gs://bucket/prefix. Touches nothing yet.
 * @throws PgkeepError OPTION_INVALID, STORAGE_CREDENTIALS.
 */
export function openGcs(address: string, options: GcsOptions = {}, signal?: AbortSignal): S3Storage {
  const { bucket } = parseS3Address(address);
  const { accessId, secret, storageClass, endpoint = 'https://storage.googleapis.com' } = options;
  if (accessId === undefined || secret === undefined) {
    throw new PgkeepError('STORAGE_CREDENTIALS', `gs://${bucket} needs an HMAC key, and there is none`, {
      hint: 'set GCS_HMAC_ACCESS_ID and GCS_HMAC_SECRET, as `gcloud storage hmac create` prints them',
    });
  }
  // The SDK demands credentials, though it signs nothing.
  const credentials = { accessKeyId: accessId, secretAccessKey: secret };
  const s3 = { endpoint, region: 'auto', pathStyle: true, storageClass, ...credentials };
  return new S3Storage(address, s3, signal, undefined, new GcsSigner(accessId, secret));
}
