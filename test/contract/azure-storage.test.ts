// Storage in a container of Azure keeps the contract, and what only Azure has to show for it: credentials, tiers, pages.

import { createServer } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ContainerClient } from '@azure/storage-blob';
import { beforeAll, describe, expect, test } from 'vitest';
import { errorToData } from '../../src/base/errors.ts';
import { freeBuffer } from '../../src/base/free-buffer.ts';
import { AzureStorage } from '../../src/storage/azure/azure-storage.ts';
import { TransientError } from '../../src/storage/transient-error.ts';
import { type Azurite, startAzurite } from '../support/azurite.ts';
import { azureError, type HttpFaults, startHttpFaults } from '../support/http-faults.ts';
import { closing, describeRemoteFaults, describeStorms } from './remote-faults.ts';
import { describeStorage } from './storage.ts';
import { names } from './storage-names.ts';

let azurite: Azurite;
let between: HttpFaults;
let container: ContainerClient;
let count = 0;

beforeAll(async () => {
  azurite = await startAzurite();
  container = await azurite.createContainer('backups');
  between = await startHttpFaults(azurite.port);
  return async () => {
    await between[Symbol.asyncDispose]();
    await azurite[Symbol.asyncDispose]();
  };
}, 300_000);

function newAddress(): string {
  count += 1;
  return `azure://backups/some/prefix-${count}`;
}

describeStorage('Azure', async () => {
  const address = newAddress();
  const storage = new AzureStorage(address, azurite.login());
  const other = new AzureStorage(address, azurite.login());
  return {
    storage,
    reopen: async () => other,
    [Symbol.asyncDispose]: async () => {
      await storage.close();
      await other.close();
    },
  };
});

describeRemoteFaults('Azure', {
  serverPort: () => azurite.port,
  place() {
    const address = newAddress();
    // A SAS does not sign the query, which may thus be changed on the way.
    const sas = azurite.sas('racwdl');
    return (port, idleTimeoutMs) =>
      new AzureStorage(address, { endpoint: azurite.login(port).endpoint, sas, idleTimeoutMs });
  },
  severalPages: 10_000,
  // Pages of 5,000 would take long to fill.
  pagesPort() {
    between.decide(({ path }) =>
      path.includes('comp=list') ? { path: `${path}&maxresults=2000` } : 'forward',
    );
    return between.port;
  },
});

describeStorms('Azure', {
  between: () => between,
  async place() {
    const address = newAddress();
    const login = { ...azurite.login(between.port), idleTimeoutMs: 1_000 };
    return { direct: new AzureStorage(address, azurite.login()), through: new AzureStorage(address, login) };
  },
  storm: [
    azureError(503, 'ServerBusy'),
    azureError(500, 'InternalError'),
    azureError(500, 'OperationTimedOut'),
    { answer: 502, headers: { 'content-type': 'text/html' }, body: '<html>bad gateway</html>' },
    { answer: 503 },
    azureError(429, 'TooManyRequests'),
    'lose-answer',
    'hang',
  ],
  askToWait: azureError(503, 'ServerBusy', { 'retry-after': '1' }),
});

test('credentials by connection string and by SAS reach the same container', async () => {
  const { account, key, endpoint } = azurite.login();
  const address = newAddress();
  await using byKey = closing(new AzureStorage(address, azurite.login()));
  await byKey.storage.put('a/object', Buffer.from('x'));
  const connectionString = `DefaultEndpointsProtocol=http;AccountName=${account};AccountKey=${key};BlobEndpoint=${endpoint};`;
  for (const login of [
    { connectionString },
    { endpoint, sas: azurite.sas('racwdl') },
    { endpoint, sas: `?${azurite.sas('rl')}` },
  ]) {
    await using opened = closing(new AzureStorage(address, login));
    expect(String(await opened.storage.get('a/object'))).toBe('x');
    expect(await names(opened.storage, '')).toEqual(['a/object']);
  }
});

test('what a SAS does not permit is STORAGE_DENIED', async () => {
  const { endpoint } = azurite.login();
  const address = newAddress();
  const denied = { code: 'STORAGE_DENIED' };
  await using writer = closing(new AzureStorage(address, { endpoint, sas: azurite.sas('rcwl') }));
  await writer.storage.put('object', Buffer.from('x'), { ifAbsent: true });
  expect(await writer.storage.put('object', Buffer.from('y'), { ifAbsent: true })).toBe('exists');
  await expect(writer.storage.remove(['object'])).rejects.toMatchObject(denied);
  await using reader = closing(new AzureStorage(address, { endpoint, sas: azurite.sas('rl') }));
  await expect(reader.storage.put('other', Buffer.from('x'))).rejects.toMatchObject(denied);
  await using blind = closing(new AzureStorage(address, { endpoint, sas: azurite.sas('w') }));
  await expect(blind.storage.get('object')).rejects.toMatchObject(denied);
  await expect(blind.storage.stat('object')).rejects.toMatchObject(denied);
  await expect(names(blind.storage, '')).rejects.toMatchObject(denied);
});

