"""The base of every pluggable component: a frozen config that describes the component and builds it."""

from collections.abc import Callable, Mapping
from enum import StrEnum
from itertools import chain
from typing import Any, ClassVar, TypeVar

import attrs
import torch
from torch import Tensor, nn

INTERFACE_VERSION = (2, 0)
"""The version of the interfaces in this package, (major, minor). A plugin states the version it was written for."""


class Kind(StrEnum):
    """The kinds of components. Each kind has an interface in this package and a hook in `perceptio.hookspecs`."""

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
    """Base class of all component configs: frozen, keyword-only settings.

    A concrete config defines `name`, `kind` and `interface` as class variables and implements the methods of its
    kind, such as `spec` and `build`. It never probes devices, prints, or touches files or the network. Only
    `load_weights` reads weights.
    """

    name: ClassVar[str]
    kind: ClassVar[Kind]
    interface: ClassVar[tuple[int, int]]
    retired: ClassVar[Mapping[str, str]] = {}
    """Removed settings, with the reason for each. Documents that still contain them can be read."""

    def load_weights(self, module: nn.Module) -> bool:
        """Load trained weights into a built module.

        Returns:
            Whether weights were loaded. The default implementation loads nothing, so the module keeps its random
            values.
        """
        return False


Config = TypeVar("Config", bound=ComponentConfig)


def named_weights(parts: Mapping[str, ComponentConfig]) -> dict[str, str]:
    """Return the trained weights that parts name in their setting `weights`, by the name of the part.

    A config may hold another config as a setting, such as a tokenizer that holds its teacher. The module of the held
    config is a submodule with the setting's name, so its weights are listed under `NAME.SETTING`.
    """
    found: dict[str, str] = {}
    for name, config in parts.items():
        weights = getattr(config, "weights", None)
        if weights is not None:
            found[name] = weights
        found |= named_weights({f"{name}.{key}": value for key, value in _held(config).items()})
    return found


def without_weights(config: Config) -> Config:
    """Return the config with `weights` set to None, also in the configs that it holds: it builds random values.

    A config whose `weights` is not None by default always needs weights and keeps its setting.
    """
    changes: dict[str, Any] = {key: without_weights(value) for key, value in _held(config).items()}
    field = attrs.fields_dict(type(config)).get("weights")
    if field is not None and field.default is None:
        changes["weights"] = None
    return attrs.evolve(config, **changes)


def _held(config: ComponentConfig) -> dict[str, ComponentConfig]:
    """Return the configs that a config holds as settings."""
    fields = {field.name: getattr(config, field.name) for field in attrs.fields(type(config))}
    return {key: value for key, value in fields.items() if isinstance(value, ComponentConfig)}


class Checked:
    """Base class that checks the methods of its subclasses against the interface on every call.

    An interface lists in `checks` the decorator for each method. The decorators wrap the methods that a subclass
    defines, also in plugins.
    """

    checks: ClassVar[Mapping[str, Callable[..., Any]]] = {}
    origin: str = ""
    """The component that it was built from and the provider of it, for messages. Set when a model is assembled."""

    def __init_subclass__(cls, **keywords: Any) -> None:
        """Wrap the methods that this class itself defines, unless it defines `checks`, as an interface does."""
        super().__init_subclass__(**keywords)
        for name, check in cls.checks.items():
            if name in cls.__dict__ and "checks" not in cls.__dict__:
                setattr(cls, name, check(cls.__dict__[name]))

    @property
    def known_as(self) -> str:
        """Its name in messages: the component that it was built from, if known, and its class."""
        return f"{self.origin}: {type(self).__name__}" if self.origin else type(self).__name__


class CheckedModule(Checked, nn.Module):
    """A module whose methods are checked."""


def described(value: object) -> str:
    """Describe a tensor by its dtype and shape, or any other value by its class, for messages."""
    if not isinstance(value, Tensor):
        return f"a {type(value).__name__}"
    return f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}"


def parameter_groups(module: nn.Module) -> dict[str, list[nn.Parameter]]:
    """Return the parameters of a part by group name; `TrainConfig.train` selects them by these names.

    Every part has the group `""` with all its parameters. A part may add finer groups with a method
    `parameter_groups() -> dict[str, list[Parameter]]`, whose values partition its parameters.
    """
    groups = {"": list(module.parameters())}
    publish = getattr(module, "parameter_groups", None)
    return groups | publish() if publish is not None else groups


def device_of(part: nn.Module) -> torch.device:
    """Return the device of a part's parameters, or else of its buffers. A part with neither is on the CPU."""
    held = next(chain(part.parameters(), part.buffers()), None)
    return torch.device("cpu") if held is None else held.device
