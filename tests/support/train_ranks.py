"""One process of a run of several: `torchrun --nproc-per-node 2 train_ranks.py FOLDER OUT WHAT`.

WHAT happens after the second step: `nothing`; `SIGINT` or `SIGTERM` reaches the first process; `broken`, the second
process cannot read a sample; `gone`, the second process ends without a word in the middle of the third step.
"""

import os
import signal
import sys
from pathlib import Path

import torch
from small import small_recipe

from perceptio.data.conversations import ConversationSampler
from perceptio.errors import DataError, PerceptioError
from perceptio.ops.interrupts import Stopped
from perceptio.training.objective import Objective
from perceptio.training.trainer import Progress, train

FAILED = 3


def main() -> int:
    """The status is 128 + the signal after a stop, and `FAILED` after an error, which is left in OUT.RANK."""
    folder, out, what = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    rank = int(os.environ["RANK"])
    torch.set_num_threads(1)
    # torchrun tells the others to go when one has ended: here each is to end by itself, and to say why.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)

    def after(progress: Progress) -> None:
        if progress.step == 2 and hasattr(signal, what):
            os.kill(os.getpid(), getattr(signal, what))

    if what == "broken" and rank == 1:
        _break(ConversationSampler, "draw", lambda draw, count: draw >= 4, _unreadable)
    if what == "gone" and rank == 1:
        calls = iter(range(100))
        _break(Objective, "forward", lambda *_: next(calls) == 2, lambda: os._exit(7))
    try:
        train(small_recipe(folder), out, resume="auto", progress=after)
    except Stopped as stopped:
        return 128 + stopped.signal
    except PerceptioError as error:
        Path(f"{out}.{rank}").write_text(str(error))
        return FAILED
    torch.distributed.destroy_process_group()
    return 0


def _unreadable() -> None:
    raise DataError("images/7.png cannot be read.")


def _break(owner, method, when, how) -> None:
    """Let a method do something else when its arguments say so."""
    whole = getattr(owner, method)

    def broken(self, *arguments):
        if when(*arguments):
            how()
        return whole(self, *arguments)

    setattr(owner, method, broken)


if __name__ == "__main__":
    sys.exit(main())
