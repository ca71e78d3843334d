"""Normals and edges of scenes, in a room that can be worked out by hand.

The camera stands level at the origin, a metre above the ground, and looks at a wall ten metres away.
"""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perceptio.data.folder import FolderDataset, write_folder
from perceptio.data.folder.check import check_folder
from perceptio.data.scenes import SceneSet
from perceptio.data.scenes.maps import CREASE_DEGREES, camera_normals, edges
from perceptio.data.scenes.render import render
from perceptio.data.scenes.scene import scene
from perceptio.data.scenes.world import FOCAL, Material, Shape, Texture, Thing, Wall, World

SIZE = 160
LEVEL_33 = np.array([[1.0, 0, 0], [0, 0, 1.0], [0, 1.0, 0]])
PLAIN = Material(color=(0.5, 0.5, 0.5), texture=Texture.PLAIN, period=1.0, contrast=0.0, phase=(0.0, 0.0))
HALF = np.sqrt(0.5)


def wall(normal, distance):
    along_23 = np.eye(3)[[axis for axis in range(3) if not normal[axis]]]
    return Wall(normal=np.array(normal, float), distance=distance, along_23=along_23, material=PLAIN)


def thing(shape, center, half, yaw=0.0):
    return Thing(shape=shape, color="red", center=np.array(center), half=half, yaw=yaw, material=PLAIN)


def maps_of(*things):
    """Surface numbers [H, W], normals [H, W, 3], edges and depth [H, W] of the room with these things in it."""
    walls = (wall((0, 0, 1), 1.0), wall((0, -1, 0), 10.0), wall((1, 0, 0), 8.0), wall((-1, 0, 0), 8.0))
    world = World(
        axes_33=LEVEL_33,
        walls=walls,
        things=things,
        light=np.array([0.0, 0.0, 1.0]),
        fog_color=np.ones(3),
        fog_density=0.1,
        exposure=1.0,
    )
    view = render(world, SIZE, np.random.default_rng(0))
    normals_HW3 = camera_normals(view.normals_3HW, LEVEL_33)
    return view.surface_HW, normals_HW3, edges(view.surface_HW, view.normals_3HW), view.depth_HW


def border_of(offset, depth):
    """The first column, or row, beyond a point so many metres to the right of, or below, the optical axis."""
    return round((offset / depth * FOCAL + 0.5) * SIZE)


