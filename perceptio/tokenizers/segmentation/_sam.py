"""The common part of the adapters of SAM 2 and SAM 3: how `[SEG]` prompts are used, and how the best mask is chosen.

A prompt takes the role of a click in SAM 2 (arXiv 2408.00714), as in Sa2VA (arXiv 2501.04001): it follows two empty
points among the sparse embeddings of the mask decoder. The tracker of SAM 3 has the same prompt encoder and mask
decoder, with another image encoder. Memory, which only video needs, is left out.

Shapes: B images, N objects, S special tokens per object, P prompt width, M candidate masks, C channels, H W pixels,
h w cells of the respective map.
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
"""The number of mask cells along each side of a cell to which a prompt attends."""
OBJECTS_PER_CALL = 32
"""The number of objects per call on an accelerator; their features take 0.5 GB at 1024 pixels."""
CELLS_PER_CALL = 65536
"""The number of mask cells per call on a CPU, where calls that exceed the caches are slower.

Eight objects per call at 1024 pixels took 1.3 times as long.
"""


@attrs.frozen(kw_only=True)
class ImageFormat:
    """The image format of a SAM.

    Attributes:
        stride: The side in pixels of a cell to which a prompt attends.
        size_unit: The side of an image in pixels must be a multiple of this number.
        mean: The mean of each color channel, which is subtracted.
        std: The standard deviation of each color channel, by which it is divided.
    """

    stride: int
    size_unit: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


# 32 pixels are one window of 8 cells in the first stage, and one cell of the coarsest features.
SAM2_IMAGES = ImageFormat(stride=16, size_unit=32, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


@attrs.frozen(kw_only=True, eq=False)
class SAMFeatures:
    """The features of images: a coarse map, to which prompts attend, and maps at 2 and 4 times its resolution.

    The finer maps sharpen the outlines of masks.
    """

    coarse_BPhw: Tensor
    middle_BChw: Tensor
    fine_BChw: Tensor

    def of(self, image_index_N: Tensor) -> "SAMFeatures":
        """Return the features of each object's image."""
        maps = attrs.asdict(self, recurse=False)
        return SAMFeatures(**{name: map_[image_index_N] for name, map_ in maps.items()})


class SAMNetwork(nn.Module, ABC):
    """A SAM for images, assembled from the public parts of a package that implements it."""

    @abstractmethod
    def encode(self, pixels_B3HW: Tensor) -> SAMFeatures:
        """Return the features of normalized images."""

    @abstractmethod
    def decode(self, features: SAMFeatures, prompts_NSP: Tensor, multimask: bool) -> tuple[Tensor, Tensor]:
        """Return the logits [N, M, h, w] of candidate masks and their estimated IoU [N, M].

        Args:
            features: The features of each object's image.
            prompts_NSP: The prompts.
            multimask: Whether there are three candidates instead of one.
        """

    @abstractmethod
    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Return the parameters of `"image_encoder"`, `"prompt_encoder"` and `"mask_decoder"`."""


class SAMSegmentationTokenizer(SegmentationTokenizer):
    """Decodes masks with SAM 2 or SAM 3, in any implementation.

    Args:
        spec: The spec.
        network: The implementation.
        images: Its image format.
        multimask: Whether the best of three masks is chosen.
        objects_per_call: The number of objects in one call of the mask decoder. None: a number that is fast on the
            device.
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
        """See `SegmentationTokenizer.decode`; the best candidate is the one with the highest estimated IoU."""
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
        """Return the parameter groups of the network; Sa2VA trains the mask decoder."""
        return self.network.parameter_groups()

    def _objects_per_call(self, device: torch.device) -> int:
        if self.objects_per_call is not None:
            return self.objects_per_call
        height, width = self.spec.mask_size
        return OBJECTS_PER_CALL if device.type != "cpu" else max(2, CELLS_PER_CALL // (height * width))


@attrs.frozen(kw_only=True)
class SharedSAMConfig(SegmentationTokenizerConfig, ABC):
    """Settings that all adapters share.

    Attributes:
        image_size: The side in pixels of the square to which images are resized. It must be a multiple of 32 for
            SAM 2, which was trained at 1024, and of the patch size for SAM 3. The same weights load at any size.
        multimask: Whether to choose the best of three masks by estimated IoU, as Sa2VA does (the loss `mask_quality`
            trains the estimate). False: use the decoder's single mask.
        objects_per_call: The number of objects in one call of the mask decoder. None: a number that is fast on the
            device.
        weights: Trained weights: a local file or folder, or a hub id. None: random values.

    Raises:
        RecipeError: `image_size` is not such a multiple, or `objects_per_call` is below 1.
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
        """The width of a prompt."""

    @property
    @abstractmethod
    def images(self) -> ImageFormat:
        """The image format."""

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
    """Return a point [N, 1, 2] per object with the label -1 [N, 1], "no point"; prompt encoders add a second one."""
    return torch.zeros(count, 1, 2, device=device), torch.full((count, 1), -1, device=device)
