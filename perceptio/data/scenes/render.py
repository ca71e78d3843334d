"""Ray casting of a world: image, exact depth and normals, and the surface that each pixel shows.

Shapes: H W pixels of a square image, h w pixels of a window of it, N pixels of one surface. Rays have unit length
along the optical axis, so the ray parameter at a hit is the depth.
"""

from functools import lru_cache

import attrs
import numpy as np

from perceptio.data.scenes.world import FOCAL, Material, Shape, Texture, Thing, Wall, World

_NOISE_SIDE = 128
_NOISE_PER_METRE = 20.0


@attrs.frozen(kw_only=True, eq=False)
class View:
    """A world seen by its camera.

    Attributes:
        image_HW3: uint8 RGB.
        depth_HW: float32 metres along the optical axis, exact at pixel centers.
        surface_HW: int16 number of the surface: 1, 2, … for `world.things` in order; 0, -1, -2, … for `world.walls`
            in order, so the ground is 0.
        normals_3HW: float32 unit normals of the visible surfaces at pixel centers, in world coordinates; computed
            from the geometry, not from depth.
    """

    image_HW3: np.ndarray
    depth_HW: np.ndarray
    surface_HW: np.ndarray
    normals_3HW: np.ndarray


def render(world: World, size: int, random: np.random.Generator) -> View:
    """Render a world as a square image; the generator provides sensor noise."""
    rays_3HW = _rays(world.axes_33, size)
    depth_HW, surface_HW = _cast_walls(rays_3HW, world.walls)
    for number, thing in enumerate(world.things, start=1):
        _cast_thing(rays_3HW, thing, number, world.axes_33, depth_HW, surface_HW)
    color_3HW, normals_3HW = _shade(world, rays_3HW, depth_HW, surface_HW)

    haze_HW = np.exp(-np.float32(world.fog_density) * depth_HW)
    fog_311 = world.fog_color.astype(np.float32)[:, None, None]
    color_3HW = (color_3HW - fog_311) * haze_HW + fog_311
    color_3HW *= np.float32(255 * world.exposure)
    color_3HW += random.standard_normal(color_3HW.shape, dtype=np.float32) * np.float32(3.0)
    image_HW3 = np.ascontiguousarray(np.rint(color_3HW).clip(0, 255).astype(np.uint8).transpose(1, 2, 0))
    return View(image_HW3=image_HW3, depth_HW=depth_HW, surface_HW=surface_HW, normals_3HW=normals_3HW)


def _rays(axes_33: np.ndarray, size: int) -> np.ndarray:
    steps_W = ((np.arange(size) + 0.5) / size - 0.5) / FOCAL
    right, up, ahead = axes_33.astype(np.float32)
    across_1W, above_H1 = steps_W.astype(np.float32)[None, :], -steps_W.astype(np.float32)[:, None]
    return right[:, None, None] * across_1W + up[:, None, None] * above_H1 + ahead[:, None, None]


