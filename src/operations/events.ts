// What an operation tells its caller while it runs. Operations never print; the command line renders these events
// for people, and a library caller may do as it likes with them. Warnings stand in the result as well.

/** The steps of a run, in the order in which they occur. */
export type Phase =
  | 'connect'
  | 'lock'
  | 'data'
  | 'large-objects'
  | 'wait-for-shards'
  | 'wait-for-coordinator'
  | 'reconcile'
  | 'finish'
  | 'preflight'
  | 'create-database'
  | 'pre-data'
  | 'post-data'
  | 'analyze'
  | 'check'
  | 'read'
  | 'open-backup'
  | 'write-definitions'
  | 'write-rows'
  | 'write-indexes'
  | 'retention'
  | 'collect'
  | 'scratch'
  | 'compare'
  | 'probe'
  | 'replicate';

export type OperationEvent =
  | { type: 'phase'; phase: Phase; detail?: string }
  /** Bytes done and expected: of COPY text (an estimate from relation sizes on create; exact on restore), of objects on replicate. */
  | { type: 'progress'; doneBytes: number; totalBytes: number; rows: number; heldBack?: HeldBack }
  /** The snapshot is taken, and so many shards can join by the token. */
  | { type: 'shards'; backup: string; shards: number; join: string }
  | { type: 'warning'; message: string; hint?: string };

/** Fewer workers than all read, because others keep the server busy. */
export interface HeldBack {
  /** How many may read, of how many. */
  workers: number;
  jobs: number;
  /** Sessions of others that ran a statement when it was last looked. */
  activeSessions: number;
}

export interface RunOptions {
  /** Ends the run: children are killed, transactions rolled back, nothing half-made stays visible. */
  signal?: AbortSignal;
  onEvent?: (event: OperationEvent) => void;
}

/** Tells the caller, and keeps the warnings. */
export class Teller {
  readonly warnings: string[] = [];
  readonly #onEvent: RunOptions['onEvent'];

  constructor({ onEvent }: RunOptions) {
    this.#onEvent = onEvent;
  }

  emit(event: OperationEvent): void {
    this.#onEvent?.(event);
  }

  warn(message: string, hint?: string): void {
    this.warnings.push(message);
    this.emit({ type: 'warning', message, ...(hint !== undefined && { hint }) });
  }
}
