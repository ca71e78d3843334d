"""Training a model from a recipe, on accelerate: resumable to the bit, one folder per run."""

import json
import logging
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import torch
from torch import Tensor, nn

from perceptio.data.conversations import ConversationSampler
from perceptio.data.folder import FolderDataset
from perceptio.data.mixture import check_mixture
from perceptio.data.packing import Packer
from perceptio.errors import CheckpointError, RecipeError, TrainingError
from perceptio.interfaces import Batch
from perceptio.model.assemble import build_model
from perceptio.model.base import base_tensors
from perceptio.model.checkpoint import load, save
from perceptio.model.perception_model import PerceptionModel
from perceptio.ops.interrupts import interrupt_flag
from perceptio.ops.precision import computes_bfloat16
from perceptio.recipe import Recipe, TrainConfig
from perceptio.serialize import fingerprint, to_json
from perceptio.training.memory import advice_when_out_of_memory, peak_memory
from perceptio.training.objective import Objective, Terms
from perceptio.training.optimizer import Optimizers, learning_rate_at
from perceptio.training.targets import encode_depth

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

logger = logging.getLogger(__name__)

METRICS = "metrics.jsonl"
CHECKPOINT = "checkpoint"
OPTIMIZER = "optimizer.safetensors"


@attrs.frozen(kw_only=True)
class Progress:
    """How far training is: reported after every step."""

    step: int
    steps: int
    metrics: Mapping[str, float]
    seconds: float


