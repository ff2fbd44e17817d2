// The main job, shown on a throwaway server: a shop's database is backed up, lost, restored and compared row for row.
// Runs the built program by the same commands a user types; needs no database of its own.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { generateKey } from '../../src/crypto/key.ts';
import { ensureServerPrograms } from '../services/install-postgres.ts';
import { compareDatabases } from '../support/compare-databases.ts';
import { psql, type Server, startServer } from '../support/postgres-server.ts';
import { makeTempFolder } from '../support/temp-folder.ts';

const root = path.resolve(import.meta.dirname, '../..');
const program = path.join(root, 'bin/pgkeep.js');
const startedAt = performance.now();

function heading(text: string): void {
  const seconds = ((performance.now() - startedAt) / 1000).toFixed(1).padStart(5);
  console.log(`\n[${seconds} s] ${text}`);
}

/** Runs pgkeep as a user would, its output going where ours goes. @throws Error when it fails. */
async function pgkeep(args: readonly string[], environment: Record<string, string>): Promise<void> {
  console.log(`$ pgkeep ${args.join(' ')}`);
  const child = spawn(process.execPath, [program, ...args], {
    stdio: 'inherit',
    env: { ...process.env, ...environment },
  });
  const [status] = await once(child, 'exit');
  if (status !== 0) throw new Error(`pgkeep ${args[0]} ended with status ${status}`);
}

async function count(server: Server, database: string, table: string): Promise<string> {
  return (await psql(server, database, `SELECT count(*) FROM ${table}`)).trim();
}

async function demo(server: Server, binDir: string, repository: string): Promise<void> {
  heading('Filling a shop: customers, orders, payments, events by month, reviews, ...');
  await server.createDatabase('shop');
  await psql(server, 'shop', await readFile(path.join(import.meta.dirname, 'shop.sql'), 'utf8'));
  await server.cloneDatabase('shop', 'shop_as_it_was');
  const size = await psql(server, 'shop', 'SELECT pg_size_pretty(pg_database_size(current_database()))');
  console.log(`the database is ${size.trim()}`);

  heading('Backing it up');
  const environment = {
    DATABASE_URL: server.url('shop'),
    BACKUP_ENCRYPTION_KEY: generateKey(),
    BACKUP_REPOSITORY: repository,
  };
  console.log('with a new key in BACKUP_ENCRYPTION_KEY, as pgkeep key generate makes it');
  await pgkeep(['create', '--tag', 'demo', '--reason', 'before the accident'], environment);
  await pgkeep(['list'], environment);

  heading('The accident');
  console.log('$ psql -c "DELETE FROM shop.reviews" -c "DROP TABLE shop.payments CASCADE"');
  await psql(server, 'shop', 'DELETE FROM shop.reviews; DROP TABLE shop.payments CASCADE');
  console.log(`reviews left: ${await count(server, 'shop', 'shop.reviews')}; payments: the table is gone`);

  heading('Restoring into a new database');
  await pgkeep(['restore', 'latest', '--to', server.url('shop_restored'), '--create', '--yes'], environment);

  heading('Comparing every table, row for row, with the shop before the accident');
  const compared = await compareDatabases(server.url('shop_as_it_was'), server.url('shop_restored'), {
    binDir,
  });
  if (compared.differences.length > 0) {
    throw new Error(`the restored database differs:\n  ${compared.differences.join('\n  ')}`);
  }
  console.log(
    `the same: definitions, sequences, large objects, ${compared.rows} rows in ${compared.tables} tables`,
  );
}

function sayWhatToDoNext(): void {
  heading('Done. The same for a database of your own:');
  console.log(`
  npm run --silent pgkeep -- key generate --output pgkeep.key   # keep a copy apart from the backups
  export BACKUP_ENCRYPTION_KEY_FILE=pgkeep.key
  export DATABASE_URL=postgres://user:password@host:5432/database
  npm run backup:create
  npm run backup:list
  npm run backup:restore -- --backup-id=latest --to postgres://user:password@host:5432/database_restored --create
`);
}

if (!existsSync(path.join(root, 'dist/cli/main.js')))
  throw new Error('the program is not built: run npm run build');
heading('Starting a throwaway PostgreSQL');
const programs = await ensureServerPrograms(console.log);
console.log(`PostgreSQL ${programs.version} from ${programs.binDir}`);
const repository = makeTempFolder('demo');
const server = await startServer({ version: programs.majorVersion });
try {
  await demo(server, programs.binDir, repository.path);
} finally {
  await server[Symbol.asyncDispose]();
  await repository.remove();
}
sayWhatToDoNext();
