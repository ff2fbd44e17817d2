// An HTTP server between a client and a real one on 127.0.0.1. The test decides what happens to each request: it is
// passed on, answered in the server's place, left alone, or cut off at a chosen byte, on the way there or back.

import { once } from 'node:events';
import { createServer, request as httpRequest, type IncomingMessage, type ServerResponse } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';

export type Verdict =
  | 'forward'
  /** Nothing is read and nothing is said. */
  | 'hang'
  /** The server does what was asked, and the connection ends before the client hears of it. */
  | 'lose-answer'
  | { answer: number; headers?: Record<string, string>; body?: string; unread?: boolean }
  /** The connection ends after so many bytes of the request's body have been passed on. */
  | { cutRequestAfter: number }
  | { cutAnswerAfter: number }
  | { delayMs: number }
  /** The server does what was asked or refuses it, and the client hears no more than this status. */
  | { claim: number }
  /** Another is asked for. */
  | { path: string };

export interface SeenRequest {
  method: string;
  /** With the query. */
  path: string;
  headers: IncomingMessage['headers'];
}

export interface HttpFaults extends AsyncDisposable {
  readonly port: number;
  readonly requests: SeenRequest[];
  /** Decides about each request from now on. */
  decide(decide: (request: SeenRequest) => Verdict | Promise<Verdict>): void;
}

/** An error as S3 words it. */
export function s3Error(status: number, code: string, headers: Record<string, string> = {}): Verdict {
  const body = `<?xml version="1.0" encoding="UTF-8"?><Error><Code>${code}</Code><Message>a planned ${code}</Message></Error>`;
  return { answer: status, headers: { 'content-type': 'application/xml', ...headers }, body };
}

/** An error as Azure words it. */
export function azureError(status: number, code: string, headers: Record<string, string> = {}): Verdict {
  const body = `<?xml version="1.0" encoding="utf-8"?><Error><Code>${code}</Code><Message>a planned ${code}</Message></Error>`;
  return {
    answer: status,
    headers: { 'content-type': 'application/xml', 'x-ms-error-code': code, ...headers },
    body,
  };
}

/** A decision for the first so many requests that match; the others are passed on. */
export function first(
  count: number,
  verdict: Verdict,
  matches: (request: SeenRequest) => boolean = () => true,
): (request: SeenRequest) => Verdict {
  let left = count;
  return request => (matches(request) && left-- > 0 ? verdict : 'forward');
}

export async function startHttpFaults(serverPort: number): Promise<HttpFaults> {
  const requests: SeenRequest[] = [];
  let decide: (request: SeenRequest) => Verdict | Promise<Verdict> = () => 'forward';
  const server = createServer({ keepAliveTimeout: 60_000 }, async (incoming, outgoing) => {
    const seen = { method: incoming.method ?? '', path: incoming.url ?? '', headers: incoming.headers };
    requests.push(seen);
    incoming.on('error', () => undefined);
    outgoing.on('error', () => undefined);
    await perform(await decide(seen), incoming, outgoing, serverPort).catch(() => outgoing.destroy());
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('the server has no port');
  return {
    port: address.port,
    requests,
    decide(next) {
      decide = next;
    },
    async [Symbol.asyncDispose]() {
      server.close();
      server.closeAllConnections();
    },
  };
}

async function perform(
  verdict: Verdict,
  incoming: IncomingMessage,
  outgoing: ServerResponse,
  serverPort: number,
): Promise<void> {
  if (verdict === 'hang') return;
  if (typeof verdict === 'object' && 'answer' in verdict) {
    if (!verdict.unread) incoming.resume();
    outgoing.writeHead(verdict.answer, { date: new Date().toUTCString(), ...verdict.headers });
    // A HEAD is answered without a body.
    outgoing.end(incoming.method === 'HEAD' ? undefined : verdict.body);
    return;
  }
  if (typeof verdict === 'object' && 'delayMs' in verdict) await sleep(verdict.delayMs);
  const { method, headers } = incoming;
  const path = typeof verdict === 'object' && 'path' in verdict ? verdict.path : incoming.url;
  const onward = httpRequest({ host: '127.0.0.1', port: serverPort, method, path, headers, agent: false });
  onward.on('error', () => outgoing.destroy());
  if (typeof verdict === 'object' && 'cutRequestAfter' in verdict) {
    await passOn(incoming, onward, verdict.cutRequestAfter);
    // What was written has to arrive: the server shall see the beginning of a put.
    await sleep(50);
    onward.destroy();
    outgoing.destroy();
    return;
  }
  incoming.pipe(onward);
  const [answer] = (await once(onward, 'response')) as [IncomingMessage];
  if (verdict === 'lose-answer') {
    answer.resume();
    outgoing.destroy();
    return;
  }
  if (typeof verdict === 'object' && 'claim' in verdict) {
    answer.resume();
    outgoing.writeHead(verdict.claim, { date: answer.headers.date });
    outgoing.end();
    return;
  }
  outgoing.writeHead(answer.statusCode ?? 500, answer.headers);
  if (typeof verdict === 'object' && 'cutAnswerAfter' in verdict) {
    await passOn(answer, outgoing, verdict.cutAnswerAfter);
    await sleep(50);
    outgoing.destroy();
    return;
  }
  // A server that answers before it has read everything takes no more, and the next request waits behind the rest.
  answer.once('end', () => {
    incoming.unpipe(onward);
    incoming.resume();
  });
  answer.pipe(outgoing);
}

/** Passes on the first bytes of a stream and reads no more of it. */
async function passOn(
  from: IncomingMessage,
  to: { write(bytes: Buffer): unknown },
  bytes: number,
): Promise<void> {
  let left = bytes;
  for await (const chunk of from as AsyncIterable<Buffer>) {
    const part = chunk.subarray(0, left);
    to.write(part);
    left -= part.length;
    if (left <= 0) break;
  }
}
