"""What the adapters of SAM 2 and SAM 3 share: how `[SEG]` prompts enter, and how the best mask is chosen.

A prompt takes the place that a click has in SAM 2 (arXiv 2408.00714), as in Sa2VA (arXiv 2501.04001): it follows two
empty points among the sparse embeddings of the mask decoder. SAM 3 has the same prompt encoder and
mask decoder, in its tracker, on another image encoder. Memory, which only video needs, is left out.

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

MASK_CELLS = 4
"""Mask cells along each side of a cell to which a prompt attends."""
OBJECTS_PER_CALL = 32
"""On an accelerator: their features are 0.5 GB at 1024 pixels."""
CELLS_PER_CALL = 65536
"""On a CPU, where a call that outgrows the caches is slower: eight objects at 1024 pixels took 1.3 times as long."""


@attrs.frozen(kw_only=True)
class ImageFormat:
    """How a SAM sees images.

    Attributes:
        stride: Pixels along a side of a cell to which a prompt attends.
        size_unit: What divides the side of an image.
        mean: Of each color channel, subtracted.
        std: Of each color channel, divided by.
    """

    stride: int
    size_unit: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


# Eight windows of its first stage are 32 pixels wide, as is a cell of its coarsest features.
SAM2_IMAGES = ImageFormat(stride=16, size_unit=32, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


@attrs.frozen(kw_only=True, eq=False)
class SAMFeatures:
    """Of each image a coarse map, to which a prompt attends, and two for outlines: twice and four times as fine."""

    coarse_BPhw: Tensor
    middle_BChw: Tensor
    fine_BChw: Tensor

    def of(self, image_index_N: Tensor) -> "SAMFeatures":
        """The features of each object's image."""
        maps = attrs.asdict(self, recurse=False)
        return SAMFeatures(**{name: map_[image_index_N] for name, map_ in maps.items()})


class SAMNetwork(nn.Module, ABC):
    """A SAM for images, put together from the public parts of a package that implements it."""

    @abstractmethod
    def encode(self, pixels_B3HW: Tensor) -> SAMFeatures:
        """Features of normalized images."""

    @abstractmethod
    def decode(self, features: SAMFeatures, prompts_NSP: Tensor, multimask: bool) -> tuple[Tensor, Tensor]:
        """Logits [N, M, h, w] of candidate masks, three or one, and their estimated IoU [N, M].

        Args:
            features: One per object.
            prompts_NSP: Prompts.
            multimask: Whether there are three candidates.
        """

    @abstractmethod
    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Parameters of `"image_encoder"`, `"prompt_encoder"` and `"mask_decoder"`."""


class SAMSegmentationTokenizer(SegmentationTokenizer):
    """Masks by SAM 2 or 3, whoever implements it.

    Args:
        spec: Its facts.
        network: The implementation.
        images: How it sees images.
        multimask: Whether the best of three masks is chosen.
        objects_per_call: How many objects the mask decoder sees at once; None: as many as the device is fast with.
    """

    def __init__(
        self,
        spec: SegmentationSpec,
        network: SAMNetwork,
        *,
        images: ImageFormat,
        multimask: bool,
        objects_per_call: int | None,
    ) -> None:
        super().__init__()
        self.spec = spec
        self.network = network
        self.multimask = multimask
        self.objects_per_call = objects_per_call
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(images.mean)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(images.std)[:, None, None], persistent=False)

    def encode_image(self, pixels_B3HW: Tensor) -> SAMFeatures:
        """See `SegmentationTokenizer.encode_image`."""
        return self.network.encode((pixels_B3HW - self.mean) / self.std)

    def decode(self, features: SAMFeatures, prompts_NSP: Tensor, image_index_N: Tensor) -> MaskPrediction:
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
class SharedSAMConfig(SegmentationTokenizerConfig, ABC):
    """Settings that every adapter has.

    Attributes:
        image_size: Side of the square that images are stretched to, a multiple of 32 for SAM 2, which was trained at
            1024, and of the patch for SAM 3; the same weights load at any size.
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
        unit = self.images.size_unit
        if self.image_size < unit or self.image_size % unit:
            near = max(1, round(self.image_size / unit)) * unit
            raise RecipeError(
                f"{self.name}: image_size is {self.image_size}, and the image encoder cuts it into pieces of {unit} "
                f"pixels: give a multiple, such as {near}."
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
    @abstractmethod
    def images(self) -> ImageFormat:
        """How it sees images."""

    @property
    def spec(self) -> SegmentationSpec:
        """See `SegmentationTokenizerConfig.spec`."""
        mask_side = self.image_size // self.images.stride * MASK_CELLS
        return SegmentationSpec(
            prompt_dim=self.prompt_dim,
            image_size=(self.image_size, self.image_size),
            mask_size=(mask_side, mask_side),
        )

    def build(self) -> SAMSegmentationTokenizer:
        """See `SegmentationTokenizerConfig.build`."""
        return SAMSegmentationTokenizer(
            self.spec,
            self._build_network(),
            images=self.images,
            multimask=self.multimask,
            objects_per_call=self.objects_per_call,
        )

    @abstractmethod
    def _build_network(self) -> SAMNetwork: ...


def empty_points(count: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """A point [N, 1, 2] per object with the label [N, 1] of none; the prompt encoders add a second such point."""
    return torch.zeros(count, 1, 2, device=device), torch.full((count, 1), -1, device=device)
