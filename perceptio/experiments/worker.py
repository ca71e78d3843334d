"""A job's process: `python -m perceptio.experiments.worker`, started by the local launcher.

It reads its request as JSON from standard input and writes reports as lines of JSON to standard output:
`{"done": 3, "total": 10, "note": "loss 1.2"}`, or `{"error": "what a user can fix"}` before it exits with status 2.
All other output goes to standard error, which is the job's log.
"""

import json
import logging
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

from filelock import FileLock, Timeout

from perceptio.experiments.job import Report, Task, work_named

INTERRUPTED = 130
"""Exit status of a job that was asked to stop, and has saved its state."""
REFUSED = 2
"""Exit status of a job that has reported an error that a user can fix."""


class Channel:
    """The connection to the launcher. If it breaks, this process stops as after Ctrl-C.

    Args:
        stream: Receives lines of JSON.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def report(self, done: int, total: int, note: str = "") -> None:
        """Report the progress of the work."""
        self._send({"done": done, "total": total, "note": note})

    def error(self, message: str) -> None:
        """Report an error that a user can fix."""
        self._send({"error": message})

    def _send(self, message: dict[str, object]) -> None:
        try:
            self._stream.write(json.dumps(message) + "\n")
            self._stream.flush()
        except BrokenPipeError:
            os.kill(os.getpid(), signal.SIGINT)


def perform(request: Mapping[str, Any], report: Report) -> None:
    """Do the work of a job in this process.

    If another process is still working on it, for example because its launcher was killed, wait for its end.

    Args:
        request: `Job.request`.
        report: Called with the progress.

    Raises:
        PerceptioError: The work reports an error that a user can fix.
        KeyboardInterrupt: Ctrl-C or SIGTERM was received, and what is needed to continue is saved.
    """
    task = Task(
        out=Path(request["out"]),
        settings=request["settings"],
        inputs={name: Path(folder) for name, folder in request["inputs"].items()},
        cores=request["cores"],
        report=report,
    )
    lock = FileLock(task.out.with_name(f".{task.out.name}.lock"))
    task.out.parent.mkdir(parents=True, exist_ok=True)
    if not _acquired(lock):
        report(0, 1, "waiting for a process that is still at it")
        lock.acquire()
    try:
        work_named(request["work"])(task)
    finally:
        lock.release()


def _acquired(lock: FileLock) -> bool:
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return False
    return True


def main() -> int:
    """Run the requested work; return the exit status of the process."""
    channel = Channel(_standard_output_for_reports())
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s: %(message)s")
    request = json.load(sys.stdin)
    try:
        # Imported here so that Ctrl-C while torch is loading ends as quietly as later.
        import torch

        from perceptio.errors import PerceptioError

        torch.set_num_threads(1)
        try:
            perform(request, channel.report)
        except PerceptioError as error:
            channel.error(str(error))
            return REFUSED
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0


def _standard_output_for_reports() -> TextIO:
    """Reserve standard output for reports: other output of libraries goes to standard error from here on."""
    stream = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return stream


if __name__ == "__main__":
    sys.exit(main())
