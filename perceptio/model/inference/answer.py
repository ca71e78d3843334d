"""From a question in a user's hands to an `Answer`: reading, checking, generating, decoding."""

import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from perceptio.errors import CheckpointError, InputError, quoted
from perceptio.interfaces import DepthMap, MaskPrediction, Turn
from perceptio.model.inference.generated import Generated
from perceptio.model.inference.generation import generate
from perceptio.model.inference.marks import shown_images
from perceptio.model.inference.settings import GenerationSettings
from perceptio.model.network import PerceptionNetwork
from perceptio.ops.eval_mode import in_eval_mode
from perceptio.ops.image_files import as_image


@attrs.frozen(kw_only=True, eq=False)
class Answer:
    """What a model says of one question, and what it perceived on the way.

    Attributes:
        text: The answer in words.
        masks: Boolean [N, H, W] at the image's own size, one per object, in order of mention. With the grammar off,
            an object whose mask codes are not all codes has an empty one.
        depth: The depth map its tokens decode to, at the depth tokenizer's size; None without a depth block, or with
            one that holds something else than codes.
        tokens: Every token written after the question, in order: by name, or as text. The end token is left out.
        codes: The depth codes, row-major, -1 where something else was written; empty without a depth block.
        readout: The depth code read out for each marked point, -1 where something else was written; empty in the
            direct format.
        truncated: Whether the text was cut at `max_new_tokens`: the model had not ended it.
        seconds: Wall-clock of the whole batch this answer came in.
    """

    text: str
    masks: np.ndarray
    depth: DepthMap | None
    tokens: tuple[str, ...]
    codes: tuple[int, ...]
    readout: tuple[int, ...]
    truncated: bool
    seconds: float


@torch.inference_mode()
def ask_batch(
    model: PerceptionNetwork,
    questions: Sequence[tuple[Any, str, Sequence[tuple[float, float]]]],
    settings: GenerationSettings | None = None,
) -> list[Answer]:
    """Answer several questions at once; see `PerceptionModel.ask`."""
    if not questions:
        return []
    start = time.perf_counter()
    settings = settings or GenerationSettings()
    turns = [_turn(question, points) for _, question, points in questions]
    if settings.readout and not any(turn.points for turn in turns):
        raise InputError(
            "A read-out reads marked points, and none are given: mark some, or leave readout out."
        )
    model = in_eval_mode(model)
    images, index = _distinct_images([image for image, _, _ in questions])
    images, index = shown_images(images, index, turns, model.recipe.points)
    images = [image.to(model.device) for image in images]
    generated = generate(model, turns, images, index, settings)
    masks = predict_masks(model, images, index, generated)
    depths = decode_depth(model, generated)
    rows_N = generated.objects.row_N.tolist()
    seconds = time.perf_counter() - start
    answers = []
    for row, turn in enumerate(turns):
        mine = [mask for mask, owner in zip(masks, rows_N, strict=True) if owner == row]
        answers.append(_answer(model, generated, row, turn, mine, images[index[row]], depths[row], seconds))
    return answers


@torch.inference_mode()
def predict_masks(
    model: PerceptionNetwork, images: Sequence[Tensor], image_index: Sequence[int], generated: Generated
) -> list[Tensor]:
    """Mask logits [h, w], float32, of every object found; only images with an object are encoded.

    Objects whose mask codes are not all codes have logits of minus infinity.

    Raises:
        CheckpointError: The segmentation tokenizer computes no finite numbers.
    """
    objects = generated.objects
    whole_N = (objects.codes_NM >= 0).all(1)
    rows_n = objects.row_N[whole_N].tolist()
    if not len(objects.row_N):
        return []
    assert model.segmentation is not None
    logits_Nhw = torch.full(
        (len(whole_N), *model.segmentation.spec.mask_size), -torch.inf, device=whole_N.device
    )
    if rows_n:
        used = sorted({image_index[row] for row in rows_n})
        features = model.encode_segmentation([images[i] for i in used])
        where_n = torch.tensor([used.index(image_index[row]) for row in rows_n], device=model.device)
        prediction: MaskPrediction
        if model.plan.mask_codes is not None:
            prediction = model.segmentation.decode_codes(features, objects.codes_NM[whole_N], where_n)
        else:
            prediction = model.decode_masks(features, objects.hidden_NsD, where_n)
        if not bool(prediction.logits_Nhw.isfinite().all()):
            raise CheckpointError(
                "Mask logits are not finite numbers: the segmentation tokenizer's weights hold NaN or infinity, or "
                "its precision is too small for them; load an earlier checkpoint, or compute in float32."
            )
        logits_Nhw[whole_N] = prediction.logits_Nhw.float()
    return list(logits_Nhw)


