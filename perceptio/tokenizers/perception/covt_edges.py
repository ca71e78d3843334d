"""Edges as special tokens: vectors that weight the features of an edge expert, as in CoVT (arXiv 2511.19418).

The dot product of each vector with the features at every location gives a map. The maps are averaged and passed
through a sigmoid.

Shapes: B images, N blocks of vectors, m vectors, S locations, P width of a feature and of a vector, H W pixels of an
image, h w cells of the respective map.
"""

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import attrs
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from perceptio.errors import DataError, RecipeError
from perceptio.interfaces import (
    Continuous,
    Kind,
    PerceptionSpec,
    PerceptionTokenizer,
    PerceptionTokenizerConfig,
    StreamSpec,
    VisionEncoder,
    VisionEncoderConfig,
)
from perceptio.interfaces.component import described, device_of
from perceptio.interfaces.maps import at_sizes, resize_maps, stack_known

SIGMAS = (1.0, 2.0, 4.0)
"""The standard deviations of the filters' Gaussians, in pixels (ours)."""
ANGLES = (0.0, 45.0, 90.0, 135.0)
"""The directions in which filters measure change, in degrees (ours)."""


class EdgeFilters(nn.Module):
    """Fixed filters for the change of brightness at each pixel, by direction and scale (ours).

    For each scale, the features are the absolute derivatives of Gaussians in each direction and the norm of the
    gradient. A brightness step of 1 gives 1. The last feature is 1 everywhere, which gives vectors a bias.
    """

    WIDTH: ClassVar[int] = len(SIGMAS) * (len(ANGLES) + 1) + 1

    def __init__(self) -> None:
        super().__init__()
        for number, sigma in enumerate(SIGMAS):
            x = torch.arange(-math.ceil(3 * sigma), math.ceil(3 * sigma) + 1.0)
            smooth = torch.exp(-x.square() / (2 * sigma**2))
            self.register_buffer(f"smooth{number}", smooth / smooth.sum(), persistent=False)
            change = x * smooth
            self.register_buffer(f"change{number}", change / change.abs().sum() * 2, persistent=False)

    def forward(self, pixels_B3HW: Tensor) -> Tensor:
        """Return the features [B, P, H, W] of images in [0, 1]."""
        gray_B1HW = pixels_B3HW.mean(1, keepdim=True)
        features = []
        for number in range(len(SIGMAS)):
            smooth, change = getattr(self, f"smooth{number}"), getattr(self, f"change{number}")
            across, down = _filtered(gray_B1HW, change, smooth), _filtered(gray_B1HW, smooth, change)
            for angle in map(math.radians, ANGLES):
                features.append((math.cos(angle) * across + math.sin(angle) * down).abs())
            features.append(torch.hypot(across, down))
        return torch.cat([*features, torch.ones_like(gray_B1HW)], 1)


def _filtered(gray_B1HW: Tensor, along_row_k: Tensor, along_column_k: Tensor) -> Tensor:
    """Apply a separable filter; the image is padded by replicating its border."""
    edge = len(along_row_k) // 2
    padded = F.pad(gray_B1HW, (edge, edge, edge, edge), mode="replicate")
    return F.conv2d(F.conv2d(padded, along_row_k.view(1, 1, 1, -1)), along_column_k.view(1, 1, -1, 1))


