import { expect, test } from 'vitest';
import { chosenBackup } from '../../../src/cli/backup-choice.ts';

const id = 'backup-1642684800000-a1b2c3d4';

test('the backup is named by the argument or by the flag', () => {
  expect(chosenBackup(undefined, undefined)).toBeUndefined();
  expect(chosenBackup('latest', undefined)).toBe('latest');
  expect(chosenBackup(undefined, id)).toBe(id);
  expect(chosenBackup(id, id)).toBe(id);
});

test.each([
  ['latest', id, /^two backups were named: latest and --backup-id backup-/],
  ['shop', undefined, /^'shop' is not the id of a backup$/],
  ['../../etc', undefined, /is not the id of a backup$/],
])('%s and %s are refused', (argument, flag, message) => {
  expect(() => chosenBackup(argument, flag)).toThrow(
    expect.objectContaining({ code: 'OPTION_INVALID', message: expect.stringMatching(message) }),
  );
});
