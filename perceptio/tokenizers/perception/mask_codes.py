"""The mask of an object as codes: four for its box, then sixteen for the mask within the box, as in PaliGemma.

Published (arXiv 2407.07726, and the code of big_vision): 4 location codes out of 1024, and 16 mask codes out of 128
on a 4x4 grid. The mask within its box is resized to 64x64 and encoded by a VQ-VAE after AiT (arXiv 2301.02229) with
four halvings and two residual blocks, whose decoder has 128, 64, 32 and 16 channels. Ours: the widths of the encoder,
which mirror those of the decoder, the width of a latent, and the training.

Shapes: T N objects, L codes, h w pixels of a mask within its box, H W pixels of an image.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import attrs
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from perceptio.errors import RecipeError
from perceptio.interfaces import (
    CodeGroup,
    CodeMeanings,
    Codes,
    Kind,
    PerceptionSpec,
    Size,
    StreamSpec,
    device_of,
)
from perceptio.interfaces.maps import iou
from perceptio.tokenizers._autoencoder import Autoencoder, Quantizer, VQAutoencoderConfig
from perceptio.tokenizers.perception._locations import COORDINATES, Locations, PixelBox, boxes_of, pixel_box

COMPARED = 256
"""The side in pixels of the square image on which masks are compared."""


@attrs.frozen(kw_only=True, eq=False)
class BoxedMasks:
    """The masks of N objects, each within its box.

    Attributes:
        boxes_N4: (y_min, x_min, y_max, x_max) in [0, 1] of the image.
        masks_N1hw: How much each pixel of the box belongs to the object, in [0, 1].
    """

    boxes_N4: Tensor
    masks_N1hw: Tensor

    def __len__(self) -> int:
        return len(self.boxes_N4)

    def __getitem__(self, index: Any) -> "BoxedMasks":
        return BoxedMasks(boxes_N4=self.boxes_N4[index], masks_N1hw=self.masks_N1hw[index])

    def on_picture(self, size: Size) -> Tensor:
        """Return boolean masks [N, H, W] on images of one size: pixels in the box with a value above 0.5."""
        device = self.boxes_N4.device
        rows_H, columns_W = ((torch.arange(side, device=device) + 0.5) / side for side in size)
        y0_N1, x0_N1, y1_N1, x1_N1 = self.boxes_N4.float().split(1, 1)
        y_NH = (rows_H - y0_N1) / (y1_N1 - y0_N1).clamp_min(1e-6)
        x_NW = (columns_W - x0_N1) / (x1_N1 - x0_N1).clamp_min(1e-6)
        shape = (len(self), *size)
        places_NHW2 = (
            torch.stack([x_NW[:, None, :].expand(shape), y_NH[:, :, None].expand(shape)], -1) * 2 - 1
        )
        inside_NHW = (places_NHW2.abs() <= 1).all(-1)
        values_N1HW = F.grid_sample(
            self.masks_N1hw.float(), places_NHW2, padding_mode="border", align_corners=False
        )
        return inside_NHW & (values_N1HW[:, 0] > 0.5)


class MaskCodesTokenizer(Autoencoder):
    """Masks within boxes <-> location codes and mask codes. Only the autoencoder of the masks is trained."""

    def __init__(
        self,
        spec: PerceptionSpec,
        parts: tuple[nn.Sequential, Quantizer, nn.Sequential],
        locations: Locations,
        *,
        map_size: tuple[int, int],
        grid: tuple[int, int],
    ) -> None:
        super().__init__(spec, parts, channels=1, map_size=map_size, grid=grid)
        self.locations = locations

    def targets(self, raw: Sequence[np.ndarray]) -> BoxedMasks:
        """See `PerceptionTokenizer.targets`: boxes, and the masks within them, resized with antialiasing.

        Raises:
            DataError: A mask has no pixel.
        """
        device, pixels = device_of(self), [pixel_box(mask_HW) for mask_HW in raw]
        masks = [self._within(mask_HW, box, device) for mask_HW, box in zip(raw, pixels, strict=True)]
        masks_N1hw = torch.cat(masks) if masks else torch.zeros(0, *self.map_shape, device=device)
        return BoxedMasks(boxes_N4=boxes_of(raw, pixels).to(device), masks_N1hw=masks_N1hw)

    def _within(self, mask_HW: np.ndarray, box: PixelBox, device: torch.device) -> Tensor:
        top, left, bottom, right = box
        inner_11HW = torch.from_numpy(mask_HW[top:bottom, left:right].copy()).to(device).float()[None, None]
        size = self.map_shape[1:]
        return F.interpolate(inner_11HW, size=size, mode="bilinear", antialias=True, align_corners=False)

    def to_reconstruct(self, targets: BoxedMasks) -> Tensor:
        """See `PerceptionTokenizer.to_reconstruct`: the masks within their boxes [T, 1, h, w]."""
        return targets.masks_N1hw

    def to_codes(self, targets: BoxedMasks) -> Tensor:
        """See `PerceptionTokenizer.to_codes`: the codes of the box, then those of the mask within it."""
        return torch.cat([self.locations.to_codes(targets.boxes_N4), self.codes_of(targets.masks_N1hw)], 1)

    def from_codes(
        self, codes_NL: Tensor, features: Any = None, image_index_N: Tensor | None = None
    ) -> BoxedMasks:
        """See `PerceptionTokenizer.from_codes`."""
        location_N4, mask_NL = codes_NL[:, :COORDINATES], codes_NL[:, COORDINATES:]
        return BoxedMasks(
            boxes_N4=self.locations.to_boxes(location_N4), masks_N1hw=self.maps_of_codes(mask_NL)
        )

    def from_probabilities(
        self, probabilities: Sequence[Tensor], features: Any = None, image_index_N: Tensor | None = None
    ) -> BoxedMasks:
        """See `PerceptionTokenizer.from_probabilities`: expected coordinates, and masks decoded from mean latents."""
        location_N4K, mask_NLK = probabilities
        return BoxedMasks(
            boxes_N4=self.locations.expected_boxes(location_N4K),
            masks_N1hw=self.maps_of_probabilities(mask_NLK),
        )

    def shown(self, decoded: BoxedMasks, sizes: Sequence[Size]) -> list[Any]:
        """See `PerceptionTokenizer.shown`: boolean masks [H, W] at the sizes of the images."""
        return [decoded[n : n + 1].on_picture(size)[0].cpu().numpy() for n, size in enumerate(sizes)]

    def compare(self, decoded: BoxedMasks, targets: BoxedMasks) -> Mapping[str, Tensor]:
        """See `PerceptionTokenizer.compare`: the IoU of the masks on a square image of `COMPARED` pixels."""
        one_NHW, other_NHW = (masks.on_picture((COMPARED, COMPARED)) for masks in (decoded, targets))
        return {"iou": iou(one_NHW.flatten(1), other_NHW.flatten(1))}

    def code_meanings(self) -> tuple[CodeMeanings, ...]:
        """See `PerceptionTokenizer.code_meanings`.

        A location code has its coordinate; a mask code has its vector and the mean of a mask of this code alone.
        """
        return (
            CodeMeanings(values_KV=self.locations.values_K[:, None]),
            CodeMeanings(values_KV=self.means_of_codes(), vectors_KC=self.codebook_KC),
        )


@attrs.frozen(kw_only=True)
class MaskCodesConfig(VQAutoencoderConfig):
    """The mask of an object as four codes of its box (y_min, x_min, y_max, x_max), then codes of the mask within it.

    Attributes:
        bins: The number of codes per coordinate, at least 2.
        grid: The rows and columns of the codes of a mask.
        image_size: The height and width to which the mask within its box is resized.
        codebook_size: The number of codes of masks.

    Raises:
        RecipeError: `bins` is below 2, or other settings do not fit together.
    """

    name: ClassVar[str] = "mask_codes"
    kind: ClassVar[Kind] = Kind.PERCEPTION
    interface: ClassVar[tuple[int, int]] = (2, 0)

    bins: int = 1024
    grid: tuple[int, int] = (4, 4)
    image_size: tuple[int, int] = (64, 64)
    widths: tuple[int, ...] = (16, 32, 64, 128)
    latent_dim: int = 128

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        if self.bins < 2:
            raise RecipeError(f"{self.name}: bins is {self.bins}; a coordinate needs at least 2.")

    @property
    def spec(self) -> PerceptionSpec:
        """See `PerceptionTokenizerConfig.spec`."""
        groups = (CodeGroup(length=COORDINATES), CodeGroup(length=self.grid[0] * self.grid[1], codebook=1))
        written = Codes(codebook_sizes=(self.bins, self.codebook_size), groups=groups)
        return PerceptionSpec(
            stream=StreamSpec(written=written, per="object", target="masks", shows_masks=True)
        )

    def build(self) -> MaskCodesTokenizer:
        """See `PerceptionTokenizerConfig.build`."""
        return MaskCodesTokenizer(
            self.spec, self.new_parts(1), Locations(self.bins), map_size=self.image_size, grid=self.grid
        )
