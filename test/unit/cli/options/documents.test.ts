import { expect, test } from 'vitest';
import { configSchema, configurationDocument } from '../../../support/documents/configuration.ts';

const docs = new URL('../../../../docs/', import.meta.url);

test('docs/configuration.md is written from the option table', async () => {
  await expect(configurationDocument()).toMatchFileSnapshot(new URL('configuration.md', docs).pathname);
});

test('docs/backup.config.schema.json is written from the option table', async () => {
  await expect(configSchema()).toMatchFileSnapshot(new URL('backup.config.schema.json', docs).pathname);
});
