// Storage in a container of Azure keeps the contract, and what only Azure has to show for it: credentials, tiers, pages.

import { beforeAll } from 'vitest';
import { AzureStorage } from '../../src/storage/azure/azure-storage.ts';
import { type Azurite, startAzurite } from '../support/azurite.ts';
import { describeRemoteFaults } from './remote-faults.ts';
import { describeStorage } from './storage.ts';

let azurite: Azurite;
let count = 0;

beforeAll(async () => {
  azurite = await startAzurite();
  await azurite.createContainer('backups');
  return () => azurite[Symbol.asyncDispose]();
});

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
    return (port, idleTimeoutMs) => new AzureStorage(address, { ...azurite.login(port), idleTimeoutMs });
  },
});
