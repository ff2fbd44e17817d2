// Encrypted connections against a real server with certificates made here. The judge of each sslmode is psql: what it
// connects to, and whether encrypted, is what we must connect to.

import { execFile } from 'node:child_process';
import { chownSync, writeFileSync } from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { openClient, queryRows } from '../../../src/postgres/client.ts';
import { readTarget } from '../../../src/postgres/target.ts';
import { WireConnection } from '../../../src/postgres/wire.ts';
import { ensureProgram } from '../../support/debian-package.ts';
import { psql, type Server, startServer } from '../../support/postgres-server.ts';
import { serverAccount } from '../../support/server-account.ts';
import { makeTempFolder } from '../../support/temp-folder.ts';

const run = promisify(execFile);
const folder = makeTempFolder('tls', serverAccount());
const file = (name: string) => join(folder.path, name);
let server: Server;
let plainServer: Server;
// Node gives each warning once in a process, so they are gathered from the first connection on.
const warnings: Error[] = [];
process.on('warning', warning => warnings.push(warning));

beforeAll(async () => {
  await ensureProgram('openssl');
  await makeAuthority('ca');
  await makeAuthority('other-ca');
  await makeCertificate('named', 'DNS:localhost');
  await makeCertificate('addressed', 'IP:127.0.0.1');
  await makeCertificate('client', 'DNS:client', '/CN=certified');
  plainServer = await startServer();
  server = await startServer({
    settings: {
      ssl: 'on',
      ssl_cert_file: file('named.crt'),
      ssl_key_file: file('named.key'),
      ssl_ca_file: file('ca.crt'),
    },
    hba: [
      'hostssl all tls_only all trust',
      'hostnossl all plain_only all trust',
      'hostssl all certified all cert',
      'host all with_password all scram-sha-256',
      'host all postgres all trust',
    ].join('\n'),
  });
  const roles = `CREATE ROLE tls_only LOGIN; CREATE ROLE plain_only LOGIN; CREATE ROLE certified LOGIN;
                 CREATE ROLE with_password LOGIN PASSWORD 'hunter2'`;
  for (const each of [server, plainServer]) await psql(each, 'postgres', roles);
});
afterAll(async () => {
  await server?.[Symbol.asyncDispose]();
  await plainServer?.[Symbol.asyncDispose]();
  await folder.remove();
});

async function openssl(...args: string[]): Promise<void> {
  await run('openssl', args, { cwd: folder.path });
}

async function makeAuthority(name: string): Promise<void> {
  const key = ['-newkey', 'rsa:2048', '-nodes', '-keyout', `${name}.key`];
  await openssl('req', '-x509', '-days', '2', '-subj', `/CN=${name}`, ...key, '-out', `${name}.crt`);
}

/** A certificate of the authority `ca`, with a key that the server's account may read. */
async function makeCertificate(
  name: string,
  alternative: string,
  subject = '/CN=pgkeep test',
): Promise<void> {
  await openssl(
    'req',
    '-newkey',
    'rsa:2048',
    '-nodes',
    '-keyout',
    `${name}.key`,
    '-subj',
    subject,
    '-out',
    `${name}.csr`,
  );
  writeFileSync(file(`${name}.ext`), `subjectAltName=${alternative}\n`);
  const signer = ['-CA', 'ca.crt', '-CAkey', 'ca.key', '-CAcreateserial'];
  await openssl(
    'x509',
    '-req',
    '-days',
    '2',
    '-in',
    `${name}.csr`,
    ...signer,
    '-extfile',
    `${name}.ext`,
    '-out',
    `${name}.crt`,
  );
  const { uid, gid } = serverAccount().ids;
  if (uid !== undefined && gid !== undefined) chownSync(file(`${name}.key`), uid, gid);
}

interface Attempt {
  host?: string;
  user?: string;
  parameters: string;
  isPlainServer?: boolean;
}

function urlOf({ host = 'localhost', user = 'postgres', parameters, isPlainServer }: Attempt): string {
  const { port } = isPlainServer ? plainServer : server;
  return `postgresql://${user}@${host}:${port}/postgres?${parameters.replaceAll('DIR', folder.path)}`;
}

const isEncrypted = 'SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()';

/** `t` or `f` as the server sees the connection, or the code of the failure. */
async function ours(attempt: Attempt): Promise<string> {
  const home = process.env.HOME;
  // Where libpq and we look for a root certificate that nobody named.
  process.env.HOME = folder.path;
  try {
    const client = await openClient(readTarget(urlOf(attempt), { HOME: folder.path }));
    const [row] = await queryRows(client, isEncrypted, 'asking');
    await client.end();
    return row?.ssl ?? 'nothing';
  } catch (error) {
    return error instanceof Error && 'code' in error ? String(error.code) : String(error);
  } finally {
    process.env.HOME = home;
  }
}

