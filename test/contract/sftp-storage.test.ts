// Storage on an SFTP server keeps the contract, and what only SFTP has to show for it: whom it trusts, how it logs in,
// what connections that end leave behind.

import { beforeAll } from 'vitest';
import { SftpStorage } from '../../src/storage/sftp/sftp-storage.ts';
import { type SftpServer, startSftpServer } from '../support/sftp-server.ts';
import { describeRemoteFaults } from './remote-faults.ts';
import { describeStorage } from './storage.ts';

let server: SftpServer;
let count = 0;

beforeAll(async () => {
  server = await startSftpServer();
  return () => server[Symbol.asyncDispose]();
});

/** A repository of a test's own, which does not exist yet. */
function newName(): string {
  count += 1;
  return `new/repository-${count}`;
}

describeStorage('SFTP', async () => {
  const url = server.url(newName());
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

describeRemoteFaults('SFTP', {
  serverPort: () => server.port,
  place() {
    const name = newName();
    return (port, timeoutMs) => new SftpStorage(server.url(name, port), { ...server.login, timeoutMs });
  },
});
