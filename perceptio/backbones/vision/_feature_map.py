"""What the encoders of other libraries share: a map of features and where on the image each of them lies."""

import math

import attrs
import torch
from torch import Tensor

from perceptio.errors import RecipeError
from perceptio.ops.images import cell_centers


@attrs.frozen
class FeatureMap:
    """The features of an image that an encoder sees at one size.

    Attributes:
        feature_dim: Width of a feature.
        image_size: Height and width that the image is stretched to.
        cells: Rows and columns of features.
    """

    feature_dim: int
    image_size: tuple[int, int]
    cells: tuple[int, int]

    @property
    def stride(self) -> tuple[int, int]:
        """Height and width of a patch, or of what one place of the map stands for, in pixels."""
        return self.image_size[0] // self.cells[0], self.image_size[1] // self.cells[1]

    def centers(self, grid: tuple[int, int] | None = None) -> Tensor:
        """Centers [M, 2], (row, column) in [0, 1], of the cells or of a coarser grid's, row by row, on the CPU."""
        # A size that is no multiple of the patch leaves a margin at the end that nothing sees.
        seen = torch.tensor(
            [
                cells * stride / side
                for cells, stride, side in zip(self.cells, self.stride, self.image_size, strict=True)
            ],
            device="cpu",
        )
        return cell_centers(*(grid or self.cells)) * seen

    def fitted(self, height: int, width: int) -> "FeatureMap":
        """The map of an image that keeps its shape, up to whole cells: of the same stride, with no more cells."""
        budget = self.cells[0] * self.cells[1]
        side = math.sqrt(height * width / budget / (self.stride[0] * self.stride[1]))
        rows, columns = (
            max(1, math.floor(pixels / side / stride + 1e-6))
            for pixels, stride in zip((height, width), self.stride, strict=True)
        )
        rows = min(rows, budget)
        columns = min(columns, budget // rows)
        size = (rows * self.stride[0], columns * self.stride[1])
        return attrs.evolve(self, image_size=size, cells=(rows, columns))


def check_multiple(component: str, model: str, image_size: tuple[int, int], stride: tuple[int, int]) -> None:
    """Whether patches cover a size.

    Raises:
        RecipeError: A side is no multiple of the patch.
    """
    for name, side, step in zip(("height", "width"), image_size, stride, strict=True):
        if side < step or side % step:
            raise RecipeError(
                f"{component}: the {name} of image_size {image_size} is {side}, which is no multiple of {step}, the "
                f"patch of {model}."
            )
