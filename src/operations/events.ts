// What an operation tells its caller while it runs. Operations never print; the command line renders these events
// for people, and a library caller may do as it likes with them.

/** The steps of a run, in the order in which they occur. */
export type Phase =
  | 'connect'
  | 'lock'
  | 'data'
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
  | { type: 'progress'; doneBytes: number; totalBytes: number; rows: number }
  | { type: 'warning'; message: string; hint?: string };

export interface RunOptions {
  /** Ends the run: children are killed, transactions rolled back, nothing half-made stays visible. */
  signal?: AbortSignal;
  onEvent?: (event: OperationEvent) => void;
}
