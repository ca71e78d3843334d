"""Segmentation tokenizers: what a language model emits <-> masks over an image.

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
    """Discrete codes of one mask: how many different ones there are, and how many make a mask."""

    codebook_size: int
    length: int


@attrs.frozen(kw_only=True)
class SegmentationSpec:
    """Facts of a segmentation tokenizer that are known without its weights.

    `codes` None: hidden states at the special tokens become prompts of width `prompt_dim` in a head ("hidden"
    readout). Otherwise the language model writes `codes.length` codes between markers, and no special tokens ("codes"
    readout).
    """

    special_tokens: tuple[str, ...] = ("[SEG]",)
    prompt_dim: int
    image_size: tuple[int, int]
    mask_size: tuple[int, int]
    codes: MaskCodes | None = None

    @property
    def readout(self) -> str:
        """What decoding reads: `"hidden"` states or discrete `"codes"`."""
        return "hidden" if self.codes is None else "codes"

    @property
    def stream(self) -> StreamSpec:
        """How objects are written."""
        written: Codes | Continuous = Continuous(tokens=self.special_tokens, width=self.prompt_dim)
        if self.codes is not None:
            group = CodeGroup(length=self.codes.length)
            written = Codes(codebook_sizes=(self.codes.codebook_size,), groups=(group,))
        return StreamSpec(
            written=written, per="object", target="masks", image_size=self.image_size, shows_masks=True
        )


@attrs.frozen(kw_only=True, eq=False)
class MaskPrediction:
    """Masks of N objects, each over its whole image: logits before thresholding at 0.

    `quality_N` is the tokenizer's own estimate of IoU in [0, 1], where it has one; `candidates_NMhw` the logits
    among which the best was chosen, where it chose, and `candidate_quality_NM` the estimates by which it did.
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
    """Prompts or codes -> masks. `spec` is set in the constructor; `N == 0` is legal everywhere.

    Pixels are RGB in [0, 1] at `spec.image_size`; a tokenizer normalizes for itself. An image is encoded once and
    its features, opaque to everyone else, serve every object and turn.
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
        """Features of a batch of images, in whatever form `decode` reads."""

    @abstractmethod
    def decode(self, features: Any, prompts_NSP: Tensor, image_index_N: Tensor) -> MaskPrediction:
        """Masks of N objects from one prompt vector per special token; `image_index_N` says whose image."""

    def encode_masks(self, masks_NHW: Tensor) -> Tensor:
        """Codes [N, M] int64 of masks, 0 <= code < K; only where `spec.codes` is set.

        Args:
            masks_NHW: Boolean masks over whole images at `spec.image_size`, on the tokenizer's device.

        Raises:
            DataError: The masks are of another type or size.
            InterfaceError: The subclass has no mask codes, or made something else.
        """
        raise InterfaceError(f"{type(self).__name__} reads hidden states and has no mask codes.")

    def decode_codes(self, features: Any, codes_NM: Tensor, image_index_N: Tensor) -> MaskPrediction:
        """Masks of N objects from their codes [N, M], 0 <= code < K; only where `spec.codes` is set."""
        raise InterfaceError(f"{type(self).__name__} reads hidden states and has no mask codes.")

    def targets(self, raw: Sequence[Any]) -> Tensor:
        """See `PerceptionTokenizer.targets`: boolean masks [T, H, W] at `spec.image_size`.

        A pixel belongs to what covers most of it.
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
        """See `PerceptionTokenizer.from_rows`: a row is a prompt."""
        assert image_index_N is not None
        return self.decode(features, rows_NmP, image_index_N)

    def shown(self, decoded: MaskPrediction, sizes: Sequence[Size]) -> list[Any]:
        """See `PerceptionTokenizer.shown`: boolean masks at the sizes of the pictures, thresholded after stretching.

        Raises:
            CheckpointError: A logit is no finite number.
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
        """See `PerceptionTokenizer.compare`: the IoU at the size of the targets; that of two empty masks is 1."""
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
        """Facts known without weights."""

    @abstractmethod
    def build(self) -> SegmentationTokenizer:
        """The tokenizer with random weights."""
