"""Modules built without drawing the random values that a file is about to replace."""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

Module = TypeVar("Module", bound=nn.Module)

logger = logging.getLogger(__name__)


def without_values(build: Callable[[], Module]) -> Module:
    """What a function builds, with its parameters on the meta device, and its buffers as they are otherwise.

    Nothing is drawn or computed, and no memory is taken, for parameters. What cannot be built so is built as it
    always is, and loses its values then.

    Args:
        build: Builds a module on the default device.
    """
    try:
        module = _outlined(build)
    except Exception as error:
        _log(error)
        module = build()
    for parameter in list(module.parameters()):
        if not parameter.is_meta:
            _exchange(parameter, parameter.to("meta"))
    return module


def without_drawing(build: Callable[[], Module]) -> Module:
    """What a function builds, with memory for its parameters and no values in them.

    Buffers are what they are after an ordinary building. While it is built, parameters lie on the meta device, where
    nothing is drawn or computed. What cannot be built so is built once more, as it always is.

    Args:
        build: Builds a module on the default device.

    Returns:
        The module; each of its parameters must be given values, for instance by `load_tensors`.
    """
    try:
        module = _outlined(build)
    except Exception as error:
        _log(error)
        return build()
    give_values(module, lambda parameter: torch.empty(parameter.shape, dtype=parameter.dtype))
    return module


def give_values(module: nn.Module, values: Callable[[Tensor], Tensor]) -> None:
    """Give the parameters that lie on the meta device other values, and the device of these.

    Args:
        module: The module; its parameters stay the same objects, wherever they are held.
        values: Makes them, of the shape and type of the parameter that it is given.
    """
    for parameter in list(module.parameters()):
        if parameter.is_meta:
            _exchange(parameter, values(parameter))


def _outlined(build: Callable[[], Module]) -> Module:
    """What a function builds, with its parameters on the meta device.

    Raises:
        ValueError: A buffer was computed from parameters, and has no values now.
    """
    with _parameters_on_meta():
        module = build()
    for name, buffer in module.named_buffers():
        if buffer.is_meta:
            raise ValueError(f"the buffer {name} is computed from parameters")
    return module


def _log(error: Exception) -> None:
    logger.info(
        "Parameters are drawn before they are read, as the model cannot be built without (%s).", error
    )


@contextmanager
def _parameters_on_meta() -> Iterator[None]:
    """Move every parameter that this thread registers in a module to the meta device."""
    builder = threading.get_ident()

    def move(_: nn.Module, __: str, parameter: nn.Parameter | None) -> None:
        # A subclass may hold more than values.
        if type(parameter) is nn.Parameter and not parameter.is_meta and threading.get_ident() == builder:
            _exchange(parameter, parameter.to("meta"))

    hook = register_module_parameter_registration_hook(move)
    try:
        yield
    finally:
        hook.remove()


def _exchange(parameter: nn.Parameter, values: Tensor) -> None:
    """Give a parameter other values and their device; it stays the same object wherever it is held."""
    other = nn.Parameter(values.detach(), parameter.requires_grad)
    other.__dict__.update(parameter.__dict__)
    torch.utils.swap_tensors(parameter, other)
