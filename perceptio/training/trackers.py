"""Where the curves of a run are drawn: TensorBoard, in its folder, and the trackers of accelerate that are asked for.

A tracker is one that accelerate knows by its name, such as `wandb`, `trackio` or `mlflow`, or that was registered
with it. Once it has started, training goes on whatever becomes of it: `metrics.jsonl` has every number.
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
"""The environment variable with the names of trackers, apart by commas, of processes that train for another."""
PROJECT_VARIABLE = "WANDB_PROJECT"
PROJECT = "perceptio"
"""What runs are grouped under where `PROJECT_VARIABLE` names nothing else."""
TENSORBOARD = "tensorboard"
"""Always drawn, by ourselves."""
WANDB_RUN = "wandb.json"
"""The file of a run's folder with the id by which Weights & Biases knows it, so that a resumed run goes on there."""

Draw = Callable[[int, Mapping[str, float]], None]
"""Draws the metrics of a step."""


def named_by_environment() -> tuple[str, ...]:
    """The trackers that `VARIABLE` names."""
    return tuple(filter(None, (name.strip() for name in os.environ.get(VARIABLE, "").split(","))))


def check_trackers(names: Sequence[str]) -> None:
    """Refuse trackers that could not start, without asking anything at a prompt.

    Raises:
        InputError: One is unknown or not installed.
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
    """Refuse Weights & Biases where it would ask for a key.

    Raises:
        TrainingError: It has none, or the server refuses it.
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
    """A function that draws the metrics of a step, in TensorBoard and in every tracker.

    Args:
        names: Of trackers.
        recipe: What is trained; trackers are told its settings.
        folder: The run's.
        step: The steps that are done; what TensorBoard has of later ones is forgotten.
        say: Told of a tracker that fails on the way, which is left alone then.

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
            if hasattr(tracker, "start"):  # In earlier versions of accelerate, making one starts it.
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
    """How a run is called in Weights & Biases; one that is resumed goes on under the same id."""
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
    """Nothing to read at stdin, so that nobody waits for an answer there."""
    held = sys.stdin
    with open(os.devnull, encoding="utf-8") as nothing:
        sys.stdin = nothing
        try:
            yield
        finally:
            sys.stdin = held
