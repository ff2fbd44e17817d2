// sftp://user@host:port/absolute/path, or /~/path for one in the user's home folder.
import { PgkeepError } from '../../base/errors.ts';

export interface SftpAddress {
  host: string;
  port: number;
  /** Undefined stands for the user of this process. */
  user: string | undefined;
  /** Absolute, or relative to the user's home folder. */
  folder: string;
}

/** @throws PgkeepError OPTION_INVALID; a password in the address is refused, as addresses are shown and logged. */
export function parseSftpAddress(address: string): SftpAddress {
  let url: URL;
  try {
    url = new URL(address);
  } catch {
    throw invalid('is not a URL');
  }
  if (url.password !== '') {
    throw new PgkeepError('OPTION_INVALID', 'the address of an SFTP repository holds a password', {
      hint: 'set SFTP_PASSWORD instead: addresses show up in logs and in the list of processes',
    });
  }
  if (url.hostname === '') throw invalid('names no host');
  if (url.search !== '' || url.hash !== '') throw invalid('holds a ? or #');
  let folder: string;
  let user: string;
  try {
    folder = decodeURIComponent(url.pathname).replace(/\/+$/, '');
    user = decodeURIComponent(url.username);
  } catch {
    throw invalid('holds a % that encodes nothing');
  }
  if (folder === '') throw invalid('names no folder');
  if (folder.includes('\0')) throw invalid('holds a zero byte');
  return {
    host: url.hostname.replace(/^\[|\]$/g, ''),
    port: url.port === '' ? 22 : Number(url.port),
    user: user === '' ? undefined : user,
    folder: folder.startsWith('/~/') ? folder.slice(3) : folder,
  };
}

function invalid(what: string): PgkeepError {
  return new PgkeepError('OPTION_INVALID', `the address of an SFTP repository ${what}`, {
    hint: 'write sftp://user@host/path, or sftp://user@host/~/path for a folder in the home of the user',
  });
}
