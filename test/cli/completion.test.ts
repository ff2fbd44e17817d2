// The completion scripts, asked what they offer by the shells themselves.

import { execFile } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { beforeAll, describe, expect, test } from 'vitest';
import { commandNames } from '../../src/cli/commands/table.ts';
import { flagParts, optionsOf } from '../../src/cli/options/table.ts';
import { runCli } from '../support/cli-io.ts';
import { ensureProgram } from '../support/debian-package.ts';
import { makeTempFolder } from '../support/temp-folder.ts';

const execute = promisify(execFile);
const tabScript = (name: string) => resolve(import.meta.dirname, '../fixtures/completion', name);

/** Gives the words that the shell offers after a line that was typed so far. */
type Ask = (folder: string, script: string, line: string) => Promise<string[]>;

const askBash: Ask = async (folder, script, line) => {
  // bash takes `--flag=value` for three words.
  const words = line.split(/ |(?<==)|(?==)/);
  return offers(
    (await execute('bash', [tabScript('bash-tab.bash'), script, ...words], { cwd: folder })).stdout,
  );
};

const askZsh: Ask = async (folder, script, line) => {
  const notes = makeTempFolder('zsh').path;
  const { stdout } = await execute('zsh', ['-f', tabScript('zsh-tab.zsh'), script, notes, line], {
    cwd: folder,
  });
  // zsh names the folders on the way to a file as well.
  return offers(stdout.slice(line.length + 1).replaceAll(' ', '\n'));
};

const askFish: Ask = async (folder, script, line) => {
  const env = { ...process.env, HOME: folder };
  const { stdout } = await execute('fish', ['-c', 'source $argv[1]; complete -C $argv[2]', script, line], {
    cwd: folder,
    env,
  });
  return offers(stdout.replaceAll(/\t.*$/gm, ''));
};

const offers = (text: string) => [...new Set(text.split('\n').filter(word => word !== ''))].sort();

const shells = { bash: askBash, zsh: askZsh, fish: askFish };

describe.each(Object.entries(shells))('%s', (shell, ask) => {
  const folder = makeTempFolder('completion').path;
  const script = join(folder, `pgkeep.${shell}`);
  const asked = (line: string) => ask(folder, script, line);

  beforeAll(async () => {
    await ensureProgram(shell);
    writeFileSync(script, (await runCli(['completion', shell])).out);
    writeFileSync(join(folder, 'shop.key'), '');
    mkdirSync(join(folder, 'shop-backups'));
  });

  test('accepts the script', async () => {
    await execute(shell, ['-n', script]);
  });

  test('offers commands by what was typed of them', async () => {
    expect(await asked('pgkeep c')).toEqual(['cleanup', 'completion', 'create']);
    expect(await asked('pgkeep key ')).toEqual(expect.arrayContaining(['generate']));
    const first = [...new Set(commandNames.map(name => name.split(' ')[0])), 'help'];
    expect(await asked('pgkeep ')).toEqual(expect.arrayContaining(first));
  });

  test.each(commandNames)('offers every flag of %s and no other', async command => {
    const expected = optionsOf(command).flatMap(([, row]) => flagParts(row)?.long ?? []);
    expect(await asked(`pgkeep ${command} --`)).toEqual([...expected, '--help'].sort());
  });

  test('offers what an argument can be', async () => {
    expect(await asked('pgkeep restore la')).toEqual(['latest']);
    expect(await asked('pgkeep completion ')).toEqual(['bash', 'fish', 'zsh']);
  });

  test('offers files and folders where one is expected, and nothing after a number', async () => {
    expect(await asked('pgkeep create --key-file shop.')).toEqual(['shop.key']);
    const [folderOffered, ...others] = await asked('pgkeep create --repository shop');
    expect([folderOffered?.replace(/\/$/, ''), ...others]).toEqual(['shop-backups']);
    expect(await asked('pgkeep create --jobs ')).toEqual([]);
  });
});
