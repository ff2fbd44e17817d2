// Storage in a container of Azure Blob Storage: each object a block blob, put whole in one request.
import type { ContainerClient } from '@azure/storage-blob';
import { PgkeepError, throwIfAborted } from '../../base/errors.ts';
import { forEachAtOnce } from '../../base/for-each-at-once.ts';
import { objectMissing, objectTooLarge, requireObjectSize } from '../object-errors.ts';
import { isObjectName, requireObjectName } from '../object-name.ts';
import { PagedListing } from '../paged-listing.ts';
import { quoteOfAddress } from '../quote-of-address.ts';
import {
  type GetOptions,
  maxObjectBytes,
  type PutOptions,
  type Storage,
  type StorageFacts,
  type StoredObject,
} from '../storage.ts';
import type { AzureOptions } from '../storage-options.ts';
import { TransientError } from '../transient-error.ts';
import { type OpenContainer, openContainer } from './azure-container.ts';
import { azureErrorName, translateAzureError } from './azure-errors.ts';

const removalsAtOnce = 16;

export class AzureStorage implements Storage {
  readonly location: string;
  readonly #container: string;
  /** Empty, or ending at a slash. */
  readonly #prefix: string;
  readonly #options: AzureOptions;
  readonly #signal: AbortSignal | undefined;
  #opened: Promise<OpenContainer> | undefined;

  /**
   * @param address azure://container/prefix. Connects at the first call.
   * @param signal ends requests under way.
   * @throws PgkeepError OPTION_INVALID for an address that is none.
   */
  constructor(address: string, options: AzureOptions = {}, signal?: AbortSignal) {
    const { container, prefix } = parseAzureAddress(address);
    this.#container = container;
    this.#prefix = prefix === '' ? '' : `${prefix}/`;
    this.#options = options;
    this.#signal = signal;
    this.location = `azure://${[container, prefix].filter(Boolean).join('/')}`;
  }

