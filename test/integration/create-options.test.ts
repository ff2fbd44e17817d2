// What the options of create do to the backup: each is proved by a restore, or by what can be read of the backup.
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import * as pgkeep from '../../src/index.ts';
import { loadFixture } from '../fixtures/everything.ts';
import { compareDatabases } from '../support/compare-databases.ts';
import { psql, type Server, startServer } from '../support/postgres-server.ts';
import { backUp, restoreInto, testKey } from '../support/round-trip.ts';
import { makeTempFolder } from '../support/temp-folder.ts';

let server: Server;
let restored = 0;
/** What orders.sql inserts. */
const allRows = 1988;
const allTables = 16;

beforeAll(async () => {
  server = await startServer();
  await server.createDatabase('orders');
  await loadFixture(server, 'orders', 'orders.sql');
});
afterAll(() => server[Symbol.asyncDispose]());

/** Restores the latest backup and compares it with its source. */
async function compareRestored(repository: string, options = {}): Promise<string[]> {
  restored += 1;
  await restoreInto(server, `restored_${restored}`, repository, { create: true, ...options });
  const { differences } = await compareDatabases(server.url('orders'), server.url(`restored_${restored}`), {
    binDir: server.binDir,
  });
  return differences;
}

/** Every object of a repository as text, by name. */
function readObjects(repository: string): Map<string, string> {
  const names = readdirSync(repository, { recursive: true, encoding: 'utf8' });
  const files = names.filter(name => statSync(join(repository, name)).isFile());
  return new Map(files.map(name => [name, readFileSync(join(repository, name), 'latin1')]));
}

describe('a backup', () => {
  it.each([
    { jobs: 1, compressionLevel: 19 },
    { jobs: 2, compressionLevel: 1 },
    { jobs: 4, compressionLevel: 2 },
  ])('is the same with %o', async options => {
    await using folder = makeTempFolder('repository');
    const backup = await backUp(server, 'orders', folder.path, options);
    expect(backup.rows).toBe(allRows);
    expect(backup.newBytes).toBeLessThan(backup.sizeBytes / 2);
    expect(await compareRestored(folder.path)).toEqual([]);
  });

  it('may change its level and its workers from run to run', async () => {
    await using folder = makeTempFolder('repository');
    await backUp(server, 'orders', folder.path, { compressionLevel: 1, jobs: 4 });
    const second = await backUp(server, 'orders', folder.path, { compressionLevel: 19, jobs: 1 });
    expect(second.reusedSegments).toBeGreaterThanOrEqual(1);
    expect(await compareRestored(folder.path)).toEqual([]);
  });

  it('carries its tags and its reason into list, show and metadata', async () => {
    await using folder = makeTempFolder('repository');
    const tags = ['nightly', 'it\'s "odd"', 'größer'];
    const tagged = await backUp(server, 'orders', folder.path, { tags, reason: 'before\nthe upgrade' });
    const plain = await backUp(server, 'orders', folder.path);
    const repository = folder.path;
    const [newest, oldest] = await pgkeep.listBackups({ repository });
    expect([newest?.id, newest?.tags, newest?.reason]).toEqual([plain.id, [], null]);
    expect([oldest?.id, oldest?.tags, oldest?.reason]).toEqual([tagged.id, tags, 'before\nthe upgrade']);
    expect(
      (await pgkeep.listBackups({ repository, tags: ['nightly', 'größer'] })).map(({ id }) => id),
    ).toEqual([tagged.id]);
    expect(await pgkeep.listBackups({ repository, tags: ['nightly', 'weekly'] })).toEqual([]);
    expect((await pgkeep.listBackups({ repository, limit: 1 })).map(({ id }) => id)).toEqual([plain.id]);
    expect(await pgkeep.listBackups({ repository, since: new Date(Date.now() + 60_000) })).toEqual([]);
    expect(await pgkeep.listBackups({ repository, database: 'other' })).toEqual([]);
    const shown = await pgkeep.showBackup({ repository, encryptionKey: testKey, backup: tagged.id });
    expect(oldest).toMatchObject({ ...shown.metadata, verified: shown.verified });
  });
});

