// The direction of imports is the architecture (docs/architecture.md): this reads every source and checks it.

import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { expect, test } from 'vitest';

const source = resolve(import.meta.dirname, '../../src');

/** What each folder of src may import, besides itself. */
const mayImport: Record<string, readonly string[]> = {
  base: [],
  storage: ['base'],
  crypto: ['base'],
  codec: ['base'],
  postgres: ['base', 'storage', 'crypto', 'codec'],
  repository: ['base', 'storage', 'crypto', 'codec'],
  operations: ['base', 'storage', 'crypto', 'codec', 'postgres', 'repository'],
  cli: ['base', 'storage', 'crypto', 'codec', 'postgres', 'repository', 'operations'],
  // The published library: what a caller may use, and nothing of the command line.
  'index.ts': ['base', 'storage', 'crypto', 'codec', 'postgres', 'repository', 'operations'],
};

const files = readdirSync(source, { recursive: true, encoding: 'utf8' })
  .filter(file => file.endsWith('.ts'))
  .sort();

interface Import {
  /** Relative to src, for a file of ours; the bare name of a package or `node:` module otherwise. */
  target: string;
  isOurs: boolean;
  /** Loaded when the importing file is; not so `import()` and modules of worker threads. */
  isAtOnce: boolean;
}

/** Static imports and exports, with or without `type`, dynamic ones, types by import(), and workers' modules. */
function importsOf(file: string): Import[] {
  const text = withoutComments(readFileSync(join(source, file), 'utf8'));
  const atOnce = [/\bfrom\s*'([^']+)'/g, /\bimport\s*'([^']+)'/g];
  const later = [/\bimport\(\s*'([^']+)'\s*\)/g, /\bnew URL\(\s*'([^']+)',\s*import\.meta\.url\s*\)/g];
  return [...atOnce, ...later].flatMap(pattern =>
    [...text.matchAll(pattern)].map(([, target = '']) => {
      const isOurs = target.startsWith('.');
      return {
        target: isOurs ? relative(source, resolve(source, dirname(file), target)) : target,
        isOurs,
        isAtOnce: atOnce.includes(pattern),
      };
    }),
  );
}

function withoutComments(text: string): string {
  return text.replace(/\/\*[\s\S]*?\*\//g, '').replace(/^\s*\/\/.*$|\s\/\/ .*$/gm, '');
}

function folderOf(file: string): string {
  return file.split('/')[0] ?? '';
}

test('every source lies in a folder that the architecture knows', () => {
  expect(files.length).toBeGreaterThan(50);
  expect([...new Set(files.map(folderOf))].filter(folder => !(folder in mayImport))).toEqual([]);
});

test('this test sees imports of every form', () => {
  const all = files.flatMap(file => importsOf(file).map(({ target }) => `${file} ${target}`));
  expect(all.filter(line => line.includes(' operations/')).length).toBeGreaterThan(0);
  expect(all).toContain('cli/commands/table.ts cli/commands/create.ts');
  expect(all).toContain('storage/local/local-storage.ts node:fs/promises');
  expect(all).toContain('operations/create/read-tables.ts operations/create/copy-worker');
});

test('imports point one way', () => {
  const against: string[] = [];
  for (const file of files) {
    for (const { target, isOurs } of importsOf(file)) {
      if (!isOurs || folderOf(target) === folderOf(file)) continue;
      // The version in package.json and the recovery kit, which it only copies, are what a source takes from outside.
      if (target === '../package.json' || target.startsWith('../recovery/')) continue;
      if (!mayImport[folderOf(file)]?.includes(folderOf(target))) against.push(`${file} imports ${target}`);
    }
  }
  expect(against).toEqual([]);
});

test('no two files import each other, directly or in a circle', () => {
  const graph = new Map(
    files.map(file => [
      file,
      importsOf(file)
        .filter(({ isOurs, isAtOnce }) => isOurs && isAtOnce)
        .map(({ target }) => target),
    ]),
  );
  const done = new Set<string>();
  const circles: string[] = [];
  const visit = (file: string, way: readonly string[]) => {
    if (way.includes(file)) circles.push([...way.slice(way.indexOf(file)), file].join(' -> '));
    if (done.has(file) || way.includes(file)) return;
    for (const next of graph.get(file) ?? []) visit(next, [...way, file]);
    done.add(file);
  };
  for (const file of files) visit(file, []);
  expect(circles).toEqual([]);
});

test('only storage/open-storage.ts knows the backends', () => {
  const isBackend = (file: string) => /^storage\/[^/]+\//.test(file);
  const backendOf = (file: string) => file.split('/')[1];
  const users = files.filter(file =>
    importsOf(file).some(
      ({ target }) => isBackend(target) && !(isBackend(file) && backendOf(file) === backendOf(target)),
    ),
  );
  expect(users).toEqual(['storage/open-storage.ts']);
});

test('only the command line touches the process', () => {
  const touching = files.filter(file =>
    /\bprocess\.(argv|env|stdin|stdout|stderr|exit|exitCode|on|once|chdir|cwd)\b|\bconsole\./.test(
      withoutComments(readFileSync(join(source, file), 'utf8')),
    ),
  );
  const outside = touching.filter(file => folderOf(file) !== 'cli');
  // The documented default of the library's option `environment`.
  for (const file of outside) {
    expect(file).toMatch(/^operations\/(?:[a-z]+-backups?|check-setup)\.ts$/);
    const uses = withoutComments(readFileSync(join(source, file), 'utf8')).match(/.*\bprocess\..*/g) ?? [];
    expect(uses.map(line => line.trim())).toEqual([
      expect.stringMatching(/options\.environment \?\? process\.env/),
    ]);
  }
  expect(touching.length).toBeGreaterThan(outside.length);
});

test('only what needs them uses packages, and built-in modules are written as such', () => {
  const packages = new Map<string, Set<string>>();
  for (const file of files) {
    for (const { target, isOurs } of importsOf(file)) {
      if (isOurs || target.startsWith('node:')) continue;
      packages.set(target, (packages.get(target) ?? new Set()).add(folderOf(file)));
    }
  }
  const users = Object.fromEntries([...packages].map(([name, folders]) => [name, [...folders].sort()]));
  for (const [name, folders] of Object.entries(users)) {
    const allowed = name.startsWith('pg')
      ? ['operations', 'postgres']
      : name.startsWith('@') || name === 'ssh2'
        ? ['storage']
        : ['cli'];
    expect(allowed, `${name} in ${folders.join()}`).toEqual(expect.arrayContaining(folders));
  }
  const declared = JSON.parse(readFileSync(resolve(source, '../package.json'), 'utf8')).dependencies;
  expect(Object.keys(users).sort()).toEqual(Object.keys(declared).sort());
});
