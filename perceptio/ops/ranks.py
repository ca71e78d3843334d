"""The processes of one run: sums over them, work that one does for all, and failures that end all of them."""

import datetime
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed

from perceptio.errors import PerceptioError, TrainingError

T = TypeVar("T")

PATIENCE = datetime.timedelta(days=2)
"""How long processes wait for another one, for example to train a tokenizer; the wait ends if that process ends."""
_GONE = re.compile(r"connection (was )?(closed|reset)|broken pipe|nccl|processgroup", re.IGNORECASE)
"""PyTorch's messages for the loss of a peer."""


class Ranks:
    """The processes of one run, as started by `torchrun` or `accelerate launch`; usually one.

    They communicate over the CPU, so that no GPU waits.

    Args:
        verb: The verb of `perceptio` that they run, for messages.
        error: The class of the error that is raised if one of them fails.

    Raises:
        PerceptioError: `accelerate launch --cpu` was asked for several processes, but starts only one.
    """

    def __init__(self, verb: str = "train", error: type[PerceptioError] = TrainingError) -> None:
        from accelerate import Accelerator

        self._error = error
        # Several processes on CPUs find each other only if accelerate is told to use the CPU.
        on_cpus = "WORLD_SIZE" in os.environ and not torch.accelerator.is_available()
        # Autocast is PyTorch's own: accelerate would fix the precision for the whole process at its first use.
        self.accelerator = Accelerator(mixed_precision="no", cpu=on_cpus)
        self.index, self.count = self.accelerator.process_index, self.accelerator.num_processes
        self._group: Any = None
        if self.count > 1:
            self._group = distributed.new_group(backend="gloo", timeout=PATIENCE)
        elif _asked_for_several():
            raise error(
                "accelerate launch --cpu was asked for several processes and has started one: on CPUs, start them "
                f"with torchrun --nproc-per-node N -m perceptio.cli.main {verb} …"
            )

    @property
    def main(self) -> bool:
        """Whether this process writes files and reports."""
        return self.index == 0

    def gather(self, value: T) -> list[T]:
        """Return the values of all processes, by their numbers."""
        if self.count == 1:
            return [value]
        values: list[Any] = [None] * self.count
        distributed.all_gather_object(values, value, group=self._group)
        return values

    def add(self, values: Mapping[str, float]) -> dict[str, float]:
        """Return the sums of named values over all processes, which must all have the same names."""
        if self.count == 1:
            return dict(values)
        total = torch.tensor(list(values.values()), dtype=torch.float64)
        distributed.all_reduce(total, group=self._group)
        return dict(zip(values, total.tolist(), strict=True))

    def means(self, sums: Mapping[str, tuple[Tensor, int]]) -> dict[str, float]:
        """Return the means of named sums and counts over all processes, which need not all have every name."""
        held = self.gather({name: (float(total), count) for name, (total, count) in sums.items()})
        names = dict.fromkeys(name for one in held for name in one)
        means = {}
        for name in names:
            totals, counts = zip(*(one[name] for one in held if name in one), strict=True)
            means[name] = sum(totals) / sum(counts)
        return means

    def on_main(self, work: Callable[[], T]) -> T:
        """Run `work` in the first process and return its result in all of them; the others wait.

        Raises:
            PerceptioError: It failed, in the other processes; the first raises the original error.
        """
        made: T | None = None
        failure: BaseException | None = None
        if self.main:
            try:
                made = work()
            except BaseException as error:
                failure = error
        self.raise_together(failure)
        return self.gather(made)[0]  # type: ignore[return-value]

    def raise_together(self, failure: BaseException | None) -> None:
        """Raise a failure of any process in all of them.

        Raises:
            PerceptioError: Another process failed; this one's own failure is raised unchanged.
        """
        said = self.gather(None if failure is None else (str(failure) or type(failure).__name__))
        if failure is not None:
            raise failure
        for number, message in enumerate(said):
            if message is not None:
                raise self._error(f"Process {number} of {self.count} failed: {message}")

    @contextmanager
    def together(self) -> Iterator[None]:
        """Wrap the common work of all processes: report the loss of a process within a step, and end together.

        Raises:
            PerceptioError: Another process ended.
        """
        try:
            yield
            if self.count > 1:
                distributed.barrier(
                    group=self._group
                )  # A process that left early would close its connections.
        except PerceptioError:
            raise
        except RuntimeError as error:
            if self.count > 1 and _GONE.search(str(error)):
                raise self._error(
                    f"Another of the {self.count} processes ended in the middle of a step; its own message says why. "
                    "What was saved before is kept."
                ) from error
            raise


def leave_together() -> None:
    """End the process group: a process that exits without it can break the others' connections."""
    if distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()


def _asked_for_several() -> bool:
    """Return whether `accelerate launch` prepared for several processes but started only this one."""
    by_accelerate = os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true")
    return by_accelerate and "MASTER_ADDR" in os.environ and "WORLD_SIZE" not in os.environ
