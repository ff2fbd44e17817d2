import { expect, test } from 'vitest';
import { statementBatches } from '../../../src/postgres/statement-batches.ts';
import type { Statement } from '../../../src/postgres/wire.ts';

async function batchesOf(script: Buffer, chunkBytes: number): Promise<Statement[][]> {
  async function* chunks() {
    for (let at = 0; at < script.length; at += chunkBytes) yield script.subarray(at, at + chunkBytes);
  }
  const batches: Statement[][] = [];
  for await (const batch of statementBatches(chunks())) batches.push(batch);
  return batches;
}

test('statements end where they do, and not within strings, names and comments', async () => {
  const script = `SET client_encoding = 'UTF8';
--
-- Name: 13; Type: BLOB; Schema: -; Owner: it's "odd
--

SELECT pg_catalog.lo_create('13');


ALTER LARGE OBJECT 13 OWNER TO "semi;colon -- and 'quote";


--
-- Name: LARGE OBJECT 13; Type: COMMENT; Schema: -; Owner: ä
--

COMMENT ON LARGE OBJECT 13 IS 'it''s; "a
-- comment ä';
COMMENT ON LARGE OBJECT 14 IS E'back\\\\slash\\\\'';';
`;
  const expected = [
    "SELECT pg_catalog.lo_create('13')",
    `ALTER LARGE OBJECT 13 OWNER TO "semi;colon -- and 'quote"`,
    `COMMENT ON LARGE OBJECT 13 IS 'it''s; "a\n-- comment ä'`,
    "COMMENT ON LARGE OBJECT 14 IS E'back\\\\slash\\\\'';'",
  ];
  const bytes = Buffer.from(script);
  for (const chunkBytes of [1, 2, 7, 64, bytes.length]) {
    const [settings = [], batch = [], ...others] = await batchesOf(bytes, chunkBytes);
    expect(others).toEqual([]);
    expect(settings.map(({ sql }) => sql)).toEqual(["SET client_encoding = 'UTF8'"]);
    expect(batch.map(({ sql }) => Buffer.from(sql, 'latin1').toString())).toEqual(expected);
    expect(batch[2]?.doing).toBe(`running COMMENT ON LARGE OBJECT 13 IS 'it''s; "a -- comment ä'`);
  }
});

test('a batch has so many statements that the server can hold their locks', async () => {
  const script = Array.from({ length: 600 }, (_, at) => `SELECT ${at};\n`).join('');
  const batches = await batchesOf(Buffer.from(script), 1000);
  expect(batches.map(batch => batch.length)).toEqual([256, 256, 88]);
  expect(batches.flat().map(({ sql }) => sql)).toEqual(
    Array.from({ length: 600 }, (_, at) => `SELECT ${at}`),
  );
});

test.each(["SELECT 1; SELECT 'open", 'SELECT 1; SELECT 2', 'ALTER ROLE "open;'])(
  'a script that ends within a statement is refused: %s',
  async script => {
    await expect(batchesOf(Buffer.from(script), 5)).rejects.toMatchObject({ code: 'INTERNAL' });
  },
);

test('a comment at the end may lack its line feed', async () => {
  expect(await batchesOf(Buffer.from('SELECT 1;\n-- it is done; really'), 5)).toHaveLength(1);
});
