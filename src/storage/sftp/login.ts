// By what a login at an SFTP server is tried: the key file that was named, or the agent and the usual keys; a password.
import { readFile } from 'node:fs/promises';
import { homedir, userInfo } from 'node:os';
import path from 'node:path';
import type { AnyAuthMethod } from 'ssh2';
import { foreignCode, PgkeepError } from '../../base/errors.ts';
import type { SftpOptions } from '../storage-options.ts';
import type { SftpAddress } from './sftp-address.ts';

export interface Login {
  user: string;
  methods: AnyAuthMethod[];
  /** What is tried, for people. */
  description: string;
}

/** As ssh itself tries them when it is told nothing. */
const usualKeys = ['id_ed25519', 'id_ecdsa', 'id_rsa'];

/** @throws PgkeepError STORAGE_CREDENTIALS for a key file that cannot be used. */
export async function prepareLogin(
  { utils }: Pick<typeof import('ssh2'), 'utils'>,
  address: SftpAddress,
  options: SftpOptions,
): Promise<Login> {
  const username = address.user ?? userInfo().username;
  const methods: AnyAuthMethod[] = [];
  const tried: string[] = [];
  if (options.keyFile !== undefined) {
    const key = await readKey(options.keyFile);
    const parsed = utils.parseKey(key, options.passphrase);
    if (parsed instanceof Error || ![parsed].flat().every(one => one.isPrivateKey()))
      throw unusableKey(options.keyFile, parsed, options.passphrase !== undefined);
    methods.push({ type: 'publickey', username, key, ...passphraseOf(options) });
    tried.push(`the key ${options.keyFile}`);
  } else {
    if (options.agentSocket) {
      methods.push({ type: 'agent', username, agent: options.agentSocket });
      tried.push('the agent');
    }
    for (const file of usualKeys.map(name => path.join(homedir(), '.ssh', name))) {
      const key = await readFile(file).catch(() => undefined);
      // One that is encrypted with a passphrase that is not given is the agent's matter.
      if (key === undefined || utils.parseKey(key, options.passphrase) instanceof Error) continue;
      methods.push({ type: 'publickey', username, key, ...passphraseOf(options) });
      tried.push(`the key ${file}`);
    }
  }
  if (options.password !== undefined) {
    const { password } = options;
    methods.push({ type: 'password', username, password });
    // Servers that ask for the password by PAM offer this way alone.
    methods.push({
      type: 'keyboard-interactive',
      username,
      prompt: (_name, _instructions, _language, prompts, finish) => finish(prompts.map(() => password)),
    });
    tried.push('the password');
  }
  return {
    user: username,
    methods,
    description: tried.join(', ') || 'nothing, as no key or password is given',
  };
}

function passphraseOf({ passphrase }: SftpOptions): { passphrase?: string } {
  return passphrase === undefined ? {} : { passphrase };
}

async function readKey(file: string): Promise<Buffer> {
  try {
    return await readFile(file);
  } catch (error) {
    throw new PgkeepError(
      'STORAGE_CREDENTIALS',
      `the SSH key ${file} could not be read (${foreignCode(error) ?? String(error)})`,
      { hint: 'check SFTP_KEY_FILE and the permissions of the file', cause: error },
    );
  }
}

function unusableKey(file: string, cause: unknown, hasPassphrase: boolean): PgkeepError {
  const isEncrypted =
    cause instanceof Error && /encrypted|passphrase|integrity check|decrypt/i.test(cause.message);
  const why = isEncrypted
    ? hasPassphrase
      ? 'could not be opened with its passphrase'
      : 'is encrypted, and no passphrase is given'
    : 'is no private key that can be used';
  return new PgkeepError('STORAGE_CREDENTIALS', `the SSH key ${file} ${why}`, {
    hint: isEncrypted
      ? 'set SFTP_KEY_PASSPHRASE, or load the key into an agent'
      : 'name a private key made by ssh-keygen, not the .pub file beside it',
    cause,
  });
}
