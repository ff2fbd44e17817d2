// A connection for COPY data. pg opens and authenticates it; from then on the protocol is spoken here directly, since
// a row-wise stream parser costs a quarter of the client's time. Nothing outlives its message, and messages may be sent
// ahead: the server answers in order, so the next COPY begins without waiting for a round trip.
import net from 'node:net';
import type { Duplex } from 'node:stream';
import { PgkeepError } from '../base/errors.ts';
import { openClient, politeCloseMs } from './client.ts';
import { FrameReader } from './frame-reader.ts';
import { type ServerComplaint, serverError, translateDatabaseError } from './server-error.ts';
import type { DatabaseTarget } from './target.ts';

/** Takes the data of a COPY TO STDOUT; `chunk[start..end)` is valid only during the call. */
export interface CopySink {
  write(chunk: Buffer, start: number, end: number): void;
}

/** A statement, and what it is for, as in "reading table t". */
export interface Statement {
  sql: string;
  doing: string;
}

/** One message, of one or several statements. */
interface Command {
  /** What each statement is for; the last goes for those after it, too. */
  doing: readonly string[];
  /** Of each statement, where they are COPYs. */
  sinks: readonly CopySink[];
  /** Of the last statement that gave any. */
  rows: Row[];
  /** Of the statements that have ended. */
  ended: { rows: Row[]; tag: string }[];
  complaint: ServerComplaint | undefined;
  /** Called when the server is ready to take COPY data. */
  onCopyIn: (() => void) | undefined;
  resolve: (command: Command) => void;
  reject: (error: PgkeepError) => void;
}

/** Values as text. */
type Row = (string | null)[];

const message = {
  rowDescription: 0x54,
  dataRow: 0x44,
  commandComplete: 0x43,
  copyInResponse: 0x47,
  errorResponse: 0x45,
  readyForQuery: 0x5a,
  query: 0x51,
  parse: 0x50,
  bind: 0x42,
  execute: 0x45,
  sync: 0x53,
  copyData: 0x64,
  copyDone: 0x63,
  copyFail: 0x66,
  terminate: 0x58,
};

/** One buffer for all that is received: large reads, and nothing for the garbage collector. */
const receiveBytes = 512 * 1024;

export class WireConnection {
  readonly #socket: Duplex;
  readonly #commands: Command[] = [];
  #lost: PgkeepError | undefined;
  /** What the server said while nothing was asked: why it ends the session. */
  #lastWords: ServerComplaint | undefined;
  #isClosed = false;

