// What a huge repository costs, run by hand (npm run scale): makes one whose manifest names five million segments, beside
// half a million that nothing names, and has list, verify --level metadata and cleanup go through it, each in a process of its
// own. Prints time, peak memory and requests of each, and what the structures of create, restore, verify and others take of memory.
// Docs: docs/scaling.md. The default takes a quarter of an hour of an idle machine, and 1.5 GB of disk: names of files and table indexes.
//
//   npm run scale
//   npm run scale -- --segments 200000 --tables 8 --garbage 20000
//   npm run scale -- --folder /mnt/other-disk       a folder there, which is removed again

import { mkdtempSync, utimesSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { formatBytes, formatCount } from '../../src/base/units.ts';
import { generateKey } from '../../src/crypto/key.ts';
import { findGarbage } from '../../src/repository/garbage.ts';
import { LocalStorage } from '../../src/storage/local/local-storage.ts';
import { measureStructures } from '../support/measure-structures.ts';
import { type Costs, runMeasured } from '../support/run-measured.ts';
import { makeScaleRepository } from '../support/scale-repository.ts';

const { values } = parseArgs({
  options: {
    segments: { type: 'string', default: '5000000' },
    tables: { type: 'string', default: '40' },
    garbage: { type: 'string', default: '500000' },
    folder: { type: 'string', default: tmpdir() },
    heap: { type: 'string' },
  },
});
const segments = Number(values.segments);
const garbage = Number(values.garbage);
const heapMb = values.heap === undefined ? undefined : Number(values.heap);
const encryptionKey = generateKey();
const folder = mkdtempSync(join(values.folder, 'pgkeep-scale-'));

try {
  await measureRepository();
} finally {
  await rm(folder, { recursive: true, force: true });
}
await tellStructures();

async function measureRepository(): Promise<void> {
  const startedAt = performance.now();
  const made = await makeScaleRepository({
    folder,
    key: encryptionKey,
    segments,
    tables: Number(values.tables),
    garbage,
    onProgress: count => count % 1_000_000 === 0 && say(`${formatCount(count)} segments made`),
  });
  say(
    `a repository with ${formatCount(made.named)} segments that are named, made in ${seconds(performance.now() - startedAt)}`,
  );
  say(
    `table indexes: ${formatBytes(made.indexPlainBytes)} in ${formatCount(made.indexSegments)} segments, stored in ` +
      `${formatBytes(made.indexStoredBytes)}; the manifest ${formatBytes(made.manifestBytes)}`,
  );
  say(
    `of each segment of rows, the index has ${(made.indexPlainBytes / segments).toFixed(0)} bytes, stored in ` +
      `${(made.indexStoredBytes / segments).toFixed(0)}`,
  );

  const list = await runMeasured('listBackups', { repository: folder }, heapMb);
  tell('list', list);
  requireEqual('backups listed', list.result.length, 1);

  const verified = await runMeasured(
    'verifyBackups',
    { repository: folder, encryptionKey, level: 'metadata' },
    heapMb,
  );
  tell('verify --level metadata', verified);
  requireEqual('problems', verified.result.backups.flatMap(({ errors }) => errors).length, 0);

  const cleanup = { repository: folder, encryptionKey };
  const tried = await runMeasured('cleanupRepository', { ...cleanup, dryRun: true }, heapMb);
  tell('cleanup --dry-run', tried);
  requireEqual('segments that could go', tried.result.candidates.segments, garbage);

  const listed = await runMeasured('cleanupRepository', cleanup, heapMb);
  tell('cleanup, which lists garbage', listed);
  requireEqual('segments listed', listed.result.candidates.segments, garbage);
  await ageLists();
  const deleted = await runMeasured('cleanupRepository', cleanup, heapMb);
  tell('cleanup, which deletes it', deleted);
  requireEqual('segments deleted', deleted.result.deleted.segments, garbage);

  const again = await runMeasured(
    'verifyBackups',
    { repository: folder, encryptionKey, level: 'metadata' },
    heapMb,
  );
  requireEqual('problems afterwards', again.result.backups.flatMap(({ errors }) => errors).length, 0);
}

/** As if the grace were over. */
async function ageLists(): Promise<void> {
  const then = Date.now() / 1000 - 2 * 86_400;
  for (const { name } of (await findGarbage(new LocalStorage(folder))).lists)
    utimesSync(join(folder, name), then, then);
}

async function tellStructures(): Promise<void> {
  const measured = Math.min(segments, 1_000_000);
  for (const [what, bytes] of Object.entries(await measureStructures(measured)))
    say(`${what}: ${bytes.toFixed(0)} bytes of memory a segment`);
}

function tell(
  what: string,
  { wallMs, cpuMs, peakBytes, requests }: Omit<Costs<'listBackups'>, 'result'>,
): void {
  const { list, listed, ...others } = requests;
  const asked = Object.entries(others).map(([call, count]) => `${formatCount(count)} ${call}`);
  say(
    `${what}: ${seconds(wallMs)} (${seconds(cpuMs)} of CPU), at most ${formatBytes(peakBytes)} of memory; ` +
      `${asked.join(', ')}, ${formatCount(listed)} objects in ${list} listings`,
  );
}

function requireEqual(what: string, found: number, expected: number): void {
  if (found !== expected) throw new Error(`${what}: ${found}, not ${expected}`);
}

function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(1)} s`;
}

function say(line: string): void {
  process.stdout.write(`${line}\n`);
}
