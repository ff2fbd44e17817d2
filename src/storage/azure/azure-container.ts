// The SDK's client of a container, by whichever credentials were given. The SDK is loaded here, at first use.
import type { ContainerClient, StoragePipelineOptions } from '@azure/storage-blob';
import { foreignCode, PgkeepError } from '../../base/errors.ts';
import type { AzureOptions } from '../storage-options.ts';
import { AzureHttpClient } from './http-client.ts';

export interface OpenContainer {
  client: ContainerClient;
  http: AzureHttpClient;
}

const defaultIdleMs = 60_000;

/**
 * Connects to nothing yet.
 * @param signal ends every request.
 * @throws PgkeepError OPTION_INVALID, STORAGE_CREDENTIALS when none are given and `@azure/identity` is not installed.
 */
export async function openContainer(
  container: string,
  options: AzureOptions,
  signal: AbortSignal | undefined,
): Promise<OpenContainer> {
  const sdk = await import('@azure/storage-blob');
  const http = new AzureHttpClient(options.idleTimeoutMs ?? defaultIdleMs, signal, {
    ...(await import('@azure/core-rest-pipeline')),
    ...(await import('@azure/core-http-compat')),
  });
  // Repeating is the matter of one place, above the storages.
  const pipeline: StoragePipelineOptions = { httpClient: http, retryOptions: { maxTries: 1 } };
  if (options.connectionString !== undefined) {
    try {
      return { client: new sdk.ContainerClient(options.connectionString, container, pipeline), http };
    } catch {
      // What the SDK says may quote the string.
      throw new PgkeepError('OPTION_INVALID', 'the connection string of Azure Storage cannot be read', {
        hint: 'copy AZURE_STORAGE_CONNECTION_STRING whole from "Access keys" of the storage account',
      });
    }
  }
  const url = `${serviceUrl(options)}/${container}`;
  if (options.sas !== undefined) {
    return {
      client: new sdk.ContainerClient(`${url}?${options.sas.replace(/^\?/, '')}`, undefined, pipeline),
      http,
    };
  }
  if (options.key !== undefined) {
    const account = options.account ?? accountOf(url);
    const credential = sharedKey(() => new sdk.StorageSharedKeyCredential(account, options.key ?? ''));
    return { client: new sdk.ContainerClient(url, credential, pipeline), http };
  }
  const { DefaultAzureCredential } = await loadIdentity();
  return { client: new sdk.ContainerClient(url, new DefaultAzureCredential(), pipeline), http };
}

function serviceUrl({ endpoint, account }: AzureOptions): string {
  if (endpoint !== undefined) {
    if (!/^https?:\/\/[^/?#]+/.test(endpoint))
      throw new PgkeepError('OPTION_INVALID', 'the endpoint of Azure Storage is not an http or https URL');
    return endpoint.replace(/\/+$/, '');
  }
  if (account === undefined) {
    throw new PgkeepError('STORAGE_CREDENTIALS', 'no Azure storage account is given', {
      hint: 'set AZURE_STORAGE_CONNECTION_STRING, or AZURE_STORAGE_ACCOUNT with AZURE_STORAGE_KEY or AZURE_STORAGE_SAS_TOKEN',
    });
  }
  if (!/^[a-z0-9]{3,24}$/.test(account)) {
    throw new PgkeepError(
      'OPTION_INVALID',
      `${JSON.stringify(account)} is not the name of a storage account`,
      {
        hint: 'it has 3 to 24 lower-case letters and digits; a server of another name is given as the endpoint',
      },
    );
  }
  return `https://${account}.blob.core.windows.net`;
}

/** The first label of the host, as with https://account.blob.core.windows.net. */
function accountOf(url: string): string {
  return new URL(url).hostname.split('.')[0] ?? '';
}

function sharedKey<T>(make: () => T): T {
  try {
    return make();
  } catch {
    throw new PgkeepError('STORAGE_CREDENTIALS', 'AZURE_STORAGE_KEY is not a key of a storage account', {
      hint: 'copy it whole from "Access keys" of the storage account',
    });
  }
}

/** The part of `@azure/identity` that is used; the package is there only if the user has installed it. */
interface Identity {
  DefaultAzureCredential: new () => NonNullable<ConstructorParameters<typeof ContainerClient>[1]> & {
    getToken(scopes: string | string[]): Promise<{ token: string; expiresOnTimestamp: number } | null>;
  };
}

async function loadIdentity(): Promise<Identity> {
  const name = '@azure/identity';
  try {
    return (await import(name)) as Identity;
  } catch (error) {
    if (foreignCode(error) !== 'ERR_MODULE_NOT_FOUND') throw error;
    throw new PgkeepError(
      'STORAGE_CREDENTIALS',
      'neither a key nor a SAS is given for the Azure storage account, and @azure/identity is not installed',
      {
        hint: 'set AZURE_STORAGE_KEY or AZURE_STORAGE_SAS_TOKEN; or, for managed identities and az login, run: npm install @azure/identity',
        cause: error,
      },
    );
  }
}
