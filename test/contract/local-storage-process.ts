// Conditions a test process cannot put itself under: a disk that is full, a folder the user may not write (root may
// write everywhere). This file runs itself in a process that can, and reports what a local storage did there.

import { execFile } from 'node:child_process';
import { chmodSync, chownSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { errorToData } from '../../src/base/errors.ts';
import { LocalStorage } from '../../src/storage/local/local-storage.ts';
import { names } from './storage-names.ts';

type Condition = 'full-disk' | 'read-only' | 'closed';

interface Failure {
  code: string;
  message: string;
}

export interface Report {
  /** Names whose put succeeded, sorted. */
  stored: string[];
  /** What the put that could not succeed said. */
  failure?: Failure;
  listed: string[];
  /** Whether everything listed has the contents that were put. */
  isWhole: boolean;
  /** Files no listing shows. */
  leavings: string[];
  /** A put after the condition has ended. */
  afterwards?: string;
  /** What the calls that should have failed gave instead of a failure. */
  listing?: Failure | string[];
  stat?: Failure | string;
}

const objectBytes = 100_000;

/**
 * Puts objects into a local storage at `folder` under a condition.
 * @throws Error when this machine does not let the condition be made, with what it takes.
 */
export async function runUnder(condition: Condition, folder: string): Promise<Report> {
  const self = [process.execPath, import.meta.filename, condition, folder];
  // A mount namespace of its own: the disk is gone with the process. Without root, a user namespace gives the right to mount.
  const namespace = process.getuid?.() === 0 ? ['--mount'] : ['--mount', '--map-root-user'];
  const mounted = [
    'unshare',
    ...namespace,
    'sh',
    '-c',
    `mount -t tmpfs -o size=1m none "$4" && exec "$@"`,
    'sh',
    ...self,
  ];
  const [file = '', ...args] = condition === 'full-disk' ? mounted : self;
  const { stdout } = await promisify(execFile)(file, args).catch((error: unknown) => {
    throw new Error(
      condition === 'full-disk'
        ? 'this test needs the right to mount a small file system: run it as root, or allow user namespaces'
        : `the process under test failed in ${folder}`,
      { cause: error },
    );
  });
  return JSON.parse(stdout) as Report;
}

if (process.argv[1] === import.meta.filename) {
  const [condition, folder = ''] = process.argv.slice(2);
  const report =
    condition === 'full-disk' ? await fillDisk(folder) : await meetDenial(folder, condition === 'closed');
  process.stdout.write(JSON.stringify(report));
}

async function fillDisk(folder: string): Promise<Report> {
  const storage = new LocalStorage(folder);
  const stored: string[] = [];
  let failure: Failure | undefined;
  for (let i = 0; failure === undefined && i < 100; i++) {
    const name = `segments/aa/${i}`;
    try {
      await storage.put(name, contents(name), { ifAbsent: i % 2 === 0 });
      stored.push(name);
    } catch (error) {
      failure = errorToData(error);
    }
  }
  const report = await inspect(storage, folder, stored, failure);
  await storage.remove(stored.slice(0, 2));
  report.afterwards = await storage.put('segments/aa/again', contents('again'), { ifAbsent: true });
  return report;
}

async function meetDenial(folder: string, isClosed: boolean): Promise<Report> {
  const storage = new LocalStorage(folder);
  await storage.put('a/object', contents('a/object'));
  const modes: [string, number][] = isClosed
    ? [['a', 0o000]]
    : [
        ['a/object', 0o400],
        ['a', 0o500],
      ];
  chmodSync(folder, 0o755);
  for (const [name, mode] of modes) chmodSync(join(folder, name), mode);
  const giveBack = dropRoot(folder);
  const failure = await storage.put('a/second', contents('a/second')).then(() => undefined, errorToData);
  if (!isClosed) return inspect(storage, folder, ['a/object'], failure);
  const report: Report = { stored: [], listed: [], isWhole: true, leavings: [] };
  if (failure !== undefined) report.failure = failure;
  report.listing = await names(storage, '').catch(errorToData);
  report.stat = await storage.stat('a/object').then(found => found?.name ?? 'none', errorToData);
  giveBack();
  return report;
}

/** Hands the folder's contents to nobody and becomes nobody; does nothing without root. */
function dropRoot(folder: string): () => void {
  if (process.getuid?.() === 0) {
    const [, , uid, gid] = (readFileSync('/etc/passwd', 'utf8').match(/^nobody:.*$/m)?.[0] ?? '').split(':');
    for (const entry of readdirSync(folder, { withFileTypes: true, recursive: true }))
      chownSync(join(entry.parentPath, entry.name), Number(uid), Number(gid));
    process.setgroups?.([]);
    process.setgid?.(Number(gid));
    process.setuid?.(Number(uid));
  }
  // So that the folder can be removed by whoever is not root.
  return () => chmodSync(join(folder, 'a'), 0o700);
}

async function inspect(
  storage: LocalStorage,
  folder: string,
  stored: string[],
  failure: Failure | undefined,
): Promise<Report> {
  const listed = await names(storage, '');
  const isWhole = await Promise.all(listed.map(async name => contents(name).equals(await storage.get(name))));
  const leavings = readdirSync(folder, { withFileTypes: true, recursive: true })
    .filter(
      entry =>
        entry.isFile() && !listed.includes(join(entry.parentPath, entry.name).slice(folder.length + 1)),
    )
    .map(entry => entry.name);
  const report: Report = { stored: stored.sort(), listed, isWhole: isWhole.every(Boolean), leavings };
  return failure === undefined ? report : { ...report, failure };
}

function contents(name: string): Buffer {
  return Buffer.alloc(objectBytes, name);
}