  private constructor(socket: Duplex) {
    this.#socket = socket;
    socket.on('error', error => this.#lose(error));
    socket.on('close', () => this.#lose(new Error('the connection was closed')));
  }

  /** @throws PgkeepError as {@link openClient}. */
  static async open(target: DatabaseTarget, applicationName: string): Promise<WireConnection> {
    let receive: ((received: Buffer) => void) | undefined;
    const makeSocket = () => {
      const socket: net.Socket = new net.Socket({
        onread: {
          buffer: Buffer.allocUnsafeSlow(receiveBytes),
          callback: (bytes, buffer) => {
            const received = Buffer.from(buffer.buffer, buffer.byteOffset, bytes);
            if (receive !== undefined) receive(received);
            else socket.emit('data', Buffer.from(received));
            return true;
          },
        },
      });
      return socket;
    };
    const client = await openClient(target, { socket: makeSocket, applicationName });
    // pg offers no public way to its socket.
    const { stream } = (client as unknown as { connection: { stream: Duplex } }).connection;
    stream.removeAllListeners('data');
    const connection = new WireConnection(stream);
    const reader = new FrameReader({
      copyData: (chunk, start, end) => {
        const command = connection.#commands[0];
        command?.sinks[command.ended.length]?.write(chunk, start, end);
      },
      message: (type, body) => connection.#receive(type, body),
    });
    receive = received => {
      try {
        reader.push(received);
      } catch (error) {
        connection.#lose(error);
        stream.destroy();
      }
    };
    // Only a TLS socket emits data; a plain one hands its buffer to the callback above.
    stream.on('data', receive);
    return connection;
  }

  /**
   * Runs one or several statements; the rows of the last that gave any, values as text.
   * @throws PgkeepError as serverError says, DATABASE_CONNECTION_LOST.
   */
  async run(sql: string, doing: string): Promise<Row[]> {
    return (await this.#send(sql, [doing])).rows;
  }

  /**
   * Runs queries, each one statement, in one message: for many small ones it is the way to and fro that counts.
   * @param encoding what their text is sent in.
   * @returns the rows of each.
   * @throws PgkeepError of the first that fails; those after it are not run.
   */
  async runAll(queries: readonly Statement[], encoding: BufferEncoding = 'utf8'): Promise<Row[][]> {
    return (await this.#sendAll(queries, [], encoding)).map(({ rows }) => rows);
  }

  /**
   * Runs one statement with parameters.
   * @param parameters in binary, as the protocol's Bind has them: how many, and the length of each with itself. To be left
   * as they are until this has ended.
   */
  async runBound(sql: string, parameters: Buffer, doing: string): Promise<Row[]> {
    const parse = frame(message.parse, Buffer.from(`\0${sql}\0\0\0`));
    // No names; one format for all parameters: binary. Results come as text, and all rows at once.
    const [before, after] = [Buffer.from([0, 0, 0, 1, 0, 1]), Buffer.from([0, 0])];
    const bind = frameHeader(message.bind, before.length + parameters.length + after.length);
    const execute = frame(message.execute, Buffer.alloc(5));
    const sync = frame(message.sync, Buffer.alloc(0));
    const bytes = [parse, bind, before, parameters, after, execute, sync];
    return (await this.#sendBytes(bytes, [doing])).rows;
  }

  /**
   * COPY ... TO STDOUT into a sink. May be called again before it has ended: answers come in order.
   * @returns the number of rows the server counted.
   */
  async copyOut(sql: string, doing: string, sink: CopySink): Promise<number> {
    const [rows = Number.NaN] = await this.copyOutAll([{ sql, doing, sink }]);
    return rows;
  }

  /** Several of these in one message, as {@link runAll}. @returns the number of rows of each. */
  async copyOutAll(copies: readonly (Statement & { sink: CopySink })[]): Promise<number[]> {
    const sinks = copies.map(({ sink }) => sink);
    return (await this.#sendAll(copies, sinks)).map(({ tag }) => rowCount(tag));
  }

  /** COPY ... FROM STDIN. @returns once the server takes data; the caller must `end` or `fail` it. */
  async copyIn(sql: string, doing: string): Promise<CopyIn> {
    let ended: Promise<Command> | undefined;
    await new Promise<void>((resolve, reject) => {
      ended = this.#send(sql, [doing], { onCopyIn: resolve });
      ended.catch(reject);
    });
    if (ended === undefined) throw new PgkeepError('INTERNAL', 'COPY was not sent');
    return new CopyIn(this.#socket, ended);
  }

  /** Stops receiving until {@link resume}: the sink has no room. */
  pause(): void {
    this.#socket.pause();
  }

  resume(): void {
    this.#socket.resume();
  }

  /** Cuts the connection without a word to the server; statements under way fail. */
  destroy(): void {
    this.#isClosed = true;
    this.#socket.destroy();
  }

  /**
   * Ends the session; statements under way fail. A second call is harmless.
   * @returns when the server has ended it, too, so that there is room for another session; of one that was busy, at once.
   */
  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    const socket = this.#socket;
    const terminate = frame(message.terminate, Buffer.alloc(0));
    if (this.#lost !== undefined || this.#commands.length > 0) {
      socket.end(terminate, () => socket.destroy());
      return;
    }
    const closed = new Promise<void>(resolve => socket.once('close', () => resolve()));
    // A server that says nothing any more never closes.
    const force = setTimeout(() => socket.destroy(), politeCloseMs);
    socket.resume();
    socket.end(terminate);
    await closed;
    clearTimeout(force);
  }

  async #sendAll(
    statements: readonly Statement[],
    sinks: readonly CopySink[] = [],
    encoding: BufferEncoding = 'utf8',
  ) {
    if (statements.length === 0) return [];
    const sql = statements.map(statement => statement.sql).join(';\n');
    const doing = statements.map(statement => statement.doing);
    const query = frame(message.query, Buffer.from(`${sql}\0`, encoding));
    const { ended } = await this.#sendBytes([query], doing, { sinks });
    // Each must have an answer of its own, or those of others would pass for it.
    if (ended.length !== statements.length) {
      throw new PgkeepError(
        'INTERNAL',
        `the server answered ${ended.length} statements where ${statements.length} were sent, ${doing[0]} first`,
      );
    }
    return ended;
  }

  #send(
    sql: string,
    doing: readonly string[],
    kind: Pick<Partial<Command>, 'onCopyIn'> = {},
  ): Promise<Command> {
    return this.#sendBytes([frame(message.query, Buffer.from(`${sql}\0`))], doing, kind);
  }

  #sendBytes(
    bytes: readonly Buffer[],
    doing: readonly string[],
    kind: Pick<Partial<Command>, 'sinks' | 'onCopyIn'> = {},
  ): Promise<Command> {
    if (this.#lost !== undefined) return Promise.reject(this.#lost);
    return new Promise((resolve, reject) => {
      this.#commands.push({
        doing,
        sinks: kind.sinks ?? [],
        onCopyIn: kind.onCopyIn,
        rows: [],
        ended: [],
        complaint: undefined,
        resolve,
        reject,
      });
      this.#socket.cork();
      for (const part of bytes) this.#socket.write(part);
      this.#socket.uncork();
    });
  }

  #receive(type: number, body: Buffer): void {
    const command = this.#commands[0];
    if (command === undefined) {
      if (type === message.errorResponse) this.#lastWords ??= parseComplaint(body);
      return;
    }
    switch (type) {
      case message.rowDescription:
        command.rows = [];
        return;
      case message.dataRow:
        command.rows.push(parseRow(body));
        return;
      case message.commandComplete:
        command.ended.push({ rows: command.rows, tag: body.toString('latin1', 0, body.length - 1) });
        return;
      case message.copyInResponse:
        command.onCopyIn?.();
        return;
      case message.errorResponse:
        command.complaint ??= parseComplaint(body);
        return;
      case message.readyForQuery:
        this.#commands.shift();
        if (command.complaint === undefined) command.resolve(command);
        else command.reject(serverError(command.complaint, doingOf(command)));
    }
  }

  #lose(error: unknown): void {
    if (this.#lost !== undefined) return;
    // The server's last words, as on a shutdown, tell more than the closed socket.
    const [running] = this.#commands;
    const complaint = running?.complaint ?? this.#lastWords;
    const doing = running === undefined ? 'waiting' : doingOf(running);
    this.#lost =
      complaint === undefined ? translateDatabaseError(error, doing) : serverError(complaint, doing);
    for (const command of this.#commands.splice(0)) command.reject(this.#lost);
  }
}

/** The sending side of a COPY ... FROM STDIN. */
export class CopyIn {
  readonly #socket: Duplex;
  readonly #ended: Promise<Command>;
  #failure: PgkeepError | undefined;

  constructor(socket: Duplex, ended: Promise<Command>) {
    this.#socket = socket;
    this.#ended = ended;
    ended.catch(error => {
      this.#failure = error;
    });
  }

  /** Sends bytes, cut anywhere; resolves when they have left this process. @throws what the server complained of. */
  async write(bytes: Buffer): Promise<void> {
    if (this.#failure !== undefined) throw this.#failure;
    this.#socket.cork();
    this.#socket.write(frameHeader(message.copyData, bytes.length));
    const sent = new Promise<void>(resolve => this.#socket.write(bytes, () => resolve()));
    this.#socket.uncork();
    await Promise.race([sent, this.#ended]);
  }

  /** @returns the number of rows the server took in. */
  async end(): Promise<number> {
    this.#socket.write(frame(message.copyDone, Buffer.alloc(0)));
    return rowCount((await this.#ended).ended.at(-1)?.tag ?? '');
  }

  /** Makes the server drop what it was sent. */
  async fail(reason: string): Promise<void> {
    this.#socket.write(frame(message.copyFail, Buffer.from(`${reason}\0`)));
    await this.#ended.catch(() => undefined);
  }
}

function frame(type: number, body: Buffer): Buffer {
  return Buffer.concat([frameHeader(type, body.length), body]);
}

function frameHeader(type: number, bodyBytes: number): Buffer {
  const header = Buffer.alloc(5);
  header[0] = type;
  header.writeUInt32BE(bodyBytes + 4, 1);
  return header;
}

/** What the statement is for that is running: after one that failed, no other is run. */
function doingOf({ doing, ended }: Command): string {
  return doing[ended.length] ?? doing.at(-1) ?? '';
}

/** The count at the end of a command tag such as "COPY 12". */
function rowCount(tag: string): number {
  return Number(/ (\d+)$/.exec(tag)?.[1] ?? Number.NaN);
}

function parseRow(body: Buffer): Row {
  const values: Row = [];
  const count = body.readUInt16BE(0);
  let at = 2;
  for (let i = 0; i < count; i++) {
    const bytes = body.readInt32BE(at);
    at += 4;
    values.push(bytes < 0 ? null : body.toString('utf8', at, at + bytes));
    at += Math.max(0, bytes);
  }
  return values;
}

/** Fields of an ErrorResponse: a letter, a zero-terminated text, and so on. */
function parseComplaint(body: Buffer): ServerComplaint {
  const fields: Record<string, string> = {};
  for (const field of body.toString('utf8').split('\0')) {
    if (field !== '') fields[field.charAt(0)] = field.slice(1);
  }
  const complaint: ServerComplaint = {
    code: fields.C ?? 'XX000',
    message: fields.M ?? 'an error without words',
  };
  if (fields.D !== undefined) complaint.detail = fields.D;
  if (fields.H !== undefined) complaint.hint = fields.H;
  return complaint;
}
