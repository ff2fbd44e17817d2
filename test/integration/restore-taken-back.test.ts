// A restore that fails, at whatever point, leaves its target as it was.
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { loadEverything } from '../fixtures/everything.ts';
import { compareDatabases } from '../support/compare-databases.ts';
import { psql, type Server, startServer } from '../support/postgres-server.ts';
import { waitFor } from '../support/processes.ts';
import { backUp, restoreInto } from '../support/round-trip.ts';
import { startTcpProxy, type TcpProxy } from '../support/tcp-proxy.ts';
import { makeTempFolder } from '../support/temp-folder.ts';

let server: Server;
const folder = makeTempFolder('repository');
let everything: string;
let large: string;
let runs = 0;
/** While somebody holds this advisory lock of a database, an index of it is not finished. */
const gate = 4711;
/** Less than each worker loads. */
const held = { holdAfterSentBytes: 1_000_000 };

beforeAll(async () => {
  server = await startServer();
  await server.createDatabase('everything');
  await loadEverything(server, 'everything');
  // An index that takes these rows as they are made, and refuses them when they are indexed anew.
  await psql(
    server,
    'everything',
    `CREATE FUNCTION public.zz_picky(integer) RETURNS integer IMMUTABLE LANGUAGE plpgsql AS $$
       BEGIN IF current_setting('application_name') = 'pgkeep' THEN RAISE 'refused by the index'; END IF; RETURN $1; END $$;
     CREATE TABLE public.zz_picked (id integer); INSERT INTO public.zz_picked VALUES (1);
     CREATE INDEX zz_picky ON public.zz_picked (public.zz_picky(id));`,
  );
  everything = (await backUp(server, 'everything', folder.path)).id;
  await server.createDatabase('large');
  await psql(
    server,
    'large',
    `CREATE TABLE public.large AS SELECT i AS id, md5(i::text) AS v FROM generate_series(1, 300000) AS i;
     CREATE FUNCTION public.when_open(integer) RETURNS integer IMMUTABLE LANGUAGE plpgsql AS
       $$ BEGIN PERFORM pg_advisory_xact_lock_shared(${gate}); RETURN $1; END $$;
     CREATE TABLE public.gated AS SELECT 1 AS id; CREATE INDEX gated_id ON public.gated (public.when_open(id));
     CREATE TABLE public.small AS SELECT 1 AS id; ALTER TABLE public.large ADD PRIMARY KEY (id); CREATE INDEX large_v ON public.large (v)`,
  );
  large = (await backUp(server, 'large', folder.path)).id;
});
afterAll(async () => {
  await server[Symbol.asyncDispose]();
  await folder.remove();
});

// What is said of objects of the system, and of extensions that were there before.
const notTakenBack = [/; Type: ACL; Schema: pg_catalog: /, /^definition of EXTENSION \w+; Type: COMMENT/];

type Options = Parameters<typeof restoreInto>[3];

/**
 * Restores into an empty database, which fails; returns how it then differs from an empty one, and the warnings.
 * @param disturb begins as the restore does, and makes it fail; rows are held back until it has ended, or releases them.
 */
async function failIntoEmpty(
  options: Options,
  prepare = '',
  disturb: (target: string, proxy: TcpProxy) => Promise<void> = async () => {},
) {
  runs += 1;
  const target = await server.createDatabase(`target_${runs}`);
  await psql(server, target, prepare);
  const before = await server.cloneDatabase(target);
  const warnings: string[] = [];
  await using proxy = await startTcpProxy(server.port, held);
  const disturbed = disturb(target, proxy).finally(() => proxy.release());
  const error = await restoreInto(server, target, folder.path, {
    ...options,
    to: proxy.through(server.url(target)),
    onEvent: event => {
      options?.onEvent?.(event);
      if (event.type === 'warning') warnings.push(event.message);
    },
  }).then(
    () => undefined,
    (failure: Error) => failure,
  );
  await disturbed;
  const { differences } = await compareDatabases(server.url(before), server.url(target), {
    binDir: server.binDir,
    properties: true,
    ignore: notTakenBack,
  });
  return { error, differences, warnings, target };
}

async function exists(database: string): Promise<boolean> {
  return (await psql(server, 'postgres', `SELECT 1 FROM pg_database WHERE datname = '${database}'`)) !== '';
}

/** Ends one of the restore's own sessions as soon as there is one that does what is asked for. */
async function endSession(database: string, condition: string): Promise<void> {
  const sql = `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '${database}' AND ${condition} LIMIT 1`;
  await waitFor(`a session in ${database} where ${condition}`, () => psql(server, 'postgres', sql));
}

