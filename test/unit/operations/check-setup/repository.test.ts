// What doctor makes of a storage that takes what it is given and does not give it up again.

import { describe, expect, test } from 'vitest';
import { type ErrorCode, PgkeepError } from '../../../../src/base/errors.ts';
import { checkRepository } from '../../../../src/operations/check-setup/repository.ts';
import { Checklist } from '../../../../src/operations/checklist.ts';
import { MemoryStorage } from '../../../support/memory-storage.ts';

/** Removes nothing of what was stored first; whatever is tried before, works. */
class ClingingStorage extends MemoryStorage {
  readonly #fail: () => never;

  constructor(fail: () => never) {
    super();
    this.#fail = fail;
  }

  override async remove(names: readonly string[]): Promise<void> {
    if (names.some(name => name.endsWith('/first'))) this.#fail();
    await super.remove(names);
  }
}

async function checkStorage(storage: MemoryStorage) {
  const list = new Checklist();
  await checkRepository(list, {
    open: async () => storage,
    readKey: () => undefined,
    encryption: false,
    database: undefined,
  });
  return list.checks.find(({ name }) => name === 'storage');
}

const failWith = (code: ErrorCode) => () => {
  throw new PgkeepError(code, 'it said so');
};

describe('objects that doctor stored and that stay', () => {
  test('are none as a rule', async () => {
    expect(await checkStorage(new MemoryStorage())).toMatchObject({ status: 'ok' });
  });

  test('because they may not be removed are a warning: whoever takes backups need not be allowed to', async () => {
    expect(await checkStorage(new ClingingStorage(failWith('STORAGE_DENIED')))).toMatchObject({
      status: 'warning',
      message: expect.stringMatching(/may not be removed: 1 object stays below probe\//),
    });
  });

  test('because the storage fails are a failure', async () => {
    expect(await checkStorage(new ClingingStorage(failWith('STORAGE_UNREACHABLE')))).toMatchObject({
      status: 'failure',
      message: expect.stringMatching(/could not be removed: it said so; 1 object stays below probe\//),
    });
  });

  test('because of a fault of our own are a failure that asks to be reported', async () => {
    const broken = new ClingingStorage(() => {
      throw new TypeError('names is not iterable');
    });
    expect(await checkStorage(broken)).toMatchObject({
      status: 'failure',
      message: expect.stringContaining('names is not iterable'),
      remedy: 'report it with this message',
    });
  });

  test('are a failure as well where removing fails by a fault of our own and nothing stays', async () => {
    const storage: MemoryStorage & { removeFolder?: () => Promise<void> } = new MemoryStorage();
    storage.removeFolder = async () => {
      throw new TypeError('folder is undefined');
    };
    expect(await checkStorage(storage)).toMatchObject({ status: 'failure' });
  });
});
