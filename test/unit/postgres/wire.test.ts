import { createHash } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { readTarget } from '../../../src/postgres/target.ts';
import { type CopySink, WireConnection } from '../../../src/postgres/wire.ts';
import { psql, type Server, startServer } from '../../support/postgres-server.ts';

let server: Server;
beforeAll(async () => {
  server = await startServer();
  await server.createDatabase('wire');
  await psql(
    server,
    'wire',
    `CREATE TABLE numbers AS SELECT n, md5(n::text) AS hash FROM generate_series(1, 20000) AS n;
     CREATE TABLE loaded (n int, t text); CREATE TABLE empty (n int); CREATE TABLE no_columns (); INSERT INTO no_columns DEFAULT VALUES`,
  );
});
afterAll(() => server?.[Symbol.asyncDispose]());

async function connect(): Promise<WireConnection & AsyncDisposable> {
  const wire = await WireConnection.open(readTarget(server.url('wire'), {}), 'pgkeep test');
  return Object.assign(wire, { [Symbol.asyncDispose]: async () => wire.close() });
}

class Collector implements CopySink {
  readonly pieces: Buffer[] = [];
  bytes = 0;
  write(chunk: Buffer, start: number, end: number): void {
    this.pieces.push(Buffer.from(chunk.subarray(start, end)));
    this.bytes += end - start;
  }
  get text(): string {
    return Buffer.concat(this.pieces).toString();
  }
}

const copyNumbers = 'COPY (SELECT n, hash FROM numbers ORDER BY n) TO STDOUT';
/** 64 MB: more than any buffer on the way holds. */
const copyMuch = 'COPY (SELECT repeat(hash, 100) FROM numbers) TO STDOUT';
const lost = { code: 'DATABASE_CONNECTION_LOST' };
const badData = { code: 'DATABASE_QUERY', context: { sqlstate: '22P02' } };

test('a session that was closed is gone from the server: its place can be taken at once', async () => {
  await using watching = await connect();
  for (let round = 0; round < 5; round++) {
    const others = await Promise.all(
      [1, 2, 3].map(() => WireConnection.open(readTarget(server.url('wire'), {}), 'pgkeep to close')),
    );
    const counts = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pgkeep to close'";
    expect(await watching.run(counts, 'counting')).toEqual([['3']]);
    await Promise.all(others.map(other => other.close()));
    expect(await watching.run(counts, 'counting')).toEqual([['0']]);
  }
});

