"""The folder of one run.

checkpoint/        the last saved model, its optimizer's state, and `training.json`: the state of the run
best/              the best model on the validation data, and `validation.json`: its figures
metrics.jsonl      a line for every logged step
tensorboard/       the same metrics as curves
wandb.json, …      the id of the run in a tracker, if it is sent to one
tokenizers/        tokenizers that the run trained itself, by stream
codes/             codes of the data, by stream, if the data folders have none
"""

import errno
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import attrs

from perceptio.data.folder.dataset_info import INFO_FILE
from perceptio.errors import CheckpointError, quoted
from perceptio.model.checkpoints.checkpoint import is_of_earlier_format, save
from perceptio.model.checkpoints.pretrained import pretrained_tensors
from perceptio.model.network import PerceptionNetwork
from perceptio.ops.files import check_replaceable, disk_errors, folder_lock, recover, whole
from perceptio.ops.foreign import naming, parsing
from perceptio.ops.json_files import append_line, read_json, read_log, rewrite_log, write_json
from perceptio.ops.weights import CHECKPOINT, tensors_of
from perceptio.recipe import TrainConfig
from perceptio.setting_types import problems
from perceptio.training.memory import GIB, MemoryPlan
from perceptio.training.optimizer import Optimizers

Resume = bool | Literal["auto"]
"""Whether to continue from the folder's checkpoint: True: it must exist; False: it must not; "auto": if it exists."""

METRICS = "metrics.jsonl"
BEST = "best"
OPTIMIZER = "optimizer.safetensors"
STATE = "training.json"
VALIDATION = "validation.json"


@attrs.frozen(kw_only=True)
class RunState:
    """The state of a run, as stored in its checkpoint's `training.json`.

    Attributes:
        step: Number of steps done.
        steps: Planned number of steps.
        identity: What the run's result depends on; see `perceptio.training.identity`.
        schedule: The settings of its learning rate schedule.
        best: The best value on the validation data so far; None: none was measured.
        validation: What that value depends on: the content of the validation data, and the settings of the figure.
    """

    step: int
    steps: int
    identity: Mapping[str, Any]
    schedule: Mapping[str, Any]
    best: float | None = None
    validation: Mapping[str, Any] | None = None