class CoVTEdges(PerceptionTokenizer):
    """Vectors -> edges, through the features of a frozen expert.

    Args:
        spec: The spec.
        expert: `EdgeFilters`, or a vision encoder whose features form a grid, row by row.
        map_size: The height and width of a map.
        grid: The rows and columns of the vision encoder's features; None with `EdgeFilters`.
    """

    def __init__(
        self,
        spec: PerceptionSpec,
        expert: EdgeFilters | VisionEncoder,
        map_size: tuple[int, int],
        grid: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        self.spec = spec
        self.expert = expert
        self.map_size = map_size
        self.grid = grid
        self.requires_grad_(False).eval()

    @torch.no_grad()
    def encode_image(self, pixels_B3HW: Tensor) -> Tensor:
        """Return the features [B, P, h, w] of images."""
        if self.grid is None:
            return self.expert(pixels_B3HW)
        features_MP = self.expert(list(pixels_B3HW)).features_MD
        return features_MP.unflatten(0, (len(pixels_B3HW), -1)).mT.unflatten(2, self.grid)

    def from_rows(
        self, rows_NmP: Tensor, features: Any = None, image_index_N: Tensor | None = None
    ) -> Tensor:
        """See `PerceptionTokenizer.from_rows`: edge probabilities [N, 1, h, w] in [0, 1].

        Vectors are averaged before the product, which gives the same result because the product is linear.
        """
        mean_NP = rows_NmP.mean(1).to(features.dtype)
        products_Nhw = torch.einsum("np,nphw->nhw", mean_NP, features[image_index_N])
        return F.interpolate(
            products_Nhw[:, None], self.map_size, mode="bilinear", align_corners=False
        ).sigmoid()

    def targets(self, raw: Sequence[Any]) -> Tensor:
        """See `PerceptionTokenizer.targets`: maps [T, 1, h, w] in [0, 1], NaN where unknown.

        Raises:
            DataError: A map has several channels, or values outside [0, 1].
        """
        device = device_of(self)
        maps = (
            None if map_HWC is None else resize_maps(self._checked(map_HWC).to(device), self.map_size)[0]
            for map_HWC in raw
        )
        return stack_known(maps, (1, *self.map_size), device)

    def _checked(self, map_HWC: Any) -> Tensor:
        """Check a map and return it as [1, 1, H, W]."""
        values = torch.as_tensor(map_HWC, dtype=torch.float32)
        # Comparisons with NaN, which marks unknown pixels, are false.
        if values.ndim != 3 or values.shape[2] != 1 or bool(((values < 0) | (values > 1)).any()):
            raise DataError(
                f"covt_edges learns a map of one channel from 0 to 1, and a map {self.spec.stream.target!r} is "
                f"{described(values)}, from {np.nanmin(map_HWC):g} to {np.nanmax(map_HWC):g}: name another map."
            )
        return values.permute(2, 0, 1)[None]

    def shown(self, decoded: Tensor, sizes: Sequence[tuple[int, int]]) -> list[Any]:
        """See `PerceptionTokenizer.shown`: float32 [H, W, 1] in [0, 1], at the sizes of the images."""
        return [map_1HW.permute(1, 2, 0).cpu().numpy() for map_1HW in at_sizes(decoded, sizes)]


@attrs.frozen(kw_only=True)
class CoVTEdgesConfig(PerceptionTokenizerConfig):
    """The edge tokens of CoVT, with an expert of your choice.

    CoVT uses intermediate features of PiDiNet, which is not available as a package.

    Attributes:
        expert: The vision encoder whose features are used. None: fixed filters, which need no weights.
        num_tokens: The number of special tokens, which share one name.
        num_vectors: The number of vectors, which are averaged.
        map: The map of the data folder that is learned, with one channel from 0 to 1.
        image_size: The height and width of the images that fixed filters see. A vision encoder has its own size.
        map_size: The height and width of a map.

    Raises:
        RecipeError: `num_tokens` or `num_vectors` is below 1.
    """

    name: ClassVar[str] = "covt_edges"
    kind: ClassVar[Kind] = Kind.PERCEPTION
    interface: ClassVar[tuple[int, int]] = (2, 0)

    expert: VisionEncoderConfig | None = None
    num_tokens: int = 4
    num_vectors: int = 4
    map: str = "edges"
    image_size: tuple[int, int] = (256, 256)
    map_size: tuple[int, int] = (256, 256)

    def __attrs_post_init__(self) -> None:
        if self.num_tokens < 1 or self.num_vectors < 1:
            raise RecipeError(
                f"covt_edges: num_tokens ({self.num_tokens}) and num_vectors ({self.num_vectors}) must be at least 1."
            )

    @property
    def spec(self) -> PerceptionSpec:
        """See `PerceptionTokenizerConfig.spec`."""
        found = None if self.expert is None else self.expert.spec
        written = Continuous(
            tokens=("<|edge_pad|>",) * self.num_tokens,
            width=EdgeFilters.WIDTH if found is None else found.feature_dim,
            rows=self.num_vectors,
        )
        size = self.image_size if found is None else found.image_size
        return PerceptionSpec(
            stream=StreamSpec(written=written, target=self.map, image_size=size, frozen=True)
        )

    def build(self) -> CoVTEdges:
        """See `PerceptionTokenizerConfig.build`.

        Raises:
            RecipeError: The expert's features do not form a grid.
        """
        if self.expert is None:
            return CoVTEdges(self.spec, EdgeFilters(), self.map_size)
        centers_S2 = self.expert.centers(*self.expert.spec.image_size)
        rows, columns = (axis_S.unique() for axis_S in centers_S2.T)
        if not centers_S2.equal(torch.cartesian_prod(rows, columns)):
            raise RecipeError(
                "covt_edges: the features of its expert are not those of one grid, row by row; choose a vision "
                "encoder that sees a picture as one tile, without a thumbnail."
            )
        return CoVTEdges(self.spec, self.expert.build(), self.map_size, (len(rows), len(columns)))

    def load_weights(self, module: nn.Module) -> bool:
        """See `ComponentConfig.load_weights`: loads the weights of the expert."""
        assert isinstance(module, CoVTEdges)
        return self.expert is not None and self.expert.load_weights(module.expert)
