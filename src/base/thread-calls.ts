// Calls across a thread boundary: each side names the methods it answers, both may call, and buffers can be
// handed over without copying. Errors arrive on the other side as PgkeepErrors.
import type { MessagePort, Transferable, Worker } from 'node:worker_threads';
import { type ErrorData, errorFromData, errorToData } from './errors.ts';

/** Methods a side answers. Arguments and results must survive structured cloning. */
export type Methods = Record<string, (argument: never) => unknown>;

type Argument<M extends Methods, K extends keyof M> = Parameters<M[K]>[0];
type Result<M extends Methods, K extends keyof M> = Awaited<ReturnType<M[K]>>;

/** A result that hands buffers over to the caller instead of copying them. */
export class Handover<T> {
  readonly value: T;
  readonly buffers: Transferable[];
  constructor(value: T, buffers: Transferable[]) {
    this.value = value;
    this.buffers = buffers;
  }
}

type Message =
  | { kind: 'call'; id: number; method: string; argument: unknown }
  | { kind: 'result'; id: number; value: unknown }
  | { kind: 'error'; id: number; error: ErrorData };

/** One end of a line between two threads. */
export class ThreadLine<Remote extends Methods> {
  readonly #port: MessagePort | Worker;
  readonly #pending = new Map<number, { resolve: (value: never) => void; reject: (error: Error) => void }>();
  #nextId = 0;
  #broken: Error | undefined;

  constructor(port: MessagePort | Worker, methods: Methods) {
    this.#port = port;
    port.on('message', (message: Message) => {
      if (message.kind === 'call') void this.#answer(message, methods);
      else this.#settle(message);
    });
  }

  /** Calls a method of the other side; `buffers` are handed over and must not be used afterwards. */
  call<K extends keyof Remote & string>(
    method: K,
    argument: Argument<Remote, K>,
    buffers: Transferable[] = [],
  ): Promise<Result<Remote, K>> {
    if (this.#broken !== undefined) return Promise.reject(this.#broken);
    const id = this.#nextId++;
    return new Promise<Result<Remote, K>>((resolve, reject) => {
      this.#pending.set(id, { resolve, reject });
      this.#port.postMessage({ kind: 'call', id, method, argument } satisfies Message, buffers);
    });
  }

  /** Fails every outstanding and later call: the other side has gone. */
  break(error: Error): void {
    this.#broken = error;
    for (const { reject } of this.#pending.values()) reject(error);
    this.#pending.clear();
  }

  async #answer(message: Message & { kind: 'call' }, methods: Methods): Promise<void> {
    try {
      const method = methods[message.method];
      if (method === undefined)
        throw new Error(`the other thread called the unknown method ${message.method}`);
      const result = await method(message.argument as never);
      if (result instanceof Handover) {
        this.#port.postMessage(
          { kind: 'result', id: message.id, value: result.value } satisfies Message,
          result.buffers,
        );
      } else {
        this.#port.postMessage({ kind: 'result', id: message.id, value: result } satisfies Message);
      }
    } catch (error) {
      this.#port.postMessage({ kind: 'error', id: message.id, error: errorToData(error) } satisfies Message);
    }
  }

  #settle(message: Exclude<Message, { kind: 'call' }>): void {
    const waiting = this.#pending.get(message.id);
    if (waiting === undefined) return;
    this.#pending.delete(message.id);
    if (message.kind === 'result') waiting.resolve(message.value as never);
    else waiting.reject(errorFromData(message.error));
  }
}
