// What pg_dump writes before anything may be stored.
import { chmodSync, existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { PgkeepError } from '../../../../src/base/errors.ts';
import { storeSchemaArchive } from '../../../../src/operations/create/schema-archive.ts';
import { Repository } from '../../../../src/repository/repository.ts';
import { SegmentStore } from '../../../../src/repository/segment-store.ts';
import { MemoryStorage } from '../../../support/memory-storage.ts';
import { isRunning, waitFor } from '../../../support/processes.ts';
import { makeTempFolder } from '../../../support/temp-folder.ts';

const folder = makeTempFolder('programs');
afterAll(() => folder.remove());
const pidFile = join(folder.path, 'pid');
/** More than is read at once, less than fits into a pipe beside that. */
const written = Buffer.from(Array.from({ length: 100_000 }, (_, at) => at % 251));
writeFileSync(join(folder.path, 'written'), written);

/** Stores what a script writes, once `storeAfter` lets it. */
async function store(text: string, storeAfter: (pid: Promise<number>) => Promise<unknown>) {
  const file = join(folder.path, 'pg_dump');
  writeFileSync(file, `#!/bin/bash\necho $$ > '${pidFile}.new'; mv '${pidFile}.new' '${pidFile}'\n${text}\n`);
  chmodSync(file, 0o755);
  writeFileSync(pidFile, '');
  const pid = waitFor('the script', () => Number(readFileSync(pidFile, 'utf8')));
  const repository = await Repository.create(new MemoryStorage(), null);
  const segments = new SegmentStore(repository, null, 1);
  const stored = storeSchemaArchive({
    program: { file, version: '17.0', major: 17 },
    env: { PATH: process.env.PATH ?? '' },
    encoding: 'UTF8',
    snapshotId: '1-1',
    selection: { schemas: [], excludeSchemas: [], tables: [], excludeTables: [], excludeTableData: [] },
    schemaOnly: false,
    without: [],
    withoutData: [],
    relations: [],
    withoutLargeObjects: false,
    cutsLargeObjects: false,
    lockWaitMs: 1000,
    onWarning: () => undefined,
    store: segments,
    storeAfter: storeAfter(pid),
    signal: new AbortController().signal,
  });
  return { pid, segments, stored, repository };
}

test('is stored whole, though pg_dump has ended by then', async () => {
  const { stored, repository } = await store(`cat '${join(folder.path, 'written')}'`, async pid => {
    const dump = await pid;
    await waitFor('the end of the script', () => !isRunning(dump) && !existsSync(`/proc/${dump}`));
  });
  const { bytes, segments } = await stored;
  expect(bytes).toBe(written.length);
  const pieces: Buffer[] = [];
  for await (const piece of repository.readSegments(segments)) pieces.push(piece);
  expect(Buffer.concat(pieces).equals(written)).toBe(true);
});

test('is not stored when that fails, which is the failure, and ends pg_dump', async () => {
  const text = `cat '${join(folder.path, 'written')}'; exec sleep 600`;
  const { pid, stored, segments } = await store(text, async script => {
    await script;
    throw new PgkeepError('OPTION_INVALID', 'there are too many tables');
  });
  await expect(stored).rejects.toThrow('there are too many tables');
  expect(isRunning(await pid)).toBe(false);
  expect([...segments.used]).toEqual([]);
});
