import { chmodSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { findPgDump, findPgRestore, findPrograms } from '../../../src/postgres/programs.ts';
import { findServerPrograms } from '../../support/postgres-programs.ts';
import { makeTempFolder } from '../../support/temp-folder.ts';

const root = makeTempFolder('programs');
afterAll(() => root.remove());
let count = 0;

function newFolder(): string {
  const folder = join(root.path, String(count++));
  mkdirSync(folder);
  return folder;
}

/** A folder with programs that say they are of a version; `body` replaces what they do. */
function fakeInstallation(version: string, body?: string): string {
  const folder = newFolder();
  for (const name of ['pg_dump', 'pg_restore'])
    writeScript(join(folder, name), body ?? `echo "${name} (PostgreSQL) ${version}"`);
  return folder;
}

function writeScript(file: string, body: string, mode = 0o755): void {
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, `#!/bin/sh\n${body}\n`);
  chmodSync(file, mode);
}

/** The environment with these folders in front of the system's, so that scripts run. */
const pathOf = (...folders: string[]) => ({ PATH: [...folders, '/usr/bin', '/bin'].join(':') });

test('finds every version on PATH and in the usual places, newest first', async () => {
  const folders = ['97.1', '99.0', '98beta2 (Debian 98~beta2-1)'].map(version => fakeInstallation(version));
  const found = await findPrograms('pg_dump', undefined, pathOf(...folders));
  const fakes = found.filter(program => program.file.startsWith(root.path));
  expect(fakes.map(({ version, major }) => [version, major])).toEqual([
    ['99.0', 99],
    ['98beta2', 98],
    ['97.1', 97],
  ]);
  expect(found.slice(0, 3)).toEqual(fakes);
});

test('finds the programs of Debian packages without PATH', async () => {
  const system = findServerPrograms().filter(({ binDir }) => binDir.startsWith('/usr/lib/postgresql/'));
  const found = await findPrograms('pg_dump', undefined, {});
  expect(found.map(({ file }) => file)).toEqual(
    expect.arrayContaining(system.map(({ binDir }) => join(binDir, 'pg_dump'))),
  );
});

test('runs real programs as they are', async () => {
  for (const { binDir, majorVersion, version } of findServerPrograms()) {
    const program = { file: join(binDir, 'pg_dump'), major: majorVersion, version };
    expect(await findPrograms('pg_dump', binDir, {})).toEqual([program]);
    expect(await findPgDump(majorVersion * 10000 + 3, binDir, {})).toEqual(program);
  }
});

test('the newest pg_dump serves every older server', async () => {
  const environment = pathOf(fakeInstallation('97.1'), fakeInstallation('99.0'), fakeInstallation('98.2'));
  for (const server of [150018, 970000, 980005, 990001])
    expect((await findPgDump(server, undefined, environment)).version).toBe('99.0');
});

test('a server newer than every pg_dump is an error that names what was found and what to install', async () => {
  const folder = fakeInstallation('14.2');
  await expect(findPgDump(150018, folder, pathOf())).rejects.toMatchObject({
    code: 'PROGRAM_TOO_OLD',
    message: expect.stringContaining(`14.2 (${join(folder, 'pg_dump')})`),
    hint: expect.stringContaining('postgresql-client-15'),
  });
});

test('none at all is an error that names the folder and what to install', async () => {
  const empty = newFolder();
  for (const folder of [empty, join(empty, 'no-such')])
    await expect(findPgDump(170000, folder, pathOf())).rejects.toMatchObject({
      code: 'PROGRAM_MISSING',
      message: expect.stringContaining(folder),
      hint: expect.stringContaining('postgresql-client-17'),
    });
  await expect(findPgRestore('17.2', empty, pathOf())).rejects.toMatchObject({ code: 'PROGRAM_MISSING' });
});

test('a folder that is named is the only one looked at', async () => {
  const [named, onPath] = [fakeInstallation('90.1'), fakeInstallation('99.0')];
  const found = await findPrograms('pg_dump', named, pathOf(onPath));
  expect(found.map(({ version }) => version)).toEqual(['90.1']);
});

