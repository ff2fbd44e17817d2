// Turns requests of the S3 SDK into those of Google Cloud Storage's XML API and signs them with an HMAC key, in Google's
// form of Amazon's signature: docs/decisions/gcs.md says why Amazon's own will not do.
import { createHash, createHmac } from 'node:crypto';
import type { HttpRequest } from './http-handler.ts';
import { queryText } from './http-handler.ts';

/** What the same header is called, and says, at Google. */
const translations: Readonly<Record<string, (value: string) => [string, string]>> = {
  'if-none-match': () => ['x-goog-if-generation-match', '0'],
  'x-amz-storage-class': value => ['x-goog-storage-class', value],
};

export class GcsSigner {
  readonly #accessId: string;
  readonly #secret: string;

  constructor(accessId: string, secret: string) {
    this.#accessId = accessId;
    this.#secret = secret;
  }

  /** As the SDK asks for it. @param signingDate by the server's clock, as far as it is known. */
  async sign(
    request: HttpRequest,
    { signingDate }: { signingDate?: Date | number | string } = {},
  ): Promise<HttpRequest> {
    const time = new Date(signingDate ?? Date.now()).toISOString().replace(/[-:]|\.\d+/g, '');
    const day = time.slice(0, 8);
    const contents = sha256(request.body === undefined ? '' : (request.body as Buffer | string));
    const headers: Record<string, string> = {
      ...translateHeaders(request),
      'x-goog-date': time,
      'x-goog-content-sha256': contents,
    };
    const { 'x-id': _, ...query } = request.query ?? {};
    const signed = Object.keys(headers)
      .filter(name => name === 'host' || name === 'content-type' || name.startsWith('x-goog-'))
      .sort();
    const canonical = [
      request.method,
      request.path,
      queryText(query),
      ...signed.map(name => `${name}:${headers[name]?.trim()}`),
      '',
      signed.join(';'),
      contents,
    ].join('\n');
    const scope = [day, 'auto', 'storage', 'goog4_request'];
    const key = scope.reduce<string | Buffer>((secret, part) => hmac(secret, part), `GOOG4${this.#secret}`);
    const signature = hmac(key, ['GOOG4-HMAC-SHA256', time, scope.join('/'), sha256(canonical)].join('\n'));
    headers.authorization = [
      `GOOG4-HMAC-SHA256 Credential=${this.#accessId}/${scope.join('/')}`,
      `SignedHeaders=${signed.join(';')}`,
      `Signature=${signature.toString('hex')}`,
    ].join(', ');
    return Object.assign(request, { headers, query });
  }
}

/** Without what is Amazon's alone: Google refuses requests with headers of both. */
function translateHeaders({ headers }: HttpRequest): Record<string, string> {
  return Object.fromEntries(
    Object.entries<string>(headers).flatMap(([header, value]) => {
      const name = header.toLowerCase();
      const translated = translations[name]?.(value);
      if (translated !== undefined) return [translated];
      return /^(x-amz-|amz-sdk-)|^accept-encoding$/.test(name) ? [] : [[name, value]];
    }),
  );
}

function sha256(bytes: Buffer | string): string {
  return createHash('sha256').update(bytes).digest('hex');
}

function hmac(key: Buffer | string, text: string): Buffer {
  return createHmac('sha256', key).update(text).digest();
}
