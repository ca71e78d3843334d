"""The processes of one run: what they add up, what one of them does for all, and that one failure ends them all."""

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
"""How long the others wait for what one does, such as training a tokenizer; a process that ends, ends it."""
_GONE = re.compile(r"connection (was )?(closed|reset)|broken pipe|nccl|processgroup", re.IGNORECASE)
"""What PyTorch says to those whose peer is gone."""


class Ranks:
    """The processes of one run, as `torchrun` or `accelerate launch` started them; usually one.

    What they say to each other goes over the CPU, so that no GPU waits for it.

    Args:
        verb: The verb of `perceptio` that they run, for messages.
        error: What is raised where one of them fails.

    Raises:
        PerceptioError: `accelerate launch --cpu` was asked for several processes, of which it starts one.
    """

    def __init__(self, verb: str = "train", error: type[PerceptioError] = TrainingError) -> None:
        from accelerate import Accelerator

        self._error = error
        # Several processes on CPUs meet only when accelerate is told that there is nothing else.
        on_cpus = "WORLD_SIZE" in os.environ and not torch.accelerator.is_available()
        # Autocast is PyTorch's own: accelerate fixes the precision for the whole process at its first use.
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
        """Whether this is the one that writes and reports."""
        return self.index == 0

    def gather(self, value: T) -> list[T]:
        """What each process has, by its number."""
        if self.count == 1:
            return [value]
        values: list[Any] = [None] * self.count
        distributed.all_gather_object(values, value, group=self._group)
        return values

    def add(self, values: Mapping[str, float]) -> dict[str, float]:
        """The sums over all processes of values by name; all of them have the same names."""
        if self.count == 1:
            return dict(values)
        total = torch.tensor(list(values.values()), dtype=torch.float64)
        distributed.all_reduce(total, group=self._group)
        return dict(zip(values, total.tolist(), strict=True))

    def means(self, sums: Mapping[str, tuple[Tensor, int]]) -> dict[str, float]:
        """What sums and counts by name come to over all processes; not all of them need have every name."""
        held = self.gather({name: (float(total), count) for name, (total, count) in sums.items()})
        names = dict.fromkeys(name for one in held for name in one)
        means = {}
        for name in names:
            totals, counts = zip(*(one[name] for one in held if name in one), strict=True)
            means[name] = sum(totals) / sum(counts)
        return means

    def on_main(self, work: Callable[[], T]) -> T:
        """What the first process makes, for all of them; the others wait.

        Raises:
            PerceptioError: It failed, in the others; in the first its own error is raised.
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
            PerceptioError: Another process failed; this one's own failure is raised as it is.
        """
        said = self.gather(None if failure is None else (str(failure) or type(failure).__name__))
        if failure is not None:
            raise failure
        for number, message in enumerate(said):
            if message is not None:
                raise self._error(f"Process {number} of {self.count} failed: {message}")

    @contextmanager
    def together(self) -> Iterator[None]:
        """Around all that they do together: one that loses another in the middle of a step says so, and all leave
        at the end together.

        Raises:
            PerceptioError: Another process ended.
        """
        try:
            yield
            if self.count > 1:
                distributed.barrier(group=self._group)  # Who leaves early takes its connections along.
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
    """End the process group: a process that ends without it can take the others' connections along."""
    if distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()


def _asked_for_several() -> bool:
    """Whether `accelerate launch` prepared a meeting of several processes for a process that is alone."""
    by_accelerate = os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true")
    return by_accelerate and "MASTER_ADDR" in os.environ and "WORLD_SIZE" not in os.environ
