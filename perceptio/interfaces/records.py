"""The typed values that parts exchange: samples, batches, and the output of a forward pass.

Shapes: B images, H W pixels, T packed positions, A position axes, M vision features, R text targets, V vocabulary, Q
marked points. Of a stream: N blocks or objects, L codes, X rows that are read, Y slots, m rows, P width of a row.
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
"""The names of marked points, in order."""
NO_MAPS = ("depth", "image", "masks", "objects")
"""The targets of streams that are not maps of a data folder; no map may have one of these names."""


@attrs.frozen(kw_only=True, eq=False)
class Turn:
    """One question and its answer about an image.

    Attributes:
        question: The user's words.
        answer: The assistant's words, without the streams that are written before them.
        task: The name of its task, such as `"relative_depth"`, by which metrics are grouped.
        points: Marked points as (x, y) in [0, 1], x to the right and y down, named A, B, … in order.
        masks: One boolean [H, W] mask per object that the answer is about, in order of mention.
        perceive: The streams that are written before this answer, in order.
        readout: Whether the code or level of each marked point is written before the answer. The recipe's answer
            format says whether the model reads it out or it is looked up.
        levels: The level of each marked point on the image's true map, if the recipe has `point_values`.
        id: The name of the question in its data set, or "".
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
    """A conversation about one image or about none; without turns, an image without text.

    If the language model does not see the image, it cannot learn to perceive it. Blocks of codes are then in context
    but excluded from the loss. If there is no block either, the codes that are read out are excluded, too.

    Attributes:
        turns: The turns of the conversation.
        image_3HW: RGB in [0, 1].
        depth: The depth of the image.
        objects: One boolean [H, W] mask per object of the image, whether or not a turn is about it.
        maps: Other maps of the image by name, float32 [H, W, C], NaN where unknown. The maps of a data folder are
            read from disk on each access.
        codes: The codes [L] of each stream that is written as codes once per image, if the image has its target.
        ordered: Whether turns may refer to earlier turns, so that none may be moved or left out. Otherwise the turns
            are independent questions in any order.
        in_context: Whether the language model sees the image. If not, only tokenizers that decode with it do.
        source: Where the sample comes from, for error messages.
        id: The name of the sample in its data folder.
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
        """Return the raw target of the image for a stream's `target`, or None if the image has none."""
        if name == "image":
            return self.image_3HW
        if name == "objects":
            return np.stack(tuple(self.objects)) if self.objects else None
        return self.depth if name == "depth" else self.maps.get(name)

    def has_target(self, name: str) -> bool:
        """Return whether `target` would give a value, without reading a map."""
        if name in ("image", "depth"):
            return self.target(name) is not None
        return bool(self.objects) if name == "objects" else name in self.maps


@attrs.frozen(kw_only=True, eq=False)
class StreamBatch:
    """What the conversations of a batch write of one stream, and its targets.

    Attributes:
        rows_NX: The rows of T that are read. For a block of codes these are the L + 2 predictor rows of its opening
            marker, its codes and its closing marker; for special tokens, the rows whose hidden states are read.
        slots_NY: The rows of T that hold the codes or special tokens themselves.
        codes_NL: The codes, 0 <= code < K. The codes of objects are filled in when targets are computed. L is 0 for
            special tokens.
        images: The indices of the batch's images about which the stream is written, each once.
        image_N: For each block or object, the index of its image in `images`.
        target_N: For each block or object, the index of its target. There is one target per object, or per image of
            `images`.
        known: Whether the target of each block or object is known. Not a tensor, so that counting does not wait for
            a device.
        image_codes_BL: The codes of all images of the batch, -1 for images without codes, if the stream is written as
            codes once per image.
        coded: Whether each image of the batch has codes.
        raw: The targets as samples hold them; empty if the target is the image itself.
        targets: The result of the tokenizer's `targets` on its device; None before it is computed.
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
    """Conversations packed into one row without padding, and all targets of their losses.

    Every `*_rows` field indexes T. A *predictor row* is the position whose logits predict a target. Empty fields have
    a first dimension of 0 and are never None.

    Attributes:
        images: RGB [3, H, W] in [0, 1], each at its own size: first those in context, then others about which streams
            are written, and images without text.
        ids_T: The input ids. Rows of vision features hold 0 and are replaced.
        positions_AT: The coordinates of every slot.
        query_positions_AT: The coordinates of what every slot predicts.
        lengths: The length of each packed conversation.
        vision_rows_M: The rows of the vision features of all images in context, in order.
        text_rows_R: The predictor rows outside blocks of codes, those of special tokens and end tokens included.
        text_targets_R: The ids that these rows predict.
        streams: What is written of each stream, by name.
        level_rows_BQ: The rows of the levels that are looked up on each image, -1 if an image has fewer than Q, the
            largest number of any image.
        level_points_BQ2: The points of these levels, as (x, y) in [0, 1].
        too_long: The number of conversations left out because they are longer than the model supports.
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
        """Return the batch with every tensor on a device; raw targets stay as samples hold them."""
        moved = _tensors_to(self, device)
        moved["images"] = tuple(image.to(device, non_blocking=True) for image in self.images)
        moved["streams"] = {
            name: attrs.evolve(stream, **_tensors_to(stream, device)) for name, stream in self.streams.items()
        }
        return attrs.evolve(self, **moved)


def _tensors_to(value: Any, device: torch.device | str) -> dict[str, Any]:
    """Return the tensor fields of a value, moved to a device."""
    fields = {field.name: getattr(value, field.name) for field in attrs.fields(type(value))}
    return {
        name: held.to(device, non_blocking=True) for name, held in fields.items() if isinstance(held, Tensor)
    }


@attrs.frozen(kw_only=True, eq=False)
class StreamOutput:
    """The output of a forward pass for one stream. Fields that no loss requires are None.

    Attributes:
        logits_NXV: For a stream of codes, the logits over the full vocabulary at the L + 2 predictor rows of each
            block.
        soft: For a stream of codes, what its tokenizer decodes from the distributions over codes (soft merging).
        rows_NmP: For a stream of special tokens, the output of the stream's head for their hidden states.
        decoded: For a stream of special tokens, what its tokenizer decodes from these rows.
    """

    logits_NXV: Tensor | None = None
    soft: Any = None
    rows_NmP: Tensor | None = None
    decoded: Any = None


@attrs.frozen(kw_only=True, eq=False)
class PerceptionOutput:
    """The output of a forward pass. Fields that no loss requires are None or absent.

    Attributes:
        text_logits_RV: The logits at the predictor rows of text.
        vision: The projected features [M, D] with their centers.
        heads: The outputs of the recipe's auxiliary heads on these features, by stream.
        streams: The outputs of every stream that a loss requires and the batch writes, by name.
    """

    text_logits_RV: Tensor | None = None
    vision: VisionFeatures | None = None
    heads: Mapping[str, Tensor] = attrs.field(factory=dict)
    streams: Mapping[str, StreamOutput] = attrs.field(factory=dict)
