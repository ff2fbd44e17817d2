// Notices that a server has fallen silent or that a connection which idles is gone: neither is seen by whoever sends.
import type pg from 'pg';
import { queryRows } from './client.ts';
import { serverSilent } from './server-error.ts';
import type { DatabaseTarget } from './target.ts';

const askEveryMs = 1_000;
/** A server that is merely busy is given this time, however short connect_timeout is. */
const minAnswerMs = 10_000;

/** How long a server may take to answer a question that costs it nothing before it counts as lost. */
export function answerLimitMs(target: DatabaseTarget): number {
  return Math.max(minAnswerMs, target.connectTimeoutSeconds * 1000);
}

/**
 * Has the server end a session about a minute after this machine is gone, and not only after hours: others see by it whether
 * this process is there.
 */
export async function endWhenGone(client: pg.Client): Promise<void> {
  const settings = ['tcp_keepalives_idle = 30', 'tcp_keepalives_interval = 10', 'tcp_keepalives_count = 3'];
  // Refused on systems that cannot.
  for (const setting of settings) await client.query(`SET ${setting}`).catch(() => undefined);
}

export interface ServerWatch {
  /** Rejects with DATABASE_CONNECTION_LOST, or what a look has found; never resolves. */
  failure: Promise<never>;
  stop(): void;
}

/**
 * Asks until stopped. The connection may be used for other short statements meanwhile.
 * @param answerWithinMs a server that takes longer counts as lost.
 */
export function watchServer(client: pg.Client, answerWithinMs: number): ServerWatch {
  return watch(async () => {
    await queryRows(client, 'SELECT 1', 'asking whether the server is there');
    return askEveryMs;
  }, answerWithinMs);
}

/**
 * Looks again and again until stopped; what `look` throws is the failure.
 * @param look resolves to the time in milliseconds until the next look.
 * @param answerWithinMs when a look takes longer, the server counts as lost.
 */
export function watch(look: () => Promise<number>, answerWithinMs: number): ServerWatch {
  let timer: NodeJS.Timeout | undefined;
  let isStopped = false;
  const failure = new Promise<never>((_, reject) => {
    const lookOnce = async () => {
      const silence = setTimeout(() => isStopped || reject(serverSilent(answerWithinMs)), answerWithinMs);
      try {
        const waitMs = await look();
        if (!isStopped) timer = setTimeout(lookOnce, waitMs);
      } catch (error) {
        if (!isStopped) reject(error);
      } finally {
        clearTimeout(silence);
      }
    };
    void lookOnce();
  });
  failure.catch(() => undefined);
  return {
    failure,
    stop() {
      isStopped = true;
      clearTimeout(timer);
    },
  };
}
