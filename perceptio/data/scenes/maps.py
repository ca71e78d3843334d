"""The maps of a scene besides its depth: surface normals, and edges.

Shapes: H W pixels of the image.
"""

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from perceptio.data.folder.dataset_info import MapInfo

NORMALS, EDGES = "normals", "edges"
MAPS: Mapping[str, MapInfo] = MappingProxyType(
    {
        NORMALS: MapInfo(channels=3, low=-1.0, high=1.0),
        EDGES: MapInfo(channels=1, low=0.0, high=1.0),
    }
)
"""Their declaration in `dataset.json`."""

CREASE_DEGREES = 60.0
"""Angle between neighboring normals above which there is a crease. Boxes and cylinders have creases of 90 degrees; on
a curved surface normals differ less, unless it is only a few pixels wide."""


def camera_normals(normals_3HW: np.ndarray, axes_33: np.ndarray) -> np.ndarray:
    """Return unit surface normals [H, W, 3] as (x, y, z) of the camera: x to the right, y down, z into the scene.

    A surface that faces the camera has z = -1; level ground seen by a level camera has y = -1.

    Args:
        normals_3HW: Unit normals in world coordinates.
        axes_33: The camera's right, up and forward directions in world coordinates.
    """
    right, up, ahead = axes_33.astype(np.float32)
    return np.moveaxis(np.tensordot(np.stack([right, -up, ahead]), normals_3HW, axes=1), 0, -1)


def edges(surface_HW: np.ndarray, normals_3HW: np.ndarray) -> np.ndarray:
    """Return where surfaces meet: float32 [H, W] of 1 and 0.

    A pixel is 1 if one of its four neighbors shows another surface, or has a normal that differs by more than
    `CREASE_DEGREES`. Lines are two pixels wide, one on either side of an edge.

    Args:
        surface_HW: The number of the surface that each pixel shows.
        normals_3HW: Unit normals, in any coordinates.
    """
    least = np.float32(np.cos(np.radians(CREASE_DEGREES)))
    edge_HW = np.zeros(surface_HW.shape, dtype=bool)
    for here, there in ((np.s_[..., 1:], np.s_[..., :-1]), (np.s_[..., 1:, :], np.s_[..., :-1, :])):
        cosine = np.einsum("ihw,ihw->hw", normals_3HW[here], normals_3HW[there])
        apart = (surface_HW[here] != surface_HW[there]) | (cosine < least)
        edge_HW[here] |= apart
        edge_HW[there] |= apart
    return edge_HW.astype(np.float32)
