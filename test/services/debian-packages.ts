// Unpacks Debian packages of any suite, with everything they depend on, into a folder: nothing is installed, no
// maintainer script runs, no root is needed. The programs then run on the loader and libraries of that folder,
// so a suite newer than this machine works too.

import { execFile } from 'node:child_process';
import { closeSync, existsSync, openSync, readdirSync, readFileSync, readSync } from 'node:fs';
import { chmod, mkdir, mkdtemp, rename, rm, writeFile } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { promisify } from 'node:util';
import { removeAfterExit } from '../support/after-exit.ts';

const run = promisify(execFile);

export interface UnpackRequest {
  /** Debian's name of the release, such as "trixie". */
  suite: string;
  packages: readonly string[];
  /** Appears whole or not at all. Programs find their libraries by this path: it cannot be moved afterwards. */
  folder: string;
  /** Folders inside, relative, whose programs are made to run. Without any, whoever runs a program names the loader. */
  programFolders: readonly string[];
  /** Paths inside, relative, that are not wanted; the last part may begin or end with `*`. */
  without: readonly string[];
}

/** Whether this machine gets its packages from Debian; only then are the signatures of its suites known here. */
export function canUnpackDebianPackages(): boolean {
  return (
    existsSync('/usr/bin/apt-get') && existsSync('/usr/bin/dpkg-deb') && debianSource('stable') !== undefined
  );
}

/** @throws Error with what apt-get or dpkg-deb said. */
export async function unpackDebianPackages(request: UnpackRequest): Promise<void> {
  const staging = await mkdtemp(`${request.folder}.`);
  const forget = removeAfterExit(staging);
  try {
    await chmod(staging, 0o755);
    const root = join(staging, 'root');
    await mkdir(root, { mode: 0o755 });
    const isPatched = request.programFolders.length > 0;
    // patchelf comes from the same suite: it runs on the loader it is about to name in the others.
    const packages = isPatched ? [...request.packages, 'patchelf'] : request.packages;
    const archives = await downloadWithDependencies(join(staging, 'apt'), request.suite, packages);
    for (const archive of archives) await runProgram('dpkg-deb', ['-x', archive, root]);
    for (const pattern of request.without) await removeMatching(root, pattern);
    if (isPatched) await pointToOwnLibraries(root, request.folder, request.programFolders);
    await rename(root, request.folder).catch((error: unknown) => {
      // Another run was first and made the same.
      if (!existsSync(request.folder)) throw error;
    });
  } finally {
    await rm(staging, { recursive: true, force: true });
    forget();
  }
}

/** Runs a program quietly. @throws Error with the end of what it printed. */
export async function runProgram(
  program: string,
  args: readonly string[],
  environment: Readonly<Record<string, string>> = {},
): Promise<void> {
  const env = { ...process.env, LC_ALL: 'C.UTF-8', ...environment };
  await run(program, args, { env, maxBuffer: 1 << 26 }).catch((error: unknown) => {
    const output =
      error instanceof Error && 'stdout' in error && 'stderr' in error ? [error.stdout, error.stderr] : [];
    const said = output.join('\n').trim().split('\n').slice(-15).join('\n');
    throw new Error(`${program} ${args.slice(0, 3).join(' ')} … failed:\n${said}`);
  });
}

/** With an empty list of installed packages, apt-get fetches the whole closure of the dependencies. */
async function downloadWithDependencies(
  aptFolder: string,
  suite: string,
  packages: readonly string[],
): Promise<string[]> {
  const source = debianSource(suite);
  if (!source) throw new Error('no source of Debian packages in /etc/apt');
  const archives = join(aptFolder, 'cache/archives');
  await mkdir(join(aptFolder, 'lists/partial'), { recursive: true });
  await mkdir(join(archives, 'partial'), { recursive: true });
  await writeFile(join(aptFolder, 'status'), '');
  await writeFile(join(aptFolder, `source.${source.format}`), source.text);
  const settings = {
    'Dir::Etc::sourcelist': join(aptFolder, `source.${source.format}`),
    'Dir::Etc::sourceparts': '/dev/null',
    'Dir::Etc::preferences': '/dev/null',
    'Dir::Etc::preferencesparts': '/dev/null',
    'Dir::State::Lists': join(aptFolder, 'lists'),
    'Dir::State::status': join(aptFolder, 'status'),
    'Dir::Cache': join(aptFolder, 'cache'),
    'Debug::NoLocking': '1',
    'APT::Install-Recommends': '0',
    'APT::Keep-Downloaded-Packages': '1',
    // Not the account _apt, which may be unable to reach these folders.
    'APT::Sandbox::User': process.getuid?.() === 0 ? 'root' : '',
    'Acquire::Retries': '3',
    // A mirror that lags behind serves as well: signatures are still demanded, and test servers face no network.
    'Acquire::Check-Valid-Until': 'false',
  };
  const options = ['-q', ...Object.entries(settings).flatMap(([name, value]) => ['-o', `${name}=${value}`])];
  await runProgram('apt-get', ['update', ...options]);
  await runProgram('apt-get', ['install', '-y', '--download-only', ...options, ...packages]);
  return readdirSync(archives)
    .filter(name => name.endsWith('.deb'))
    .map(name => join(archives, name));
}

