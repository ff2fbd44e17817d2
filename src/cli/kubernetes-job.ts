// A manifest by which Kubernetes makes backups in shards: an Indexed Job, index 0 of which is the coordinator. The pods find
// each other by the uid of the Job, which is the token. Strings are written as JSON has them, which YAML takes as they are.

import { exitCodes } from '../base/errors.ts';
import { maxAttempts } from '../repository/shards.ts';

export interface KubernetesJob {
  image: string;
  shards: number;
  /** When to run; once without it. */
  cron: string | undefined;
  /** Workers of each pod. */
  jobs: number;
  /** Where a folder that all pods share is mounted, when that is the repository. */
  folder: string | undefined;
  /** Values of the environment. */
  settings: ReadonlyMap<string, string>;
  /** What the environment takes from the secret `pgkeep`; the optional ones may be missing there. */
  required: readonly string[];
  optional: readonly string[];
}

/** Exit codes of a coordinator whose backup was stored. */
const stored = [exitCodes.partial, exitCodes.replica, exitCodes.mismatch];

export function formatKubernetesJob(job: KubernetesJob): string {
  const { shards, cron } = job;
  const head = [
    `# One backup by ${shards + 1} pods: pod 0 coordinates, the others read the rows.`,
    '# Before it: kubectl create secret generic pgkeep --from-env-file=pgkeep.env (DATABASE_URL=…, BACKUP_ENCRYPTION_KEY=…)',
  ];
  const spec = specLines(job);
  const lines =
    cron === undefined
      ? [
          'apiVersion: batch/v1',
          'kind: Job',
          'metadata:',
          '  generateName: pgkeep-',
          '  labels:',
          '    app.kubernetes.io/name: pgkeep',
          'spec:',
          ...indented(1, spec),
        ]
      : [
          'apiVersion: batch/v1',
          'kind: CronJob',
          'metadata:',
          '  name: pgkeep',
          '  labels:',
          '    app.kubernetes.io/name: pgkeep',
          'spec:',
          `  schedule: ${JSON.stringify(cron)}`,
          '  concurrencyPolicy: Forbid',
          '  jobTemplate:',
          '    spec:',
          ...indented(3, spec),
        ];
  return [...head, ...lines].map(line => `${line}\n`).join('');
}

function specLines({ shards, image, jobs, folder, settings, required, optional }: KubernetesJob): string[] {
  const container = [
    '- name: pgkeep',
    `  image: ${JSON.stringify(image)}`,
    '  command: ["pgkeep"]',
    // Kubernetes puts the values in.
    `  args: ["create", "--shard", "$(JOB_COMPLETION_INDEX)/${shards}"]`,
    '  env:',
    ...indented(2, [
      '- name: PGKEEP_JOIN',
      '  valueFrom:',
      '    fieldRef:',
      "      fieldPath: metadata.labels['batch.kubernetes.io/controller-uid']",
      ...[...settings].flatMap(([name, value]) => [`- name: ${name}`, `  value: ${JSON.stringify(value)}`]),
      ...required.flatMap(name => secretLines(name, false)),
      ...optional.flatMap(name => secretLines(name, true)),
    ]),
    '  resources:',
    '    requests:',
    `      cpu: ${JSON.stringify(String(jobs))}`,
    '      memory: "512Mi"',
  ];
  const volumes: string[] = [];
  if (folder !== undefined) {
    container.push('  volumeMounts:', '    - name: repository', `      mountPath: ${JSON.stringify(folder)}`);
    // It must be of the kind that pods on several machines can write to at once.
    volumes.push(
      'volumes:',
      '  - name: repository',
      '    persistentVolumeClaim:',
      '      claimName: pgkeep-repository',
    );
  }
  return [
    'completionMode: Indexed',
    `completions: ${shards + 1}`,
    `parallelism: ${shards + 1}`,
    // When one has failed so often, the coordinator does, and then all of them do.
    `backoffLimit: ${maxAttempts * (shards + 1)}`,
    // The backup counts then, though something is to be looked at: pods that begin again would wait for the others in vain.
    'podFailurePolicy:',
    '  rules:',
    '    - action: FailJob',
    '      onExitCodes:',
    '        operator: In',
    `        values: [${stored.join(', ')}]`,
    'ttlSecondsAfterFinished: 604800',
    'template:',
    '  metadata:',
    '    labels:',
    '      app.kubernetes.io/name: pgkeep',
    '  spec:',
    ...indented(2, [
      'restartPolicy: Never',
      'topologySpreadConstraints:',
      '  - maxSkew: 1',
      '    topologyKey: kubernetes.io/hostname',
      '    whenUnsatisfiable: ScheduleAnyway',
      '    labelSelector:',
      '      matchLabels:',
      '        app.kubernetes.io/name: pgkeep',
      'containers:',
      ...indented(1, container),
      ...volumes,
    ]),
  ];
}

function secretLines(name: string, isOptional: boolean): string[] {
  return [
    `- name: ${name}`,
    '  valueFrom:',
    '    secretKeyRef:',
    '      name: pgkeep',
    `      key: ${name}`,
    ...(isOptional ? ['      optional: true'] : []),
  ];
}

function indented(levels: number, lines: readonly string[]): string[] {
  return lines.map(line => '  '.repeat(levels) + line);
}
