"""Bounds for the figures of streams: with every code right, and with the ground truth of another scene."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from perceptio.data.folder import FolderDataset
from perceptio.interfaces import Codes, Kind, StreamSpec
from perceptio.model.perception_model import PerceptionModel
from perceptio.ops.intervals import bootstrap_ratio

TRUE_CODES, ANOTHER_SCENE = "true_codes", "another_scene"


@torch.inference_mode()
def limits(model: PerceptionModel, dataset: FolderDataset) -> dict[str, dict[str, Any]]:
    """Return figures of every stream with a perception tokenizer, as it compares predictions with the ground truth.

    Args:
        model: The model whose streams are measured; it is not asked anything.
        dataset: The ground truth.

    Returns:
        For each stream, means with their intervals as in the evaluation: under `true_codes` for the encoded and
        decoded ground truth, which the model would reach with every code right; under `another_scene` for the ground
        truth of another scene as the prediction. Empty without such a stream.
    """
    found: dict[str, dict[str, Any]] = {}
    for stream in model.recipe.streams:
        if stream.tokenizer.kind is not Kind.PERCEPTION:
            continue
        tokenizer = model.stream(stream.name).tokenizer
        targets = tokenizer.targets(_truth(dataset, stream.spec))
        # Shift by half the targets, because neighboring objects may belong to the same scene.
        others = targets.roll(len(targets) // 2, 0)
        found.setdefault(ANOTHER_SCENE, {})[stream.name] = _figures(tokenizer.compare(others, targets))
        if isinstance(stream.spec.written, Codes):
            made = tokenizer.from_codes(tokenizer.to_codes(targets))
            found.setdefault(TRUE_CODES, {})[stream.name] = _figures(tokenizer.compare(made, targets))
    return found


def _truth(dataset: FolderDataset, spec: StreamSpec) -> list[Any]:
    """Return a folder's ground truth for a stream: for each image, or for each object of a referring expression."""
    if spec.per == "image":
        return [dataset.target(number, spec.target) for number in range(len(dataset))]
    turns = [turn for sample in dataset for turn in sample.turns if turn.task == "referring"]
    return [mask_HW for turn in turns for mask_HW in turn.masks]


def _figures(compared: Mapping[str, Tensor]) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    for name, values_N in compared.items():
        known: list[float] = values_N[~values_N.isnan()].tolist()
        if known:
            figures[name] = sum(known) / len(known)
            figures[f"{name}_interval"] = list(bootstrap_ratio(known, [1.0] * len(known)))
            figures["count"] = len(known)
    return figures
