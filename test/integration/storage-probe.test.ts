// What `pgkeep storage probe` says of S3 stores: one that does everything, one that lacks conditional puts, one that claims to
// have them; with all rights and with some; and that nothing stays behind, whatever the end.

import { ListObjectsV2Command, PutObjectLockConfigurationCommand } from '@aws-sdk/client-s3';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { CheckStatus } from '../../src/operations/checklist.ts';
import type { ProbeStorageResult } from '../../src/operations/probe-storage.ts';
import { type CephGateway, cephStartMs, startCephGateway } from '../support/ceph-gateway.ts';
import { runCli } from '../support/cli-io.ts';
import { type HttpFaults, s3Error, startHttpFaults } from '../support/http-faults.ts';
import { startPgkeep } from '../support/pgkeep-process.ts';
import { startSwiftServer } from '../support/swift-server.ts';
import { makeTempFolder } from '../support/temp-folder.ts';

let ceph: CephGateway;
let between: HttpFaults;
const cwd = makeTempFolder('probe').path;

beforeAll(async () => {
  ceph = await startCephGateway();
  between = await startHttpFaults(ceph.port);
}, cephStartMs);
afterAll(async () => {
  await between[Symbol.asyncDispose]();
  await ceph[Symbol.asyncDispose]();
});

interface Where {
  bucket: string;
  as?: { accessKeyId: string; secretAccessKey: string };
  port?: number;
  measure?: boolean;
  env?: Record<string, string>;
}

function environment({
  bucket,
  as = ceph.owner,
  port = ceph.port,
  measure = false,
  env = {},
}: Where): Record<string, string> {
  return {
    BACKUP_STORAGE_TYPE: 's3',
    S3_BACKUP_BUCKET: bucket,
    BACKUP_STORAGE_PATH: 'some/prefix',
    AWS_ENDPOINT_URL_S3: `http://127.0.0.1:${port}`,
    AWS_ACCESS_KEY_ID: as.accessKeyId,
    AWS_SECRET_ACCESS_KEY: as.secretAccessKey,
    // Under a limit the rates are not measured, which takes the most of a probe.
    ...(!measure && { PGKEEP_LIMIT_UPLOAD: '1GiB' }),
    ...env,
  };
}

/** The report as JSON, with the status of each check by its name. */
async function probe(
  where: Where,
  ...flags: string[]
): Promise<ProbeStorageResult & { exitCode: number; statusOf: Record<string, CheckStatus> }> {
  const argv = ['storage', 'probe', '--json', ...flags];
  const { exitCode, out } = await runCli(argv, { env: environment(where), cwd });
  expect(out).not.toContain((where.as ?? ceph.owner).secretAccessKey);
  const report: ProbeStorageResult = JSON.parse(out);
  const statusOf = Object.fromEntries(report.checks.map(({ name, status }) => [name, status]));
  expect(report.ok).toBe(exitCode === 0);
  return { ...report, exitCode, statusOf };
}

function check(report: ProbeStorageResult, name: string) {
  return report.checks.find(one => one.name === name);
}

async function keysIn(bucket: string, client = ceph.client): Promise<string[]> {
  const { Contents = [] } = await client.send(new ListObjectsV2Command({ Bucket: bucket }));
  return Contents.map(({ Key = '' }) => Key);
}

test('a store that does everything: no warning, what it took is measured, and nothing stays', async () => {
  const bucket = await ceph.makeBucket();
  const report = await probe({ bucket, measure: true }, '--thorough');
  expect(report.counts).toEqual({ ok: report.checks.length, warning: 0, failure: 0, skipped: 0 });
  expect(report.repository).toBe(`s3://${bucket}/some/prefix`);
  expect(check(report, 'object-lock')?.message).toContain('cannot be locked');
  expect(check(report, 'cleaned-up')?.message).toBe('nothing of the probe is left in the storage');
  expect(check(report, 'pages')?.message).toContain('1,100 objects is complete');
  // What is done at once depends on how fast one alone was.
  const { putAtOnceBytesPerSecond: _, getAtOnceBytesPerSecond: __, ...measured } = report.measured;
  for (const value of Object.values(measured)) expect(value).toBeGreaterThan(0);
  expect(report.left).toEqual([]);
  expect(await keysIn(bucket)).toEqual([]);
});

