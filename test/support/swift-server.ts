// A throwaway S3 server that lacks some of what S3 has: OpenStack Swift with its s3api, on 127.0.0.1. It answers 501 to
// conditional puts and ignores Object Lock; everything else pgkeep asks for it does.

import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, mkdirSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { userInfo } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { CreateBucketCommand, S3Client } from '@aws-sdk/client-s3';
import type { S3Options } from '../../src/storage/storage-options.ts';
import { ensureSwift, type SwiftPrograms } from '../services/install-swift.ts';
import { killAfterExit } from './after-exit.ts';
import type { S3User } from './ceph-gateway.ts';
import { freePort } from './free-port.ts';
import { waitFor } from './processes.ts';
import { makeTempFolder } from './temp-folder.ts';

/** Owns every bucket; Swift's names of users have the account in front. */
const owner: S3User = { accessKeyId: 'pgkeep:owner', secretAccessKey: 'SecretOfTheOwner' };

/** How many objects a page of a listing has; short, as every put is on the disk before it is acknowledged. */
export const swiftPageLength = 50;

export interface SwiftServer extends AsyncDisposable {
  readonly port: number;
  readonly endpoint: string;
  readonly owner: S3User;
  /** For what tests do to buckets behind pgkeep's back. */
  readonly client: S3Client;
  /** Makes a bucket with a name of its own. */
  makeBucket(): Promise<string>;
  /** What pgkeep needs to reach the server; through another port if one is given. */
  options(as?: S3User, port?: number): S3Options;
  stop(): Promise<void>;
}

/** Starts Swift, one process for each of its parts; takes about two seconds. */
export async function startSwiftServer(): Promise<SwiftServer> {
  const swift = await ensureSwift(line => process.stderr.write(`${line}\n`));
  const folder = makeTempFolder('swift');
  const parts = new Parts(swift, folder.path);
  let port: number;
  try {
    port = await parts.start();
  } catch (error) {
    await parts.stop();
    await folder.remove();
    throw error;
  }
  const endpoint = `http://127.0.0.1:${port}`;
  const client = new S3Client({ endpoint, region: 'us-east-1', forcePathStyle: true, credentials: owner });
  let buckets = 0;
  return {
    port,
    endpoint,
    owner,
    client,
    async makeBucket() {
      const bucket = `bucket-${++buckets}`;
      await client.send(new CreateBucketCommand({ Bucket: bucket }));
      return bucket;
    },
    options: (as = owner, through = port) => ({ endpoint: `http://127.0.0.1:${through}`, ...as }),
    stop: () => parts.stop(),
    async [Symbol.asyncDispose]() {
      client.destroy();
      await parts.stop();
      await folder.remove();
    },
  };
}

/** Where the configuration is stands in Swift's code: changed before anything reads it. */
const runModule = `
import sys
from importlib import import_module
from swift.common import utils
utils.set_swift_dir(sys.argv.pop(1))
import_module(sys.argv.pop(1)).main()
`;

/** A ring says which disk holds what: here all of it is on one. */
const makeRings = `
import sys
from swift.common.ring import RingBuilder
folder, *rings = sys.argv[1:]
for ring in rings:
    name, port = ring.split(':')
    builder = RingBuilder(2, 1, 0)
    builder.add_dev({'region': 1, 'zone': 1, 'ip': '127.0.0.1', 'port': int(port), 'device': 'disk', 'weight': 1})
    builder.rebalance()
    builder.get_ring().save(folder + '/' + name + '.ring.gz')
`;

const stores = ['account', 'container', 'object'] as const;

/** The part that speaks S3. A busy machine is no reason for it to take another part for dead. */
function pipeline(cachePort: number): string {
  return `[pipeline:main]
pipeline = catch_errors gatekeeper cache listing_formats bulk s3api tempauth slo versioned_writes symlink proxy-server
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
node_timeout = 60
recoverable_node_timeout = 60
conn_timeout = 10
error_suppression_limit = 1000000
[filter:cache]
use = egg:swift#memcache
memcache_servers = 127.0.0.1:${cachePort}
[filter:tempauth]
use = egg:swift#tempauth
user_${owner.accessKeyId.replace(':', '_')} = ${owner.secretAccessKey} .admin
${['catch_errors', 'gatekeeper', 'listing_formats', 'bulk', 'slo', 'versioned_writes', 'symlink', 's3api']
  .map(name => `[filter:${name}]\nuse = egg:swift#${name}\n`)
  .join('')}max_bucket_listing = ${swiftPageLength}
