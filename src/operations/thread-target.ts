// A database target as it crosses into a worker thread, where the class that guards the password does not survive.
import { Secret } from '../base/secret.ts';
import type { DatabaseTarget } from '../postgres/target.ts';

export type ThreadTarget = Omit<DatabaseTarget, 'password'> & { password: string | undefined };

export function toThread(target: DatabaseTarget): ThreadTarget {
  return { ...target, password: target.password?.reveal() };
}

export function fromThread(target: ThreadTarget): DatabaseTarget {
  return { ...target, password: target.password === undefined ? undefined : new Secret(target.password) };
}
