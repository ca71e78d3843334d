"""Predicts the peak memory of a training step before the model exists, by running the step on shapes only."""

import attrs
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException

from perceptio.data.collate import Collate
from perceptio.data.conversations import ConversationSampler, Levels
from perceptio.data.folder import FolderDataset
from perceptio.data.mixture import check_mixture
from perceptio.errors import RecipeError
from perceptio.interfaces import Batch, Codes
from perceptio.model.assemble import assemble
from perceptio.model.perception_model import PerceptionModel
from perceptio.ops.live_memory import LiveMemory
from perceptio.ops.ranks import Ranks
from perceptio.ops.undrawn import give_values
from perceptio.recipe import Recipe
from perceptio.training.memory import LIBRARIES
from perceptio.training.objective import Objective
from perceptio.training.optimizer import Optimizers
from perceptio.training.step import Step, trains_in_bfloat16

BATCHES = 16
"""Number of batches that are drawn; the step is run on the one with the most tokens."""


@attrs.frozen(kw_only=True)
class Foretold:
    """The peak memory of one training step in one process, and what was in the step.

    Attributes:
        peak: Bytes of tensors on the device at the peak.
        held: Bytes of tensors that are kept between steps: weights and the optimizer's state.
        device: The device.
        bf16: Whether the step computes in bfloat16.
        lengths: Number of tokens of each conversation in the batch.
        images: Height and width of each image.
    """

    peak: int
    held: int
    device: torch.device
    bf16: bool
    lengths: tuple[int, ...]
    images: tuple[tuple[int, int], ...]

    @property
    def libraries(self) -> int:
        """Bytes that the process holds besides tensors, if both share the same memory."""
        return LIBRARIES if self.device.type == "cpu" else 0

    @property
    def resident(self) -> int:
        """Total bytes, without freed memory that the allocator keeps for later tensors."""
        return self.peak + self.libraries


def foretell(recipe: Recipe) -> Foretold:
    """Run one training step on the recipe's data, with a model that has shapes but no values.

    This is a step after the first, so the optimizer already has its state. With gradient accumulation, the gradients
    of an earlier batch are present, too. Not included: codebooks that are trained first, validation, and saving.

    Raises:
        DataError: A data folder does not exist or cannot be read, or the mixture asks for tasks that no folder has.
        RecipeError: The recipe has no data or no losses, trains nothing, or has a part that needs tensor values.
    """
    if not recipe.data.folders or not recipe.losses:
        lacking = "data" if recipe.losses else "losses"
        raise RecipeError(f"{recipe.name} names no {lacking}, without which no step can be foretold.")
    check_mixture(recipe)
    ranks, objective = Ranks(), Objective(recipe)
    device = ranks.accelerator.device
    bf16 = trains_in_bfloat16(recipe.train, device)
    model = assemble(recipe, PerceptionModel, load_weights=False, parameters="absent").train()
    batch = _longest_batch(recipe, model)
    counts = {name: float(max(count, 1)) for name, count in objective.counts([batch]).items()}
    with LiveMemory() as memory:
        _fill(model, memory, device)
        memory.count([*model.parameters(), *model.buffers()])
        optimizers = Optimizers(model, recipe.train)
        _give_gradients(model)
        optimizers.step()
        held = memory.now
        if recipe.train.grad_accumulation > 1:
            _give_gradients(model)
        step = Step(recipe, model, model, objective, optimizers, ranks)
        try:
            step([batch], counts, [0], {})
        except (DataDependentOutputException, DynamicOutputShapeException) as error:
            raise RecipeError(
                f"The memory of a step of {recipe.name} cannot be foretold, because a part looks at values that "
                f"nothing computes ({error.func}): train a few steps, and see the peak in their metrics."
            ) from error
    return Foretold(
        peak=memory.peak,
        held=held,
        device=device,
        bf16=bf16,
        lengths=batch.lengths,
        images=tuple((image.shape[-2], image.shape[-1]) for image in batch.images),
    )


def _longest_batch(recipe: Recipe, model: PerceptionModel) -> Batch:
    """Return the longest of the first batches, in tokens; every image has codes, and every point a level."""
    datasets = [FolderDataset(one.path) for one in recipe.data.folders]
    codes = {
        stream.name: [
            _any_codes(dataset, stream.spec.target, stream.spec.written.length) for dataset in datasets
        ]
        for stream in recipe.streams
        if isinstance(stream.spec.written, Codes) and stream.spec.per == "image"
    }
    levels = [_any_levels(dataset) for dataset in datasets] if recipe.point_values is not None else []
    sampler = ConversationSampler(recipe, datasets, codes, levels)
    collate = Collate.of(recipe, model.language.text_tokenizer)
    batches = (collate(sampler.draw(number, recipe.train.micro_batch_size)) for number in range(BATCHES))
    return max(batches, key=lambda batch: len(batch.ids_T))


def _any_codes(dataset: FolderDataset, target: str, length: int) -> Tensor:
    """Return codes [n, L] as training has them: 0 if a sample has the target, and -1 if not."""
    codes_nL = torch.full((len(dataset), length), -1)
    codes_nL[torch.from_numpy(dataset.with_target(target))] = 0
    return codes_nL


def _any_levels(dataset: FolderDataset) -> Levels:
    """Return a level for every marked point."""
    return {
        number: {point: 0 for turn in dataset.turns(number) for point in turn.points}
        for number in range(len(dataset))
    }


def _fill(model: PerceptionModel, memory: LiveMemory, device: torch.device) -> None:
    """Put a model with absent parameters on a device: parameters without values, and its buffers."""
    give_values(model, lambda parameter: memory.without_values(parameter, device))
    for module in model.modules():
        for name, buffer in module.named_buffers(recurse=False):
            setattr(module, name, buffer.to(device))


def _give_gradients(model: PerceptionModel) -> None:
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.zeros_like(parameter)