test('pg_restore is the oldest that reads the archive', async () => {
  const environment = pathOf(fakeInstallation('99.0'), fakeInstallation('97.3'), fakeInstallation('98.2'));
  expect((await findPgRestore('97.1', undefined, environment)).version).toBe('97.3');
  expect((await findPgRestore('97.9', undefined, environment)).version).toBe('97.3');
  expect((await findPgRestore('98.0', undefined, environment)).version).toBe('98.2');
  await expect(findPgRestore('100.1', undefined, environment)).rejects.toMatchObject({
    code: 'PROGRAM_TOO_OLD',
    message: expect.stringContaining('pg_dump 100.1'),
  });
});

test.each([
  ['fails', 'exit 1'],
  ['prints nothing', 'exit 0'],
  ['prints something else', 'echo "pgdumper 99.0"'],
  ['is another program', 'echo "psql (PostgreSQL) 99.0"'],
  ['says its version to nobody', 'echo "pg_dump (PostgreSQL) 99.0" >&2'],
  ['dies', 'kill -9 $$'],
])('a program that %s is passed over', async (_, body) => {
  expect(await findPrograms('pg_dump', fakeInstallation('', body), pathOf())).toEqual([]);
});

test('what cannot be run is passed over, and the rest is still found', async () => {
  const broken = newFolder();
  writeScript(join(broken, 'pg_dump'), 'echo "pg_dump (PostgreSQL) 99.0"', 0o644);
  const asFolder = newFolder();
  mkdirSync(join(asFolder, 'pg_dump'));
  const dangling = newFolder();
  symlinkSync('/no/such/file', join(dangling, 'pg_dump'));
  const good = fakeInstallation('98.0');
  const found = await findPrograms(
    'pg_dump',
    undefined,
    pathOf('', '/no/such', broken, asFolder, dangling, good),
  );
  expect(found[0]).toMatchObject({ version: '98.0' });
});

test('a wrapper that serves many programs is called by the name it is asked for', async () => {
  const folder = newFolder();
  const wrapper = join(folder, 'share/wrapper');
  writeScript(
    wrapper,
    'name=$(basename "$0"); case $name in pg_*) echo "$name (PostgreSQL) 99.5";; *) echo "unknown program"; exit 1;; esac',
  );
  for (const name of ['pg_dump', 'pg_restore']) symlinkSync(wrapper, join(folder, name));
  expect(await findPgDump(990000, folder, pathOf())).toMatchObject({
    version: '99.5',
    file: join(folder, 'pg_dump'),
  });
  expect((await findPgRestore('99.1', folder, pathOf())).version).toBe('99.5');
});

test('the same program by two ways is found once', async () => {
  const folder = fakeInstallation('99.0');
  const link = join(newFolder(), 'bin');
  symlinkSync(folder, link);
  expect(
    (await findPrograms('pg_dump', undefined, pathOf(folder, link, folder))).filter(
      ({ major }) => major === 99,
    ),
  ).toHaveLength(1);
});

test('a program in a versioned folder is preferred to a wrapper of the same version', async () => {
  for (const { binDir, majorVersion, version } of findServerPrograms()) {
    const wrapper = newFolder();
    for (const name of ['pg_dump', 'pg_restore'])
      writeScript(join(wrapper, name), `exec ${binDir}/${name} "$@"`);
    const environment = pathOf(binDir, wrapper);
    const found = await findPrograms('pg_dump', undefined, environment);
    expect(found.find(({ major }) => major === majorVersion)?.file).toBe(join(binDir, 'pg_dump'));
    expect((await findPgRestore(version, undefined, environment)).file).toBe(join(binDir, 'pg_restore'));
  }
});

test('secrets are not in the environment of a program that is only asked for its version', async () => {
  const folder = fakeInstallation(
    '',
    'echo "pg_dump (PostgreSQL) 99.$(env | grep -c -e SECRET -e PASSWORD)"',
  );
  const environment = { ...pathOf(), PGPASSWORD: 'x', BACKUP_SECRET: 'x' };
  expect((await findPrograms('pg_dump', folder, environment)).map(({ version }) => version)).toEqual([
    '99.0',
  ]);
});
