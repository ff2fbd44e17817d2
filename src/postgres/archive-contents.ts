// The table of contents of a pg_dump archive, as pg_restore lists it: what an archive holds, and what each entry
// depends on.
import type { Writable } from 'node:stream';
import { programFailure, runProgram } from '../base/child-process.ts';

export interface ArchiveEntry {
  /** The number by which pg_restore's --use-list selects it. */
  dumpId: number;
  /** Oid of the catalog the object is in; 0 for data. */
  catalogOid: string;
  oid: string;
  /** What it is, such as TABLE or FK CONSTRAINT. */
  kind: string;
  /** What it is and its schema, name and owner, as printed; names are not quoted, so this is for people. */
  text: string;
  /** Dump ids of the entries it needs. */
  dependsOn: number[];
}

/** Kinds of two and more words, which a reader of the first word would take for others. */
const longKinds = [
  'PUBLICATION TABLES IN SCHEMA',
  'MATERIALIZED VIEW DATA',
  'MATERIALIZED VIEW',
  'TEXT SEARCH CONFIGURATION',
  'TEXT SEARCH DICTIONARY',
  'TEXT SEARCH PARSER',
  'TEXT SEARCH TEMPLATE',
  'FOREIGN DATA WRAPPER',
  'PROCEDURAL LANGUAGE',
  'DATABASE PROPERTIES',
  'SEQUENCE OWNED BY',
  'SUBSCRIPTION TABLE',
  'PUBLICATION TABLE',
  'CHECK CONSTRAINT',
  'OPERATOR FAMILY',
  'STATISTICS DATA',
  'OPERATOR CLASS',
  'SECURITY LABEL',
  'ACCESS METHOD',
  'BLOB METADATA',
  'EVENT TRIGGER',
  'FK CONSTRAINT',
  'FOREIGN TABLE',
  'LARGE OBJECT',
  'ACL LANGUAGE',
  'INDEX ATTACH',
  'ROW SECURITY',
  'SEQUENCE SET',
  'TABLE ATTACH',
  'USER MAPPING',
  'DEFAULT ACL',
  'SHELL TYPE',
  'TABLE DATA',
];

/** Kinds that share their first word with another and have no entry in a catalog; the oid tells them apart. */
const dataKinds = new Set([
  'TABLE DATA',
  'TABLE ATTACH',
  'SEQUENCE SET',
  'SEQUENCE OWNED BY',
  'INDEX ATTACH',
  'MATERIALIZED VIEW DATA',
]);

/** By their first word, as there may be a hundred thousand entries. */
const longKindsByWord = Map.groupBy(longKinds, kind => kind.slice(0, kind.indexOf(' ')));

/** What an entry is, such as TABLE or FK CONSTRAINT, from its text and whether it names a catalog. */
function kindOf(text: string, catalogOid: string): string {
  const word = text.slice(0, text.indexOf(' '));
  const long = longKindsByWord
    .get(word)
    ?.find(kind => text.startsWith(`${kind} `) && !(dataKinds.has(kind) && catalogOid !== '0'));
  return long ?? word;
}

/**
 * Lists an archive given as a stream; reads no further than its table of contents.
 * @param pgRestore the program's file.
 * @throws PgkeepError PROGRAM_FAILED when it is no archive that this pg_restore can read.
 */
export async function listArchive(
  pgRestore: string,
  archive: AsyncIterable<Buffer>,
  env: Readonly<Record<string, string>>,
  signal?: AbortSignal,
): Promise<ArchiveEntry[]> {
  return await list(pgRestore, ['--verbose'], archive, env, signal);
}

/**
 * Lists the entries of the post-data section, without what they depend on.
 * @throws PgkeepError as {@link listArchive}.
 */
export async function listPostData(
  pgRestore: string,
  archive: AsyncIterable<Buffer>,
  env: Readonly<Record<string, string>>,
  signal?: AbortSignal,
): Promise<ArchiveEntry[]> {
  // With --verbose the entries of the other sections would be listed too.
  return await list(pgRestore, ['--section=post-data'], archive, env, signal);
}

