import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { programFailure, runProgram } from '../../../src/base/child-process.ts';

const env = { PATH: '/usr/bin:/bin' };
const shell = (script: string) => ({ file: '/bin/sh', args: ['-c', script], env });

describe('a program that ends by itself', () => {
  test('gives its output, its complaints and its status', async () => {
    expect(await runProgram(shell('echo out; echo err >&2; exit 3'))).toEqual({
      status: 3,
      signal: null,
      stdout: 'out\n',
      stderr: 'err\n',
    });
  });

  test('gets only the environment it is given', async () => {
    process.env.PGKEEP_TEST_SECRET = 'hunter2';
    try {
      const { stdout } = await runProgram({ ...shell('env'), env: { ...env, GIVEN: 'yes' } });
      expect(stdout).toContain('GIVEN=yes');
      expect(stdout).not.toContain('hunter2');
    } finally {
      delete process.env.PGKEEP_TEST_SECRET;
    }
  });

  test('is told from one that a signal ended', async () => {
    expect(await runProgram(shell('kill -9 $$'))).toMatchObject({ status: null, signal: 'SIGKILL' });
  });

  test('keeps the end of very long complaints, and does not wait for somebody to read them', async () => {
    const { stderr } = await runProgram(shell('yes complaint | head -c 1000000 >&2; echo last >&2'));
    expect(stderr.length).toBeLessThanOrEqual(64 * 1024);
    expect(stderr.endsWith('last\n')).toBe(true);
  });

  test('gives text cut inside a character whole', async () => {
    expect((await runProgram(shell(`printf '\\303'; sleep 0.1; printf '\\244'`))).stdout).toBe('ä');
  });

  test('may leave its input unread', async () => {
    const onStdin = async (stdin: NodeJS.WritableStream) => {
      stdin.write(Buffer.alloc(1_000_000));
    };
    expect(await runProgram({ ...shell('exit 0'), onStdin })).toMatchObject({ status: 0 });
  });

  test('reads what it is fed', async () => {
    const onStdin = async (stdin: NodeJS.WritableStream) => {
      stdin.write('one\n');
      await sleep(10);
      stdin.write('two\n');
    };
    expect(await runProgram({ ...shell('cat'), onStdin })).toMatchObject({ stdout: 'one\ntwo\n' });
  });
});

test.each(['/no/such/program', '/etc/passwd', '/tmp'])(
  '%s cannot be started, and that is said',
  async file => {
    await expect(runProgram({ file, args: [], env })).rejects.toMatchObject({
      code: 'PROGRAM_MISSING',
      message: expect.stringContaining(file),
    });
  },
);

describe('an abort', () => {
  test('before the start starts nothing', async () => {
    const signal = AbortSignal.abort();
    await expect(runProgram({ ...shell('exit 0'), signal })).rejects.toMatchObject({ code: 'INTERRUPTED' });
  });

  test('ends the program, and is reported when it has ended', async () => {
    const controller = new AbortController();
    let pid = 0;
    const onStdout = async (stdout: NodeJS.ReadableStream) => {
      const [first] = await once(stdout, 'data');
      pid = Number(String(first));
      controller.abort();
      stdout.resume();
    };
    // exec, so that the signal reaches what is running.
    const running = runProgram({ ...shell('echo $$; exec sleep 60'), signal: controller.signal, onStdout });
    await expect(running).rejects.toMatchObject({ code: 'INTERRUPTED' });
    expect(pid).toBeGreaterThan(0);
    expect(() => process.kill(pid, 0)).toThrow('ESRCH');
  });
});

test('when the consumer of its output fails the program is ended, and that failure is the one reported', async () => {
  const onStdout = async () => {
    throw new Error('the storage is full');
  };
  await expect(runProgram({ ...shell('exec sleep 60'), onStdout })).rejects.toThrow('the storage is full');
});

test('when the feeder of its input fails the program is ended', async () => {
  const onStdin = async () => {
    throw new Error('a segment is missing');
  };
  await expect(runProgram({ ...shell('exec sleep 60'), onStdin })).rejects.toThrow('a segment is missing');
});

test('a failure names the program without its folder, the status, and the last lines', () => {
  const stderr = Array.from({ length: 20 }, (_, i) => `line ${i}`).join('\n');
  const error = programFailure(
    '/usr/bin/pg_dump',
    { status: 1, signal: null, stdout: '', stderr },
    'dumping',
  );
  expect(error).toMatchObject({ code: 'PROGRAM_FAILED' });
  expect(error.message).toMatch(
    /^pg_dump failed while dumping \(exit status 1\):\n {2}line 14\n(.*\n)*.*line 19$/,
  );
  const killed = programFailure(
    'pg_dump',
    { status: null, signal: 'SIGKILL', stdout: '', stderr: ' ' },
    'dumping',
  );
  expect(killed.message).toBe('pg_dump failed while dumping (signal SIGKILL)');
});

test('a failure shows the complaint itself, however much is said after it', () => {
  const stderr = [
    'pg_dump: warning: something before',
    'pg_dump: error: query failed: FATAL:  terminating connection due to conflict with recovery',
    'DETAIL:  User was holding a relation lock for too long.',
    ...Array.from({ length: 30 }, (_, i) => `line ${i} of the statement`),
  ].join('\n');
  const { message } = programFailure('pg_dump', failed(stderr), 'dumping');
  expect(message).toMatch(
    /exit status 1\):\n {2}pg_dump: error: query failed: FATAL: .* recovery\n {2}DETAIL/,
  );
  expect(message.split('\n')).toHaveLength(13);
});

test.each([
  ["CREATE USER MAPPING FOR a SERVER s OPTIONS (password 'it''s', \"user\" 'u')", "it''s"],
  ["CREATE SUBSCRIPTION s CONNECTION 'host=h password=hunter2 user=u'", 'hunter2'],
  ["ALTER ROLE a PASSWORD 'hunter2'", 'hunter2'],
])('what a program quotes is shown without its password: %s', (complaint, password) => {
  const { message } = programFailure('pg_restore', failed(complaint), 'testing');
  expect(message).not.toContain(password);
  expect(message).toContain('[secret]');
});

test.each(['password authentication failed for user "a"', 'fe_sendauth: no password supplied'])(
  'a complaint about passwords is shown as it is: %s',
  complaint => {
    expect(programFailure('pg_dump', failed(complaint), 'testing').message).toContain(complaint);
  },
);

function failed(stderr: string) {
  return { status: 1, signal: null, stdout: '', stderr };
}
