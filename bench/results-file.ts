// RESULTS.md: parts that runs of the benchmark write, each between two lines of its own, and whatever people wrote
// between them. A run replaces its own part and leaves the rest as it is.

import { existsSync } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

const file = join(import.meta.dirname, 'RESULTS.md');

/** Replaces a part of the file, or adds it at the end. @param name the command that writes it. */
export async function writeResults(name: string, part: string): Promise<void> {
  const [begin, end] = [`<!-- begin: ${name} -->\n`, `<!-- end: ${name} -->\n`];
  const text = existsSync(file) ? await readFile(file, 'utf8') : '';
  const [from, to] = [text.indexOf(begin), text.indexOf(end)];
  const written = `${begin}\n${part}\n${end}`;
  const isThere = from >= 0 && to > from;
  await writeFile(
    file,
    isThere ? text.slice(0, from) + written + text.slice(to + end.length) : `${text}\n${written}`,
  );
}
