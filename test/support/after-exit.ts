// What must not outlive this process: servers it started and folders it made. A small shell waits on a pipe
// that only this process holds; when the process is gone, however it ended (also by kill -9, which no exit
// handler sees), the pipe closes and the shell ends the servers, then removes the folders.

import { spawn } from 'node:child_process';
import type { Writable } from 'node:stream';

// "+item" remembers, "-item" forgets. SIGQUIT ends PostgreSQL at once together with its backends.
const watchdog = `
trap '' INT TERM HUP
while IFS= read -r line; do
  case $line in
    +*) set -- "$@" "\${line#+}" ;;
    -*) for item; do shift; [ "$item" = "\${line#-}" ] || set -- "$@" "$item"; done ;;
  esac
done
for item; do case $item in pid:*) kill -QUIT "\${item#pid:}" ;; esac; done
for item; do case $item in pid:*)
  for attempt in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
    kill -0 "\${item#pid:}" || break; sleep 0.1
  done
  kill -KILL "\${item#pid:}" ;;
esac; done
for item; do case $item in dir:*) rm -rf "\${item#dir:}" ;; esac; done
`;

let pipe: Writable | undefined;

/** Has the process ended when this one is gone. Returns the call that forgets it again, for when it has ended. */
export function killAfterExit(pid: number): () => void {
  return remember(`pid:${pid}`);
}

/** Has the folder removed when this process is gone, after the processes. Returns the call that forgets it. */
export function removeAfterExit(folder: string): () => void {
  return remember(`dir:${folder}`);
}

function remember(item: string): () => void {
  pipe ??= startWatchdog();
  pipe.write(`+${item}\n`);
  return () => {
    pipe?.write(`-${item}\n`);
  };
}

function startWatchdog(): Writable {
  // A session of its own, so that Ctrl-C in the terminal does not end the watchdog with the rest.
  const child = spawn('/bin/sh', ['-c', watchdog, 'watchdog'], {
    cwd: '/',
    detached: true,
    stdio: ['pipe', 'ignore', 'ignore'],
  });
  child.unref();
  if ('unref' in child.stdin && typeof child.stdin.unref === 'function') child.stdin.unref();
  return child.stdin;
}
