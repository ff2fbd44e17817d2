// s3://bucket/prefix, taken apart.
import { PgkeepError } from '../../base/errors.ts';

export interface S3Address {
  bucket: string;
  /** What the keys of all objects begin with: empty, or with a slash at its end. */
  prefix: string;
}

/** @throws PgkeepError OPTION_INVALID; what stands before an `@` is not repeated, as it may be a secret. */
export function parseS3Address(address: string): S3Address {
  const [, bucket = '', path = ''] = /^s3:\/\/([^/]*)(\/.*)?$/is.exec(address) ?? [];
  if (bucket.includes('@')) {
    throw new PgkeepError('OPTION_INVALID', 'the address of an S3 repository holds no credentials', {
      hint: 'write s3://bucket/prefix, and set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY',
    });
  }
  if (!/^[A-Za-z0-9][A-Za-z0-9._-]{1,61}[A-Za-z0-9]$/.test(bucket)) {
    throw new PgkeepError('OPTION_INVALID', `${JSON.stringify(bucket)} is not the name of an S3 bucket`, {
      hint: 'write s3://bucket/prefix',
    });
  }
  const parts = path.split('/').filter(part => part !== '');
  if (parts.some(part => part === '.' || part === '..')) {
    throw new PgkeepError('OPTION_INVALID', `${address} has a prefix with . or .. in it`);
  }
  return { bucket, prefix: parts.map(part => `${part}/`).join('') };
}
