// Divides a script into runs of statements, each to be sent as one message, which is one transaction.
import { PgkeepError } from '../base/errors.ts';
import { isSetting } from './archive-script.ts';
import type { Statement } from './wire.ts';

/** Each may hold a lock until the end of its transaction, and servers have room for some thousands. */
const batchStatements = 256;
const batchBytes = 256 * 1024;
/** Of a statement, so much is said of it when it fails. */
const shownCharacters = 120;

const lineFeed = 0x0a;
const quote = 0x27;
const doubleQuote = 0x22;
const hyphen = 0x2d;
const semicolon = 0x3b;

/**
 * @param script as pg_restore prints it, of statements without dollar quotes: in its strings backslashes are doubled.
 * @returns statements whose text is latin1: each of its characters stands for a byte.
 * @throws PgkeepError INTERNAL when the script ends within a statement: it would be lost without a word.
 */
export async function* statementBatches(script: AsyncIterable<Buffer>): AsyncGenerator<Statement[], void> {
  let batch: Statement[] = [];
  let bytes = 0;
  for await (const statement of statementsIn(script)) {
    // What encoding a message is in, the server must know before it comes.
    if (bytes > 0 && isSetting(batch[0]?.sql ?? '') && !isSetting(statement)) {
      yield batch;
      batch = [];
      bytes = 0;
    }
    batch.push({ sql: statement, doing: `running ${shown(statement)}` });
    bytes += statement.length;
    if (batch.length < batchStatements && bytes < batchBytes) continue;
    yield batch;
    batch = [];
    bytes = 0;
  }
  if (batch.length > 0) yield batch;
}

/** Statements without comments in front of them. */
async function* statementsIn(script: AsyncIterable<Buffer>): AsyncGenerator<string, void> {
  let rest: Buffer = Buffer.alloc(0);
  /** Where the statement begins, and how far it was looked at. */
  let begin = 0;
  let at = 0;
  /** Inside of what: a string, a name, a comment. */
  let end = 0;
  for await (const chunk of script) {
    rest = Buffer.concat([rest.subarray(begin), chunk]);
    at -= begin;
    begin = 0;
    for (; at < rest.length; at++) {
      const byte = rest[at];
      if (end !== 0) {
        if (byte !== end) continue;
        if (end === lineFeed) begin = at + 1;
        end = 0;
      } else if (byte === quote || byte === doubleQuote) end = byte;
      else if (byte === hyphen && isBlank(rest, begin, at)) end = lineFeed;
      else if (byte === semicolon) {
        yield rest.toString('latin1', begin, at).trim();
        begin = at + 1;
      }
    }
  }
  if (end !== lineFeed && (end !== 0 || !isBlank(rest, begin, rest.length)))
    throw new PgkeepError('INTERNAL', 'what pg_restore printed ends within a statement');
}

function isBlank(bytes: Buffer, start: number, end: number): boolean {
  for (let at = start; at < end; at++) if ((bytes[at] ?? 0) > 0x20) return false;
  return true;
}

/** For people. */
function shown(statement: string): string {
  const text = Buffer.from(statement, 'latin1').toString().replaceAll(/\s+/g, ' ');
  return text.length > shownCharacters ? `${text.slice(0, shownCharacters)}...` : text;
}
