// What pg_restore prints as a script, made into a part of a larger one: without psql's own commands, which psql of an
// older minor version does not know, and without settings that an older server does not know.
import { PgkeepError } from '../base/errors.ts';

/** Ends the settings with which every script of pg_restore begins. */
const lastSetting = 'SET row_security = off;';
/** Longer than what follows the last statement: a comment and \unrestrict. */
const tailBytes = 512;
const headLimitBytes = 64 * 1024;
const lineFeed = 0x0a;

/**
 * Keeps the settings at the beginning but transaction_timeout, and every statement; drops the title, the end, and
 * \restrict and \unrestrict, which are the only commands of psql in it.
 * @throws PgkeepError PROGRAM_FAILED when it does not begin as scripts of pg_restore do.
 */
export async function* statementsOf(script: AsyncIterable<Buffer>): AsyncIterable<Buffer> {
  let held: Buffer = Buffer.alloc(0);
  let restrictKey: string | undefined;
  let isInHead = true;
  for await (const chunk of script) {
    held = Buffer.concat([held, chunk]);
    if (isInHead) {
      const end = held.indexOf(`\n${lastSetting}\n`);
      if (end < 0 && held.length < headLimitBytes) continue;
      if (end < 0) throw unexpected('settings');
      const lines = held
        .toString('latin1', 0, end + lastSetting.length + 2)
        .split('\n')
        .filter(line => line !== '');
      restrictKey = lines.map(line => /^\\restrict (\w+)$/.exec(line)?.[1]).find(key => key !== undefined);
      yield Buffer.from(`${lines.filter(isSetting).join('\n')}\n`, 'latin1');
      held = held.subarray(end + lastSetting.length + 2);
      isInHead = false;
    }
    if (held.length > tailBytes) {
      yield held.subarray(0, held.length - tailBytes);
      held = held.subarray(held.length - tailBytes);
    }
  }
  if (isInHead) throw unexpected('settings');
  const tail = held.toString('latin1');
  const end = tail.lastIndexOf('--\n-- PostgreSQL database dump complete\n--\n');
  if (end < 0) throw unexpected('end');
  if (restrictKey !== undefined && !tail.slice(end).includes(`\\unrestrict ${restrictKey}\n`))
    throw unexpected('end');
  yield Buffer.from(tail.slice(0, end), 'latin1');
}

/** Whether a statement is among those that a script begins with. */
export function isSetting(line: string): boolean {
  if (line.startsWith('SET transaction_timeout ')) return false;
  return line.startsWith('SET ') || line.startsWith('SELECT pg_catalog.set_config(');
}

/**
 * Writes the contents of large objects by lo_put, one statement each, in place of lo_open, lowrite and lo_close between
 * BEGIN and COMMIT: so they can stand in a transaction of the reader's.
 * @param statements of a script that has nothing but the contents of large objects.
 * @throws PgkeepError PROGRAM_FAILED for a statement that is none of these.
 */
export async function* largeObjectPuts(statements: AsyncIterable<Buffer>): AsyncIterable<Buffer> {
  let oid = '';
  let offset = 0;
  for await (const line of linesOf(statements)) {
    const opened = /^SELECT pg_catalog\.lo_open\('(\d+)', \d+\);$/.exec(line);
    const written = /^SELECT pg_catalog\.lowrite\(0, E?'\\+x([0-9a-f]*)'\);$/.exec(line);
    if (opened?.[1] !== undefined) {
      oid = opened[1];
      offset = 0;
    } else if (written?.[1] !== undefined) {
      yield Buffer.from(largeObjectPut(oid, offset, written[1]));
      offset += written[1].length / 2;
    } else if (/^(SET |SELECT pg_catalog\.set_config\(|--)/.test(line) || line === '') {
      yield Buffer.from(`${line}\n`, 'latin1');
    } else if (!/^(BEGIN;|COMMIT;|SELECT pg_catalog\.lo_close\(0\);)$/.test(line)) {
      throw unexpected(`large object: ${line.slice(0, 80)}`);
    }
  }
}

function largeObjectPut(oid: string, offset: number, hex: string): string {
  return `SELECT pg_catalog.lo_put(${oid}, ${offset}, pg_catalog.decode('${hex}', 'hex'));\n`;
}

async function* linesOf(bytes: AsyncIterable<Buffer>): AsyncIterable<string> {
  let held: Buffer[] = [];
  for await (const chunk of bytes) {
    let from = 0;
    for (let at = chunk.indexOf(lineFeed); at >= 0; at = chunk.indexOf(lineFeed, from)) {
      yield Buffer.concat([...held, chunk.subarray(from, at)]).toString('latin1');
      held = [];
      from = at + 1;
    }
    if (from < chunk.length) held.push(chunk.subarray(from));
  }
  if (held.length > 0) yield Buffer.concat(held).toString('latin1');
}

function unexpected(what: string): PgkeepError {
  return new PgkeepError(
    'PROGRAM_FAILED',
    `pg_restore printed a script of another form than known (${what})`,
    {
      hint: 'restore into a database instead, and please report this with the version of pg_restore',
    },
  );
}
