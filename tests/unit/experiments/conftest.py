"""Experiments of very small recipes, run without processes of their own."""

import queue
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

import attrs
import pytest
from small import scenes_folder, small_recipe

from perceptio.data.scenes import Split
from perceptio.errors import PerceptioError
from perceptio.experiments.experiment import Experiment
from perceptio.experiments.job import Job
from perceptio.experiments.local import LocalLauncher
from perceptio.experiments.worker import INTERRUPTED, REFUSED, perform
from perceptio.recipe import Recipe


class InThisProcess:
    """Starts jobs for the local launcher: each is done at once. Knows which were."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.on_report: Callable[[Job, int], None] = lambda job, done: None

    def __call__(self, job: Job, reports: queue.Queue, log: TextIO, environment: dict[str, str]) -> Any:
        self.done.append(job.name)
        self.job = job

        def report(done: int, total: int, note: str) -> None:
            reports.put((job.name, {"done": done, "total": total, "note": note}))
            self.on_report(job, done)

        status = 0
        try:
            perform(job.request, report)
        except PerceptioError as error:
            reports.put((job.name, {"error": str(error)}))
            status = REFUSED
        except KeyboardInterrupt:
            status = INTERRUPTED
        reports.put((job.name, None))
        return _Ended(job, status)

    @property
    def kinds(self) -> list[str]:
        """What kinds of jobs were done."""
        return [name.partition("_")[0] for name in self.done]


@attrs.frozen
class _Ended:
    job: Job
    status: int

    def interrupt(self) -> None:
        """It has ended already."""

    def wait(self, timeout: float | None = None) -> int:
        return self.status


@pytest.fixture
def start() -> InThisProcess:
    return InThisProcess()


@pytest.fixture
def launcher(start: InThisProcess) -> LocalLauncher:
    return LocalLauncher(cores=1, gpus=(), start=start)


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Data to train on, and to be evaluated on."""
    root = tmp_path_factory.mktemp("data")
    return scenes_folder(root / "train", 8), scenes_folder(root / "validation", 2, Split.VALIDATION)


@pytest.fixture
def base(folders: tuple[Path, Path]) -> Recipe:
    train, validation = folders
    recipe = small_recipe(train)
    return attrs.evolve(
        recipe,
        data=attrs.evolve(recipe.data, validation=(str(validation),)),
        train=attrs.evolve(
            recipe.train, steps=4, save_every=2, validation=attrs.evolve(recipe.train.validation, samples=2)
        ),
    )


@pytest.fixture
def experiment(base: Recipe) -> Experiment:
    """Two variants that share a tokenizer."""
    other = attrs.evolve(base, name="other", train=attrs.evolve(base.train, lr=2e-3))
    return Experiment(name="rates", baseline="slow", variants={"slow": base, "fast": other})
