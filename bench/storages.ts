// Measures the same backups in a folder and in stores on this machine, which pgkeep reaches as it would reach them
// elsewhere: first and second backups, restores, one table of many; beside restic, fed by pg_dump, and rclone, which
// copies the finished folder. Every round has new repositories; who goes first rotates.

import { execFile } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { startAzurite } from '../test/support/azurite.ts';
import { startCephGateway } from '../test/support/ceph-gateway.ts';
import { startSftpServer } from '../test/support/sftp-server.ts';
import { dumpInto, run } from './backup-tools.ts';
import { rotate } from './incremental.ts';
import type { Tools } from './install-tools.ts';
import { measure, type Program } from './measure.ts';
import type { StepResult } from './report.ts';
import { runStep, say } from './run-step.ts';
import {
  type Bench,
  countTraffic,
  environment,
  jobs,
  type Outcome,
  pgkeep,
  remove,
  restore,
  restoreProgram,
  type Step,
  settle,
  sources,
} from './steps.ts';

/** Where backups go. Addresses are those of something by this name in it. */
interface Store {
  name: StoreName;
  title: string;
  pgkeep: { address(name: string): string; env: Program['env'] };
  rclone: { address(name: string): string; env: Program['env'] };
  /** Missing where restic cannot reach it. */
  restic?: { address(name: string): string; env: Program['env']; args: readonly string[] };
}
export type StoreName = 'folder' | 's3' | 'azure' | 'sftp';

/** Of the data, those restored by themselves: the largest, and one of the many small. */
export const tablesAlone = ['event', 'setting_100'] as const;

/** In the order they are shown. */
export const storageGroups = [
  { name: 'create', title: 'First backup, into a new repository' },
  { name: 'copy', title: 'Copying the finished repository from the folder' },
  { name: 'again', title: 'The next backup, nothing changed' },
  { name: 'restore', title: 'Restore' },
  { name: 'table', title: 'One table of many: stored alone in a folder, restored from S3' },
] as const;

/** @returns a result for each step, `<verb> <store>`; those of a group in the order of the first round. */
export async function measureStorages(bench: Bench, tools: Tools, rounds: number): Promise<StepResult[]> {
  say('starting Ceph, Azurite and OpenSSH');
  await using ceph = await startCephGateway();
  await using azurite = await startAzurite();
  await using sftp = await startSftpServer();
  const bucket = await ceph.makeBucket();
  await azurite.createContainer(bucket);
  const azure = azurite.login();
  const { keyFile, knownHostsFile } = sftp.login;
  // Which knows no pattern for ports.
  const knownHostsOfGo = join(bench.folder, 'known_hosts');
  const hostKeys = (['ed25519', 'rsa'] as const).map(
    type => `[127.0.0.1]:${sftp.port} ${sftp.hostKey(type)}\n`,
  );
  await writeFile(knownHostsOfGo, hostKeys.join(''));
  const aws = {
    AWS_ACCESS_KEY_ID: ceph.owner.accessKeyId,
    AWS_SECRET_ACCESS_KEY: ceph.owner.secretAccessKey,
    AWS_ENDPOINT_URL_S3: ceph.endpoint,
    AWS_REGION: 'us-east-1',
  };
  const inFolder = (name: string) => join(bench.folder, 'storages', name);
  const stores: Store[] = [
    {
      name: 'folder',
      title: 'a folder',
      pgkeep: { address: inFolder, env: {} },
      rclone: { address: inFolder, env: {} },
      restic: { address: inFolder, env: {}, args: [] },
    },
    {
      name: 's3',
      title: 'S3 (Ceph)',
      pgkeep: { address: name => `s3://${bucket}/${name}`, env: aws },
      rclone: {
        address: name => `s3:${bucket}/${name}`,
        env: rcloneEnv('s3', {
          provider: 'Ceph',
          endpoint: ceph.endpoint,
          access_key_id: ceph.owner.accessKeyId,
          secret_access_key: ceph.owner.secretAccessKey,
          no_check_bucket: 'true',
        }),
      },
      restic: { address: name => `s3:${ceph.endpoint}/${bucket}/${name}`, env: aws, args: [] },
    },
    {
      name: 'azure',
      title: 'Azure (Azurite)',
      pgkeep: {
        address: name => `azure://${bucket}/${name}`,
        env: {
          AZURE_STORAGE_ACCOUNT: azure.account,
          AZURE_STORAGE_KEY: azure.key,
          AZURE_STORAGE_SERVICE_ENDPOINT: azure.endpoint,
        },
      },
      rclone: {
        address: name => `azureblob:${bucket}/${name}`,
        // With account and key it reaches none but Microsoft's domain and a fixed port.
        env: rcloneEnv('azureblob', { sas_url: `${azure.endpoint}?${azurite.sas('rwdlac')}` }),
      },
    },
    {
      name: 'sftp',
      title: 'SFTP (OpenSSH)',
      pgkeep: {
        address: name => sftp.url(name),
        env: { SFTP_KEY_FILE: keyFile, SFTP_KNOWN_HOSTS: knownHostsFile },
      },
      rclone: {
        address: name => `sftp:${sftp.folder}/${name}`,
        env: rcloneEnv('sftp', {
          host: '127.0.0.1',
          port: String(sftp.port),
          user: sftp.user,
          key_file: keyFile,
          known_hosts_file: knownHostsOfGo,
          // The server runs no commands.
          shell_type: 'none',
          disable_hashcheck: 'true',
        }),
      },
      restic: {
        address: name => `sftp://${sftp.user}@127.0.0.1:${sftp.port}/${sftp.folder}/${name}`,
        env: {},
        args: [
          '-o',
          `sftp.args=-F none -i ${keyFile} -o IdentitiesOnly=yes -o UserKnownHostsFile=${knownHostsFile}`,
        ],
      },
    },
  ];
  return await new StorageRounds(bench, tools, stores).run(rounds);
}

