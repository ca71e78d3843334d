"""The typed values that pass between parts: samples, batches, and what a forward pass returns.

Shapes: B images, H W pixels, T packed positions, A position axes, M vision features, R text targets, V vocabulary,
S depth blocks, L depth codes per block, K codebook size, N objects, s special tokens per object, h w mask cells.
"""

from collections.abc import Mapping
from typing import Any, Literal

import attrs
import numpy as np
import torch
from torch import Tensor

from perceptio.interfaces.segmentation import MaskPrediction
from perceptio.interfaces.vision import VisionFeatures

StreamName = Literal["segmentation", "depth"]
"""What can be perceived before the answer, by name; an order is a tuple of these."""


@attrs.frozen(kw_only=True)
class TokenSpan:
    """A contiguous run of ids."""

    start: int
    size: int

    @property
    def slice(self) -> slice:
        """For `logits[..., span.slice]`."""
        return slice(self.start, self.start + self.size)

    def contains(self, ids: Tensor) -> Tensor:
        """Which ids lie in the span."""
        return (ids >= self.start) & (ids < self.start + self.size)


@attrs.frozen(kw_only=True)
class TokenBlock:
    """A run of codes that the language model writes between markers.

    `per_step` codes are predicted in one step: the opening marker takes that many input slots, the slot of code i
    predicts code i + per_step, and the slot of the last code predicts the closing marker. There are `length + 2`
    predictions whatever `per_step` is.
    """

    opening: int
    codes: TokenSpan
    length: int
    closing: int
    per_step: int = 1

    def __attrs_post_init__(self) -> None:
        if self.per_step < 1 or self.length % self.per_step:
            raise ValueError(f"{self.per_step} codes per step do not divide a block of {self.length} codes.")


@attrs.frozen(kw_only=True, eq=False)
class DepthMap:
    """Depth of one image as float32 [H, W], NaN where unknown.

    `unit` is `"metres"`, or `"disparity"` for a relative inverse depth of any scale (near is large).
    """

    values_HW: np.ndarray
    unit: Literal["metres", "disparity"]


@attrs.frozen(kw_only=True, eq=False)
class Turn:
    """One question and its answer about an image.

    Attributes:
        question: The user's words.
        answer: The assistant's words, after whatever is perceived.
        task: The name by which metrics are kept, such as `"relative_depth"`.
        points: Marked points as (x, y) in [0, 1], x to the right and y down; lettered A, B, … in order.
        masks: One boolean [H, W] mask per object that the answer segments, in order of mention.
        perceive: What is perceived before this answer, in order.
        readout: Whether the answer first reads each point's depth code (the `readout` answer format).
    """

    question: str
    answer: str
    task: str
    points: tuple[tuple[float, float], ...] = ()
    masks: tuple[np.ndarray, ...] = ()
    perceive: tuple[StreamName, ...] = ()
    readout: bool = False


@attrs.frozen(kw_only=True, eq=False)
class Sample:
    """A conversation about one image; without turns, an image without text.

    Without the image there is nothing to perceive: the depth block is in context, excluded from the loss; and where
    there is no block either, so are the codes that are read out. `source` says in messages where it comes from.
    `maps` are what else is known of the image's pixels, by name: float32 [H, W, channels], NaN where unknown. Those
    of a data folder are read when they are asked for, each time anew.
    """

    turns: tuple[Turn, ...]
    image_3HW: Tensor | None = None
    depth: DepthMap | None = None
    depth_codes_L: Tensor | None = None
    maps: Mapping[str, np.ndarray] = attrs.field(factory=dict)
    source: str = "a sample"


@attrs.frozen(kw_only=True, eq=False)
class Batch:
    """Conversations packed into one row without padding, and everything their losses compare with.

    Every `*_rows` indexes T. A *predictor row* is the position whose logits predict a target. Empty fields have a
    zero first dimension, never None.

    Attributes:
        images: RGB [3, H, W] in [0, 1], each at its own size; images without text come last.
        ids_T: Input ids; rows of vision features hold 0 and are replaced.
        positions_AT: Coordinates of every slot.
        query_positions_AT: Coordinates of what every slot predicts.
        lengths: Length of each packed conversation.
        vision_rows_M: Where the vision features of the images that are spoken of go, in order.
        text_rows_R: Predictor rows outside depth blocks, `[SEG]` and end tokens included.
        text_targets_R: The ids they predict.
        block_rows_SN: The L + 2 predictor rows of each depth block: opening marker, codes, closing marker.
        block_codes_SL: The codes, 0 <= code < K.
        block_image_S: The image each block describes.
        depth_B1HW: Target depth of each image in [0, 1] at the depth tokenizer's size, NaN where unknown.
        image_codes_BL: Codes of each image, -1 in images without depth.
        prompt_rows_Ns: Rows whose hidden states become mask prompts.
        mask_image_N: The image of each object.
        masks_NHW: Target masks at the segmentation tokenizer's image size or larger: as packed, bool, and once `to`
            has moved them, float 0 or 1.
        too_long: Conversations that are left out because the model serves none of their length.
    """

    images: tuple[Tensor, ...]
    ids_T: Tensor
    positions_AT: Tensor
    query_positions_AT: Tensor
    lengths: tuple[int, ...]
    vision_rows_M: Tensor
    text_rows_R: Tensor
    text_targets_R: Tensor
    block_rows_SN: Tensor
    block_codes_SL: Tensor
    block_image_S: Tensor
    depth_B1HW: Tensor
    image_codes_BL: Tensor
    prompt_rows_Ns: Tensor
    mask_image_N: Tensor
    masks_NHW: Tensor
    too_long: int = 0

    def to(self, device: torch.device | str) -> "Batch":
        """The batch with every tensor on a device, and its masks float there."""
        values = {field.name: getattr(self, field.name) for field in attrs.fields(Batch)}
        moved: dict[str, Any] = {
            name: value.to(device, non_blocking=True)
            for name, value in values.items()
            if isinstance(value, Tensor)
        }
        moved["masks_NHW"] = moved["masks_NHW"].float()
        moved["images"] = tuple(image.to(device, non_blocking=True) for image in self.images)
        return attrs.evolve(self, **moved)


@attrs.frozen(kw_only=True, eq=False)
class PerceptionOutput:
    """What one forward pass computed, of the fields that losses asked for; the others are None.

    `depth_logits_SNV` has the L + 2 rows of each block over the full vocabulary; `soft_depth_S1HW` is the soft
    merging of its code rows; `vision` holds the projected features [M, D] with their centers; `heads` the outputs
    of the recipe's named heads on them.
    """

    text_logits_RV: Tensor | None = None
    depth_logits_SNV: Tensor | None = None
    soft_depth_S1HW: Tensor | None = None
    masks: MaskPrediction | None = None
    vision: VisionFeatures | None = None
    heads: Mapping[str, Tensor] = attrs.field(factory=dict)
