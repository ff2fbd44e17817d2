// The files in which OpenSSH keeps the keys of the hosts it has met: which keys a host may have, hashed names, wildcards
// and revoked keys included. Lines of certificate authorities are passed over, as host certificates are not used here.
import { createHash, createHmac } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { foreignCode } from '../../base/errors.ts';

interface KnownHostsEntry {
  isRevoked: boolean;
  hosts: string;
  key: Buffer;
}

/** `changed`: the host is known by other keys only. */
export type HostKeyVerdict = 'known' | 'unknown' | 'changed' | 'revoked';

export class KnownHosts {
  readonly #entries: readonly KnownHostsEntry[];

  private constructor(entries: readonly KnownHostsEntry[]) {
    this.#entries = entries;
  }

  /** Reads files; one that does not exist counts as empty. @throws the errno of a file that cannot be read. */
  static async read(files: readonly string[]): Promise<KnownHosts> {
    const texts = await Promise.all(
      files.map(file =>
        readFile(file, 'utf8').catch((error: unknown) => {
          if (foreignCode(error) === 'ENOENT') return '';
          throw error;
        }),
      ),
    );
    return KnownHosts.parse(texts.join('\n'));
  }

  static parse(text: string): KnownHosts {
    return new KnownHosts(text.split('\n').flatMap(line => parseLine(line) ?? []));
  }

  /** What the files say of a key that a host has shown. */
  verdict(host: string, port: number, key: Buffer): HostKeyVerdict {
    const entries = this.#entriesOf(host, port);
    if (entries.some(entry => entry.isRevoked && entry.key.equals(key))) return 'revoked';
    const trusted = entries.filter(entry => !entry.isRevoked);
    if (trusted.some(entry => entry.key.equals(key))) return 'known';
    if (trusted.length > 0) return 'changed';
    // As ssh does: a host met on the usual port is trusted with the same key on another one.
    return port !== 22 && this.verdict(host, 22, key) === 'known' ? 'known' : 'unknown';
  }

  /** The types of the keys that the host is known by, such as `ssh-ed25519`: to be asked for ahead of all others. */
  keyTypes(host: string, port: number): string[] {
    const own = this.#entriesOf(host, port);
    const entries = own.length > 0 || port === 22 ? own : this.#entriesOf(host, 22);
    return [...new Set(entries.filter(entry => !entry.isRevoked).map(entry => keyType(entry.key)))];
  }

  #entriesOf(host: string, port: number): KnownHostsEntry[] {
    const name = hostName(host, port);
    return this.#entries.filter(entry => matchesHosts(entry.hosts, name));
  }
}

/** A host as the files name it: with the port in brackets unless it is the usual one. */
export function hostName(host: string, port: number): string {
  const name = host.toLowerCase();
  return port === 22 ? name : `[${name}]:${port}`;
}

/** The line that makes a key known. */
export function knownHostsLine(host: string, port: number, key: Buffer): string {
  return `${hostName(host, port)} ${keyType(key)} ${key.toString('base64')}`;
}

/** As ssh-keygen -l prints it: SHA256:… */
export function fingerprint(key: Buffer): string {
  return `SHA256:${createHash('sha256').update(key).digest('base64').replace(/=+$/, '')}`;
}

/** The type that a public key in SSH's encoding begins with; empty for what is no such key. */
export function keyType(key: Buffer): string {
  if (key.length < 4) return '';
  const length = key.readUInt32BE(0);
  return length > 64 ? '' : key.toString('latin1', 4, 4 + length);
}

function parseLine(line: string): KnownHostsEntry | undefined {
  const words = line.trim().split(/\s+/);
  if (words[0] === '' || words[0]?.startsWith('#')) return undefined;
  const marker = words[0]?.startsWith('@') ? words.shift() : undefined;
  const [hosts, type, base64] = words;
  if (hosts === undefined || type === undefined || base64 === undefined) return undefined;
  if (marker !== undefined && marker !== '@revoked') return undefined;
  const key = Buffer.from(base64, 'base64');
  return keyType(key) === type ? { isRevoked: marker === '@revoked', hosts, key } : undefined;
}

function matchesHosts(hosts: string, name: string): boolean {
  if (hosts.startsWith('|1|')) {
    const [, , salt = '', hash = ''] = hosts.split('|');
    return createHmac('sha1', Buffer.from(salt, 'base64')).update(name).digest('base64') === hash;
  }
  let isMatch = false;
  for (const pattern of hosts.split(',')) {
    const isNegated = pattern.startsWith('!');
    if (!matchesPattern(isNegated ? pattern.slice(1) : pattern, name)) continue;
    if (isNegated) return false;
    isMatch = true;
  }
  return isMatch;
}

function matchesPattern(pattern: string, name: string): boolean {
  const expression = pattern
    .toLowerCase()
    .replace(/[^a-z0-9*?]/g, character => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`)
    .replaceAll('*', '.*')
    .replaceAll('?', '.');
  return new RegExp(`^${expression}$`, 's').test(name);
}