test('for people: a line for each check, the way to mend below it, nothing on stderr', async () => {
  const env = environment({ bucket: await ceph.makeBucket(), measure: true });
  const { exitCode, out, err } = await runCli(['storage', 'probe'], { env, cwd });
  expect([exitCode, err]).toEqual([0, '']);
  expect(out).toMatch(/^ok {7}reachable +s3:\/\/bucket-\d+\/some\/prefix answers\n/);
  expect(out).toMatch(/\nok +latency +a small object is stored in .+, read in/);
  expect(out).toMatch(/\nok +throughput +stores [\d.]+ .iB\/s(, [\d.]+ .iB\/s with 4 at once)?; reads/);
  expect(out).toMatch(/\n\d+ checks: \d+ ok, 0 warnings, 0 failures, 0 skipped\n$/);
});

describe('a store without conditional puts', () => {
  test(
    'that answers 501: a warning, and what pgkeep does instead',
    async () => {
      await using swift = await startSwiftServer();
      const bucket = await swift.makeBucket();
      const report = await probe({ bucket, as: swift.owner, port: swift.port });
      expect(report.exitCode).toBe(0);
      expect(check(report, 'conditional-put')).toMatchObject({
        status: 'warning',
        message: expect.stringMatching(/does not know puts on condition \(501\): pgkeep looks first/),
        remedy: expect.stringContaining('from one machine'),
      });
      expect(check(report, 'conditional-put-at-once')?.message).toMatch(/^of 16 puts at once/);
      expect(report.counts.failure).toBe(0);
      expect(await keysIn(bucket, swift.client)).toEqual([]);
    },
    cephStartMs,
  );

  test('that ignores the condition', async () => {
    const bucket = await ceph.makeBucket();
    between.decide(({ headers }) => (headers['if-none-match'] === undefined ? 'forward' : { claim: 200 }));
    const report = await probe({ bucket, port: between.port });
    between.decide(() => 'forward');
    expect(report.exitCode).toBe(0);
    expect(check(report, 'conditional-put')).toMatchObject({
      status: 'warning',
      message: expect.stringContaining('ignores the condition: pgkeep looks first'),
    });
    expect(await keysIn(bucket)).toEqual([]);
  });
});