async function list(
  pgRestore: string,
  args: readonly string[],
  archive: AsyncIterable<Buffer>,
  env: Readonly<Record<string, string>>,
  signal: AbortSignal | undefined,
): Promise<ArchiveEntry[]> {
  const entries: ArchiveEntry[] = [];
  const result = await runProgram({
    file: pgRestore,
    args: ['--list', ...args],
    env,
    signal,
    onStdin: stdin => feed(stdin, archive),
    // Line by line: of a hundred thousand large objects the listing has ten megabytes.
    onStdout: async stdout => {
      stdout.setEncoding('utf8');
      let rest = '';
      for await (const text of stdout) {
        const lines = `${rest}${text}`.split('\n');
        rest = lines.pop() ?? '';
        for (const line of lines) addListed(entries, line);
      }
    },
  });
  if (result.status !== 0)
    throw programFailure(pgRestore, result, 'reading the table of contents of the schema archive');
  return entries;
}

/**
 * Reads an archive to its end, as a restore would. A table of contents alone does not show that data behind it is
 * missing; it is the end of an archive that holds none.
 * @throws PgkeepError PROGRAM_FAILED when it does not hold all that its table of contents names.
 */
export async function readThroughArchive(
  pgRestore: string,
  entries: readonly ArchiveEntry[],
  archive: AsyncIterable<Buffer>,
  env: Readonly<Record<string, string>>,
  signal?: AbortSignal,
): Promise<void> {
  if (!entries.some(entry => entry.kind === 'TABLE DATA' || entry.kind === 'BLOBS')) return;
  await checkArchive(pgRestore, archive, env, signal);
}

/**
 * Has pg_restore read an archive as far as a restore would, whatever it holds.
 * @throws PgkeepError PROGRAM_FAILED when it is none, or does not hold all that its table of contents names.
 */
export async function checkArchive(
  pgRestore: string,
  archive: AsyncIterable<Buffer>,
  env: Readonly<Record<string, string>>,
  signal?: AbortSignal,
): Promise<void> {
  const result = await runProgram({
    file: pgRestore,
    args: ['--file=/dev/null'],
    env,
    signal,
    onStdin: stdin => feed(stdin, archive),
  });
  if (result.status !== 0) throw programFailure(pgRestore, result, 'reading the schema archive');
}

/**
 * The definitions in an archive as SQL.
 * @throws PgkeepError PROGRAM_FAILED.
 */
export async function archiveScript(
  pgRestore: string,
  archive: AsyncIterable<Buffer>,
  env: Readonly<Record<string, string>>,
  signal?: AbortSignal,
): Promise<string> {
  const result = await runProgram({
    file: pgRestore,
    args: ['--schema-only', '--file=-'],
    env,
    signal,
    onStdin: stdin => feed(stdin, archive),
  });
  if (result.status !== 0) throw programFailure(pgRestore, result, 'writing out the schema archive');
  return result.stdout;
}

/** Takes in a line of what `pg_restore --list --verbose` prints: an entry, or what the entry before depends on. */
export function addListed(entries: ArchiveEntry[], line: string): void {
  const entry = /^(\d+); (\d+) (\d+) (.*)$/.exec(line);
  if (entry !== null) {
    const [, dumpId = '', catalogOid = '', oid = '', text = ''] = entry;
    entries.push({
      dumpId: Number(dumpId),
      catalogOid,
      oid,
      kind: kindOf(text, catalogOid),
      text,
      dependsOn: [],
    });
    return;
  }
  const depends = /^;\s+depends on: ([\d ]+)$/.exec(line);
  const last = entries.at(-1);
  if (depends !== null && last !== undefined)
    last.dependsOn = (depends[1] ?? '').trim().split(' ').map(Number);
}

/** Writes until everything is written or the reader has seen enough and closed. */
async function feed(stdin: Writable, archive: AsyncIterable<Buffer>): Promise<void> {
  let isClosed = false;
  const closed = new Promise<void>(resolve => {
    stdin.once('close', () => {
      isClosed = true;
      resolve();
    });
  });
  for await (const chunk of archive) {
    if (isClosed) return;
    const written = new Promise<void>(resolve => stdin.write(chunk, () => resolve()));
    await Promise.race([written, closed]);
  }
}