/** What rclone reads in place of a configuration file, for a remote named as its type is. */
function rcloneEnv(type: string, settings: Readonly<Record<string, string>>): Program['env'] {
  return Object.fromEntries(
    Object.entries({ type, ...settings }).map(([name, value]) => [
      `RCLONE_CONFIG_${type}_${name}`.toUpperCase(),
      value,
    ]),
  );
}

class StorageRounds {
  readonly #bench: Bench;
  readonly #tools: Tools;
  readonly #stores: readonly Store[];
  #round = 0;

  constructor(bench: Bench, tools: Tools, stores: readonly Store[]) {
    this.#bench = bench;
    this.#tools = tools;
    this.#stores = stores;
  }

  async run(rounds: number): Promise<StepResult[]> {
    // The first run of a program compiles what the later ones find compiled.
    for (const store of this.#stores)
      await this.#create(store, 'warm-up', ['--table', `public.${tablesAlone[1]}`]);
    const results: StepResult[] = this.#steps().map(step => ({ step, outcomes: [] }));
    for (this.#round = 1; this.#round <= rounds; this.#round++) {
      for (const { name } of storageGroups) {
        const members = results.filter(({ step }) => step.group === name);
        for (const result of rotate(members, this.#round)) await runStep(this.#bench, result, this.#round);
      }
      await remove(this.#bench, 'storages');
    }
    return results;
  }

  #steps(): Step[] {
    const restic = this.#stores.filter(store => store.restic !== undefined);
    return [
      ...this.#stores.map(store =>
        step('create', store, `\`pgkeep create --jobs ${jobs}\``, () => this.#create(store)),
      ),
      ...restic.map(store =>
        step('restic', store, '`pg_dump -Fp \\| restic backup --stdin`', () => this.#restic(store), 'create'),
      ),
      ...this.#stores
        .filter(({ name }) => name !== 'folder')
        .map(store => step('rclone', store, '`rclone copy`', () => this.#rclone(store), 'copy')),
      ...this.#stores.map(store =>
        step('again', store, `\`pgkeep create --jobs ${jobs}\``, () => this.#create(store)),
      ),
      ...this.#stores.map(store =>
        step('restore', store, `\`pgkeep restore --jobs ${jobs} --create\``, () => this.#restore(store)),
      ),
      ...this.#stores
        .filter(({ name }) => name === 'folder' || name === 's3')
        .flatMap(store => tablesAlone.map(table => this.#tableStep(store, table))),
    ];
  }

  /** From S3 the table alone; in the folder a backup of nothing else, which says how much of it is stored. */
  #tableStep(store: Store, table: string): Step {
    return store.name === 'folder'
      ? {
          name: `alone ${table}`,
          title: `\`pgkeep create --table ${table}\`, a folder`,
          group: 'table',
          run: () => this.#create(store, `alone-${table}`, ['--table', `public.${table}`]),
        }
      : {
          name: `table ${table}`,
          title: `\`pgkeep restore --tables ${table} --create\``,
          group: 'table',
          run: () => this.#restore(store, ['--tables', `public.${table}`], table),
        };
  }

  #create(store: Store, name = 'pgkeep', args: readonly string[] = []): Promise<Outcome> {
    const address = store.pgkeep.address(this.#name(name));
    const command = ['create', '--repository', address, '--jobs', jobs, '--json', ...args];
    return countTraffic(this.#bench, reaching(store, pgkeep(this.#bench, command, sources.data)), program =>
      this.#measureStored(program, store, name),
    );
  }

  #restore(store: Store, args: readonly string[] = [], table?: string): Promise<Outcome> {
    const program = restoreProgram(this.#bench, store.pgkeep.address(this.#name('pgkeep')), [
      '--json',
      ...args,
    ]);
    return countTraffic(this.#bench, reaching(store, program), counted =>
      restore(this.#bench, sources.data, async () => counted, table),
    );
  }

  async #restic(store: Store): Promise<Outcome> {
    if (store.restic === undefined) throw new Error(`restic does not reach ${store.title}`);
    const { address, env, args } = store.restic;
    const restic = [this.#tools.restic.program, ...args];
    const surroundings = {
      ...environment(),
      ...env,
      RESTIC_REPOSITORY: address(this.#name('restic')),
      RESTIC_PASSWORD: this.#bench.key,
      RESTIC_CACHE_DIR: join(this.#bench.folder, 'storages/restic-cache'),
    };
    const [command = '', ...words] = restic;
    await run(this.#bench, { command, args: [...words, 'init', '--quiet'], env: surroundings });
    const backup = [...restic, 'backup', '--quiet', '--stdin', '--stdin-filename', 'dump.sql'];
    return await this.#measureStored(dumpInto(this.#bench, surroundings, backup), store, 'restic');
  }

  /** @throws Error unless the store then holds as much as the folder. */
  async #rclone(store: Store): Promise<Outcome> {
    const [folder] = this.#stores;
    const source = folder?.rclone.address(this.#name('pgkeep')) ?? '';
    const args = ['copy', source, store.rclone.address(this.#name('rclone'))];
    const env = this.#rcloneEnv(store);
    const outcome = await this.#measureStored(
      { command: this.#tools.rclone.program, args, env },
      store,
      'rclone',
    );
    const expected = folder && (await this.#storedBytes(folder, 'pgkeep'));
    if (expected !== outcome.storedBytes)
      throw new Error(`copied ${outcome.storedBytes} of ${expected} bytes`);
    return outcome;
  }

  async #measureStored(program: Program, store: Store, name: string): Promise<Outcome> {
    const before = await this.#storedBytes(store, name);
    await settle(this.#bench);
    const cost = await measure(program, this.#bench.server.pid ?? 0);
    return { ...cost, storedBytes: (await this.#storedBytes(store, name)) - before };
  }

  /** 0 when there is nothing. */
  async #storedBytes(store: Store, name: string): Promise<number> {
    const args = ['size', '--json', store.rclone.address(this.#name(name))];
    try {
      const { stdout } = await promisify(execFile)(this.#tools.rclone.program, args, {
        env: this.#rcloneEnv(store),
      });
      const { bytes }: { bytes: number } = JSON.parse(stdout);
      return bytes;
    } catch (error) {
      if (error instanceof Error && error.message.includes('directory not found')) return 0;
      throw error;
    }
  }

  #rcloneEnv(store: Store): Program['env'] {
    return { ...environment(), ...store.rclone.env, RCLONE_CONFIG: '/notfound' };
  }

  #name(name: string): string {
    return `round-${this.#round}/${name}`;
  }
}

function reaching(store: Store, program: Program): Program {
  return { ...program, env: { ...program.env, ...store.pgkeep.env } };
}

function step(
  verb: string,
  store: Store,
  title: string,
  run: Step['run'],
  group = verb === 'rclone' ? 'copy' : verb,
): Step {
  return { name: `${verb} ${store.name}`, title: `${title}, ${store.title}`, group, run };
}
