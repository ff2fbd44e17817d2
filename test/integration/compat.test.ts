// Repositories that earlier versions wrote: what was in them then is restored, and they can be added to.
import { cpSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { exportBackup } from '../../src/operations/export-backup.ts';
import { listBackups } from '../../src/operations/list-backups.ts';
import { verifyBackups } from '../../src/operations/verify-backups.ts';
import { compatFolder, fingerprint } from '../compat/fingerprint.ts';
import { psql, type Server, startServer } from '../support/postgres-server.ts';
import { backUp, restoreInto, testKey } from '../support/round-trip.ts';
import { makeTempFolder } from '../support/temp-folder.ts';

let server: Server;

beforeAll(async () => {
  server = await startServer();
});
afterAll(() => server[Symbol.asyncDispose]());

const repositories = readdirSync(compatFolder, { withFileTypes: true })
  .filter(entry => entry.isDirectory())
  .flatMap(({ name: format }) =>
    readdirSync(join(compatFolder, format)).map(kind => ({
      format,
      kind,
      folder: join(compatFolder, format, kind),
    })),
  );

test('there is an encrypted and a plain one of each format', () => {
  expect(repositories.map(({ format, kind }) => `${format} ${kind}`)).toEqual([
    'format-1 encrypted',
    'format-1 plain',
  ]);
});

describe.each(repositories)('$format, $kind', ({ format, kind, folder }) => {
  const expected = JSON.parse(readFileSync(join(folder, 'expected.json'), 'utf8')) as Record<string, string>;
  const encryptionKey = kind === 'encrypted' ? testKey : undefined;

  /** A copy, so that nothing is added to what was written then. */
  function copyRepository() {
    const copy = makeTempFolder('compat');
    cpSync(join(folder, 'repository'), copy.path, { recursive: true });
    return copy;
  }

  test('its backups are listed and whole', async () => {
    await using copy = copyRepository();
    const listed = await listBackups({ repository: copy.path });
    expect(listed.map(({ id }) => id).sort()).toEqual(Object.keys(expected).sort());
    const { valid, backups } = await verifyBackups({ repository: copy.path, encryptionKey, all: true });
    expect(valid).toBe(true);
    expect(backups).toHaveLength(3);
  });

  test.each(Object.keys(expected))('%s is restored and exported as it was', async backup => {
    await using copy = copyRepository();
    const name = `${format}_${kind}_${backup}`;
    await restoreInto(server, name, copy.path, { backup, encryptionKey, create: true });
    expect(await fingerprint(server, name)).toBe(expected[backup]);
    const file = join(copy.path, 'export.sql');
    await exportBackup({
      repository: copy.path,
      backup,
      encryptionKey,
      output: file,
      programs: server.binDir,
    });
    await server.createDatabase(`${name}_exported`);
    await psql(server, `${name}_exported`, readFileSync(file, 'utf8'));
    expect(await fingerprint(server, `${name}_exported`)).toBe(expected[backup]);
  });

  test('a new backup goes beside them', async () => {
    await using copy = copyRepository();
    const [backup = ''] = Object.keys(expected);
    const name = `${format}_${kind}_again`;
    await restoreInto(server, name, copy.path, { backup, encryptionKey, create: true });
    const added = await backUp(server, name, copy.path, { encryptionKey, encryption: kind === 'encrypted' });
    await restoreInto(server, `${name}_restored`, copy.path, {
      backup: added.id,
      encryptionKey,
      create: true,
    });
    expect(await fingerprint(server, `${name}_restored`)).toBe(expected[backup]);
  });
});