class Trainer:
    """One training run.

    Args:
        recipe: What to train, and on what.
        out: The run's folder: `checkpoint/`, `metrics.jsonl` and `tensorboard/` are written in it.
        resume: Go on from the folder's checkpoint, if it has one.
        progress: Called after every step.

    Raises:
        RecipeError: The recipe has no data or no losses, or a part that is not registered.
        DataError: The mixture asks for tasks that no folder has.
        CheckpointError: The folder's checkpoint is of another recipe, or `save_base` is off and nothing frozen comes
            from pretrained weights.
    """

    def __init__(
        self,
        recipe: Recipe,
        out: Path,
        *,
        resume: bool = False,
        progress: Callable[[Progress], None] | None = None,
    ) -> None:
        from accelerate import Accelerator

        if not recipe.data.folders:
            raise RecipeError(f"{recipe.name} names no data; set data.folders to one or more folders.")
        if not recipe.losses:
            raise RecipeError(f"{recipe.name} has no losses; there is nothing to train.")
        to_json(recipe)  # A part that could not be saved is named now, and not at the first save.
        check_mixture(recipe)
        self.recipe, self.out, self.progress = recipe, Path(out), progress
        # Autocast is PyTorch's own: accelerate fixes the precision for the whole process at its first use.
        self.accelerator = Accelerator(mixed_precision="no")
        native = recipe.train.precision == "auto" and computes_bfloat16(self.accelerator.device)
        self.bf16 = native or recipe.train.precision == "bf16"
        torch.manual_seed(recipe.train.seed)
        self.step = 0
        model = self._resumed() if resume and (self.out / CHECKPOINT).exists() else build_model(recipe)
        if not recipe.train.save_base:
            base_tensors(model)
        self.datasets = [FolderDataset(folder.path) for folder in recipe.data.folders]
        model.to(self.accelerator.device)
        codes = None
        if model.depth is not None:
            codes = [encode_depth(model.depth, dataset) for dataset in self.datasets]
        self.sampler = ConversationSampler(recipe, self.datasets, codes)
        self.packer = Packer(model)
        self.objective = Objective(recipe)
        self.optimizers = Optimizers(model, recipe.train)
        if self.step:
            self.optimizers.load(self.out / CHECKPOINT / OPTIMIZER)
        self.model: PerceptionModel = model
        self.wrapped: nn.Module = self.accelerator.prepare_model(model)
        self._window: dict[str, tuple[Tensor, int]] = {}

    def run(self) -> PerceptionModel:
        """Train to the last step, saving on the way.

        Returns:
            The trained model, in eval mode.

        Raises:
            TrainingError: The loss is no longer a finite number; what was saved before is kept.
            KeyboardInterrupt: After Ctrl-C, when a resumable checkpoint has been written.
        """
        from torch.utils.tensorboard import SummaryWriter

        train = self.recipe.train
        self.out.mkdir(parents=True, exist_ok=True)
        _drop_metrics_after(self.out / METRICS, self.step)
        self.model.train()
        started, first = time.perf_counter(), self.step
        with interrupt_flag() as interrupted, SummaryWriter(str(self.out / "tensorboard")) as board:
            while self.step < train.steps:
                self._train_step(train)
                self.step += 1
                seconds = (time.perf_counter() - started) / (self.step - first)
                metrics = {}
                if self.step % train.log_every == 0 or self.step == train.steps:
                    metrics = self._log(board, seconds)
                if self.progress is not None:
                    self.progress(
                        Progress(step=self.step, steps=train.steps, metrics=metrics, seconds=seconds)
                    )
                stop = interrupted.is_set()
                if stop or self.step % train.save_every == 0 or self.step == train.steps:
                    self._save()
                if stop:
                    raise KeyboardInterrupt
        return self.model.eval()

    def _train_step(self, train: TrainConfig) -> None:
        torch.manual_seed(train.seed * 1_000_003 + self.step)
        micro = [self._batch(self.step * train.accumulate + i) for i in range(train.accumulate)]
        counts = self._global_counts(micro)
        self.optimizers.set_learning_rates(learning_rate_at(self.step, train))
        for batch in micro:
            with torch.autocast(self.accelerator.device.type, torch.bfloat16, enabled=self.bf16):
                output = self.wrapped(batch, self.objective.reads)
            terms = self.objective(output, batch, counts)  # In float32, whatever the model computes in.
            self.accelerator.backward(self._with_every_parameter(terms))
            self._accumulate(terms)
        norm = self.accelerator.clip_grad_norm_(self.model.parameters(), train.clip)
        self._window["gradient_norm"] = _added(self._window.get("gradient_norm"), (norm.detach(), 1))
        self.optimizers.step()

    def _batch(self, draw: int) -> Batch:
        rank, world = self.accelerator.process_index, self.accelerator.num_processes
        samples = self.sampler.draw(draw * world + rank, self.recipe.train.batch_size)
        return self.packer.pack(samples).to(self.accelerator.device)

    def _global_counts(self, micro: list[Batch]) -> dict[str, float]:
        """Counts over micro-steps and ranks, divided by the ranks because their gradients are averaged."""
        counts = self.objective.counts(micro)
        world = self.accelerator.num_processes
        if world == 1:
            return {name: max(count, 1) for name, count in counts.items()}
        local = torch.tensor(list(counts.values()), device=self.accelerator.device, dtype=torch.float64)
        summed = self.accelerator.reduce(local, "sum").clamp_min(1) / world
        return dict(zip(counts, summed.tolist(), strict=True))

    def _with_every_parameter(self, terms: Terms) -> Tensor:
        """The total; across ranks every trained parameter stays in the graph, used in this batch or not."""
        if self.accelerator.num_processes == 1:
            return terms.total
        return terms.total + 0.0 * sum(p.sum() for p in self.model.parameters() if p.requires_grad)

    def _accumulate(self, terms: Terms) -> None:
        for name, value in terms.sums.items():
            self._window[name] = _added(self._window.get(name), value)
        self._window["loss"] = _added(self._window.get("loss"), (terms.total.detach(), 1))

    def _log(self, board: "SummaryWriter", seconds: float) -> dict[str, float]:
        means = {name: float(total) / count for name, (total, count) in self._window.items()}
        self._window.clear()
        bad = sorted(name for name, value in means.items() if not math.isfinite(value))
        if bad:
            raise TrainingError(
                f"At step {self.step} of {self.recipe.train.steps} {', '.join(bad)} stopped being finite. The last "
                "checkpoint is kept; lower train.lr, or look for broken targets with `perceptio data check`."
            )
        lr = learning_rate_at(self.step - 1, self.recipe.train) * self.recipe.train.lr
        memory = peak_memory(self.accelerator.device)
        metrics = {**means, "lr": lr, "seconds_per_step": seconds, **memory}
        for name, value in metrics.items():
            board.add_scalar(name, value, self.step)
        with open(self.out / METRICS, "a", encoding="utf-8") as file:
            file.write(json.dumps({"step": self.step, **metrics}) + "\n")
        return metrics

    def _save(self) -> None:
        if not self.accelerator.is_main_process:
            return
        if any(not bool(torch.isfinite(total).all()) for total, _ in self._window.values()):
            raise TrainingError(f"At step {self.step} the loss is not finite; the last checkpoint is kept.")

        def add_state(folder: Path) -> None:
            self.optimizers.save(folder / OPTIMIZER)
            state = {"step": self.step, "steps": self.recipe.train.steps}
            (folder / "training.json").write_text(json.dumps(state), encoding="utf-8")

        adapters_only = not self.recipe.train.save_base
        save(self.model, self.out / CHECKPOINT, add=add_state, adapters_only=adapters_only)

    def _resumed(self) -> PerceptionModel:
        folder = self.out / CHECKPOINT
        model = load(folder)
        if not isinstance(model, PerceptionModel) or not (folder / "training.json").exists():
            raise CheckpointError(f"{folder} holds no training state; it cannot be resumed.")
        if fingerprint(model.recipe) != fingerprint(self.recipe):
            raise CheckpointError(
                f"{folder} was trained from another recipe ({fingerprint(model.recipe)}, this one is "
                f"{fingerprint(self.recipe)}); resume with the same recipe and settings, or choose another --out."
            )
        self.step = int(json.loads((folder / "training.json").read_text(encoding="utf-8"))["step"])
        logger.info("Resuming %s at step %d of %d.", self.recipe.name, self.step, self.recipe.train.steps)
        return model


def train(
    recipe: Recipe,
    out: str | Path,
    *,
    resume: bool = False,
    progress: Callable[[Progress], None] | None = None,
) -> PerceptionModel:
    """Train what a recipe describes into a folder; see `Trainer`.

    Raises:
        TrainingError: As `Trainer.run` does, or the device runs out of memory; the message says what to lower.
    """
    with advice_when_out_of_memory(recipe.train):
        return Trainer(recipe, Path(out), resume=resume, progress=progress).run()


def _added(old: tuple[Tensor, int] | None, new: tuple[Tensor, int]) -> tuple[Tensor, int]:
    return new if old is None else (old[0] + new[0], old[1] + new[1])


def _drop_metrics_after(path: Path, step: int) -> None:
    """Forget lines that a resumed run will write again."""
    if not path.exists():
        return
    lines = path.read_text(encoding="utf-8").splitlines()
    kept = [line for line in lines if json.loads(line)["step"] <= step]
    path.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