test('a wrong key and an expired SAS are STORAGE_CREDENTIALS, without showing either', async () => {
  const login = azurite.login();
  const wrongKey = Buffer.alloc(64, 7).toString('base64');
  for (const options of [
    { ...login, key: wrongKey },
    { endpoint: login.endpoint, sas: azurite.sas('racwdl', new Date(Date.now() - 60_000)) },
    { ...login, key: '' },
  ]) {
    await using opened = closing(new AzureStorage(newAddress(), options));
    const failure = await opened.storage.get('object').catch(errorToData);
    expect(failure).toMatchObject({ code: 'STORAGE_CREDENTIALS' });
    expect(JSON.stringify(failure)).not.toContain(wrongKey);
    expect(JSON.stringify(failure)).not.toMatch(/sig=/);
  }
});

test('a SAS that expires in the middle of a run is STORAGE_CREDENTIALS from then on', async () => {
  const { endpoint } = azurite.login();
  // Azure counts whole seconds.
  const until = new Date(Math.ceil(Date.now() / 1000) * 1000 + 5000);
  await using opened = closing(
    new AzureStorage(newAddress(), { endpoint, sas: azurite.sas('racwdl', until) }),
  );
  await opened.storage.put('object', Buffer.from('x'));
  await sleep(until.getTime() - Date.now() + 1100);
  await expect(opened.storage.put('other', Buffer.from('x'))).rejects.toMatchObject({
    code: 'STORAGE_CREDENTIALS',
    hint: expect.stringContaining('expired'),
  });
});

test('a container that is missing is STORAGE_NOT_FOUND in every call, never an empty storage', async () => {
  await using opened = closing(new AzureStorage('azure://not-there/prefix', azurite.login()));
  const { storage } = opened;
  const missing = { code: 'STORAGE_NOT_FOUND', hint: expect.stringContaining('container') };
  await expect(storage.put('object', Buffer.from('x'))).rejects.toMatchObject(missing);
  await expect(storage.get('object')).rejects.toMatchObject(missing);
  await expect(storage.stat('object')).rejects.toMatchObject(missing);
  await expect(names(storage, '')).rejects.toMatchObject(missing);
  await expect(storage.remove(['object'])).rejects.toMatchObject(missing);
});

test('an access tier is put on new objects', async () => {
  const address = newAddress();
  await using opened = closing(new AzureStorage(address, { ...azurite.login(), accessTier: 'Cool' }));
  await opened.storage.put('object', Buffer.from('x'), { ifAbsent: true });
  const blob = container.getBlobClient(`${address.replace('azure://backups/', '')}/object`);
  expect((await blob.getProperties()).accessTier).toBe('Cool');
  expect(String(await opened.storage.get('object'))).toBe('x');
});

test('an archived object says that it has to be rehydrated', async () => {
  const address = newAddress();
  await using opened = closing(new AzureStorage(address, azurite.login()));
  await opened.storage.put('object', Buffer.from('x'));
  await container.getBlobClient(`${address.replace('azure://backups/', '')}/object`).setAccessTier('Archive');
  await expect(opened.storage.get('object')).rejects.toMatchObject({
    code: 'STORAGE_DENIED',
    hint: expect.stringContaining('rehydrate'),
  });
});

test('what others keep beside the repository is not listed', async () => {
  const address = newAddress();
  const prefix = address.replace('azure://backups/', '');
  await container.uploadBlockBlob(`${prefix}/.hidden`, 'x', 1);
  await container.uploadBlockBlob(`${prefix}/with space`, 'x', 1);
  await container.uploadBlockBlob(`${prefix}x/neighbour`, 'x', 1);
  await using opened = closing(new AzureStorage(address, azurite.login()));
  await opened.storage.put('object', Buffer.from('x'));
  expect(await names(opened.storage, '')).toEqual(['object']);
});

test('without key and SAS it names the package that other credentials need', async () => {
  await using opened = closing(new AzureStorage('azure://backups', { account: 'someaccount' }));
  await expect(opened.storage.stat('object')).rejects.toMatchObject({
    code: 'STORAGE_CREDENTIALS',
    hint: expect.stringContaining('npm install @azure/identity'),
  });
  await using nothing = closing(new AzureStorage('azure://backups'));
  await expect(nothing.storage.stat('object')).rejects.toMatchObject({
    code: 'STORAGE_CREDENTIALS',
    hint: expect.stringContaining('AZURE_STORAGE_ACCOUNT'),
  });
});

