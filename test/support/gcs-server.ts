// Google Cloud Storage's XML API as far as its documentation and what others measured tell, since no real one can be had
// here: a server of ours that knows its signature and its refusals, and does what was asked in Ceph.

import { createHash, createHmac } from 'node:crypto';
import { once } from 'node:events';
import { createServer, request as httpRequest, type IncomingMessage, type ServerResponse } from 'node:http';
import { buffer } from 'node:stream/consumers';
import type { CephGateway } from './ceph-gateway.ts';
import type { SeenRequest } from './http-faults.ts';

export interface GcsServer extends AsyncDisposable {
  readonly port: number;
  /** What came in, as it came. */
  readonly requests: SeenRequest[];
  /** What pgkeep needs to reach it. */
  readonly options: { accessId: string; secret: string; endpoint: string };
  /** From now on nobody may delete: Google's put of an object that exists needs that right too. */
  forbidDeletion(): void;
  /** In Ceph; the name holds for both. */
  makeBucket(): Promise<string>;
}

const accessId = 'GOOGTS7C7FUP3AIRVJTE2BCDKINBTES3HC2GY5CBFJDCQ2SYHV6A6XXVTJFSA';
const secret = 'bGoa+V7g/yqDXvKRqq+JTFn4uQZbPiQJo4pf9RzJ';

