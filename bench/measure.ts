// Runs a program and says what it cost: time, CPU of it and of all its children, CPU of the server meanwhile, and
// the most memory that all its processes held together. Reads /proc, so Linux only.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync, readdirSync, readFileSync } from 'node:fs';
import { basename } from 'node:path';

export interface Cost {
  wallMs: number;
  clientCpuMs: number;
  serverCpuMs: number;
  /** Of every process of the machine: of stores that run on it too, and of whoever disturbs. */
  machineCpuMs: number;
  /** Resident memory, summed over all processes of the run at one moment; what they share counts for each. */
  peakMemoryBytes: number;
}

export interface Program {
  command: string;
  args: readonly string[];
  env: Readonly<Record<string, string>>;
  /** The account to run as, for a program that must not be root. */
  ids?: { uid?: number; gid?: number };
  /** The file that gets what it prints; without it, nobody does. */
  output?: string;
}

/** Often enough for a curve that rises over seconds; more often would take time from a program that uses every core. */
const pollMs = 100;
/** USER_HZ, the unit of CPU times in /proc: 100 on every architecture Linux runs Node on. */
const msPerTick = 10;
const pageBytes = 4096;

/**
 * Runs a program to its end; only what it complains about is read meanwhile. No other child of this process
 * may end meanwhile: CPU is read off the sum over all ended children.
 * @param server process id of the postmaster whose CPU is counted.
 * @throws Error with the program's last words when it fails.
 */
export async function measure(program: Program, server: number): Promise<Cost> {
  const clientBefore = endedChildrenCpuMs();
  const serverBefore = serverCpuMs(server);
  const machineBefore = machineCpuMs();
  const started = performance.now();
  const output = program.output === undefined ? undefined : openSync(program.output, 'w', 0o600);
  const child = spawn(program.command, program.args, {
    ...program.ids,
    env: program.env,
    stdio: ['ignore', output ?? 'ignore', 'pipe'],
  });
  if (output !== undefined) closeSync(output);
  let complaint = '';
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    complaint = (complaint + text).slice(-2000);
  });
  let peakMemoryBytes = 0;
  const poll = setInterval(() => {
    peakMemoryBytes = Math.max(peakMemoryBytes, memoryOfTree(child.pid ?? 0));
  }, pollMs);
  try {
    const [status, signal] = await once(child, 'exit');
    const wallMs = performance.now() - started;
    if (status !== 0) {
      throw new Error(`${basename(program.command)} ended with ${status ?? signal}: ${complaint.trim()}`);
    }
    return {
      wallMs,
      clientCpuMs: endedChildrenCpuMs() - clientBefore,
      serverCpuMs: serverCpuMs(server) - serverBefore,
      machineCpuMs: machineCpuMs() - machineBefore,
      peakMemoryBytes,
    };
  } finally {
    clearInterval(poll);
  }
}

interface ProcessTimes {
  parent: number;
  ownMs: number;
  /** Of children that have ended and been waited for, and of theirs. */
  endedChildrenMs: number;
}

/** See proc(5), /proc/pid/stat. @returns undefined when the process has gone. */
function readTimes(pid: number | 'self'): ProcessTimes | undefined {
  const text = tryRead(`/proc/${pid}/stat`);
  // Fields from the third on; the second is a name in parentheses, which may hold anything.
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  const field = (number: number) => Number(fields[number - 3]);
  if (text === '') return undefined;
  return {
    parent: field(4),
    ownMs: (field(14) + field(15)) * msPerTick,
    endedChildrenMs: (field(16) + field(17)) * msPerTick,
  };
}

function endedChildrenCpuMs(): number {
  return readTimes('self')?.endedChildrenMs ?? 0;
}

/** The postmaster, its living children, and all that have ended: sessions end inside a run, others live on. */
function serverCpuMs(postmaster: number): number {
  for (;;) {
    const own = readTimes(postmaster);
    let sum = (own?.ownMs ?? 0) + (own?.endedChildrenMs ?? 0);
    for (const name of readdirSync('/proc')) {
      if (!/^\d+$/.test(name)) continue;
      const times = readTimes(Number(name));
      if (times?.parent === postmaster) sum += times.ownMs;
    }
    // A session that ended meanwhile was in neither sum.
    if (readTimes(postmaster)?.endedChildrenMs === own?.endedChildrenMs) return sum;
  }
}

/** What all processors did but wait; see proc(5), /proc/stat. */
function machineCpuMs(): number {
  const [user = 0, nice = 0, system = 0, , , interrupts = 0, softInterrupts = 0] = (
    tryRead('/proc/stat').split('\n', 1)[0] ?? ''
  )
    .split(/ +/)
    .slice(1)
    .map(Number);
  return (user + nice + system + interrupts + softInterrupts) * msPerTick;
}

function memoryOfTree(root: number): number {
  let sum = 0;
  const waiting = [root];
  for (let pid = waiting.pop(); pid !== undefined; pid = waiting.pop()) {
    sum += Number(tryRead(`/proc/${pid}/statm`).split(' ')[1] ?? 0) * pageBytes;
    // Of the first thread: the others of the programs measured here start none.
    const children = tryRead(`/proc/${pid}/task/${pid}/children`);
    for (const child of children.split(' ')) if (child !== '') waiting.push(Number(child));
  }
  return sum;
}

// A process may end between two looks at it.
function tryRead(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return '';
  }
}