async function byPsql(attempt: Attempt): Promise<string> {
  const env = { HOME: folder.path, LC_ALL: 'C', PATH: process.env.PATH };
  const args = ['-X', '-A', '-t', '-w', '-c', isEncrypted, urlOf(attempt)];
  return run(join(server.binDir, 'psql'), args, { env }).then(
    ({ stdout }) => stdout.trim(),
    () => 'refused',
  );
}

const modes = ['disable', 'allow', 'prefer', 'require', 'verify-ca', 'verify-full'];
const attempts: Attempt[] = [
  ...modes.flatMap(mode => [
    { parameters: `sslmode=${mode}` },
    { parameters: `sslmode=${mode}&sslrootcert=DIR/ca.crt` },
    { parameters: `sslmode=${mode}&sslrootcert=DIR/ca.crt`, host: '127.0.0.1' },
    { parameters: `sslmode=${mode}&sslrootcert=DIR/other-ca.crt` },
    { parameters: `sslmode=${mode}&sslrootcert=DIR/ca.crt`, isPlainServer: true },
    { parameters: `sslmode=${mode}&sslrootcert=DIR/ca.crt`, user: 'tls_only' },
    { parameters: `sslmode=${mode}&sslrootcert=DIR/ca.crt`, user: 'plain_only' },
  ]),
  { parameters: '' },
  { parameters: 'ssl=true', isPlainServer: true },
  { parameters: 'sslmode=verify-full&sslrootcert=DIR/no-such-file' },
  { parameters: 'sslmode=require', user: 'certified' },
  ...['disable', 'prefer', 'require'].flatMap(binding => [
    { parameters: `sslmode=require&password=hunter2&channel_binding=${binding}`, user: 'with_password' },
    { parameters: `sslmode=disable&password=hunter2&channel_binding=${binding}`, user: 'with_password' },
    { parameters: `sslmode=prefer&password=hunter2&channel_binding=${binding}`, user: 'with_password' },
    { parameters: `sslmode=require&channel_binding=${binding}` },
    { parameters: `channel_binding=${binding}`, isPlainServer: true },
  ]),
  {
    parameters: 'sslmode=verify-full&sslrootcert=DIR/ca.crt&sslcert=DIR/client.crt&sslkey=DIR/client.key',
    user: 'certified',
  },
];

// psql gives up encryption over a certificate that it was not asked to check; we keep it.
const encryptedUnchecked = 'sslmode=prefer&sslrootcert=DIR/other-ca.crt';

test.each(attempts.filter(({ parameters }) => parameters !== encryptedUnchecked))(
  'connects as psql does: $parameters $user $host $isPlainServer',
  async attempt => {
    const [mine, theirs] = [await ours(attempt), await byPsql(attempt)];
    if (theirs === 'refused') expect(mine).toMatch(/^DATABASE_(TLS|AUTHENTICATION)$/);
    else expect(mine).toBe(theirs);
  },
);

test('sslmode=prefer stays encrypted whatever the certificate', async () => {
  expect(await byPsql({ parameters: encryptedUnchecked })).toBe('f');
  expect(await ours({ parameters: encryptedUnchecked })).toBe('t');
});

test('channel_binding=require sends no password to who does not offer it', async () => {
  const received: Buffer[] = [];
  // Says what an impostor would: a password, please, as it is.
  const impostor = createServer(socket => {
    socket.on('error', () => undefined);
    socket.on('data', bytes => {
      received.push(bytes);
      if (received.length === 1) socket.write(Buffer.from([0x52, 0, 0, 0, 8, 0, 0, 0, 3]));
    });
  });
  await new Promise<void>(resolve => impostor.listen(0, '127.0.0.1', resolve));
  const { port } = impostor.address() as AddressInfo;
  const url = `postgres://u:hunter2@127.0.0.1:${port}/d?sslmode=disable&channel_binding=`;
  await expect(openClient(readTarget(`${url}require`, {}))).rejects.toMatchObject({
    code: 'DATABASE_TLS',
    message: expect.stringContaining('channel_binding=require'),
  });
  expect(received).toHaveLength(1);
  expect(Buffer.concat(received).toString('latin1')).not.toContain('hunter2');
  impostor.close();
});

describe('with sslmode=verify-full', () => {
  test('a certificate for the address is as good as one for the name', async () => {
    await server.stop();
    await server.start({ ssl_cert_file: file('addressed.crt'), ssl_key_file: file('addressed.key') });
    try {
      const parameters = 'sslmode=verify-full&sslrootcert=DIR/ca.crt';
      expect(await ours({ host: '127.0.0.1', parameters })).toBe('t');
      expect(await ours({ host: 'localhost', parameters })).toBe('DATABASE_TLS');
    } finally {
      await server.stop();
      await server.start({ ssl_cert_file: file('named.crt'), ssl_key_file: file('named.key') });
    }
  });

  test('the failure says what is wrong and with which sslmode', async () => {
    const failure = (parameters: string, host?: string) => {
      const attempt = host === undefined ? { parameters } : { parameters, host };
      return openClient(readTarget(urlOf(attempt), {})).then(
        () => undefined,
        error => error,
      );
    };
    expect(await failure('sslmode=verify-full&sslrootcert=DIR/other-ca.crt')).toMatchObject({
      code: 'DATABASE_TLS',
      message: expect.stringMatching(/sslmode=verify-full.*certificate/),
    });
    expect(await failure('sslmode=verify-full&sslrootcert=DIR/ca.crt', '127.0.0.1')).toMatchObject({
      code: 'DATABASE_TLS',
      message: expect.stringMatching(/127\.0\.0\.1/),
    });
    expect(await failure('sslmode=verify-full&sslrootcert=DIR/no-such-file')).toMatchObject({
      code: 'DATABASE_TLS',
      message: expect.stringContaining('no-such-file'),
    });
  });
});

