// docs/json-output.md against what the commands really print.

import { cpSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { generateKey } from '../../src/crypto/key.ts';
import { runCli } from '../support/cli-io.ts';
import { type Server, startServer } from '../support/postgres-server.ts';
import { filesIn, flipBit } from '../support/repository-files.ts';
import { makeTempFolder } from '../support/temp-folder.ts';

const document = readFileSync(new URL('../../docs/json-output.md', import.meta.url), 'utf8');

/** The first JSON example below a heading of the document. */
function documented(heading: string): unknown {
  const section = document.split(`\n## ${heading}\n`)[1]?.split('\n## ')[0] ?? '';
  const example = /```json\n(.*?)```/s.exec(section)?.[1];
  if (example === undefined) throw new Error(`docs/json-output.md has no example for ${heading}`);
  return JSON.parse(example);
}

/** The fields of a document with the types of their values; of an array those of its first element. */
function shape(value: unknown): unknown {
  if (Array.isArray(value)) return value.length === 0 ? [] : [shape(value[0])];
  if (typeof value !== 'object' || value === null) return value === null ? 'null' : typeof value;
  return Object.fromEntries(Object.entries(value).map(([name, field]) => [name, shape(field)]));
}

let server: Server;
const cwd = makeTempFolder('json').path;
const env: Record<string, string> = { BACKUP_ENCRYPTION_KEY: generateKey() };

async function json(...argv: string[]): Promise<unknown> {
  const { exitCode, out, err } = await runCli([...argv, '--json'], { cwd, env });
  expect(exitCode, err + out).toBe(0);
  return JSON.parse(out);
}

beforeAll(async () => {
  server = await startServer();
  env.DATABASE_URL = server.url(await server.createDatabase('shop'));
  env.RESTORE_DATABASE_URL = server.url(await server.createDatabase('shop_copy'));
  const client = new pg.Client({ connectionString: env.DATABASE_URL });
  await client.connect();
  await client.query(`
    CREATE EXTENSION citext;
    CREATE TABLE "order" AS SELECT n AS id, md5(n::text) AS note FROM generate_series(1, 1000) n;
    CREATE TABLE sessions AS SELECT n FROM generate_series(1, 10) n;
  `);
  await client.end();
});

afterAll(async () => {
  await server[Symbol.asyncDispose]();
});

describe('the document shows the fields that are printed', () => {
  let id = '';

  test('by create', async () => {
    const created = await json('create', '--exclude-table-data', 'sessions', '--tag', 'nightly');
    expect(shape(created)).toEqual(shape(documented('create')));
    id = (created as { id: string }).id;
  });

  test('by verify', async () => {
    const verified = await json('verify');
    expect(verified).toMatchObject({
      valid: true,
      backups: [{ backupId: id, rowsCompared: 1000, errors: [] }],
    });
    const whole = makeTempFolder('json').path;
    cpSync(join(cwd, 'backups'), whole, { recursive: true });
    flipBit(filesIn(whole, 'segments')[0] ?? '');
    const { exitCode, out } = await runCli(['verify', '--repository', whole, '--json'], { cwd, env });
    expect(exitCode).toBe(9);
    expect(shape(JSON.parse(out))).toEqual(shape(documented('verify')));
  });

  test('by list', async () => {
    const listed = await json('list');
    expect(shape(listed)).toEqual(shape(documented('list')));
    expect(listed).toMatchObject([{ id, tags: ['nightly'], recordCount: 1000 }]);
  });

  test('by show', async () => {
    const own = ['verified', 'lockedUntil', 'inRepository', 'inReplica'];
    const [listed = {}] = documented('list') as object[];
    const metadata = Object.fromEntries(Object.entries(listed).filter(([name]) => !own.includes(name)));
    const example = documented('show') as object;
    expect(shape(await json('show', 'latest'))).toEqual(shape({ ...example, metadata }));
  });

  test('by export', async () => {
    const exported = await json('export', id, '--output', 'shop.sql');
    expect(shape(exported)).toEqual(shape(documented('export')));
  });

  test('by recovery-kit', async () => {
    expect(shape(await json('recovery-kit'))).toEqual(shape(documented('recovery-kit')));
  });

  test('by restore', async () => {
    const restored = await json('restore', id);
    expect(shape(restored)).toEqual(shape(documented('restore')));
    expect(restored).toMatchObject({ backup: id, database: 'shop_copy', dryRun: false });
  });

  test('by doctor', async () => {
    const report = await json('doctor');
    const example = documented('doctor') as { checks: object[] };
    expect(shape({ ...(report as object), checks: [] })).toEqual(shape({ ...example, checks: [] }));
    expect((report as typeof example).checks.map(shape)).toContainEqual(shape(example.checks[0]));
  });

  test('by storage probe', async () => {
    const example = documented('storage probe') as { checks: object[]; measured: object };
    const report = (await json('storage', 'probe')) as typeof example;
    // What a slow disk leaves out is null, as the document says.
    const tried = Object.entries(report.measured).filter(([, value]) => value !== null);
    const measured = { ...example.measured, ...Object.fromEntries(tried) };
    expect(Object.keys(report.measured)).toEqual(Object.keys(example.measured));
    expect(shape({ ...report, checks: [], measured })).toEqual(shape({ ...example, checks: [] }));
    expect(report.checks.map(shape)).toContainEqual(shape(example.checks[0]));
  });

  test('by cleanup', async () => {
    const cleaned = await json('cleanup');
    expect(shape(cleaned)).toEqual(shape(documented('cleanup')));
    expect(cleaned).toMatchObject({ backups: [{ id, stays: true }], problems: [] });
  });

  test('by replicate', async () => {
    const replicated = await json('replicate', '--to', join(cwd, 'replica'));
    expect(shape(replicated)).toEqual(shape(documented('replicate')));
    expect(replicated).toMatchObject({ backups: [{ id, state: 'copied' }], present: 0 });
  });

  test('by delete', async () => {
    const deleted = await json('delete', id, '--yes', '--force');
    expect(shape(deleted)).toEqual(shape(documented('delete')));
    expect(deleted).toMatchObject({ id, wasLastGood: true });
  });

  test('by key generate', async () => {
    expect(shape(await json('key', 'generate'))).toEqual(shape(documented('key generate')));
  });

  test('when a command fails', async () => {
    const { out } = await runCli(['create', '--jobs', 'many', '--json'], { cwd, env });
    expect(JSON.parse(out)).toEqual(documented('Errors'));
  });
});
