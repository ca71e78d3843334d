"""Questions about marked points: which of three to five is closest to the camera.

Cues that need no depth perception are removed: among random sets of points, one is chosen so that the answer's rank
in image height, and whether it is on the largest object, follow chance.

Shapes: H W pixels, N points of a question, S sets tried.
"""

import numpy as np

from perceptio.data.point_questions import apart, differ, height_rank, marked_turn
from perceptio.interfaces import Turn

MIN_RATIO = 1.2
"""Minimum ratio of any two marked depths."""
MIN_APART = 0.1
"""Minimum distance of marks in x or in y, as a share of the image, so that no two share a cell of a 10x10 grid."""
_SETS = 96
_CLEARANCE = 2


def point_turn(
    depth_HW: np.ndarray, surface_HW: np.ndarray, num_points: int, random: np.random.Generator
) -> Turn | None:
    """Return one question about `num_points` points; None if no set of points is clear enough.

    The 5x5 pixels around each point show one surface, any two depths differ by `MIN_RATIO`, and walls, ground and
    objects are marked equally often.
    """
    places_S2N = _candidate_sets(surface_HW, num_points, random)
    if places_S2N is None:
        return None
    rows_SN, columns_SN = places_S2N[:, 0], places_S2N[:, 1]
    depths_SN = depth_HW[rows_SN, columns_SN]
    pixels = MIN_APART * len(depth_HW)
    clear_S = apart(rows_SN, columns_SN, pixels, pixels) & differ(depths_SN, MIN_RATIO)
    if not clear_S.any():
        return None
    rows_SN, columns_SN, depths_SN = rows_SN[clear_S], columns_SN[clear_S], depths_SN[clear_S]
    chosen = _unguessable(rows_SN, depths_SN, surface_HW[rows_SN, columns_SN], surface_HW, random)
    nearest = int(depths_SN[chosen].argmin())
    return marked_turn(rows_SN[chosen], columns_SN[chosen], depth_HW.shape, nearest)


def _candidate_sets(
    surface_HW: np.ndarray, num_points: int, random: np.random.Generator
) -> np.ndarray | None:
    """Return sets [S, 2, N] of rows and columns: for each point a surface is drawn first, then one of its pixels."""
    inner_hw = _one_surface(surface_HW)
    rows_P, columns_P = np.nonzero(inner_hw)
    if len(rows_P) < num_points:
        return None
    rows_P, columns_P = rows_P + _CLEARANCE + 1, columns_P + _CLEARANCE + 1
    surface_P = surface_HW[rows_P, columns_P]
    order_P = np.argsort(surface_P, kind="stable")
    _, starts, counts = np.unique(surface_P[order_P], return_index=True, return_counts=True)
    drawn_SN = random.integers(len(starts), size=(_SETS, num_points))
    share_SN = random.random((_SETS, num_points))
    pixel_SN = order_P[starts[drawn_SN] + (share_SN * counts[drawn_SN]).astype(np.int64)]
    return np.stack([rows_P[pixel_SN], columns_P[pixel_SN]], axis=1)


def _one_surface(surface_HW: np.ndarray) -> np.ndarray:
    """Return where the (2 · clearance + 1)² pixels around show one surface, without the outermost ring of pixels."""
    inside = surface_HW[1:-1, 1:-1]
    span = 2 * _CLEARANCE
    rows = np.equal(inside[1:], inside[:-1])
    columns = np.equal(inside[:, 1:], inside[:, :-1])
    height, width = inside.shape
    same_rows = np.logical_and.reduce([rows[i : height - span + i] for i in range(span)])
    same_columns = np.logical_and.reduce([columns[:, i : width - span + i] for i in range(span)])
    middle = slice(_CLEARANCE, -_CLEARANCE)
    down = np.logical_and.reduce([same_rows[:, i : width - span + i] for i in range(span + 1)])
    return down & same_columns[middle]


def _unguessable(
    rows_SN: np.ndarray,
    depths_SN: np.ndarray,
    surfaces_SN: np.ndarray,
    surface_HW: np.ndarray,
    random: np.random.Generator,
) -> int:
    """Return the set whose answer's height rank, and position on the largest object, occur as often as by chance."""
    num_points = rows_SN.shape[1]
    nearest_S = depths_SN.argmin(1)
    rank_S = height_rank(rows_SN, nearest_S)
    sizes = np.bincount(np.maximum(surface_HW, 0).ravel(), minlength=int(surface_HW.max()) + 1)
    sizes[0] = 0
    size_SN = sizes[np.maximum(surfaces_SN, 0)]
    # If several marks are on the largest object, the guess is the lowest of them.
    guess_S = (size_SN * (4 * len(surface_HW)) + rows_SN).argmax(1)
    largest_S = guess_S == nearest_S
    wanted_rank = random.integers(num_points)
    wanted_largest = random.random() < 1 / num_points
    fit_S = 2 * (rank_S == wanted_rank) + (largest_S == wanted_largest)
    return int(fit_S.argmax())
