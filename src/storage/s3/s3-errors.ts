// What S3 servers, the SDK and the network fail with, in pgkeep's words. SDK and servers name their errors; the names
// decide, and where there is none (a HEAD has no body, a proxy in between knows no S3) the HTTP status.
import { foreignCode, PgkeepError } from '../../base/errors.ts';
import { TransientError } from '../transient-error.ts';
import { HttpTimeout } from './http-handler.ts';

/** What is known of a failed request. */
export interface S3Failure {
  /** NoSuchKey, AccessDenied, …; of a HEAD merely NotFound, Forbidden or Unknown. */
  name: string;
  status: number | undefined;
  retryAfterMs: number | undefined;
  message: string;
}

export function describeFailure(error: unknown): S3Failure {
  const { $metadata, $response, name, message, Code } = (
    typeof error === 'object' && error !== null ? error : {}
  ) as {
    $metadata?: { httpStatusCode?: number };
    $response?: { statusCode?: number; headers?: Record<string, string> };
    name?: string;
    message?: string;
    Code?: string;
  };
  const status = $metadata?.httpStatusCode ?? $response?.statusCode;
  return {
    name: Code ?? name ?? 'Unknown',
    status,
    retryAfterMs: parseRetryAfter($response?.headers?.['retry-after']),
    message: isMessage(message) ? message : status ? `HTTP status ${status}` : String(error),
  };
}

/** Of a HEAD the SDK has none, and of an answer that is not XML (a proxy's) what its parser thought of it. */
function isMessage(message: string | undefined): message is string {
  return message !== undefined && !/^(Unknown(Error)?)?$|Deserialization error/.test(message);
}

/** Whether the failure says no more than its status, as that of a HEAD does. */
export function isUnexplained(failure: S3Failure): boolean {
  return ['NotFound', 'Forbidden', 'BadRequest', 'Unknown', 'UnknownError', '400', '403', '404'].includes(
    failure.name,
  );
}

/** @param what the request in words, as in "reading a/b from s3://bucket". */
export function translateS3Error(error: unknown, what: string): PgkeepError {
  if (error instanceof PgkeepError) return error;
  const failure = describeFailure(error);
  const say = `${what} failed: ${failure.message.replace(/\.$/, '')}`;
  const details = {
    context: { s3Error: failure.name, ...(failure.status !== undefined && { httpStatus: failure.status }) },
    cause: error,
  };
  if (isOfNetwork(error)) {
    return new TransientError(say, {
      ...details,
      hint: 'check the endpoint, the network and its name servers',
    });
  }
  const known = meanings.find(({ names }) => names.includes(failure.name));
  if (known !== undefined && 'code' in known)
    return new PgkeepError(known.code, say, { ...details, hint: known.hint });
  if (failure.message.startsWith('Region is missing')) {
    return new PgkeepError('OPTION_INVALID', 'the region of the S3 bucket is not known', {
      cause: error,
      hint: 'set AWS_REGION, or --s3-endpoint for a store that is not AWS',
    });
  }
  if (known !== undefined || isTransientStatus(failure.status)) {
    return new TransientError(say, {
      ...details,
      isAnswer: true,
      hint:
        known?.hint ?? 'the storage is at fault or overloaded: run again later; what was stored is reused',
      retryAfterMs: failure.retryAfterMs,
    });
  }
  if (failure.status === 401 || failure.status === 403) {
    return new PgkeepError('STORAGE_DENIED', say, { ...details, hint: denied });
  }
  return new PgkeepError('STORAGE_UNREACHABLE', say, details);
}

const denied =
  'the credentials were accepted, but may not do this: check policies (docs/guide.md has those needed)';
const credentials =
  'check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or the profile (for gs:// GCS_HMAC_ACCESS_ID and GCS_HMAC_SECRET); log in again where they are good for a limited time';

/** Without a code: the failure may pass. */
const meanings: readonly (
  | {
      names: readonly string[];
      code: 'STORAGE_NOT_FOUND' | 'STORAGE_DENIED' | 'STORAGE_CREDENTIALS' | 'STORAGE_FULL';
      hint: string;
    }
  | { names: readonly string[]; hint?: string }
)[] = [
  {
    names: ['NoSuchBucket'],
    code: 'STORAGE_NOT_FOUND',
    hint: 'check the name of the bucket and the endpoint, or make the bucket: pgkeep makes none',
  },
  {
    names: ['AccessDenied', 'AllAccessDisabled', 'AccountProblem', 'UserSuspended'],
    code: 'STORAGE_DENIED',
    hint: denied,
  },
  {
    names: ['InvalidObjectState'],
    code: 'STORAGE_DENIED',
    hint: 'the object is in an archive class: restore it there first, and keep backups in classes that can be read at once',
  },
  {
    names: [
      'InvalidAccessKeyId',
      'SignatureDoesNotMatch',
      'ExpiredToken',
      'ExpiredTokenException',
      'TokenRefreshRequired',
      'InvalidToken',
      'InvalidSecurity',
      'CredentialsProviderError',
      'UnrecognizedClientException',
      'InvalidClientTokenId',
    ],
    code: 'STORAGE_CREDENTIALS',
    hint: credentials,
  },
  {
    names: ['QuotaExceeded', 'XMinioStorageFull', 'InsufficientStorage', 'StorageQuotaExceeded'],
    code: 'STORAGE_FULL',
    hint: 'free space or raise the quota, then run again: what was stored is reused',
  },
  // The SDK corrects its clock by the answer: the next request is right.
  { names: ['RequestTimeTooSkewed', 'RequestExpired'], hint: 'set the clock of this machine' },
  {
    names: [
      'SlowDown',
      'SlowDownRead',
      'SlowDownWrite',
      'Throttling',
      'ThrottlingException',
      'TooManyRequests',
      'TooManyRequestsException',
      'RequestLimitExceeded',
      'BandwidthLimitExceeded',
    ],
    hint: 'the storage limits how fast it is used: run with fewer --jobs, or ask for a higher limit',
  },
  // Two conditional puts at once: neither is refused for good.
  {
    names: [
      'ConditionalRequestConflict',
      'OperationAborted',
      'RequestTimeout',
      'InternalError',
      'ServiceUnavailable',
    ],
  },
];

function isTransientStatus(status: number | undefined): boolean {
  return status !== undefined && (status >= 500 ? status !== 501 : status === 408 || status === 429);
}

/** Failures of sockets, name servers and TLS. A certificate that is refused will be so again. */
function isOfNetwork(error: unknown): boolean {
  if (error instanceof HttpTimeout) return true;
  const code = foreignCode(error) ?? '';
  return /^(E(CONN|HOST|NET|PIPE|AI_|NOTFOUND|TIMEDOUT|ADDRNOTAVAIL|PROTO)|HPE_|UND_ERR)/.test(code);
}

/** Seconds, or a date. */
function parseRetryAfter(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  if (/^\d+(\.\d+)?$/.test(text.trim())) return Number(text) * 1000;
  const time = Date.parse(text);
  return Number.isNaN(time) ? undefined : Math.max(0, time - Date.now());
}
