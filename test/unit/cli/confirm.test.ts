import { expect, test } from 'vitest';
import { confirm } from '../../../src/cli/confirm.ts';
import { testIo } from '../../support/cli-io.ts';

const never = new AbortController().signal;

test.each([
  ['y\n', true],
  ['YES\n', true],
  ['yes please\n', false],
  ['n\n', false],
  ['\n', false],
])('%j answers %s', async (line, expected) => {
  const io = testIo({ isTTY: true });
  const answer = confirm('Go on?', never, io);
  expect(io.err()).toBe('Go on? [y/N] ');
  io.typed.write(line);
  expect(await answer).toBe(expected);
});

test('the end of input is a no', async () => {
  const io = testIo();
  const answer = confirm('Go on?', never, io);
  io.typed.end();
  expect(await answer).toBe(false);
});

test('a signal ends the question', async () => {
  const io = testIo();
  const controller = new AbortController();
  const answer = confirm('Go on?', controller.signal, io);
  controller.abort();
  await expect(answer).rejects.toMatchObject({ code: 'INTERRUPTED' });
});
