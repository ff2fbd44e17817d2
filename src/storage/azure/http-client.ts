// Sends the SDK's requests. In place of the SDK's own client, as two things matter here that it does not promise: a
// body is never read again once its request has settled (its memory is freed then), and silence ends a request.
import { once } from 'node:events';
import { Agent as HttpAgent, request as httpRequest, type IncomingMessage } from 'node:http';
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https';
import type {
  CompatResponse,
  RequestPolicy,
  toHttpHeadersLike,
  WebResourceLike,
} from '@azure/core-http-compat';
import type { createHttpHeaders } from '@azure/core-rest-pipeline';

/** What of the SDK is needed here; given, so that this file does not load it. */
export interface HeaderMakers {
  createHttpHeaders: typeof createHttpHeaders;
  toHttpHeadersLike: typeof toHttpHeadersLike;
}

export class AzureHttpClient implements RequestPolicy {
  readonly #idleMs: number;
  readonly #signal: AbortSignal | undefined;
  readonly #make: HeaderMakers;
  readonly #http = new HttpAgent({ keepAlive: true });
  readonly #https = new HttpsAgent({ keepAlive: true });

  /**
   * @param idleMs how long nothing may move in either direction, connecting included.
   * @param signal ends every request.
   */
  constructor(idleMs: number, signal: AbortSignal | undefined, make: HeaderMakers) {
    this.#idleMs = idleMs;
    this.#signal = signal;
    this.#make = make;
  }

  /** @throws what the socket failed with, ETIMEDOUT after silence. */
  async sendRequest(request: WebResourceLike): Promise<CompatResponse> {
    const body: unknown = request.body ?? undefined;
    if (body !== undefined && typeof body !== 'string' && !Buffer.isBuffer(body))
      throw new TypeError('a request has a body of another kind than text or a buffer');
    const isPlain = request.url.startsWith('http:');
    // A proxy of the environment brings an agent of its own.
    const agent = request.agent as unknown as HttpAgent | undefined;
    const outgoing = (isPlain ? httpRequest : httpsRequest)(request.url, {
      agent: agent ?? (isPlain ? this.#http : this.#https),
      method: request.method,
      headers: request.headers.rawHeaders(),
      timeout: this.#idleMs,
      ...(this.#signal && { signal: this.#signal }),
    });
    outgoing.once('timeout', () => {
      const silence = new Error(`nothing was heard for ${this.#idleMs / 1000} s`);
      outgoing.destroy(Object.assign(silence, { code: 'ETIMEDOUT' }));
    });
    // For what goes wrong after the response has begun: the response then ends early, which its reader sees.
    outgoing.on('error', () => undefined);
    try {
      outgoing.end(body);
      const [incoming] = (await once(outgoing, 'response')) as [IncomingMessage];
      const status = incoming.statusCode ?? 0;
      const headers = Object.fromEntries(
        Object.entries(incoming.headers).map(([name, value]) => [name, String(value ?? '')]),
      );
      const response = {
        request,
        status,
        headers: this.#make.toHttpHeadersLike(this.#make.createHttpHeaders(headers)),
      };
      if (isStreamed(request, status)) return { ...response, readableStreamBody: incoming };
      const chunks: Buffer[] = [];
      for await (const chunk of incoming as AsyncIterable<Buffer>) chunks.push(chunk);
      return { ...response, bodyAsText: Buffer.concat(chunks).toString('utf8') };
    } finally {
      // Failed, or answered before all of the body was sent: the rest must not be read any more.
      if (!outgoing.writableFinished) outgoing.destroy();
    }
  }

  /** Ends idle connections and those in use. */
  destroy(): void {
    this.#http.destroy();
    this.#https.destroy();
  }
}

/** Whether the SDK wants the body of a response of this status as it comes. */
function isStreamed({ streamResponseStatusCodes: statuses }: WebResourceLike, status: number): boolean {
  return statuses !== undefined && (statuses.has(status) || statuses.has(Number.POSITIVE_INFINITY));
}
