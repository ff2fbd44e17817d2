// A TCP proxy between a client and a server on 127.0.0.1 that can be slow, fall silent or cut every connection: the
// network as it is at its worst.

import { createServer, type Socket, connect as tcpConnect } from 'node:net';

export interface ProxyOptions {
  /** How fast each connection hands on what the server sends; without it as fast as it can. */
  bytesPerSecond?: number;
  /** Resets every connection once, as soon as the clients have sent so many bytes in all; new ones are served. */
  resetAfterSentBytes?: number;
  /** The same, when the server has sent so many; what goes beyond does not reach the client. */
  resetAfterReceivedBytes?: number;
}

export interface TcpProxy extends AsyncDisposable {
  readonly port: number;
  /** The same connection string, through the proxy. */
  through(url: string): string;
  /** Connections open now. */
  readonly connections: number;
  /** What the server has sent so far, in bytes. */
  readonly receivedBytes: number;
  /** From now on nothing is handed on and nothing is closed, and new connections are taken and left alone. */
  stall(): void;
  /** Resets every connection and refuses new ones. */
  cut(): void;
}

/** Starts a proxy in front of a port of 127.0.0.1. */
export async function startTcpProxy(serverPort: number, options: ProxyOptions = {}): Promise<TcpProxy> {
  const sockets = new Set<Socket>();
  let isStalled = false;
  let receivedBytes = 0;
  let sentBytes = 0;
  let hasReset = false;
  const resetIf = (isDue: boolean): boolean => {
    if (!isDue || hasReset) return false;
    hasReset = true;
    for (const socket of sockets) socket.resetAndDestroy();
    return true;
  };
  const {
    resetAfterSentBytes = Number.POSITIVE_INFINITY,
    resetAfterReceivedBytes = Number.POSITIVE_INFINITY,
  } = options;
  const keep = (socket: Socket, peer: Socket | undefined) => {
    sockets.add(socket);
    socket.on('error', () => socket.destroy());
    socket.on('close', () => {
      sockets.delete(socket);
      if (!isStalled) peer?.destroy();
    });
  };
  const listener = createServer({ allowHalfOpen: false }, client => {
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
      if (!resetIf(sentBytes > resetAfterSentBytes)) server.write(bytes);
    });
    server.on('data', bytes => {
      if (isStalled) return;
      receivedBytes += bytes.length;
      if (resetIf(receivedBytes > resetAfterReceivedBytes)) return;
      client.write(bytes);
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
