// Which host keys the known_hosts files vouch for, read as ssh reads them.

import { createHmac, randomBytes } from 'node:crypto';
import { expect, test } from 'vitest';
import {
  fingerprint,
  KnownHosts,
  keyType,
  knownHostsLine,
} from '../../../../src/storage/sftp/known-hosts.ts';

const key = publicKey('ssh-ed25519', 1);
const otherKey = publicKey('ssh-ed25519', 2);
const rsaKey = publicKey('ssh-rsa', 3);

/** A key in SSH's encoding: the length of its type, the type, anything. */
function publicKey(type: string, seed: number): Buffer {
  const length = Buffer.alloc(4);
  length.writeUInt32BE(type.length);
  return Buffer.concat([length, Buffer.from(type), Buffer.alloc(36, seed)]);
}

function hashed(name: string): string {
  const salt = randomBytes(20);
  const hash = createHmac('sha1', salt).update(name).digest('base64');
  return `|1|${salt.toString('base64')}|${hash}`;
}

function line(hosts: string, of: Buffer, marker = ''): string {
  return `${marker}${hosts} ${keyType(of)} ${of.toString('base64')} a comment`;
}

test.each([
  ['its name', 'host.example.com', 22, 'host.example.com'],
  ['its name in capitals', 'Host.Example.COM', 22, 'host.example.com'],
  ['one of several names', 'host', 22, 'other,host,10.0.0.1'],
  ['name and port', 'host', 2222, '[host]:2222'],
  ['its name, on another port', 'host', 2222, 'host'],
  ['a wildcard', 'a.example.com', 22, '*.example.com'],
  ['a question mark', 'host1', 22, 'host?'],
  ['a wildcard for ports', 'host', 2222, '[host]:*'],
  ['a hashed name', 'host', 22, hashed('host')],
  ['a hashed name and port', 'host', 2222, hashed('[host]:2222')],
  ['an IPv6 address', '::1', 2222, '[::1]:2222'],
])('a host is known by %s', (_way, host, port, hosts) => {
  const known = KnownHosts.parse(`# a comment\n\n${line('unrelated', otherKey)}\n${line(hosts, key)}\n`);
  expect(known.verdict(host, port, key)).toBe('known');
  expect(known.verdict(host, port, otherKey)).not.toBe('known');
  expect(known.keyTypes(host, port)).toEqual(['ssh-ed25519']);
});

test.each([
  ['another name', 'host', 22, 'hosts'],
  ['a name it only contains', 'a.host', 22, 'host'],
  ['a dot that is none', 'hostxexample', 22, 'host.example'],
  ['another port', 'host', 22, '[host]:2222'],
  ['a hash of another name', 'host', 22, hashed('other')],
  ['a negated name', 'bad.example.com', 22, '*.example.com,!bad.example.com'],
])('a host is unknown by %s', (_way, host, port, hosts) => {
  const known = KnownHosts.parse(line(hosts, key));
  expect(known.verdict(host, port, key)).toBe('unknown');
  expect(known.keyTypes(host, port)).toEqual([]);
});

test('another key than the known one is a change, also of another type', () => {
  const known = KnownHosts.parse(line('host', key));
  expect(known.verdict('host', 22, otherKey)).toBe('changed');
  expect(known.verdict('host', 22, rsaKey)).toBe('changed');
});

test('a host may have several keys, and types are asked for as they are known', () => {
  const known = KnownHosts.parse([line('host', rsaKey), line('host', key)].join('\n'));
  expect(known.verdict('host', 22, key)).toBe('known');
  expect(known.verdict('host', 22, rsaKey)).toBe('known');
  expect(known.keyTypes('host', 22)).toEqual(['ssh-rsa', 'ssh-ed25519']);
});

test('a revoked key is refused though it is known, and an authority vouches for nothing', () => {
  const revoked = KnownHosts.parse([line('host', key), line('*', key, '@revoked ')].join('\n'));
  expect(revoked.verdict('host', 22, key)).toBe('revoked');
  const authority = KnownHosts.parse(line('*', key, '@cert-authority '));
  expect(authority.verdict('host', 22, key)).toBe('unknown');
});

test('lines that are none are passed over', () => {
  const known = KnownHosts.parse(
    [
      'host',
      'host ssh-ed25519',
      `host ssh-rsa ${key.toString('base64')}`,
      line('host', key).replace(/\n/, '\r'),
    ].join('\r\n'),
  );
  expect(known.verdict('host', 22, key)).toBe('known');
});

test('the line to add makes the key known', () => {
  for (const port of [22, 2222]) {
    const known = KnownHosts.parse(knownHostsLine('Host', port, key));
    expect(known.verdict('host', port, key)).toBe('known');
  }
});

test('the fingerprint is the one ssh-keygen prints', () => {
  const real = 'AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl';
  expect(fingerprint(Buffer.from(real, 'base64'))).toBe('SHA256:+DiY3wvvV6TuJJhbpZisF/zLDA0zPMSvHdkr4UvCOqU');
});
