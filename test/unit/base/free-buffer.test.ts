// Large buffers that are filled and freed again and again, in a process of their own that counts its page faults.

import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';

const module = new URL('../../../src/base/free-buffer.ts', import.meta.url).href;
const rounds = 30;
const bufferBytes = 8 * 1024 * 1024;

async function pageFaults(): Promise<number> {
  const script = `
    import { freeBuffer, keepFreedMemory } from '${module}';
    keepFreedMemory();
    const round = () => {
      const two = [0, 1].map(() => Buffer.allocUnsafeSlow(${bufferBytes}).fill(1));
      for (const buffer of two) freeBuffer(buffer);
    };
    round();
    const before = process.resourceUsage().minorPageFault;
    for (let i = 0; i < ${rounds}; i++) round();
    console.log(process.resourceUsage().minorPageFault - before);`;
  const { stdout } = await promisify(execFile)(process.execPath, ['--input-type=module', '-e', script]);
  return Number(stdout);
}

test('memory that is kept is not cleared by the system each time it is taken again', async () => {
  const pages = (rounds * 2 * bufferBytes) / 4096;
  // Of the C library that the product is made fast for; others keep or give back as they do.
  const isGlibc = 'glibcVersionRuntime' in (process.report.getReport() as { header: object }).header;
  expect(await pageFaults()).toBeLessThan(isGlibc ? pages / 20 : pages * 2);
});
