"""A module in eval mode without changing it, for inference with a module that other code may be training."""

from typing import TypeVar

from torch import nn

M = TypeVar("M", bound=nn.Module)


def in_eval_mode(module: M) -> M:
    """Return the module itself if all of it is in eval mode, otherwise a view of it that is.

    A view shares all parameters and buffers but has its own module objects, so the mode of the original, which other
    threads see, does not change.
    """
    if not any(part.training for part in module.modules()):
        return module
    return _view(module, {})


def _view(module: M, views: dict[nn.Module, nn.Module]) -> M:
    view: M = object.__new__(type(module))
    views[module] = view
    children: dict[str, nn.Module | None] = {}
    for name, child in module._modules.items():
        # A module may occur in several places.
        children[name] = views[child] if child in views else None if child is None else _view(child, views)
    view.__dict__.update(module.__dict__, training=False, _modules=children)
    return view
