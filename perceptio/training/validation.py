"""How a model in training does on data that it is not trained on."""

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
    """The folders of `data.validation`, checked with what is measured on them before anything is trained.

    Raises:
        UnknownNameError: The figure that decides is of no loss of the recipe.
        DataError: A folder is not there or not in the format, or the mixture asks for tasks that none has.
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
    """The recipe as if it were trained on what it is only measured on."""
    folders = tuple(DataFolder(path=path) for path in recipe.data.validation)
    return attrs.evolve(recipe, data=attrs.evolve(recipe.data, folders=folders, max_questions=None))


class Validation:
    """The recipe's losses and their metrics on conversations from `data.validation`, the same ones every time.

    Conversations are drawn as those for training are, extra samples included, and shared out among the processes.

    Args:
        recipe: Whose `train.validation` applies.
        sampler: Draws from `data.validation`, for the recipe `on_validation_data`.
        collate: Packs them.
        objective: Measures them.
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
        """The figures: `loss`, and every term and metric of the losses.

        Neither the model nor any random number of training is touched.

        Args:
            model: The model; it is in the mode afterwards that it was in.
            bf16: Whether it computes in bfloat16.

        Raises:
            TrainingError: The figure that decides was not measured.
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
        """Whether a value of the figure that decides is better than the best so far."""
        if best is None:
            return True
        return value > best if self.settings.goal == "highest" else value < best

    @property
    def _count(self) -> int:
        """How many batches are measured."""
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
