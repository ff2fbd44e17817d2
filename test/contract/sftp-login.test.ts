// Whom SFTP storage trusts and how it logs in: host keys, key files with and without passphrase, agents, passwords.

import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { appendFileSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { promisify } from 'node:util';
import ssh2 from 'ssh2';
import { beforeAll, expect, test } from 'vitest';
import { RetryingStorage } from '../../src/storage/retrying-storage.ts';
import { SftpStorage } from '../../src/storage/sftp/sftp-storage.ts';
import type { SftpOptions } from '../../src/storage/storage-options.ts';
import { killAfterExit } from '../support/after-exit.ts';
import { waitFor } from '../support/processes.ts';
import { makeKey, type SftpServer, startSftpServer } from '../support/sftp-server.ts';
import { startTcpProxy } from '../support/tcp-proxy.ts';
import { makeTempFolder } from '../support/temp-folder.ts';
import { closing } from './remote-faults.ts';

const run = promisify(execFile);
let server: SftpServer;

beforeAll(async () => {
  server = await startSftpServer();
  return () => server[Symbol.asyncDispose]();
}, 300_000);

/** Asks for an object that is not there: whoever hears so is logged in. */
async function logIn(options: SftpOptions): Promise<'in'> {
  await using opened = closing(new SftpStorage(server.url('none'), options));
  expect(await opened.storage.stat('object')).toBeUndefined();
  return 'in';
}

function knownHosts(name: string, lines: string): string {
  writeFileSync(server.file(name), lines);
  return server.file(name);
}

test('an unknown host is refused with its fingerprint and the line that makes it known', async () => {
  const { keyFile } = server.login;
  const knownHostsFile = knownHosts('unknown', '');
  const { stdout } = await run('ssh-keygen', ['-lf', server.file('host-key-ed25519.pub')]);
  const [, fingerprint = ''] = stdout.split(' ');
  const line = `[127.0.0.1]:${server.port} ${server.hostKey('ed25519')}`;
  await expect(logIn({ keyFile, knownHostsFile })).rejects.toMatchObject({
    code: 'HOST_KEY_UNKNOWN',
    message: expect.stringContaining(fingerprint),
    hint: expect.stringContaining(line),
    context: { fingerprint, line },
  });
  expect(server.log()).not.toContain('Accepted publickey');
  appendFileSync(knownHostsFile, `${line}\n`);
  expect(await logIn({ keyFile, knownHostsFile })).toBe('in');
  await run('ssh-keygen', ['-H', '-f', knownHostsFile]);
  expect(readFileSync(knownHostsFile, 'utf8')).toMatch(/^\|1\|/);
  expect(await logIn({ keyFile, knownHostsFile })).toBe('in');
});

test('no file of known hosts is the same as an empty one', async () => {
  const { keyFile } = server.login;
  await expect(logIn({ keyFile, knownHostsFile: server.file('no-such-file') })).rejects.toMatchObject({
    code: 'HOST_KEY_UNKNOWN',
  });
});

test('a host with another key than the known one is refused, and named otherwise', async () => {
  const { keyFile } = server.login;
  const other = await makeKey(server.file('other-host-key'), 'ed25519');
  const key = readFileSync(`${other}.pub`, 'utf8').split(' ').slice(0, 2).join(' ');
  const knownHostsFile = knownHosts('changed', `[127.0.0.1]:${server.port} ${key}\n`);
  await expect(logIn({ keyFile, knownHostsFile })).rejects.toMatchObject({
    code: 'HOST_KEY_CHANGED',
    hint: expect.stringContaining('ssh-keygen -R'),
  });
  const revoked = knownHosts('revoked', `@revoked * ${server.hostKey('ed25519')}\n`);
  await expect(logIn({ keyFile, knownHostsFile: revoked })).rejects.toMatchObject({
    code: 'HOST_KEY_CHANGED',
    message: expect.stringContaining('revoked'),
  });
});

test('a host known by its RSA key alone is asked for that', async () => {
  const { keyFile } = server.login;
  const knownHostsFile = knownHosts('rsa', `[127.0.0.1]:${server.port} ${server.hostKey('rsa')}\n`);
  expect(await logIn({ keyFile, knownHostsFile })).toBe('in');
});

test('a key the server does not know is STORAGE_CREDENTIALS, and the hint says what was tried', async () => {
  const stranger = await makeKey(server.file('stranger'), 'ed25519');
  await expect(logIn({ ...server.login, keyFile: stranger })).rejects.toMatchObject({
    code: 'STORAGE_CREDENTIALS',
    message: expect.stringContaining(server.user),
    hint: expect.stringContaining(stranger),
  });
});

test('a key with a passphrase needs the right one, and says which is missing', async () => {
  const key = await makeKey(server.file('locked'), 'rsa', 'correct horse');
  const authorized = server.file('authorized_keys');
  appendFileSync(authorized, readFileSync(`${key}.pub`));
  const { knownHostsFile } = server.login;
  expect(await logIn({ keyFile: key, passphrase: 'correct horse', knownHostsFile })).toBe('in');
  await expect(logIn({ keyFile: key, knownHostsFile })).rejects.toMatchObject({
    code: 'STORAGE_CREDENTIALS',
    message: expect.stringContaining('no passphrase'),
    hint: expect.stringContaining('SFTP_KEY_PASSPHRASE'),
  });
  const wrong = logIn({ keyFile: key, passphrase: 'battery staple', knownHostsFile });
  await expect(wrong).rejects.toMatchObject({ code: 'STORAGE_CREDENTIALS' });
  await expect(wrong).rejects.not.toThrow(/battery/);
});

test('a key file that is missing, or no private key, is named', async () => {
  const { knownHostsFile, keyFile } = server.login;
  for (const file of [server.file('no-such-key'), `${keyFile}.pub`, knownHostsFile]) {
    await expect(logIn({ keyFile: file, knownHostsFile })).rejects.toMatchObject({
      code: 'STORAGE_CREDENTIALS',
      message: expect.stringContaining(file),
    });
  }
});

test('an agent logs in with a key that is in no file here', async () => {
  await using folder = makeTempFolder('agent');
  const agentSocket = `${folder.path}/socket`;
  const agent = spawn('ssh-agent', ['-D', '-a', agentSocket], { stdio: 'ignore' });
  await once(agent, 'spawn');
  const forget = killAfterExit(agent.pid ?? 0);
  const { knownHostsFile, keyFile } = server.login;
  try {
    const add = () =>
      run('ssh-add', ['-q', keyFile], { env: { ...process.env, SSH_AUTH_SOCK: agentSocket } });
    await waitFor('the agent', () =>
      add().then(
        () => true,
        () => false,
      ),
    );
    expect(await logIn({ agentSocket, knownHostsFile })).toBe('in');
  } finally {
    agent.kill('SIGKILL');
    forget();
  }
  // What is left of a login by an agent that has ended.
  await expect(logIn({ agentSocket, knownHostsFile })).rejects.toMatchObject({ code: 'STORAGE_CREDENTIALS' });
});

// sshd checks passwords of system accounts alone, so the server of the SSH library stands in for it here.
test.each(['password', 'keyboard-interactive'] as const)(
  'logs in by %s, and a wrong one is refused',
  async method => {
    await using folder = makeTempFolder('password');
    const hostKey = await makeKey(`${folder.path}/host-key`, 'ed25519');
    const passwordServer = new ssh2.Server({ hostKeys: [readFileSync(hostKey)] }, client => {
      client.on('authentication', attempt => {
        const answerWith = (isRight: boolean) => (isRight ? attempt.accept() : attempt.reject());
        if (attempt.method !== method) attempt.reject([method]);
        else if (attempt.method === 'password') answerWith(attempt.password === 'pässword');
        else if (attempt.method === 'keyboard-interactive')
          attempt.prompt([{ prompt: 'Password: ', echo: false }], ([answer]) =>
            answerWith(answer === 'pässword'),
          );
      });
      client.on('error', () => undefined);
      client.on('session', accept => {
        accept().on('sftp', acceptSftp => {
          const sftp = acceptSftp();
          sftp.on('STAT', id => sftp.status(id, 2));
        });
      });
    });
    passwordServer.listen(0, '127.0.0.1');
    await once(passwordServer, 'listening');
    const { port } = passwordServer.address() as { port: number };
    const key = readFileSync(`${hostKey}.pub`, 'utf8').split(' ').slice(0, 2).join(' ');
    writeFileSync(`${folder.path}/known_hosts`, `[127.0.0.1]:${port} ${key}\n`);
    const options = { knownHostsFile: `${folder.path}/known_hosts` };
    const url = `sftp://somebody@127.0.0.1:${port}/repository`;
    try {
      await using right = closing(new SftpStorage(url, { ...options, password: 'pässword' }));
      expect(await right.storage.stat('object')).toBeUndefined();
      await using wrong = closing(new SftpStorage(url, { ...options, password: 'wrong' }));
      await expect(wrong.storage.stat('object')).rejects.toMatchObject({
        code: 'STORAGE_CREDENTIALS',
        hint: expect.stringContaining('the password'),
      });
      // A server that offers no extensions at all may be read, but holds no repository.
      await expect(right.storage.put('object', Buffer.from('x'))).rejects.toMatchObject({
        code: 'STORAGE_UNFIT',
      });
    } finally {
      await new Promise(resolve => passwordServer.close(resolve));
    }
  },
);

test('a key that is no longer good in the middle of a run is STORAGE_CREDENTIALS at the next connection', async () => {
  await using proxy = await startTcpProxy(server.port);
  await using opened = closing(
    new RetryingStorage(new SftpStorage(server.url('expired', proxy.port), server.login)),
  );
  await opened.storage.put('object', Buffer.from('x'));
  const file = server.file('authorized_keys');
  const keys = readFileSync(file);
  writeFileSync(file, '');
  try {
    proxy.resetAfterSent(0, () => {});
    await expect(opened.storage.put('other', Buffer.from('x'))).rejects.toMatchObject({
      code: 'STORAGE_CREDENTIALS',
    });
  } finally {
    writeFileSync(file, keys);
  }
  expect(await opened.storage.put('other', Buffer.from('x'))).toBe('stored');
});

test('a server that refuses connections for a while, as when it restarts, is waited for', async () => {
  await using proxy = await startTcpProxy(server.port);
  await using opened = closing(
    new RetryingStorage(new SftpStorage(server.url('restarted', proxy.port), server.login)),
  );
  await opened.storage.put('object', Buffer.from('x'));
  await server.stop();
  const isRefused = Promise.withResolvers<void>();
  proxy.resetAfterSent(0, isRefused.resolve);
  const put = opened.storage.put('other', Buffer.from('x'), { ifAbsent: true });
  await isRefused.promise;
  await server.start();
  expect(await put).toBe('stored');
});

test('a server whose name is not known is unreachable, and the hint names the host', async () => {
  await using opened = closing(new SftpStorage('sftp://backup@no-such-host.invalid/srv/x', server.login));
  await expect(opened.storage.stat('object')).rejects.toMatchObject({
    code: 'STORAGE_UNREACHABLE',
    message: expect.stringContaining('no-such-host.invalid'),
  });
});

test('a server that speaks no SSH is unreachable, within the time limit', async () => {
  const listener = createServer(socket => socket.end('220 mail.example.com ESMTP\r\n'));
  await new Promise<void>(resolve => listener.listen(0, '127.0.0.1', resolve));
  const { port } = listener.address() as { port: number };
  try {
    await using opened = closing(
      new SftpStorage(`sftp://user@127.0.0.1:${port}/x`, { ...server.login, timeoutMs: 1000 }),
    );
    await expect(opened.storage.stat('object')).rejects.toMatchObject({ code: 'STORAGE_UNREACHABLE' });
  } finally {
    listener.close();
  }
});
