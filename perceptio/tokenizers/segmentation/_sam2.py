"""What the two SAM 2 adapters share: how `[SEG]` prompts enter, and how the best mask is chosen.

A prompt takes the place that a click has in SAM 2 (arXiv 2408.00714), as in Sa2VA (arXiv 2501.04001): it follows two
empty points among the sparse embeddings of the mask decoder. Memory, which only video needs, is left out.

Shapes: B images, N objects, S special tokens per object, P prompt width, M candidate masks, C channels, H W pixels,
h w cells of whichever map.
"""

from abc import ABC, abstractmethod

import attrs
import torch
from torch import Tensor, nn

from perceptio.errors import RecipeError
from perceptio.interfaces import (
    MaskPrediction,
    SegmentationSpec,
    SegmentationTokenizer,
    SegmentationTokenizerConfig,
)

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet's colors, by which SAM 2 normalizes."""
STRIDE = 32
"""Pixels per cell of the coarsest features; eight windows of the first stage are as wide."""
MASK_STRIDE = 4
"""Pixels per mask cell."""
OBJECTS_PER_CALL = 32
"""On an accelerator: their features are 0.5 GB at 1024 pixels."""
CELLS_PER_CALL = 65536
"""On a CPU, where a call that outgrows the caches is slower: eight objects at 1024 pixels took 1.3 times as long."""


@attrs.frozen(kw_only=True, eq=False)
class SAM2Features:
    """Of each image a coarse map at 16 pixels a cell, to which a prompt attends, and two finer ones for outlines."""

    coarse_BPhw: Tensor
    middle_BChw: Tensor
    fine_BChw: Tensor

    def of(self, image_index_N: Tensor) -> "SAM2Features":
        """The features of each object's image."""
        maps = attrs.asdict(self, recurse=False)
        return SAM2Features(**{name: map_[image_index_N] for name, map_ in maps.items()})


class SAM2Network(nn.Module, ABC):
    """SAM 2 for images, put together from the public parts of a package that implements it."""

    @abstractmethod
    def encode(self, pixels_B3HW: Tensor) -> SAM2Features:
        """Features of normalized images."""

    @abstractmethod
    def decode(self, features: SAM2Features, prompts_NSP: Tensor, multimask: bool) -> tuple[Tensor, Tensor]:
        """Logits [N, M, h, w] of candidate masks, three or one, and their estimated IoU [N, M].

        Args:
            features: One per object.
            prompts_NSP: Prompts.
            multimask: Whether there are three candidates.
        """

    @abstractmethod
    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Parameters of `"image_encoder"`, `"prompt_encoder"` and `"mask_decoder"`."""


class SAM2SegmentationTokenizer(SegmentationTokenizer):
    """Masks by SAM 2, whoever implements it."""

    def __init__(
        self, spec: SegmentationSpec, network: SAM2Network, *, multimask: bool, objects_per_call: int | None
    ) -> None:
        super().__init__()
        self.spec = spec
        self.network = network
        self.multimask = multimask
        self.objects_per_call = objects_per_call
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(MEAN)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(STD)[:, None, None], persistent=False)

    def encode_image(self, pixels_B3HW: Tensor) -> SAM2Features:
        """See `SegmentationTokenizer.encode_image`."""
        return self.network.encode((pixels_B3HW - self.mean) / self.std)

    def decode(self, features: SAM2Features, prompts_NSP: Tensor, image_index_N: Tensor) -> MaskPrediction:
        """See `SegmentationTokenizer.decode`; the best of several candidates is that of the highest estimated IoU."""
        prompts_NSP = prompts_NSP.to(features.coarse_BPhw.dtype)
        if not len(prompts_NSP):
            masks_NMhw = prompts_NSP.new_zeros(0, 3 if self.multimask else 1, *self.spec.mask_size).float()
            quality_NM = masks_NMhw[..., 0, 0]
        else:
            size = self._objects_per_call(prompts_NSP.device)
            chunks = zip(prompts_NSP.split(size), image_index_N.split(size), strict=True)
            decoded = [
                self.network.decode(features.of(index), prompts, self.multimask) for prompts, index in chunks
            ]
            masks_NMhw, quality_NM = (torch.cat(parts).float() for parts in zip(*decoded, strict=True))
        if not self.multimask:
            return MaskPrediction(logits_Nhw=masks_NMhw[:, 0], quality_N=quality_NM[:, 0])
        best_N = quality_NM.argmax(1)
        rows_N = torch.arange(len(best_N), device=best_N.device)
        return MaskPrediction(
            logits_Nhw=masks_NMhw[rows_N, best_N],
            quality_N=quality_NM[rows_N, best_N],
            candidates_NMhw=masks_NMhw,
            candidate_quality_NM=quality_NM,
        )

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Those of the network; Sa2VA trains the mask decoder."""
        return self.network.parameter_groups()

    def _objects_per_call(self, device: torch.device) -> int:
        if self.objects_per_call is not None:
            return self.objects_per_call
        height, width = self.spec.mask_size
        return OBJECTS_PER_CALL if device.type != "cpu" else max(2, CELLS_PER_CALL // (height * width))


@attrs.frozen(kw_only=True)
class SharedSAM2Config(SegmentationTokenizerConfig, ABC):
    """Settings that both adapters have.

    Attributes:
        image_size: Side of the square that images are stretched to, a multiple of 32; SAM 2 was trained at 1024, and
            the same weights load at any size.
        multimask: Choose the best of three masks by estimated IoU, as Sa2VA does (`mask_quality` trains the
            estimate); False: the decoder's single mask.
        objects_per_call: How many objects the mask decoder sees at once; None: as many as the device is fast with.
        weights: Trained weights: a local file or folder, or a hub id; None: random values.
    """

    image_size: int = 1024
    multimask: bool = True
    objects_per_call: int | None = None
    weights: str | None = attrs.field(default=None, metadata={"fingerprint": False})

    def __attrs_post_init__(self) -> None:
        if self.image_size < STRIDE or self.image_size % STRIDE:
            near = max(1, round(self.image_size / STRIDE)) * STRIDE
            raise RecipeError(
                f"{self.name}: image_size is {self.image_size}, and the image encoder halves down to cells of "
                f"{STRIDE} pixels: give a multiple, such as {near}."
            )
        if self.objects_per_call is not None and self.objects_per_call < 1:
            raise RecipeError(
                f"{self.name}: objects_per_call is {self.objects_per_call}; it must be at least 1."
            )

    @property
    @abstractmethod
    def prompt_dim(self) -> int:
        """Width of a prompt."""

    @property
    def spec(self) -> SegmentationSpec:
        """See `SegmentationTokenizerConfig.spec`."""
        mask_side = self.image_size // MASK_STRIDE
        return SegmentationSpec(
            prompt_dim=self.prompt_dim,
            image_size=(self.image_size, self.image_size),
            mask_size=(mask_side, mask_side),
        )

    def build(self) -> SAM2SegmentationTokenizer:
        """See `SegmentationTokenizerConfig.build`."""
        return SAM2SegmentationTokenizer(
            self.spec,
            self._build_network(),
            multimask=self.multimask,
            objects_per_call=self.objects_per_call,
        )

    @abstractmethod
    def _build_network(self) -> SAM2Network: ...


def empty_points(count: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """A point [N, 1, 2] per object with the label [N, 1] of none; the prompt encoders add a second such point."""
    return torch.zeros(count, 1, 2, device=device), torch.full((count, 1), -1, device=device)
