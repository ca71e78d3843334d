"""Where a run's metrics are plotted: TensorBoard in the run's folder, and any requested trackers of accelerate.

A tracker is known to accelerate by its name, such as `wandb`, `trackio` or `mlflow`, or registered with it. If a
tracker fails after it started, training continues without it: `metrics.jsonl` has every number.
"""

import json
import logging
import os
import secrets
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from perceptio.errors import InputError, TrainingError, near_miss
from perceptio.ops.json_files import read_json, write_json
from perceptio.recipe import Recipe
from perceptio.serialize import to_json
from perceptio.training.identity import settings_by_path
from perceptio.training.run_folder import RunFolder

if TYPE_CHECKING:
    from accelerate.tracking import GeneralTracker

logger = logging.getLogger(__name__)

VARIABLE = "PERCEPTIO_TRACK"
"""Environment variable that passes tracker names, separated by commas, to training processes."""
PROJECT_VARIABLE = "WANDB_PROJECT"
PROJECT = "perceptio"
"""Project that runs are grouped under, unless `PROJECT_VARIABLE` names one."""
TENSORBOARD = "tensorboard"
"""Always plotted, by this library itself."""
WANDB_RUN = "wandb.json"
"""File in a run's folder with the run's id in Weights & Biases, so that a resumed run continues there."""

Draw = Callable[[int, Mapping[str, float]], None]
"""Plots the metrics of a step."""


def named_by_environment() -> tuple[str, ...]:
    """Return the trackers that the environment variable `VARIABLE` names."""
    return tuple(filter(None, (name.strip() for name in os.environ.get(VARIABLE, "").split(","))))


def check_trackers(names: Sequence[str]) -> None:
    """Check that trackers can start, without prompting the user.

    Raises:
        InputError: A tracker is unknown or not installed.
        TrainingError: Weights & Biases has no login.
    """
    if not set(names) - {TENSORBOARD}:
        return
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers
    from accelerate.utils import LoggerType

    known = [str(name) for name in LOGGER_TYPE_TO_CLASS]
    installed = [str(name) for name in get_available_trackers()]
    own = [name for name in known if name not in [str(one.value) for one in LoggerType]]
    for name in names:
        if name not in (*known, TENSORBOARD):
            raise InputError(f"There is no tracker {name!r}{near_miss(name, known)}")
        if name not in (*installed, *own, TENSORBOARD):
            how = "pip install 'perceptio[track]'" if name == "wandb" else f"pip install {name}"
            raise InputError(f"The tracker {name} is not installed: {how}.")
    if "wandb" in names:
        _check_wandb_login()


def _check_wandb_login() -> None:
    """Check that Weights & Biases would not prompt for a key.

    Raises:
        TrainingError: There is no key, or the server rejects it.
    """
    import wandb

    if wandb.setup().settings.mode in ("offline", "disabled", "dryrun"):
        return
    remedy = (
        "log in with `wandb login` or set WANDB_API_KEY; or set WANDB_MODE=offline, and send the run later with "
        "`wandb sync`"
    )
    try:
        logged_in = wandb.login(prompt=False)
    except Exception as error:
        raise TrainingError(f"Weights & Biases cannot be logged in to ({error}): {remedy}.") from error
    if not logged_in:
        raise TrainingError(f"Weights & Biases has no login: {remedy}.")


@contextmanager
def drawing(
    names: Sequence[str], recipe: Recipe, folder: RunFolder, step: int, say: Callable[[str], None]
) -> Iterator[Draw]:
    """Yield a function that plots the metrics of a step in TensorBoard and in every tracker.

    Args:
        names: Names of trackers.
        recipe: The recipe that is trained; trackers receive its settings.
        folder: The run's folder.
        step: Number of steps done; later points in TensorBoard are purged.
        say: Called with a sentence if a tracker fails during training, which is then no longer used.

    Raises:
        TrainingError: A tracker does not start.
    """
    from torch.utils.tensorboard import SummaryWriter

    with ExitStack() as held:
        board = held.enter_context(SummaryWriter(str(folder.tensorboard), purge_step=step + 1))
        trackers = {
            name: held.enter_context(_started(name, recipe, folder, step))
            for name in dict.fromkeys(names)
            if name != TENSORBOARD
        }

        def draw(now: int, metrics: Mapping[str, float]) -> None:
            for metric, value in metrics.items():
                board.add_scalar(metric, value, now)
            for name, tracker in list(trackers.items()):
                try:
                    tracker.log(dict(metrics), step=now)
                except Exception as error:
                    del trackers[name]
                    say(f"The tracker {name} failed at step {now} ({error}): from here on it is left alone.")

        yield draw


@contextmanager
def _started(name: str, recipe: Recipe, folder: RunFolder, step: int) -> "Iterator[GeneralTracker]":
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS

    made: Any = {str(key): value for key, value in LOGGER_TYPE_TO_CLASS.items()}[name]
    project = os.environ.get(PROJECT_VARIABLE) or PROJECT
    where = (str(folder.path / name),) if made.requires_logging_directory else ()
    settings = {
        path: value if isinstance(value, str | int | float) else json.dumps(value)
        for path, value in settings_by_path(to_json(recipe))
    }
    try:
        with _no_prompts():
            tracker = made(project, *where, **(_wandb_run(recipe, folder, step) if name == "wandb" else {}))
            if hasattr(tracker, "start"):  # In earlier versions of accelerate, the constructor starts it.
                tracker.start()
            tracker.store_init_configuration(settings)
    except Exception as error:
        raise TrainingError(
            f"The tracker {name} does not start ({error}): leave it out, or put it right."
        ) from error
    try:
        yield tracker
    finally:
        try:
            tracker.finish()
        except Exception as error:
            logger.warning("The tracker %s did not end well: %s", name, error)


def _wandb_run(recipe: Recipe, folder: RunFolder, step: int) -> dict[str, Any]:
    """Return the identity of a run for Weights & Biases; a resumed run keeps its id."""
    path = folder.path / WANDB_RUN
    if step == 0 or not path.is_file():
        folder.path.mkdir(parents=True, exist_ok=True)
        write_json(path, {"id": secrets.token_hex(4)})
    run = read_json(path, error=TrainingError, remedy="remove it, and a new run is begun")
    return {
        "id": run["id"],
        "resume": "allow",
        "name": f"{recipe.name} {folder.path.resolve().name}",
        "dir": str(folder.path),
    }


@contextmanager
def _no_prompts() -> Iterator[None]:
    """Make stdin empty, so that nothing waits for an answer there."""
    held = sys.stdin
    with open(os.devnull, encoding="utf-8") as nothing:
        sys.stdin = nothing
        try:
            yield
        finally:
            sys.stdin = held
