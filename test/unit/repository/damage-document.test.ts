import { resolve } from 'node:path';
import { expect, test } from 'vitest';
import { damageDocument } from '../../support/documents/damage.ts';

test('docs/damage.md is written from the table of damages that the tests do', async () => {
  await expect(damageDocument()).toMatchFileSnapshot(resolve(import.meta.dirname, '../../../docs/damage.md'));
});
