"""Training a model from a recipe with accelerate: one folder per run, resumable bit for bit."""

import logging
import math
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import attrs

from perceptio.data.collate import Collate
from perceptio.data.folder import FolderDataset
from perceptio.data.mixture import check_mixture
from perceptio.errors import RecipeError, TrainingError
from perceptio.interfaces import Batch
from perceptio.model.perception_model import PerceptionModel
from perceptio.ops.files import expanded
from perceptio.ops.interrupts import Stopped, interrupt_flag
from perceptio.ops.ranks import Ranks
from perceptio.ops.weights import CHECKPOINT
from perceptio.recipe import Recipe
from perceptio.serialize import to_json
from perceptio.training.batches import made_ahead
from perceptio.training.listener import Listener, Preparing, Progress
from perceptio.training.memory import advice_when_out_of_memory, peak_memory
from perceptio.training.objective import Objective, Sums
from perceptio.training.optimizer import Optimizers, learning_rate_at
from perceptio.training.preparation import Preparation
from perceptio.training.run_folder import METRICS, OPTIMIZER, Resume, RunFolder
from perceptio.training.step import Step, trains_in_bfloat16
from perceptio.training.trackers import Draw, check_trackers, drawing, named_by_environment
from perceptio.training.validation import PREFIX, Validation, on_validation_data, open_validation

__all__ = ["CHECKPOINT", "METRICS", "Progress", "Trainer", "train"]

logger = logging.getLogger(__name__)


def train(
    recipe: Recipe,
    out: str | Path,
    *,
    resume: Resume = False,
    progress: Callable[[Progress], None] | None = None,
    preparing: Preparing = lambda what, done, total: None,
    say: Callable[[str], None] = logger.info,
    track: Sequence[str] | None = None,
) -> PerceptionModel:
    """Train a recipe into a folder, in one process or in each of several.

    Args:
        recipe: What to train, and on which data.
        out: The run's folder; see `perceptio.training.run_folder`.
        resume: Whether to continue from the folder's checkpoint. True: it must exist; `"auto"`: if it exists; False:
            it must not exist.
        progress: Called after every step, in the first process.
        preparing: Called before the first step with what is being prepared, how much of it is done, and the total.
        say: Called with sentences for the user.
        track: Trackers of accelerate to send metrics to, such as `wandb`, in addition to TensorBoard in the folder;
            None: those named by the environment variable PERCEPTIO_TRACK.

    Returns:
        The trained model, in eval mode.

    Raises:
        RecipeError: The recipe has no data or no losses, or a part that is not registered; or a tokenizer of codes is
            untrained and cannot be trained.
        DataError: The mixture asks for tasks that no folder has.
        CheckpointError: There is nothing to resume, or a checkpoint that a new run would overwrite; the checkpoint
            belongs to another run; another process trains in the folder; the folder cannot be written or its disk is
            too full; or `start_from` names no model.
        TrainingError: The loss is no longer finite, all codes of a stream are the same, another process of the run
            failed, or the device runs out of memory; what was saved before is kept. Or a tracker has no login, or
            does not start.
        InputError: A tracker is unknown or not installed.
        Stopped: Ctrl-C or SIGTERM was received, and a resumable checkpoint has been written.
    """
    recipe.check()
    if not recipe.data.folders:
        raise RecipeError(f"{recipe.name} names no data; set data.folders to one or more folders.")
    if not recipe.losses:
        raise RecipeError(f"{recipe.name} has no losses; there is nothing to train.")
    if not recipe.train.train:
        raise RecipeError(f"{recipe.name} trains no parameter group; name some in train.train.")
    to_json(recipe)  # Reports a part that cannot be saved now, and not at the first save.
    check_mixture(recipe)
    trackers = named_by_environment() if track is None else tuple(track)
    listener = Listener(progress=progress, preparing=preparing, say=say, track=trackers)
    with advice_when_out_of_memory(recipe.train), ExitStack() as held:
        ranks = Ranks()
        held.enter_context(ranks.together())
        folder = RunFolder(expanded(out))
        ranks.on_main(lambda: check_trackers(trackers))
        ranks.on_main(lambda: folder.check_resume(resume))
        ranks.on_main(lambda: _keep(held, folder))
        return Trainer(recipe, folder, ranks, listener).run()


