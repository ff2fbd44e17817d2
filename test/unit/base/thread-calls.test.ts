import { MessageChannel } from 'node:worker_threads';
import { afterEach, expect, test } from 'vitest';
import { PgkeepError } from '../../../src/base/errors.ts';
import { Handover, ThreadLine } from '../../../src/base/thread-calls.ts';

type Answers = {
  double(n: number): Promise<number>;
  slow(ms: number): Promise<number>;
  fail(code: 'ours' | 'foreign'): never;
  bytes(size: number): Promise<Uint8Array>;
  length(bytes: Uint8Array): number;
  uncloneable(nothing: null): unknown;
};

const channels: MessageChannel[] = [];
afterEach(() => {
  for (const { port1 } of channels.splice(0)) port1.close();
});

function connect() {
  const channel = new MessageChannel();
  channels.push(channel);
  const given: Uint8Array[] = [];
  new ThreadLine(channel.port2, {
    double: async (n: number) => 2 * n,
    slow: (ms: number) => new Promise(resolve => setTimeout(resolve, ms, ms)),
    fail: (code: 'ours' | 'foreign') => {
      if (code === 'foreign') throw new TypeError('x is undefined');
      throw new PgkeepError('LOCK_TIMEOUT', 'could not lock', {
        hint: 'wait',
        context: { sqlstate: '55P03' },
      });
    },
    bytes: async (size: number) => {
      const bytes = new Uint8Array(size).fill(7);
      given.push(bytes);
      return new Handover(bytes, [bytes.buffer]);
    },
    length: (bytes: Uint8Array) => bytes.length,
    uncloneable: () => () => 1,
  });
  return { line: new ThreadLine<Answers>(channel.port1, {}), given };
}

test('calls get their own answers, also when these come out of order', async () => {
  const { line } = connect();
  expect(await Promise.all([line.call('slow', 30), line.call('double', 4), line.call('slow', 5)])).toEqual([
    30, 8, 5,
  ]);
});

test('errors of ours arrive with code, hint and context; others as INTERNAL', async () => {
  const { line } = connect();
  const error: unknown = await line.call('fail', 'ours').catch(reason => reason);
  expect(error).toBeInstanceOf(PgkeepError);
  expect(error).toMatchObject({
    code: 'LOCK_TIMEOUT',
    message: 'could not lock',
    hint: 'wait',
    context: { sqlstate: '55P03' },
  });
  await expect(line.call('fail', 'foreign')).rejects.toMatchObject({
    code: 'INTERNAL',
    message: expect.stringContaining('x is undefined'),
  });
  expect(await line.call('double', 1)).toBe(2);
});

test('buffers are handed over, not copied, in both directions', async () => {
  const { line, given } = connect();
  expect((await line.call('bytes', 1000)).length).toBe(1000);
  expect(given[0]?.length).toBe(0);
  const mine = new Uint8Array(500);
  expect(await line.call('length', mine, [mine.buffer])).toBe(500);
  expect(mine.length).toBe(0);
});

test('an answer that cannot cross, and a method that is not there, are errors rather than silence', async () => {
  const { line } = connect();
  await expect(line.call('uncloneable', null)).rejects.toMatchObject({ code: 'INTERNAL' });
  await expect(line.call('missing' as 'double', 1)).rejects.toMatchObject({
    message: expect.stringContaining('missing'),
  });
});

test('when the other side has gone, calls under way and later ones fail', async () => {
  const { line } = connect();
  const waiting = line.call('slow', 1000);
  line.break(new PgkeepError('INTERNAL', 'the thread ended'));
  await expect(waiting).rejects.toThrow('the thread ended');
  await expect(line.call('double', 1)).rejects.toThrow('the thread ended');
});