describe('missing rights are findings', () => {
  test('to remove: a warning, what stays is named, and little stays', async () => {
    const bucket = await ceph.makeBucket(['s3:ListBucket', 's3:GetObject', 's3:PutObject']);
    const report = await probe({ bucket, as: ceph.guest, measure: true }, '--thorough');
    expect(report.exitCode).toBe(0);
    expect(check(report, 'remove')).toMatchObject({
      status: 'warning',
      message: expect.stringMatching(/: create and restore work, cleanup and delete need other credentials$/),
    });
    const keys = await keysIn(bucket);
    expect(keys.length).toBeGreaterThan(10);
    expect(report.left.map(name => `some/prefix/${name}`)).toEqual(keys);
    expect(check(report, 'cleaned-up')).toMatchObject({
      status: 'warning',
      message: expect.stringContaining(`${keys.length} objects of the probe stay below probe/`),
      remedy: expect.stringContaining('a probe by a user who may remove objects'),
    });
    expect(keys.filter(key => key.includes('/large/'))).toHaveLength(1);
    expect(report.statusOf.pages).toBe('skipped');
    expect(check(report, 'object-lock')).toMatchObject({
      status: 'skipped',
      message: expect.stringContaining('not to be seen'),
    });
    // Too young for another probe: it may be under way.
    const second = await probe({ bucket });
    expect(second.left).toEqual([]);
    expect(await keysIn(bucket)).toEqual(keys);
  });

  test('to store: a failure, and what still works is told', async () => {
    const bucket = await ceph.makeBucket(['s3:ListBucket', 's3:GetObject']);
    const report = await probe({ bucket, as: ceph.guest });
    expect(report.exitCode).toBe(11);
    expect(check(report, 'put')?.message).toMatch(/: create and cleanup cannot work, a restore can$/);
    expect(report.statusOf).toMatchObject({
      list: 'ok',
      put: 'failure',
      get: 'ok',
      stat: 'ok',
      remove: 'skipped',
    });
    expect(report.counts.failure).toBe(1);
  });

  test.each([
    ['to list', 's3:ListBucket', 'list', 'get'],
    ['to read', 's3:GetObject', 'get', 'list'],
  ] as const)('%s: a failure', async (_, action, missing, other) => {
    const Resource = ['arn:aws:s3:::my-bucket', 'arn:aws:s3:::my-bucket/*'];
    const statements = [
      { Effect: 'Allow', Action: ['s3:*'], Resource },
      // Whoever stores an object may read it, unless that is denied.
      { Effect: 'Deny', Action: [action], Resource },
    ];
    const bucket = await ceph.makeBucket({ Version: '2012-10-17', Statement: statements });
    const report = await probe({ bucket, as: ceph.guest });
    expect(report.exitCode).toBe(11);
    expect(report.statusOf).toMatchObject({ [missing]: 'failure', [other]: 'ok', put: 'ok', remove: 'ok' });
    expect(report.statusOf['largest-object']).toBe('skipped');
    expect(report.left).toEqual([]);
    expect(await keysIn(bucket)).toEqual([]);
  });
});

test.each([
  ['a bucket that is missing', () => ({ bucket: 'none-such' }), 'make the bucket'],
  [
    'a wrong key',
    () => ({ bucket: 'any', as: { ...ceph.owner, secretAccessKey: 'another secret' } }),
    'check AWS_ACCESS_KEY_ID',
  ],
])('%s: it could not be reached, and nothing else is tried', async (_, where, remedy) => {
  const report = await probe(where());
  expect(report.exitCode).toBe(11);
  expect(check(report, 'reachable')).toMatchObject({
    status: 'failure',
    remedy: expect.stringContaining(remedy),
  });
  expect(report.counts).toEqual({ ok: 0, warning: 0, failure: 1, skipped: report.checks.length - 1 });
});

test('a store that refuses checksums of their own: what to set where they are sent', async () => {
  const bucket = await ceph.makeBucket();
  between.decide(({ headers }) =>
    headers['x-amz-checksum-crc32'] === undefined ? 'forward' : s3Error(501, 'NotImplemented'),
  );
  const without = await probe({ bucket, port: between.port });
  const env = { AWS_REQUEST_CHECKSUM_CALCULATION: 'when_supported' };
  const sent = await probe({ bucket, port: between.port, env });
  between.decide(() => 'forward');
  expect(without.exitCode).toBe(0);
  expect(check(without, 'checksums')).toMatchObject({
    status: 'ok',
    message: expect.stringContaining('refuses those with checksums'),
  });
  expect(sent.exitCode).toBe(11);
  expect(sent.statusOf).toMatchObject({ put: 'failure', checksums: 'failure' });
  expect(check(sent, 'checksums')?.remedy).toBe('set AWS_REQUEST_CHECKSUM_CALCULATION=when_required');
  expect(await keysIn(bucket)).toEqual([]);
});