class RunFolder:
    """Reads and writes the folder of a run.

    Args:
        path: The folder, which is created when something is written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoint, self.best, self.metrics = path / CHECKPOINT, path / BEST, path / METRICS
        self.tensorboard = path / "tensorboard"
        self.tokenizers, self.codes = path / "tokenizers", path / "codes"

    @contextmanager
    def held(self) -> Iterator[None]:
        """Lock the folder for this process.

        Raises:
            CheckpointError: Another process has locked it, or it cannot be written.
        """
        with disk_errors(self.path, CheckpointError):
            try:
                with folder_lock(self.path):
                    yield
            except BlockingIOError as error:
                if error.errno != errno.EWOULDBLOCK or error.filename != str(self.path):
                    raise
                raise CheckpointError(
                    f"Another process trains in {self.path}: wait for it, or choose another folder (--out)."
                ) from error

    def check_resume(self, resume: Resume) -> None:
        """Check, without writing, that there is a checkpoint to resume, or none if a new run starts.

        Raises:
            CheckpointError: The check fails, the folder holds data, or its name is not a valid path.
        """
        with disk_errors(self.path, CheckpointError):
            there = whole(self.checkpoint).exists()
            holds_data = (self.path / INFO_FILE).exists()
        if holds_data:
            raise CheckpointError(f"{self.path} is a folder of data: choose another --out for the run.")
        if there and resume is False:
            raise CheckpointError(
                f"{self.path} holds a checkpoint already; give --resume to go on, or choose another --out."
            )
        if not there and resume is True:
            raise CheckpointError(
                f"{self.path} holds no checkpoint to resume; look at --out, or begin a run by leaving --resume out "
                "(--auto-resume does what fits)."
            )

    def open(self) -> bool:
        """Restore what a killed process left aside, and check that checkpoints can be written.

        Returns:
            Whether there is a checkpoint to continue from.

        Raises:
            CheckpointError: The folder cannot be written.
        """
        with disk_errors(self.path, CheckpointError):
            for folder in (self.checkpoint, self.best):
                recover(folder)
                check_replaceable(folder)
        return self.checkpoint.exists()

    def check_room(self, model: PerceptionNetwork, *, save_pretrained_weights: bool) -> None:
        """Check in advance for problems that would make the first save fail.

        Raises:
            CheckpointError: There are no pretrained weights to leave out of checkpoints, or the disk has too little
                room.
        """
        saved = dict(tensors_of(model))
        if not save_pretrained_weights:
            for held in pretrained_tensors(model).values():
                for name in held:
                    saved.pop(name, None)
        needed = sum(value.numel() * value.element_size() for value in saved.values())
        needed += MemoryPlan.of(model, model.recipe.train).optimizer
        free = shutil.disk_usage(self.path).free
        if free < needed:
            raise CheckpointError(
                f"A checkpoint of {model.recipe.name} takes {needed / GIB:.1f} GiB, and the disk of {self.path} has "
                f"{free / GIB:.1f} left: make room, or choose another --out."
            )

    def state(self) -> RunState:
        """Return the state of the run in the checkpoint.

        Raises:
            CheckpointError: The checkpoint has no valid state, or an earlier format.
        """
        if is_of_earlier_format(self.checkpoint):
            raise CheckpointError(
                f"{self.checkpoint} was written by an earlier version of this library, and its optimizer's state is "
                "by other names: it cannot be resumed. To go on from its weights, begin a run with another --out and "
                f"--set start_from={self.checkpoint}."
            )
        path = self.checkpoint / STATE
        held = read_json(path, error=CheckpointError, remedy="it cannot be resumed")
        with (
            parsing(
                CheckpointError,
                f"{path} is no training state of this version ({{reason}}); it cannot be resumed.",
            ),
            naming(path),
        ):
            state = RunState(**held)
            wrong = list(problems(state, RunState, ""))
            if not wrong:
                wrong = list(problems(attrs.evolve(TrainConfig(), **state.schedule), TrainConfig, "schedule"))
            if wrong or not 0 <= state.step <= state.steps:
                raise ValueError(wrong[0] if wrong else f"step {state.step} of {state.steps}")
        return state

    def save(self, model: PerceptionNetwork, optimizers: Optimizers, state: RunState) -> None:
        """Replace the checkpoint.

        Raises:
            CheckpointError: It cannot be written; the last one is unchanged.
        """

        def add_state(folder: Path) -> None:
            optimizers.save(folder / OPTIMIZER)
            write_json(folder / STATE, attrs.asdict(state), error=CheckpointError)

        save(
            model,
            self.checkpoint,
            add=add_state,
            adapters_only=not model.recipe.train.save_pretrained_weights,
        )

    def save_best(self, model: PerceptionNetwork, step: int, figures: Mapping[str, float]) -> None:
        """Replace the best model.

        Raises:
            CheckpointError: It cannot be written; the last one is unchanged.
        """

        def add_figures(folder: Path) -> None:
            write_json(folder / VALIDATION, {"step": step, **figures}, error=CheckpointError)

        save(model, self.best, add=add_figures, adapters_only=not model.recipe.train.save_pretrained_weights)

    def begin_log(self, step: int) -> str | None:
        """Drop the log's lines after a step, because a resumed run writes them again.

        Returns:
            The incomplete last line of a process that died while writing it, which is also dropped; None if there is
            none.

        Raises:
            CheckpointError: The log cannot be read or written, or has a line that is not metrics.
        """
        lines, torn = read_log(self.metrics, error=CheckpointError)
        for line in lines:
            if not isinstance(line, dict) or type(line.get("step")) is not int:
                raise CheckpointError(
                    f"{self.metrics} has the line {quoted(line)}, which is no metrics: move it away."
                )
        kept = [line for line in lines if line["step"] <= step]
        if torn is not None or len(kept) < len(lines):
            with disk_errors(self.path, CheckpointError):
                rewrite_log(self.metrics, kept)
        return torn

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Append a line of metrics.

        Raises:
            CheckpointError: The line cannot be written.
        """
        with disk_errors(self.path, CheckpointError):
            append_line(self.metrics, {"step": step, **metrics})
