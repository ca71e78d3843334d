"""Segmentation tokenizers: the tokens that a language model generates <-> masks over an image.

Shapes: B images, N objects in the batch, S special tokens per object, P prompt width, H W pixels, h w mask cells,
M mask codes or candidate masks per object.
"""

import functools
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import attrs
import torch
from torch import Tensor
from torch.nn import functional as F

from perceptio.errors import CheckpointError, DataError, InterfaceError
from perceptio.interfaces.component import described, device_of
from perceptio.interfaces.maps import at_sizes, iou
from perceptio.interfaces.perception import (
    PerceptionTokenizer,
    PerceptionTokenizerConfig,
    Size,
)
from perceptio.interfaces.perception_checks import codes_problem
from perceptio.interfaces.tokens import CodeGroup, Codes, Continuous, StreamSpec


@attrs.frozen(kw_only=True)
class MaskCodes:
    """The discrete codes of a mask.

    Attributes:
        codebook_size: The number of different codes, K.
        length: The number of codes per mask, M.
    """

    codebook_size: int
    length: int


@attrs.frozen(kw_only=True)
class SegmentationSpec:
    """Facts about a segmentation tokenizer that are known without its weights.

    Attributes:
        special_tokens: The special tokens of an object. A head maps their hidden states to prompts. Unused if `codes`
            is set.
        prompt_dim: The width of a prompt, P.
        image_size: Height and width in pixels of the images that the tokenizer reads, and of the target masks.
        mask_size: Height and width of the mask logits, in mask cells.
        codes: If set, the language model writes `codes.length` codes between markers instead of special tokens.
    """

    special_tokens: tuple[str, ...] = ("[SEG]",)
    prompt_dim: int
    image_size: tuple[int, int]
    mask_size: tuple[int, int]
    codes: MaskCodes | None = None

    @property
    def readout(self) -> str:
        """What decoding reads: `"hidden"` states of special tokens or discrete `"codes"`."""
        return "hidden" if self.codes is None else "codes"

    @property
    def stream(self) -> StreamSpec:
        """How objects are written as a stream."""
        written: Codes | Continuous = Continuous(tokens=self.special_tokens, width=self.prompt_dim)
        if self.codes is not None:
            group = CodeGroup(length=self.codes.length)
            written = Codes(codebook_sizes=(self.codes.codebook_size,), groups=(group,))
        return StreamSpec(
            written=written, per="object", target="masks", image_size=self.image_size, shows_masks=True
        )


@attrs.frozen(kw_only=True, eq=False)
class MaskPrediction:
    """Predicted masks of N objects, each over its whole image.

    Attributes:
        logits_Nhw: Mask logits; the masks are where they exceed 0.
        quality_N: The tokenizer's own estimate of the IoU of each mask, in [0, 1], if it makes one.
        candidates_NMhw: The logits of all candidates, if the tokenizer chose the best of several.
        candidate_quality_NM: The IoU estimates by which it chose.
    """

    logits_Nhw: Tensor
    quality_N: Tensor | None = None
    candidates_NMhw: Tensor | None = None
    candidate_quality_NM: Tensor | None = None


def _checked_encode_masks(encode: Callable[[Any, Tensor], Tensor]) -> Callable[[Any, Tensor], Tensor]:
    @functools.wraps(encode)
    def checked(self: Any, masks_NHW: Tensor) -> Tensor:
        height, width = self.spec.image_size
        if masks_NHW.dtype != torch.bool or masks_NHW.shape[1:] != (height, width):
            raise DataError(
                f"{type(self).__name__}.encode_masks was given {described(masks_NHW)} and not boolean "
                f"masks [N, {height}, {width}]: stretch them first, a pixel belonging to what covers most of it."
            )
        codes_NM = encode(self, masks_NHW)
        problem = codes_problem(codes_NM, self.spec.stream.written)
        if problem is None and len(codes_NM) != len(masks_NHW):
            problem = f"are of {len(codes_NM)} masks and not of {len(masks_NHW)}"
        if problem:
            raise InterfaceError(f"{self.known_as}.encode_masks made codes that {problem}.")
        return codes_NM

    return checked


def _checked_masks(decode: Callable[..., MaskPrediction]) -> Callable[..., MaskPrediction]:
    @functools.wraps(decode)
    def checked(self: Any, features: Any, asked: Tensor, image_index_N: Tensor) -> MaskPrediction:
        made = decode(self, features, asked, image_index_N)
        name, shape = f"{self.known_as}.{decode.__name__}", (len(asked), *self.spec.mask_size)
        if not isinstance(made, MaskPrediction):
            raise InterfaceError(f"{name} made {described(made)} and no MaskPrediction.")
        logits = made.logits_Nhw
        if not isinstance(logits, Tensor) or logits.shape != shape:
            raise InterfaceError(f"{name} made masks that are {described(logits)} and not of {list(shape)}.")
        return made

    return checked


