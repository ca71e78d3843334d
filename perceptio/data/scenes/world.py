"""Random small rooms: a camera, four walls, perhaps a ceiling, and three to six objects, some of them floating.

Lengths are in metres; the camera is the origin, x points right, y forward and z up. Focal length, fog and texture
scale hardly vary, so an image reveals absolute depth. The camera's height, pitch and roll, the room, the ceiling and
floating objects vary widely, so that height in the image does not reveal it. All numbers are ours.
"""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType

import attrs
import numpy as np

FOCAL = 0.866
"""Focal length in image widths: a horizontal field of view of 60 degrees."""
NEAREST, FARTHEST = 1.05, 15.5
"""Bounds for the depth of visible surfaces, in metres along the optical axis."""
MIN_OBJECTS, MAX_OBJECTS = 3, 6

COLORS: Mapping[str, tuple[float, float, float]] = MappingProxyType(
    {
        "red": (0.86, 0.10, 0.10),
        "orange": (0.98, 0.50, 0.04),
        "yellow": (0.95, 0.86, 0.10),
        "green": (0.10, 0.58, 0.14),
        "cyan": (0.08, 0.78, 0.80),
        "blue": (0.10, 0.22, 0.85),
        "purple": (0.46, 0.10, 0.66),
        "pink": (0.98, 0.40, 0.72),
    }
)
"""Named colors of objects, as albedo; rooms are duller than any of them."""


class Shape(StrEnum):
    """The shape of an object; boxes are rotated about the vertical, cylinders stand upright."""

    SPHERE = "sphere"
    BOX = "box"
    CYLINDER = "cylinder"


class Texture(StrEnum):
    """Patterns of a surface in its own two coordinates."""

    PLAIN = "plain"
    CHECKED = "checked"
    STRIPED = "striped"
    TILED = "tiled"
    BRICKS = "bricks"


@attrs.frozen(kw_only=True, eq=False)
class Material:
    """Albedo and pattern of a surface; `period` is the pattern's in metres, `contrast` a share of the albedo."""

    color: tuple[float, float, float]
    texture: Texture
    period: float
    contrast: float
    phase: tuple[float, float]


@attrs.frozen(kw_only=True, eq=False)
class Wall:
    """A plane at `distance` from the camera, with unit `normal` towards it; `along_23` are its two coordinates."""

    normal: np.ndarray
    distance: float
    along_23: np.ndarray
    material: Material


@attrs.frozen(kw_only=True, eq=False)
class Thing:
    """An object. `half` is half its width, depth and height before rotation by `yaw` radians."""

    shape: Shape
    color: str
    center: np.ndarray
    half: tuple[float, float, float]
    yaw: float
    material: Material

    @property
    def radius(self) -> float:
        """Radius of the bounding sphere."""
        return bounding_radius(self.shape, self.half)


@attrs.frozen(kw_only=True, eq=False)
class World:
    """Everything that an image is computed from.

    The rows of `axes_33` are the camera's right, up and forward directions; `walls` begins with the ground.
    """

    axes_33: np.ndarray
    walls: tuple[Wall, ...]
    things: tuple[Thing, ...]
    light: np.ndarray
    fog_color: np.ndarray
    fog_density: float
    exposure: float


def bounding_radius(shape: Shape, half: tuple[float, float, float]) -> float:
    """Return the radius of the bounding sphere around an object's center."""
    width, depth, height = half
    if shape is Shape.SPHERE:
        return width
    return float(np.sqrt(width**2 + height**2 + (depth**2 if shape is Shape.BOX else 0.0)))


def sample_world(random: np.random.Generator) -> World:
    """Draw a world; the same generator state gives the same world."""
    axes_33 = _sample_axes(random)
    walls = _sample_walls(random, axes_33)
    things: list[Thing] = []
    wanted = int(random.integers(MIN_OBJECTS, MAX_OBJECTS + 1))
    while len(things) < wanted:
        things.append(_sample_thing(random, axes_33, walls, things))
    around, up = random.uniform(0, 2 * np.pi), random.uniform(0.45, 0.9)
    level = np.sqrt(1 - up**2)
    return World(
        axes_33=axes_33,
        walls=walls,
        things=tuple(things),
        light=np.array([level * np.cos(around), level * np.sin(around), up]),
        fog_color=np.array([0.68, 0.72, 0.78]) + random.uniform(-0.02, 0.02, 3),
        fog_density=random.uniform(0.085, 0.1),
        exposure=random.uniform(0.92, 1.08),
    )


def _sample_axes(random: np.random.Generator) -> np.ndarray:
    pitch, roll = random.uniform(-0.22, 0.6), random.normal(0.0, 0.06)
    ahead = np.array([0.0, np.cos(pitch), -np.sin(pitch)])
    level_up = np.array([0.0, np.sin(pitch), np.cos(pitch)])
    level_right = np.array([1.0, 0.0, 0.0])
    right = np.cos(roll) * level_right + np.sin(roll) * level_up
    return np.stack([right, np.cos(roll) * level_up - np.sin(roll) * level_right, ahead])


