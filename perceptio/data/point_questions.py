"""Questions about marked points, generated from a depth map: which of several points is closest to the camera.

`PointRules` are those of AURORA (arXiv 2412.03548, its published notebook `add_marks_ade`): points are at least 20
of 336 pixels and 20 of 255 gray levels apart, where gray is the image's inverse depth scaled to its minimum and
maximum. Ours are the rules that keep points off edges and the border, and `balanced`, without which the lowest point
is right far more often than chance. Scenes have their own rules (`perceptio.data.scenes.points`) on the same basis.

Shapes: H W pixels, N points of a question, S sets tried, P pixels that may be marked.
"""

from collections.abc import Sequence

import attrs
import numpy as np
import torch
from torch.nn.functional import max_pool2d

from perceptio.interfaces import LETTERS, DepthMap, Turn

CLOSEST = "Several points are marked with letters. Which of them is closest to the camera?"
CHOICE = "({letter})"
GRAY_LEVELS = 255
_SETS = 2048


@attrs.frozen(kw_only=True)
class PointRules:
    """Rules for the points of a depth map that a question may mark together.

    Attributes:
        counts: Numbers of points of a question, used in turn.
        min_levels: Minimum difference of any two points, in the 255 levels of the image's inverse depth.
        min_ratio: Minimum ratio of any two depths in metres; 1 means no further condition.
        min_apart: Minimum distance of any two points, as a share of the image's width or of its height.
        border: Minimum distance from the image's border, as a share of its width and height.
        clearance: Number of pixels around a point, to each side, whose known depths are within half of `min_levels`
            of each other, so that the point clearly belongs to one surface.
        balanced: Whether the right point is equally often the highest, the second highest and so on, as far as the
            images allow.
    """

    counts: tuple[int, ...] = attrs.field(default=(3, 4, 5), validator=attrs.validators.min_len(1))
    min_levels: float = attrs.field(
        default=20.0, validator=[attrs.validators.gt(0), attrs.validators.lt(GRAY_LEVELS)]
    )
    min_ratio: float = attrs.field(default=1.0, validator=attrs.validators.ge(1))
    min_apart: float = attrs.field(
        default=20 / 336, validator=[attrs.validators.gt(0), attrs.validators.lt(1)]
    )
    border: float = attrs.field(default=0.05, validator=[attrs.validators.ge(0), attrs.validators.lt(0.5)])
    clearance: int = attrs.field(default=2, validator=attrs.validators.ge(0))
    balanced: bool = True

    @counts.validator
    def _check_counts(self, attribute: attrs.Attribute, counts: Sequence[int]) -> None:
        if not all(2 <= count <= len(LETTERS) for count in counts):
            raise ValueError(f"counts {list(counts)} are not numbers of points from 2 to {len(LETTERS)}.")


DEFAULT_RULES = PointRules()


def point_turns(
    depth: DepthMap, counts: Sequence[int], rules: PointRules, random: np.random.Generator
) -> list[Turn | None]:
    """Return a question for each number of points; None if no set of that many points follows the rules.

    Args:
        depth: The depth of the image.
        counts: The number of points of each question.
        rules: Rules for the points; their own `counts` are ignored.
        random: Draws the points, and thereby the order of their letters.
    """
    levels_HW = inverse_depth_levels(depth)
    places_P2 = np.argwhere(_may_be_marked(levels_HW, rules))
    if not len(places_P2):
        return [None for _ in counts]
    return [_point_turn(depth, levels_HW, places_P2, count, rules, random) for count in counts]


