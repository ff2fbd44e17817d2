// How an SFTP server is reached, beside its address.

export interface SftpOptions {
  password?: string | undefined;
  /** A file with a private key, as ssh-keygen makes it. */
  keyFile?: string | undefined;
  /** Of the key file. */
  passphrase?: string | undefined;
  /** The socket of an SSH agent. */
  agentSocket?: string | undefined;
  /** Where the host's key must be found; without it OpenSSH's own places. */
  knownHostsFile?: string | undefined;
  /** How long connecting, or a silent server, is waited for; 20,000 by default. */
  timeoutMs?: number | undefined;
}

export interface SftpAddress {
  host: string;
  port: number;
  /** Undefined stands for the user of this process. */
  user: string | undefined;
  /** Absolute, or relative to the user's home folder. */
  folder: string;
}
