// One run of a step: its outcome kept, or why it gave up; said on stderr as it happens.

import type { StepResult } from './report.ts';
import { type Bench, describeFailure } from './steps.ts';

export async function runStep(bench: Bench, result: StepResult, round: number): Promise<void> {
  // One that failed would fail again, or worse, leave a median of few.
  if (result.failure !== undefined) return;
  const { name } = result.step;
  try {
    const outcome = await result.step.run(bench);
    result.outcomes.push(outcome);
    say(`round ${round}, ${name}: ${(outcome.wallMs / 1000).toFixed(1)} s`);
  } catch (error) {
    result.failure = describeFailure(error);
    say(`round ${round}, ${name} ${result.failure}`);
  }
}

export function say(text: string): void {
  process.stderr.write(`${text}\n`);
}
