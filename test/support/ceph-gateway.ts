// A throwaway S3 server: Ceph's gateway with a cluster of one monitor and one disk in memory, on 127.0.0.1.

import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { closeSync, mkdirSync, openSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { CreateBucketCommand, PutBucketPolicyCommand, S3Client } from '@aws-sdk/client-s3';
import type { S3Options } from '../../src/storage/storage-options.ts';
import { type CephPrograms, ensureCeph } from '../services/install-ceph.ts';
import { killAfterExit } from './after-exit.ts';
import { freePort } from './free-port.ts';
import { waitFor } from './processes.ts';
import { makeTempFolder } from './temp-folder.ts';

/** What a bucket's policy may allow a user. */
export type S3Action =
  | 's3:ListBucket'
  | 's3:GetObject'
  | 's3:PutObject'
  | 's3:DeleteObject'
  | 's3:GetBucketObjectLockConfiguration';

export interface S3Policy {
  Version: string;
  Statement: { Effect: string; Action: string[]; Resource: string[] }[];
}

export interface S3User {
  accessKeyId: string;
  secretAccessKey: string;
}

/** Owns every bucket. */
const owner: S3User = { accessKeyId: 'PGKEEPOWNER', secretAccessKey: 'a secret of the owner' };
/** May do what the policy of a bucket allows, and nothing anywhere else. */
const guest: S3User = { accessKeyId: 'PGKEEPGUEST', secretAccessKey: 'a secret of the guest' };

/** For hooks that start the gateway: the first start of all fetches it. */
export const cephStartMs = 300_000;

export interface CephGateway extends AsyncDisposable {
  readonly port: number;
  readonly endpoint: string;
  readonly owner: S3User;
  readonly guest: S3User;
  /** For what tests do to buckets behind pgkeep's back. */
  readonly client: S3Client;
  /** Makes a bucket with a name of its own; the guest may do these things in it, or what a policy for `my-bucket` allows. */
  makeBucket(guestMay?: readonly S3Action[] | S3Policy, options?: { objectLock?: boolean }): Promise<string>;
  /** What the guest may do in a bucket from now on, in place of what it might before. */
  allowGuest(bucket: string, guestMay: readonly S3Action[] | S3Policy): Promise<void>;
  /** What pgkeep needs to reach the gateway, as the owner unless another is named; through another port if one is given. */
  options(as?: S3User, port?: number): S3Options;
  /** Ends it; what it held is gone. */
  stop(): Promise<void>;
}

/** Starts the gateway and its cluster; takes about two seconds. */
export async function startCephGateway(): Promise<CephGateway> {
  const ceph = await ensureCeph(line => process.stderr.write(`${line}\n`));
  const folder = makeTempFolder('ceph');
  const port = await freePort();
  const cluster = new Cluster(ceph, folder.path, port, await freePort());
  try {
    await cluster.start();
  } catch (error) {
    await cluster.stop();
    await folder.remove();
    throw error;
  }
  const endpoint = `http://127.0.0.1:${port}`;
  const client = new S3Client({ endpoint, region: 'us-east-1', forcePathStyle: true, credentials: owner });
  let buckets = 0;
  const allowGuest = async (bucket: string, guestMay: readonly S3Action[] | S3Policy) => {
    const policy = 'Statement' in guestMay ? guestMay : policyOf(guestMay);
    // Attached to the bucket, a policy has to say whom it is about.
    const guests = { Principal: { AWS: ['arn:aws:iam:::user/guest'] } };
    const statements = policy.Statement.map(statement => ({ ...statement, ...guests }));
    const Policy = JSON.stringify({ ...policy, Statement: statements }).replaceAll('my-bucket', bucket);
    if (statements.length > 0) await client.send(new PutBucketPolicyCommand({ Bucket: bucket, Policy }));
  };
  return {
    port,
    endpoint,
    owner,
    guest,
    client,
    async makeBucket(guestMay = [], { objectLock = false } = {}) {
      const bucket = `bucket-${++buckets}`;
      await client.send(new CreateBucketCommand({ Bucket: bucket, ObjectLockEnabledForBucket: objectLock }));
      await allowGuest(bucket, guestMay);
      return bucket;
    },
    allowGuest,
    options: (as = owner, through = port) => ({ endpoint: `http://127.0.0.1:${through}`, ...as }),
    stop: () => cluster.stop(),
    async [Symbol.asyncDispose]() {
      client.destroy();
      await cluster.stop();
      await folder.remove();
    },
  };
}

function policyOf(actions: readonly S3Action[]): S3Policy {
  const Resource = ['arn:aws:s3:::my-bucket', 'arn:aws:s3:::my-bucket/*'];
  const statement = { Effect: 'Allow', Action: [...actions], Resource };
  return { Version: '2012-10-17', Statement: actions.length > 0 ? [statement] : [] };
}

class Cluster {
  readonly #ceph: CephPrograms;
  readonly #folder: string;
  readonly #port: number;
  readonly #monitorPort: number;
  readonly #running: { child: ChildProcess; forget: () => void }[] = [];

  constructor(ceph: CephPrograms, folder: string, port: number, monitorPort: number) {
    this.#ceph = ceph;
    this.#folder = folder;
    this.#port = port;
    this.#monitorPort = monitorPort;
  }

  async start(): Promise<void> {
    for (const name of ['run', 'mon', 'osd0', 'rgw', 'log']) mkdirSync(join(this.#folder, name));
    const id = randomUUID();
    const address = `[v2:127.0.0.1:${this.#monitorPort}]`;
    writeFileSync(join(this.#folder, 'ceph.conf'), this.#configuration(id, address));
    await this.#run('monmaptool', '--create', '--clobber', '--addv', 'a', address, '--fsid', id, 'monmap');
    // Made beforehand, so that no manager and no Python are needed.
    await this.#run('osdmaptool', '--clobber', '--createsimple', '1', 'osdmap');
    await this.#run(
      'ceph-authtool',
      '--create-keyring',
      'keyring',
      '--gen-key',
      '-n',
      'mon.',
      '--cap',
      'mon',
      'allow *',
    );
    for (const name of ['client.admin', 'client.rgw', 'osd.0']) {
      const caps = ['--cap', 'mon', 'allow *', '--cap', 'osd', 'allow *'];
      await this.#run('ceph-authtool', 'keyring', '--gen-key', '-n', name, ...caps);
    }
    const maps = ['--monmap', 'monmap', '--osdmap', 'osdmap', '--keyring', 'keyring'];
    await this.#run('ceph-mon', ...this.#as('a'), '--mkfs', ...maps);
    this.#begin('ceph-mon', ...this.#as('a'), '-f');
    await this.#run('ceph-osd', ...this.#as('0'), '--mkfs', '--osd-uuid', randomUUID());
    this.#begin('ceph-osd', ...this.#as('0'), '-f');
    await this.#addUser('owner', owner);
    this.#begin('radosgw', '-c', 'ceph.conf', '-n', 'client.rgw', '-f');
    await this.#addUser('guest', guest);
    const answers = () =>
      fetch(`http://127.0.0.1:${this.#port}/`).then(
        () => true,
        () => false,
      );
    await waitFor(`the gateway to answer; see ${this.#folder}/log`, answers, 60_000);
  }

  async stop(): Promise<void> {
    for (const { child, forget } of this.#running.splice(0).reverse()) {
      // Asked politely it takes seconds, and there is nothing to keep.
      if (child.exitCode === null && child.signalCode === null && child.kill('SIGKILL'))
        await once(child, 'exit');
      forget();
    }
  }

  async #addUser(uid: string, { accessKeyId, secretAccessKey }: S3User): Promise<void> {
    const keys = [`--access-key=${accessKeyId}`, `--secret-key=${secretAccessKey}`];
    await this.#run(
      'radosgw-admin',
      '-c',
      'ceph.conf',
      'user',
      'create',
      `--uid=${uid}`,
      `--display-name=${uid}`,
      ...keys,
    );
  }

  #as(id: string): string[] {
    return ['-c', 'ceph.conf', '-i', id];
  }

  async #run(program: string, ...args: string[]): Promise<void> {
    const [file, words] = this.#command(program, args);
    try {
      await promisify(execFile)(file, words, { cwd: this.#folder, timeout: 60_000, maxBuffer: 1 << 26 });
    } catch (error) {
      throw new Error(`${program} ${args.slice(0, 4).join(' ')} … failed`, { cause: error });
    }
  }

  #begin(program: string, ...args: string[]): void {
    const [file, words] = this.#command(program, args);
    const log = openSync(join(this.#folder, 'log', `${program}.out`), 'w');
    const child = spawn(file, words, { cwd: this.#folder, stdio: ['ignore', log, log] });
    closeSync(log);
    if (child.pid === undefined) throw new Error(`${program} did not start`);
    this.#running.push({ child, forget: killAfterExit(child.pid) });
  }

  #command(program: string, args: readonly string[]): [string, string[]] {
    const { folder, libraries } = this.#ceph;
    const loader = join(
      libraries,
      process.arch === 'arm64' ? 'ld-linux-aarch64.so.1' : 'ld-linux-x86-64.so.2',
    );
    const words = ['--library-path', `${libraries}:${libraries}/ceph`, '--argv0', program];
    return [loader, [...words, join(folder, 'usr/bin', program), ...args]];
  }

  #configuration(id: string, address: string): string {
    const { libraries } = this.#ceph;
    const inFolder = (name: string) => join(this.#folder, name);
    return `[global]
fsid = ${id}
mon host = ${address}
public addr = 127.0.0.1
cluster addr = 127.0.0.1
auth cluster required = cephx
auth service required = cephx
auth client required = cephx
keyring = ${inFolder('keyring')}
run dir = ${inFolder('run')}
admin socket = ${inFolder('run')}/$name.asok
log file = ${inFolder('log')}/$name.log
pid file =
plugin dir = ${libraries}/ceph
erasure code dir = ${libraries}/ceph/erasure-code
osd class dir = ${libraries}/rados-classes
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 8
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon allow pool size one = true
mon max pg per osd = 5000
ms bind ipv6 = false
paxos propose interval = 0.05
paxos min wait = 0.01
[mon]
mon data = ${inFolder('mon')}
[osd]
osd data = ${inFolder('osd0')}
osd objectstore = memstore
memstore device bytes = 4294967296
osd crush update on start = false
osd class load list = *
osd class default list = *
[client]
rgw data = ${inFolder('rgw')}
rgw frontends = beast endpoint=127.0.0.1:${this.#port} tcp_nodelay=1
rgw enable apis = s3
rgw thread pool size = 32
`;
  }
}
