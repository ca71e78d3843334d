"""The typed values that pass between parts: samples, batches, and what a forward pass returns.

Shapes: B images, H W pixels, T packed positions, A position axes, M vision features, R text targets, V vocabulary, Q
marked points, and of a stream: N blocks or objects, L codes, X rows that are read, Y slots, m rows, P width of a row.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import numpy as np
import torch
from torch import Tensor

from perceptio.interfaces.depth_maps import DepthMap
from perceptio.interfaces.vision import VisionFeatures

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
"""Marked points are named by these, in order."""
NO_MAPS = ("depth", "image", "masks", "objects")
"""What a stream can be learned from besides a map of the data folder: no map has such a name."""


@attrs.frozen(kw_only=True, eq=False)
class Turn:
    """One question and its answer about an image.

    Attributes:
        question: The user's words.
        answer: The assistant's words, after whatever is perceived.
        task: The name of its task, such as `"relative_depth"`, by which metrics are kept.
        points: Marked points as (x, y) in [0, 1], x to the right and y down; lettered A, B, … in order.
        masks: One boolean [H, W] mask per object that the answer is about, in order of mention.
        perceive: The streams that are written before this answer, in order.
        readout: Whether something is said of each marked point before the answer: its code or level, read out or
            looked up, as the recipe's answer format has it.
        levels: The level of each marked point on the image's true map, where the recipe has `point_values`.
        id: What the question is called where it comes from; "" where it has no such name.
    """

    question: str
    answer: str
    task: str
    points: tuple[tuple[float, float], ...] = ()
    masks: tuple[np.ndarray, ...] = ()
    perceive: tuple[str, ...] = ()
    readout: bool = False
    levels: tuple[int, ...] = ()
    id: str = ""


@attrs.frozen(kw_only=True, eq=False)
class Sample:
    """A conversation about one image, or about none; without turns, an image without text.

    Without the image there is nothing to perceive: blocks of codes are in context, excluded from the loss; and where
    there is no block either, so are the codes that are read out. `source` says in messages where it comes from.

    Attributes:
        turns: The conversation.
        image_3HW: RGB in [0, 1].
        depth: The image's depth.
        objects: One boolean [H, W] mask per object of the image, whether or not a turn is about it.
        maps: Other maps of the image by name, float32 [H, W, C], NaN where unknown. Those of a data folder are read
            when they are asked for, each time anew.
        codes: The codes [L] of each stream that is written as codes once per image, where the image has its target.
        ordered: Whether each turn may speak of those before it, so that none can be moved or left out; otherwise they
            are questions that may be asked in any order.
        in_context: Whether the language model sees the image; otherwise only the tokenizers that decode with it do.
        source: Where it comes from.
        id: What its data folder calls it.
    """

    turns: tuple[Turn, ...]
    image_3HW: Tensor | None = None
    depth: DepthMap | None = None
    objects: Sequence[np.ndarray] = ()
    maps: Mapping[str, np.ndarray] = attrs.field(factory=dict)
    codes: Mapping[str, Tensor] = attrs.field(factory=dict)
    ordered: bool = False
    in_context: bool = True
    source: str = "a sample"
    id: str = ""

    def target(self, name: str) -> Any:
        """What the image has to be learned from, by the `target` of a stream; None where it has none."""
        if name == "image":
            return self.image_3HW
        if name == "objects":
            return np.stack(tuple(self.objects)) if self.objects else None
        return self.depth if name == "depth" else self.maps.get(name)

    def has_target(self, name: str) -> bool:
        """Whether the image has what `target` gives; no map is read for it."""
        if name in ("image", "depth"):
            return self.target(name) is not None
        return bool(self.objects) if name == "objects" else name in self.maps


@attrs.frozen(kw_only=True, eq=False)
class StreamBatch:
    """What a batch's conversations write of one stream, and what it is compared with.

    Attributes:
        rows_NX: Of each block of codes the L + 2 predictor rows: of its opening marker, codes and closing marker. Of
            special tokens the rows whose hidden states are read.
        slots_NY: The rows in which the codes, or the special tokens, stand themselves.
        codes_NL: The codes, 0 <= code < K; those of objects are computed when targets are. L is 0 for special tokens.
        images: The numbers of the batch's images that it is written of, each once.
        image_N: Which of these each is of.
        target_N: Which of the targets is that of each; there is one for each object, or for each of `images`.
        known: Whether the target of each is known. Not a tensor, so that counting them does not wait for a device.
        image_codes_BL: Codes of all images of the batch, -1 in images without; of a stream written so once per image.
        coded: Whether each image of the batch has codes.
        raw: The targets as samples hold them; empty where the target is the picture.
        targets: What the stream's tokenizer makes of them on its device; None before.
    """

    rows_NX: Tensor
    slots_NY: Tensor
    codes_NL: Tensor
    images: tuple[int, ...]
    image_N: Tensor
    target_N: Tensor
    known: tuple[bool, ...]
    image_codes_BL: Tensor
    coded: tuple[bool, ...]
    raw: tuple[Any, ...] = ()
    targets: Any = None

    def __len__(self) -> int:
        return self.rows_NX.shape[0]


@attrs.frozen(kw_only=True, eq=False)
class Batch:
    """Conversations packed into one row without padding, and everything their losses compare with.

    Every `*_rows` indexes T. A *predictor row* is the position whose logits predict a target. Empty fields have a
    zero first dimension, never None.

    Attributes:
        images: RGB [3, H, W] in [0, 1], each at its own size: those in context, others that are written of, and
            images without text.
        ids_T: Input ids; rows of vision features hold 0 and are replaced.
        positions_AT: Coordinates of every slot.
        query_positions_AT: Coordinates of what every slot predicts.
        lengths: Length of each packed conversation.
        vision_rows_M: Where the vision features of the images that are spoken of go, in order.
        text_rows_R: Predictor rows outside blocks of codes, special tokens and end tokens included.
        text_targets_R: The ids they predict.
        streams: What is written of each stream, by name.
        level_rows_BQ: Where the levels that are looked up on each image stand, -1 in images that have fewer; Q is the
            most that an image has.
        level_points_BQ2: Of which points, as (x, y) in [0, 1].
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
    streams: Mapping[str, StreamBatch] = attrs.field(factory=dict)
    level_rows_BQ: Tensor = attrs.field(factory=lambda: torch.zeros(0, 0, dtype=torch.long))
    level_points_BQ2: Tensor = attrs.field(factory=lambda: torch.zeros(0, 0, 2))
    too_long: int = 0

    def to(self, device: torch.device | str) -> "Batch":
        """The batch with every tensor on a device; targets stay as samples hold them."""
        moved = _tensors_to(self, device)
        moved["images"] = tuple(image.to(device, non_blocking=True) for image in self.images)
        moved["streams"] = {
            name: attrs.evolve(stream, **_tensors_to(stream, device)) for name, stream in self.streams.items()
        }
        return attrs.evolve(self, **moved)