describe('metadata', () => {
  it('names the tables, which can be read without the key', async () => {
    await using folder = makeTempFolder('repository');
    await backUp(server, 'orders', folder.path);
    const [metadata] = await pgkeep.listBackups({ repository: folder.path });
    expect(metadata?.tables).toContain('sales.orders');
    expect(metadata?.tables).toContain('Odd "Schema".dot.ted*');
    expect(metadata).toMatchObject({
      database: 'orders',
      encrypted: true,
      compressed: true,
      complete: true,
      tableCount: allTables,
      recordCount: allRows,
    });
  });

  it('keeps the names of tables to itself when asked; nothing in the repository betrays them', async () => {
    await using folder = makeTempFolder('repository');
    const backup = await backUp(server, 'orders', folder.path, { privateMetadata: true });
    const [metadata] = await pgkeep.listBackups({ repository: folder.path });
    expect(metadata?.tables).toBeUndefined();
    expect(metadata?.tableCount).toBe(allTables);
    const objects = readObjects(folder.path);
    expect(
      [...objects].filter(([name, text]) => /order_lines|customers/.test(name + text)).map(([name]) => name),
    ).toEqual([]);
    const shown = await pgkeep.showBackup({
      repository: folder.path,
      encryptionKey: testKey,
      backup: backup.id,
    });
    expect(shown.tables.map(({ name }) => name)).toContain('order_lines');
    expect(await compareRestored(folder.path)).toEqual([]);
  });
});

describe('encryption', () => {
  it('may be done without, at the first backup of a repository', async () => {
    await using folder = makeTempFolder('repository');
    const none = { encryption: false, encryptionKey: undefined };
    const backup = await backUp(server, 'orders', folder.path, none);
    expect(backup.encrypted).toBe(false);
    expect(readdirSync(folder.path)).not.toContain('keys');
    expect(await compareRestored(folder.path, { encryptionKey: undefined })).toEqual([]);
    // Decided for good: later runs need not say it again, and must not ask for the contrary.
    expect((await backUp(server, 'orders', folder.path, { encryptionKey: undefined })).encrypted).toBe(false);
    for (const options of [{ encryption: true }, { encryption: true, encryptionKey: undefined }, {}]) {
      await expect(backUp(server, 'orders', folder.path, options)).rejects.toMatchObject({
        code: 'REPOSITORY_MISMATCH',
      });
    }
    expect(await pgkeep.listBackups({ repository: folder.path })).toHaveLength(2);
  });

  it('cannot be left out later', async () => {
    await using folder = makeTempFolder('repository');
    await backUp(server, 'orders', folder.path);
    const none = { encryption: false, encryptionKey: undefined };
    await expect(backUp(server, 'orders', folder.path, none)).rejects.toMatchObject({
      code: 'REPOSITORY_MISMATCH',
    });
    await expect(backUp(server, 'orders', folder.path, { encryptionKey: undefined })).rejects.toMatchObject({
      code: 'KEY_MISSING',
    });
    expect(await pgkeep.listBackups({ repository: folder.path })).toHaveLength(1);
  });

  it('is asked for before anything is written', async () => {
    await using folder = makeTempFolder('repository');
    const place = join(folder.path, 'new');
    await expect(backUp(server, 'orders', place, { encryptionKey: undefined })).rejects.toMatchObject({
      code: 'KEY_MISSING',
      hint: expect.stringContaining('pgkeep key generate'),
    });
    await expect(backUp(server, 'orders', place, { encryptionKey: 'abc' })).rejects.toMatchObject({
      code: 'KEY_MALFORMED',
    });
    expect(existsSync(place)).toBe(false);
  });
});

