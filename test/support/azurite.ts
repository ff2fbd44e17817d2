// Throwaway Azure Storage: Azurite on 127.0.0.1, in memory, with one account.

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, existsSync, openSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  AccountSASPermissions,
  ContainerClient,
  generateAccountSASQueryParameters,
  SASProtocol,
  StorageSharedKeyCredential,
} from '@azure/storage-blob';
import { ensureAzurite } from '../services/install-azurite.ts';
import { killAfterExit } from './after-exit.ts';
import { freePort } from './free-port.ts';
import { makeTempFolder, type TempFolder } from './temp-folder.ts';

export interface Azurite extends AsyncDisposable {
  readonly port: number;
  /** Account and key, and the service's URL; through a proxy with its port. */
  login(port?: number): { account: string; key: string; endpoint: string };
  /** A shared access signature for the whole account, with permissions such as `rl`; valid for an hour by default. */
  sas(permissions: string, expiresOn?: Date): string;
  /** Makes a container. */
  createContainer(name: string): Promise<ContainerClient>;
  stop(): Promise<void>;
}

/** The account and key that every Azurite has. */
const account = 'devstoreaccount1';
const key = 'Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==';

export async function startAzurite(): Promise<Azurite> {
  const main = await ensureAzurite();
  const folder = makeTempFolder('azurite');
  const port = await freePort();
  const logFile = join(folder.path, 'log');
  const log = openSync(logFile, 'a');
  const child = spawn(
    process.execPath,
    [
      main,
      ...['--blobHost', '127.0.0.1', '--blobPort', String(port)],
      ...['--skipApiVersionCheck', '--disableTelemetry', '--inMemoryPersistence'],
    ],
    { cwd: folder.path, env: { PATH: process.env.PATH }, stdio: ['ignore', log, log] },
  );
  closeSync(log);
  await once(child, 'spawn');
  child.unref();
  const forget = killAfterExit(child.pid ?? 0);
  const said = () => (existsSync(logFile) ? readFileSync(logFile, 'utf8') : '');
  const deadline = Date.now() + 60_000;
  while (!said().includes('successfully listens')) {
    if (child.exitCode !== null || Date.now() > deadline)
      throw new Error(`Azurite did not start:\n${said()}`);
    await sleep(20);
  }
  return new RunningAzurite(port, child, folder, forget);
}

class RunningAzurite implements Azurite {
  readonly port: number;
  readonly #process: ChildProcess;
  readonly #folder: TempFolder;
  readonly #forget: () => void;

  constructor(port: number, child: ChildProcess, folder: TempFolder, forget: () => void) {
    this.port = port;
    this.#process = child;
    this.#folder = folder;
    this.#forget = forget;
  }

  login(port = this.port): { account: string; key: string; endpoint: string } {
    return { account, key, endpoint: `http://127.0.0.1:${port}/${account}` };
  }

  sas(permissions: string, expiresOn = new Date(Date.now() + 3_600_000)): string {
    return generateAccountSASQueryParameters(
      {
        expiresOn,
        permissions: AccountSASPermissions.parse(permissions),
        services: 'b',
        resourceTypes: 'co',
        protocol: SASProtocol.HttpsAndHttp,
      },
      new StorageSharedKeyCredential(account, key),
    ).toString();
  }

  async createContainer(name: string): Promise<ContainerClient> {
    const { endpoint } = this.login();
    const client = new ContainerClient(`${endpoint}/${name}`, new StorageSharedKeyCredential(account, key));
    await client.create();
    return client;
  }

  async stop(): Promise<void> {
    if (this.#process.exitCode !== null || this.#process.signalCode !== null) return;
    const ended = once(this.#process, 'exit');
    this.#process.ref();
    this.#process.kill('SIGKILL');
    await ended;
    this.#forget();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
    await this.#folder.remove();
  }
}
