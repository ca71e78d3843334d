"""What every pluggable part has in common: a frozen config that says what it will be and builds it."""

from collections.abc import Callable, Mapping
from enum import StrEnum
from itertools import chain
from typing import Any, ClassVar, TypeVar

import attrs
import torch
from torch import Tensor, nn

INTERFACE_VERSION = (2, 0)
"""Version of the interfaces in this package: (major, minor). A plugin states the one it was written for."""


class Kind(StrEnum):
    """The kinds of component; each has an interface in this package and a hook in `perceptio.hookspecs`."""

    DEPTH = "depth"
    SEGMENTATION = "segmentation"
    PERCEPTION = "perception"
    VISION = "vision"
    LANGUAGE = "language"
    HEAD = "head"
    LOSS = "loss"
    TASK = "task"
    LAUNCHER = "launcher"
    SOURCE = "source"
    TEACHER = "teacher"


@attrs.frozen(kw_only=True)
class ComponentConfig:
    """Settings of a component, frozen and keyword-only.

    A concrete config states `name`, `kind` and `interface` as class variables, has the `spec` and the `build` of
    its kind, and never probes devices, prints, or touches files or the network. Weights are read by
    `load_weights` alone.
    """

    name: ClassVar[str]
    kind: ClassVar[Kind]
    interface: ClassVar[tuple[int, int]]
    retired: ClassVar[Mapping[str, str]] = {}
    """Settings that earlier versions wrote, and why there are none any more: documents that have them are read."""

    def load_weights(self, module: nn.Module) -> bool:
        """Fill a built module with trained weights.

        Returns:
            Whether weights were loaded; the default has none to load, and the part keeps its random values.
        """
        return False


Config = TypeVar("Config", bound=ComponentConfig)


def named_weights(parts: Mapping[str, ComponentConfig]) -> dict[str, str]:
    """The trained weights that parts name, in a setting `weights`, by part.

    A part may hold another as a setting, such as a tokenizer its teacher: its module lies under the setting's name,
    and its weights are those of `NAME.SETTING`.
    """
    found: dict[str, str] = {}
    for name, config in parts.items():
        weights = getattr(config, "weights", None)
        if weights is not None:
            found[name] = weights
        found |= named_weights({f"{name}.{key}": value for key, value in _held(config).items()})
    return found


def without_weights(config: Config) -> Config:
    """A config that names no trained weights, nor do the parts that it holds: what it builds has random values.

    A part whose `weights` are not None by default cannot be without, and keeps them.
    """
    changes: dict[str, Any] = {key: without_weights(value) for key, value in _held(config).items()}
    field = attrs.fields_dict(type(config)).get("weights")
    if field is not None and field.default is None:
        changes["weights"] = None
    return attrs.evolve(config, **changes)


def _held(config: ComponentConfig) -> dict[str, ComponentConfig]:
    """The parts that a config holds as settings."""
    fields = {field.name: getattr(config, field.name) for field in attrs.fields(type(config))}
    return {key: value for key, value in fields.items() if isinstance(value, ComponentConfig)}


class Checked:
    """Something whose methods are held to its interface where they are called, whoever wrote them.

    An interface names in `checks` what is put around each method that a subclass defines.
    """

    checks: ClassVar[Mapping[str, Callable[..., Any]]] = {}
    origin: str = ""
    """The component it was built from, and who offers it; set when a model is put together, for messages."""

    def __init_subclass__(cls, **keywords: Any) -> None:
        """Put the checks around the methods that this class itself defines; an interface only states them."""
        super().__init_subclass__(**keywords)
        for name, check in cls.checks.items():
            if name in cls.__dict__ and "checks" not in cls.__dict__:
                setattr(cls, name, check(cls.__dict__[name]))

    @property
    def known_as(self) -> str:
        """How messages name it: by the component that it was built from, where that is known, and its class."""
        return f"{self.origin}: {type(self).__name__}" if self.origin else type(self).__name__


class CheckedModule(Checked, nn.Module):
    """A part with weights or buffers whose methods are checked."""


def described(value: object) -> str:
    """A tensor by its type and shape, and anything else by its class, for messages."""
    if not isinstance(value, Tensor):
        return f"a {type(value).__name__}"
    return f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}"


def parameter_groups(module: nn.Module) -> dict[str, list[nn.Parameter]]:
    """The parameters of a part by the group names with which `TrainConfig.train` selects them.

    A part may publish finer groups through a method `parameter_groups() -> dict[str, list[Parameter]]`, whose
    values partition its parameters; every part has the group `""`, which is all of them.
    """
    groups = {"": list(module.parameters())}
    publish = getattr(module, "parameter_groups", None)
    return groups | publish() if publish is not None else groups


def device_of(part: nn.Module) -> torch.device:
    """Where a part lies; a part may have buffers alone, or nothing at all, which is on the CPU."""
    held = next(chain(part.parameters(), part.buffers()), None)
    return torch.device("cpu") if held is None else held.device
