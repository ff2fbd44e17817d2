// One of everything PostgreSQL has goes through a backup and comes back the same, on every version.
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { loadEverything, offerFixtureExtension } from '../fixtures/everything.ts';
import { compareDatabases } from '../support/compare-databases.ts';
import { testedVersions } from '../support/postgres-programs.ts';
import { psql, type Server, startServer } from '../support/postgres-server.ts';
import { waitFor } from '../support/processes.ts';
import { backUp, restoreInto } from '../support/round-trip.ts';
import { makeTempFolder } from '../support/temp-folder.ts';

describe.each(testedVersions)('on PostgreSQL %i', version => {
  let server: Server;
  const repository = makeTempFolder('repository');

  beforeAll(async () => {
    server = await startServer({ version });
    await server.createDatabase('source');
    await loadEverything(server, 'source');
  });
  afterAll(async () => {
    await server[Symbol.asyncDispose]();
    await repository.remove();
  });

  it('restores one of everything into a new database', async () => {
    const backup = await backUp(server, 'source', repository.path);
    expect(backup.tables).toBeGreaterThan(50);
    await restoreInto(server, 'restored', repository.path, { create: true });
    const { differences, rows } = await compareDatabases(server.url('source'), server.url('restored'), {
      binDir: server.binDir,
    });
    expect(differences).toEqual([]);
    expect(rows).toBeGreaterThan(1000);
  });

  it('stores next to nothing when nothing has changed', async () => {
    const second = await backUp(server, 'source', repository.path);
    expect(second.reusedBytes).toBeGreaterThan(second.newBytes * 2);
    expect(second.newSegments).toBeLessThanOrEqual(4);
  });

  it('restores into an empty database of another server, creating the roles', async () => {
    await using other = await startServer({ version });
    await offerFixtureExtension(other);
    await other.createDatabase('empty');
    await restoreInto(other, 'empty', repository.path, { createRoles: true });
    const { differences } = await compareDatabases(server.url('source'), other.url('empty'), {
      binDir: server.binDir,
      // A policy keeps its roles in the order of their oids, which is that of their creation on each server.
      ignore: [/^definition of secured Reader's policy/],
    });
    expect(differences).toEqual([]);
  });

  it('holds what one snapshot saw while a writer changes the source', async () => {
    await server.cloneDatabase('source', 'busy');
    await psql(server, 'busy', 'CREATE TABLE public.pairs (id int, side text, amount int)');
    await psql(
      server,
      'busy',
      "ALTER TABLE public.pairs REPLICA IDENTITY FULL; INSERT INTO public.pairs SELECT i, s, 100 FROM generate_series(1, 20000) i, (VALUES ('a'), ('b')) v(s)",
    );
    let isDone = false;
    let transactions = 0;
    const writer = (async () => {
      while (!isDone) {
        await psql(
          server,
          'busy',
          `BEGIN; UPDATE public.pairs SET amount = amount - 1 WHERE side = 'a' AND id % 50 = 0;
           UPDATE public.pairs SET amount = amount + 1 WHERE side = 'b' AND id % 50 = 0; COMMIT`,
        );
        transactions++;
      }
    })();
    try {
      await waitFor('the writer', () => transactions > 0);
      await backUp(server, 'busy', repository.path);
    } finally {
      isDone = true;
      await writer;
    }
    await restoreInto(server, 'calm', repository.path, {
      create: true,
      sourceDatabase: 'busy',
      backup: 'latest',
    });
    const sums = await psql(
      server,
      'calm',
      'SELECT sum(amount), count(*), max(amount) > 100 FROM public.pairs',
    );
    expect(sums.trim()).toBe('4000000|40000|t');
  });
});
