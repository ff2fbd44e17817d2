// Provides Azurite, the emulator of Azure Storage, for the tests: installed by npm from its own lockfile into the test
// cache. By itself: npx node test/services/install-azurite.ts

import { existsSync } from 'node:fs';
import { copyFile, mkdtemp, readFile, rename, rm } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { removeAfterExit } from '../support/after-exit.ts';
import { testCache } from '../support/test-cache.ts';
import { runProgram } from './debian-packages.ts';

const source = resolve(import.meta.dirname, 'azurite');

/** @returns the module that runs the blob service. @throws Error with what npm said. */
export async function ensureAzurite(say: (line: string) => void = () => {}): Promise<string> {
  const { dependencies } = JSON.parse(await readFile(join(source, 'package.json'), 'utf8'));
  const folder = join(testCache(), `azurite-${dependencies.azurite}`);
  const main = join(folder, 'node_modules/azurite/dist/src/blob/main.js');
  if (existsSync(main)) return main;
  say(`fetching Azurite by npm; later runs find it in ${folder}`);
  const staging = await mkdtemp(`${folder}.`);
  const forget = removeAfterExit(staging);
  try {
    for (const file of ['package.json', 'package-lock.json'])
      await copyFile(join(source, file), join(staging, file));
    // Nothing of it has to be compiled: its only native parts are for credentials in a desktop's keyring.
    const install = 'cd "$0" && npm ci --ignore-scripts --no-audit --no-fund';
    await runProgram('sh', ['-c', install, staging], { npm_config_local_prefix: staging });
    await rename(staging, folder).catch((error: unknown) => {
      // Another run was first and made the same.
      if (!existsSync(main)) throw error;
    });
  } finally {
    await rm(staging, { recursive: true, force: true });
    forget();
  }
  if (existsSync(main)) return main;
  throw new Error(`Azurite was installed to ${folder}, but ${main} is missing`);
}

if (import.meta.main) await ensureAzurite(line => process.stderr.write(`${line}\n`));
