"""A small segmentation tokenizer that compares the prompt with a feature of every pixel.

Shapes: B images, N objects, S special tokens per object (one here), P prompt width, C feature width, H W pixels,
h w mask cells.
"""

from typing import ClassVar

import attrs
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from perceptio.errors import RecipeError
from perceptio.interfaces import (
    Kind,
    MaskPrediction,
    SegmentationSpec,
    SegmentationTokenizer,
    SegmentationTokenizerConfig,
    VisionEncoder,
    VisionEncoderConfig,
)

GROUPS = 8
"""The number of groups of GroupNorm."""


def conv_block(in_channels: int, out_channels: int, stride: int = 1) -> nn.Sequential:
    """Build a 3x3 convolution, GroupNorm and GELU."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False),
        nn.GroupNorm(GROUPS, out_channels),
        nn.GELU(),
    )


def coordinates(height: int, width: int) -> Tensor:
    """Return the row and column of every pixel center, in [-1, 1], as [1, 2, H, W]."""
    rows, columns = ((torch.arange(size) + 0.5) / size * 2 - 1 for size in (height, width))
    return torch.stack(torch.meshgrid(rows, columns, indexing="ij"))[None]


class PixelFeatureEncoder(nn.Module):
    """A small U-Net: pixels with their coordinates -> a feature for every mask cell, [B, C, h, w].

    Args:
        image_size: The height and width of the images.
        widths: The number of channels after each halving of the resolution.
        feature_dim: The width of a feature, C.
        given_dim: The width of additional input features; None if there are none.
    """

    def __init__(
        self,
        image_size: tuple[int, int],
        widths: tuple[int, ...],
        feature_dim: int,
        given_dim: int | None = None,
    ) -> None:
        super().__init__()
        self.coordinates: Tensor
        self.register_buffer("coordinates", coordinates(*image_size), persistent=False)
        self.down = nn.ModuleList(
            nn.Sequential(conv_block(w_in, w_out, stride=2), conv_block(w_out, w_out))
            for w_in, w_out in zip((5, *widths), widths, strict=False)
        )
        self.across = nn.ModuleList(nn.Conv2d(w, feature_dim, 1) for w in widths)
        self.up = nn.ModuleList(conv_block(feature_dim, feature_dim) for _ in widths[1:])
        self.across_given = None if given_dim is None else nn.Conv2d(given_dim, feature_dim, 1)

    def forward(self, pixels_B3HW: Tensor, given_BDhw: Tensor | None = None) -> Tensor:
        """Return the features of images in [0, 1]; given features, of any resolution, join the coarsest level."""
        x = torch.cat([pixels_B3HW * 2 - 1, self.coordinates.expand(len(pixels_B3HW), -1, -1, -1)], 1)
        levels = []
        for down in self.down:
            x = down(x)
            levels.append(x)
        x = self.across[-1](levels[-1])
        if self.across_given is not None:
            given = self.across_given(given_BDhw)
            x = x + F.interpolate(given, size=x.shape[-2:], mode="bilinear", align_corners=False)
        for level, across, up in zip(levels[-2::-1], list(self.across)[-2::-1], self.up, strict=True):
            x = up(
                F.interpolate(x, size=level.shape[-2:], mode="bilinear", align_corners=False) + across(level)
            )
        return x


class PixelFeatures(SegmentationTokenizer):
    """Mask logit = <prompt, feature of the pixel> / sqrt(C) + bias of the prompt + a learned bias.

    Args:
        spec: The spec.
        encoder: Computes the features of pixels.
        backbone: A vision encoder whose features the encoder is given; None if there is none.
        grid: The rows and columns of these features.
    """

    def __init__(
        self,
        spec: SegmentationSpec,
        encoder: PixelFeatureEncoder,
        backbone: VisionEncoder | None = None,
        grid: tuple[int, int] = (0, 0),
    ) -> None:
        super().__init__()
        self.spec = spec
        self.encoder = encoder
        self.backbone = backbone
        self.grid = grid
        self.bias = nn.Parameter(torch.tensor(-3.0))

    def encode_image(self, pixels_B3HW: Tensor) -> Tensor:
        """Return the features [B, C, h, w] of images."""
        if self.backbone is None:
            return self.encoder(pixels_B3HW)
        features_MD = self.backbone(list(pixels_B3HW)).features_MD
        given_BDM = features_MD.unflatten(0, (len(pixels_B3HW), -1)).mT
        return self.encoder(pixels_B3HW, given_BDM.unflatten(2, self.grid))

    def decode(self, features: Tensor, prompts_NSP: Tensor, image_index_N: Tensor) -> MaskPrediction:
        """See `SegmentationTokenizer.decode`."""
        prompts_N1P = prompts_NSP[:, :1].to(features.dtype)
        features_NCX = features[image_index_N].flatten(2)
        logits_N1X = prompts_N1P[..., :-1] @ features_NCX * features.shape[1] ** -0.5
        logits_N1X = logits_N1X + prompts_N1P[..., -1:] + self.bias
        return MaskPrediction(logits_Nhw=logits_N1X[:, 0].unflatten(1, self.spec.mask_size))

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Return the groups `"image_encoder"`, `"mask_decoder"` and, if there is one, `"backbone"`."""
        groups = {"image_encoder": list(self.encoder.parameters()), "mask_decoder": [self.bias]}
        return groups if self.backbone is None else groups | {"backbone": list(self.backbone.parameters())}


