// Runs once before all tests: provides the PostgreSQL versions they need.

import { ensureTestServers } from '../services/install-postgres.ts';

export default async function setup(): Promise<void> {
  await ensureTestServers(line => process.stderr.write(`${line}\n`));
}