def _cast_walls(rays_3HW: np.ndarray, walls: tuple[Wall, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Return depth and number of the nearest wall; the room is convex and contains the camera."""
    normals_P3 = np.stack([wall.normal / wall.distance for wall in walls]).astype(np.float32)
    closeness_PHW = np.tensordot(-normals_P3, rays_3HW, axes=1)
    wall_HW = closeness_PHW.argmax(0)
    depth_HW = 1 / np.take_along_axis(closeness_PHW, wall_HW[None], axis=0)[0]
    return depth_HW, -wall_HW.astype(np.int16)


def _cast_thing(
    rays_3HW: np.ndarray,
    thing: Thing,
    number: int,
    axes_33: np.ndarray,
    depth_HW: np.ndarray,
    surface_HW: np.ndarray,
) -> None:
    """Write an object into depth and surface, in place, where it is the nearest so far."""
    rows, columns = _window(thing, axes_33, depth_HW.shape[0])
    rays_3hw = rays_3HW[:, rows, columns]
    if thing.shape is Shape.SPHERE:
        hit_hw = _hit_sphere(rays_3hw, thing)
    elif thing.shape is Shape.BOX:
        hit_hw = _hit_box(rays_3hw, thing)
    else:
        hit_hw = _hit_cylinder(rays_3hw, thing)
    nearer_hw = hit_hw < depth_HW[rows, columns]
    depth_HW[rows, columns][nearer_hw] = hit_hw[nearer_hw]
    surface_HW[rows, columns][nearer_hw] = number


def _window(thing: Thing, axes_33: np.ndarray, size: int) -> tuple[slice, slice]:
    """Return the rows and columns of the object's bounding sphere in the image."""
    right, up, ahead = axes_33 @ thing.center
    spans = []
    for side in (-up, right):
        middle, half = np.arctan2(side, ahead), np.arcsin(min(1.0, thing.radius / np.hypot(side, ahead)))
        edges = (np.tan([middle - half, middle + half]) * FOCAL + 0.5) * size
        spans.append(slice(max(0, int(edges[0])), min(size, int(edges[1]) + 1)))
    return spans[0], spans[1]


def _hit_sphere(rays_3hw: np.ndarray, thing: Thing) -> np.ndarray:
    center = thing.center.astype(np.float32)
    along_hw = np.tensordot(center, rays_3hw, axes=1)
    squared_hw = np.einsum("ihw,ihw->hw", rays_3hw, rays_3hw)
    return _first_root(squared_hw, along_hw, float(center @ center) - thing.half[0] ** 2)


def _first_root(a_hw: np.ndarray, b_hw: np.ndarray, c: float) -> np.ndarray:
    """Return the smaller root of a t² - 2 b t + c, infinite if there is none."""
    inside_hw = b_hw * b_hw - a_hw * np.float32(c)
    root_hw = (b_hw - np.sqrt(np.maximum(inside_hw, 0))) / a_hw
    return np.where(inside_hw > 0, root_hw, np.float32(np.inf))


def _turned(vectors_3N: np.ndarray, yaw: float) -> np.ndarray:
    """Return vectors [3, ...] in the frame of an object that is rotated by `yaw` about the vertical."""
    cosine, sine = np.float32(np.cos(yaw)), np.float32(np.sin(yaw))
    x, y, z = vectors_3N
    return np.stack([cosine * x + sine * y, cosine * y - sine * x, z])


def _hit_box(rays_3hw: np.ndarray, thing: Thing) -> np.ndarray:
    rays_3hw = _turned(rays_3hw, thing.yaw)
    center = _turned(thing.center.astype(np.float32), thing.yaw)[:, None, None]
    half = np.array(thing.half, dtype=np.float32)[:, None, None]
    with np.errstate(divide="ignore"):
        inverse_3hw = 1 / rays_3hw
    middle_3hw, reach_3hw = center * inverse_3hw, half * np.abs(inverse_3hw)
    enter_hw, leave_hw = (middle_3hw - reach_3hw).max(0), (middle_3hw + reach_3hw).min(0)
    return np.where(enter_hw < leave_hw, enter_hw, np.float32(np.inf))


def _hit_cylinder(rays_3hw: np.ndarray, thing: Thing) -> np.ndarray:
    x, y, z = rays_3hw
    cx, cy, cz = thing.center.astype(np.float32)
    a_hw, b_hw = x * x + y * y, cx * x + cy * y
    inside_hw = b_hw * b_hw - a_hw * np.float32(cx * cx + cy * cy - thing.half[0] ** 2)
    root_hw = np.sqrt(np.maximum(inside_hw, 0))
    with np.errstate(divide="ignore"):
        inverse_hw = 1 / z
    reach_hw = np.float32(thing.half[2]) * np.abs(inverse_hw)
    enter_hw = np.maximum((b_hw - root_hw) / a_hw, cz * inverse_hw - reach_hw)
    leave_hw = np.minimum((b_hw + root_hw) / a_hw, cz * inverse_hw + reach_hw)
    return np.where((inside_hw > 0) & (enter_hw < leave_hw), enter_hw, np.float32(np.inf))


def _shade(
    world: World, rays_3HW: np.ndarray, depth_HW: np.ndarray, surface_HW: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return colors without fog, from pattern, light, and soft shadows of objects on the ground; and unit normals."""
    size = depth_HW.shape[0]
    places_3P = (rays_3HW * depth_HW).reshape(3, -1)
    surface_P = surface_HW.ravel()
    color_3P, normals_3P = np.empty_like(places_3P), np.empty_like(places_3P)
    light = world.light.astype(np.float32)
    for number, wall in enumerate(world.walls):
        pixels_N = np.flatnonzero(surface_P == -number)
        if not len(pixels_N):
            continue
        places_3N = places_3P[:, pixels_N]
        along_2N = wall.along_23.astype(np.float32) @ places_3N
        gain_N = _pattern(wall.material, along_2N) * _lit(float(wall.normal @ light))
        if number == 0:
            gain_N *= _shadows(world.things, places_3N, wall.distance)
        color_3P[:, pixels_N] = np.array(wall.material.color, dtype=np.float32)[:, None] * gain_N
        normals_3P[:, pixels_N] = wall.normal.astype(np.float32)[:, None]
    for number, thing in enumerate(world.things, start=1):
        pixels_N = np.flatnonzero(surface_P == number)
        if not len(pixels_N):
            continue
        local_3N = _turned(places_3P[:, pixels_N] - thing.center.astype(np.float32)[:, None], thing.yaw)
        light_here = _turned(light, thing.yaw)
        normals_3N = _normals(thing, local_3N)
        gain_N = _lit(normals_3N.T @ light_here)
        x, y, z = local_3N
        # Oblique coordinates give every side of a solid a pattern.
        gain_N *= _pattern(thing.material, np.stack([x + y, z + np.float32(0.3) * (x - y)]))
        color_3P[:, pixels_N] = np.array(thing.material.color, dtype=np.float32)[:, None] * gain_N
        normals_3P[:, pixels_N] = _turned(normals_3N, -thing.yaw) / np.linalg.norm(normals_3N, axis=0)
    return color_3P.reshape(3, size, size), normals_3P.reshape(3, size, size)


def _lit(facing):
    return np.float32(0.5) + np.float32(0.6) * np.maximum(facing, np.float32(0))


def _normals(thing: Thing, local_3N: np.ndarray) -> np.ndarray:
    """Return outward unit normals of surface points, both in the object's frame."""
    if thing.shape is Shape.SPHERE:
        return local_3N / np.float32(thing.half[0])
    normals_3N = np.zeros_like(local_3N)
    if thing.shape is Shape.BOX:
        share_3N = np.abs(local_3N) / np.array(thing.half, dtype=np.float32)[:, None]
        face_1N = share_3N.argmax(0)[None]
        np.put_along_axis(normals_3N, face_1N, np.sign(np.take_along_axis(local_3N, face_1N, axis=0)), axis=0)
        return normals_3N
    # Rounding may have put a hit on the cap slightly below it.
    cap_N = np.abs(local_3N[2]) > np.float32(thing.half[2] * (1 - 1e-4))
    normals_3N[:2] = np.where(cap_N, np.float32(0), local_3N[:2] / np.float32(thing.half[0]))
    normals_3N[2] = np.where(cap_N, np.sign(local_3N[2]), np.float32(0))
    return normals_3N


def _shadows(things: tuple[Thing, ...], places_3N: np.ndarray, height: float) -> np.ndarray:
    """Return soft shadows right below the objects, weaker the higher they float."""
    gain_N = np.ones(places_3N.shape[1], dtype=np.float32)
    for thing in things:
        x, y = places_3N[0] - np.float32(thing.center[0]), places_3N[1] - np.float32(thing.center[1])
        gap = float(thing.center[2]) - thing.half[2] + height
        spread = 1.25 * thing.half[0] + 0.15 * gap
        distance_N = (x * x + y * y) * np.float32(1 / spread**2)
        gain_N *= 1 - np.float32(0.6 / (1 + 0.4 * gap)) * np.exp(-distance_N * distance_N)
    return gain_N


def _pattern(material: Material, along_2N: np.ndarray) -> np.ndarray:
    """Return a factor for the albedo: the material's pattern and grain of a fixed scale."""
    offset = np.array(material.phase, dtype=np.float32)[:, None]
    u, v = (along_2N + offset) * np.float32(1 / material.period)
    grain = _noise()[
        (along_2N[0] * np.float32(_NOISE_PER_METRE) + offset[0] * 37).astype(np.int32) % _NOISE_SIDE,
        (along_2N[1] * np.float32(_NOISE_PER_METRE) + offset[1] * 37).astype(np.int32) % _NOISE_SIDE,
    ]
    if material.texture is Texture.PLAIN:
        return 1 + np.float32(2 * 0.12) * grain
    if material.texture is Texture.CHECKED:
        dark = (np.floor(u).astype(np.int32) + np.floor(v).astype(np.int32)) & 1
    elif material.texture is Texture.STRIPED:
        dark = np.floor(2 * v).astype(np.int32) & 1
    elif material.texture is Texture.TILED:
        dark = (u - np.floor(u) < np.float32(0.12)) | (v - np.floor(v) < np.float32(0.12))
    else:
        row = np.floor(2 * v)
        shifted = u + np.float32(0.5) * (row.astype(np.int32) & 1)
        dark = (shifted - np.floor(shifted) < np.float32(0.08)) | (2 * v - row < np.float32(0.16))
    return (
        1 + np.float32(0.5 * material.contrast) * (1 - 2 * dark.astype(np.float32)) + np.float32(0.12) * grain
    )


@lru_cache(maxsize=1)
def _noise() -> np.ndarray:
    """Return a smooth tileable table of unit variance, the same in every scene."""
    random = np.random.default_rng(0)
    frequencies = np.fft.fftfreq(_NOISE_SIDE)
    squared = frequencies[:, None] ** 2 + frequencies[None, :] ** 2
    spectrum = np.fft.fft2(random.standard_normal((_NOISE_SIDE, _NOISE_SIDE))) / (squared + 0.03**2) ** 0.5
    spectrum[0, 0] = 0.0
    table = np.fft.ifft2(spectrum).real
    return (table / table.std()).astype(np.float32)
