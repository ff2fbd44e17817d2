// Passwords and keys: in no argument, in no output, and in no environment but that of a program that needs them.

import { chmodSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { makeFaultDatabase } from '../support/fault-database.ts';
import { type Ending, startPgkeep } from '../support/pgkeep-process.ts';
import { psql, type Server, startServer } from '../support/postgres-server.ts';
import { descendants, isRunning, type ProcessSeen } from '../support/processes.ts';
import { testKey } from '../support/round-trip.ts';
import { makeTempFolder, type TempFolder } from '../support/temp-folder.ts';

const password = 'Pa55-wörd/&=? %40';
const encoded = encodeURIComponent(password);
const everySecret = [password, encoded, testKey];

let server: Server;

beforeAll(async () => {
  server = await startServer({ hba: 'host all all 127.0.0.1/32 scram-sha-256' });
  await makeFaultDatabase(server, 'shop', 40_000);
  await psql(server, 'postgres', `ALTER ROLE postgres PASSWORD '${password}'`);
});
afterAll(async () => {
  await server[Symbol.asyncDispose]();
});

/** Programs that write down their arguments and their environment before they do their work. */
function watchedPrograms(): TempFolder & { seen(): ProcessSeen[] } {
  const folder = makeTempFolder('programs');
  const notes = makeTempFolder('notes');
  for (const name of ['pg_dump', 'pg_restore']) {
    const file = join(folder.path, name);
    writeFileSync(
      file,
      `#!/bin/bash
       tr '\\0' ' ' < /proc/$$/cmdline > '${notes.path}'/$$.command
       cp /proc/$$/environ '${notes.path}'/$$.environment
       exec '${join(server.binDir, name)}' "$@"\n`,
    );
    chmodSync(file, 0o755);
  }
  return {
    ...folder,
    seen: () =>
      readdirSync(notes.path)
        .filter(name => name.endsWith('.command'))
        .map(name => ({
          pid: Number.parseInt(name, 10),
          command: readFileSync(join(notes.path, name), 'utf8'),
          environment: readFileSync(join(notes.path, name.replace('.command', '.environment')), 'utf8')
            .split('\0')
            .filter(Boolean),
        })),
  };
}

/** Runs the program; notes what `ps` shows of it and of its children meanwhile. */
async function watched(
  argv: readonly string[],
  env: Readonly<Record<string, string>>,
): Promise<Ending & { shown: string[] }> {
  const run = startPgkeep(argv, { env });
  const shown = new Set<string>();
  const look = () => {
    if (!isRunning(run.pid)) return;
    shown.add(readFileSync(`/proc/${run.pid}/cmdline`, 'utf8').replaceAll('\0', ' '));
    for (const child of descendants(run.pid)) shown.add(child.command);
  };
  look();
  const looking = setInterval(look, 20);
  const ended = await run.ended;
  clearInterval(looking);
  return { ...ended, shown: [...shown] };
}

const login = (database: string) => `postgres://postgres:${encoded}@127.0.0.1:${server.port}/${database}`;

it.each([
  {
    title: 'in DATABASE_URL',
    source: () => ({ DATABASE_URL: login('shop') }),
    target: () => ({ RESTORE_DATABASE_URL: login('restored'), DATABASE_URL: login('shop') }),
  },
  {
    title: 'in PGPASSWORD',
    source: () => ({ ...place('shop'), PGPASSWORD: password }),
    target: () => ({ ...place('restored'), PGPASSWORD: password }),
  },
])(
  'given $title, the password reaches pg_dump and pg_restore alone, the key nobody, and neither is shown',
  async ({ source, target }) => {
    await using repository = makeTempFolder('repository');
    await using programs = watchedPrograms();
    const common = ['--repository', repository.path, '--programs', programs.path, '--json'];
    const created = await watched(['create', ...common], { ...source(), BACKUP_ENCRYPTION_KEY: testKey });
    expect({ exitCode: created.exitCode, err: created.err }).toMatchObject({ exitCode: 0 });
    const restored = await watched(['restore', 'latest', '--create', ...common], {
      ...target(),
      BACKUP_ENCRYPTION_KEY: testKey,
    });
    expect({ exitCode: restored.exitCode, err: restored.err }).toMatchObject({ exitCode: 0 });
    const shown = await watched(['show', 'latest', '--repository', repository.path, '--json'], {
      BACKUP_ENCRYPTION_KEY: testKey,
    });
    expect(shown.exitCode).toBe(0);

    for (const { out, err, shown: commands } of [created, restored, shown]) {
      expect(commands.length).toBeGreaterThan(0);
      for (const secret of everySecret) expect([out, err, ...commands].join('\n')).not.toContain(secret);
    }
    const children = programs.seen();
    // Versions, dumping, listing; versions, listing, three sections.
    expect(children.length).toBeGreaterThanOrEqual(8);
    for (const { command, environment } of children) {
      for (const secret of everySecret) expect(command).not.toContain(secret);
      const names = environment.map(variable => variable.slice(0, variable.indexOf('=')));
      const holders = environment.filter(variable => everySecret.some(secret => variable.includes(secret)));
      const needsPassword = /--snapshot|--section/.test(command);
      expect({ command, holders }).toEqual({
        command,
        holders: needsPassword ? [`PGPASSWORD=${password}`] : [],
      });
      expect(names.filter(name => /^(BACKUP_|DATABASE_|RESTORE_|PGKEEP_|AWS_|AZURE_)/.test(name))).toEqual(
        [],
      );
    }
    for (const file of readdirSync(repository.path, { recursive: true, withFileTypes: true })) {
      if (!file.isFile()) continue;
      const bytes = readFileSync(join(file.parentPath, file.name));
      for (const secret of everySecret) expect(bytes.includes(secret)).toBe(false);
    }
    await psql(server, 'postgres', 'DROP DATABASE restored');
  },
);

it('a password on the command line is used, and warned of without being repeated', async () => {
  await using repository = makeTempFolder('repository');
  const argv = [
    'create',
    '--database',
    login('shop'),
    '--repository',
    repository.path,
    '--programs',
    server.binDir,
  ];
  const { exitCode, out, err } = await startPgkeep(argv, { env: { BACKUP_ENCRYPTION_KEY: testKey } }).ended;
  expect(exitCode).toBe(0);
  expect(err).toContain(
    'the password in --database is visible in the list of processes; set DATABASE_URL instead',
  );
  for (const secret of everySecret) expect(out + err).not.toContain(secret);
});

it('a run that fails in the middle shows neither, in text or JSON', async () => {
  await using repository = makeTempFolder('repository');
  await using programs = makeTempFolder('programs');
  for (const name of ['pg_dump', 'pg_restore']) {
    // Says all it knows, as a program with a debugging switch might.
    writeFileSync(
      join(programs.path, name),
      `#!/bin/bash\ncase "$*" in *--snapshot*) exit 9;; esac\nexec '${join(server.binDir, name)}' "$@"\n`,
    );
    chmodSync(join(programs.path, name), 0o755);
  }
  const argv = ['create', '--repository', repository.path, '--programs', programs.path, '--json'];
  const { exitCode, out, err } = await startPgkeep(argv, {
    env: { DATABASE_URL: login('shop'), BACKUP_ENCRYPTION_KEY: testKey },
  }).ended;
  expect(exitCode).toBe(7);
  expect(JSON.parse(out).error.code).toBe('PROGRAM_FAILED');
  for (const secret of everySecret) expect(out + err).not.toContain(secret);
});

it.each([
  ['gs://GOOG1EKEY:s3cr3t@bucket/p', []],
  ['s3://AKIAKEY:s3cr3t@bucket', []],
  ['s3://AKIAKEY:s3cr3t/more@bucket', []],
  ['s3://bucket?X-Amz-Signature=s3cr3t', []],
  ['sftp://user:s3cr3t@host/folder', []],
  ['sftp://user:s3cr3t@host/folder', ['--as-of', '1h']],
  ['azure://account:s3cr3t@container', []],
  ['azure://account:s3/cr3t==@container', []],
  ['azure://container?sv=2024&sig=s3cr3t', []],
  ['azure://container/p?sv=2024&sig=s3cr3t', []],
])('what an address holds of credentials is not repeated: %s %j', async (repository, more) => {
  const argv = ['list', '--repository', repository, ...more];
  for (const given of [argv, [...argv, '--json']]) {
    const { exitCode, out, err } = await startPgkeep(given, {}).ended;
    expect(exitCode).not.toBe(0);
    expect(out + err).toMatch(/OPTION_INVALID/);
    expect(out + err).not.toMatch(/cr3t/);
  }
});

function place(database: string): Record<string, string> {
  return { PGHOST: '127.0.0.1', PGPORT: String(server.port), PGUSER: 'postgres', PGDATABASE: database };
}
