// s3://bucket/prefix, or gs:// in its place, taken apart.
import { PgkeepError } from '../../base/errors.ts';
import { quoteOfAddress } from '../quote-of-address.ts';

export interface S3Address {
  scheme: 's3' | 'gs';
  bucket: string;
  /** What the keys of all objects begin with: empty, or with a slash at its end. */
  prefix: string;
}

/** @throws PgkeepError OPTION_INVALID; what may be a secret is not repeated. */
export function parseS3Address(address: string): S3Address {
  const [, found = '', bucket = '', path = ''] = /^(s3|gs):\/\/([^/]*)(\/.*)?$/is.exec(address) ?? [];
  const scheme = found.toLowerCase() === 'gs' ? 'gs' : 's3';
  const hint = `write ${scheme}://bucket/prefix`;
  if (bucket.includes('@')) {
    const variables = {
      s3: 'AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY',
      gs: 'GCS_HMAC_ACCESS_ID and GCS_HMAC_SECRET',
    };
    throw new PgkeepError('OPTION_INVALID', 'the address of a repository in a bucket holds no credentials', {
      hint: `${hint}, and set ${variables[scheme]}`,
    });
  }
  // At Google, names with dots may be longer.
  const longest = { s3: 63, gs: 222 }[scheme];
  if (bucket.length > longest || !/^[A-Za-z0-9][A-Za-z0-9._-]+[A-Za-z0-9]$/.test(bucket)) {
    throw new PgkeepError('OPTION_INVALID', `${quoteOfAddress(bucket)} is not the name of a bucket`, {
      hint,
    });
  }
  const parts = path.split('/').filter(part => part !== '');
  if (parts.some(part => part === '.' || part === '..')) {
    throw new PgkeepError('OPTION_INVALID', `the prefix in ${scheme}://${bucket} has . or .. in it`);
  }
  return { scheme, bucket, prefix: parts.map(part => `${part}/`).join('') };
}
