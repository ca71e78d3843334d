"""The levels of marked points: the quantized values of decoded maps at these points.

Everything here is computed on the model's device, and nothing waits for it.

Shapes: N maps, B rows or images, P Q marked points, L codes, K codebook size, V vocabulary.
"""

from collections.abc import Sequence
from typing import Any

import attrs
import torch
from torch import Tensor

from perceptio.interfaces import Batch, PerceptionTokenizer, VisionFeatures
from perceptio.model.inference.generated import WrittenStream
from perceptio.model.network import PerceptionNetwork
from perceptio.recipe import PointValues


def levels_at(tokenizer: PerceptionTokenizer, decoded: Any, points_NP2: Tensor, count: int) -> Tensor:
    """Return the levels [N, P] of points on decoded maps; each level is an equal part of [0, 1].

    Args:
        tokenizer: The tokenizer of the stream.
        decoded: What it decoded from N blocks.
        points_NP2: The points, as (x, y) in [0, 1].
        count: The number of levels.
    """
    values_NP = tokenizer.values_at(decoded, points_NP2)
    return (values_NP * count).long().clamp(0, count - 1)


def looked_up(
    model: PerceptionNetwork,
    written: WrittenStream,
    vision: VisionFeatures,
    image_index: Sequence[int],
    points_BP2: Tensor,
) -> Tensor:
    """Return the levels [B, P] of each row's points on its map; -1 for rows without a map.

    A row has no map if its block was not opened or holds something other than codes.

    Args:
        model: The model; its recipe must have `point_values`.
        written: What the rows wrote of the stream that is looked up.
        vision: The features of the images.
        image_index: The index of each row's image.
        points_BP2: The points, as (x, y) in [0, 1].
    """
    values = _values(model)
    if values.source == "vision_head":
        logits_ILK = head_logits(model, vision)
        index_B = torch.tensor(image_index).to(logits_ILK.device, non_blocking=True)
        return _levels(model, _probabilities(values, logits_ILK)[index_B], points_BP2)
    if values.decoding == "soft" and written.logits:
        probabilities_BLK = torch.cat(written.logits, 2)[:, 0].float().softmax(-1)
    else:
        size = model.plan.readout_block.codebooks[0].size
        probabilities_BLK = _sure(written.codes_BOL[:, 0].clamp_min(0), size)
    return _levels(model, probabilities_BLK, points_BP2).masked_fill(~written.whole_BO[:, :1], -1)


def head_logits(model: PerceptionNetwork, vision: VisionFeatures) -> Tensor:
    """Return the logits [B, L, K] of the stream's auxiliary head at the feature nearest to each code's position."""
    block, name = model.plan.readout_block, model.plan.readout
    centers_L2 = torch.tensor(block.centers).to(vision.features_MD.device, non_blocking=True)
    logits_MK = model.head_of(str(name), vision.features_MD)
    return logits_MK[vision.nearest_to(centers_L2)]


@torch.no_grad()
def with_own_levels(model: PerceptionNetwork, batch: Batch) -> Batch:
    """Return the batch with the levels in context replaced by those of the model's own codes, if the recipe says so.

    The codes are the most likely ones, each after the true codes before it, from a separate forward pass; or those
    that the auxiliary head predicts. Do not share an autocast context with the training pass: autocast would reuse
    weights there that it cast without gradients here.

    Args:
        model: The model.
        batch: A batch with targets, on the model's device.
    """
    values, name = model.recipe.point_values, model.plan.readout
    if values is None or values.trained_with != "own_codes" or not batch.level_rows_BQ.numel():
        return batch
    rows_NQ, points_NQ2 = batch.level_rows_BQ, batch.level_points_BQ2
    if values.source == "vision_head":
        logits_NLK = head_logits(model, model.encode_vision(batch.images))
    else:
        assert name is not None
        written = batch.streams[name]
        rows_NQ, points_NQ2 = rows_NQ[written.image_N], points_NQ2[written.image_N]
        output = model(batch, (f"streams.{name}.logits_NXV",)).streams[name]
        logits_NLK = output.logits_NXV[:, 1:-1, model.plan.readout_block.codebooks[0].slice]
    levels_NQ = _levels(model, _probabilities(values, logits_NLK), points_NQ2)
    assert model.plan.levels is not None
    # The levels of missing points are written to an extra row, which is dropped.
    rows_NQ = torch.where(rows_NQ < 0, len(batch.ids_T), rows_NQ)
    ids = torch.cat([batch.ids_T, batch.ids_T[:1]])
    ids = ids.index_copy(0, rows_NQ.flatten(), (levels_NQ + model.plan.levels.start).flatten())
    return attrs.evolve(batch, ids_T=ids[:-1])


def _values(model: PerceptionNetwork) -> PointValues:
    values = model.recipe.point_values
    assert values is not None, "Without point_values nothing is looked up."
    return values


def _probabilities(values: PointValues, logits_NLK: Tensor) -> Tensor:
    """Return the distributions [N, L, K] from which a map is decoded: soft, or one-hot at the most likely codes."""
    if values.decoding == "soft":
        return logits_NLK.float().softmax(-1)
    return _sure(logits_NLK.argmax(-1), logits_NLK.shape[-1])


def _sure(codes_NL: Tensor, size: int) -> Tensor:
    """Return one-hot distributions [N, L, K] of codes. Decoding codes directly would check them on the host."""
    return (codes_NL[..., None] == torch.arange(size, device=codes_NL.device)).float()


def _levels(model: PerceptionNetwork, probabilities_NLK: Tensor, points_NP2: Tensor) -> Tensor:
    """Return the levels [N, P] of points on the maps decoded from distributions over codes."""
    assert model.plan.readout is not None and model.plan.levels is not None
    tokenizer = model.stream(model.plan.readout).tokenizer
    with torch.autocast(probabilities_NLK.device.type, enabled=False):
        decoded = tokenizer.from_probabilities([probabilities_NLK])
        return levels_at(tokenizer, decoded, points_NP2, model.plan.levels.size)