class SegmentationTokenizer(PerceptionTokenizer):
    """Prompts or codes -> masks. A subclass sets `spec` in its constructor. All methods must accept `N == 0`.

    Pixels are RGB in [0, 1] at `spec.image_size`; the tokenizer itself normalizes them. Each image is encoded once.
    Callers treat its features as opaque and use them for every object and turn.
    """

    spec: SegmentationSpec
    checks: ClassVar[Mapping[str, Callable[..., Any]]] = {
        **PerceptionTokenizer.checks,
        "encode_masks": _checked_encode_masks,
        "decode": _checked_masks,
        "decode_codes": _checked_masks,
    }

    @abstractmethod
    def encode_image(self, pixels_B3HW: Tensor) -> Any:
        """Encode a batch of images as features, in any form that `decode` reads."""

    @abstractmethod
    def decode(self, features: Any, prompts_NSP: Tensor, image_index_N: Tensor) -> MaskPrediction:
        """Decode the masks of N objects from one prompt vector per special token.

        Args:
            features: The result of `encode_image`.
            prompts_NSP: The prompts.
            image_index_N: For each object, the index of its image among the features.
        """

    def encode_masks(self, masks_NHW: Tensor) -> Tensor:
        """Encode masks as int64 codes [N, M] with 0 <= code < K. Implement it if `spec.codes` is set.

        Args:
            masks_NHW: Boolean masks over whole images at `spec.image_size`, on the tokenizer's device.

        Raises:
            DataError: The masks have another type or size.
            InterfaceError: The subclass has no mask codes, or returned invalid codes.
        """
        raise InterfaceError(f"{type(self).__name__} reads hidden states and has no mask codes.")

    def decode_codes(self, features: Any, codes_NM: Tensor, image_index_N: Tensor) -> MaskPrediction:
        """Decode the masks of N objects from codes [N, M] with 0 <= code < K. Implement it if `spec.codes` is set.

        `features` and `image_index_N` are as for `decode`.
        """
        raise InterfaceError(f"{type(self).__name__} reads hidden states and has no mask codes.")

    def targets(self, raw: Sequence[Any]) -> Tensor:
        """See `PerceptionTokenizer.targets`: boolean masks [T, H, W] at `spec.image_size`.

        A pixel belongs to the mask if the mask covers at least half of it.
        """
        device, size = device_of(self), self.spec.image_size
        masks = [
            F.interpolate(torch.as_tensor(mask_HW, device=device)[None, None].float(), size=size, mode="area")
            for mask_HW in raw
        ]
        return (
            torch.cat(masks)[:, 0] >= 0.5 if masks else torch.zeros(0, *size, dtype=torch.bool, device=device)
        )

    def to_codes(self, targets: Tensor) -> Tensor:
        """See `PerceptionTokenizer.to_codes`."""
        return self.encode_masks(targets)

    def from_codes(
        self, codes_NL: Tensor, features: Any = None, image_index_N: Tensor | None = None
    ) -> MaskPrediction:
        """See `PerceptionTokenizer.from_codes`."""
        assert image_index_N is not None
        return self.decode_codes(features, codes_NL, image_index_N)

    def from_rows(
        self, rows_NmP: Tensor, features: Any = None, image_index_N: Tensor | None = None
    ) -> MaskPrediction:
        """See `PerceptionTokenizer.from_rows`: the rows are prompts."""
        assert image_index_N is not None
        return self.decode(features, rows_NmP, image_index_N)

    def shown(self, decoded: MaskPrediction, sizes: Sequence[Size]) -> list[Any]:
        """See `PerceptionTokenizer.shown`: boolean masks at the sizes of the images, thresholded after resizing.

        Raises:
            CheckpointError: A logit is not finite.
        """
        if not bool(decoded.logits_Nhw.isfinite().all()):
            raise CheckpointError(
                "Mask logits are not finite numbers: the segmentation tokenizer's weights hold NaN or infinity, or "
                "its precision is too small for them; load an earlier checkpoint, or compute in float32."
            )
        return [
            (logits_1HW[0] > 0).cpu().numpy() for logits_1HW in at_sizes(decoded.logits_Nhw[:, None], sizes)
        ]

    def compare(self, decoded: MaskPrediction, targets: Tensor) -> Mapping[str, Tensor]:
        """See `PerceptionTokenizer.compare`: the IoU at the size of the targets; 1 if both masks are empty."""
        logits_N1hw = decoded.logits_Nhw.float()[:, None]
        size = targets.shape[-2:]
        masks_NHW = F.interpolate(logits_N1hw, size=size, mode="bilinear", align_corners=False)[:, 0] > 0
        return {"iou": iou(masks_NHW.flatten(1), targets.flatten(1))}


@attrs.frozen(kw_only=True)
class SegmentationTokenizerConfig(PerceptionTokenizerConfig):
    """Config of a segmentation tokenizer."""

    @property
    @abstractmethod
    def spec(self) -> SegmentationSpec:
        """Facts about the tokenizer that are known without its weights."""

    @abstractmethod
    def build(self) -> SegmentationTokenizer:
        """Build the tokenizer with random weights."""
