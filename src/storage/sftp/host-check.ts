// Whether the host at the other end is the one that is meant: its key must be in the known_hosts files.
import { homedir } from 'node:os';
import path from 'node:path';
import type { Algorithms, ServerHostKeyAlgorithm } from 'ssh2';
import { foreignCode, PgkeepError } from '../../base/errors.ts';
import { fingerprint, hostName, KnownHosts, keyType, knownHostsLine } from './known-hosts.ts';
import type { SftpAddress } from './sftp-address.ts';

/** In the order in which a host that is known by no key is asked for one. */
const hostKeyAlgorithms: readonly ServerHostKeyAlgorithm[] = [
  'ssh-ed25519',
  'ecdsa-sha2-nistp256',
  'ecdsa-sha2-nistp384',
  'ecdsa-sha2-nistp521',
  'rsa-sha2-512',
  'rsa-sha2-256',
];

export class HostCheck {
  /** Why the key that the host has shown was not accepted. */
  refusal: PgkeepError | undefined;
  readonly #knownHosts: KnownHosts;
  readonly #host: string;
  readonly #port: number;
  readonly #file: string;

  private constructor(knownHosts: KnownHosts, address: SftpAddress, file: string) {
    this.#knownHosts = knownHosts;
    this.#host = address.host;
    this.#port = address.port;
    this.#file = file;
  }

  /** @param chosenFile instead of OpenSSH's own places. @throws PgkeepError STORAGE_DENIED when it cannot be read. */
  static async prepare(address: SftpAddress, chosenFile: string | undefined): Promise<HostCheck> {
    const file = chosenFile ?? path.join(homedir(), '.ssh', 'known_hosts');
    const files = chosenFile === undefined ? [file, '/etc/ssh/ssh_known_hosts'] : [file];
    try {
      return new HostCheck(await KnownHosts.read(files), address, file);
    } catch (error) {
      throw new PgkeepError(
        'STORAGE_DENIED',
        `the known hosts in ${files.join(' and ')} could not be read (${foreignCode(error) ?? String(error)})`,
        { hint: 'make the file readable, or name another one with SFTP_KNOWN_HOSTS', cause: error },
      );
    }
  }

  /** A host that is known must show a key of a type it is known by, though it may have keys of others too. */
  get algorithms(): Algorithms {
    const types = this.#knownHosts.keyTypes(this.#host, this.#port);
    const isKnown = (algorithm: string) => types.includes(algorithm.replace(/^rsa-.*/, 'ssh-rsa'));
    return { serverHostKey: hostKeyAlgorithms.toSorted((a, b) => Number(isKnown(b)) - Number(isKnown(a))) };
  }

  accepts(key: Buffer): boolean {
    this.refusal = this.#refusalOf(key);
    return this.refusal === undefined;
  }

  #refusalOf(key: Buffer): PgkeepError | undefined {
    const shown = `${keyType(key)} ${fingerprint(key)}`;
    const host = hostName(this.#host, this.#port);
    const line = knownHostsLine(this.#host, this.#port, key);
    const context = { host, keyType: keyType(key), fingerprint: fingerprint(key) };
    switch (this.#knownHosts.verdict(this.#host, this.#port, key)) {
      case 'known':
        return undefined;
      case 'unknown':
        return new PgkeepError('HOST_KEY_UNKNOWN', `the host ${host} is not known; its key is ${shown}`, {
          hint: `compare the fingerprint with the server's own (ssh-keygen -lf on its public host key); if they agree, add this line to ${this.#file}: ${line}`,
          context: { ...context, line },
        });
      case 'changed':
        return new PgkeepError(
          'HOST_KEY_CHANGED',
          `the host ${host} has shown another key than the one it is known by: ${shown}`,
          {
            hint: `somebody may be in between; if the server's key was really changed, remove the old one (ssh-keygen -R '${host}' -f ${this.#file}) and add the new one`,
            context,
          },
        );
      case 'revoked':
        return new PgkeepError('HOST_KEY_CHANGED', `the host ${host} has shown a revoked key: ${shown}`, {
          hint: `the key is marked @revoked in ${this.#file}; ask who runs the server`,
          context,
        });
    }
  }
}