`;
}

class Parts {
  readonly #swift: SwiftPrograms;
  readonly #folder: string;
  readonly #running: { name: string; child: ChildProcess; forget: () => void }[] = [];

  constructor(swift: SwiftPrograms, folder: string) {
    this.#swift = swift;
    this.#folder = folder;
  }

  /** @returns the port that speaks S3. */
  async start(): Promise<number> {
    const inFolder = (name: string) => join(this.#folder, name);
    mkdirSync(inFolder('disks/disk'), { recursive: true });
    writeFileSync(inFolder('swift.conf'), '[swift-hash]\nswift_hash_path_suffix = test\n');
    const ports = { proxy: 0, account: 0, container: 0, object: 0, cache: 0 };
    const taken = new Set<number>();
    for (const name of Object.keys(ports) as (keyof typeof ports)[]) {
      do ports[name] = await freePort();
      while (taken.has(ports[name]));
      taken.add(ports[name]);
    }
    const [python = '', ...words] = this.#swift.python;
    const rings = stores.map(name => `${name}:${ports[name]}`);
    await promisify(execFile)(python, [...words, '-c', makeRings, this.#folder, ...rings], {
      env: this.#swift.pythonEnvironment,
    });
    const user = userInfo().username;
    const address = ['-l', '127.0.0.1', '-p', String(ports.cache)];
    this.#begin('memcached', [...this.#swift.memcached, ...address, '-m', '16', '-u', user]);
    const general = (name: keyof typeof ports) => `[DEFAULT]
swift_dir = ${this.#folder}
devices = ${inFolder('disks')}
bind_ip = 127.0.0.1
bind_port = ${ports[name]}
user = ${user}
workers = 0
mount_check = false
disable_fallocate = true
`;
    for (const name of stores) {
      // A listing shows what was put before, however busy the machine is.
      const configuration = `${general(name)}container_update_timeout = 60
[pipeline:main]
pipeline = ${name}-server
[app:${name}-server]
use = egg:swift#${name}
`;
      this.#beginModule(name === 'object' ? 'swift.obj.server' : `swift.${name}.server`, configuration);
    }
    this.#beginModule('swift.proxy.server', `${general('proxy')}${pipeline(ports.cache)}`);
    for (const name of [...stores, 'proxy'] as const) {
      const answers = () =>
        fetch(`http://127.0.0.1:${ports[name]}/`).then(
          () => true,
          () => this.#requireAlive(),
        );
      await waitFor(`Swift's ${name} server to answer`, answers, 60_000);
    }
    return ports.proxy;
  }

  async stop(): Promise<void> {
    for (const { child, forget } of this.#running.splice(0).reverse()) {
      if (child.exitCode === null && child.signalCode === null && child.kill('SIGKILL'))
        await once(child, 'exit');
      forget();
    }
  }

  /** @throws Error with the last words of a part that has ended. */
  #requireAlive(): false {
    const ended = this.#running.find(({ child }) => child.exitCode !== null || child.signalCode !== null);
    if (ended === undefined) return false;
    throw new Error(
      `${ended.name} has ended: ${readFileSync(join(this.#folder, `${ended.name}.out`), 'utf8')}`,
    );
  }

  #beginModule(module: string, configuration: string): void {
    const file = join(this.#folder, `${module}.conf`);
    writeFileSync(file, configuration);
    this.#begin(module, [...this.#swift.python, '-c', runModule, this.#folder, module, file, '-v']);
  }

  #begin(name: string, [program = '', ...args]: readonly string[]): void {
    const log = openSync(join(this.#folder, `${name}.out`), 'w');
    const child = spawn(program, args, {
      cwd: this.#folder,
      env: this.#swift.pythonEnvironment,
      stdio: ['ignore', log, log],
    });
    closeSync(log);
    if (child.pid === undefined) throw new Error(`${name} did not start`);
    this.#running.push({ name, child, forget: killAfterExit(child.pid) });
  }
}