def _sample_walls(random: np.random.Generator, axes_33: np.ndarray) -> tuple[Wall, ...]:
    yaw = random.uniform(-0.6, 0.6)
    ahead, right = np.array([np.sin(yaw), np.cos(yaw), 0.0]), np.array([np.cos(yaw), -np.sin(yaw), 0.0])
    up = np.array([0.0, 0.0, 1.0])
    corners_43 = _corner_rays(axes_33)

    def wall(
        normal: np.ndarray, distance: float, along: tuple[np.ndarray, np.ndarray], ground: bool = False
    ) -> Wall:
        facing = (corners_43 @ -normal).max()
        return Wall(
            normal=normal,
            distance=max(distance, NEAREST * facing),
            along_23=np.stack(along),
            material=_room_material(random, ground),
        )

    # No ray through the image may go beyond FARTHEST: the far wall must be close enough for its shallowest corner.
    shallowest = max(0.1, float((corners_43 @ ahead).min()))
    back = min(random.uniform(4.0, 15.0), FARTHEST * shallowest)
    left, other = np.exp(random.uniform(np.log(1.5), np.log(11.0), 2))
    ground = wall(up, random.uniform(0.9, 3.2), (right, ahead), ground=True)
    walls = [
        ground,
        wall(-ahead, back, (right, up)),
        wall(right, left, (ahead, up)),
        wall(-right, other, (ahead, up)),
    ]
    if random.random() < 0.5:
        walls.append(wall(-up, random.uniform(0.8, 3.0), (right, ahead)))
    return tuple(walls)


def _corner_rays(axes_33: np.ndarray) -> np.ndarray:
    half = 0.5 / FOCAL
    signs_42 = np.array([[-1, -1], [1, -1], [-1, 1], [1, 1]])
    return (signs_42 * half) @ axes_33[:2] + axes_33[2]


def _room_material(random: np.random.Generator, ground: bool) -> Material:
    """Return dull colors of medium brightness, with a pattern whose period hardly varies."""
    textures = (Texture.CHECKED, Texture.TILED, Texture.STRIPED, Texture.PLAIN)
    if not ground:
        textures = (Texture.BRICKS, Texture.TILED, Texture.STRIPED, Texture.PLAIN)
    brightness = random.uniform(0.38, 0.7)
    tint = brightness * (1 + random.uniform(-0.22, 0.22, 3))
    return Material(
        color=tuple(tint),
        texture=textures[random.integers(len(textures))],
        period=random.uniform(0.9, 1.1),
        contrast=random.uniform(0.22, 0.38),
        phase=tuple(random.uniform(0, 8, 2)),
    )


def _sample_thing(
    random: np.random.Generator, axes_33: np.ndarray, walls: tuple[Wall, ...], others: list[Thing]
) -> Thing:
    """Return an object inside the room and apart from the others; it shrinks with every position that did not fit."""
    shape = tuple(Shape)[random.integers(len(Shape))]
    color = tuple(COLORS)[random.integers(len(COLORS))]
    height, shrink = walls[0].distance, 1.0
    while True:
        floats = random.random() < 0.45
        depth = np.exp(random.uniform(np.log(2.0), np.log(12.0)))
        across, above = random.uniform(-0.42, 0.42, 2) / FOCAL
        # Draw the size in the image; the size in metres follows from it, within bounds. Large objects far
        # away are then as common as small ones nearby.
        wide = np.clip(np.exp(random.uniform(np.log(0.07), np.log(0.2))) * depth / FOCAL, 0.2, 1.8) * shrink
        half = _proportions(random, shape, wide)
        radius = bounding_radius(shape, half)
        ray = np.array([across, above, 1.0]) @ axes_33
        center = ray * depth
        if not floats:
            center[2] = half[2] - height
        ahead = axes_33[2] @ center
        inside = all(center @ wall.normal + wall.distance >= radius for wall in walls[1:])
        inside = inside and center[2] - half[2] + height >= -1e-6 and ahead - radius >= NEAREST
        apart = all(np.linalg.norm(center - other.center) > radius + other.radius for other in others)
        up_in_picture = abs(axes_33[1] @ center) < 0.5 / FOCAL * ahead
        if inside and apart and up_in_picture:
            break
        shrink = max(0.93 * shrink, 0.3)
    return Thing(
        shape=shape,
        color=color,
        center=center,
        half=half,
        yaw=random.uniform(0, np.pi / 2),
        material=Material(
            color=COLORS[color],
            texture=tuple(Texture)[random.integers(3)],
            period=random.uniform(0.35, 0.5),
            contrast=random.uniform(0.15, 0.3),
            phase=tuple(random.uniform(0, 8, 2)),
        ),
    )


def _proportions(random: np.random.Generator, shape: Shape, wide: float) -> tuple[float, float, float]:
    if shape is Shape.SPHERE:
        return (wide, wide, wide)
    if shape is Shape.CYLINDER:
        return (0.75 * wide, 0.75 * wide, wide * random.uniform(0.6, 1.3))
    depth, height = random.uniform(0.6, 1.0, 2)
    return (0.85 * wide, 0.85 * wide * depth, wide * height)
