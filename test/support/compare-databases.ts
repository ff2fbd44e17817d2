// Says whether two databases hold the same: the oracle of every restore test, and of the demo. It knows nothing of
// how backups are made. Each database is reduced to facts, name -> value, taken in one snapshot: the definitions that
// pg_dump prints, a digest of every table's rows, the state of sequences, large objects. Equal facts, equal databases.
//
// Not compared, because a plain dump and restore does not keep them either: the physical order of rows and columns
// (a column that a child inherits moves to the front), the leaf that a row of an enum-hashed partition tree lies in
// (enums hash by oid, so the tree is compared as a whole), versions of extensions, rows of extension tables that are
// not configuration, oids, gaps in a sequence's cache, planner statistics.

import { isUtf8 } from 'node:buffer';
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import pg from 'pg';

export interface Comparison {
  /** One sentence each, beginning with the name of what differs; empty when the databases hold the same. */
  differences: string[];
  /** What the source has: relations whose rows were compared, and those rows. */
  tables: number;
  rows: number;
}

export interface ComparisonOptions {
  /** Holds a pg_dump that is not older than either server. */
  binDir: string;
  /** A difference that one of these matches is not reported. */
  ignore?: readonly RegExp[];
  /** Compare the database's own properties too (owner, encoding, locale, settings, privileges, comment). */
  properties?: boolean;
}

/**
 * Compares two databases, also of different servers. Both logins must be able to read everything.
 * @throws the error of the server or of pg_dump when one of them cannot be read.
 */
export async function compareDatabases(
  sourceUrl: string,
  targetUrl: string,
  options: ComparisonOptions,
): Promise<Comparison> {
  await using source = await ReadDatabase.open(sourceUrl, options.binDir);
  await using target = await ReadDatabase.open(targetUrl, options.binDir);
  const [before, after] = await Promise.all([readFacts(source, options), readFacts(target, options)]);
  const differences = compareFacts(before.facts, after.facts);
  for (const [name, tables] of changedTables(before, after)) {
    differences.push(`${name}: ${await describeRowDifference(source, target, tables)}`);
  }
  return {
    differences: differences.filter(line => !options.ignore?.some(pattern => pattern.test(line))),
    tables: before.tables.size,
    rows: [...before.tables.values()].reduce((sum, table) => sum + table.rows, 0),
  };
}

interface Table {
  oid: string;
  rows: number;
  digest: string;
}

interface DatabaseFacts {
  facts: Map<string, string>;
  /** Rows of a table are told apart from other facts, since a difference can be narrowed to a row. */
  tables: Map<string, Table>;
}

async function readFacts(database: ReadDatabase, options: ComparisonOptions): Promise<DatabaseFacts> {
  const facts = readDefinitions(await database.dumpSchema());
  for (const statement of options.properties ? [...factQueries, propertiesQuery] : factQueries) {
    for (const { name, value } of await database.query<{ name: string; value: string }>(statement)) {
      facts.set(name, value);
    }
  }
  for (const { name, value } of await database.dynamicQuery(sequenceStates)) facts.set(name, value);
  const tables = new Map<string, Table>();
  for (const { name, value, oid } of await database.dynamicQuery(tableDigests)) {
    const [rows, ...digest] = value.split(' ');
    tables.set(name, { oid, rows: Number(rows), digest: digest.join(' ') });
  }
  return { facts, tables };
}

function compareFacts(source: Map<string, string>, target: Map<string, string>): string[] {
  const differences: string[] = [];
  for (const name of new Set([...source.keys(), ...target.keys()])) {
    const before = source.get(name);
    const after = target.get(name);
    if (before === after) continue;
    if (after === undefined) differences.push(`${name}: only in the source`);
    else if (before === undefined) differences.push(`${name}: only in the target`);
    else differences.push(`${name}: ${describeTextDifference(before, after)}`);
  }
  return differences;
}

function describeTextDifference(before: string, after: string): string {
  const sourceLines = before.split('\n');
  const targetLines = after.split('\n');
  const line = sourceLines.findIndex((text, index) => text !== targetLines[index]);
  const at = line < 0 ? sourceLines.length : line;
  const show = (text: string | undefined) => (text === undefined ? 'nothing' : `"${text.slice(0, 300)}"`);
  return `source has ${show(sourceLines[at])}, target has ${show(targetLines[at])}`;
}

type TablePair = { before: Table | undefined; after: Table | undefined };

function* changedTables(source: DatabaseFacts, target: DatabaseFacts): Generator<[string, TablePair]> {
  for (const name of new Set([...source.tables.keys(), ...target.tables.keys()])) {
    const before = source.tables.get(name);
    const after = target.tables.get(name);
    if (before?.rows !== after?.rows || before?.digest !== after?.digest) yield [name, { before, after }];
  }
}