test('COPY comes through TLS as it does without', async () => {
  const copy = 'COPY (SELECT n, md5(n::text) FROM generate_series(1, 200000) AS n) TO STDOUT';
  const read = async (parameters: string) => {
    const wire = await WireConnection.open(readTarget(urlOf({ parameters }), {}), 'pgkeep test');
    const pieces: Buffer[] = [];
    const sink = {
      write(chunk: Buffer, start: number, end: number) {
        pieces.push(Buffer.from(chunk.subarray(start, end)));
        // Paused and resumed now and then, as a busy reader does.
        if (pieces.length % 50_000 === 0) {
          wire.pause();
          setImmediate(() => wire.resume());
        }
      },
    };
    const rows = await wire.copyOut(copy, 'reading', sink);
    const [[ssl] = []] = await wire.run(isEncrypted, 'asking');
    await wire.close();
    return { rows, ssl, bytes: Buffer.concat(pieces) };
  };
  const [plain, encrypted] = [await read('sslmode=disable'), await read('sslmode=require')];
  expect([plain.ssl, encrypted.ssl]).toEqual(['f', 't']);
  expect([plain.rows, encrypted.rows]).toEqual([200_000, 200_000]);
  expect(encrypted.bytes.equals(plain.bytes)).toBe(true);
});

test('through a Unix socket the sslmode does not matter', async () => {
  const url = `postgresql://postgres@/postgres?host=${server.socketDir}&port=${server.port}`;
  for (const mode of ['disable', 'prefer', 'require', 'verify-full']) {
    const wire = await WireConnection.open(readTarget(`${url}&sslmode=${mode}`, {}), 'pgkeep test');
    expect(await wire.run('SELECT inet_client_addr()', 'asking')).toEqual([[null]]);
    wire.close();
  }
});

describe('who cannot connect is told why, without secrets', () => {
  const failure = (url: string, environment = {}) =>
    openClient(readTarget(url, environment)).then(
      client => client.end().then(() => undefined),
      error => error,
    );

  test.each<[string, (port: number) => string, string, RegExp]>([
    [
      'a wrong password',
      port => `postgres://with_password:wrong2@localhost:${port}/postgres`,
      'DATABASE_AUTHENTICATION',
      /with_password/,
    ],
    [
      'no password',
      port => `postgres://with_password@localhost:${port}/postgres`,
      'DATABASE_AUTHENTICATION',
      /no password was given/,
    ],
    [
      'an unknown role',
      port => `postgres://nobody:wrong2@localhost:${port}/postgres`,
      'DATABASE_AUTHENTICATION',
      /nobody/,
    ],
    [
      'an unknown database',
      port => `postgres://postgres@localhost:${port}/no_such`,
      'DATABASE_NOT_FOUND',
      /no_such/,
    ],
    [
      'a port where nobody listens',
      () => 'postgres://postgres:wrong2@127.0.0.1:1/postgres',
      'DATABASE_UNREACHABLE',
      /127\.0\.0\.1:1/,
    ],
    [
      'a host that does not exist',
      () => 'postgres://postgres:wrong2@no-such-host.invalid/postgres',
      'DATABASE_UNREACHABLE',
      /no-such-host/,
    ],
    [
      'a socket that does not exist',
      () => 'postgres://postgres:wrong2@/postgres?host=/no/such/folder',
      'DATABASE_UNREACHABLE',
      /no\/such\/folder/,
    ],
  ])('%s', async (_, url, code, message) => {
    const error = await failure(url(server.port));
    expect(error).toMatchObject({ code, message: expect.stringMatching(message) });
    expect(`${error.stack} ${JSON.stringify(error)} ${error.cause?.stack}`).not.toContain('wrong2');
  });

  test('the right password from the password file connects', async () => {
    writeFileSync(file('pgpass'), `localhost:${server.port}:*:with_password:hunter2\n`, { mode: 0o600 });
    const url = `postgres://with_password@localhost:${server.port}/postgres`;
    expect(await failure(url, { PGPASSFILE: file('pgpass') })).toBeUndefined();
  });
});

test('none of these connections made Node print a warning', () => {
  expect(warnings).toEqual([]);
});