@attrs.frozen(kw_only=True)
class PixelFeaturesConfig(SegmentationTokenizerConfig):
    """Masks from the product of a prompt with per-pixel features of a small convolutional network.

    Attributes:
        image_size: The height and width of the images that it sees; both must be even.
        widths: The number of channels after each halving of the resolution. Masks have the resolution after the
            first halving.
        feature_dim: The width of a pixel's feature. It and all `widths` must be multiples of 8.
        backbone: A vision encoder whose features form a grid and are added to the network's coarsest level, such as
            a frozen DINOv2 with its own weights. None: the network sees only pixels.

    Raises:
        RecipeError: A size is invalid.
    """

    name: ClassVar[str] = "pixel_features"
    kind: ClassVar[Kind] = Kind.SEGMENTATION
    interface: ClassVar[tuple[int, int]] = (2, 0)

    image_size: tuple[int, int] = (80, 80)
    widths: tuple[int, ...] = (24, 48, 96)
    feature_dim: int = 32
    backbone: VisionEncoderConfig | None = None

    def __attrs_post_init__(self) -> None:
        channels = (*self.widths, self.feature_dim)
        if not self.widths or min(channels) < GROUPS or any(width % GROUPS for width in channels):
            raise RecipeError(
                f"pixel_features: widths {self.widths} and feature_dim {self.feature_dim} must be multiples of "
                f"{GROUPS}, and one width or more."
            )
        if any(side < 2 or side % 2 for side in self.image_size):
            raise RecipeError(
                f"pixel_features: image_size {self.image_size} must be even, for masks are half as large."
            )

    @property
    def spec(self) -> SegmentationSpec:
        """See `SegmentationTokenizerConfig.spec`."""
        height, width = self.image_size
        return SegmentationSpec(
            prompt_dim=self.feature_dim + 1, image_size=self.image_size, mask_size=(height // 2, width // 2)
        )

    def build(self) -> PixelFeatures:
        """See `SegmentationTokenizerConfig.build`."""
        if self.backbone is None:
            return PixelFeatures(
                self.spec, PixelFeatureEncoder(self.image_size, self.widths, self.feature_dim)
            )
        given_dim = self.backbone.spec.feature_dim
        encoder = PixelFeatureEncoder(self.image_size, self.widths, self.feature_dim, given_dim)
        return PixelFeatures(self.spec, encoder, self.backbone.build(), _grid(self.backbone, self.image_size))

    def load_weights(self, module: nn.Module) -> bool:
        """See `ComponentConfig.load_weights`: loads the weights of the backbone."""
        assert isinstance(module, PixelFeatures)
        if self.backbone is None:
            return False
        assert module.backbone is not None
        return self.backbone.load_weights(module.backbone)


def _grid(backbone: VisionEncoderConfig, image_size: tuple[int, int]) -> tuple[int, int]:
    """Return the rows and columns of a vision encoder's features.

    Raises:
        RecipeError: They do not form one grid, as with tiles.
    """
    centers_M2 = backbone.centers(*image_size)
    row_M, column_M = centers_M2.T
    rows = len(row_M.unique())
    columns = len(row_M) // rows
    row_by_row = (row_M[::columns].repeat_interleave(columns), column_M[:columns].repeat(rows))
    if len(row_M) != rows * columns or not torch.equal(centers_M2, torch.stack(row_by_row, 1)):
        raise RecipeError(
            f"pixel_features: the {len(centers_M2)} features of vision:{backbone.name} are not rows and columns of "
            "one grid, which a backbone's must be; choose an encoder that gives one feature map."
        )
    return rows, columns