def test_ground_and_wall_have_the_normals_of_their_planes():
    surface_HW, normals_HW3, _, _ = maps_of()
    np.testing.assert_allclose(normals_HW3[SIZE - 1, SIZE // 2], [0, -1, 0], atol=1e-6)
    np.testing.assert_allclose(normals_HW3[0, SIZE // 2], [0, 0, -1], atol=1e-6)
    assert len(np.unique(normals_HW3[surface_HW == 0], axis=0)) == 1


def test_where_the_wall_meets_the_ground_is_an_edge_of_two_rows():
    _, _, edge_HW, _ = maps_of()
    meets = border_of(1.0, 10.0)
    assert np.flatnonzero(edge_HW[:, SIZE // 2]).tolist() == [meets - 1, meets]


def test_a_box_seen_from_a_corner_has_two_faces_and_a_crease_between_them():
    corner = thing(Shape.BOX, (0.0, 5.0, 0.0), (0.8, 0.8, 0.8), yaw=np.pi / 4)
    surface_HW, normals_HW3, edge_HW, _ = maps_of(corner)
    middle = SIZE // 2
    assert surface_HW[middle, middle] == 1
    np.testing.assert_allclose(normals_HW3[middle, middle - 5], [-HALF, 0, -HALF], atol=1e-6)
    np.testing.assert_allclose(normals_HW3[middle, middle + 5], [HALF, 0, -HALF], atol=1e-6)
    left, right = border_of(-0.8 / HALF, 5.0), border_of(0.8 / HALF, 5.0)
    on_row = [left - 1, left, middle - 1, middle, right - 1, right]
    assert np.flatnonzero(edge_HW[middle]).tolist() == on_row


def test_a_sphere_s_normals_lead_away_from_its_center_and_it_has_no_edge_inside():
    surface_HW, normals_HW3, edge_HW, depth_HW = maps_of(
        thing(Shape.SPHERE, (0.3, 4.0, 0.2), (0.9, 0.9, 0.9))
    )
    steps_W = ((np.arange(SIZE) + 0.5) / SIZE - 0.5) / FOCAL
    rays_HW3 = np.stack([*np.meshgrid(steps_W, steps_W), np.ones((SIZE, SIZE))], axis=-1)
    outward_HW3 = (rays_HW3 * depth_HW[..., None] - [0.3, -0.2, 4.0]) / 0.9
    seen_HW = surface_HW == 1
    assert seen_HW.sum() > 1000
    np.testing.assert_allclose(normals_HW3[seen_HW], outward_HW3[seen_HW], atol=1e-4)
    inside_HW = np.zeros_like(seen_HW)
    inside_HW[1:-1, 1:-1] = (
        seen_HW[1:-1, 1:-1] & seen_HW[2:, 1:-1] & seen_HW[:-2, 1:-1] & seen_HW[1:-1, 2:] & seen_HW[1:-1, :-2]
    )
    assert not edge_HW[inside_HW].any() and edge_HW[seen_HW & ~inside_HW].all()


def test_a_cylinder_s_cap_is_level_and_its_rim_a_crease():
    surface_HW, normals_HW3, edge_HW, _ = maps_of(thing(Shape.CYLINDER, (0.0, 4.0, -0.7), (0.8, 0.8, 0.25)))
    middle = SIZE // 2
    cap = border_of(0.45, 4.0)
    np.testing.assert_allclose(normals_HW3[cap, middle], [0, -1, 0], atol=1e-6)
    rim = border_of(0.45, 3.2)
    np.testing.assert_allclose(normals_HW3[rim + 2, middle], [0, 0, -1], atol=0.02)
    assert (surface_HW[cap : rim + 3, middle] == 1).all()
    assert np.flatnonzero(edge_HW[cap : rim + 3, middle]).tolist() == [rim - 1 - cap, rim - cap]


@pytest.mark.parametrize("seed", range(6))
def test_walls_are_planes_in_the_camera_s_coordinates(seed):
    made = scene(seed)
    size = len(made.depth_HW)
    steps_W = ((np.arange(size) + 0.5) / size - 0.5) / FOCAL
    rays_HW3 = np.stack([*np.meshgrid(steps_W, steps_W), np.ones((size, size))], axis=-1)
    normals_HW3 = made.maps["normals"]
    np.testing.assert_allclose(np.linalg.norm(normals_HW3, axis=-1), 1, atol=1e-5)
    assert ((normals_HW3 * rays_HW3).sum(-1) < 1e-3).all()  # What is seen faces the camera.
    heights_HW = -(normals_HW3 * rays_HW3).sum(-1) * made.depth_HW
    for number, one in enumerate(made.world.walls):
        np.testing.assert_allclose(heights_HW[made.view.surface_HW == -number], one.distance, rtol=1e-4)


@given(data=st.data(), height=st.integers(1, 5), width=st.integers(1, 5))
def test_edges_are_what_their_definition_says(data, height, width):
    numbers = st.lists(st.integers(0, 1), min_size=height * width, max_size=height * width)
    surface_HW = np.array(data.draw(numbers)).reshape(height, width)
    turns_HW = 40.0 * np.array(data.draw(numbers)).reshape(height, width)
    turns_HW += 30.0 * np.array(data.draw(numbers)).reshape(height, width)
    angles_HW = np.radians(turns_HW)
    normals_3HW = np.stack([np.cos(angles_HW), np.sin(angles_HW), 0 * angles_HW]).astype(np.float32)
    edge_HW = edges(surface_HW, normals_3HW)
    for row, column in np.ndindex(height, width):
        neighbors = [(row + 1, column), (row - 1, column), (row, column + 1), (row, column - 1)]
        expected = any(
            surface_HW[other] != surface_HW[row, column]
            or abs(turns_HW[other] - turns_HW[row, column]) > CREASE_DEGREES
            for other in neighbors
            if 0 <= other[0] < height and 0 <= other[1] < width
        )
        assert edge_HW[row, column] == expected


def test_scenes_have_normals_and_edges(tmp_path):
    write_folder(
        tmp_path / "scenes", SceneSet(split="test", count=40, size=32), info=SceneSet.info, workers=2
    )
    assert not check_folder(tmp_path / "scenes").problems
    dataset = FolderDataset(tmp_path / "scenes")
    assert set(dataset.info.maps) == {"normals", "edges"}
    lengths_HW = np.linalg.norm(dataset.map(0, "normals"), axis=-1)
    np.testing.assert_allclose(lengths_HW, 1, atol=0.01)
    assert set(np.unique(dataset[1].maps["edges"])) == {0, 1}
