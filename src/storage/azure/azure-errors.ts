// What Azure, its SDK and the network fail with, in pgkeep's words. The service names its errors in a header, so a HEAD
// has the name too; where there is none (a proxy in between) the HTTP status decides.
import { type ErrorCode, foreignCode, PgkeepError } from '../../base/errors.ts';
import { TransientError } from '../transient-error.ts';

/** The service's name of the error, such as BlobNotFound; empty where it gives none. */
export function azureErrorName(error: unknown): string {
  const { code, response } = partsOf(error);
  return response?.headers?.get('x-ms-error-code') ?? (typeof code === 'string' ? code : '');
}

/**
 * @param what the request in words, as in "reading a/b from azure://container".
 * @param sas what it was signed with, if that was a shared access signature.
 */
export function translateAzureError(error: unknown, what: string, sas: string | undefined): PgkeepError {
  if (error instanceof PgkeepError) return error;
  const { statusCode: status, response } = partsOf(error);
  const name = azureErrorName(error);
  const said = firstLine(error);
  const message = `${what} failed: ${said === '' ? `HTTP status ${status}` : said}`;
  const details = {
    context: {
      ...(name !== '' && { azureError: name }),
      ...(status !== undefined && { httpStatus: status }),
    },
    cause: error,
  };
  const skewMs = clockSkewMs(response?.headers?.get('date'));
  if (status === 403 && Math.abs(skewMs) > toleratedSkewMs) {
    const minutes = Math.round(Math.abs(skewMs) / 60_000);
    return new PgkeepError('STORAGE_CREDENTIALS', message, {
      ...details,
      hint: `the clock of this machine is ${minutes} minutes ${skewMs > 0 ? 'ahead' : 'behind'}: set it, as Azure refuses such requests`,
    });
  }
  const expiry = expiryOf(sas);
  if (status === 403 && expiry !== undefined && Date.parse(expiry) < Date.now()) {
    return new PgkeepError('STORAGE_CREDENTIALS', message, {
      ...details,
      hint: `the shared access signature has expired (${expiry}): make a new one and set AZURE_STORAGE_SAS_TOKEN`,
    });
  }
  // Emulators give a signature that is wrong the name of a right that is missing.
  if (status === 403 && said.startsWith('Server failed to authenticate the request'))
    return new PgkeepError('STORAGE_CREDENTIALS', message, { ...details, hint: credentials });
  const known = meanings.find(({ names }) => names.includes(name));
  if (known !== undefined) return new PgkeepError(known.code, message, { ...details, hint: known.hint });
  if (isOfNetwork(error)) {
    return new TransientError(message, {
      ...details,
      hint: 'check the name of the account, the endpoint and the network',
    });
  }
  if (status !== undefined && (status >= 500 ? status !== 501 : status === 408 || status === 429)) {
    return new TransientError(message, {
      ...details,
      hint: 'the storage is at fault or overloaded: run again later; what was stored is reused',
      isAnswer: true,
      retryAfterMs: retryAfterMs(response?.headers?.get('retry-after')),
    });
  }
  if (status === 401)
    return new PgkeepError('STORAGE_CREDENTIALS', message, { ...details, hint: credentials });
  if (status === 403) return new PgkeepError('STORAGE_DENIED', message, { ...details, hint: denied });
  return new PgkeepError('STORAGE_UNREACHABLE', message, details);
}

/** Azure takes requests whose date is off by no more than this. */
const toleratedSkewMs = 14 * 60_000;

const credentials =
  'check AZURE_STORAGE_ACCOUNT and AZURE_STORAGE_KEY, AZURE_STORAGE_SAS_TOKEN (has it expired?) or AZURE_STORAGE_CONNECTION_STRING';
const denied =
  'the credentials were accepted, but may not do this: check roles, the permissions of the SAS and the firewall of the account (docs/guide.md has those needed)';

const meanings: readonly { names: readonly string[]; code: ErrorCode; hint: string }[] = [
  {
    names: ['ContainerNotFound', 'ContainerBeingDeleted', 'ContainerDisabled'],
    code: 'STORAGE_NOT_FOUND',
    hint: 'check the name of the container and the account, or make the container: pgkeep makes none',
  },
  {
    names: [
      'AuthenticationFailed',
      'InvalidAuthenticationInfo',
      'NoAuthenticationInformation',
      'AccountIsDisabled',
    ],
    code: 'STORAGE_CREDENTIALS',
    hint: credentials,
  },
  {
    names: [
      'AuthorizationFailure',
      'AuthorizationPermissionMismatch',
      'AuthorizationServiceMismatch',
      'AuthorizationResourceTypeMismatch',
      'AuthorizationProtocolMismatch',
      'AuthorizationSourceIPMismatch',
      'InsufficientAccountPermissions',
      'PublicAccessNotPermitted',
      'KeyBasedAuthenticationNotPermitted',
    ],
    code: 'STORAGE_DENIED',
    hint: denied,
  },
  {
    names: ['BlobArchived', 'BlobBeingRehydrated'],
    code: 'STORAGE_DENIED',
    hint: 'the object is in the archive tier: rehydrate it first, and keep backups in hot, cool or cold',
  },
  {
    names: ['BlobImmutableDueToPolicy', 'BlobImmutableDueToLegalHold'],
    code: 'STORAGE_DENIED',
    hint: 'a policy or a legal hold keeps the object from being changed or removed',
  },
  {
    names: ['LeaseIdMissing', 'SnapshotsPresent'],
    code: 'STORAGE_DENIED',
    hint: 'somebody holds a lease on the object or made snapshots of it: remove those first',
  },
  {
    names: ['InvalidBlobTier', 'AccessTierNotSupportedForBlobType', 'FeatureNotSupportedForAccount'],
    code: 'OPTION_INVALID',
    hint: 'the account does not have this access tier: choose another one or none',
  },
];

interface Parts {
  code?: unknown;
  statusCode?: number;
  response?: { headers?: { get(name: string): string | undefined } };
}

function partsOf(error: unknown): Parts {
  return typeof error === 'object' && error !== null ? (error as Parts) : {};
}

/** The service adds ids and times on further lines, which say nothing to people. */
function firstLine(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error);
  return (text.split('\n')[0] ?? '').trim().replace(/\.$/, '');
}

/** The time after which a shared access signature, alone or in a connection string, is of no use. */
function expiryOf(sas: string | undefined): string | undefined {
  const [, encoded] = /[?&=;]se=([^&;]+)/.exec(`?${sas ?? ''}`) ?? [];
  return encoded === undefined ? undefined : decodeURIComponent(encoded);
}

/** How far the clock here is ahead of the service's. */
function clockSkewMs(date: string | undefined): number {
  const time = Date.parse(date ?? '');
  return Number.isNaN(time) ? 0 : Date.now() - time;
}

/** Failures of sockets, name servers and of a response that ends early. A certificate that is refused will be so again. */
function isOfNetwork(error: unknown): boolean {
  const code = foreignCode(error) ?? '';
  return /^(E(CONN|HOST|NET|PIPE|AI_|NOTFOUND|TIMEDOUT|ADDRNOTAVAIL|PROTO)|HPE_)/.test(code);
}

/** Seconds, or a date. */
function retryAfterMs(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  if (/^\d+$/.test(text.trim())) return Number(text) * 1000;
  const time = Date.parse(text);
  return Number.isNaN(time) ? undefined : Math.max(0, time - Date.now());
}
