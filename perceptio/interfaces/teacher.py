"""Depth teachers: frozen models, of any framework, whose depth of pictures is what others learn from.

Shapes: B pictures of one size, C channels, H W pixels of a picture, h w pixels that the teacher sees.
"""

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal

import attrs
import torch
from torch import Tensor

from perceptio.errors import InterfaceError, RecipeError
from perceptio.interfaces.component import Checked, ComponentConfig, described


@attrs.frozen(kw_only=True)
class TeacherSpec:
    """What the numbers of a teacher mean.

    Attributes:
        unit: `"disparity"`, relative inverse depth of any scale and shift, near is large; or `"metres"`.
        farthest_m: Of a teacher of metres: what lies farther is stored as unknown. The default stores whole
            millimetres.
    """

    unit: Literal["disparity", "metres"] = "disparity"
    farthest_m: float = 65.535

    def __attrs_post_init__(self) -> None:
        if self.unit not in ("disparity", "metres"):
            raise RecipeError(f"A teacher gives disparity or metres, and unit is {self.unit!r}.")
        if not self.farthest_m > 0:
            raise RecipeError(f"farthest_m is {self.farthest_m}; it must be above 0.")


def _checked_prepare(prepare: Callable[[Any, Tensor], Tensor]) -> Callable[[Any, Tensor], Tensor]:
    @functools.wraps(prepare)
    def checked(self: Any, image_3HW: Tensor) -> Tensor:
        seen_Chw = prepare(self, image_3HW)
        fits = isinstance(seen_Chw, Tensor) and seen_Chw.ndim == 3
        if not fits or seen_Chw.device.type != "cpu":
            where = "" if not fits else f" on {seen_Chw.device}"
            raise InterfaceError(
                f"{self.known_as}.prepare made {described(seen_Chw)}{where} of one picture; it must make [C, h, w] "
                "on the CPU."
            )
        return seen_Chw

    return checked


def _checked_depth(depth: Callable[[Any, Tensor], Tensor]) -> Callable[[Any, Tensor], Tensor]:
    @functools.wraps(depth)
    def checked(self: Any, seen_BChw: Tensor) -> Tensor:
        depth_Bhw = depth(self, seen_BChw)
        count, _, *size = seen_BChw.shape
        fits = isinstance(depth_Bhw, Tensor) and list(depth_Bhw.shape) == [count, *size]
        if not fits or not depth_Bhw.is_floating_point():
            raise InterfaceError(
                f"{self.known_as}.depth made {described(depth_Bhw)} of {described(seen_BChw)}; it must make "
                f"floating-point {[count, *size]}, a map of the size of each picture that it was given."
            )
        return depth_Bhw

    return checked


class Teacher(Checked, ABC):
    """A teacher with its weights. A picture goes through `prepare`, and several of one size through `depth`.

    `prepare` is called from several threads at once, and `depth` from one. What they return is checked where they are
    called.

    Attributes:
        name: What the record beside the maps calls it.
        weights_hash: sha256 of its weights, by which the record knows it again.
        spec: What its numbers mean.
    """

    checks: ClassVar[Mapping[str, Callable[..., Any]]] = {
        "prepare": _checked_prepare,
        "depth": _checked_depth,
    }
    name: str
    weights_hash: str
    spec: TeacherSpec

    @property
    @abstractmethod
    def preprocessing(self) -> Mapping[str, Any]:
        """Whatever its depth depends on besides its weights and the picture, by name, as plain JSON values.

        Maps that were made with others are never mixed in one folder.
        """

    @abstractmethod
    def prepare(self, image_3HW: Tensor) -> Tensor:
        """A picture, RGB in [0, 1], as the teacher sees it: [C, h, w] on the CPU, of any size h w.

        Raises:
            InputError: The teacher cannot see this picture; the message completes "PICTURE: …".
        """

    @abstractmethod
    def depth(self, seen_BChw: Tensor) -> Tensor:
        """Depth [B, h, w] in the unit of `spec`, floating-point on any device, of pictures that `prepare` made.

        The depth of a picture does not depend on the others.

        Raises:
            torch.OutOfMemoryError: The pass says what to lower. Anything else is taken as the failure of one of these
                pictures, which are then tried one by one.
        """


@attrs.frozen(kw_only=True)
class TeacherConfig(ComponentConfig, ABC):
    """Config of a teacher; its settings, which all have defaults, are what `depth-targets --set KEY=VALUE` sets.

    A setting `weights` is where a checkpoint lies, `precision` what is computed in, and `image_size` the shorter side
    that the teacher sees in pixels, where there are such settings.
    """

    @abstractmethod
    def load(self, device: torch.device) -> Teacher:
        """The teacher with its weights, frozen, on a device.

        Raises:
            CheckpointError: There are no weights, or they do not fit.
            PerceptioError: What it needs is not installed, or a setting does not suit the device.
        """