class Trainer:
    """One training run, in one of its processes.

    Args:
        recipe: What to train, and on which data.
        folder: The run's folder; if it has a checkpoint, training continues from it.
        ranks: The processes of the run.
        listener: Callbacks that report how training goes.

    Raises:
        PerceptioError: See `train`.
    """

    def __init__(self, recipe: Recipe, folder: RunFolder, ranks: Ranks, listener: Listener) -> None:
        self.recipe, self.folder, self.ranks, self.listener = recipe, folder, ranks, listener
        self.device = ranks.accelerator.device
        self.bf16 = trains_in_bfloat16(recipe.train, self.device)
        self.objective = Objective(recipe)
        validation = open_validation(recipe, self.objective)
        prepared = Preparation(recipe, folder, ranks, listener, bf16=self.bf16)
        self.state, model, codes = prepared.state, prepared.model, prepared.codes
        self._usage = prepared.usage
        self.sampler = prepared.sampler(recipe, prepared.datasets, codes)
        self.collate = Collate.of(recipe, model.language.text_tokenizer)
        self.validation = self._validation(prepared, validation)
        self.optimizers = Optimizers(model, recipe.train)
        if prepared.resuming:
            self.optimizers.load(folder.checkpoint / OPTIMIZER)
        self.model: PerceptionModel = model
        wrapped = ranks.accelerator.prepare_model(model)
        self.step = Step(recipe, model, wrapped, self.objective, self.optimizers, ranks)
        self._window: Sums = {}
        self._saved = self.state.step if prepared.resuming else None

    def run(self) -> PerceptionModel:
        """Train to the last step, saving on the way; see `train`."""
        train = self.recipe.train
        self.ranks.on_main(self._begin_log)
        self.model.train()
        started, first = time.perf_counter(), self.state.step
        with interrupt_flag() as interrupt, self._drawing() as draw, closing(self._batches()) as batches:
            while self.state.step < train.steps:
                micro, counts = self._next(batches, interrupt.signal)
                self._train_step(micro, counts)
                step = self.state.step + 1
                self.state = attrs.evolve(self.state, step=step)
                seconds = (time.perf_counter() - started) / (step - first)
                last = step == train.steps
                metrics = self._metrics(seconds) if last or step % train.log_every == 0 else {}
                if self.validation is not None and (last or step % train.validation.every == 0):
                    metrics |= self._validate(self.validation)
                self._log(draw, metrics)
                if self.listener.progress is not None and self.ranks.main:
                    self.listener.progress(
                        Progress(step=step, steps=train.steps, metrics=metrics, seconds=seconds)
                    )
                if last or step % train.save_every == 0:
                    self._save()
        return self.model.eval()

    def _validation(self, prepared: Preparation, datasets: Sequence[FolderDataset]) -> Validation | None:
        if not datasets:
            return None
        codes = prepared.codes_of(datasets, "validation")
        sampler = prepared.sampler(on_validation_data(self.recipe), datasets, codes)
        return Validation(self.recipe, sampler, self.collate, self.objective, self.ranks)

    def _begin_log(self) -> None:
        torn = self.folder.begin_log(self.state.step)
        if torn is not None:
            self.listener.say(f"{self.folder.metrics} ended in half a line, {torn[:60]!r}, which is dropped.")

    @contextmanager
    def _drawing(self) -> Iterator[Draw | None]:
        """Yield the function that plots curves in the first process; None in the others."""
        begun: list[Draw] = []
        with ExitStack() as held:

            def begin() -> None:
                track, say = self.listener.track, self.listener.say
                begun.append(
                    held.enter_context(drawing(track, self.recipe, self.folder, self.state.step, say))
                )

            self.ranks.on_main(begin)
            yield next(iter(begun), None)

    # -- steps -------------------------------------------------------------------------------------------------

    def _batches(self) -> Generator[Batch]:
        """Yield this process's batches from the next step on; they depend only on seed, step and process number."""
        train = self.recipe.train
        first, end = (self._draw(step * train.grad_accumulation) for step in (self.state.step, train.steps))
        ahead = train.grad_accumulation + train.workers - 1
        draws = range(first, end, self.ranks.count)
        return made_ahead(self._batch, draws, workers=train.workers, ahead=ahead)

    def _draw(self, number: int) -> int:
        """Return the number within the whole run of this process's batch."""
        return number * self.ranks.count + self.ranks.index

    def _batch(self, draw: int) -> Batch:
        return self.collate(self.sampler.draw(draw, self.recipe.train.micro_batch_size))

    def _next(self, batches: Iterator[Batch], signal: int) -> tuple[list[Batch], dict[str, float]]:
        """Return the batches of a step, and the counts by which the losses are divided.

        Counts are summed over micro-steps and processes, and divided by the number of processes, because their
        gradients are averaged. The same exchange tells all processes whether to stop, and whether one has failed.

        Raises:
            Stopped: A process received a signal; the checkpoint is written.
            PerceptioError: A batch cannot be made.
        """
        micro: list[Batch] = []
        failure: BaseException | None = None
        try:
            micro = [next(batches) for _ in range(self.recipe.train.grad_accumulation)]
        except Exception as error:
            failure = error
        known = {"stopping": float(signal != 0), "failed": float(failure is not None)}
        counts = self.ranks.add(known | self.objective.counts(micro))
        if counts.pop("failed"):
            self.ranks.raise_together(failure)
        if counts.pop("stopping"):
            signal = max(self.ranks.gather(signal))
            self._save()
            raise Stopped(signal)
        return micro, {name: max(count, 1) / self.ranks.count for name, count in counts.items()}

    def _train_step(self, micro: list[Batch], counts: Mapping[str, float]) -> None:
        train = self.recipe.train
        self.optimizers.set_learning_rates(learning_rate_at(self.state.step, train))
        first = self.state.step * train.grad_accumulation
        draws = [self._draw(first + number) for number in range(len(micro))]
        self.step(micro, counts, draws, self._window)

    # -- after a step ------------------------------------------------------------------------------------------

    def _metrics(self, seconds: float) -> dict[str, float]:
        """Return means over the steps since the last logged line, over all processes."""
        means = self.ranks.means(self._window)
        self._window.clear()
        self._check_finite(means)
        lr = learning_rate_at(self.state.step - 1, self.recipe.train) * self.recipe.train.lr
        memory = peak_memory(self.device)
        return {**means, "lr": lr, "seconds_per_step": seconds, **memory, **self._usage}

    def _validate(self, validation: Validation) -> dict[str, float]:
        figures = validation.measure(self.model, bf16=self.bf16)
        self._check_finite(figures)
        value = figures[validation.settings.best]
        if validation.is_better(value, self.state.best):
            self.state = attrs.evolve(self.state, best=value)
            self.ranks.on_main(lambda: self.folder.save_best(self.model, self.state.step, figures))
        return {f"{PREFIX}{name}": value for name, value in figures.items()}

    def _check_finite(self, means: Mapping[str, float]) -> None:
        bad = sorted(name for name, value in means.items() if not math.isfinite(value))
        if bad:
            raise TrainingError(
                f"At step {self.state.step} of {self.recipe.train.steps} {', '.join(bad)} stopped being finite. The "
                "last checkpoint is kept; lower train.lr, or look for broken targets with `perceptio data check`."
            )

    def _log(self, draw: Draw | None, metrics: Mapping[str, float]) -> None:
        if not metrics or draw is None:
            return
        draw(self.state.step, metrics)
        self.folder.log(self.state.step, metrics)

    def _save(self) -> None:
        """Write the checkpoint, unless this step is already saved."""
        if self._saved == self.state.step:
            return
        self._check_finite(self.ranks.means(self._window))
        self.ranks.on_main(lambda: self.folder.save(self.model, self.optimizers, self.state))
        self._saved = self.state.step


def _keep(held: ExitStack, folder: RunFolder) -> None:
    held.enter_context(folder.held())
