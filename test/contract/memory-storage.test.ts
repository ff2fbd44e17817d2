// The storage in memory that tests use keeps the contract.
import { MemoryStorage } from '../support/memory-storage.ts';
import { describeStorage } from './storage.ts';

describeStorage('in memory', async () => {
  const storage = new MemoryStorage();
  return { storage, reopen: async () => storage, async [Symbol.asyncDispose]() {} };
});
