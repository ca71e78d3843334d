"""From a question in a user's hands to an `Answer`: reading, checking, generating, decoding."""

import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from perceptio.errors import InputError
from perceptio.interfaces import DepthMap, MaskPrediction, Part, Turn
from perceptio.model.generation import Generated, GenerationSettings, generate
from perceptio.model.marks import draw_marks
from perceptio.model.perception_model import PerceptionModel
from perceptio.ops.image_files import as_image
from perceptio.vocabulary import DEPTH_END, DEPTH_START


@attrs.frozen(kw_only=True, eq=False)
class Answer:
    """What a model says of one question, and what it perceived on the way.

    Attributes:
        text: The answer in words.
        masks: Boolean [N, H, W] at the image's own size, one per object, in order of mention.
        depth: The depth map its tokens decode to, at the depth tokenizer's size; None without a depth block.
        tokens: Every token written, by name or as text: perception first.
        codes: The depth codes, row-major; empty without a depth block.
        readout: The depth code read out for each marked point; empty in the direct format.
        seconds: Wall-clock of the whole batch this answer came in.
    """

    text: str
    masks: np.ndarray
    depth: DepthMap | None
    tokens: tuple[str, ...]
    codes: tuple[int, ...]
    readout: tuple[int, ...]
    seconds: float


@torch.inference_mode()
def ask_batch(
    model: PerceptionModel,
    questions: Sequence[tuple[Any, str, Sequence[tuple[float, float]]]],
    settings: GenerationSettings | None = None,
) -> list[Answer]:
    """Answer several questions at once; see `PerceptionModel.ask`."""
    if not questions:
        return []
    start = time.perf_counter()
    turns = [_turn(question, points) for _, question, points in questions]
    images, index = _distinct_images([image for image, _, _ in questions])
    if model.recipe.points == "drawn":
        images = [draw_marks(images[i], turn.points) for i, turn in zip(index, turns, strict=True)]
        index = list(range(len(turns)))
    images = [image.to(model.device) for image in images]
    was_training = model.training
    model.eval()
    try:
        generated = generate(model, turns, images, index, settings or GenerationSettings())
        masks = predict_masks(model, images, index, generated)
    finally:
        model.train(was_training)
    depths = decode_depth(model, generated)
    rows_N = generated.objects.row_N.tolist()
    order = model.recipe.order if settings is None or settings.order is None else settings.order
    seconds = time.perf_counter() - start
    answers = []
    for row in range(len(turns)):
        mine = [mask for mask, owner in zip(masks, rows_N, strict=True) if owner == row]
        answers.append(_answer(model, generated, row, order, mine, images[index[row]], depths[row], seconds))
    return answers


@torch.inference_mode()
def predict_masks(
    model: PerceptionModel, images: Sequence[Tensor], image_index: Sequence[int], generated: Generated
) -> list[Tensor]:
    """Mask logits [h, w] of every object found; only images with an object are encoded."""
    rows_N = generated.objects.row_N.tolist()
    if not rows_N:
        return []
    used = sorted({image_index[row] for row in rows_N})
    features = model.encode_segmentation([images[i] for i in used])
    where_N = torch.tensor([used.index(image_index[row]) for row in rows_N], device=model.device)
    prediction: MaskPrediction
    if model.plan.mask_codes is not None:
        assert model.segmentation is not None
        prediction = model.segmentation.decode_codes(features, generated.objects.codes_NM, where_N)
    else:
        prediction = model.decode_masks(features, generated.objects.hidden_NsD, where_N)
    return list(prediction.logits_Nhw)


@torch.inference_mode()
def decode_depth(model: PerceptionModel, generated: Generated) -> list[DepthMap | None]:
    """The depth map of every row with a well-formed block, at the depth tokenizer's size."""
    rows = generated.depth.whole_B.nonzero().flatten().tolist()
    depths: list[DepthMap | None] = [None] * len(generated.text_BT)
    if model.depth is None or not rows:
        return depths
    convention = model.depth.spec.convention
    unit_B1HW = model.depth.decode(generated.depth.codes_BL[rows])
    values_B1HW = convention.to_metres(unit_B1HW) if convention.metric else unit_B1HW
    for row, values_1HW in zip(rows, values_B1HW.cpu().numpy(), strict=True):
        depths[row] = DepthMap(values_HW=values_1HW[0], unit="metres" if convention.metric else "disparity")
    return depths


def resize_masks(logits_hw: Tensor, size: tuple[int, int]) -> np.ndarray:
    """A boolean mask [H, W] of logits: stretched first, thresholded at 0 after."""
    stretched = F.interpolate(logits_hw[None, None].float(), size=size, mode="bilinear", align_corners=False)
    return (stretched[0, 0] > 0).cpu().numpy()


def _turn(question: str, points: Sequence[tuple[float, float]]) -> Turn:
    if not question.strip():
        raise InputError("The question is empty; ask something about the image.")
    for x, y in points:
        if not (0.0 <= x <= 1.0 and 0.0 <= y <= 1.0):
            raise InputError(
                f"The point ({x}, {y}) is outside the image; x and y lie in [0, 1] from the upper left."
            )
    if not points and re.search(r"\b(points?|marked|letters?|lettered)\b", question, re.IGNORECASE):
        raise InputError(
            "The question speaks of marked points and none are given; give each with --point x,y."
        )
    return Turn(question=question, answer="", task="", points=tuple((float(x), float(y)) for x, y in points))


def _distinct_images(given: Sequence[Any]) -> tuple[list[Tensor], list[int]]:
    """Every image once, and which one each question is about."""
    images: list[Tensor] = []
    seen: dict[Any, int] = {}
    index = []
    for image in given:
        key = str(image) if isinstance(image, str | Path) else id(image)
        if key not in seen:
            seen[key] = len(images)
            images.append(as_image(image))
        index.append(seen[key])
    return images, index


def _answer(
    model: PerceptionModel,
    generated: Generated,
    row: int,
    order: Sequence[Part],
    logits: list[Tensor],
    image_3HW: Tensor,
    depth: DepthMap | None,
    seconds: float,
) -> Answer:
    size = (image_3HW.shape[-2], image_3HW.shape[-1])
    masks = [resize_masks(mask, size) for mask in logits]
    text = model.language.text_tokenizer
    ids = generated.text_BT[row].tolist()
    ids = ids[: ids.index(text.end_id)] if text.end_id in ids else ids
    opened = bool(generated.depth.opened_B[row])
    codes = tuple(generated.depth.codes_BL[row].tolist()) if opened else ()
    readout = tuple(code for code in generated.readout_BP[row].tolist() if code >= 0)
    blocks: dict[str, list[str]] = {
        "segmentation": [*model.plan.segmentation_names] * len(masks),
        "depth": [DEPTH_START, *(f"<depth_{code}>" for code in codes), DEPTH_END] if codes else [],
    }
    tokens = [token for part in order for token in blocks[part]]
    tokens += [f"<depth_{code}>" for code in readout]
    tokens += [model.plan.name_of(token) or text.decode([token]) for token in ids]
    return Answer(
        text=text.decode([token for token in ids if token < model.plan.base_vocab]).strip(),
        masks=np.stack(masks) if masks else np.zeros((0, *size), dtype=bool),
        depth=depth,
        tokens=tuple(tokens),
        codes=codes,
        readout=readout,
        seconds=seconds,
    )
