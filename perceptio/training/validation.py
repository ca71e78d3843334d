"""Evaluation of the model on validation data during training."""

import attrs
import torch

from perceptio.data.collate import Collate
from perceptio.data.conversations import ConversationSampler
from perceptio.data.folder import FolderDataset
from perceptio.data.mixture import check_mixture
from perceptio.errors import TrainingError, UnknownNameError, near_miss
from perceptio.model.network import PerceptionNetwork
from perceptio.model.point_values import with_own_levels
from perceptio.ops.foreign import naming
from perceptio.ops.ranks import Ranks
from perceptio.recipe import DataFolder, Recipe
from perceptio.training.objective import Objective, Sums, add_sums

PREFIX = "validation."


def open_validation(recipe: Recipe, objective: Objective) -> list[FolderDataset]:
    """Open and check the folders of `data.validation` before anything is trained.

    Raises:
        UnknownNameError: The figure that selects the best model belongs to no loss of the recipe.
        DataError: A folder does not exist or has the wrong format, or the mixture asks for tasks that none has.
    """
    if not recipe.data.validation:
        return []
    best, known = recipe.train.validation.best, ["loss", *objective.weights]
    if best.partition(".")[0] not in known:
        raise UnknownNameError(f"train.validation.best names the figure {best!r}{near_miss(best, known)}")
    datasets = [FolderDataset(path) for path in recipe.data.validation]
    with naming("data.validation"):
        check_mixture(on_validation_data(recipe))
    return datasets


def on_validation_data(recipe: Recipe) -> Recipe:
    """Return the recipe with its validation data as training data, without a limit on questions."""
    folders = tuple(DataFolder(path=path) for path in recipe.data.validation)
    return attrs.evolve(recipe, data=attrs.evolve(recipe.data, folders=folders, max_questions=None))


class Validation:
    """The recipe's losses and their metrics on conversations from `data.validation`, the same ones every time.

    Conversations are drawn as for training, extra samples included, and shared among the processes.

    Args:
        recipe: The recipe whose `train.validation` applies.
        sampler: Draws from `data.validation`, for the recipe returned by `on_validation_data`.
        collate: Packs conversations into batches.
        objective: Computes the losses and metrics.
        ranks: The processes of the run.
    """

    def __init__(
        self,
        recipe: Recipe,
        sampler: ConversationSampler,
        collate: Collate,
        objective: Objective,
        ranks: Ranks,
    ) -> None:
        self.settings, self.batch_size = recipe.train.validation, recipe.train.micro_batch_size
        self.sampler = sampler
        self.collate, self.objective, self.ranks = collate, objective, ranks

    def measure(self, model: PerceptionNetwork, *, bf16: bool) -> dict[str, float]:
        """Return the figures: `loss`, and every term and metric of the losses.

        Changes neither the model nor the random state of training.

        Args:
            model: The model; its mode is restored afterwards.
            bf16: Whether it computes in bfloat16.

        Raises:
            TrainingError: The figure that selects the best model was not measured.
        """
        sums: Sums = {}
        devices = [model.device] if model.device.type == "cuda" else []
        was_training = model.training
        model.eval()
        try:
            with torch.random.fork_rng(devices), torch.no_grad():
                for number in range(self.ranks.index, self._count, self.ranks.count):
                    torch.manual_seed(number)
                    add_sums(sums, self._terms(model, number, bf16))
        finally:
            model.train(was_training)
        means = self.ranks.means(sums)
        weights = self.objective.weights
        figures = {
            "loss": sum(weight * means.get(name, 0.0) for name, weight in weights.items()),
            **means,
        }
        if self.settings.best not in figures:
            raise TrainingError(
                f"train.validation.best is {self.settings.best!r}, which the validation data do not give"
                f"{near_miss(self.settings.best, figures)}"
            )
        return figures

    def is_better(self, value: float, best: float | None) -> bool:
        """Return whether a value of the selecting figure is better than the best so far."""
        if best is None:
            return True
        return value > best if self.settings.goal == "highest" else value < best

    @property
    def _count(self) -> int:
        """The number of batches that are measured."""
        return -(-self.settings.samples // self.batch_size)

    def _terms(self, model: PerceptionNetwork, number: int, bf16: bool) -> Sums:
        left = self.settings.samples - number * self.batch_size
        samples = self.sampler.draw(number, min(self.batch_size, left))
        batch = self.collate(samples)
        counts = self.objective.counts([batch])
        batch = model.with_targets(batch.to(model.device))
        with torch.autocast(model.device.type, torch.bfloat16, enabled=bf16):
            batch = with_own_levels(model, batch)
            output = model(batch, self.objective.required_outputs)
        terms = self.objective(output, batch, {name: max(count, 1) for name, count in counts.items()})
        return dict(terms.sums)