def _tensors_to(value: Any, device: torch.device | str) -> dict[str, Any]:
    """The fields of a value that are tensors, on a device."""
    fields = {field.name: getattr(value, field.name) for field in attrs.fields(type(value))}
    return {
        name: held.to(device, non_blocking=True) for name, held in fields.items() if isinstance(held, Tensor)
    }


@attrs.frozen(kw_only=True, eq=False)
class StreamOutput:
    """What one forward pass computed of a stream, of the fields that losses asked for; the others are None.

    Attributes:
        logits_NXV: Of a stream of codes, over the full vocabulary, at the L + 2 predictor rows of each block.
        soft: What its tokenizer makes of the distributions over codes (soft merging).
        rows_NmP: Of a stream of special tokens, what the stream's head makes of their hidden states.
        decoded: What its tokenizer makes of these rows.
    """

    logits_NXV: Tensor | None = None
    soft: Any = None
    rows_NmP: Tensor | None = None
    decoded: Any = None


@attrs.frozen(kw_only=True, eq=False)
class PerceptionOutput:
    """What one forward pass computed, of the fields that losses asked for; the others are None.

    `vision` holds the projected features [M, D] with their centers; `heads` the outputs of the recipe's auxiliary
    heads on them, by stream; `streams` has every stream of which something was asked for and is in the batch.
    """

    text_logits_RV: Tensor | None = None
    vision: VisionFeatures | None = None
    heads: Mapping[str, Tensor] = attrs.field(factory=dict)
    streams: Mapping[str, StreamOutput] = attrs.field(factory=dict)
