// Storage on an SFTP server keeps the contract, and what only SFTP has to show for it: whom it trusts, how it logs in,
// what connections that end leave behind.

import { beforeAll } from 'vitest';
import { SftpStorage } from '../../src/storage/sftp/sftp-storage.ts';
import { type SftpServer, startSftpServer } from '../support/sftp-server.ts';
import { describeStorage } from './storage.ts';

let server: SftpServer;
let count = 0;

beforeAll(async () => {
  server = await startSftpServer();
  return () => server[Symbol.asyncDispose]();
});

/** A repository of a test's own, which does not exist yet. */
function newUrl(port?: number): string {
  count += 1;
  return server.url(`new/repository-${count}`, port);
}

describeStorage('SFTP', async () => {
  const url = newUrl();
  const opened: SftpStorage[] = [];
  const open = () => {
    const storage = new SftpStorage(url, server.login);
    opened.push(storage);
    return storage;
  };
  return {
    storage: open(),
    reopen: async () => open(),
    [Symbol.asyncDispose]: async () => {
      for (const storage of opened) await storage.close();
    },
  };
});
