// Looks at processes through /proc: the children of a run, what their command lines and environments show.

import { readdirSync, readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';

export interface ProcessSeen {
  pid: number;
  /** The command line; arguments separated by spaces. */
  command: string;
  /** NAME=value, as the process was started with. */
  environment: string[];
}

/** Every process below this one that runs now. */
export function descendants(pid: number): ProcessSeen[] {
  const children = Map.groupBy(
    readdirSync('/proc')
      .filter(name => /^\d+$/.test(name))
      .flatMap(name => statOf(Number(name)) ?? []),
    process => process.parent,
  );
  const found: ProcessSeen[] = [];
  const visit = (parent: number): void => {
    for (const child of children.get(parent) ?? []) {
      const seen = look(child.pid);
      if (seen !== undefined) found.push(seen);
      visit(child.pid);
    }
  };
  visit(pid);
  return found;
}

/** Whether the process runs; one that ended and waits to be collected does not. */
export function isRunning(pid: number): boolean {
  const stat = statOf(pid);
  return stat !== undefined && stat.state !== 'Z' && stat.state !== 'X';
}

/**
 * Waits until `condition` holds.
 * @throws Error naming `what` when it does not in time.
 */
export async function waitFor<T>(
  what: string,
  condition: () => T | Promise<T>,
  timeoutMs = 60_000,
): Promise<NonNullable<T>> {
  const deadline = Date.now() + timeoutMs;
  for (;;) {
    const value = await condition();
    if (value) return value;
    if (Date.now() > deadline) throw new Error(`waited ${timeoutMs} ms in vain for ${what}`);
    await sleep(10);
  }
}

function look(pid: number): ProcessSeen | undefined {
  try {
    const command = readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ').trim();
    const environment = readFileSync(`/proc/${pid}/environ`, 'utf8').split('\0').filter(Boolean);
    return { pid, command, environment };
  } catch {
    // It has ended meanwhile.
    return undefined;
  }
}

function statOf(pid: number): { pid: number; parent: number; state: string } | undefined {
  try {
    // The name in parentheses may hold anything.
    const [, state = '', parent = ''] =
      /.*\) (\S) (\d+)/s.exec(readFileSync(`/proc/${pid}/stat`, 'utf8')) ?? [];
    return { pid, parent: Number(parent), state };
  } catch {
    return undefined;
  }
}
