"""Features of a frozen vision encoder (the teacher) as special tokens, as CoVT (arXiv 2511.19418) does with DINO.

Shapes: B images, T targets, N blocks, m rows of an image, M features of an image, P feature width.
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
    Size,
    StreamSpec,
    VisionEncoder,
    VisionEncoderConfig,
    device_of,
)
from perceptio.ops.images import stack_resized


class FeatureTokenizer(PerceptionTokenizer):
    """The teacher's features of an image, averaged over the cells of a grid or used one by one.

    Args:
        spec: The spec.
        teacher: The vision encoder.
        cells_mM: A boolean tensor that says which features belong to which cell. None: each feature is a row.
    """

    spec: PerceptionSpec
    cells_mM: Tensor | None

    def __init__(self, spec: PerceptionSpec, teacher: VisionEncoder, cells_mM: Tensor | None) -> None:
        super().__init__()
        self.spec = spec
        self.teacher = teacher.requires_grad_(False)
        self.register_buffer("cells_mM", cells_mM, persistent=False)
        self.eval()

    @torch.no_grad()
    def targets(self, raw: Sequence[Tensor | None]) -> Tensor:
        """See `PerceptionTokenizer.targets`: rows [T, m, P] of images that are resized to the teacher's size."""
        written, device = self.spec.stream.written, device_of(self)
        assert isinstance(written, Continuous)
        rows_TmP = torch.full((len(raw), written.num_rows, written.width), math.nan, device=device)
        known = [n for n, image_3HW in enumerate(raw) if image_3HW is not None]
        if known:
            images = [image_3HW.to(device) for image_3HW in raw if image_3HW is not None]
            features = self.teacher(list(stack_resized(images, self.teacher.spec.image_size)))
            rows_TmP[known] = self._pooled(features.features_MD.float().unflatten(0, (len(known), -1)))
        return rows_TmP

    def _pooled(self, features_BMP: Tensor) -> Tensor:
        """Return the mean feature of each cell [B, m, P]."""
        if self.cells_mM is None:
            return features_BMP
        return self.cells_mM.float() @ features_BMP / self.cells_mM.sum(1, keepdim=True)

    def from_rows(
        self, rows_NmP: Tensor, features: Any = None, image_index_N: Tensor | None = None
    ) -> Tensor:
        """See `PerceptionTokenizer.from_rows`: the rows themselves, [N, m, P]."""
        return rows_NmP

    def target_rows(self, targets: Tensor) -> Tensor:
        """See `PerceptionTokenizer.target_rows`: the targets themselves."""
        return targets

    def shown(self, decoded: Tensor, sizes: Sequence[Size]) -> list[Any]:
        """See `PerceptionTokenizer.shown`: each a float32 array [m, P]."""
        return list(decoded.detach().float().cpu().numpy())

    def compare(self, decoded: Tensor, targets: Tensor) -> Mapping[str, Tensor]:
        """See `PerceptionTokenizer.compare`: the mean cosine of the rows, and the mean squared error."""
        decoded_NmP = decoded.float()
        return {
            "cosine": F.cosine_similarity(decoded_NmP, targets, dim=-1).mean(1),
            "mse": (decoded_NmP - targets).square().flatten(1).mean(1),
        }


@attrs.frozen(kw_only=True)
class FeaturesConfig(PerceptionTokenizerConfig):
    """Special tokens whose rows learn the features of the image in a frozen vision encoder.

    Attributes:
        teacher: The vision encoder; its config names its weights.
        num_tokens: The number of special tokens; CoVT uses 4.
        token: The name of the special tokens. Streams with different teachers need different names.
        grid: The rows and columns of cells over which features are averaged; each cell is a row. None: each feature
            is a row. If there are not as many rows as tokens, the stream needs a head that makes them, such as a
            query head.

    Raises:
        RecipeError: A value is below 1, or `token` is empty.
    """

    name: ClassVar[str] = "features"
    kind: ClassVar[Kind] = Kind.PERCEPTION
    interface: ClassVar[tuple[int, int]] = (2, 0)

    teacher: VisionEncoderConfig
    num_tokens: int = 4
    token: str = "<feature>"
    grid: tuple[int, int] | None = (2, 2)

    def __attrs_post_init__(self) -> None:
        if self.num_tokens < 1 or not self.token or (self.grid is not None and min(self.grid) < 1):
            raise RecipeError(
                f"features: num_tokens ({self.num_tokens}) and grid ({self.grid}) must be at least 1, and token "
                f"({self.token!r}) a name."
            )

    def _cells(self, grid: tuple[int, int]) -> Tensor:
        """Return which features of the teacher have their center in which cell of a grid, boolean [m, M].

        Raises:
            RecipeError: A cell has no feature.
        """
        rows, columns = grid
        centers_M2 = self.teacher.centers(*self.teacher.spec.image_size)
        row_M, column_M = (centers_M2[:, 0] * rows).long(), (centers_M2[:, 1] * columns).long()
        cell_M = row_M.clamp(max=rows - 1) * columns + column_M.clamp(max=columns - 1)
        cells_mM = torch.arange(rows * columns, device="cpu")[:, None] == cell_M
        if not bool(cells_mM.any(1).all()):
            raise RecipeError(
                f"features: the teacher's {len(centers_M2)} features do not reach every cell of the grid {grid}; "
                "choose a smaller one."
            )
        return cells_mM

    @property
    def spec(self) -> PerceptionSpec:
        """See `PerceptionTokenizerConfig.spec`."""
        rows = (
            self.teacher.num_features(*self.teacher.spec.image_size)
            if self.grid is None
            else self.grid[0] * self.grid[1]
        )
        written = Continuous(
            tokens=(self.token,) * self.num_tokens,
            width=self.teacher.spec.feature_dim,
            rows=None if rows == self.num_tokens else rows,
        )
        return PerceptionSpec(stream=StreamSpec(written=written, target="image", frozen=True))

    def build(self) -> FeatureTokenizer:
        """See `PerceptionTokenizerConfig.build`."""
        cells_mM = None if self.grid is None else self._cells(self.grid)
        return FeatureTokenizer(self.spec, self.teacher.build(), cells_mM)

    def load_weights(self, module: nn.Module) -> bool:
        """See `ComponentConfig.load_weights`: loads the weights of the teacher."""
        assert isinstance(module, FeatureTokenizer)
        return self.teacher.load_weights(module.teacher)
