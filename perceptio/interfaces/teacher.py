"""Depth teachers: frozen models, of any framework, whose depth predictions become training targets.

Shapes: B images of one size, C channels, H W pixels of an image, h w pixels that the teacher sees.
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
    """What the depth values of a teacher mean.

    Attributes:
        unit: `"metres"`, or `"disparity"` for relative inverse depth of any scale and shift, in which near is large.
        farthest_m: For a teacher of metres: depth beyond this many metres is stored as unknown. With the default,
            65.535, depth is stored in whole millimetres (as 16-bit values).

    Raises:
        RecipeError: The unit is neither of the two, or `farthest_m` is not above 0.
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
    """A teacher with its weights. Each image passes through `prepare`; batches of one size pass through `depth`.

    `prepare` is called from several threads at once, `depth` from one. The results of both are checked.

    Attributes:
        name: Its name in the record beside the maps.
        weights_hash: The SHA-256 of its weights, which the record stores to recognize the same teacher.
        spec: What its depth values mean.
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
        """Everything else that its depth depends on besides weights and image, by name, as plain JSON values.

        Maps from different preprocessing are never mixed in one folder.
        """

    @abstractmethod
    def prepare(self, image_3HW: Tensor) -> Tensor:
        """Convert an RGB image in [0, 1] to the teacher's input [C, h, w] on the CPU, of any size h w.

        Raises:
            InputError: The teacher cannot process this image; the message completes "IMAGE: …".
        """

    @abstractmethod
    def depth(self, seen_BChw: Tensor) -> Tensor:
        """Return the depth [B, h, w] of prepared images in the unit of `spec`, floating-point on any device.

        The depth of an image must not depend on the other images of the batch.

        Raises:
            torch.OutOfMemoryError: The caller stops and says what to lower. After any other error, it tries the
                images one by one, to find the one that fails.
        """


@attrs.frozen(kw_only=True)
class TeacherConfig(ComponentConfig, ABC):
    """Config of a teacher. All its settings have defaults; `depth-targets --set KEY=VALUE` changes them.

    Three names have a fixed meaning, if there are such settings: `weights` is the path of a checkpoint, `precision`
    the precision of computation, and `image_size` the shorter side in pixels of what the teacher sees.
    """

    @abstractmethod
    def load(self, device: torch.device) -> Teacher:
        """Load the frozen teacher with its weights on a device.

        Raises:
            CheckpointError: The weights are missing or do not fit.
            PerceptioError: A required package is not installed, or a setting does not suit the device.
        """