// Fetching a hash per row is too much for a large table, and its count says enough.
const maxRowsToNarrow = 500_000;

async function describeRowDifference(
  source: ReadDatabase,
  target: ReadDatabase,
  { before, after }: TablePair,
): Promise<string> {
  if (!after) return 'only in the source';
  if (!before) return 'only in the target';
  const counts = `source has ${before.rows} rows, target has ${after.rows}`;
  if (Math.max(before.rows, after.rows) > maxRowsToNarrow) return counts;
  const sourceHashes = await source.rowHashes(before.oid);
  const targetHashes = await target.rowHashes(after.oid);
  const lost = firstSurplus(sourceHashes, targetHashes);
  const added = firstSurplus(targetHashes, sourceHashes);
  const examples = [
    ...(lost === undefined ? [] : [`not in the target: ${await source.rowWithHash(before.oid, lost)}`]),
    ...(added === undefined ? [] : [`not in the source: ${await target.rowWithHash(after.oid, added)}`]),
  ];
  return [counts, ...examples].join('; ');
}

/** The first hash that `some` holds more often than `others`. */
function firstSurplus(some: readonly string[], others: readonly string[]): string | undefined {
  const left = new Map<string, number>();
  for (const hash of others) left.set(hash, (left.get(hash) ?? 0) + 1);
  for (const hash of some) {
    const remaining = left.get(hash) ?? 0;
    if (remaining === 0) return hash;
    left.set(hash, remaining - 1);
  }
  return undefined;
}

/**
 * The schema text, one fact per object. pg_dump orders equal names by oid, so the order of objects says nothing;
 * what an object takes from the text before it (two SET statements) is written to the object itself.
 */
function readDefinitions(text: string): Map<string, string> {
  const facts = new Map<string, string>();
  let inherited = { tablespace: '', accessMethod: '' };
  const [preamble = '', ...parts] = text.split(/^--\n-- Name: (.+)\n--\n/m);
  const keep = (name: string, part: string) => {
    const own = inherited;
    inherited = { ...own };
    const body = part
      .replace(/^-- Dumped .*\n|^\\(un)?restrict .*\n|^--\n-- PostgreSQL database dump complete\n--\n/gm, '')
      .replace(/^SET default_(tablespace|table_access_method) = (.*);\n/gm, (_, setting, value) => {
        inherited[setting === 'tablespace' ? 'tablespace' : 'accessMethod'] = value;
        return '';
      });
    const context: string[] = [];
    if (/; Type: (TABLE|MATERIALIZED VIEW|INDEX|CONSTRAINT);/.test(name)) context.push(own.tablespace);
    if (/; Type: (TABLE|MATERIALIZED VIEW);/.test(name) && !/^PARTITION BY /m.test(body)) {
      context.push(own.accessMethod);
    }
    const definition = withoutColumnOrder(body).trim();
    const note = context.length === 0 ? '' : `\n-- stored by ${context.join(' ')}`;
    facts.set(name, (facts.get(name) ?? '') + definition + note);
  };
  keep('definition of the session', preamble);
  for (let i = 0; i < parts.length; i += 2) {
    // The owner is in the text too; in the name it would give everything that belongs to a table another name.
    keep(`definition of ${parts[i]?.replace(/; Owner: .*$/, '')}`, parts[i + 1] ?? '');
  }
  return facts;
}

// Columns that a child has in common with its parents come first in a restored child, whatever their place was.
function withoutColumnOrder(table: string): string {
  if (!table.includes('\nINHERITS (')) return table;
  const lines = table.split('\n').map(line => line.replace(/,$/, ''));
  return lines.sort().join('\n');
}

// Overrides what the database or the role has set: both sides must print the same value the same way.
const sessionSettings = {
  statement_timeout: '0',
  lock_timeout: '0',
  idle_in_transaction_session_timeout: '0',
  default_transaction_isolation: 'repeatable\\ read',
  default_transaction_read_only: 'on',
  standard_conforming_strings: 'on',
  quote_all_identifiers: 'off',
  search_path: '',
  row_security: 'off',
  DateStyle: 'ISO',
  IntervalStyle: 'postgres',
  TimeZone: 'UTC',
  extra_float_digits: '3',
  bytea_output: 'hex',
  xmlbinary: 'base64',
  lc_monetary: 'C',
};
const sessionOptions = Object.entries(sessionSettings)
  .map(([name, value]) => `-c ${name}=${value}`)
  .join(' ');

const run = promisify(execFile);