test.each([
  'azure://',
  'azure:///prefix',
  'azure://UPPER/x',
  'azure://a--b',
  'azure://ab',
  'azure://good/pre fix',
  'azure://good/a/../b',
])('refuses the address %j', address => {
  expect(() => new AzureStorage(address)).toThrow(expect.objectContaining({ code: 'OPTION_INVALID' }));
});

test.each([
  [{ account: 'Not.An.Account', key: 'eA==' }, 'OPTION_INVALID'],
  [{ endpoint: 'blob.example.com', key: 'eA==' }, 'OPTION_INVALID'],
  [{ connectionString: 'AccountName=x;secret' }, 'OPTION_INVALID'],
])('refuses the settings %j without repeating secrets', async (options, code) => {
  await using opened = closing(new AzureStorage('azure://backups', options));
  const failure = await opened.storage.stat('object').catch(errorToData);
  expect(failure).toMatchObject({ code });
  expect(JSON.stringify(failure)).not.toContain('secret');
});

test('an account that does not exist is unreachable', async () => {
  const endpoint = 'https://no-such-account.invalid';
  await using opened = closing(new AzureStorage('azure://backups', { endpoint, account: 'x', key: 'eA==' }));
  await expect(opened.storage.stat('object')).rejects.toMatchObject({
    code: 'STORAGE_UNREACHABLE',
    hint: expect.stringContaining('account'),
  });
});

describe('answers that Azurite does not give', () => {
  /** A storage at a server that gives one answer to everything, as soon as it has seen the headers. */
  async function answering(
    status: number,
    headers: Record<string, string>,
  ): Promise<AsyncDisposable & { storage: AzureStorage }> {
    const answerer = createServer((_request, response) => response.writeHead(status, headers).end());
    await new Promise<void>(resolve => answerer.listen(0, '127.0.0.1', resolve));
    const { port } = answerer.address() as { port: number };
    const storage = new AzureStorage('azure://backups', azurite.login(port));
    return {
      storage,
      async [Symbol.asyncDispose]() {
        await storage.close();
        answerer.closeAllConnections();
        answerer.close();
      },
    };
  }

  test.each([
    [503, 'ServerBusy'],
    [500, 'InternalError'],
    [500, 'OperationTimedOut'],
    [429, 'TooManyRequests'],
    [502, ''],
  ])('%i %s may pass, and the wait it asks for is kept', async (status, name) => {
    await using under = await answering(status, {
      'retry-after': '7',
      ...(name && { 'x-ms-error-code': name }),
    });
    const failure = await under.storage.get('object').catch((error: unknown) => error);
    expect(failure).toBeInstanceOf(TransientError);
    expect(failure).toMatchObject({ code: 'STORAGE_UNREACHABLE', isAnswer: true, retryAfterMs: 7000 });
  });

  test('a clock that is wrong is named as the reason of a refusal', async () => {
    const date = new Date(Date.now() - 3_600_000).toUTCString();
    await using under = await answering(403, { 'x-ms-error-code': 'AuthenticationFailed', date });
    await expect(under.storage.stat('object')).rejects.toMatchObject({
      code: 'STORAGE_CREDENTIALS',
      hint: expect.stringContaining('60 minutes ahead'),
    });
  });

  test.each([
    [409, 'BlobImmutableDueToPolicy', 'STORAGE_DENIED'],
    [412, 'LeaseIdMissing', 'STORAGE_DENIED'],
    [403, 'AuthorizationFailure', 'STORAGE_DENIED'],
    [401, 'NoAuthenticationInformation', 'STORAGE_CREDENTIALS'],
    [403, '', 'STORAGE_DENIED'],
    [418, '', 'STORAGE_UNREACHABLE'],
  ])('%i %s is no failure that passes: %s', async (status, name, code) => {
    await using under = await answering(status, name === '' ? {} : { 'x-ms-error-code': name });
    const failure = await under.storage.remove(['object']).catch((error: unknown) => error);
    expect(failure).toMatchObject({ code });
    expect(failure).not.toBeInstanceOf(TransientError);
  });

  test('an answer that comes before the body was sent is taken, and the body may be freed then', async () => {
    await using under = await answering(409, { 'x-ms-error-code': 'BlobAlreadyExists' });
    for (let i = 0; i < 10; i++) {
      const bytes = Buffer.allocUnsafeSlow(16 * 1024 * 1024).fill(i);
      const outcome = await under.storage.put('object', bytes, { ifAbsent: true }).catch(errorToData);
      freeBuffer(bytes);
      // A server that answers early closes the connection, which may be seen first.
      if (outcome !== 'exists') expect(outcome).toMatchObject({ code: 'STORAGE_UNREACHABLE' });
    }
  });
});