test('a bucket that keeps versions: what is removed stays and costs', async () => {
  const bucket = await ceph.makeBucket([], { objectLock: true });
  const DefaultRetention = { Mode: 'GOVERNANCE', Days: 1 } as const;
  const ObjectLockConfiguration = { ObjectLockEnabled: 'Enabled', Rule: { DefaultRetention } } as const;
  await ceph.client.send(new PutObjectLockConfigurationCommand({ Bucket: bucket, ObjectLockConfiguration }));
  const report = await probe({ bucket, measure: true });
  expect(report.exitCode).toBe(0);
  expect(check(report, 'versions')).toMatchObject({
    status: 'warning',
    message: expect.stringContaining('stays there and costs'),
  });
  expect(report.measured.putAtOnceBytesPerSecond).toBeNull();
  expect(check(report, 'cleaned-up')).toMatchObject({
    status: 'ok',
    message: 'nothing of the probe is left in the storage but older versions',
  });
  expect(check(report, 'object-lock')).toMatchObject({
    status: 'ok',
    message: expect.stringContaining(
      'can be locked (--lock-days); without it every object is locked in governance mode for 1 day',
    ),
  });
});

test('a request that is refused in the middle is one finding, and what cannot be removed another', async () => {
  const bucket = await ceph.makeBucket();
  between.decide(({ method, path }) => {
    const isRefused =
      (method === 'PUT' && path.includes('/names/')) || (method === 'DELETE' && path.includes('/small/3'));
    return isRefused ? s3Error(400, 'InvalidArgument') : 'forward';
  });
  const report = await probe({ bucket, port: between.port });
  between.decide(() => 'forward');
  expect(report.exitCode).toBe(11);
  const planned = expect.stringContaining('a planned InvalidArgument');
  expect(report.checks.filter(({ status }) => status !== 'ok')).toMatchObject([
    { name: 'names', status: 'failure', message: planned },
    { name: 'cleaned-up', status: 'warning', message: planned },
  ]);
  expect(report.left).toEqual([expect.stringMatching(/^probe\/.*\/small\/3$/)]);
  expect(await keysIn(bucket)).toEqual([`some/prefix/${report.left[0]}`]);
});

describe('Ctrl-C', () => {
  test.each([
    ['when one has just been stored', '/first', 'lose-answer'],
    ['while many want the same name', '/race', 'hang'],
    ['while a large object is on its way', '/large/0', { cutRequestAfter: 1_000_000 }],
  ] as const)('%s: it ends, and what it stored is removed', async (_, part, verdict) => {
    const bucket = await ceph.makeBucket();
    const run = startPgkeep(['storage', 'probe'], {
      env: environment({ bucket, port: between.port, measure: part === '/large/0' }),
    });
    let isMet = false;
    between.decide(({ method, path }) => {
      if (isMet || method !== 'PUT' || !path.includes(part)) return 'forward';
      isMet = true;
      run.kill('SIGINT');
      return verdict;
    });
    const { exitCode, out, err } = await run.ended;
    between.decide(() => 'forward');
    expect(isMet).toBe(true);
    expect([exitCode, out]).toEqual([130, '']);
    expect(err).toContain('[INTERRUPTED]');
    expect(err).not.toContain('stay below');
    expect(await keysIn(bucket)).toEqual([]);
  });

  test('by a user who may not remove: what stays is named all the same', async () => {
    const bucket = await ceph.makeBucket(['s3:ListBucket', 's3:GetObject', 's3:PutObject']);
    const env = environment({ bucket, as: ceph.guest, port: between.port });
    const run = startPgkeep(['storage', 'probe'], { env });
    let isMet = false;
    between.decide(({ path }) => {
      if (path.includes('/small/3') && !isMet) run.kill('SIGINT');
      isMet ||= path.includes('/small/3');
      return 'forward';
    });
    const { exitCode, err } = await run.ended;
    between.decide(() => 'forward');
    const keys = await keysIn(bucket);
    const folder = /probe\/[^/]+\//.exec(keys[0] ?? '')?.[0];
    expect(exitCode).toBe(130);
    expect(err).toContain(`${keys.length} objects of the probe stay below ${folder}`);
  });
});