describe('called from a program', () => {
  it('the operations give the results that the commands print', async () => {
    await using folder = makeTempFolder('repository');
    const repository = folder.path;
    const encryptionKey = pgkeep.generateKey();
    const phases: string[] = [];
    const common = { repository, encryptionKey, environment: {}, programs: server.binDir };
    const onEvent = (event: pgkeep.OperationEvent) =>
      void (event.type === 'phase' && phases.push(event.phase));
    const backup = await pgkeep.createBackup({ ...common, database: server.url('orders'), onEvent });
    expect(backup).toMatchObject({
      database: 'orders',
      rows: allRows,
      tables: allTables,
      encrypted: true,
      warnings: [],
      globals: { included: true },
    });
    expect(phases).toEqual(['connect', 'lock', 'data', 'reconcile', 'finish']);
    const [listed] = await pgkeep.listBackups({ repository });
    expect(listed).toMatchObject({
      id: backup.id,
      recordCount: backup.rows,
      sizeBytes: backup.sizeBytes,
      newBytes: backup.newBytes,
    });
    const shown = await pgkeep.showBackup({ ...common, backup: 'latest' });
    expect(listed).toMatchObject({ ...shown.metadata, verified: shown.verified });
    expect(shown.tables.reduce((sum, table) => sum + table.rows, 0)).toBe(backup.rows);
    const plan = await pgkeep.restoreBackup({
      ...common,
      backup: 'latest',
      to: server.url('by_program'),
      create: true,
      dryRun: true,
    });
    const result = await pgkeep.restoreBackup({
      ...common,
      backup: backup.id,
      to: server.url('by_program'),
      create: true,
    });
    expect(result).toMatchObject({
      backup: backup.id,
      database: 'by_program',
      rows: backup.rows,
      plan: plan.plan,
      dryRun: false,
    });
    const { differences } = await compareDatabases(server.url('orders'), server.url('by_program'), {
      binDir: server.binDir,
    });
    expect(differences).toEqual([]);
  });

  it('reads PG* variables where no URL is given', async () => {
    await using folder = makeTempFolder('repository');
    const environment = {
      PGHOST: server.socketDir,
      PGPORT: String(server.port),
      PGUSER: 'postgres',
      PGDATABASE: 'orders',
    };
    const backup = await backUp(server, 'orders', folder.path, { database: undefined, environment });
    expect(backup.rows).toBe(allRows);
    await restoreInto(server, 'unused', folder.path, {
      to: undefined,
      environment: { ...environment, PGDATABASE: 'by_variables' },
      create: true,
    });
    expect((await psql(server, 'by_variables', 'SELECT count(*) FROM sales.orders')).trim()).toBe('300');
  });

  it.each([
    { jobs: 0 },
    { jobs: -1 },
    { jobs: 2.5 },
    { jobs: 1000 },
    { compressionLevel: 0 },
    { compressionLevel: 99 },
    { lockTimeoutMs: -1 },
    { maxBlockingMs: Number.NaN },
  ])('options that cannot be are refused before anything is written: %o', async options => {
    await using folder = makeTempFolder('repository');
    const place = join(folder.path, 'new');
    await expect(backUp(server, 'orders', place, options)).rejects.toMatchObject({
      code: 'OPTION_INVALID',
      message: expect.stringContaining(Object.keys(options)[0] ?? ''),
    });
    expect(existsSync(place)).toBe(false);
  });

  it('can end a backup, which then does not exist', async () => {
    await using folder = makeTempFolder('repository');
    for (const phase of ['connect', 'lock', 'data', 'reconcile']) {
      const stop = new AbortController();
      const onEvent = (event: pgkeep.OperationEvent) =>
        event.type === 'phase' && event.phase === phase && stop.abort();
      await expect(
        backUp(server, 'orders', folder.path, { signal: stop.signal, onEvent }),
      ).rejects.toMatchObject({ code: 'INTERRUPTED' });
    }
    expect(await pgkeep.listBackups({ repository: folder.path })).toEqual([]);
    await backUp(server, 'orders', folder.path);
    expect(await compareRestored(folder.path)).toEqual([]);
  });
});