describe('statements', () => {
  test('give rows as text, with NULL apart from the empty string', async () => {
    await using wire = await connect();
    expect(await wire.run("SELECT 1, NULL, '', true, 'ä'", 'asking')).toEqual([['1', null, '', 't', 'ä']]);
    expect(await wire.run('SELECT n FROM numbers WHERE n < 1', 'asking')).toEqual([]);
    expect(await wire.run('', 'asking')).toEqual([]);
  });

  test('of several in one call give the rows of the last that gave any', async () => {
    await using wire = await connect();
    expect(await wire.run('SELECT 1; SELECT 2, 3; SET DateStyle = ISO', 'asking')).toEqual([['2', '3']]);
  });

  test('sent in one message give the rows of each, also of those without any', async () => {
    await using wire = await connect();
    const asked = [
      'SELECT 1, NULL',
      'SELECT n FROM numbers WHERE n < 1',
      "SELECT 'a;b' UNION ALL SELECT 'c'",
    ];
    const answers = await wire.runAll(asked.map(sql => ({ sql, doing: 'asking' })));
    expect(answers).toEqual([[['1', null]], [], [['a;b'], ['c']]]);
    expect(await wire.runAll([])).toEqual([]);
  });

  test('sent in one message are each one, or none of the answers counts', async () => {
    await using wire = await connect();
    const asked = ['SELECT 1; SELECT 2', 'SELECT 3'].map(sql => ({ sql, doing: 'asking' }));
    await expect(wire.runAll(asked)).rejects.toMatchObject({ code: 'INTERNAL' });
    expect(await wire.run('SELECT 1', 'asking')).toEqual([['1']]);
  });

  test('that fail say what was being done, and the next one works', async () => {
    await using wire = await connect();
    await expect(wire.run('SELECT no_such', 'asking for nothing')).rejects.toMatchObject({
      code: 'DATABASE_QUERY',
      message: expect.stringMatching(/asking for nothing.*no_such/),
      context: { sqlstate: '42703' },
    });
    expect(await wire.run('SELECT 1', 'asking')).toEqual([['1']]);
  });

  test('may be sent ahead: each gets its own answer, also when one in between fails', async () => {
    await using wire = await connect();
    const asked = Array.from({ length: 50 }, (_, i) =>
      wire.run(i === 20 ? 'broken' : `SELECT ${i}`, `asking ${i}`),
    );
    const answers = await Promise.allSettled(asked);
    for (const [i, answer] of answers.entries()) {
      if (i === 20)
        expect(answer).toMatchObject({ reason: { message: expect.stringContaining('asking 20') } });
      else expect(answer).toEqual({ status: 'fulfilled', value: [[String(i)]] });
    }
  });

  test('take parameters in binary, sent ahead like others, and a failure is only its own', async () => {
    await using wire = await connect();
    const parameters = (...values: Buffer[]) => {
      const count = Buffer.alloc(2);
      count.writeInt16BE(values.length);
      const lengths = values.map(({ length }) => Buffer.from([0, 0, 0, length]));
      return Buffer.concat([count, ...values.flatMap((value, at) => [lengths[at] ?? count, value])]);
    };
    const [seven, bytes] = [Buffer.from([0, 0, 0, 7]), Buffer.from('a\0b')];
    const asked = [
      wire.runBound("SELECT $1::int + 1, encode($2::bytea, 'hex')", parameters(seven, bytes), 'asking'),
      wire.runBound('SELECT 1 / ($1::int - 7)', parameters(seven), 'dividing'),
      wire.run('SELECT 3', 'asking'),
    ];
    const [first, second, third] = await Promise.allSettled(asked);
    expect(first).toEqual({ status: 'fulfilled', value: [['8', '610062']] });
    expect(second).toMatchObject({ reason: { message: expect.stringMatching(/dividing.*zero/) } });
    expect(third).toEqual({ status: 'fulfilled', value: [['3']] });
  });

  test('notices and parameter changes in between are passed over', async () => {
    await using wire = await connect();
    const sql =
      "SET client_min_messages = debug1; SET TimeZone = 'Asia/Tokyo'; DO $$BEGIN RAISE NOTICE 'x'; END$$; SELECT 7";
    expect(await wire.run(sql, 'asking')).toEqual([['7']]);
  });
});