describe('an empty database', () => {
  it('is emptied of one of everything when the last step fails, but for what it had', async () => {
    const had = 'CREATE EXTENSION pg_prewarm';
    const { error, differences, warnings, target } = await failIntoEmpty({ backup: everything }, had);
    expect(error?.message).toContain('refused by the index');
    expect(differences).toEqual([]);
    expect(warnings.at(-1)).toMatch(new RegExp(`${target} .*was emptied again`));
  });

  it('is emptied when the definitions fail', async () => {
    const { error, differences } = await failIntoEmpty(
      { backup: everything },
      'CREATE EXTENSION hstore SCHEMA public',
    );
    // The definitions want it in a schema of the backup.
    expect(error?.message).toContain('hstore');
    expect(differences).toEqual([]);
  });

  it.each(['pre-data', 'data', 'post-data'])(
    'is emptied when the restore is ended in phase %s',
    async phase => {
      const stop = new AbortController();
      const { error, differences } = await failIntoEmpty({
        backup: large,
        signal: stop.signal,
        onEvent: event => event.type === 'phase' && event.phase === phase && stop.abort(),
      });
      expect(error).toMatchObject({ code: 'INTERRUPTED' });
      expect(differences).toEqual([]);
    },
  );

  it('is kept, whole, when the restore is ended once everything is there', async () => {
    const stop = new AbortController();
    const { error, target } = await failIntoEmpty({
      backup: large,
      signal: stop.signal,
      onEvent: event => event.type === 'phase' && event.phase === 'analyze' && stop.abort(),
    });
    expect(error).toMatchObject({ code: 'INTERRUPTED' });
    const { differences } = await compareDatabases(server.url('large'), server.url(target), {
      binDir: server.binDir,
    });
    expect(differences).toEqual([]);
  });

  it('is emptied when the restore is ended in the middle of the rows', async () => {
    const stop = new AbortController();
    const { error, differences } = await failIntoEmpty({
      backup: large,
      signal: stop.signal,
      onEvent: event => event.type === 'progress' && event.doneBytes > 0 && stop.abort(),
    });
    expect(error).toMatchObject({ code: 'INTERRUPTED' });
    expect(differences).toEqual([]);
  });

  it('is emptied when a session that loads rows is ended', async () => {
    const { error, differences } = await failIntoEmpty({ backup: large }, '', target =>
      endSession(target, `query ~ '^COPY' AND state = 'active'`),
    );
    expect(error).toMatchObject({ code: 'DATABASE_CONNECTION_LOST' });
    expect(differences).toEqual([]);
  });

  it('is emptied when a session that builds an index is ended', async () => {
    const { error, differences } = await failIntoEmpty({ backup: large }, '', async (target, proxy) => {
      const holder = new pg.Client(server.url(target));
      await holder.connect();
      await holder.query(`SELECT pg_advisory_lock(${gate})`);
      proxy.release();
      await endSession(target, `query ~ 'CREATE INDEX gated_id' AND state = 'active'`);
      await holder.end();
    });
    expect(error).toMatchObject({ code: 'DATABASE_CONNECTION_LOST' });
    expect(error?.message).toMatch(/^pg_restore failed while restoring the post-data section/);
    expect(differences).toEqual([]);
  });
});

describe('a new database', () => {
  it('is dropped again when the last step fails', async () => {
    const warnings: string[] = [];
    const onEvent = (event: { type: string; message?: string }) =>
      void (event.type === 'warning' && warnings.push(event.message ?? ''));
    await expect(
      restoreInto(server, 'new', folder.path, { backup: everything, create: true, onEvent }),
    ).rejects.toThrow(/refused by the index/);
    expect(await exists('new')).toBe(false);
    expect(warnings.at(-1)).toContain('the database new it had created was dropped again');
  });

  it('is dropped again when the restore is ended, whoever else is connected', async () => {
    const stop = new AbortController();
    let visitor: Promise<string> | undefined;
    await using proxy = await startTcpProxy(server.port, held);
    const visit = async () => {
      visitor = psql(server, 'new', 'SELECT pg_sleep(600)').catch((error: Error) => error.message);
      const visiting = "SELECT 1 FROM pg_stat_activity WHERE datname = 'new' AND query ~ 'pg_sleep'";
      await waitFor('the visitor', () => psql(server, 'postgres', visiting));
      stop.abort();
      proxy.release();
    };
    let visited: Promise<void> | undefined;
    const restore = restoreInto(server, 'new', folder.path, {
      backup: large,
      create: true,
      to: proxy.through(server.url('new')),
      signal: stop.signal,
      onEvent: event => {
        if (event.type === 'phase' && event.phase === 'data') visited = visit();
      },
    });
    await expect(restore).rejects.toMatchObject({ code: 'INTERRUPTED' });
    await visited;
    expect(await exists('new')).toBe(false);
    expect(await visitor).toMatch(/terminat/);
  });

  it('can be restored after all at the next try', async () => {
    await restoreInto(server, 'new', folder.path, { backup: large, create: true });
    const { differences } = await compareDatabases(server.url('large'), server.url('new'), {
      binDir: server.binDir,
    });
    expect(differences).toEqual([]);
  });
});
