// A TCP proxy between a client and a server on 127.0.0.1 that can be slow, fall silent or cut every connection: the
// network as it is at its worst.

import { createServer, type Socket, connect as tcpConnect } from 'node:net';

export interface ProxyOptions {
  /** How fast each connection hands on what the server sends; without it as fast as it can. */
  bytesPerSecond?: number;
  /** Resets every client's connection once, as soon as the clients have sent so many bytes in all; new ones are served. */
  resetAfterSentBytes?: number;
  /** The same, when the server has sent so many. What goes beyond reaches nobody. */
  resetAfterReceivedBytes?: number;
  /** Holds each connection back, in that direction, once its client has sent about so many bytes, until `release`. */
  holdAfterSentBytes?: number;
  /** The same, once its server has sent about so many: what reads more than that does not end. */
  holdAfterReceivedBytes?: number;
}

export interface TcpProxy extends AsyncDisposable {
  readonly port: number;
  /** The same connection string, through the proxy. */
  through(url: string): string;
  /** Connections open now. */
  readonly connections: number;
  /** What the server has sent so far, in bytes. */
  readonly receivedBytes: number;
  /** What the clients have sent so far, in bytes. */
  readonly sentBytes: number;
  /** Resets every client's connection once the clients have sent so many bytes more, after it has called `then`. */
  resetAfterSent(bytes: number, then: () => void): void;
  /** Connections that were held back go on, and no others are. */
  release(): void;
  /** From now on nothing is handed on and nothing is closed, and new connections are taken and left alone. */
  stall(): void;
  /** Resets every connection and refuses new ones. */
  cut(): void;
}

const never = Number.POSITIVE_INFINITY;

/** Starts a proxy in front of a port of 127.0.0.1. */
export async function startTcpProxy(serverPort: number, options: ProxyOptions = {}): Promise<TcpProxy> {
  const sockets = new Set<Socket>();
  const clients = new Set<Socket>();
  const held = new Set<Socket>();
  let isReleased = false;
  let isStalled = false;
  let receivedBytes = 0;
  let sentBytes = 0;
  let { resetAfterSentBytes = never, resetAfterReceivedBytes = never } = options;
  let beforeReset = () => {};
  /** Hands bytes on, or the first of them, after which comes the reset. */
  const handOn = (bytes: Buffer, to: Socket, allowed: number): void => {
    to.write(bytes.subarray(0, Math.max(0, allowed)));
    if (bytes.length <= allowed) return;
    resetAfterSentBytes = never;
    resetAfterReceivedBytes = never;
    beforeReset();
    for (const client of clients) client.resetAndDestroy();
  };
  /** Reads no more of a connection's side once so many bytes have come from there. */
  const holdAfter = (bytes: number | undefined, socket: Socket): void => {
    if (isReleased || bytes === undefined || socket.bytesRead < bytes) return;
    held.add(socket);
    socket.pause();
  };
  const keep = (socket: Socket, peer: Socket | undefined) => {
    sockets.add(socket);
    socket.on('error', () => socket.destroy());
    socket.on('close', () => {
      sockets.delete(socket);
      clients.delete(socket);
      held.delete(socket);
      // What was handed on has to arrive.
      if (!isStalled) peer?.destroySoon();
    });
  };
  const listener = createServer({ allowHalfOpen: false }, client => {
    clients.add(client);
    if (isStalled) {
      keep(client, undefined);
      client.pause();
      return;
    }
    const server = tcpConnect({ port: serverPort, host: '127.0.0.1', noDelay: true });
    client.setNoDelay(true);
    keep(client, server);
    keep(server, client);
    client.on('data', bytes => {
      if (isStalled) return;
      sentBytes += bytes.length;
      handOn(bytes, server, resetAfterSentBytes - sentBytes + bytes.length);
      holdAfter(options.holdAfterSentBytes, client);
    });
    server.on('data', bytes => {
      if (isStalled) return;
      receivedBytes += bytes.length;
      handOn(bytes, client, resetAfterReceivedBytes - receivedBytes + bytes.length);
      holdAfter(options.holdAfterReceivedBytes, server);
      if (options.bytesPerSecond === undefined) return;
      server.pause();
      setTimeout(() => server.resume(), (bytes.length / options.bytesPerSecond) * 1000);
    });
  });
  await new Promise<void>(resolve => listener.listen(0, '127.0.0.1', resolve));
  const address = listener.address();
  if (address === null || typeof address === 'string') throw new Error('the proxy has no port');
  const { port } = address;
  return {
    port,
    through: url => url.replace(`127.0.0.1:${serverPort}/`, `127.0.0.1:${port}/`),
    get connections() {
      return sockets.size / 2;
    },
    get receivedBytes() {
      return receivedBytes;
    },
    get sentBytes() {
      return sentBytes;
    },
    resetAfterSent(bytes, then) {
      resetAfterSentBytes = sentBytes + bytes;
      beforeReset = then;
    },
    release() {
      isReleased = true;
      // One that has fallen silent stays so.
      if (!isStalled) for (const socket of held) socket.resume();
      held.clear();
    },
    stall() {
      isStalled = true;
      for (const socket of sockets) socket.pause();
    },
    cut() {
      listener.close();
      for (const socket of sockets) socket.resetAndDestroy();
    },
    async [Symbol.asyncDispose]() {
      listener.close();
      for (const socket of sockets) socket.destroy();
    },
  };
}
