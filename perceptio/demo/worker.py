"""A job's process: `python -m perceptio.demo.worker`, started by the scheduler.

It reads its request as JSON from standard input and writes reports as lines of JSON to standard output:
`{"done": 3, "total": 10, "note": "loss 1.2"}`, or `{"error": "what a user can put right"}` before it ends with
status 2. Everything else that is said goes to standard error, the job's log.
"""

import json
import logging
import os
import signal
import sys
from pathlib import Path
from typing import TextIO

INTERRUPTED = 130


class Channel:
    """The way back to the scheduler. Should it be gone, this process stops as after Ctrl-C.

    Args:
        stream: Where lines of JSON are written.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def report(self, done: int, total: int, note: str = "") -> None:
        """Say how far the work is."""
        self._send({"done": done, "total": total, "note": note})

    def error(self, message: str) -> None:
        """Say what a user can put right."""
        self._send({"error": message})

    def _send(self, message: dict[str, object]) -> None:
        try:
            self._stream.write(json.dumps(message) + "\n")
            self._stream.flush()
        except BrokenPipeError:
            os.kill(os.getpid(), signal.SIGINT)


def main() -> int:
    """Run the requested work; the exit status of the process."""
    channel = Channel(_standard_output_for_reports())
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s: %(message)s")
    request = json.load(sys.stdin)
    try:
        # Imported here so that Ctrl-C while torch loads ends as quietly as later.
        import torch

        from perceptio.demo.work import WORK, Task
        from perceptio.errors import PerceptioError

        torch.set_num_threads(1)
        task = Task(
            out=Path(request["out"]),
            settings=request["settings"],
            inputs={name: Path(folder) for name, folder in request["inputs"].items()},
            cores=request["cores"],
            report=channel.report,
        )
        try:
            WORK[request["work"]](task)
        except PerceptioError as error:
            channel.error(str(error))
            return 2
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0


def _standard_output_for_reports() -> TextIO:
    """Standard output for reports alone: whatever else a library prints goes to standard error from here on."""
    stream = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return stream


if __name__ == "__main__":
    sys.exit(main())