/** One side of the comparison: a connection with a transaction that sees one state to the end. */
class ReadDatabase implements AsyncDisposable {
  readonly #client: pg.Client;
  readonly #url: string;
  readonly #binDir: string;

  static async open(url: string, binDir: string): Promise<ReadDatabase> {
    const client = new pg.Client({ connectionString: url, options: sessionOptions });
    await client.connect();
    await client.query('BEGIN');
    return new ReadDatabase(client, url, binDir);
  }

  private constructor(client: pg.Client, url: string, binDir: string) {
    this.#client = client;
    this.#url = url;
    this.#binDir = binDir;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#client.end();
  }

  async dumpSchema(): Promise<string> {
    const [snapshot] = await this.query<{ id: string }>('SELECT pg_export_snapshot() AS id');
    const { stdout } = await run(
      join(this.#binDir, 'pg_dump'),
      ['--schema-only', `--snapshot=${snapshot?.id}`, `--dbname=${this.#url}`],
      {
        encoding: 'buffer',
        maxBuffer: 1 << 30,
        env: { PATH: process.env.PATH, LC_ALL: 'C.UTF-8', PGOPTIONS: sessionOptions },
      },
    );
    // An SQL_ASCII database prints bytes that are no text; one character for each keeps them apart.
    return stdout.toString(isUtf8(stdout) ? 'utf8' : 'latin1');
  }

  async query<Row extends pg.QueryResultRow>(statement: string, values: string[] = []): Promise<Row[]> {
    return (await this.#client.query<Row>(statement, values)).rows;
  }

  /** Asks each relation of a list the same question. */
  async dynamicQuery(question: DynamicQuery): Promise<{ oid: string; name: string; value: string }[]> {
    // The statement is built and run by the server: a name whose bytes are not valid text cannot come back from here.
    await this.query(`DO $do$
      DECLARE relation record; answer text; answers jsonb := '[]'; parts jsonb[] := '{}';
      BEGIN
        FOR relation IN ${question.relations} LOOP
          EXECUTE format(${question.statement}) INTO answer;
          parts := parts || jsonb_build_object('oid', relation.oid::text, 'name', relation.name, 'value', answer);
        END LOOP;
        PERFORM set_config('compare.answers', to_jsonb(parts)::text, false);
      END $do$`);
    const [result] = await this.query<{ answers: string }>(
      `SELECT current_setting('compare.answers') AS answers`,
    );
    return JSON.parse(result?.answers ?? '[]');
  }

  async rowHashes(oid: string): Promise<string[]> {
    const [result] = await this.dynamicQuery({
      relations: oneRelation(oid),
      statement: `'SELECT string_agg(md5(%s::text), '' '') FROM %s', relation.row, relation.source`,
    });
    return result?.value?.split(' ') ?? [];
  }

  async rowWithHash(oid: string, hash: string): Promise<string> {
    const [result] = await this.dynamicQuery({
      relations: oneRelation(oid),
      statement: `'SELECT ${readable('left(%1$s::text, 200)', "''")} FROM %2$s WHERE md5(%1$s::text) = ''${hash}'' LIMIT 1', relation.row, relation.source`,
    });
    return result?.value ?? 'a row that could not be read';
  }
}

interface DynamicQuery {
  /** Gives `relation`: its oid, a name, and what the statement needs. */
  relations: string;
  /** Arguments of format(); the statement returns one text. */
  statement: string;
}

/** Text as characters that every client can read, whatever bytes an SQL_ASCII database holds. */
function readable(expression: string, quote = "'"): string {
  const ascii = `${quote}SQL_ASCII${quote}`;
  return `CASE WHEN getdatabaseencoding() = ${ascii} THEN encode(convert_to(${expression}, ${ascii}), ${quote}escape${quote}) ELSE ${expression} END`;
}

// Columns by name: their order may change in a restore. The text of a row tells NULL from the empty string.
const rowExpression = `(
  SELECT 'ROW(' || coalesce(string_agg(quote_ident(attname), ', ' ORDER BY attname COLLATE "C"), '') || ')'
  FROM pg_catalog.pg_attribute WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped)`;

// ONLY, for a parent's rows are not its children's; but a partitioned table has no rows of its own.
const rowSource = `CASE WHEN c.relkind = 'p' THEN '' ELSE 'ONLY ' END || c.oid::regclass`;

const oneRelation = (oid: string) => `
  SELECT c.oid, '' AS name, ${rowExpression} AS row, ${rowSource} AS source FROM pg_catalog.pg_class AS c WHERE c.oid = ${Number(oid)}`;

const qualifiedName = readable(`format('%I.%I', n.nspname, c.relname)`);

const isUserRelation = `
  c.relpersistence <> 't' AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
  AND (NOT EXISTS (SELECT FROM pg_catalog.pg_depend AS d
                   WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = c.oid AND d.objsubid = 0 AND d.deptype = 'e')
       OR EXISTS (SELECT FROM pg_catalog.pg_extension AS e WHERE c.oid = ANY (e.extconfig)))`;

// As pg_dump decides it: a tree with a hash partition on an enum anywhere is restored through its root.
const enumHashed = `
  SELECT pg_catalog.pg_partition_root(p.partrelid) AS root FROM pg_catalog.pg_partitioned_table AS p
  WHERE p.partstrat = 'h' AND EXISTS (
    SELECT FROM pg_catalog.pg_attribute AS a JOIN pg_catalog.pg_type AS t ON t.oid = a.atttypid
    WHERE a.attrelid = p.partrelid AND a.attnum = ANY (p.partattrs) AND t.typtype = 'e')`;

// Two sums of halves of each row's hash: the order of rows does not matter, the number of equal rows does.
const tableDigests: DynamicQuery = {
  relations: `
    SELECT c.oid, 'rows of ' || ${qualifiedName} AS name, ${rowExpression} AS row, ${rowSource} AS source
    FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
    WHERE ${isUserRelation} AND c.relispopulated
      AND CASE WHEN c.oid IN (${enumHashed}) THEN true
               WHEN pg_catalog.pg_partition_root(c.oid) IN (${enumHashed}) THEN false
               ELSE c.relkind IN ('r', 'm') END
    ORDER BY name`,
  statement: `'SELECT count(*) || '' '' || coalesce(sum((''x'' || left(h, 16))::bit(64)::bigint), 0) || '' '' || coalesce(sum((''x'' || right(h, 16))::bit(64)::bigint), 0)
               FROM (SELECT md5(%s::text) AS h FROM %s) AS hashes', relation.row, relation.source`,
};

const sequenceStates: DynamicQuery = {
  relations: `
    SELECT c.oid, 'state of sequence ' || ${qualifiedName} AS name
    FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
    WHERE c.relkind = 'S' AND ${isUserRelation}
    ORDER BY name`,
  statement: `'SELECT last_value || CASE WHEN is_called THEN '', called'' ELSE '', not called'' END FROM %s', relation.oid::regclass`,
};

/** Privileges in an order of their own; those that were never changed are the same as the standard ones spelled out. */
const privileges = (acl: string, kind: string, owner: string) => `
  (SELECT string_agg(item::text, ', ' ORDER BY item::text COLLATE "C") FROM unnest(coalesce(${acl}, acldefault('${kind}', ${owner}))) AS item)`;

const factQueries = [
  `SELECT 'population of materialized view ' || ${qualifiedName} AS name, CASE WHEN c.relispopulated THEN 'populated' ELSE 'not populated' END AS value
   FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
   WHERE c.relkind = 'm' AND ${isUserRelation}`,
  `SELECT format('large object %s', oid) AS name,
          format('%s bytes, md5 %s; owner %s; privileges %s; comment %s', length(lo_get(oid)), md5(lo_get(oid)), lomowner::regrole,
                 ${privileges('lomacl', 'L', 'lomowner')}, ${readable(`quote_nullable(obj_description(oid, 'pg_largeobject'))`)}) AS value
   FROM pg_catalog.pg_largeobject_metadata`,
];

const propertiesQuery = `
  SELECT 'property ' || p.name AS name, coalesce(p.value, 'none') AS value
  FROM pg_catalog.pg_database AS d, LATERAL (VALUES
    ('owner', d.datdba::regrole::text),
    ('encoding', pg_catalog.pg_encoding_to_char(d.encoding)),
    ('locale', d.datcollate || ' ' || d.datctype || ' ' || d.datlocprovider::text || coalesce(to_jsonb(d) ->> 'datlocale', to_jsonb(d) ->> 'daticulocale', '')),
    ('connection limit', d.datconnlimit::text),
    ('privileges', ${privileges('d.datacl', 'd', 'd.datdba')}),
    ('comment', pg_catalog.shobj_description(d.oid, 'pg_database')),
    ('settings', (SELECT string_agg(format('%s: %s', CASE WHEN s.setrole = 0 THEN 'all' ELSE s.setrole::regrole::text END, setting), E'\\n' ORDER BY s.setrole::regrole::text, setting)
                  FROM pg_catalog.pg_db_role_setting AS s, unnest(s.setconfig) AS setting WHERE s.setdatabase = d.oid))
  ) AS p (name, value)
  WHERE d.datname = current_database()`;