def _point_turn(
    depth: DepthMap,
    levels_HW: np.ndarray,
    places_P2: np.ndarray,
    num_points: int,
    rules: PointRules,
    random: np.random.Generator,
) -> Turn | None:
    drawn_SN2 = places_P2[random.integers(len(places_P2), size=(_SETS, num_points))]
    rows_SN, columns_SN = drawn_SN2[..., 0], drawn_SN2[..., 1]
    height, width = levels_HW.shape
    clear_S = apart(rows_SN, columns_SN, rules.min_apart * height, rules.min_apart * width)
    clear_S &= np.all(np.diff(np.sort(levels_HW[rows_SN, columns_SN], axis=1)) >= rules.min_levels, axis=1)
    if depth.unit == "metres":
        clear_S &= differ(depth.values_HW[rows_SN, columns_SN], rules.min_ratio)
    if not clear_S.any():
        return None
    rows_SN, columns_SN = rows_SN[clear_S], columns_SN[clear_S]
    nearest_S = levels_HW[rows_SN, columns_SN].argmax(1)
    chosen = 0
    if rules.balanced:
        chosen = int(np.abs(height_rank(rows_SN, nearest_S) - random.integers(num_points)).argmin())
    return marked_turn(rows_SN[chosen], columns_SN[chosen], (height, width), int(nearest_S[chosen]))


def inverse_depth_levels(depth: DepthMap) -> np.ndarray:
    """Return the inverse of a depth map as float32 [H, W] from 0, farthest, to 255, nearest; NaN where unknown.

    A map with the same depth everywhere becomes 0.
    """
    near_HW = depth.values_HW if depth.unit == "disparity" else 1 / depth.values_HW
    low, high = np.nanmin(near_HW), np.nanmax(near_HW)
    return (near_HW - low) / max(high - low, np.finfo(np.float32).tiny) * np.float32(GRAY_LEVELS)


def apart(rows_SN: np.ndarray, columns_SN: np.ndarray, min_rows: float, min_columns: float) -> np.ndarray:
    """Return whether all points of a set [S] are at least so many rows, or so many columns, apart."""
    first, second = np.triu_indices(rows_SN.shape[1], 1)
    far_SN = np.abs(rows_SN[:, first] - rows_SN[:, second]) >= min_rows
    far_SN |= np.abs(columns_SN[:, first] - columns_SN[:, second]) >= min_columns
    return far_SN.all(1)


def differ(depths_SN: np.ndarray, min_ratio: float) -> np.ndarray:
    """Return whether any two depths of a set [S] differ at least by a factor."""
    ordered_SN = np.sort(depths_SN, axis=1)
    return np.all(ordered_SN[:, 1:] >= np.float32(min_ratio) * ordered_SN[:, :-1], axis=1)


def height_rank(rows_SN: np.ndarray, nearest_S: np.ndarray) -> np.ndarray:
    """Return how many points of a set [S] are lower in the image than its nearest."""
    return (rows_SN > np.take_along_axis(rows_SN, nearest_S[:, None], 1)).sum(1)


def marked_turn(rows_N: np.ndarray, columns_N: np.ndarray, size: tuple[int, int], nearest: int) -> Turn:
    """Return the question about points at pixels of an image of `size` (height, width), of which one is nearest."""
    height, width = size
    points = tuple(
        (round((column + 0.5) / width, 4), round((row + 0.5) / height, 4))
        for row, column in zip(rows_N.tolist(), columns_N.tolist(), strict=True)
    )
    answer = CHOICE.format(letter=LETTERS[nearest])
    return Turn(task="relative_depth", question=CLOSEST, answer=answer, points=points)


def _may_be_marked(levels_HW: np.ndarray, rules: PointRules) -> np.ndarray:
    """Return where depth is known, smooth around, and away from the border: boolean [H, W]."""
    known_HW = ~np.isnan(levels_HW)
    nearest_HW = _greatest_around(np.where(known_HW, levels_HW, -np.inf), rules.clearance)
    farthest_HW = -_greatest_around(np.where(known_HW, -levels_HW, -np.inf), rules.clearance)
    may_HW = known_HW & (nearest_HW - farthest_HW <= rules.min_levels / 2)
    rows, columns = (round(rules.border * extent) for extent in levels_HW.shape)
    inside_HW = np.zeros_like(may_HW)
    inside_HW[rows : len(may_HW) - rows, columns : may_HW.shape[1] - columns] = True
    return may_HW & inside_HW


def _greatest_around(values_HW: np.ndarray, clearance: int) -> np.ndarray:
    values_11HW = torch.from_numpy(values_HW.astype(np.float32))[None, None]
    return max_pool2d(values_11HW, 2 * clearance + 1, stride=1, padding=clearance)[0, 0].numpy()
