// Sends the SDK's requests. In place of the SDK's own handler, as two things matter here that it does not promise:
// a body is never read again once a request has settled (its memory is freed then), and a response is read into one
// buffer of its size.
import { Agent as HttpAgent, request as httpRequest, type IncomingMessage } from 'node:http';
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https';
import { Readable } from 'node:stream';
import type { S3ClientConfig } from '@aws-sdk/client-s3';

type Handler = Extract<NonNullable<S3ClientConfig['requestHandler']>, { handle: unknown }>;
export type HttpRequest = Parameters<Handler['handle']>[0];
type HttpResponse = Awaited<ReturnType<Handler['handle']>>['response'];

export interface HttpTimeouts {
  connectMs: number;
  /** How long nothing may move in either direction. */
  idleMs: number;
}

/** More than ever are under way at once, so that no request waits for a connection. */
const maxSockets = 256;

/** A response that is larger than anything that was asked for. */
export class ResponseTooLarge extends Error {
  readonly sizeBytes: number;

  constructor(sizeBytes: number) {
    super(`a response of ${sizeBytes} bytes`);
    this.sizeBytes = sizeBytes;
  }
}

/** A time limit of {@link HttpTimeouts} has passed. */
export class HttpTimeout extends Error {
  readonly code = 'ETIMEDOUT';
}

export class HttpHandler {
  readonly metadata = { handlerProtocol: 'http/1.1' };
  /** Of the last request. */
  origin: { protocol: string; host: string } | undefined;
  readonly #timeouts: HttpTimeouts;
  readonly #maxBodyBytes: number;
  readonly #signal: AbortSignal | undefined;
  readonly #http = new HttpAgent({ keepAlive: true, maxSockets });
  readonly #https = new HttpsAgent({ keepAlive: true, maxSockets });
  /** What the server's clock is ahead of this machine's, by its last answer. */
  #clockAheadMs = 0;

  /** @param signal ends every request. */
  constructor(timeouts: HttpTimeouts, maxBodyBytes: number, signal: AbortSignal | undefined) {
    this.#timeouts = timeouts;
    this.#maxBodyBytes = maxBodyBytes;
    this.#signal = signal;
  }

  /**
   * @returns the whole response.
   * @throws ResponseTooLarge, HttpTimeout, an AbortError, or what the socket failed with.
   */
  async handle(request: HttpRequest): Promise<{ response: HttpResponse }> {
    this.origin = { protocol: request.protocol, host: request.hostname };
    const isPlain = request.protocol === 'http:';
    const outgoing = (isPlain ? httpRequest : httpsRequest)({
      agent: isPlain ? this.#http : this.#https,
      method: request.method,
      host: request.hostname.replace(/^\[(.*)\]$/, '$1'),
      port: request.port ?? null,
      path: pathOf(request),
      headers: request.headers,
      ...(this.#signal && { signal: this.#signal }),
    });
    const ended = Promise.withResolvers<IncomingMessage>();
    const fail = (error: unknown) => ended.reject(error);
    outgoing.once('response', ended.resolve).once('error', fail);
    outgoing.setTimeout(this.#timeouts.idleMs, () =>
      outgoing.destroy(new HttpTimeout(`nothing was heard for ${this.#timeouts.idleMs / 1000} s`)),
    );
    outgoing.once('socket', socket => {
      if (!socket.connecting) return;
      const late = () => outgoing.destroy(new HttpTimeout('no connection could be made in time'));
      const timer = setTimeout(late, this.#timeouts.connectMs);
      for (const event of ['connect', 'close'] as const) socket.once(event, () => clearTimeout(timer));
    });
    try {
      outgoing.end(request.body ?? undefined);
      const incoming = await ended.promise;
      const serverTime = Date.parse(incoming.headers.date ?? '');
      if (!Number.isNaN(serverTime)) this.#clockAheadMs = serverTime - Date.now();
      const body = await readBody(incoming, request.method === 'HEAD' ? 0 : this.#maxBodyBytes);
      return {
        response: {
          statusCode: incoming.statusCode ?? 0,
          reason: incoming.statusMessage,
          headers: singleHeaders(incoming),
          body: Readable.from(body.length === 0 ? [] : [body]),
        } as HttpResponse,
      };
    } catch (error) {
      outgoing.destroy();
      throw error;
    } finally {
      // Answered before all of the body was sent: the rest must not be read any more.
      if (!outgoing.writableFinished) outgoing.destroy();
    }
  }

  /** The server's time, to the second, once it has answered. */
  serverNow(): Date {
    return new Date(Date.now() + this.#clockAheadMs);
  }

  /** Ends idle connections and those in use. */
  destroy(): void {
    this.#http.destroy();
    this.#https.destroy();
  }

  updateHttpClientConfig(): void {}

  httpHandlerConfigs(): Record<string, never> {
    return {};
  }
}

/** The path with the query as it was signed. */
function pathOf({ path, query, fragment }: HttpRequest): string {
  const text = queryText(query ?? {});
  return path + (text === '' ? '' : `?${text}`) + (fragment ? `#${fragment}` : '');
}

/** What follows the question mark: sorted and escaped as signatures demand it. */
export function queryText(query: NonNullable<HttpRequest['query']>): string {
  return Object.entries(query)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .flatMap(([key, value]) => {
      const values = Array.isArray(value) ? value : [value];
      return values.map(one => (one === null ? escapeUri(key) : `${escapeUri(key)}=${escapeUri(one)}`));
    })
    .join('&');
}

function escapeUri(text: string): string {
  return encodeURIComponent(text).replace(
    /[!'()*]/g,
    char => `%${char.charCodeAt(0).toString(16).toUpperCase()}`,
  );
}

function singleHeaders(incoming: IncomingMessage): Record<string, string> {
  return Object.fromEntries(
    Object.entries(incoming.headers).map(([name, value]) => [
      name,
      Array.isArray(value) ? value.join(',') : (value ?? ''),
    ]),
  );
}

async function readBody(incoming: IncomingMessage, maxBytes: number): Promise<Buffer> {
  const announced = Number(incoming.headers['content-length'] ?? Number.NaN);
  if (maxBytes > 0 && announced > maxBytes) throw new ResponseTooLarge(announced);
  // Not of the pool that small buffers share: this one can be freed.
  const whole = maxBytes > 0 && announced > 0 ? Buffer.allocUnsafeSlow(announced) : undefined;
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of incoming as AsyncIterable<Buffer>) {
    if (length + chunk.length > maxBytes) throw new ResponseTooLarge(length + chunk.length);
    if (whole === undefined) chunks.push(chunk);
    else chunk.copy(whole, length);
    length += chunk.length;
  }
  return whole ?? Buffer.concat(chunks);
}
