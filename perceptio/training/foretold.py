"""The peak of memory of a training step, found out before there is a model: the step runs on shapes alone."""

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
"""So many batches are drawn, and the step is one of that with the most tokens."""


@attrs.frozen(kw_only=True)
class Foretold:
    """The most memory that tensors take in one step of training, in one process, and what was in the step.

    Attributes:
        peak: Bytes of tensors on the device.
        held: Bytes of them that are held between steps: weights, and the state of the optimizer.
        device: Where.
        bf16: Whether the step computes in bfloat16.
        lengths: Tokens of each conversation of the batch.
        images: Height and width of each picture.
    """

    peak: int
    held: int
    device: torch.device
    bf16: bool
    lengths: tuple[int, ...]
    images: tuple[tuple[int, int], ...]

    @property
    def libraries(self) -> int:
        """Bytes that the process holds beside tensors, where these lie in its memory."""
        return LIBRARIES if self.device.type == "cpu" else 0

    @property
    def resident(self) -> int:
        """Bytes in all; what the allocator keeps of freed tensors for later ones comes on top."""
        return self.peak + self.libraries


def foretell(recipe: Recipe) -> Foretold:
    """Run one step of training on the recipe's data, with a model that has shapes and no values.

    It is the step that training does after its first, when the optimizer has its state; where gradients are
    accumulated, one that finds those of a batch before. What comes beside it is left out: codebooks that are trained
    first, measuring on validation data, and saving.

    Raises:
        DataError: A data folder is not there or cannot be read, or the mixture asks for tasks that none has.
        RecipeError: The recipe has no data or no losses, trains nothing, or has a part that asks for values.
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
    """Of the first batches of the data, that with the most tokens; every image has codes, and every point a level."""
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
    """Codes [n, L] where a folder has the target, and -1 where not, as training has them."""
    codes_nL = torch.full((len(dataset), length), -1)
    codes_nL[torch.from_numpy(dataset.with_target(target))] = 0
    return codes_nL


def _any_levels(dataset: FolderDataset) -> Levels:
    """A level of every marked point."""
    return {
        number: {point: 0 for turn in dataset.turns(number) for point in turn.points}
        for number in range(len(dataset))
    }


def _fill(model: PerceptionModel, memory: LiveMemory, device: torch.device) -> None:
    """Put a model whose parameters are absent on a device: parameters without values, and its buffers."""
    give_values(model, lambda parameter: memory.without_values(parameter, device))
    for module in model.modules():
        for name, buffer in module.named_buffers(recurse=False):
            setattr(module, name, buffer.to(device))


def _give_gradients(model: PerceptionModel) -> None:
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.zeros_like(parameter)
