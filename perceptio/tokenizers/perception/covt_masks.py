"""All objects of an image as special tokens: each gives a prompt of a mask decoder, as in CoVT (arXiv 2511.19418).

The masks have no order; the loss `matched_masks` matches them with the image's true masks.

Shapes: B images, N blocks of prompts, T targets, n masks of an image, P prompt width, H W pixels, h w mask cells.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import attrs
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from perceptio.errors import RecipeError
from perceptio.interfaces import (
    Continuous,
    Kind,
    PerceptionSpec,
    PerceptionTokenizer,
    PerceptionTokenizerConfig,
    SegmentationTokenizer,
    SegmentationTokenizerConfig,
    StreamSpec,
)
from perceptio.interfaces.component import device_of
from perceptio.interfaces.maps import at_sizes


class CoVTMasks(PerceptionTokenizer):
    """Prompts -> the masks of an image's objects, through a frozen segmentation tokenizer.

    Args:
        spec: The spec.
        segmentation: A segmentation tokenizer that decodes a mask from one prompt.
    """

    def __init__(self, spec: PerceptionSpec, segmentation: SegmentationTokenizer) -> None:
        super().__init__()
        self.spec = spec
        self.segmentation = segmentation
        self.requires_grad_(False).eval()

    @torch.no_grad()
    def encode_image(self, pixels_B3HW: Tensor) -> Any:
        """Return the features of the segmentation tokenizer."""
        return self.segmentation.encode_image(pixels_B3HW)

    def from_rows(
        self, rows_NmP: Tensor, features: Any = None, image_index_N: Tensor | None = None
    ) -> Tensor:
        """See `PerceptionTokenizer.from_rows`: mask logits [N, n, h, w]."""
        assert image_index_N is not None
        count = rows_NmP.shape[1]
        made = self.segmentation.decode(
            features, rows_NmP.flatten(0, 1)[:, None], image_index_N.repeat_interleave(count)
        )
        return made.logits_Nhw.unflatten(0, (len(rows_NmP), count))

    def targets(self, raw: Sequence[Any]) -> Tensor:
        """See `PerceptionTokenizer.targets`: float masks [T, n, h, w], NaN for masks beyond the image's objects.

        If an image has more than n objects, the n largest are used. A cell belongs to an object that covers at least
        half of it.
        """
        device, size = device_of(self), self.segmentation.spec.mask_size
        targets_Tnhw = torch.full(
            (len(raw), self.spec.stream.written.num_rows, *size), math.nan, device=device
        )
        for one_nhw, masks_kHW in zip(targets_Tnhw, raw, strict=True):
            if masks_kHW is None:
                continue
            masks = torch.as_tensor(masks_kHW, device=device)
            largest = masks.flatten(1).sum(1).argsort(descending=True, stable=True)[: len(one_nhw)]
            covered = F.interpolate(masks[largest][:, None].float(), size=size, mode="area")[:, 0]
            one_nhw[: len(largest)] = (covered >= 0.5).float()
        return targets_Tnhw

    def shown(self, decoded: Tensor, sizes: Sequence[tuple[int, int]]) -> list[Any]:
        """See `PerceptionTokenizer.shown`: boolean masks [n, H, W], thresholded after resizing."""
        return [(logits_nHW > 0).cpu().numpy() for logits_nHW in at_sizes(decoded, sizes)]

    def compare(self, decoded: Tensor, targets: Tensor) -> Mapping[str, Tensor]:
        """See `PerceptionTokenizer.compare`: the IoU of each target with its best mask, averaged over targets."""
        masks_Nnhw, known_Nk = decoded > 0, ~targets.isnan().flatten(2).any(2)
        masks_NnX, targets_NkX = masks_Nnhw.flatten(2).float(), targets.nan_to_num(0.0).flatten(2)
        overlap_Nnk = masks_NnX @ targets_NkX.mT
        union_Nnk = masks_NnX.sum(2)[:, :, None] + targets_NkX.sum(2)[:, None] - overlap_Nnk
        best_Nk = (overlap_Nnk / union_Nnk.clamp_min(1.0)).amax(1)
        return {"best_iou": best_Nk.masked_fill(~known_Nk, math.nan).nanmean(1)}


@attrs.frozen(kw_only=True)
class CoVTMasksConfig(PerceptionTokenizerConfig):
    """The segmentation tokens of CoVT.

    Attributes:
        segmentation: The frozen segmentation tokenizer, which decodes a mask from one prompt. CoVT uses the ViT-H of
            the first SAM and its single mask.
        num_masks: The number of masks per image, each from one prompt. It is also the number of special tokens,
            which share one name.

    Raises:
        RecipeError: `num_masks` is below 1.
    """

    name: ClassVar[str] = "covt_masks"
    kind: ClassVar[Kind] = Kind.PERCEPTION
    interface: ClassVar[tuple[int, int]] = (2, 0)

    segmentation: SegmentationTokenizerConfig
    num_masks: int = 8

    def __attrs_post_init__(self) -> None:
        if self.num_masks < 1:
            raise RecipeError(f"covt_masks: num_masks is {self.num_masks}; it must be at least 1.")

    @property
    def spec(self) -> PerceptionSpec:
        """See `PerceptionTokenizerConfig.spec`.

        Raises:
            RecipeError: The segmentation tokenizer reads codes, or several prompts per mask.
        """
        inner = self.segmentation.spec
        if inner.readout != "hidden" or len(inner.special_tokens) != 1:
            raise RecipeError(
                f"covt_masks: {self.segmentation.name} is to make a mask of each prompt, and reads "
                + (
                    "codes"
                    if inner.readout != "hidden"
                    else f"{len(inner.special_tokens)} prompts for a mask"
                )
                + "; choose another, such as sam2."
            )
        written = Continuous(tokens=("<|sam_pad|>",) * self.num_masks, width=inner.prompt_dim)
        return PerceptionSpec(
            stream=StreamSpec(written=written, target="objects", image_size=inner.image_size, frozen=True)
        )

    def build(self) -> CoVTMasks:
        """See `PerceptionTokenizerConfig.build`."""
        return CoVTMasks(self.spec, self.segmentation.build())

    def load_weights(self, module: nn.Module) -> bool:
        """See `ComponentConfig.load_weights`: loads the weights of the segmentation tokenizer."""
        assert isinstance(module, CoVTMasks)
        return self.segmentation.load_weights(module.segmentation)