describe('COPY TO STDOUT', () => {
  test('gives the bytes that psql gives, and the number of rows', async () => {
    await using wire = await connect();
    const sink = new Collector();
    expect(await wire.copyOut(copyNumbers, 'reading', sink)).toBe(20_000);
    expect(sink.text).toBe(await psql(server, 'wire', copyNumbers));
  });

  test('of nothing gives nothing; rows without columns are empty lines', async () => {
    await using wire = await connect();
    const [none, lines] = [new Collector(), new Collector()];
    expect(await wire.copyOut('COPY empty TO STDOUT', 'reading', none)).toBe(0);
    expect(none.bytes).toBe(0);
    expect(await wire.copyOut('COPY (SELECT FROM no_columns) TO STDOUT', 'reading', lines)).toBe(1);
    expect(lines.text).toBe('\n');
  });

  test('many sent ahead come out in order, each in its own sink', async () => {
    await using wire = await connect();
    const sinks = Array.from({ length: 30 }, () => new Collector());
    const ended: number[] = [];
    const rows = await Promise.all(
      sinks.map(async (sink, i) => {
        const from = i * 600;
        const sql = `COPY (SELECT n FROM numbers WHERE n > ${from} AND n <= ${from + i * 10} ORDER BY n) TO STDOUT`;
        const count = await wire.copyOut(sql, `reading ${i}`, sink);
        ended.push(i);
        return count;
      }),
    );
    expect(rows).toEqual(sinks.map((_, i) => i * 10));
    expect(ended).toEqual([...sinks.keys()]);
    for (const [i, sink] of sinks.entries())
      expect(sink.text).toBe(Array.from({ length: i * 10 }, (_, row) => `${i * 600 + row + 1}\n`).join(''));
  });

  test('many in one message give each its own bytes and rows', async () => {
    await using wire = await connect();
    const copies = Array.from({ length: 300 }, (_, i) => ({
      sql: `COPY (SELECT hash FROM numbers WHERE n > ${i} AND n <= ${i + (i % 7)} ORDER BY n) TO STDOUT`,
      doing: `reading ${i}`,
      sink: new Collector(),
    }));
    const [first, second] = [copies.slice(0, 200), copies.slice(200)];
    const rows = await Promise.all([wire.copyOutAll(first), wire.copyOutAll([]), wire.copyOutAll(second)]);
    expect(rows.flat()).toEqual(copies.map((_, i) => i % 7));
    for (const [i, { sink }] of copies.entries()) {
      const hashes = Array.from({ length: i % 7 }, (_, row) =>
        createHash('md5')
          .update(String(i + row + 1))
          .digest('hex'),
      );
      expect(sink.text).toBe(hashes.map(hash => `${hash}\n`).join(''));
    }
  });

  test('one of many in a message that fails is the one that is named, and those after it are not run', async () => {
    await using wire = await connect();
    await wire.run('BEGIN', 'beginning');
    const copies = ['numbers', 'empty', 'no_such_table', 'numbers'].map((table, i) => ({
      sql: `COPY ${table} TO STDOUT`,
      doing: `reading ${i}`,
      sink: new Collector(),
    }));
    const failing = wire.copyOutAll(copies);
    const ahead = wire.copyOutAll(copies.slice(0, 2));
    await expect(failing).rejects.toMatchObject({
      message: expect.stringMatching(/reading 2.*no_such_table/),
      context: { sqlstate: '42P01' },
    });
    await expect(ahead).rejects.toMatchObject({
      message: expect.stringContaining('reading 0'),
      context: { sqlstate: '25P02' },
    });
    expect(copies.map(({ sink }) => sink.bytes > 0)).toEqual([true, false, false, false]);
    await wire.run('ROLLBACK', 'giving up');
    expect(await wire.copyOut(copyNumbers, 'reading', new Collector())).toBe(20_000);
  });

  test('a row of 64 MB comes through whole', async () => {
    await using wire = await connect();
    const hash = createHash('md5');
    let bytes = 0;
    const sink: CopySink = {
      write(chunk, start, end) {
        hash.update(chunk.subarray(start, end));
        bytes += end - start;
      },
    };
    const size = 64 * 1024 * 1024;
    const value = `repeat('0123456789abcdef', ${size / 16})`;
    expect(await wire.copyOut(`COPY (SELECT ${value}) TO STDOUT`, 'reading', sink)).toBe(1);
    expect(bytes).toBe(size + 1);
    const [[expected] = []] = await wire.run(`SELECT md5(${value} || E'\\n')`, 'asking');
    expect(hash.digest('hex')).toBe(expected);
  });

  test('an error in the middle fails that COPY alone, outside a transaction', async () => {
    await using wire = await connect();
    const [broken, after] = [new Collector(), new Collector()];
    const failing = wire.copyOut(
      'COPY (SELECT 1 / (5000 - n) FROM generate_series(1, 20000) AS n) TO STDOUT',
      'reading one',
      broken,
    );
    const next = wire.copyOut(copyNumbers, 'reading two', after);
    await expect(failing).rejects.toMatchObject({
      code: 'DATABASE_QUERY',
      message: expect.stringMatching(/reading one.*division by zero/),
      context: { sqlstate: '22012' },
    });
    expect(broken.bytes).toBeGreaterThan(0);
    expect(await next).toBe(20_000);
    expect(after.text).toBe(await psql(server, 'wire', copyNumbers));
  });

  test('an error in the middle fails what was sent ahead in the same transaction, until it is rolled back', async () => {
    await using wire = await connect();
    await wire.run('BEGIN', 'beginning');
    const failing = wire.copyOut('COPY (SELECT 1 / 0) TO STDOUT', 'reading one', new Collector());
    const next = wire.copyOut(copyNumbers, 'reading two', new Collector());
    await expect(failing).rejects.toMatchObject({ context: { sqlstate: '22012' } });
    await expect(next).rejects.toMatchObject({ context: { sqlstate: '25P02' } });
    await wire.run('ROLLBACK', 'giving up');
    expect(await wire.copyOut(copyNumbers, 'reading three', new Collector())).toBe(20_000);
  });

  test('nothing arrives while paused, and everything afterwards', async () => {
    await using wire = await connect();
    const sink = new Collector();
    const slow: CopySink = {
      write(chunk, start, end) {
        if (sink.bytes === 0) wire.pause();
        sink.write(chunk, start, end);
      },
    };
    const ended = wire.copyOut(copyMuch, 'reading', slow);
    await expect.poll(() => sink.bytes, { timeout: 60_000 }).toBeGreaterThan(0);
    await sleep(50);
    const seen = sink.bytes;
    await sleep(100);
    expect(sink.bytes).toBe(seen);
    expect(seen).toBeLessThan(2 * 1024 * 1024);
    wire.resume();
    expect(await ended).toBe(20_000);
    expect(sink.bytes).toBe(20_000 * 3201);
  });

  test('a sink that fails ends the connection rather than the process', async () => {
    await using wire = await connect();
    const failing: CopySink = {
      write() {
        throw new Error('no room');
      },
    };
    await expect(wire.copyOut(copyNumbers, 'reading', failing)).rejects.toThrow('no room');
    await expect(wire.run('SELECT 1', 'asking')).rejects.toMatchObject(lost);
  });
});