export async function startGcsServer(ceph: CephGateway): Promise<GcsServer> {
  const requests: SeenRequest[] = [];
  const rights = { delete: true };
  const server = createServer({ keepAliveTimeout: 60_000 }, async (incoming, outgoing) => {
    const { method = '', url: path = '', headers } = incoming;
    requests.push({ method, path, headers: { ...headers } });
    outgoing.on('error', () => undefined);
    await answer(incoming, outgoing, ceph, rights).catch(() => outgoing.destroy());
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('the server has no port');
  return {
    port: address.port,
    requests,
    options: { accessId, secret, endpoint: `http://127.0.0.1:${address.port}` },
    forbidDeletion() {
      rights.delete = false;
    },
    makeBucket: () => ceph.makeBucket(),
    async [Symbol.asyncDispose]() {
      server.close();
      server.closeAllConnections();
    },
  };
}

async function answer(
  incoming: IncomingMessage,
  outgoing: ServerResponse,
  ceph: CephGateway,
  rights: { delete: boolean },
): Promise<void> {
  const body = await buffer(incoming);
  const say = ([status, code, message]: Refusal) => {
    const text = `<?xml version='1.0' encoding='UTF-8'?><Error><Code>${code}</Code><Message>${message}</Message></Error>`;
    outgoing.writeHead(status, { 'content-type': 'application/xml; charset=UTF-8' });
    outgoing.end(incoming.method === 'HEAD' ? undefined : text);
  };
  const refusal = refuse(incoming, body);
  if (refusal !== undefined) return say(refusal);
  const denied: Refusal = [403, 'AccessDenied', 'Caller does not have storage.objects.delete access.'];
  if (incoming.method === 'DELETE' && !rights.delete) return say(denied);
  const { method = '', url: path = '', headers } = incoming;
  // If-None-Match has no meaning for a put; of storage classes Ceph has but one.
  const onward: Record<string, string> = {
    host: `127.0.0.1:${ceph.port}`,
    'x-amz-content-sha256': sha256(body),
  };
  if (headers.range !== undefined) onward.range = headers.range;
  if (headers['x-goog-if-generation-match'] === '0' || (method === 'PUT' && !rights.delete))
    onward['if-none-match'] = '*';
  onward['x-amz-date'] = compact(new Date());
  const authorization = sign(amazon, ceph.owner.accessKeyId, ceph.owner.secretAccessKey, {
    method,
    path,
    headers: onward,
    signed: Object.keys(onward).sort(),
    region: 'us-east-1',
  });
  const request = httpRequest({
    ...{ host: '127.0.0.1', port: ceph.port, method, path, agent: false },
    headers: { ...onward, authorization, 'content-length': body.length },
  });
  request.end(body);
  const [response] = (await once(request, 'response')) as [IncomingMessage];
  // Whether rights or conditions are looked at first is not documented: the worse is assumed.
  if (response.statusCode === 412 && !rights.delete) return say(denied);
  outgoing.writeHead(response.statusCode ?? 500, response.headers);
  response.pipe(outgoing);
}

/** Status, code and message. */
type Refusal = [number, string, string];

/** What Google does not take. */
function refuse(
  { method = '', url: path = '', headers: sent }: IncomingMessage,
  body: Buffer,
): Refusal | undefined {
  // The front end adds itself, and the signature is compared after that.
  const headers: Record<string, string> = { ...(sent as Record<string, string>) };
  if (headers['accept-encoding'] !== undefined) headers['accept-encoding'] += ',gzip(gfe)';
  const names = Object.keys(headers);
  const extensions = names.filter(name => name.startsWith('x-goog-'));
  if (extensions.length > 0 && names.some(name => name.startsWith('x-amz-')))
    return [400, 'ExcessHeaderValues', 'Requests cannot specify both x-amz and x-goog headers.'];
  const [, id = '', signedText = ''] =
    /^GOOG4-HMAC-SHA256 Credential=([^/]+)\/\d{8}\/auto\/storage\/goog4_request, SignedHeaders=([^,]+), Signature=/.exec(
      headers.authorization ?? '',
    ) ?? [];
  if (id !== accessId) return [403, 'InvalidSecurity', 'The provided security credentials are not valid.'];
  const signed = signedText.split(';');
  const mismatch = 'The request signature we calculated does not match the signature you provided.';
  if (!['host', ...extensions].every(name => signed.includes(name)))
    return [403, 'SignatureDoesNotMatch', mismatch];
  const expected = sign(google, accessId, secret, { method, path, headers, signed, region: 'auto' });
  if (headers.authorization !== expected) return [403, 'SignatureDoesNotMatch', mismatch];
  const time = headers['x-goog-date']?.replace(/^(....)(..)(..T..)(..)(..Z)$/, '$1-$2-$3:$4:$5') ?? '';
  if (!(Math.abs(Date.parse(time) - Date.now()) < 15 * 60_000))
    return [
      403,
      'RequestTimeTooSkewed',
      'The difference between the request time and the server time is too large.',
    ];
  if (headers['x-goog-content-sha256'] !== sha256(body))
    return [400, 'BadDigest', 'The contents are not those announced.'];
  return undefined;
}

interface Flavour {
  algorithm: string;
  prefix: string;
  service: string;
  end: string;
  headers: string;
}

/** The same signature under two names; that of Amazon is checked by Ceph with every request. */
const amazon: Flavour = {
  algorithm: 'AWS4-HMAC-SHA256',
  prefix: 'AWS4',
  service: 's3',
  end: 'aws4_request',
  headers: 'x-amz-',
};
const google: Flavour = {
  algorithm: 'GOOG4-HMAC-SHA256',
  prefix: 'GOOG4',
  service: 'storage',
  end: 'goog4_request',
  headers: 'x-goog-',
};

interface ToSign {
  method: string;
  /** With the query, as sent. */
  path: string;
  headers: Readonly<Record<string, string>>;
  signed: readonly string[];
  region: string;
}

function sign(
  flavour: Flavour,
  id: string,
  key: string,
  { method, path, headers, signed, region }: ToSign,
): string {
  const time = headers[`${flavour.headers}date`] ?? '';
  const [place = '', query = ''] = path.split('?');
  const parameters = query
    .split('&')
    .filter(Boolean)
    .map(parameter => (parameter.includes('=') ? parameter : `${parameter}=`));
  const lines = signed.map(name => `${name}:${headers[name]}\n`);
  const contents = headers[`${flavour.headers}content-sha256`];
  const text = [method, place, parameters.sort().join('&'), lines.join(''), signed.join(';'), contents].join(
    '\n',
  );
  const scope = [time.slice(0, 8), region, flavour.service, flavour.end];
  let derived: string | Buffer = flavour.prefix + key;
  for (const part of scope) derived = createHmac('sha256', derived).update(part).digest();
  const toSign = [flavour.algorithm, time, scope.join('/'), sha256(text)].join('\n');
  const signature = createHmac('sha256', derived).update(toSign).digest('hex');
  return `${flavour.algorithm} Credential=${id}/${scope.join('/')}, SignedHeaders=${signed.join(';')}, Signature=${signature}`;
}

function sha256(bytes: Buffer | string): string {
  return createHash('sha256').update(bytes).digest('hex');
}

function compact(time: Date): string {
  return time.toISOString().replace(/[-:]|\.\d+/g, '');
}
