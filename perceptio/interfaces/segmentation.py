"""Segmentation tokenizers: what a language model emits <-> masks over an image.

Shapes: B images, N objects in the batch, S special tokens per object, P prompt width, H W pixels, h w mask cells,
M mask codes or candidate masks per object.
"""

from abc import ABC, abstractmethod
from typing import Any

import attrs
from torch import Tensor, nn

from perceptio.errors import InterfaceError
from perceptio.interfaces.component import ComponentConfig


@attrs.frozen(kw_only=True)
class MaskCodes:
    """Discrete codes of one mask: how many different ones there are, and how many make a mask."""

    codebook_size: int
    length: int


@attrs.frozen(kw_only=True)
class SegmentationSpec:
    """Facts of a segmentation tokenizer that are known without its weights.

    `codes` None: hidden states at the special tokens become prompts of width `prompt_dim` in a head ("hidden"
    readout). Otherwise the language model writes `codes.length` codes after the special tokens ("codes" readout).
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


class SegmentationTokenizer(nn.Module, ABC):
    """Prompts or codes -> masks. `spec` is set in the constructor; `N == 0` is legal everywhere.

    Pixels are RGB in [0, 1] at `spec.image_size`; a tokenizer normalizes for itself. An image is encoded once and
    its features, opaque to everyone else, serve every object and turn.
    """

    spec: SegmentationSpec

    @abstractmethod
    def encode_image(self, pixels_B3HW: Tensor) -> Any:
        """Features of a batch of images, in whatever form `decode` reads."""

    @abstractmethod
    def decode(self, features: Any, prompts_NSP: Tensor, image_index_N: Tensor) -> MaskPrediction:
        """Masks of N objects from one prompt vector per special token; `image_index_N` says whose image."""

    def encode_masks(self, masks_NHW: Tensor) -> Tensor:
        """Codes [N, M] int64 of boolean masks; only where `spec.codes` is set."""
        raise InterfaceError(f"{type(self).__name__} reads hidden states and has no mask codes.")

    def decode_codes(self, features: Any, codes_NM: Tensor, image_index_N: Tensor) -> MaskPrediction:
        """Masks of N objects from their codes; only where `spec.codes` is set."""
        raise InterfaceError(f"{type(self).__name__} reads hidden states and has no mask codes.")


@attrs.frozen(kw_only=True)
class SegmentationTokenizerConfig(ComponentConfig, ABC):
    """Config of a segmentation tokenizer."""

    @property
    @abstractmethod
    def spec(self) -> SegmentationSpec:
        """Facts known without weights."""

    @abstractmethod
    def build(self) -> SegmentationTokenizer:
        """The tokenizer with random weights."""
