// Fills databases with data of one extreme shape each: very many tables, very wide rows, one very large value, very
// many large objects. Made by the server from hashes of numbers, so they are the same each time.

import { inSession } from './make-data.ts';

const rowsPerTable = 10;

/** Tables of ten rows, each with a primary key. */
export async function makeManyTables(url: string, tables: number): Promise<void> {
  // Each transaction has to hold locks on all that it made.
  const perTransaction = 100;
  await inSession(url, async run => {
    await run(
      [
        `DO $$ BEGIN FOR t IN 1..${tables} LOOP`,
        "EXECUTE format('CREATE TABLE part_%s (id integer PRIMARY KEY, name text NOT NULL, changed_at timestamptz)', lpad(t::text, 5, '0'));",
        "EXECUTE format('INSERT INTO part_%s SELECT i, md5((%s * 16 + i)::text), timestamptz ''2024-01-01Z'' + i * interval ''1 hour'' FROM generate_series(1, %s) i',",
        `lpad(t::text, 5, '0'), t, ${rowsPerTable});`,
        `IF t % ${perTransaction} = 0 THEN COMMIT; END IF; END LOOP; END $$`,
      ].join(' '),
    );
    await run('VACUUM (ANALYZE)');
  });
}

/** Rows of 250 columns of five types, and rows with a megabyte of bytes that no compression makes smaller. */
export async function makeWideRows(url: string, rows: number, longRows: number): Promise<void> {
  const hash = (column: number) => `hashint8extended(i, ${column})`;
  const kinds = [
    { type: 'integer', value: (n: number) => `(${hash(n)} & 1048575)::integer` },
    { type: 'double precision', value: (n: number) => `(${hash(n)} & 1048575) / 1000.0::float8` },
    { type: 'text', value: (n: number) => `left(md5((i * 256 + ${n})::text), 10)` },
    { type: 'numeric(12,2)', value: (n: number) => `(${hash(n)} & 131071) / 100.0` },
    {
      type: 'timestamptz',
      value: (n: number) => `timestamptz '2023-01-01Z' + (${hash(n)} & 4194303) * interval '1 second'`,
    },
  ];
  const columns = Array.from({ length: 50 }, (_, index) => index * kinds.length).flatMap(first =>
    kinds.map(({ type, value }, index) => {
      const number = first + index + 1;
      return { definition: `c${number} ${type}`, value: value(number) };
    }),
  );
  const definitions = columns.map(({ definition }) => definition).join(', ');
  const values = columns.map(({ value }) => value).join(', ');
  await inSession(url, run =>
    run(`
CREATE TABLE reading (id bigint PRIMARY KEY, ${definitions});
INSERT INTO reading SELECT i, ${values} FROM generate_series(1, ${rows}::bigint) i;
CREATE TABLE scan (id integer PRIMARY KEY, body bytea);
ALTER TABLE scan ALTER COLUMN body SET STORAGE EXTERNAL;
INSERT INTO scan SELECT n, ${randomBytes('n', 65_536)} FROM generate_series(1, ${longRows}) n;
VACUUM (ANALYZE)`),
  );
}

/** One row whose only text is that long; its COPY text is as long. */
export async function makeBigRow(url: string, textBytes: number): Promise<void> {
  // EXTERNAL: in TOAST, but not compressed, which would take the server longer than all the rest.
  await inSession(url, run =>
    run(`
CREATE TABLE attachment (id integer PRIMARY KEY, body text);
ALTER TABLE attachment ALTER COLUMN body SET STORAGE EXTERNAL;
INSERT INTO attachment
  SELECT 1, string_agg(md5(i::text), '' ORDER BY i) FROM generate_series(1, ${Math.floor(textBytes / 32)}) i;
VACUUM (ANALYZE)`),
  );
}

/** Large objects of two kilobytes each, of which one in ten equals another. */
export async function makeObjects(url: string, objects: number): Promise<void> {
  const different = Math.ceil(objects * 0.9);
  await inSession(url, run =>
    run(`
CREATE TABLE picture (id integer PRIMARY KEY, content oid NOT NULL);
INSERT INTO picture
  SELECT i, lo_from_bytea(0, ${randomBytes(`(i % ${different})`, 128)}) FROM generate_series(1, ${objects}) i;
VACUUM (ANALYZE)`),
  );
}

/** An expression for sixteen bytes times `hashes`, other ones for each value of `seed`. */
function randomBytes(seed: string, hashes: number): string {
  return `(SELECT decode(string_agg(md5((${seed}::bigint * ${hashes} + k)::text), '' ORDER BY k), 'hex') FROM generate_series(1, ${hashes}) k)`;
}