  async put(name: string, bytes: Buffer, options: PutOptions = {}): Promise<'stored' | 'exists'> {
    requireObjectSize(name, bytes);
    const blob = (await this.#client()).getBlockBlobClient(this.#keyOf(name));
    const { accessTier } = this.#options;
    try {
      await blob.upload(bytes, bytes.length, {
        ...(options.ifAbsent && { conditions: { ifNoneMatch: '*' } }),
        ...(accessTier && { tier: accessTier }),
      });
      return 'stored';
    } catch (error) {
      if (options.ifAbsent && isRefusedAsPresent(error)) return 'exists';
      throw this.#translate(error, `storing ${name} in`);
    }
  }

  async get(name: string, { firstBytes }: GetOptions = {}): Promise<Buffer> {
    const blob = (await this.#client()).getBlobClient(this.#keyOf(name));
    try {
      const { contentLength, readableStreamBody } = await blob.download(0, firstBytes, {
        maxRetryRequests: 0,
      });
      const sizeBytes = contentLength ?? 0;
      if (sizeBytes > maxObjectBytes) throw objectTooLarge(name, sizeBytes);
      // Not of the pool that small buffers share: this one can be freed.
      const bytes = Buffer.allocUnsafeSlow(sizeBytes);
      let got = 0;
      for await (const chunk of (readableStreamBody ?? []) as AsyncIterable<Buffer>) {
        got += chunk.copy(bytes, got);
      }
      if (got !== sizeBytes)
        throw new TransientError(`${name} in ${this.location} ended after ${got} of ${sizeBytes} bytes`);
      return bytes;
    } catch (error) {
      if (azureErrorName(error) === 'BlobNotFound') throw objectMissing(name, this.location);
      // An empty object has no first byte.
      if (azureErrorName(error) === 'InvalidRange') return Buffer.alloc(0);
      throw this.#translate(error, `reading ${name} from`);
    }
  }

  async stat(name: string): Promise<StoredObject | undefined> {
    const blob = (await this.#client()).getBlobClient(this.#keyOf(name));
    try {
      const { contentLength, lastModified } = await blob.getProperties();
      return { name, sizeBytes: contentLength ?? 0, modified: lastModified ?? new Date(0) };
    } catch (error) {
      if (azureErrorName(error) === 'BlobNotFound') return undefined;
      throw this.#translate(error, `looking for ${name} in`);
    }
  }

  list(prefix: string): PagedListing<string> {
    return new PagedListing('', async marker => {
      const client = await this.#client();
      try {
        const pages = client
          .listBlobsFlat({ prefix: this.#prefix + prefix })
          .byPage(marker === '' ? {} : { continuationToken: marker });
        const page = (await pages.next()).value;
        const objects: StoredObject[] = [];
        for (const { name: key, properties } of page?.segment.blobItems ?? []) {
          const name = key.slice(this.#prefix.length);
          // Others may keep things beside the repository's objects.
          if (!isObjectName(name)) continue;
          objects.push({
            name,
            sizeBytes: properties.contentLength ?? 0,
            modified: properties.lastModified,
          });
        }
        return { objects, next: page?.continuationToken || undefined };
      } catch (error) {
        throw this.#translate(error, `listing ${prefix} of`);
      }
    });
  }

  async remove(names: readonly string[]): Promise<void> {
    const keys = names.map(name => this.#keyOf(name));
    const client = await this.#client();
    const remove = async (key: string) => {
      await client.deleteBlob(key).catch((error: unknown) => {
        if (azureErrorName(error) === 'BlobNotFound') return;
        throw this.#translate(error, `removing ${key.slice(this.#prefix.length)} from`);
      });
    };
    await forEachAtOnce(keys, remove, removalsAtOnce);
  }

  async examine(name: string): Promise<StorageFacts> {
    const client = await this.#client();
    const { protocol, hostname } = new URL(client.url);
    const { versionId, refused } = await client
      .getBlockBlobClient(this.#keyOf(name))
      .upload('', 0)
      .then(
        answer => ({ versionId: answer.versionId, refused: false }),
        () => ({ versionId: undefined, refused: true }),
      );
    return {
      transport: { host: hostname, isEncrypted: protocol === 'https:' },
      ...(!refused && { keepsVersions: versionId !== undefined }),
    };
  }

  async close(): Promise<void> {
    const opened = await this.#opened?.catch(() => undefined);
    opened?.http.destroy();
  }

  async #client(): Promise<ContainerClient> {
    this.#opened ??= openContainer(this.#container, this.#options, this.#signal);
    return (await this.#opened).client;
  }

  #keyOf(name: string): string {
    requireObjectName(name);
    return this.#prefix + name;
  }

  #translate(error: unknown, what: string): PgkeepError {
    throwIfAborted(this.#signal);
    const { sas, connectionString } = this.#options;
    return translateAzureError(error, `${what} ${this.location}`, connectionString ?? sas);
  }
}

/** @throws PgkeepError OPTION_INVALID; what may be a secret is not repeated. */
function parseAzureAddress(address: string): { container: string; prefix: string } {
  const [, container = '', rest = ''] = /^azure:\/\/([^/]*)\/*(.*)$/is.exec(address) ?? [];
  const prefix = rest.replace(/\/+$/, '');
  if (!/^(?!.*--)[a-z0-9][a-z0-9-]{1,61}[a-z0-9]$/.test(container)) {
    throw new PgkeepError('OPTION_INVALID', `${quoteOfAddress(container)} is not the name of a container`, {
      hint: 'write azure://container/prefix; a container has 3 to 63 lower-case letters, digits and single hyphens, and the account is named by AZURE_STORAGE_ACCOUNT, its key by AZURE_STORAGE_KEY, a signature by AZURE_STORAGE_SAS_TOKEN',
    });
  }
  if (prefix !== '' && !isObjectName(prefix)) {
    throw new PgkeepError('OPTION_INVALID', `${quoteOfAddress(prefix)} cannot be a prefix of objects`, {
      hint: 'use letters, digits, dots, hyphens, underscores, and slashes between them',
    });
  }
  return { container, prefix };
}

/** A put on condition that there is nothing yet. */
function isRefusedAsPresent(error: unknown): boolean {
  const name = azureErrorName(error);
  return name === 'BlobAlreadyExists' || name === 'ConditionNotMet' || name === 'UnauthorizedBlobOverwrite';
}
