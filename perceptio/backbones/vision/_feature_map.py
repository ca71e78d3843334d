"""The common part of encoders from other libraries: feature maps and the centers of their features."""

import math

import attrs
import torch
from torch import Tensor

from perceptio.errors import RecipeError
from perceptio.ops.images import cell_centers


@attrs.frozen
class FeatureMap:
    """The feature map of an image at one size.

    Attributes:
        feature_dim: The width of a feature.
        image_size: The height and width in pixels to which the image is resized.
        cells: The rows and columns of features.
    """

    feature_dim: int
    image_size: tuple[int, int]
    cells: tuple[int, int]

    @property
    def stride(self) -> tuple[int, int]:
        """The height and width in pixels of a patch, or of a cell of the map."""
        return self.image_size[0] // self.cells[0], self.image_size[1] // self.cells[1]

    def centers(self, grid: tuple[int, int] | None = None) -> Tensor:
        """Return the centers [M, 2] of the cells, or of a coarser grid's cells, row by row, on the CPU.

        A center is (row, column) in [0, 1].
        """
        # If the size is not a multiple of the patch, a margin at the end of the image is not covered.
        seen = torch.tensor(
            [
                cells * stride / side
                for cells, stride, side in zip(self.cells, self.stride, self.image_size, strict=True)
            ],
            device="cpu",
        )
        return cell_centers(*(grid or self.cells)) * seen

    def fitted(self, height: int, width: int) -> "FeatureMap":
        """Return the map of an image that keeps its aspect ratio, up to whole cells.

        The map has the same stride as this one and at most as many cells.
        """
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
    """Check that an image size is a multiple of the patch.

    Raises:
        RecipeError: A side is not a multiple.
    """
    for name, side, step in zip(("height", "width"), image_size, stride, strict=True):
        if side < step or side % step:
            raise RecipeError(
                f"{component}: the {name} of image_size {image_size} is {side}, which is no multiple of {step}, the "
                f"patch of {model}."
            )
