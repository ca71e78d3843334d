"""A run's depth codebook: trained before it is used, and looked at before anything is learned from its codes."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import attrs
import torch
from torch import Tensor

from perceptio.errors import DataError, PerceptioError, RecipeError, TrainingError
from perceptio.interfaces import DepthTokenizerConfig, TrainableDepthTokenizer
from perceptio.model.checkpoints.checkpoint import COMPONENT, save
from perceptio.model.checkpoints.pretrained import pretrained_weights
from perceptio.model.parts import build_part
from perceptio.ops.codebooks import code_usage
from perceptio.ops.files import recover
from perceptio.ops.json_files import read_json, write_json
from perceptio.ops.processes import alone
from perceptio.recipe import Recipe
from perceptio.serialize import fingerprint
from perceptio.training.depth_maps import read_training_maps
from perceptio.training.depth_tokenizer import DepthTrainingRecord, train_depth_tokenizer
from perceptio.training.listener import Preparing

MADE_FROM = "made_from.json"
"""In the folder of a tokenizer that a run trained: of which data, with which settings."""


def to_be_trained(recipe: Recipe) -> bool:
    """Whether `train` trains the recipe's depth tokenizer first: it can learn, and has neither weights nor leave.

    The leave is `depth_training.untrained`. A tokenizer that has nothing to learn is as its maker built it.
    """
    if recipe.depth is None or recipe.depth_training.untrained or "depth" in pretrained_weights(recipe):
        return False
    with torch.device("meta"):
        return isinstance(build_part(recipe.depth), TrainableDepthTokenizer)


def train_codebook(
    recipe: Recipe,
    folder: Path,
    data: Sequence[str],
    *,
    device: torch.device,
    say: Callable[[str], None],
    preparing: Preparing,
) -> None:
    """Train the recipe's depth tokenizer on its own data, or take the one that an earlier attempt left.

    Args:
        recipe: A recipe with a tokenizer that is `to_be_trained`.
        folder: Where the tokenizer is kept.
        data: A hash of what each of the recipe's data folders holds.
        device: Where it is trained.
        say: Told what is done, and why.
        preparing: Told how far it is.

    Raises:
        RecipeError: It cannot be trained here; the message says what else can be done.
    """
    config = recipe.depth
    assert config is not None
    name = f"{config.kind}:{config.name}"
    if "weights" not in attrs.fields_dict(type(config)):
        raise RecipeError(
            f"{recipe.name}'s depth tokenizer {name} is untrained and has no setting `weights`; to use its random "
            "values, say so with depth_training.untrained=true."
        )
    made_from: dict[str, object] = {
        "config": fingerprint(config),
        "settings": attrs.asdict(recipe.depth_training),
        "data": list(data),
    }
    recover(folder)
    if (folder / COMPONENT).exists() and read_json(folder / MADE_FROM) == made_from:
        say(f"The depth tokenizer is the one that was trained before, {folder}.")
    else:
        say(
            f"{recipe.name} names no weights for its depth tokenizer {name}: it is trained first, for "
            f"{recipe.depth_training.steps} steps, and kept in {folder}."
        )
        _train(recipe, config, folder, made_from, device, preparing)


def with_codebook(recipe: Recipe, folder: Path) -> Recipe:
    """The recipe with the depth tokenizer that `train_codebook` left in a folder."""
    assert recipe.depth is not None
    weights: dict[str, Any] = {"weights": str(folder)}
    return attrs.evolve(recipe, depth=attrs.evolve(recipe.depth, **weights))


def check_usage(codes: Sequence[Tensor], codebook_size: int, *, untrained: bool) -> dict[str, float]:
    """How the codebook is used on the training maps: `depth_codes.used` and `depth_codes.perplexity`.

    Args:
        codes: Codes [n, L] of each folder's images, -1 rows where an image has no depth.
        codebook_size: How many codes there are, K.
        untrained: Whether the tokenizer is random on purpose.

    Raises:
        TrainingError: There are maps, and one code says all of them.
    """
    counts_K = torch.zeros(codebook_size, dtype=torch.int64)
    maps = 0
    for codes_nL in codes:
        known_nL = codes_nL[codes_nL[:, 0] >= 0]
        maps += len(known_nL)
        counts_K += torch.bincount(known_nL.flatten().long(), minlength=codebook_size)
    if not maps:
        return {}
    usage = code_usage(counts_K)
    if usage["codes_used"] == 1:
        remedy = (
            "random values say nothing, so train it: leave depth_training.untrained out"
            if untrained
            else "train it anew with `perceptio train-depth-tokenizer` (more depth_training.steps, another "
            "depth_training.lr, other data), and name it with depth.weights"
        )
        raise TrainingError(
            f"The depth tokenizer says all {maps} training maps with one code, {int(counts_K.argmax())}, so that "
            f"there is nothing to learn from them: {remedy}."
        )
    return {f"depth_codes.{name.removeprefix('codes_')}": value for name, value in usage.items()}


def _train(
    recipe: Recipe,
    config: DepthTokenizerConfig,
    folder: Path,
    made_from: dict[str, object],
    device: torch.device,
    preparing: Preparing,
) -> None:
    settings = recipe.depth_training

    def on_record(record: DepthTrainingRecord) -> None:
        preparing("training the depth tokenizer", record.step, record.steps)

    with alone():
        torch.manual_seed(settings.seed)
        tokenizer = build_part(config).to(device)
        try:
            maps = read_training_maps(
                recipe.data.folders,
                config.spec,
                store=folder.parent,
                progress=lambda done, total: preparing("reading depth maps", done, total),
            )
        except DataError as error:
            raise _untrainable(recipe, config, error) from error
        train_depth_tokenizer(
            tokenizer,
            maps.training_N1HW,
            settings,
            weights_N=maps.weights_N,
            on_record=on_record,
            record_every=10,
        )
    save(tokenizer, folder, config=config, add=lambda new: write_json(new / MADE_FROM, made_from))


def _untrainable(recipe: Recipe, config: DepthTokenizerConfig, reason: PerceptioError) -> RecipeError:
    return RecipeError(
        f"{recipe.name} names no weights for its depth tokenizer {config.kind}:{config.name}, and it cannot be "
        f"trained on the run's own data. {str(reason).rstrip('.')}. Name weights with depth.weights, or ask for "
        "random values with depth_training.untrained=true."
    )