interface AptSource {
  /** The file name ending by which apt-get tells the two formats apart. */
  format: 'sources' | 'list';
  text: string;
}

/** The machine's own source of Debian's main archive, turned to another suite. */
function debianSource(suite: string): AptSource | undefined {
  const folder = '/etc/apt/sources.list.d';
  const inFolder = existsSync(folder) ? readdirSync(folder).map(name => join(folder, name)) : [];
  for (const file of ['/etc/apt/sources.list', ...inFolder].filter(name => existsSync(name))) {
    const text = readFileSync(file, 'utf8').replace(/^\s*#.*\n?/gm, '');
    const source = file.endsWith('.sources') ? stanzaForSuite(text, suite) : lineForSuite(text, suite);
    if (source) return source;
  }
  return undefined;
}

// Debian's main archive is served under /debian by every mirror; its security archive under another name.
const mainArchive = /^(https?|mirror\+https?):\/\/\S+\/debian\/?$|^mirror\+file:\S+\/debian\S*$/;

function stanzaForSuite(text: string, suite: string): AptSource | undefined {
  for (const stanza of text.split(/\n\s*\n/)) {
    const uris = /^URIs:\s*(.*)$/im.exec(stanza)?.[1]?.split(/\s+/) ?? [];
    const isBinary = /^Types:.*\bdeb\b(?!-)/im.test(stanza);
    if (!isBinary || /^Enabled:\s*no/im.test(stanza) || !uris.some(uri => mainArchive.test(uri))) continue;
    const own = stanza
      .trim()
      .replace(/^Types:.*$/im, 'Types: deb')
      .replace(/^Suites:.*$/im, `Suites: ${suite}`)
      .replace(/^Components:.*$/im, 'Components: main');
    return { format: 'sources', text: `${own}\n` };
  }
  return undefined;
}

function lineForSuite(text: string, suite: string): AptSource | undefined {
  for (const line of text.split('\n')) {
    const [, options = '', uri = ''] = /^\s*deb\s+(\[[^\]]*\]\s+)?(\S+)\s+\S+\s+\S/.exec(line) ?? [];
    if (mainArchive.test(uri)) return { format: 'list', text: `deb ${options}${uri} ${suite} main\n` };
  }
  return undefined;
}

async function removeMatching(root: string, pattern: string): Promise<void> {
  const [last = '', ...folders] = pattern.split('/').reverse();
  const folder = join(root, ...folders.reverse());
  if (!existsSync(folder)) return;
  const matches = (name: string) =>
    last.startsWith('*')
      ? name.endsWith(last.slice(1))
      : last.endsWith('*')
        ? name.startsWith(last.slice(0, -1))
        : name === last;
  for (const name of readdirSync(folder).filter(matches)) await rm(join(folder, name), { recursive: true });
}

/** Writes the loader and the library folders of the tree, as it will be called, into its programs. */
async function pointToOwnLibraries(
  root: string,
  finalRoot: string,
  programFolders: readonly string[],
): Promise<void> {
  // Before Debian 13 the C library is in /lib, everything else in /usr/lib.
  const libraries = ['usr/lib', 'lib'].flatMap(folder => {
    const path = join(root, folder);
    const names = existsSync(path) ? readdirSync(path) : [];
    return names.filter(name => /-linux-gnu/.test(name)).map(name => join(path, name));
  });
  const loader = libraries
    .flatMap(folder => readdirSync(folder).map(name => join(folder, name)))
    .find(file => /\/ld-linux[^/]*\.so\.\d$/.test(file));
  if (!loader) throw new Error(`no loader among the unpacked packages in ${root}`);
  const programs = programFolders
    .flatMap(folder => readdirSync(join(root, folder)).map(name => join(root, folder, name)))
    .filter(isElf);
  const atEnd = (path: string) => join(finalRoot, relative(root, path));
  await runProgram(loader, [
    ...['--library-path', libraries.join(':'), join(root, 'usr/bin/patchelf')],
    // RPATH, unlike RUNPATH, also holds for the libraries' own libraries and for what is loaded later.
    ...['--force-rpath', '--set-interpreter', atEnd(loader), '--set-rpath', libraries.map(atEnd).join(':')],
    ...programs,
  ]);
}

function isElf(file: string): boolean {
  const start = Buffer.alloc(4);
  const handle = openSync(file, 'r');
  try {
    readSync(handle, start, 0, 4, 0);
  } finally {
    closeSync(handle);
  }
  return start.equals(Buffer.from('\x7fELF', 'latin1'));
}