@torch.inference_mode()
def decode_depth(model: PerceptionNetwork, generated: Generated) -> list[DepthMap | None]:
    """The depth map, float32, of every row with a well-formed block, at the depth tokenizer's size."""
    rows = generated.depth.whole_B.nonzero().flatten().tolist()
    depths: list[DepthMap | None] = [None] * len(generated.text_BT)
    if model.depth is None or not rows:
        return depths
    convention = model.depth.spec.convention
    with torch.autocast(model.device.type, enabled=False):
        unit_B1HW = model.depth.decode(generated.depth.codes_BL[rows]).float()
    values_B1HW = convention.to_metres(unit_B1HW) if convention.metric else unit_B1HW
    for row, values_1HW in zip(rows, values_B1HW.cpu().numpy(), strict=True):
        depths[row] = DepthMap(values_HW=values_1HW[0], unit="metres" if convention.metric else "disparity")
    return depths


def resize_masks(logits_hw: Tensor, size: tuple[int, int]) -> np.ndarray:
    """A boolean mask [H, W] of logits: stretched first, thresholded at 0 after."""
    stretched = F.interpolate(logits_hw[None, None].float(), size=size, mode="bilinear", align_corners=False)
    return (stretched[0, 0] > 0).cpu().numpy()


def _turn(question: str, points: Sequence[tuple[float, float]]) -> Turn:
    if not isinstance(question, str):
        raise InputError(f"The question is {quoted(question)}; it must be a text.")
    if not question.strip():
        raise InputError("The question is empty; ask something about the image.")
    if not isinstance(points, Iterable):
        raise InputError(f"The points are {quoted(points)}; they must be a list of pairs of numbers (x, y).")
    for point in points:
        try:
            x, y = (float(number) for number in point)
        except (TypeError, ValueError):
            raise InputError(f"The point {point!r} is no pair of numbers (x, y).") from None
        if not (0.0 <= x <= 1.0 and 0.0 <= y <= 1.0):
            raise InputError(
                f"The point ({x}, {y}) is outside the image; x and y lie in [0, 1] from the upper left."
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
    model: PerceptionNetwork,
    generated: Generated,
    row: int,
    turn: Turn,
    logits: list[Tensor],
    image_3HW: Tensor,
    depth: DepthMap | None,
    seconds: float,
) -> Answer:
    size = (image_3HW.shape[-2], image_3HW.shape[-1])
    masks = [resize_masks(mask, size) for mask in logits]
    ids, truncated = text_ids(model, generated, row)
    text = model.language.text_tokenizer
    written = [token for token in generated.written_BW[row].tolist() if token >= 0]
    opened = bool(generated.depth.opened_B[row])
    return Answer(
        text=text.decode([token for token in ids if token < model.plan.base_vocab]).strip(),
        masks=np.stack(masks) if masks else np.zeros((0, *size), dtype=bool),
        depth=depth,
        tokens=tuple(model.plan.name_of(token) or text.decode([token]) for token in written),
        codes=tuple(generated.depth.codes_BL[row].tolist()) if opened else (),
        readout=tuple(generated.readout_BP[row, : len(turn.points)].tolist()),
        truncated=truncated,
        seconds=seconds,
    )


def text_ids(model: PerceptionNetwork, generated: Generated, row: int) -> tuple[list[int], bool]:
    """The ids of a row's text before its end token, and whether it was cut before there was one."""
    ids, end = generated.text_BT[row].tolist(), model.language.text_tokenizer.end_id
    return (ids[: ids.index(end)], False) if end in ids else (ids, True)
