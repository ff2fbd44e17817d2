// The files of a repository in a folder, and ways to spoil them.

import { readdirSync, readFileSync, renameSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** Paths of the files below a folder of the repository, the largest first; unfinished ones are passed over. */
export function filesIn(repository: string, folder: string): string[] {
  return readdirSync(join(repository, folder), { withFileTypes: true, recursive: true })
    .filter(entry => entry.isFile() && !entry.name.startsWith('.'))
    .map(entry => join(entry.parentPath, entry.name))
    .sort((a, b) => readFileSync(b).length - readFileSync(a).length || a.localeCompare(b));
}

/** Flips one bit, in the middle unless told. */
export function flipBit(file: string, at?: number): void {
  const bytes = readFileSync(file);
  const offset = at ?? bytes.length >> 1;
  bytes[offset] = (bytes[offset] ?? 0) ^ 0x10;
  writeFileSync(file, bytes);
}

export function cutShort(file: string): void {
  truncateSync(file, readFileSync(file).length - 20);
}

export function empty(file: string): void {
  truncateSync(file, 0);
}

export function remove(file: string): void {
  rmSync(file);
}

export function swap(one: string, other: string): void {
  renameSync(one, `${one}.x`);
  renameSync(other, one);
  renameSync(`${one}.x`, other);
}

export function rewrite(file: string, change: (text: string) => string): void {
  const before = readFileSync(file, 'utf8');
  const after = change(before);
  if (after === before) throw new Error(`nothing to change was found in ${file}`);
  writeFileSync(file, after);
}