describe('a connection that is cut', () => {
  // Without end: only the cut ends it.
  const endless = `COPY (SELECT repeat('x', 10000), pg_sleep(0.005) FROM generate_series(1, 1000000) AS n) TO STDOUT`;

  async function readUntilCut(cut: (pid: string) => Promise<unknown>, isPaused = false) {
    const wire = await connect();
    const [[pid = ''] = []] = await wire.run('SELECT pg_backend_pid()', 'asking');
    const sink = new Collector();
    const reading = wire.copyOut(isPaused ? copyMuch : endless, 'reading table t', sink);
    const ahead = wire.copyOut(copyNumbers, 'reading table u', new Collector());
    const outcomes = Promise.allSettled([reading, ahead]);
    if (isPaused) wire.pause();
    else await expect.poll(() => sink.bytes, { timeout: 60_000 }).toBeGreaterThan(0);
    await cut(pid ?? '');
    if (isPaused) wire.resume();
    return { wire, outcomes: await outcomes };
  }

  test('by the administrator says so, fails everything sent, and everything later', async () => {
    const { wire, outcomes } = await readUntilCut(pid =>
      psql(server, 'postgres', `SELECT pg_terminate_backend(${pid})`),
    );
    for (const outcome of outcomes)
      expect(outcome).toMatchObject({
        reason: { ...lost, message: expect.stringMatching(/reading table t.*administrator/) },
      });
    await expect(wire.run('SELECT 1', 'asking')).rejects.toMatchObject(lost);
    await expect(wire.copyIn('COPY loaded FROM STDIN', 'writing')).rejects.toMatchObject(lost);
    wire.close();
    wire.close();
  });

  test('while nothing is asked says so to whoever asks next', async () => {
    await using wire = await connect();
    const [[pid] = []] = await wire.run('SELECT pg_backend_pid()', 'asking');
    await psql(server, 'postgres', `SELECT pg_terminate_backend(${pid}, 60000)`);
    // What the server said has arrived by then, and is read now.
    for (let turns = 0; turns < 3; turns++) await new Promise(resolve => setImmediate(resolve));
    await expect(wire.run('SELECT 1', 'asking')).rejects.toMatchObject({
      ...lost,
      message: expect.stringContaining('administrator'),
    });
  });

  test('while nobody receives is noticed as soon as somebody does', async () => {
    const { wire, outcomes } = await readUntilCut(
      pid => psql(server, 'postgres', `SELECT pg_terminate_backend(${pid}, 60000)`),
      true,
    );
    for (const outcome of outcomes) expect(outcome).toMatchObject({ reason: lost });
    wire.close();
  });

  test('by a crash of the server fails what was sent', async () => {
    const { wire, outcomes } = await readUntilCut(() => server.stop('immediate'));
    await server.start();
    for (const outcome of outcomes) expect(outcome).toMatchObject({ reason: lost });
    wire.close();
  });

  test('while data is being sent fails the sending', async () => {
    await using wire = await connect();
    const [[pid] = []] = await wire.run('SELECT pg_backend_pid()', 'asking');
    const copy = await wire.copyIn('COPY loaded FROM STDIN', 'writing');
    await copy.write(Buffer.from('1\tone\n'));
    await psql(server, 'postgres', `SELECT pg_terminate_backend(${pid}, 60000)`);
    const rows = Buffer.from('1\tone\n'.repeat(100_000));
    const sending = (async () => {
      for (let i = 0; i < 1000; i++) await copy.write(rows);
    })();
    await expect(sending).rejects.toMatchObject(lost);
    await expect(copy.end()).rejects.toMatchObject(lost);
    expect(await psql(server, 'wire', 'SELECT count(*) FROM loaded')).toBe('0\n');
  });

  test('by ourselves fails what is under way', async () => {
    const wire = await connect();
    const reading = wire.copyOut(endless, 'reading', new Collector());
    wire.close();
    wire.close();
    await expect(reading).rejects.toMatchObject(lost);
  });
});

