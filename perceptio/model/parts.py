"""Build and fill parts, including those of plugins. Errors name the part that failed and its provider."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import attrs
import torch
from torch import nn

from perceptio.errors import InterfaceError, PerceptioError, PluginError, quoted
from perceptio.hookspecs import BUILDS, PROJECT
from perceptio.interfaces import (
    Checked,
    Codes,
    ComponentConfig,
    PerceptionTokenizer,
)
from perceptio.registry import Registry


def build_part(config: ComponentConfig, *arguments: Any) -> Any:
    """Build a part from its config on the default device, without trained weights.

    Args:
        config: The config.
        *arguments: The arguments of its `build`: for a head, two widths and the specs of the model; for a task, the
            specs.

    Raises:
        PluginError: `build` of a plugin's part failed.
        InterfaceError: The result has the wrong type, its spec differs from that of its config, or a method is
            missing.
    """
    builder: Any = config
    with _named_failures(
        config, "build", "It makes shapes only, and reads no files: those are for load_weights.", OSError
    ):
        part = builder.build(*arguments)
    wanted = BUILDS[config.kind]
    if not isinstance(part, wanted):
        raise InterfaceError(
            f"{origin(config)} builds a {type(part).__name__}, which is no {wanted.__name__}."
        )
    said, promised = getattr(part, "spec", None), getattr(config, "spec", None)
    if said != promised:
        raise InterfaceError(
            f"{origin(config)}: the spec of its config and that of what it builds are not the same "
            f"({_difference(promised, said)}); set self.spec in the constructor to the config's spec."
        )
    if isinstance(part, Checked):
        part.origin = origin(config)
    if isinstance(part, PerceptionTokenizer) and part.missing:
        written = "codes" if isinstance(part.spec.stream.written, Codes) else "special tokens"
        raise InterfaceError(
            f"{part.known_as} has no {' and no '.join(part.missing)}, which a stream of {written} needs by its spec: "
            "add the method."
        )
    return part


def _difference(promised: Any, said: Any, where: str = "") -> str:
    """Describe the first field, by its path, in which two specs differ, with both values."""
    if type(promised) is type(said) and attrs.has(type(promised)):
        for field in attrs.fields(type(promised)):
            one, other = getattr(promised, field.name), getattr(said, field.name)
            if one != other:
                return _difference(one, other, f"{where}.{field.name}" if where else field.name)
    return f"{where + ' is ' if where else ''}{quoted(promised, 100)} and {quoted(said, 100)}"


def load_part(config: ComponentConfig, part: nn.Module) -> bool:
    """Load the weights that a part's config names; return whether there were any.

    Raises:
        PluginError: `load_weights` of a plugin's part failed.
    """
    with _named_failures(config, "load_weights", f"Its settings are {config}."):
        return bool(config.load_weights(part))


def origin(config: ComponentConfig) -> str:
    """Return a component's name and its provider, for messages."""
    registry = Registry.discover()
    name = registry.known_as(config)
    known = name in registry.names(config.kind)
    provider = registry.provider(config.kind, name) if known else f"{type(config).__module__}, unregistered"
    return f"{config.kind}:{name} ({provider})"


@contextmanager
def _named_failures(
    config: ComponentConfig, method: str, hint: str, hint_at: type[BaseException] = BaseException
) -> Iterator[None]:
    """Convert exceptions in a plugin's part to errors that name it. Exceptions in built-in parts are not converted.

    Args:
        config: The config of the part.
        method: The method that is called.
        hint: A sentence to add to the message.
        hint_at: The type of exceptions to which it is added.
    """
    try:
        yield
    except (PerceptioError, MemoryError, torch.OutOfMemoryError):
        raise
    except (Exception, SystemExit) as error:
        who = origin(config)
        if who.endswith(f"({PROJECT})"):
            raise
        said = f"{method} of {who} raised {quoted(error, 400)}."
        raise PluginError(f"{said} {hint}" if isinstance(error, hint_at) else said) from error
