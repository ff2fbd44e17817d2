import { format, inspect } from 'node:util';
import { expect, test } from 'vitest';
import { Secret } from '../../../src/base/secret.ts';

test('a secret shows only when it is asked to', () => {
  const secret = new Secret('hunter2');
  const holder = { secret, list: [secret], map: new Map([['key', secret]]) };
  const shown = [
    `${secret}`,
    String(secret),
    JSON.stringify(holder),
    inspect(holder, { depth: 9, showHidden: true }),
    format('%s %o %O %j %d', secret, secret, secret, secret, secret),
    Object.values(secret).join(),
    JSON.stringify(structuredClone({ ...secret })),
    new Error(`${secret}`).stack,
  ];
  for (const text of shown) expect(text).not.toContain('hunter2');
  expect(secret.reveal()).toBe('hunter2');
});
