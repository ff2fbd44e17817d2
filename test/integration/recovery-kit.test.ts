// The repository carries its own rescue: with Node, a copy of the repository, the key and psql, and nothing of pgkeep,
// every backup comes back.
import { execFile, execFileSync } from 'node:child_process';
import {
  cpSync,
  existsSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { exportBackup } from '../../src/operations/export-backup.ts';
import { writeRecoveryKit } from '../../src/operations/write-recovery-kit.ts';
import { loadEverything, loadFixture, offerFixtureExtension } from '../fixtures/everything.ts';
import { compareDatabases } from '../support/compare-databases.ts';
import { psql, type Server, startServer } from '../support/postgres-server.ts';
import { psqlFile } from '../support/psql-file.ts';
import { backUp, testKey } from '../support/round-trip.ts';
import { makeTempFolder } from '../support/temp-folder.ts';

const folder = makeTempFolder('recovery');
afterAll(() => folder.remove());

const script = 'recovery/pgkeep-recover.mjs';

/** Runs the kit of a repository in an empty folder, with no environment but the key. */
async function recover(repository: string, args: readonly string[], env: NodeJS.ProcessEnv = {}) {
  await using empty = makeTempFolder('empty');
  const options = {
    cwd: empty.path,
    env: { BACKUP_ENCRYPTION_KEY: testKey, ...env },
    encoding: 'buffer' as const,
  };
  const limits = { maxBuffer: 256 * 1024 * 1024 };
  try {
    const { stdout, stderr } = await promisify(execFile)(
      process.execPath,
      [join(repository, script), ...args],
      { ...options, ...limits },
    );
    return { status: 0, out: stdout, err: stderr.toString() };
  } catch (error) {
    const { code, stdout, stderr } = error as { code: number; stdout: Buffer; stderr: Buffer };
    return { status: code, out: stdout, err: stderr.toString() };
  }
}

/** A repository as somebody finds it years later: copied, its first home gone. */
function copyOf(repository: string, name: string): string {
  const copy = join(folder.path, name);
  cpSync(repository, copy, { recursive: true });
  return copy;
}

const ignoredElsewhere = [/^definition of secured Reader's policy/];

describe.each([15, 17, 18])('of one of everything on PostgreSQL %i', version => {
  it('restores on a server that has nothing of it', async () => {
    await using server = await startServer({ version });
    await server.createDatabase('source');
    await loadEverything(server, 'source');
    const first = join(folder.path, `first-${version}`);
    const { id } = await backUp(server, 'source', first);
    const repository = join(folder.path, `found-${version}`);
    renameSync(first, repository);
    await using other = await startServer({ version, settings: { wal_level: 'logical' } });
    await offerFixtureExtension(other);
    await other.createDatabase('restored', { template: 'template0' });
    const output = join(folder.path, `everything-${version}.sql`);
    const result = await recover(repository, ['--backup', id, '--roles', '--output', output]);
    expect(result).toMatchObject({ status: 0, err: expect.stringContaining('all checked') });
    expect(statSync(output).mode & 0o777).toBe(0o600);
    expect(await psqlFile(other, 'restored', output, ['-1'])).toBe('');
    const compare = async (target: string, ignore: RegExp[]) =>
      (await compareDatabases(server.url('source'), target, { binDir: server.binDir, ignore })).differences;
    expect(await compare(other.url('restored'), ignoredElsewhere)).toEqual([]);
    // The same by pg_restore's own hand.
    const exported = join(folder.path, `exported-${version}.sql`);
    await exportBackup({
      repository,
      encryptionKey: testKey,
      backup: id,
      output: exported,
      environment: { PATH: process.env.PATH },
      programs: server.binDir,
    });
    const statement = (file: string) => /CREATE DATABASE .*/.exec(readFileSync(file, 'utf8'))?.[0];
    expect(statement(output)).toMatch(/LOCALE_PROVIDER libc/);
    expect(statement(output)).toBe(statement(exported));
    await other.createDatabase('exported', { template: 'template0' });
    await psqlFile(other, 'exported', exported);
    const kitAndExport = await compareDatabases(other.url('restored'), other.url('exported'), {
      binDir: server.binDir,
    });
    expect(kitAndExport.differences).toEqual([]);
  });
});

describe('a repository', () => {
  let server: Server;
  const repository = join(folder.path, 'repository');
  const plain = join(folder.path, 'plain');
  let shop: string;
  let latin: string;

  beforeAll(async () => {
    server = await startServer();
    await server.createDatabase('shop');
    await psql(
      server,
      'shop',
      `CREATE TABLE public.long_rows (id int, v text);
       CREATE TABLE public.many_ranges (n int, t text); ALTER TABLE public.many_ranges ALTER t SET STORAGE PLAIN;
       CREATE TABLE public.odd (v text); CREATE TABLE public.empty_line (); CREATE TABLE public.none (n int);
       CREATE TABLE public.customers (id int PRIMARY KEY); CREATE TABLE public.orders (id int, c int REFERENCES public.customers);
       INSERT INTO public.long_rows SELECT i, repeat(md5(i::text), 700000) FROM generate_series(1, 2) i;
       INSERT INTO public.many_ranges SELECT n, repeat(md5(n::text), 120) FROM generate_series(1, 20000) AS n;
       DELETE FROM public.many_ranges WHERE n BETWEEN 1000 AND 19500;
       INSERT INTO public.odd VALUES ('\\.'), (E'\\\\.\\n\\\\.\\n'), (E'\\n'), (NULL), ('');
       INSERT INTO public.empty_line SELECT FROM generate_series(1, 3);
       INSERT INTO public.customers VALUES (1); INSERT INTO public.orders VALUES (1, 1);
       SELECT lo_from_bytea(777, repeat('large', 100000)::bytea)`,
    );
    shop = (await backUp(server, 'shop', repository)).id;
    await backUp(server, 'shop', plain, { encryptionKey: undefined, encryption: false });
    await server.createDatabase('latin', { encoding: 'LATIN1' });
    await loadFixture(server, 'latin', 'latin1.sql');
    latin = (await backUp(server, 'latin', repository)).id;
  });
  afterAll(() => server[Symbol.asyncDispose]());

  async function restore(name: string, sql: Buffer, how: { encoding?: string } = {}): Promise<string[]> {
    const file = join(folder.path, `${name}.sql`);
    writeFileSync(file, sql);
    await server.createDatabase(name, { template: 'template0', ...how });
    expect(await psqlFile(server, name, file)).toBe('');
    const source = name.startsWith('latin') ? 'latin' : 'shop';
    const { differences } = await compareDatabases(server.url(source), server.url(name), {
      binDir: server.binDir,
    });
    return differences;
  }

  it('lists its backups without the key, passing over what is damaged', async () => {
    const copy = copyOf(repository, 'listed');
    writeFileSync(join(copy, 'metadata/backup-1642684800000-a1b2c3d4.json'), '{');
    const { status, out, err } = await recover(copy, ['--list'], { BACKUP_ENCRYPTION_KEY: undefined });
    expect(status).toBe(0);
    const lines = out.toString().trim().split('\n');
    expect(lines).toHaveLength(2);
    expect(lines[1]).toContain(`${shop}  `);
    expect(err).toContain('metadata/backup-1642684800000-a1b2c3d4.json is damaged');
  });

  it('restores without encryption and without a key', async () => {
    const { status, out } = await recover(plain, [], { BACKUP_ENCRYPTION_KEY: undefined });
    expect(status).toBe(0);
    expect(await restore('from_plain', out)).toEqual([]);
  });

  it('restores large rows, many ranges, odd rows, and another encoding, by a key in a file', async () => {
    const keyFile = join(folder.path, 'key');
    writeFileSync(keyFile, `${testKey}\n`);
    const args = ['--database', 'shop', '--key-file', keyFile];
    const { out } = await recover(repository, args, { BACKUP_ENCRYPTION_KEY: undefined });
    expect(await restore('from_kit', out)).toEqual([]);
    const ofLatin = await recover(repository, ['--backup', latin]);
    expect(await restore('latin_kit', ofLatin.out, { encoding: 'LATIN1' })).toEqual([]);
  });

  it('restores a backup of some tables, with their schemas and without what refers to others', async () => {
    const { id } = await backUp(server, 'shop', repository, { tables: ['orders'] });
    const { status, out, err } = await recover(repository, ['--backup', id, '--no-owner', '--no-privileges']);
    expect(status).toBe(0);
    expect(err).toMatch(/left out.*FK CONSTRAINT orders orders_c_fkey/);
    writeFileSync(join(folder.path, 'some.sql'), out);
    await server.createDatabase('some');
    await psqlFile(server, 'some', join(folder.path, 'some.sql'));
    expect((await psql(server, 'some', 'SELECT * FROM orders')).trim()).toBe('1|1');
  });

  it('restores what an incomplete backup has, and says what it lacks', async () => {
    await server.createDatabase('partly');
    await psql(
      server,
      'partly',
      `CREATE ROLE kit_reader LOGIN; CREATE TABLE seen (id int PRIMARY KEY); INSERT INTO seen VALUES (1);
       CREATE TABLE hidden (id int PRIMARY KEY, s int REFERENCES seen); INSERT INTO hidden VALUES (1, 1);
       ALTER TABLE seen ADD h int REFERENCES hidden; GRANT SELECT ON seen TO kit_reader;
       SELECT lo_from_bytea(778, 'hidden'), lo_from_bytea(779, 'seen'); GRANT SELECT ON LARGE OBJECT 779 TO kit_reader`,
    );
    const { id } = await backUp(server, 'partly', repository, {
      database: server.url('partly', 'kit_reader'),
      skipUnreadable: true,
    });
    const latest = await recover(repository, ['--database', 'partly']);
    expect(latest).toMatchObject({ status: 1, err: expect.stringContaining('there is no backup latest') });
    const { status, out, err } = await recover(repository, ['--backup', id]);
    expect([status, err]).toEqual([0, expect.stringMatching(/lacks public\.hidden/)]);
    writeFileSync(join(folder.path, 'partly.sql'), out);
    await server.createDatabase('partly_kit');
    await psqlFile(server, 'partly_kit', join(folder.path, 'partly.sql'));
    const output = join(folder.path, 'partly-exported.sql');
    const environment = { PATH: process.env.PATH };
    await exportBackup({
      repository,
      encryptionKey: testKey,
      backup: id,
      output,
      environment,
      programs: server.binDir,
    });
    await server.createDatabase('partly_exported');
    await psqlFile(server, 'partly_exported', output);
    const { differences } = await compareDatabases(server.url('partly_kit'), server.url('partly_exported'), {
      binDir: server.binDir,
    });
    expect(differences).toEqual([]);
    expect((await psql(server, 'partly_kit', 'SELECT id FROM seen')).trim()).toBe('1');
  });

  it('says what is wrong, by name, and ends with a status of its own', async () => {
    const wrong = await recover(repository, [], { BACKUP_ENCRYPTION_KEY: testKey.replaceAll('0', 'f') });
    expect(wrong).toMatchObject({
      status: 1,
      err: expect.stringContaining('is not a key of this repository'),
    });
    const none = await recover(repository, [], { BACKUP_ENCRYPTION_KEY: undefined });
    expect(none).toMatchObject({ status: 1, err: expect.stringContaining('set BACKUP_ENCRYPTION_KEY') });
    const unknown = await recover(repository, ['--backup', 'backup-1642684800000-a1b2c3d4']);
    expect(unknown).toMatchObject({ status: 1, err: expect.stringContaining('there is no backup') });
    const nowhere = await recover(repository, ['--repository', folder.path]);
    expect(nowhere).toMatchObject({ status: 1, err: expect.stringContaining('there is no repository') });
    const option = await recover(repository, ['--everything']);
    expect(option).toMatchObject({ status: 1, err: expect.stringContaining('--everything') });
  });

  it.each([
    [
      'flipped',
      (file: string) => change(file, bytes => bytes.with(200, (bytes[200] ?? 0) ^ 4)),
      /does not decrypt/,
    ],
    ['cut', (file: string) => change(file, bytes => bytes.subarray(0, -100)), /does not decrypt/],
    ['emptied', (file: string) => change(file, () => Buffer.alloc(0)), /is cut short/],
    ['missing', (file: string) => rmSync(file), /is missing/],
  ])('names a segment that is %s', async (kind, spoil, why) => {
    const copy = copyOf(repository, `spoilt-${kind}`);
    const segments = join(copy, 'segments');
    const file = readdirSync(segments, { recursive: true, encoding: 'utf8' })
      .map(name => join(segments, name))
      .filter(name => statSync(name).isFile())
      .sort((a, b) => statSync(b).size - statSync(a).size)[0];
    spoil(file ?? '');
    const output = join(folder.path, `${kind}.sql`);
    const { status, err } = await recover(copy, ['--backup', shop, '--output', output]);
    expect(status).toBe(1);
    expect(err).toMatch(why);
    expect(err).toContain(file?.slice(copy.length + 1));
    expect(existsSync(output)).toBe(false);
  });

  it('names a manifest that is not the one of its backup', async () => {
    const copy = copyOf(repository, 'swapped');
    cpSync(join(copy, `backups/${latin}.backup`), join(copy, `backups/${shop}.backup`));
    const { status, err } = await recover(copy, ['--backup', shop]);
    expect(status).toBe(1);
    expect(err).toContain(`backups/${shop}.backup is damaged`);
  });

  it('gets the kit by its first backup, and the current one by the next, but no older one', async () => {
    const own = join(folder.path, 'kept');
    await backUp(server, 'latin', own);
    const packed = readFileSync(new URL(`../../${script}`, import.meta.url));
    const [file, page] = [join(own, script), join(own, 'recovery/README.txt')];
    expect(readFileSync(file).equals(packed)).toBe(true);
    expect(readFileSync(page, 'utf8')).toContain('Restoring without pgkeep');
    const { mtimeMs } = statSync(file);
    writeFileSync(page, 'pgkeep recovery kit 0');
    await backUp(server, 'latin', own);
    expect(statSync(file).mtimeMs).toBe(mtimeMs);
    expect(readFileSync(page, 'utf8')).toContain('Restoring without pgkeep');
    rmSync(join(own, 'recovery'), { recursive: true });
    await backUp(server, 'latin', own);
    expect(readFileSync(file).equals(packed)).toBe(true);
    const newer = '// pgkeep recovery kit 99, from the future';
    writeFileSync(file, newer);
    await backUp(server, 'latin', own);
    expect(readFileSync(file, 'utf8')).toBe(newer);
    rmSync(page);
    expect((await writeRecoveryKit({ repository: own })).objects).toEqual([
      { name: script, state: 'newer' },
      { name: 'recovery/README.txt', state: 'written' },
    ]);
  });

  it('that cannot take the kit takes the backup all the same, and a warning tells', async () => {
    const own = join(folder.path, 'closed');
    await backUp(server, 'latin', own);
    rmSync(join(own, 'recovery'), { recursive: true });
    writeFileSync(join(own, 'recovery'), 'a file where a folder would be');
    const { warnings } = await backUp(server, 'latin', own);
    expect(warnings.join()).toMatch(/recovery kit .* could not be kept/);
    await expect(writeRecoveryKit({ repository: join(folder.path, 'nowhere') })).rejects.toMatchObject({
      code: 'REPOSITORY_NOT_FOUND',
    });
  });
});

it('is in the package', () => {
  const packed = execFileSync('npm', ['pack', '--dry-run', '--json', '--ignore-scripts'], {
    cwd: new URL('../..', import.meta.url).pathname,
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  const files = (JSON.parse(packed) as { files: { path: string }[] }[])[0]?.files.map(file => file.path);
  expect(files).toEqual(expect.arrayContaining([script, 'recovery/README.txt']));
});

function change(file: string, to: (bytes: Buffer) => Uint8Array): void {
  writeFileSync(file, to(readFileSync(file)));
}
