"""A scene and its questions from a seed, and whole sets of scenes as entries of a data folder."""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from functools import cached_property
from typing import ClassVar, overload

import attrs
import numpy as np

from perceptio.data.folder import DatasetInfo, Entry
from perceptio.data.scenes.language import MAX_POINTS, Seen, attribute_turns, referring_turns
from perceptio.data.scenes.maps import EDGES, MAPS, NORMALS, camera_normals, edges
from perceptio.data.scenes.points import point_turn
from perceptio.data.scenes.render import View, render
from perceptio.data.scenes.world import World, sample_world
from perceptio.interfaces import DepthMap, Turn

SIZE = 80
"""Width and height of the small model's images, in pixels."""


class Split(StrEnum):
    """The purpose of scenes. Different splits never share a seed, whatever their base."""

    TRAIN = "train"
    VALIDATION = "validation"
    TEST = "test"

    def seed(self, base: int, number: int) -> int:
        """Return the seed of scene `number` of a set; its remainder by the number of splits identifies the split."""
        splits = list(Split)
        return ((base << 40) + number) * len(splits) + splits.index(self)


@attrs.frozen(kw_only=True)
class Asked:
    """The questions that a scene gets.

    Attributes:
        points: Numbers of marked points, one question each; None: one question about three to five.
        referring: Number of referring questions.
        attribute: Number of questions about color, shape and number.
        varied: Whether to use all phrasings, two objects and absent ones, for training; otherwise the canonical
            phrasing about one object.
    """

    points: tuple[int, ...] | None = None
    referring: int = 3
    attribute: int = 2
    varied: bool = True

    @classmethod
    def of(cls, split: Split) -> "Asked":
        """Return one marked-point question for training, or one each of 3, 4 and 5 points for evaluation."""
        return cls() if split is Split.TRAIN else cls(points=(3, 4, 5), varied=False)


@attrs.frozen(kw_only=True, eq=False, slots=False)
class Scene:
    """A world and its image; `object_ids_HW` is 0 where no object is visible, else 1 + index in `world.things`."""

    seed: int
    world: World
    view: View

    @property
    def image_HW3(self) -> np.ndarray:
        """The image, uint8 RGB."""
        return self.view.image_HW3

    @property
    def depth_HW(self) -> np.ndarray:
        """Metres along the optical axis, float32."""
        return self.view.depth_HW

    @cached_property
    def object_ids_HW(self) -> np.ndarray:
        """Instance mask, uint8."""
        return np.maximum(self.view.surface_HW, 0).astype(np.uint8)

    @property
    def maps(self) -> Mapping[str, np.ndarray]:
        """The maps defined in `perceptio.data.scenes.maps`, by name."""
        view = self.view
        return {
            NORMALS: camera_normals(view.normals_3HW, self.world.axes_33),
            EDGES: edges(view.surface_HW, view.normals_3HW),
        }

    @cached_property
    def seen(self) -> tuple[Seen, ...]:
        """The objects that show at least one pixel."""
        found = []
        for number, thing in enumerate(self.world.things, start=1):
            mask = self.object_ids_HW == number
            columns = np.flatnonzero(mask.any(0))
            if len(columns):
                center = (columns[0] + columns[-1] + 1) / 2 / mask.shape[1]
                found.append(Seen(thing, mask, int(mask.sum()), float(center)))
        return tuple(found)


def scene(seed: int, size: int = SIZE) -> Scene:
    """Return the scene of a seed, with images of `size` x `size` pixels; the same on every call."""
    random = np.random.default_rng(seed)
    world = sample_world(random)
    return Scene(seed=seed, world=world, view=render(world, size, random))


def questions(scene: Scene, asked: Asked) -> tuple[Turn, ...]:
    """Return questions about a scene with their answers, the same on every call.

    A marked-point question is omitted if no set of points in the image is clear enough (rare), and referring and
    attribute questions if fewer are unambiguous.
    """
    random = np.random.default_rng((scene.seed, 1))
    numbers = (int(random.integers(3, MAX_POINTS + 1)),) if asked.points is None else asked.points
    marked = [point_turn(scene.depth_HW, scene.view.surface_HW, number, random) for number in numbers]
    return (
        *(turn for turn in marked if turn is not None),
        *referring_turns(scene.seen, asked.referring, random, varied=asked.varied),
        *attribute_turns(scene.seen, asked.attribute, random),
    )


@attrs.frozen(kw_only=True)
class SceneSet(Sequence[Entry]):
    """`count` scenes of a split, each computed when it is accessed, for `write_folder`.

    >>> from perceptio.data.folder import write_folder
    >>> scenes = SceneSet(split=Split.TRAIN, base=0, count=100)
    >>> write_folder("scenes/train", scenes, info=scenes.info)  # doctest: +SKIP
    """

    info: ClassVar[DatasetInfo] = DatasetInfo(depth_unit="metres", depth_scale=0.00025, maps=MAPS)
    """The meaning of values in a folder of scenes: depth in quarters of a millimetre, up to 16.38 metres."""

    split: Split = attrs.field(converter=Split)
    base: int = attrs.field(default=0, validator=attrs.validators.ge(0))
    count: int = attrs.field(validator=attrs.validators.gt(0))  # type: ignore[assignment]
    size: int = attrs.field(default=SIZE, validator=attrs.validators.ge(32))
    asked: Asked = attrs.field()

    @asked.default
    def _asked_of_split(self) -> Asked:
        return Asked.of(self.split)

    def __len__(self) -> int:
        return self.count

    @overload
    def __getitem__(self, number: int) -> Entry: ...

    @overload
    def __getitem__(self, number: slice) -> Sequence[Entry]: ...

    def __getitem__(self, number: int | slice) -> Entry | Sequence[Entry]:
        """Return the entry of scene `number`."""
        if isinstance(number, slice):
            return [self[i] for i in range(*number.indices(self.count))]
        if not 0 <= number < self.count:
            raise IndexError(f"Scene {number} of {self.count}.")
        made = scene(self.split.seed(self.base, number), self.size)
        return Entry(
            id=f"{self.split}-{self.base}-{number:06d}",
            image_HW3=made.image_HW3,
            depth=DepthMap(values_HW=made.depth_HW, unit="metres"),
            object_ids_HW=made.object_ids_HW,
            maps=made.maps,
            turns=questions(made, self.asked),
        )
