#!/usr/bin/env node
// Starts the command line in dist/. Plain JavaScript with a check first, so that an old Node gets a sentence
// and not a syntax error.
import { existsSync } from 'node:fs';
import module from 'node:module';

const needed = [22, 18];
const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);

if (major < needed[0] || (major === needed[0] && minor < needed[1])) {
  fail(
    `pgkeep needs Node.js ${needed.join('.')} or newer, and this is ${process.versions.node}`,
    'install a current Node.js from https://nodejs.org; inside a checkout, `npm run backup:create` and the other npm scripts bring their own',
  );
} else if (!existsSync(new URL('../dist/cli/main.js', import.meta.url))) {
  fail('pgkeep has not been built yet', 'run `npm run build`');
} else {
  module.enableCompileCache();
  const { main } = await import('../dist/cli/main.js');
  await main();
}

function fail(message, hint) {
  process.stderr.write(`pgkeep: ${message}\nhint: ${hint}\n`);
  process.exitCode = 1;
}
