"""InternViT with InternVL's tiling: an image is cut into square tiles, and a thumbnail of the whole image is added.

The network is `InternVLVisionModel` of transformers. Four neighboring patches become one feature (pixel shuffle), so
a tile of 448x448 pixels has 256 features.

Shapes: B tiles, M features of all images, D feature width, H W pixels, h w features of a tile.
"""

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any, ClassVar

import attrs
import torch
from torch import Tensor, nn

from perceptio.errors import RecipeError
from perceptio.interfaces import Kind, VisionEncoder, VisionEncoderConfig, VisionFeatures, VisionSpec
from perceptio.ops.hub import resolve
from perceptio.ops.images import cell_centers, resize
from perceptio.ops.internvl_layout import vision as layout
from perceptio.ops.precision import Precision
from perceptio.ops.weights import load_tensors

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
SHUFFLE = 2
"""The number of patches along each side that become one feature."""


@attrs.frozen
class Tiling:
    """How images are cut into tiles, and the centers of the features.

    Attributes:
        size: The side of a tile in pixels.
        cells: The number of features along each side of a tile.
        max_tiles: The maximum number of tiles, without the thumbnail.
        thumbnail: Whether an image of more than one tile gets a thumbnail of the whole image as a last tile.
    """

    size: int
    cells: int
    max_tiles: int
    thumbnail: bool

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """Return the rows and columns of tiles: the grid whose aspect ratio is nearest to that of the image.

        If several grids tie, a larger one is used if the image has more than half as many pixels as the grid.
        """
        grids = [
            (rows, columns)
            for columns in range(1, self.max_tiles + 1)
            for rows in range(1, self.max_tiles // columns + 1)
        ]
        best, best_distance = (1, 1), float("inf")
        for rows, columns in sorted(grids, key=lambda grid: grid[0] * grid[1]):
            distance = abs(width / height - columns / rows)
            large = 2 * height * width > self.size**2 * rows * columns
            if distance < best_distance or (distance == best_distance and large):
                best, best_distance = (rows, columns), distance
        return best

    def cut(self, image_CHW: Tensor) -> Tensor:
        """Return the tiles of an image row by row, then the thumbnail: [B, C, size, size]."""
        rows, columns = self.grid(*image_CHW.shape[-2:])
        whole = resize(image_CHW, (rows * self.size, columns * self.size), "bicubic")
        tiles = (
            whole.unflatten(2, (columns, -1)).unflatten(1, (rows, -1)).permute(1, 3, 0, 2, 4).flatten(0, 1)
        )
        if self.thumbnail and rows * columns > 1:
            tiles = torch.cat([tiles, resize(image_CHW, (self.size, self.size), "bicubic")[None]])
        return tiles

    def centers(self, height: int, width: int) -> Tensor:
        """Return the centers [M, 2] of the features of all tiles, as (row, column) in [0, 1], on the CPU.

        The features of the thumbnail cover the whole image.
        """
        rows, columns = self.grid(height, width)
        corners = torch.cartesian_prod(torch.arange(rows, device="cpu"), torch.arange(columns, device="cpu"))
        within = cell_centers(self.cells, self.cells)
        centers = (corners[:, None] + within) / torch.tensor((rows, columns), device="cpu")
        if self.thumbnail and rows * columns > 1:
            centers = torch.cat([centers, within[None]])
        return centers.flatten(0, 1)


class InternViT(VisionEncoder):
    """InternViT on the tiles of images.

    Args:
        spec: The spec.
        model: An `InternVLVisionModel`.
        tiling: How images are cut into tiles.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, spec: VisionSpec, model: Any, tiling: Tiling) -> None:
        super().__init__()
        self.spec = spec
        self.model = model
        self.tiling = tiling
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(3, 1, 1), persistent=False)

    def forward(self, images: Sequence[Tensor]) -> VisionFeatures:
        """See `VisionEncoder.forward`; features are always float32."""
        tiles_B3HW = torch.cat([self.tiling.cut(image) for image in images])
        patches_BLD = self.model((tiles_B3HW - self.mean) / self.std).last_hidden_state[:, 1:]
        side = SHUFFLE * self.tiling.cells
        features_BhwD = pixel_shuffle(patches_BLD.unflatten(1, (side, side)))
        centers = [self.tiling.centers(*image.shape[-2:]) for image in images]
        return VisionFeatures(
            features_MD=features_BhwD.flatten(0, 2).float(),
            centers_M2=torch.cat(centers).to(features_BhwD.device),
            counts=tuple(len(one) for one in centers),
        )


def pixel_shuffle(patches_BhwD: Tensor) -> Tensor:
    """Concatenate each square of four patches, row by row, to one feature of four times the width."""
    split = patches_BhwD.unflatten(2, (-1, SHUFFLE)).unflatten(1, (-1, SHUFFLE))
    return split.transpose(2, 3).flatten(3)


@attrs.frozen(kw_only=True)
class InternViTConfig(VisionEncoderConfig):
    """InternViT with tiling; the defaults are InternViT-300M-448px, which every InternVL 2.5 and 3 up to 8B uses.

    Attributes:
        hidden_dim: The width of the transformer; a feature is four times as wide.
        num_layers: The number of layers.
        num_heads: The number of attention heads.
        feed_forward_dim: The hidden width of the feed-forward layers.
        patch_size: The side of a patch in pixels.
        tile_size: The side of a tile in pixels, a multiple of twice the patch size.
        max_tiles: The maximum number of tiles of an image, without the thumbnail.
        thumbnail: Whether an image of several tiles also gets a thumbnail of the whole image.
        dtype: The precision of the weights.
        weights: A folder, file or hub id of an InternVL or InternViT checkpoint. None: random values.

    Raises:
        RecipeError: The sizes do not fit together, or `max_tiles` is below 1.
    """

    name: ClassVar[str] = "internvit"
    kind: ClassVar[Kind] = Kind.VISION
    interface: ClassVar[tuple[int, int]] = (2, 0)

    hidden_dim: int = 1024
    num_layers: int = 24
    num_heads: int = 16
    feed_forward_dim: int = 4096
    patch_size: int = 14
    tile_size: int = 448
    max_tiles: int = 12
    thumbnail: bool = True
    dtype: Precision = "float32"
    weights: str | None = attrs.field(default=None, metadata={"fingerprint": False})

    def __attrs_post_init__(self) -> None:
        if self.tile_size < 1 or self.tile_size % (SHUFFLE * self.patch_size):
            raise RecipeError(
                f"internvit: tile_size {self.tile_size} must be a multiple of {SHUFFLE * self.patch_size}, twice "
                f"the patch_size {self.patch_size}, for four patches become one feature."
            )
        if self.hidden_dim % self.num_heads:
            raise RecipeError(
                f"internvit: hidden_dim {self.hidden_dim} must be a multiple of num_heads {self.num_heads}."
            )
        if self.max_tiles < 1:
            raise RecipeError(f"internvit: max_tiles is {self.max_tiles}; it must be at least 1.")

    @property
    def tiling(self) -> Tiling:
        """How images are cut into tiles."""
        cells = self.tile_size // self.patch_size // SHUFFLE
        return Tiling(self.tile_size, cells, self.max_tiles, self.thumbnail)

    @property
    def spec(self) -> VisionSpec:
        """See `VisionEncoderConfig.spec`; the image size is that of a tile."""
        return VisionSpec(
            feature_dim=SHUFFLE**2 * self.hidden_dim, image_size=(self.tile_size, self.tile_size)
        )

    def centers(self, height: int, width: int) -> Tensor:
        """See `VisionEncoderConfig.centers`; the thumbnail's features cover the whole image."""
        return self.tiling.centers(height, width)

    def build(self) -> InternViT:
        """See `VisionEncoderConfig.build`; with `weights`, values are left uninitialized for `load_weights`."""
        from transformers import AutoModel, InternVLVisionConfig
        from transformers.initialization import no_init_weights

        config = InternVLVisionConfig(
            hidden_size=self.hidden_dim,
            num_hidden_layers=self.num_layers,
            num_attention_heads=self.num_heads,
            intermediate_size=self.feed_forward_dim,
            image_size=self.tile_size,
            patch_size=self.patch_size,
            attention_bias=True,
        )
        with no_init_weights() if self.weights is not None else nullcontext():
            model = AutoModel.from_config(
                config, dtype=getattr(torch, self.dtype), attn_implementation="sdpa"
            )
        return InternViT(self.spec, model, self.tiling)

    def load_weights(self, module: nn.Module) -> bool:
        """See `ComponentConfig.load_weights`; from an InternVL only the tensors of the vision encoder are read.

        Raises:
            CheckpointError: The checkpoint is missing, or its tensors do not match the model; the message lists them.
        """
        if self.weights is None:
            return False
        assert isinstance(module, InternViT)
        load_tensors(module.model, resolve(self.weights, ("*.safetensors*",)), layout)
        return True