describe('COPY FROM STDIN', () => {
  test('takes bytes cut anywhere, empty pieces too, and counts the rows', async () => {
    await using wire = await connect();
    await wire.run('BEGIN', 'beginning');
    const text = Buffer.from(Array.from({ length: 500 }, (_, i) => `${i}\täöü \\t ${i}\n`).join(''));
    for (const pieceBytes of [1, 7, 1000, text.length]) {
      await wire.run('TRUNCATE loaded', 'emptying');
      const copy = await wire.copyIn('COPY loaded FROM STDIN', 'writing');
      await copy.write(Buffer.alloc(0));
      for (let at = 0; at < text.length; at += pieceBytes)
        await copy.write(text.subarray(at, at + pieceBytes));
      expect(await copy.end()).toBe(500);
      const read = new Collector();
      await wire.copyOut('COPY loaded TO STDOUT', 'reading', read);
      expect(read.text).toBe(text.toString());
    }
    await wire.run('ROLLBACK', 'ending');
  });

  test('a row of 64 MB goes in whole', async () => {
    await using wire = await connect();
    await wire.run('BEGIN', 'beginning');
    const copy = await wire.copyIn('COPY loaded FROM STDIN', 'writing');
    await copy.write(Buffer.from('1\t'));
    const piece = Buffer.alloc(8 * 1024 * 1024, '0123456789abcdef');
    for (let i = 0; i < 8; i++) await copy.write(piece);
    await copy.write(Buffer.from('\n'));
    expect(await copy.end()).toBe(1);
    expect(
      await wire.run("SELECT length(t), t = repeat('0123456789abcdef', 4194304) FROM loaded", 'asking'),
    ).toEqual([[String(64 * 1024 * 1024), 't']]);
    await wire.run('ROLLBACK', 'ending');
  });

  test('bad data fails the COPY with what and where, and the connection goes on', async () => {
    await using wire = await connect();
    const copy = await wire.copyIn('COPY loaded FROM STDIN', 'writing table loaded');
    await copy.write(Buffer.from('1\tone\nx\ttwo\n'));
    await expect(copy.end()).rejects.toMatchObject({
      ...badData,
      message: expect.stringMatching(/writing table loaded.*"x"/),
    });
    expect(await wire.run('SELECT count(*) FROM loaded', 'asking')).toEqual([['0']]);
  });

  test('bad data in front of much more ends the sending early, and the connection goes on', async () => {
    await using wire = await connect();
    const copy = await wire.copyIn('COPY loaded FROM STDIN', 'writing');
    const rows = Buffer.from('x\ttwo\n'.repeat(10_000));
    const sending = (async () => {
      for (let i = 0; i < 10_000; i++) await copy.write(rows);
    })();
    await expect(sending).rejects.toMatchObject(badData);
    await expect(copy.end()).rejects.toMatchObject(badData);
    expect(await wire.run('SELECT count(*) FROM loaded', 'asking')).toEqual([['0']]);
    const again = await wire.copyIn('COPY loaded FROM STDIN', 'writing');
    await again.write(Buffer.from('1\tone\n'));
    expect(await again.end()).toBe(1);
    await wire.run('TRUNCATE loaded', 'emptying');
  });

  test('that is given up leaves no rows', async () => {
    await using wire = await connect();
    const copy = await wire.copyIn('COPY loaded FROM STDIN', 'writing');
    await copy.write(Buffer.from('1\tone\n'));
    await copy.fail('changed my mind');
    expect(await wire.run('SELECT count(*) FROM loaded', 'asking')).toEqual([['0']]);
  });

  test('into what is not there fails before any data is sent', async () => {
    await using wire = await connect();
    await expect(wire.copyIn('COPY no_such FROM STDIN', 'writing')).rejects.toMatchObject({
      context: { sqlstate: '42P01' },
    });
    expect(await wire.run('SELECT 1', 'asking')).toEqual([['1']]);
  });
});
