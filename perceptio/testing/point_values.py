"""Conformance tests of values at points, for a tokenizer of any kind.

Shapes: N maps, P points, H W pixels.
"""

from typing import Any

import pytest
import torch
from torch import Tensor

from perceptio.errors import InterfaceError
from perceptio.interfaces import PerceptionTokenizer
from perceptio.interfaces.maps import pixels_at
from perceptio.testing.component import assert_near, seeded


def check_values_at(tokenizer: PerceptionTokenizer, decoded: Any, count: int) -> None:
    """Check that values are in [0, 1], belong to their own row and point, and are monotonic in the pixels of a map.

    A tokenizer without point values must say so.

    Args:
        tokenizer: The tokenizer.
        decoded: The values decoded from very different rows.
        count: Number of rows.
    """
    if not tokenizer.spec.stream.point_values:
        with pytest.raises(InterfaceError):
            tokenizer.values_at(decoded, torch.zeros(count, 1, 2))
        pytest.skip("This tokenizer has no values at points.")
    is_map = isinstance(decoded, Tensor) and decoded.ndim == 4 and decoded.shape[1] == 1
    size = tuple(decoded.shape[2:]) if is_map else (8, 8)
    points_NP2 = _pixel_centers(size, count)
    with torch.no_grad():
        values_NP = tokenizer.values_at(decoded, points_NP2)
        assert float(values_NP.min()) >= 0 and float(values_NP.max()) <= 1, "Values leave [0, 1]."
        assert float(values_NP.std()) > 1e-6, "All values are alike."
        flipped_NP = tokenizer.values_at(decoded, points_NP2.flip(1)).flip(1)
        assert_near(flipped_NP.float(), values_NP.float(), "a value depends on the other points")
        corners_NP = tokenizer.values_at(
            decoded, torch.tensor([[[0.0, 0.0], [1.0, 1.0]]]).expand(count, 2, 2)
        )
        assert bool(corners_NP.isfinite().all()), "The corners of the picture have values, too."
        assert tokenizer.values_at(decoded, torch.zeros(count, 0, 2)).shape == (count, 0)
    if is_map:
        order = pixels_at(decoded.detach()[:, 0], points_NP2).flatten().argsort()
        rises_X = values_NP.flatten()[order].diff()
        assert bool((rises_X >= -1e-6).all() or (rises_X <= 1e-6).all()), (
            "Values neither rise nor fall with the pixels in which the points lie: are x and y, or rows, mixed up?"
        )


def _pixel_centers(size: tuple[int, int], count: int, points: int = 12) -> Tensor:
    """Return centers of random pixels [N, P, 2] as (x, y), at which every interpolation gives the same value."""
    height, width = size
    random = seeded()
    columns_NP = torch.randint(width, (count, points), generator=random)
    rows_NP = torch.randint(height, (count, points), generator=random)
    return torch.stack([(columns_NP + 0.5) / width, (rows_NP + 0.5) / height], -1)
