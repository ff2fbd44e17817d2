// Files of which runs of the benchmark write parts, each between two lines of its own, and people whatever stands
// between them. A run replaces its own part and leaves the rest as it is.

import { existsSync } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';

/**
 * Replaces a part of the file, or adds it: ahead of the first part that comes after it in `order`, else at the end.
 * @param name of the part: the command that writes it, where that writes no other.
 */
export async function writePart(
  file: string,
  name: string,
  part: string,
  order: readonly string[] = [],
): Promise<void> {
  const text = existsSync(file) ? await readFile(file, 'utf8') : '';
  await writeFile(file, replacePart(text, name, part, order));
}

export function replacePart(text: string, name: string, part: string, order: readonly string[] = []): string {
  const [begin, end] = [beginOf(name), `<!-- end: ${name} -->\n`];
  const written = part === '' ? `${begin}${end}` : `${begin}\n${part.trim()}\n\n${end}`;
  const [from, to] = [text.indexOf(begin), text.indexOf(end)];
  if (from >= 0 && to > from) return text.slice(0, from) + written + text.slice(to + end.length);
  const place = order.indexOf(name);
  const following = order
    .slice(place + 1)
    .map(later => text.indexOf(beginOf(later)))
    .filter(index => index >= 0);
  if (place < 0 || following.length === 0) return `${text}\n${written}`;
  const before = Math.min(...following);
  return `${text.slice(0, before)}${written}\n${text.slice(before)}`;
}

function beginOf(name: string): string {
  return `<!-- begin: ${name} -->\n`;
}
